//! The working set: the 1,000 customers to win, drawn up from all workers' candidates.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use serde::{Deserialize, Serialize};

use super::{
    leading::Leading,
    profile::{self, BANDS},
    roster::Roster,
};
use crate::model::Millis;

/// A candidate as its worker proposes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Candidate {
    /// Past buyers have one.
    pub(super) last_order_at: Option<Millis>,
    pub(super) id: u32,
    /// Age band.
    pub(super) band: u8,
    /// The score less the time of day.
    pub(super) score: f64,
}

/// The working set and the candidates that are next; the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WorkingSet {
    pub(super) roster: Roster,
    #[serde(skip, default = "empty")]
    due: Leading<(Millis, u32)>,
    #[serde(skip, default = "empty")]
    fresh: Leading<Reverse<u32>>,
    #[serde(skip)]
    faces: HashMap<u32, (bool, u8, u64)>,
    /// After a snapshot the candidates come anew, while the roster is there already.
    #[serde(skip, default = "yes")]
    anew: bool,
}

/// It has no places until the first refresh.
fn empty<K: Ord + Copy>() -> Leading<K> {
    Leading::new(0)
}

fn yes() -> bool {
    true
}

impl WorkingSet {
    pub(super) fn new() -> Self {
        WorkingSet {
            roster: Roster::new(BANDS),
            due: empty(),
            fresh: empty(),
            faces: HashMap::new(),
            anew: true,
        }
    }

    /// Draws up the set for a refresh: 600 past buyers, oldest last order first, and 400 who never
    /// bought, newest sign-up first; when one group is short the other fills up.
    pub(super) fn refresh<'a>(
        &mut self,
        rules: &profile::WorkingSet,
        left: impl Iterator<Item = &'a (Option<Millis>, u32)>,
        came: impl Iterator<Item = &'a Candidate>,
        weight: impl Fn(f64) -> u64,
        all_anew: bool,
    ) {
        for (last_order_at, id) in left {
            match last_order_at {
                Some(at) => self.due.remove((*at, *id)),
                None => self.fresh.remove(Reverse(*id)),
            }
            self.faces.remove(id);
        }
        for face in came {
            match face.last_order_at {
                Some(at) => self.due.insert((at, face.id)),
                None => self.fresh.insert(Reverse(face.id)),
            }
            self.faces
                .insert(face.id, (face.last_order_at.is_some(), face.band, weight(face.score)));
        }
        let (due, fresh) = shares(rules, self.due.len(), self.fresh.len());
        self.due.resize(due);
        self.fresh.resize(fresh);

        // Sorted by id, because the order in which slots are taken decides later draws.
        let (due_left, due_came) = self.due.take_changes();
        let (fresh_left, fresh_came) = self.fresh.take_changes();
        let ids = |due: Vec<(Millis, u32)>, fresh: Vec<Reverse<u32>>| {
            let mut ids: Vec<u32> = due.into_iter().map(|(_, id)| id).collect();
            ids.extend(fresh.into_iter().map(|Reverse(id)| id));
            ids.sort_unstable();
            ids
        };
        let (mut gone, mut new) = (ids(due_left, fresh_left), ids(due_came, fresh_came));
        if std::mem::take(&mut self.anew) {
            let members: HashSet<u32> = new.iter().copied().collect();
            gone = self.roster.ids().filter(|id| !members.contains(id)).collect();
            gone.sort_unstable();
            new.retain(|id| !self.roster.contains(*id));
        }
        for id in gone {
            self.roster.remove(id);
        }
        for id in new {
            self.give_place(id);
        }
        if all_anew {
            let members: Vec<u32> = self.roster.ids().collect();
            for id in members {
                self.give_place(id);
            }
        }
    }

    /// Whether a member has bought before.
    pub(super) fn has_bought(&self, id: u32) -> bool {
        self.faces.get(&id).is_some_and(|face| face.0)
    }

    fn give_place(&mut self, id: u32) {
        let (_, band, weight) = self.faces[&id];
        self.roster.set(id, band, weight);
    }
}

/// How the places are shared out among so many past buyers and so many who never bought.
fn shares(rules: &profile::WorkingSet, due: usize, fresh: usize) -> (usize, usize) {
    let buyers = due.min(rules.buyers);
    let fresh = fresh.min(rules.customers - buyers);
    (due.min(rules.customers - fresh), fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_group_is_filled_up_by_the_other() {
        let rules = profile::Profile::named("year").unwrap().working_set;
        for (due, fresh, expected) in [
            (5_000, 5_000, (600, 400)),
            (600, 400, (600, 400)),
            (100, 5_000, (100, 900)),
            (5_000, 100, (900, 100)),
            (300, 200, (300, 200)),
            (0, 0, (0, 0)),
        ] {
            assert_eq!(shares(&rules, due, fresh), expected);
        }
    }
}
