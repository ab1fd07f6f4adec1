//! Minutes in which far fewer orders were placed than in the same hours of the four weeks before.

use std::ops::Range;

use differential_dataflow::{AsCollection, VecCollection};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;

use super::{Stash, StateSize, Sums, Vecs, delta};
use crate::keeper::{Keeper, Sorted};
use crate::model::Millis;
use crate::model::time::{HOUR, MINUTE, WEEK};
use crate::{Collection, Epoch};

/// Minutes of orders that are looked at together; they end with the alert's minute.
const WINDOW: u32 = 10;
const HOUR_MINUTES: u32 = (HOUR / MINUTE) as u32;
const WEEK_HOURS: u32 = (WEEK / HOUR) as u32;

/// A minute with which ten minutes end that had too few orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alert {
    /// When the minute begins.
    pub minute: Millis,
    /// Orders placed in the ten minutes.
    pub orders: i64,
    /// Over them, the orders of the same hour of the week, in each of the four weeks before; and of
    /// the four sums the two middle ones, twice: so 240 times what was to be expected, and one week
    /// of a sale or of an outage does not matter.
    pub orders_before: i64,
}

impl Alert {
    /// Half of what was expected at most, and four standard deviations of it missing at least.
    fn of(minute: Millis, orders: i64, orders_before: i64) -> Option<Alert> {
        let missing = i128::from(orders_before - 240 * orders);
        // The square of an hour's ten million orders would not fit into an i64.
        let fires = orders_before > 0
            && 480 * orders <= orders_before
            && missing * missing >= 3_840 * i128::from(orders_before);
        fires.then_some(Alert { minute, orders, orders_before })
    }

    /// `alarm` where a quarter of what was expected came at most, else `warning`.
    pub fn severity(&self) -> &'static str {
        if 960 * self.orders <= self.orders_before { "alarm" } else { "warning" }
    }
}

/// The orders of an hour.
#[derive(Serialize, Deserialize)]
struct Hour {
    orders: i64,
    /// Of each minute.
    minutes: Box<[i32]>,
}

/// Placed orders by hour, and there by minute; both are numbered from the epoch.
struct Orders<'k>(&'k mut Sorted<u32, Hour>);

impl Orders<'_> {
    fn add(&mut self, minute: u32, orders: i64) {
        let of_hour = minute / HOUR_MINUTES;
        let empty = || Hour { orders: 0, minutes: Box::new([0; HOUR_MINUTES as usize]) };
        let hour = self.0.at(of_hour, empty);
        hour.orders += orders;
        hour.minutes[(minute % HOUR_MINUTES) as usize] += orders as i32;
        if hour.minutes.iter().all(|orders| *orders == 0) {
            self.0.remove(&of_hour);
        }
    }

    /// The first minute that may have an alert: four weeks after the first order's hour.
    fn first_watched(&self) -> Option<u32> {
        self.0.first_key_value().map(|(hour, _)| (hour + 4 * WEEK_HOURS) * HOUR_MINUTES)
    }

    /// The orders of the same hour in each of the four weeks before.
    fn weeks_before(&self, hour: u32) -> [i64; 4] {
        [1, 2, 3, 4].map(|week| {
            let before = hour.checked_sub(week * WEEK_HOURS);
            before.and_then(|hour| self.0.get(&hour)).map_or(0, |it| it.orders)
        })
    }

    /// The alert of a minute.
    fn alert(&self, minute: u32) -> Option<Alert> {
        if minute < self.first_watched()? {
            return None;
        }
        let mut orders = 0;
        let mut weeks = [0; 4];
        let first = minute + 1 - WINDOW;
        for of_hour in first / HOUR_MINUTES..=minute / HOUR_MINUTES {
            let start = of_hour * HOUR_MINUTES;
            let from = first.max(start) - start;
            let to = minute.min(start + HOUR_MINUTES - 1) - start;
            if let Some(hour) = self.0.get(&of_hour) {
                let minutes = &hour.minutes[from as usize..=to as usize];
                orders += minutes.iter().copied().map(i64::from).sum::<i64>();
            }
            for (sum, of_week) in weeks.iter_mut().zip(self.weeks_before(of_hour)) {
                *sum += i64::from(to - from + 1) * of_week;
            }
        }
        weeks.sort_unstable();
        Alert::of(Millis::from(minute) * MINUTE, orders, 2 * (weeks[1] + weeks[2]))
    }

    /// Adds the minutes that have orders before, among those of a range: as few steps as hours
    /// with orders, however long the range.
    fn watched(&self, range: Range<u32>, due: &mut RoaringBitmap) {
        if range.is_empty() {
            return;
        }
        let mut hour = (range.start / HOUR_MINUTES).saturating_sub(1);
        let next_after = |hour: u32| {
            let next = |back: u32| self.0.range(hour.saturating_sub(back)..).next();
            let weeks = (1..=4).map(|week| week * WEEK_HOURS);
            weeks.filter_map(|back| next(back).map(|(hour, _)| hour + back)).min()
        };
        while let Some(next) = next_after(hour)
            && next * HOUR_MINUTES < range.end
        {
            let Range { start, end } = compared_with(next);
            due.insert_range(start.max(range.start)..end.min(range.end));
            hour = next + 1;
        }
    }
}

