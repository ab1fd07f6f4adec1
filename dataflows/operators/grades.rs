//! Every customer's grade, moved on by `now`.

use std::collections::BTreeMap;

use differential_dataflow::{AsCollection, Hashable};
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;

use super::grade_timeline::{Change, Grade, GradeTimeline, Standing, tick_until};
use super::{HashMap, Stash, StateSize, Vecs, delta};
use crate::model::{Krw, Millis, Order, UserId};
use crate::{Collection, Epoch};

/// A ledger entry as grades see it, or a customer's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Whose.
    pub user_id: UserId,
    /// From when it counts.
    pub at: Millis,
    /// It counts until six calendar months later.
    pub ordered_at: Millis,
    /// 1, 0 or -1.
    pub orders: i64,
    /// Placed, or less than nothing where taken back.
    pub amount: Krw,
    /// 1 for a customer's record, whose other fields are 0.
    pub known: isize,
}

impl Entry {
    /// What an order event enters.
    pub fn of(order: &Order) -> Entry {
        Entry {
            user_id: order.user_id,
            at: order.at,
            ordered_at: order.ordered_at,
            orders: order.event.orders(),
            amount: order.amount() * order.event.sign(),
            known: 0,
        }
    }

    /// What a customer's record enters.
    pub fn known(user_id: UserId) -> Entry {
        Entry { user_id, at: 0, ordered_at: 0, orders: 0, amount: Krw(0), known: 1 }
    }
}

/// What is known about a customer's grade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Graded {
    /// Where the customer stands at the last tick up to `now`.
    Standing(Standing),
    /// The grade of that standing.
    Grade(Grade),
    /// A change of grade at a tick up to `now`.
    Change(Change),
}

/// What an epoch brings.
#[derive(Default)]
struct Arrivals {
    entries: Vec<(Entry, isize)>,
    now: Option<Millis>,
}

/// A customer as the operator keeps them.
#[derive(Default)]
struct Customer {
    timeline: GradeTimeline,
    /// Records and ledger entries.
    entries: isize,
    /// Records; a customer without one is not graded.
    known: isize,
    /// The calendar's entry for this customer, if any.
    wakes: Option<u32>,
}

impl Customer {
    fn standing(&self) -> Option<Standing> {
        (self.known != 0).then(|| self.timeline.standing())
    }

    fn changes(&self) -> &[Change] {
        if self.known == 0 { &[] } else { self.timeline.changes() }
    }

    /// The customer and the steps of their totals, as records kept.
    fn records(&self) -> usize {
        if self.entries == 0 { 0 } else { 1 + self.timeline.steps() }
    }

    /// The tick at which to look at this customer again, unless the calendar has it already.
    fn wake_after(&mut self, tick: u32) -> Option<u32> {
        let due = self.timeline.due()?;
        if self.wakes.is_some_and(|wakes| tick < wakes && wakes <= due) {
            return None;
        }
        self.wakes = Some(due);
        Some(due)
    }
}

/// What the output says of a customer before an epoch.
struct Before {
    records: usize,
    standing: Option<Standing>,
    /// How many changes of grade there were.
    changes: usize,
    /// They themselves, where those that hold may be others.
    rewound: Option<Vec<Change>>,
}

impl Before {
    fn of(customer: &Customer) -> Before {
        Before {
            records: customer.records(),
            standing: customer.standing(),
            changes: customer.changes().len(),
            rewound: None,
        }
    }

    /// Gives what has to go and what has to come for the output to say what holds now.
    fn compare(self, customer: &Customer, mut give: impl FnMut(Graded, isize)) {
        let standing = customer.standing();
        let grade = |standing: Standing| standing.grade;
        for (grade, diff) in delta(self.standing.map(grade), standing.map(grade)) {
            give(Graded::Grade(grade), diff);
        }
        for (standing, diff) in delta(self.standing, standing) {
            give(Graded::Standing(standing), diff);
        }
        let after = customer.changes();
        let before = match &self.rewound {
            Some(before) => &before[..],
            None => &after[..self.changes.min(after.len())],
        };
        let same = before.iter().zip(after).take_while(|(before, after)| before == after).count();
        let gone = before[same..].iter().map(|change| (change, -1));
        for (change, diff) in gone.chain(after[same..].iter().map(|change| (change, 1))) {
            give(Graded::Change(*change), diff);
        }
    }
}

