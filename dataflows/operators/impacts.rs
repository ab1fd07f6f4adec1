//! What was placed while a scenario was active, and at the same times of the four weeks before.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound::{Excluded, Unbounded};

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::difference::{Abelian, IsZero, Multiply, Semigroup};
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::Broadcast;

use super::{Stash, StateSize, Sums, Vecs};
use crate::keeper::{Keeper, Sorted};
use crate::model::time::{HOUR, WEEK};
use crate::model::{Krw, Millis, ScenarioAction, ScenarioEvent, Word};
use crate::slots::{slot, worker_of};
use crate::{Collection, Epoch};

/// When an occurrence of a scenario is active.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Active {
    /// The scenario's name.
    pub name: Word,
    /// Which of its occurrences: another scenario may use the same word.
    pub occurrence: Word,
    /// The first active instant.
    pub start: Millis,
    /// The first instant that is no longer active, if it is known; `now` comes before it or not.
    pub stop: Option<Millis>,
}

impl Active {
    /// The first instant that can never be active.
    fn stop(&self) -> Millis {
        self.stop.unwrap_or(Millis::MAX)
    }

    /// The end of what is active so far, exclusive; before it begins its start.
    fn until(&self, now: Millis) -> Millis {
        self.stop().min(now.saturating_add(1)).max(self.start)
    }

    /// What orders that arrive add: each once if it was placed while active, else once for each
    /// active instant up to `until` that it is compared with.
    fn impact_of(&self, arrived: &[((Millis, Krw), isize)], until: Millis) -> Impact {
        let mut impact = Impact::default();
        let length = until - self.start;
        let from = arrived.partition_point(|((at, _), _)| *at < self.start - 4 * WEEK);
        for ((at, amount), diff) in arrived[from..].iter().take_while(|((at, _), _)| *at < until) {
            let after = at - self.start;
            if after >= 0 {
                impact.0.plus_equals(&placed(*amount).multiply(diff));
            } else {
                let rest = after.rem_euclid(WEEK) < length % WEEK;
                let instants = (length / WEEK) as isize + isize::from(rest);
                impact.1.plus_equals(&placed(*amount).multiply(&(instants * diff)));
            }
        }
        impact
    }
}

/// When the occurrences are active, whatever `now` is: from the first start to the first stop after
/// it. An occurrence is named by its scenario's name and its own word together.
///
/// Work: an event walks those of its occurrence. State: all starts and stops.
pub fn actives(events: Collection<'_, ScenarioEvent>) -> Collection<'_, Active> {
    events
        .filter(|event| event.action != ScenarioAction::Change)
        .map(|event| ((event.name, event.occurrence), (event.at, event.event_id, event.action)))
        .reduce_named("actives", |(name, occurrence), events, active| {
            // They come sorted, by time and then by id.
            let mut events = events.iter().map(|(event, _)| event);
            let start = events.find(|(_, _, action)| *action == ScenarioAction::Start);
            let stop = events.find(|(_, _, action)| *action == ScenarioAction::Stop);
            active.extend(start.map(|(start, _, _)| {
                let (name, occurrence) = (name.clone(), occurrence.clone());
                (Active { name, occurrence, start: *start, stop: stop.map(|it| it.0) }, 1)
            }));
        })
        .map(|(_named, active)| active)
}

/// What was placed while active, and at the same times of the four weeks before, all together. That
/// it has begun is the one event of the first.
pub type Impact = (Sums, Sums);

fn placed(amount: Krw) -> Sums {
    Sums { orders: 1, revenue: amount, ..Sums::default() }
}

/// A placed order in its hour. Twelve bytes: an `i64` would make them sixteen.
#[derive(Serialize, Deserialize)]
struct Order {
    offset: u32,
    amount: [u8; 8],
}

/// The orders of an hour.
#[derive(Default, Serialize, Deserialize)]
struct Hour {
    sums: Sums,
    /// Sorted by offset.
    orders: Vec<Order>,
}

/// Placed orders, by the start of their hour.
struct Orders<'k>(&'k mut Sorted<Millis, Hour>);

