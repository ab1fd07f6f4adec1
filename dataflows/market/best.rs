//! The best sellers: so many products with the most orders, and which of them come and go.
//!
//! Only who is among them is known, not in which order, so that most sales cost next to nothing: who is
//! inside and sells more stays inside. Two heaps hold the border: those inside by the least that they
//! may have, those outside by the most. An entry that is out of date is put right when it comes up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, binary_heap::PeekMut};

/// More is better, and of the same the product listed before.
type Key = (u32, Reverse<u32>);

/// The best of all products that have orders.
#[derive(Clone)]
pub(super) struct Best {
    places: usize,
    /// Orders by product, from id 0 on, and whether it is inside.
    all: Vec<(u32, bool)>,
    inside: usize,
    /// Of each product inside, an entry that is no better than it is.
    weakest: BinaryHeap<Reverse<Key>>,
    /// Of each product outside that has orders, an entry that is no worse than it is.
    strongest: BinaryHeap<Key>,
}

impl Best {
    pub(super) fn new(places: usize) -> Self {
        let (weakest, strongest) = (BinaryHeap::new(), BinaryHeap::new());
        Best { places, all: Vec::new(), inside: 0, weakest, strongest }
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.inside
    }

    /// A product has so many orders now; with none it takes no part.
    pub(super) fn set(&mut self, id: u32, orders: u32) {
        let place = id as usize;
        if place >= self.all.len() {
            self.all.resize(place + 1, (0, false));
        }
        let (known, inside) = &mut self.all[place];
        let before = std::mem::replace(known, orders);
        if *inside && orders < before {
            self.weakest.push(Reverse((orders, Reverse(id))));
            if self.weakest.len() > 4 * self.places {
                self.tidy();
            }
        } else if !*inside && orders > before {
            self.strongest.push((orders, Reverse(id)));
            if self.strongest.len() > 4 * self.all.len() {
                self.tidy();
            }
        }
    }

    /// Moves the border to where it belongs: returns who has left, and who has entered.
    pub(super) fn settle(&mut self) -> (Vec<u32>, Vec<u32>) {
        let (mut left, mut entered) = (Vec::new(), Vec::new());
        loop {
            let (weakest, strongest) = (self.weakest(), self.strongest());
            let leaves = weakest.filter(|weakest| {
                let is_beaten = strongest.is_some_and(|strongest| strongest > *weakest);
                weakest.0 == 0 || self.inside == self.places && is_beaten
            });
            if let Some((_, Reverse(id))) = leaves {
                self.inside -= 1;
                self.weakest.pop();
                self.enter(id, false);
                left.push(id);
            } else if let Some((_, Reverse(id))) = strongest.filter(|_| self.inside < self.places) {
                self.inside += 1;
                self.strongest.pop();
                self.enter(id, true);
                entered.push(id);
            } else {
                return (left, entered);
            }
        }
    }

    fn enter(&mut self, id: u32, inside: bool) {
        let (orders, is_inside) = &mut self.all[id as usize];
        *is_inside = inside;
        match (inside, *orders) {
            (true, orders) => self.weakest.push(Reverse((orders, Reverse(id)))),
            (false, 0) => {}
            (false, orders) => self.strongest.push((orders, Reverse(id))),
        }
    }

    /// The worst inside.
    fn weakest(&mut self) -> Option<Key> {
        loop {
            let mut entry = self.weakest.peek_mut()?;
            let Reverse((known, Reverse(id))) = *entry;
            match self.all[id as usize] {
                (orders, true) if orders == known => return Some((orders, Reverse(id))),
                (orders, true) if orders > known => *entry = Reverse((orders, Reverse(id))),
                _ => drop(PeekMut::pop(entry)),
            }
        }
    }

    /// The best outside.
    fn strongest(&mut self) -> Option<Key> {
        loop {
            let mut entry = self.strongest.peek_mut()?;
            let (known, Reverse(id)) = *entry;
            match self.all[id as usize] {
                (orders, false) if orders == known => return Some((orders, Reverse(id))),
                (orders, false) if 0 < orders && orders < known => *entry = (orders, Reverse(id)),
                _ => drop(PeekMut::pop(entry)),
            }
        }
    }

    /// Leaves one entry of each product, up to date.
    fn tidy(&mut self) {
        let all = (0..).zip(&self.all).filter(|(_, (orders, _))| *orders > 0);
        let key = |(id, (orders, inside)): (u32, &(u32, bool))| (*inside, (*orders, Reverse(id)));
        let (inside, outside): (Vec<_>, Vec<_>) = all.map(key).partition(|(inside, _)| *inside);
        let gone = (0..).zip(&self.all).filter(|(_, it)| **it == (0, true));
        let gone = gone.map(|(id, _)| Reverse((0, Reverse(id))));
        self.weakest = inside.into_iter().map(|(_, key)| Reverse(key)).chain(gone).collect();
        self.strongest = outside.into_iter().map(|(_, key)| key).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::RngExt;

    use super::*;
    use crate::market::draw::{Purpose, draw};

    #[test]
    fn the_best_are_those_of_a_sorted_list_and_the_changes_lead_there() {
        let random = &mut draw(1, Purpose::Goods, 0, 0);
        let mut best = Best::new(20);
        let (mut orders, mut inside) = (vec![0_u32; 200], BTreeSet::new());
        for _ in 0..3_000 {
            for _ in 0..random.random_range(0..8) {
                let id = random.random_range(1..200);
                orders[id as usize] = match random.random_range(0..10) {
                    0 => 0,
                    change => (orders[id as usize] + change).saturating_sub(5),
                };
                best.set(id, orders[id as usize]);
            }
            let (left, entered) = best.settle();
            assert!(left.iter().all(|id| inside.remove(id)));
            assert!(entered.iter().all(|id| inside.insert(*id)));
            let mut sorted: Vec<Key> =
                (0..).zip(&orders).map(|(id, it)| (*it, Reverse(id))).collect();
            sorted.retain(|(orders, _)| *orders > 0);
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let first = sorted.iter().take(20).map(|(_, Reverse(id))| *id);
            assert_eq!(first.collect::<BTreeSet<u32>>(), inside);
            assert_eq!(best.len(), inside.len());
        }
    }
}
