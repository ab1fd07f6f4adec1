//! A customer's grade as the market itself sees it: SPEC's fold over ten-minute ticks.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::{
    Krw, Millis,
    time::{TICK, six_months_after},
};

/// Grades from BRONZE (0) to VIP (3): the least orders and amount of six months.
const THRESHOLDS: [(i64, Krw); 4] = [(0, 0), (5, 500_000), (15, 2_000_000), (30, 5_000_000)];

/// The fold's state; entries come in order of time.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Grade {
    grade: u8,
    /// The grade holds as of this tick; later ones are not evaluated yet.
    tick: i64,
    orders: i64,
    amount: Krw,
    /// (tick, orders, amount) that leave the sums, by tick.
    expiries: VecDeque<(i64, i64, Krw)>,
}

impl Grade {
    /// Counts a ledger entry of the order placed at `ordered_at`.
    pub(super) fn add(&mut self, at: Millis, ordered_at: Millis, orders: i64, amount: Krw) {
        let tick = tick_at_or_after(at);
        let expiry = tick_at_or_after(six_months_after(ordered_at));
        if tick >= expiry {
            return;
        }
        self.advance(tick - 1);
        self.orders += orders;
        self.amount += amount;
        let place = self.expiries.partition_point(|(other, ..)| *other <= expiry);
        self.expiries.insert(place, (expiry, orders, amount));
    }

    /// The grade as of the last tick up to `at`: 0 for BRONZE to 3 for VIP.
    pub(super) fn at(&mut self, at: Millis) -> u8 {
        self.advance(at.div_euclid(TICK));
        self.grade
    }

    /// Evaluates the ticks up to `until`, jumping over those at which nothing can change.
    fn advance(&mut self, until: i64) {
        while self.tick < until {
            let next = if self.target() == self.grade {
                self.expiries.front().map(|(tick, ..)| *tick)
            } else {
                Some(self.tick + 1)
            };
            let Some(next) = next.filter(|next| *next <= until) else {
                self.tick = until;
                break;
            };
            self.tick = next;
            while let Some((_, orders, amount)) =
                self.expiries.pop_front_if(|(expiry, ..)| *expiry <= next)
            {
                self.orders -= orders;
                self.amount -= amount;
            }
            let target = self.target();
            self.grade = if target >= self.grade { target } else { self.grade - 1 };
        }
    }

    /// The grade that the sums stand for.
    fn target(&self) -> u8 {
        THRESHOLDS
            .iter()
            .rposition(|(orders, amount)| self.orders >= *orders && self.amount >= *amount)
            .unwrap_or(0) as u8
    }
}

fn tick_at_or_after(at: Millis) -> i64 {
    -(-at).div_euclid(TICK)
}