impl Orders<'_> {
    fn add(&mut self, at: Millis, amount: Krw) {
        let offset = at.rem_euclid(HOUR);
        let hour = self.0.at(at - offset, Hour::default);
        hour.sums.plus_equals(&placed(amount));
        // Doubling would leave a quarter of all memory unused, for ever.
        if hour.orders.len() == hour.orders.capacity() {
            hour.orders.reserve_exact(4 + hour.orders.len() / 8);
        }
        let offset = offset as u32;
        // Most belong at or near the end.
        let place = hour.orders.partition_point(|order| order.offset <= offset);
        hour.orders.insert(place, Order { offset, amount: amount.0.to_ne_bytes() });
    }

    /// Takes out one order, if it is here.
    fn remove(&mut self, at: Millis, amount: Krw) -> bool {
        let offset = at.rem_euclid(HOUR);
        if !self.0.contains_key(&(at - offset)) {
            return false;
        }
        let hour = self.0.at(at - offset, Hour::default);
        let place = hour.orders.partition_point(|order| Millis::from(order.offset) < offset);
        let found = hour.orders[place..]
            .iter()
            .take_while(|order| Millis::from(order.offset) == offset)
            .position(|order| order.amount == amount.0.to_ne_bytes());
        let Some(found) = found else { return false };
        hour.orders.remove(place + found);
        hour.sums.plus_equals(&placed(amount).multiply(&-1));
        if hour.orders.is_empty() {
            self.0.remove(&(at - offset));
        }
        true
    }

    /// The sums from an instant on, until before another.
    fn sums(&self, from: Millis, until: Millis) -> Sums {
        let mut sums = Sums::default();
        if from >= until {
            return sums;
        }
        for (start, Hour { sums: all, orders }) in self.0.range(from - from.rem_euclid(HOUR)..until)
        {
            if from <= *start && start + HOUR <= until {
                sums.plus_equals(all);
                continue;
            }
            let place = |at| orders.partition_point(|it| start + Millis::from(it.offset) < at);
            for order in &orders[place(from)..place(until)] {
                sums.plus_equals(&placed(Krw(i64::from_ne_bytes(order.amount))));
            }
        }
        sums
    }
}

/// What was placed, less what was withdrawn. An order that goes again leaves nothing.
struct Placed<'k> {
    come: Orders<'k>,
    gone: Orders<'k>,
    /// Orders in both.
    held: usize,
}

impl Placed<'_> {
    fn add(&mut self, ((at, amount), diff): ((Millis, Krw), isize)) {
        let mut both = (&mut self.come, &mut self.gone);
        if diff < 0 {
            both = (both.1, both.0);
        }
        for _ in 0..diff.abs() {
            if both.1.remove(at, amount) {
                self.held -= 1;
            } else {
                both.0.add(at, amount);
                self.held += 1;
            }
        }
    }

    fn sums(&self, from: Millis, until: Millis) -> Sums {
        let mut sums = self.gone.sums(from, until);
        sums.negate();
        sums.plus_equals(&self.come.sums(from, until));
        sums
    }

    /// What an occurrence is at `now`; the row itself is `row`.
    fn impact_at(&self, active: &Active, now: Millis, row: Sums) -> Impact {
        if now < active.start {
            return Impact::default();
        }
        let mut impact = self.impact(active.start, active.start, active.until(now));
        impact.0.plus_equals(&row);
        impact
    }

    /// What the active instants from one to before another add to what began at `start`.
    fn impact(&self, start: Millis, mut from: Millis, until: Millis) -> Impact {
        let during = self.sums(from, until);
        let mut before = Sums::default();
        while from < until {
            let week = (from - start) / WEEK;
            let end = until.min(start + (week + 1) * WEEK);
            for earlier in week + 1..=week + 4 {
                before.plus_equals(&self.sums(from - earlier * WEEK, end - earlier * WEEK));
            }
            from = end;
        }
        (during, before)
    }
}

/// What an epoch brings.
#[derive(Default)]
struct Arrivals {
    placed: Vec<((Millis, Krw), isize)>,
    actives: Vec<(Active, isize)>,
    now: Option<Millis>,
}

/// What one record says.
#[derive(Clone)]
enum Entered {
    Placed(Millis, Krw),
    Active(Active),
}

