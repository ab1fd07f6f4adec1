//! The grade of one customer over time: a fold over 10-minute ticks that can be rewritten.
//!
//! At every tick T the totals are those of the ledger entries with `at` <= T < the order's time
//! plus six calendar months. The grade follows them up at once and down by at most one level a
//! tick. It can change only where a total changes or a demotion is under way, so the fold jumps
//! from change to change.

use serde::{Deserialize, Serialize};

use crate::model::time::{TICK, six_months_after};
use crate::model::{Krw, Millis};

/// A customer's grade, lowest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Grade {
    /// Everybody else, and every new customer.
    #[default]
    Bronze,
    /// 500,000 KRW and 5 orders in six months.
    Silver,
    /// 2,000,000 KRW and 15 orders.
    Gold,
    /// 5,000,000 KRW and 30 orders.
    Vip,
}

impl Grade {
    /// All grades, lowest first.
    pub const ALL: [Grade; 4] = [Grade::Bronze, Grade::Silver, Grade::Gold, Grade::Vip];

    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Grade::Bronze => "BRONZE",
            Grade::Silver => "SILVER",
            Grade::Gold => "GOLD",
            Grade::Vip => "VIP",
        }
    }

    /// The grade that six months' totals are worth.
    pub fn of(orders: i64, amount: Krw) -> Grade {
        match () {
            () if amount >= Krw(5_000_000) && orders >= 30 => Grade::Vip,
            () if amount >= Krw(2_000_000) && orders >= 15 => Grade::Gold,
            () if amount >= Krw(500_000) && orders >= 5 => Grade::Silver,
            () => Grade::Bronze,
        }
    }

    /// The grade at a tick, from the grade at the tick before and what the totals are worth.
    pub(crate) fn step(self, target: Grade) -> Grade {
        if target >= self { target } else { Grade::ALL[self as usize - 1] }
    }
}

/// Where a customer stands at a tick.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Standing {
    /// The grade.
    pub grade: Grade,
    /// The instant of the tick at which it last changed; none if it never did.
    pub since: Option<Millis>,
    /// Orders of the last six months.
    pub orders: i64,
    /// Amount of the last six months.
    pub amount: Krw,
}

impl Standing {
    fn target(&self) -> Grade {
        Grade::of(self.orders, self.amount)
    }
}

/// A change of grade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The instant of its tick.
    pub at: Millis,
    /// The grade before.
    pub from: Grade,
    /// The grade from then on.
    pub to: Grade,
}

/// What the totals change by at a tick.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Step {
    tick: u32,
    orders: i32,
    amount: Krw,
}

/// One customer's ledger as steps of the totals, and the fold over those that are past.
///
/// Invariant: `standing` and `changes` are the fold over all steps up to `folded`, whatever the
/// order in which entries came; `steps` is sorted, with at most one step a tick.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GradeTimeline {
    steps: Vec<Step>,
    /// Number of steps that are folded in.
    next: usize,
    /// The last tick that the fold has seen.
    folded: u32,
    standing: Standing,
    changes: Vec<Change>,
}

/// The first tick at or after an instant.
fn tick_from(at: Millis) -> u32 {
    (at + TICK - 1).div_euclid(TICK) as u32
}

/// The last tick at or before an instant.
pub(crate) fn tick_until(at: Millis) -> u32 {
    at.div_euclid(TICK).max(0) as u32
}

impl GradeTimeline {
    /// Whether an entry of that time comes late: its changes of grade are then worked out anew.
    pub fn rewinds(&self, at: Millis) -> bool {
        tick_from(at) <= self.folded
    }

    /// Adds a ledger entry, or with `times` -1 takes it out again: `orders` and `amount` count from
    /// `at` until six calendar months after `ordered_at`. Returns the first tick that it touches,
    /// if there is one; where that tick is past, the fold starts again from the beginning.
    pub fn add(&mut self, at: Millis, ordered_at: Millis, orders: i64, amount: Krw) -> Option<u32> {
        let (begins, ends) = (tick_from(at), tick_from(six_months_after(ordered_at)));
        if begins >= ends || (orders == 0 && amount == Krw(0)) {
            return None;
        }
        self.step(begins, orders as i32, amount);
        self.step(ends, -orders as i32, -amount);
        if begins <= self.folded {
            (self.next, self.folded, self.standing) = (0, 0, Standing::default());
            self.changes.clear();
        }
        Some(begins)
    }

