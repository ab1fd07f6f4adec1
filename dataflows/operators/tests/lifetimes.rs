//! What each customer has been to the shop, from their first order to their last.

use differential_dataflow::{AsCollection, Hashable};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use crate::model::time::day_of;
use crate::model::{Krw, Millis, Order, UserId};
use crate::operators::{HashMap, Stash, StateSize, Vecs, delta};
use crate::{Collection, Epoch};

/// A customer's orders, all taken together.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(super) struct Lifetime {
    /// When the first and the last standing order were placed; none when none stands.
    pub(super) first_and_last: Option<(Millis, Millis)>,
    /// Placed less cancelled orders.
    pub(super) orders: i64,
    /// Placed amount less what was taken back.
    pub(super) revenue: Krw,
}

/// What is counted of how a customer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Repurchase {
    /// Has a standing order.
    Buys,
    /// Has more than one.
    BuysAgain,
    /// Let so many calendar days go by between two of them.
    Gap(i32),
}

/// What is known about a customer's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum CustomerFact {
    /// All of them taken together.
    Lifetime(Lifetime),
    /// One step of them; as many times as there are such steps.
    Repurchase(Repurchase),
}

/// What one record says of its customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Entry {
    /// A ledger entry.
    Event { orders: i64, revenue: Krw },
    /// An order of that instant stands.
    Stands(Millis),
}

/// The sums over a customer's ledger entries.
#[derive(Clone, Copy, Default)]
struct Ledger {
    events: isize,
    orders: i64,
    revenue: Krw,
}

/// What changes of a customer in an epoch.
#[derive(Default)]
struct Change {
    ledger: Ledger,
    stands: Vec<(Millis, isize)>,
}

/// A customer as the operator keeps them.
#[derive(Default)]
struct Customer {
    ledger: Ledger,
    /// When the standing orders were placed, sorted.
    stands: Vec<Millis>,
}

impl Customer {
    /// A customer without an order event has no lifetime.
    fn lifetime(&self) -> Option<Lifetime> {
        let first_and_last = self.stands.first().copied().zip(self.stands.last().copied());
        let Ledger { events, orders, revenue } = self.ledger;
        (events != 0).then_some(Lifetime { first_and_last, orders, revenue })
    }

    /// Takes in what changed, and gives the habits that come and go with it.
    fn apply(&mut self, mut change: Change, mut give: impl FnMut(Repurchase, isize)) {
        self.ledger.events += change.ledger.events;
        self.ledger.orders += change.ledger.orders;
        self.ledger.revenue += change.ledger.revenue;
        // What comes and goes in one epoch comes in any order.
        differential_dataflow::consolidation::consolidate(&mut change.stands);
        let before = self.stands.len();
        for (at, diff) in change.stands {
            // Most orders belong at or near the end.
            let place = self.stands.partition_point(|stands| *stands < at);
            let gone = place + (-diff).max(0) as usize;
            let come = place + diff.max(0) as usize;
            self.gaps(place, gone, |gap| give(gap, -1));
            self.stands.splice(place..gone, std::iter::repeat_n(at, come - place));
            self.gaps(place, come, |gap| give(gap, 1));
        }
        for (habit, orders) in [(Repurchase::Buys, 1), (Repurchase::BuysAgain, 2)] {
            let diff = isize::from(self.stands.len() >= orders) - isize::from(before >= orders);
            if diff != 0 {
                give(habit, diff);
            }
        }
    }

    /// The gaps around and between the orders at the places `from` to before `to`.
    fn gaps(&self, from: usize, to: usize, give: impl FnMut(Repurchase)) {
        let around = &self.stands[from.saturating_sub(1)..self.stands.len().min(to + 1)];
        let days = |pair: &[Millis]| Repurchase::Gap(day_of(pair[1]) - day_of(pair[0]));
        around.windows(2).map(days).for_each(give);
    }
}

/// Each customer's lifetime and habits, from all order events and the (customer, instant) of the
/// standing orders among the placed ones.
///
/// A `reduce` would walk a customer's whole history at each of their orders: the more they buy,
/// the dearer (measured: a minimum by `reduce` costs 1.5 CPU seconds a million orders). Sums and a
/// sorted list need only what changed.
///
/// Work: a look-up and an insertion near the end of a list for each event. State: sums for each
/// customer, and 8 bytes for each standing order, for ever.
pub(super) fn lifetimes<'s>(
    orders: Collection<'s, Order>,
    live_orders: Collection<'s, (UserId, Millis)>,
) -> Collection<'s, (UserId, CustomerFact)> {
    let scope = orders.inner.scope();
    let events = orders.map(|order| {
        let (orders, revenue) = (order.event.orders(), order.amount() * order.event.sign());
        (order.user_id, Entry::Event { orders, revenue })
    });
    let stands = live_orders.map(|(user_id, at)| (user_id, Entry::Stands(at)));
    let by_user =
        Exchange::new(|((user_id, _), _, _): &((UserId, Entry), Epoch, isize)| user_id.hashed());
    events
        .concat(stands)
        .inner
        .unary_frontier::<Vecs<((UserId, CustomerFact), Epoch, isize)>, _, _, _>(
            by_user,
            "lifetimes",
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut customers: HashMap<UserId, Customer> = HashMap::default();
                let mut stands = 0;
                let mut held: Stash<HashMap<UserId, Change>> = Stash::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        for ((user_id, entry), epoch, diff) in
                            batches.flat_map(|batch| batch.drain(..))
                        {
                            let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                            let change = changes.entry(user_id).or_default();
                            match entry {
                                Entry::Event { orders, revenue } => {
                                    change.ledger.events += diff;
                                    change.ledger.orders += orders * diff as i64;
                                    change.ledger.revenue += revenue * diff as i64;
                                }
                                Entry::Stands(at) => change.stands.push((at, diff)),
                            }
                        }
                    });
                    while let Some((capability, changes)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        for (user_id, change) in changes {
                            let customer = customers.entry(user_id).or_default();
                            let before = customer.lifetime();
                            stands -= customer.stands.len();
                            customer.apply(change, |habit, diff| {
                                session.give((
                                    (user_id, CustomerFact::Repurchase(habit)),
                                    epoch,
                                    diff,
                                ));
                            });
                            stands += customer.stands.len();
                            for (lifetime, diff) in delta(before, customer.lifetime()) {
                                session.give((
                                    (user_id, CustomerFact::Lifetime(lifetime)),
                                    epoch,
                                    diff,
                                ));
                            }
                            if customer.ledger.events == 0 && customer.stands.is_empty() {
                                customers.remove(&user_id);
                            }
                        }
                    }
                    kept.tell(|| customers.len() + stands);
                }
            },
        )
        .as_collection()
}