/// The impact of each occurrence that `now` has reached, as differences, from the placed orders as
/// (when, amount).
///
/// An impact is a sum over orders and over active instants, so three things change it, each by its
/// own share: an order that comes adds to the occurrences that it stands in or before, `now` adds
/// the instants since it was last seen to those that stop later, and an occurrence that is told or
/// corrected is summed up once. Each worker has the orders of some hours, and its share of each sum. No
/// differential operator joins by ranges of time.
///
/// Work: an epoch looks at the occurrences that stop after the first order in it or after `now`,
/// which live are the open ones and those announced. A move of `now` costs five look-ups an open
/// occurrence, one that is told or corrected a step for each hour that it lasts and is compared with.
/// State: 12 bytes for each placed order (and an eighth as room to grow), since a start may always
/// come late, and 80 an hour. The orders last from one start to the next; of the occurrences a start hears anew.
pub fn impacts<'s>(
    orders: Collection<'s, (Millis, Krw)>,
    actives: Collection<'s, Active>,
    now: Stream<'s, Epoch, Vec<Millis>>,
    keeper: &Keeper,
) -> VecCollection<'s, Epoch, Active, Impact> {
    let (scope, peers) = (orders.inner.scope(), orders.inner.scope().peers());
    let actives = actives.inner.broadcast().as_collection().map(Entered::Active);
    let by_hour = |((at, _), _, _): &((Millis, Krw), Epoch, isize)| at - at.rem_euclid(HOUR);
    let orders = orders.inner.exchange(move |order| worker_of(&by_hour(order), peers));
    orders
        .as_collection()
        .map(|(at, amount)| Entered::Placed(at, amount))
        .concat(actives)
        .inner
        .binary_frontier::<_, Vecs<(Active, Epoch, Impact)>, _, _, _, _>(
            now,
            Pipeline,
            Pipeline,
            "impacts",
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                // Every worker has a share of the sums; a row is told of once.
                let row = Sums { events: i64::from(scope.index() == 0), ..Sums::default() };
                let [come, gone] = [(), ()].map(|()| keeper.sorted::<Millis, Hour>(slot));
                let of_hours = |hours: &Sorted<Millis, Hour>| -> usize {
                    hours.values().map(|hour| hour.orders.len()).sum()
                };
                let mut orders = of_hours(&come.borrow()) + of_hours(&gone.borrow());
                // By when they stop; without a stop, at the end of time.
                let mut actives: BTreeMap<Millis, Vec<Active>> = BTreeMap::new();
                let mut now = Millis::MIN;
                let mut held: Stash<Arrivals> = Stash::new();
                move |(entries, entries_open), (nows, nows_open), output| {
                    let (mut come, mut gone) = (come.borrow_mut(), gone.borrow_mut());
                    let (come, gone) = (Orders(&mut come), Orders(&mut gone));
                    let mut placed = Placed { come, gone, held: orders };
                    entries.for_each_stamp(|capability, batches| {
                        for (entry, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                            let arrived = held.at(epoch, || capability.delayed(&epoch, 0));
                            match entry {
                                Entered::Placed(at, won) => arrived.placed.push(((at, won), diff)),
                                Entered::Active(active) => arrived.actives.push((active, diff)),
                            }
                        }
                    });
                    nows.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        let arrived = held.at(epoch, || capability.delayed(&epoch, 0));
                        let to = batches.flat_map(|batch| batch.drain(..)).max();
                        arrived.now = to.max(arrived.now);
                    });
                    while let Some((capability, mut arrived)) = held.pop_closed(|epoch| {
                        entries_open.less_equal(epoch) || nows_open.less_equal(epoch)
                    }) {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        let mut give = |active: &Active, impact: Impact| {
                            if !impact.is_zero() {
                                session.give((active.clone(), epoch, impact));
                            }
                        };
                        consolidate(&mut arrived.actives);
                        consolidate(&mut arrived.placed);

                        for (active, _) in arrived.actives.iter().filter(|(_, diff)| *diff < 0) {
                            let mut impact = placed.impact_at(active, now, row);
                            impact.negate();
                            give(active, impact);
                            if let Entry::Occupied(mut same_stop) = actives.entry(active.stop()) {
                                same_stop.get_mut().retain(|other| other != active);
                                if same_stop.get().is_empty() {
                                    same_stop.remove();
                                }
                            }
                        }
                        if let Some(((first, _), _)) = arrived.placed.first() {
                            let touched = actives.range((Excluded(*first), Unbounded));
                            for active in touched.flat_map(|(_stop, actives)| actives) {
                                give(active, active.impact_of(&arrived.placed, active.until(now)));
                            }
                            arrived.placed.into_iter().for_each(|order| placed.add(order));
                        }
                        let before = now;
                        now = arrived.now.map_or(now, |to| to.max(now));
                        // What stops later than `now` was has more active instants, or begins.
                        let later = actives.range((Excluded(before), Unbounded));
                        for active in later.flat_map(|(_stop, actives)| actives) {
                            let (from, until) = (active.until(before), active.until(now));
                            let mut impact = placed.impact(active.start, from, until);
                            if (before..now).contains(&(active.start - 1)) {
                                impact.0.plus_equals(&row);
                            }
                            give(active, impact);
                        }
                        for (active, _) in arrived.actives.into_iter().filter(|(_, diff)| *diff > 0)
                        {
                            give(&active, placed.impact_at(&active, now, row));
                            actives.entry(active.stop()).or_default().push(active);
                        }
                    }
                    orders = placed.held;
                    kept.tell(|| orders + actives.values().map(Vec::len).sum::<usize>());
                }
            },
        )
        .as_collection()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two orders of one instant and amount are two; the taking-back may come first.
    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let [come, gone] = [(), ()].map(|()| Keeper::default().sorted(|_| 0));
        let (mut come, mut gone) = (come.borrow_mut(), gone.borrow_mut());
        let mut orders = Placed { come: Orders(&mut come), gone: Orders(&mut gone), held: 0 };
        let script = [(5, 70, 2), (5, 80, 1), (5, 70, -1), (HOUR, 70, -1), (5, 70, -1)];
        for (at, amount, diff) in script {
            orders.add(((at, Krw(amount)), diff));
        }
        assert_eq!(orders.sums(0, HOUR), placed(Krw(80)));
        assert_eq!((orders.sums(HOUR, WEEK).orders, orders.held), (-1, 2));
        orders.add(((5, Krw(80)), -1));
        orders.add(((HOUR, Krw(70)), 1));
        assert_eq!((orders.held, orders.come.0.len(), orders.gone.0.len()), (0, 0, 0));
    }
}