    fn step(&mut self, tick: u32, orders: i32, amount: Krw) {
        // Most steps belong at or near the end.
        let place = match self.steps.last() {
            Some(last) if last.tick < tick => self.steps.len(),
            _ => self.steps.partition_point(|step| step.tick < tick),
        };
        match self.steps.get_mut(place) {
            Some(step) if step.tick == tick => {
                step.orders += orders;
                step.amount += amount;
            }
            _ => self.steps.insert(place, Step { tick, orders, amount }),
        }
    }

    /// Folds in all ticks up to and including `tick`.
    pub fn advance(&mut self, tick: u32) {
        while let Some(at) = self.due().filter(|due| *due <= tick) {
            if let Some(step) = self.steps.get(self.next).filter(|step| step.tick == at) {
                self.standing.orders += i64::from(step.orders);
                self.standing.amount += step.amount;
                self.next += 1;
            }
            let (from, to) =
                (self.standing.grade, self.standing.grade.step(self.standing.target()));
            if from != to {
                let at = Millis::from(at) * TICK;
                self.standing.grade = to;
                self.standing.since = Some(at);
                self.changes.push(Change { at, from, to });
            }
            self.folded = at;
        }
        self.folded = self.folded.max(tick);
    }

    /// The next tick at which something can change: the next step's, or the very next one while a
    /// demotion is under way.
    pub fn due(&self) -> Option<u32> {
        let step = self.steps.get(self.next).map(|step| step.tick);
        let demotion = (self.standing.grade > self.standing.target()).then_some(self.folded + 1);
        step.into_iter().chain(demotion).min()
    }

    /// Number of the steps, past and to come.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Where the customer stands at the last tick folded in.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Every change of grade up to there.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::time::{DAY, HOUR};

    /// A ledger entry as the rule sees it.
    type Entry = (Millis, Millis, i64, Krw);

    /// What could be wrong in the rule.
    #[derive(Clone, Copy, Default)]
    struct Mistake {
        /// Levels that a demotion takes beyond one.
        too_many_levels: usize,
        /// An entry still counts at the instant of its expiry.
        expires_late: bool,
        /// The first step of a demotion waits for a tick.
        demotes_late: bool,
        /// A cancellation takes the amount back and leaves the order.
        keeps_orders: bool,
    }

    /// The rule to the letter: every tick, every entry.
    fn naive(entries: &[Entry], last_tick: u32) -> (Standing, Vec<Change>) {
        naive_with(Mistake::default(), entries, last_tick)
    }

    fn naive_with(mistake: Mistake, entries: &[Entry], last_tick: u32) -> (Standing, Vec<Change>) {
        let mut was_due = false;
        let mut standing = Standing::default();
        let mut changes = Vec::new();
        let first = entries.iter().map(|entry| entry.0).min().unwrap_or(0) / TICK;
        for tick in first as u32..=last_tick {
            let at = Millis::from(tick) * TICK;
            let counts = |entry: &&Entry| {
                let until = six_months_after(entry.1);
                entry.0 <= at && (at < until || mistake.expires_late && at == until)
            };
            let orders = entries.iter().filter(counts).map(|entry| entry.2);
            standing.orders = orders.filter(|orders| *orders > 0 || !mistake.keeps_orders).sum();
            standing.amount = entries.iter().filter(counts).map(|entry| entry.3).sum();
            let target = Grade::of(standing.orders, standing.amount);
            let (from, mut to) = (standing.grade, target);
            if target < from {
                to = Grade::ALL[(from as usize).saturating_sub(1 + mistake.too_many_levels)];
                if mistake.demotes_late && !was_due {
                    to = from;
                }
            }
            was_due = target < from;
            if from != to {
                standing.grade = to;
                standing.since = Some(at);
                changes.push(Change { at, from, to });
            }
        }
        (standing, changes)
    }

