//! The grade of one customer over time: a fold over 10-minute ticks, along their list of events.
//!
//! At every tick T the totals are those of the events with `at` <= T < the order's time plus six calendar
//! months. The grade follows them up at once and down by at most one level a tick. It can change only
//! where a total changes or a demotion is under way, so the fold jumps from change to change. Two
//! places in the list go along: up to where events have entered, and up to where they have left.
//!
//! Six months are not monotone: what was ordered on 30 August at 10:00 lasts longer than what was on 31
//! August at 9:00. So orders of such days, and what takes orders back, stand aside with their ticks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::model::time::{TICK, day_of, six_months_after};
use crate::model::{Krw, Millis, OrderKind};
use crate::operators::{Change, Grade, Standing};

use super::contributions::plus_amount;
use super::history::{Cursor, Effect, History};

/// No tick.
pub(crate) const NEVER: u32 = u32::MAX;

const AMOUNT: &str = "the amount of a customer's six months";

/// Where a customer's fold stands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fold {
    standing: Standing,
    /// The changes of grade up to here.
    changes: Vec<Change>,
    /// The next tick at which something can change.
    due: u32,
    /// Up to where events have entered, and orders have left.
    entered: Cursor,
    left: Cursor,
    /// When the next order leaves, of those that leave in the order of the list.
    leaves: u32,
    /// When others leave, with what they count; the first to leave at the top.
    aside: BinaryHeap<Reverse<(u32, i64, Krw)>>,
}

impl Default for Fold {
    fn default() -> Self {
        Fold {
            standing: Standing::default(),
            changes: Vec::new(),
            due: 0,
            entered: Cursor::default(),
            left: Cursor::default(),
            leaves: NEVER,
            aside: BinaryHeap::new(),
        }
    }
}

/// The first tick at or after an instant.
pub(crate) fn tick_from(at: Millis) -> u32 {
    (at + TICK - 1).div_euclid(TICK) as u32
}

impl Fold {
    /// Reads from where it will go on, so that it is in the cache by then.
    pub(crate) fn touch(&self, history: &History) -> u8 {
        history.touch_at(self.entered) ^ history.touch_at(self.left)
    }

    /// An event has come behind all others, and behind what was folded in.
    pub(crate) fn appended(&mut self, at: Millis) {
        self.due = self.due.min(tick_from(at));
    }

    /// Folds in all ticks up to and including `until`.
    pub(crate) fn advance(&mut self, history: &History, until: u32) {
        while self.due <= until {
            let tick = self.due;
            let enters = self.enter(history, tick);
            let leaves = self.leave(history, tick);
            let standing = &mut self.standing;
            let target = Grade::of(standing.orders, standing.amount);
            let (from, to) = (standing.grade, standing.grade.step(target));
            if from != to {
                let at = Millis::from(tick) * TICK;
                (standing.grade, standing.since) = (to, Some(at));
                self.changes.push(Change { at, from, to });
            }
            let demotion = if to > target { tick + 1 } else { NEVER };
            self.due = enters.min(leaves).min(demotion);
            assert!(self.due > tick, "the time of a grade goes on");
        }
    }

    /// Counts what happened up to a tick; returns the tick of the next event.
    fn enter(&mut self, history: &History, tick: u32) -> u32 {
        while let Some((entry, next)) = history.effect(self.entered) {
            let enters = tick_from(entry.at);
            if enters > tick {
                return enters;
            }
            let until = tick_from(six_months_after(entry.ordered_at));
            // What is over before the tick at which it enters never counts.
            if until > enters {
                let (orders, amount) = effect(&entry);
                self.standing.orders += orders;
                plus_amount(&mut self.standing.amount, amount, AMOUNT);
                if leaves_in_order(&entry) {
                    self.leaves = self.leaves.min(until);
                } else {
                    self.aside.push(Reverse((until, orders, amount)));
                }
            }
            self.entered = next;
        }
        NEVER
    }

    /// Takes out what is six months old; returns the tick at which something is next.
    fn leave(&mut self, history: &History, tick: u32) -> u32 {
        if self.leaves <= tick {
            self.leaves = NEVER;
            while self.left < self.entered
                && let Some((entry, next)) = history.effect(self.left)
            {
                if leaves_in_order(&entry) {
                    let until = tick_from(six_months_after(entry.ordered_at));
                    if until > tick {
                        self.leaves = until;
                        break;
                    }
                    let (orders, amount) = effect(&entry);
                    self.standing.orders -= orders;
                    plus_amount(&mut self.standing.amount, -amount, AMOUNT);
                }
                self.left = next;
            }
        }
        while let Some(Reverse((until, orders, amount))) = self.aside.peek() {
            if *until > tick {
                return self.leaves.min(*until);
            }
            self.standing.orders -= orders;
            plus_amount(&mut self.standing.amount, -*amount, AMOUNT);
            self.aside.pop();
        }
        self.leaves
    }

    /// Where the customer stands at the last tick folded in.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Every change of grade up to there.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The next tick at which something can change; [`NEVER`] where nothing can.
    pub(crate) fn due(&self) -> u32 {
        self.due
    }
}

/// What an event adds to the orders and to the amount.
fn effect(event: &Effect) -> (i64, Krw) {
    (event.event.orders(), event.amount * event.event.sign())
}

/// Whether it is an order of a day that is there six months later, too.
fn leaves_in_order(entry: &Effect) -> bool {
    use chrono::Datelike;
    let of_month = |at| crate::model::time::date_of(day_of(at)).day();
    entry.event == OrderKind::Placed
        && of_month(entry.at) == of_month(six_months_after(entry.ordered_at))
}