/// The minutes whose ten minutes have one in the hour.
fn compared_with(hour: u32) -> Range<u32> {
    let start = hour * HOUR_MINUTES;
    start..start + HOUR_MINUTES + WINDOW - 1
}

/// The minutes that an order's minute speaks of: those whose ten minutes it is in, and those that
/// it is compared with in the four weeks after.
fn touched(minute: u32) -> impl Iterator<Item = Range<u32>> {
    let after = (1..=4).map(move |week| compared_with(minute / HOUR_MINUTES + week * WEEK_HOURS));
    std::iter::once(minute..minute + WINDOW).chain(after)
}

/// What an epoch brings: orders by minute, and where `now` moves to.
type Arrivals = (Vec<(u32, i64)>, Option<Millis>);

/// The alerts of all minutes that are over, from the orders placed in each minute.
///
/// A minute is judged when it is over, and again when a late order touches it. As a differential
/// query each order would be copied to the 276 minutes that it is compared with, and a minute
/// without orders, which is the one that matters, would have to be made up. One worker does it all:
/// it hears of a minute, not of an order.
///
/// Work: a minute is judged in a dozen look-ups; a late order has 286 minutes judged again, and one
/// before all others those between. A jump of `now` skips hours that have no orders before.
/// State: 256 bytes an hour with orders, for ever, and the alerts.
pub fn alerts<'s>(
    placed: VecCollection<'s, Epoch, Millis, Sums>,
    now: Stream<'s, Epoch, Vec<Millis>>,
    keeper: &Keeper,
) -> Collection<'s, Alert> {
    let scope = placed.inner.scope();
    placed
        .inner
        .binary_frontier::<_, Vecs<(Alert, Epoch, isize)>, _, _, _, _>(
            now,
            Exchange::new(|_| 0),
            Pipeline,
            "alerts",
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let hours = keeper.sorted::<u32, Hour>(|_| 0);
                let alerts = keeper.sorted::<u32, Alert>(|_| 0);
                // The first minute that is not over.
                let open = keeper.sorted::<(), u32>(|()| 0);
                let mut held: Stash<Arrivals> = Stash::new();
                move |(placed, placed_open), (nows, nows_open), output| {
                    let (mut hours, mut alerts) = (hours.borrow_mut(), alerts.borrow_mut());
                    let mut orders = Orders(&mut hours);
                    placed.for_each_stamp(|capability, batches| {
                        for (minute, epoch, sums) in batches.flat_map(|batch| batch.drain(..)) {
                            if sums.orders != 0 {
                                let (arrived, _) = held.at(epoch, || capability.delayed(&epoch, 0));
                                arrived.push(((minute / MINUTE) as u32, sums.orders));
                            }
                        }
                    });
                    nows.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        let (_, to) = held.at(epoch, || capability.delayed(&epoch, 0));
                        *to = batches.flat_map(|batch| batch.drain(..)).max().max(*to);
                    });
                    while let Some((capability, (arrived, to))) = held.pop_closed(|epoch| {
                        placed_open.less_equal(epoch) || nows_open.less_equal(epoch)
                    }) {
                        let epoch = *capability.time();
                        let over = to.map_or(0, |to| (to / MINUTE).max(0) as u32);
                        let mut open = open.borrow_mut();
                        let open = open.at((), || 0);
                        let was_open = std::mem::replace(open, over.max(*open));
                        let mut due = RoaringBitmap::new();
                        let first = orders.first_watched();
                        for (minute, count) in arrived {
                            orders.add(minute, count);
                            for range in touched(minute).take_while(|range| range.start < was_open)
                            {
                                due.insert_range(range.start..range.end.min(was_open));
                            }
                        }
                        if let Some((a, b)) = first.zip(orders.first_watched()) {
                            orders.watched(a.min(b)..a.max(b).min(was_open), &mut due);
                        }
                        orders.watched(was_open..*open, &mut due);

                        let mut session = output.session(&capability);
                        for minute in due {
                            let before = alerts.remove(&minute);
                            let after = orders.alert(minute);
                            _ = after.map(|alert| alerts.at(minute, || alert));
                            for (alert, diff) in delta(before, after) {
                                session.give((alert, epoch, diff));
                            }
                        }
                    }
                    kept.tell(|| orders.0.len() + alerts.len());
                }
            },
        )
        .as_collection()
}
