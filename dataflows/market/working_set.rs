//! The working set: the 1,000 customers to win, drawn up from all workers' candidates.

use std::cmp::Reverse;

use foldhash::{HashMap, HashMapExt};
use serde::{Deserialize, Serialize};

use super::{
    leading::Leading,
    profile::{self, BANDS},
};
use crate::model::{Millis, Status};
use crate::operators::Grade;

/// A candidate as its worker proposes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Candidate {
    /// Past buyers have one.
    pub(super) last_order_at: Option<Millis>,
    pub(super) id: u32,
    /// Age band.
    pub(super) band: u8,
    pub(super) consent: bool,
    /// The score less the mood and the time of day.
    pub(super) score: f64,
    // What makes the score, for those who look.
    pub(super) signed_up_at: Millis,
    pub(super) status: Status,
    pub(super) grade: Grade,
    /// When they became due; the score counts it.
    pub(super) due_grade: Grade,
}

/// Past buyers, and those who never bought.
pub(super) const GROUPS: usize = 2;

/// A member of the working set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Member {
    /// 0 for past buyers, 1 for those who never bought.
    pub(super) group: u8,
    /// Age band.
    pub(super) band: u8,
    /// The score less the time of day, as a whole number, so that sums are exact.
    pub(super) weight: u64,
}

/// The members, and the sums of their weights.
#[derive(Clone, Default)]
pub(super) struct Members {
    members: HashMap<u32, Member>,
    totals: [[u64; BANDS]; GROUPS],
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<Member> {
        self.members.get(&id).copied()
    }

    /// The members, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Member)> {
        self.members.iter().map(|(id, member)| (*id, *member))
    }

    /// Adds a member, or gives it another weight.
    pub(super) fn set(&mut self, id: u32, member: Member) {
        self.remove(id);
        *self.total(member) += member.weight;
        self.members.insert(id, member);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Member> {
        let member = self.members.remove(&id)?;
        *self.total(member) -= member.weight;
        Some(member)
    }

    fn total(&mut self, member: Member) -> &mut u64 {
        &mut self.totals[usize::from(member.group)][usize::from(member.band)]
    }

    /// By group: the sum of the weights, and that of weight x liking.
    pub(super) fn sums(&self, liking: impl Fn(usize) -> f64) -> [(f64, f64); GROUPS] {
        self.totals.map(|totals| {
            let timely =
                totals.iter().enumerate().map(|(band, total)| *total as f64 * liking(band));
            (totals.iter().sum::<u64>() as f64, timely.sum())
        })
    }
}

/// The working set and the candidates that are next; the same at every worker.
///
/// A snapshot keeps nothing of it: the candidates come anew with the next proposals.
#[derive(Clone)]
pub(super) struct WorkingSet {
    pub(super) members: Members,
    due: Leading<(Millis, u32)>,
    ready: Leading<Reverse<u32>>,
    faces: HashMap<u32, Candidate>,
}

impl WorkingSet {
    /// It has no places until the first refresh.
    pub(super) fn new() -> Self {
        WorkingSet {
            members: Members::default(),
            due: Leading::new(0),
            ready: Leading::new(0),
            faces: HashMap::new(),
        }
    }

    /// A member, as its worker proposed it.
    pub(super) fn face(&self, member: u32) -> &Candidate {
        &self.faces[&member]
    }

    /// Draws up the set for a refresh: 600 past buyers, oldest last order first, and 400 who never
    /// bought, newest sign-up first; when one group is short the other fills up. Returns who has
    /// entered; with `all_anew`, everybody has, with a weight of today.
    pub(super) fn refresh<'a>(
        &mut self,
        rules: &profile::WorkingSet,
        left: impl Iterator<Item = &'a (Option<Millis>, u32)>,
        came: impl Iterator<Item = &'a Candidate>,
        weight: impl Fn(&Candidate) -> u64,
        all_anew: bool,
    ) -> Vec<u32> {
        for (last_order_at, id) in left {
            match last_order_at {
                Some(at) => self.due.remove((*at, *id)),
                None => self.ready.remove(Reverse(*id)),
            }
            self.faces.remove(id);
        }
        for face in came {
            match face.last_order_at {
                Some(at) => self.due.insert((at, face.id)),
                None => self.ready.insert(Reverse(face.id)),
            }
            self.faces.insert(face.id, face.clone());
        }
        let (due, ready) = shares(rules, self.due.len(), self.ready.len());
        self.due.resize(due);
        self.ready.resize(ready);

        let (due_left, due_came) = self.due.take_changes();
        let (ready_left, ready_came) = self.ready.take_changes();
        let ids = |due: Vec<(Millis, u32)>, ready: Vec<Reverse<u32>>| {
            let due = due.into_iter().map(|(_, id)| id);
            due.chain(ready.into_iter().map(|Reverse(id)| id)).collect::<Vec<u32>>()
        };
        for id in ids(due_left, ready_left) {
            self.members.remove(id);
        }
        let mut entered = ids(due_came, ready_came);
        if all_anew {
            entered = ids(self.due.leaders().collect(), self.ready.leaders().collect());
        }
        for id in &entered {
            let face = &self.faces[id];
            let group = u8::from(face.last_order_at.is_none());
            self.members.set(*id, Member { group, band: face.band, weight: weight(face) });
        }
        entered
    }
}

/// How the places are shared out among so many past buyers and so many who never bought.
fn shares(rules: &profile::WorkingSet, due: usize, ready: usize) -> (usize, usize) {
    let buyers = due.min(rules.buyers);
    let ready = ready.min(rules.customers - buyers);
    (due.min(rules.customers - ready), ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_group_is_filled_up_by_the_other() {
        let rules = profile::Profile::named("year").unwrap().working_set;
        for (due, ready, expected) in [
            (5_000, 5_000, (600, 400)),
            (600, 400, (600, 400)),
            (100, 5_000, (100, 900)),
            (5_000, 100, (900, 100)),
            (300, 200, (300, 200)),
            (0, 0, (0, 0)),
        ] {
            assert_eq!(shares(&rules, due, ready), expected);
        }
    }
}