    /// Bursts of orders around a start, some taken back, most of it more than six months before
    /// the last tick looked at.
    fn ledgers() -> impl Strategy<Value = Vec<Entry>> {
        let order = (0..3 * DAY, 1..40usize, 1..40i64, prop::option::of(0..200 * DAY));
        prop::collection::vec(order, 1..4).prop_map(|bursts| {
            let start = 1_700_000_000_000;
            let mut entries = Vec::new();
            for (offset, orders, price, taken_back) in bursts {
                for n in 0..orders as i64 {
                    let at = start + offset + n * 7 * HOUR / 2;
                    let amount = Krw(price * 10_000);
                    entries.push((at, at, 1, amount));
                    if let Some(after) = taken_back.filter(|_| n % 3 == 0) {
                        entries.push((at + after, at, -1, -amount));
                    }
                }
            }
            entries
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the order in which entries come, and wherever the fold stood meanwhile, the
        /// timeline says what the naive evaluator says; entries taken out leave nothing.
        #[test]
        fn the_fold_equals_the_naive_evaluator(
            entries in ledgers().prop_shuffle(),
            noise in ledgers(),
            pauses in prop::collection::vec(0..250 * DAY, 8),
        ) {
            let start = 1_700_000_000_000;
            let mut timeline = GradeTimeline::default();
            for (n, entry) in entries.iter().enumerate() {
                timeline.add(entry.0, entry.1, entry.2, entry.3);
                if n % 9 == 0 {
                    timeline.advance(tick_until(start + pauses[n / 9 % 8]).max(timeline.folded));
                }
            }
            for sign in [1, -1] {
                for entry in &noise {
                    timeline.add(entry.0, entry.1, sign * entry.2, entry.3 * sign);
                }
                timeline.advance(tick_until(start + 100 * DAY).max(timeline.folded));
            }
            let last = tick_until(start + 420 * DAY);
            timeline.advance(last);
            let (standing, changes) = naive(&entries, last);
            prop_assert_eq!(timeline.changes(), &changes);
            prop_assert_eq!(timeline.standing(), standing);
        }
    }

    /// The evaluator that the fold is held against would notice each of these mistakes.
    #[test]
    fn mistakes_in_the_rule_show() {
        let at = 1_699_999_800_000; // a tick, so that expiry falls on one
        let mut entries: Vec<Entry> = (0..31).map(|_| (at, at, 1, Krw(200_000))).collect();
        entries.extend([(at + DAY, at, -1, Krw(-200_000)); 2]);
        let last = tick_until(six_months_after(at) + HOUR);
        let mut timeline = GradeTimeline::default();
        for entry in &entries {
            timeline.add(entry.0, entry.1, entry.2, entry.3);
        }
        timeline.advance(last);
        assert_eq!(timeline.changes(), naive(&entries, last).1);
        for mistake in [
            Mistake { too_many_levels: 1, ..Mistake::default() },
            Mistake { expires_late: true, ..Mistake::default() },
            Mistake { demotes_late: true, ..Mistake::default() },
            Mistake { keeps_orders: true, ..Mistake::default() },
        ] {
            assert_ne!(timeline.changes(), naive_with(mistake, &entries, last).1);
        }
    }

    #[test]
    fn a_demotion_takes_one_level_a_tick() {
        let mut timeline = GradeTimeline::default();
        let at = 1_700_000_400_000;
        for _ in 0..30 {
            timeline.add(at, at, 1, Krw(200_000));
        }
        timeline.advance(tick_until(at));
        assert_eq!(timeline.standing().grade, Grade::Vip);
        timeline.advance(tick_until(six_months_after(at) + HOUR));
        let expiry = Millis::from(tick_from(six_months_after(at))) * TICK;
        let falls = [Grade::Vip, Grade::Gold, Grade::Silver, Grade::Bronze];
        let expected: Vec<Change> = (0..3)
            .map(|n| Change { at: expiry + n as Millis * TICK, from: falls[n], to: falls[n + 1] })
            .collect();
        assert_eq!(timeline.changes()[1..], expected);
    }

    #[test]
    fn what_is_taken_back_after_six_months_never_counts() {
        let mut timeline = GradeTimeline::default();
        let at = 1_700_000_400_000;
        assert!(timeline.add(at, at, 1, Krw(10)).is_some());
        assert!(timeline.add(six_months_after(at), at, -1, Krw(-10)).is_none());
        timeline.advance(tick_until(six_months_after(at) + DAY));
        assert_eq!((timeline.standing().orders, timeline.standing().amount), (0, Krw(0)));
    }
}