/// The standing, the grade and its changes of every customer with a record, as of the last tick up
/// to `now`.
///
/// As differential timestamps, six months of future retractions would be walked at every advance
/// of the frontier, and a `reduce` over each customer's history costs ten times as much (measured:
/// 0.5 against 4 to 5 million orders a CPU second). So this is a calendar operator: it keeps, by
/// tick, whose totals change when, and touches a customer only then.
///
/// Work: a few look-ups an entry when it comes and when it expires; an entry for a tick that is
/// past replays that one customer. State: two steps of 16 bytes an entry, for ever, since an entry
/// may always come late.
pub fn grades<'s>(
    entries: Collection<'s, Entry>,
    now: Stream<'s, Epoch, Vec<Millis>>,
) -> Collection<'s, (UserId, Graded)> {
    let scope = entries.inner.scope();
    let by_user = Exchange::new(|(entry, _, _): &(Entry, Epoch, isize)| entry.user_id.hashed());
    entries
        .inner
        .binary_frontier::<_, Vecs<((UserId, Graded), Epoch, isize)>, _, _, _, _>(
            now,
            by_user,
            Pipeline,
            "grades",
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut customers: HashMap<UserId, Customer> = HashMap::default();
                let mut records = 0;
                let mut calendar: BTreeMap<u32, Vec<UserId>> = BTreeMap::new();
                let mut tick = 0;
                let mut held: Stash<Arrivals> = Stash::new();
                move |(entries, entries_open), (now, now_open), output| {
                    entries.for_each_stamp(|capability, batches| {
                        for (entry, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                            let arrivals = held.at(epoch, || capability.delayed(&epoch, 0));
                            arrivals.entries.push((entry, diff));
                        }
                    });
                    now.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        let arrivals = held.at(epoch, || capability.delayed(&epoch, 0));
                        arrivals.now = batches.flat_map(|batch| batch.drain(..)).max();
                    });
                    while let Some((capability, arrivals)) = held.pop_closed(|epoch| {
                        entries_open.less_equal(epoch) || now_open.less_equal(epoch)
                    }) {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        let mut touched: HashMap<UserId, Before> = HashMap::default();
                        for (entry, diff) in arrivals.entries {
                            let customer = customers.entry(entry.user_id).or_default();
                            let before = touched
                                .entry(entry.user_id)
                                .or_insert_with(|| Before::of(customer));
                            if entry.known != 0 || customer.timeline.rewinds(entry.at) {
                                let changes = || customer.changes().to_vec();
                                before.rewound.get_or_insert_with(changes);
                            }
                            customer.entries += diff;
                            customer.known += entry.known * diff;
                            customer.timeline.add(
                                entry.at,
                                entry.ordered_at,
                                entry.orders * diff as i64,
                                entry.amount * diff as i64,
                            );
                        }
                        tick = arrivals.now.map_or(tick, |now| tick_until(now).max(tick));
                        while let Some(due) = calendar.first_entry() {
                            if *due.key() > tick {
                                break;
                            }
                            for user_id in due.remove() {
                                if let Some(customer) = customers.get(&user_id) {
                                    touched.entry(user_id).or_insert_with(|| Before::of(customer));
                                }
                            }
                        }
                        for (user_id, before) in touched {
                            let Some(customer) = customers.get_mut(&user_id) else { continue };
                            customer.timeline.advance(tick);
                            records = records + customer.records() - before.records;
                            before.compare(customer, |graded, diff| {
                                session.give(((user_id, graded), epoch, diff));
                            });
                            if let Some(due) = customer.wake_after(tick) {
                                calendar.entry(due).or_default().push(user_id);
                            }
                            if customer.entries == 0 {
                                customers.remove(&user_id);
                            }
                        }
                    }
                    kept.tell(|| records);
                }
            },
        )
        .as_collection()
}
