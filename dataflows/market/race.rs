//! The race: who of the working set orders, and when.
//!
//! Each customer has keys that fall at times of their own: in the plane of time and demand they are a
//! Poisson process whose intensity is the customer's liking of the hour, drawn by customer and hour.
//! A member whose key lies below the demand of its time orders then. So a moment's orders are drawn
//! without replacement in proportion to score x liking, more demand only adds orders, and the keys of
//! one customer are the same whatever the others do.
//!
//! Only keys below a bound are drawn, lowest first; the bound is raised when demand comes near it,
//! which changes no key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_distr::{Distribution, Exp1};

use super::draw::{Purpose, draw};
use crate::model::{Millis, time::HOUR};

/// Keys beyond so many times the demand of now are not drawn yet.
const ROOM: f64 = 1.5;

/// One who takes part in the race of an hour.
#[derive(Clone, Copy)]
pub(super) struct Runner {
    pub(super) id: u32,
    /// 0 for past buyers, 1 for those who never bought: they have demands of their own.
    pub(super) group: usize,
    /// Score x liking of the hour: the keys below a demand, a unit of demand and a millisecond.
    pub(super) intensity: f64,
}

/// A key: when it falls, whose it is, and the least demand under which it counts.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Key {
    pub(super) at: Millis,
    pub(super) id: u32,
    pub(super) group: usize,
    pub(super) demand: f64,
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = (self.at, self.id).cmp(&(other.at, other.id));
        order.then(self.demand.total_cmp(&other.demand))
    }
}

/// The keys of an hour that are still to fall.
#[derive(Default)]
pub(super) struct Race {
    keys: BinaryHeap<Reverse<Key>>,
    /// By group: all keys below it are there.
    bound: [f64; 2],
}

impl Race {
    /// Whether the keys that are there are all that this demand needs.
    pub(super) fn reaches(&self, demand: [f64; 2]) -> bool {
        demand.iter().zip(&self.bound).all(|(demand, bound)| demand <= bound)
    }

    /// Draws the keys of an hour anew that fall after `now`, with room above the demand of now.
    pub(super) fn start(
        &mut self,
        seed: u64,
        now: Millis,
        demand: [f64; 2],
        runners: impl Iterator<Item = Runner>,
    ) {
        self.keys.clear();
        self.bound = demand.map(|demand| demand * ROOM);
        for runner in runners {
            self.enter(seed, now, runner);
        }
    }

    /// Adds the keys of one who has entered.
    pub(super) fn enter(&mut self, seed: u64, now: Millis, runner: Runner) {
        let Runner { id, group, intensity } = runner;
        let hour = now.div_euclid(HOUR);
        let random = &mut draw(seed, Purpose::Race, u64::from(id), hour as u64);
        let mut demand = 0.0;
        loop {
            let step: f64 = Exp1.sample(random);
            demand += step / (intensity * HOUR as f64);
            if demand > self.bound[group] {
                return;
            }
            let at = hour * HOUR + 1 + (random.random::<f64>() * HOUR as f64) as Millis;
            if at > now {
                self.keys.push(Reverse(Key { at, id, group, demand }));
            }
        }
    }

    /// The next key up to `until`.
    pub(super) fn pop(&mut self, until: Millis) -> Option<Key> {
        let Reverse(next) = self.keys.peek()?;
        (next.at <= until).then(|| self.keys.pop())?.map(|Reverse(key)| key)
    }
}
