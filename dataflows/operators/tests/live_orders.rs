//! The orders that stand.

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::{AsCollection, Hashable};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::Map;

use crate::model::{Millis, Order, OrderId, OrderKind, UserId};
use crate::operators::{HashMap, Stash, StateSize, Vecs};
use crate::{Collection, Epoch};

/// Whose an order is, and when it was placed.
type Placed = (UserId, Millis);

/// An order's name.
type Name = (UserId, OrderId);

/// A placing of an order, or else a cancellation.
type Update = ((Name, Option<Millis>), Epoch, isize);

/// When orders were placed.
#[derive(Default)]
struct Orders {
    /// Of an order that was placed once: as all are that come from the log.
    once: HashMap<Name, Millis>,
    /// Of any other, as one between two events of an epoch.
    more: HashMap<Name, Vec<(Millis, isize)>>,
}

impl Orders {
    fn add(&mut self, order: Name, at: Millis, diff: isize) {
        let mut all = self.more.remove(&order).unwrap_or_default();
        all.extend(self.once.remove(&order).map(|once| (once, 1)));
        all.push((at, diff));
        consolidate(&mut all);
        match all[..] {
            [] => {}
            [(at, 1)] => _ = self.once.insert(order, at),
            _ => _ = self.more.insert(order, all),
        }
    }

    fn of(&self, order: Name) -> impl Iterator<Item = (Millis, isize)> {
        let once = self.once.get(&order).map(|at| (*at, 1));
        once.into_iter().chain(self.more.get(&order).into_iter().flatten().copied())
    }
}

/// The orders that were placed and that no cancellation of their customer names, as (customer, when).
///
/// An `antijoin` says the same at several times the cost: of two arrangements, and of their merges.
///
/// Work: an order and its cancellation are each looked up once. State: every placed order, for
/// ever, since a cancellation may always come, and every cancellation, since its order may.
pub(super) fn live_orders(orders: Collection<'_, Order>) -> Collection<'_, Placed> {
    let scope = orders.inner.scope();
    let updates = orders.inner.flat_map(|(order, epoch, diff)| {
        let what = match order.event {
            OrderKind::Placed => Some(order.ordered_at),
            OrderKind::Cancelled => None,
            OrderKind::Refunded => return None,
        };
        Some((((order.user_id, order.order_id), what), epoch, diff))
    });
    let by_customer = Exchange::new(|(((user_id, _), _), _, _): &Update| user_id.hashed());
    updates
        .unary_frontier::<Vecs<(Placed, Epoch, isize)>, _, _, _>(
            by_customer,
            "standing orders",
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut orders = Orders::default();
                let mut cancelled: HashMap<Name, isize> = HashMap::default();
                let mut held: Stash<Vec<Update>> = Stash::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        for update in batches.flat_map(|batch| batch.drain(..)) {
                            held.at(update.1, || capability.delayed(&update.1, 0)).push(update);
                        }
                    });
                    while let Some((capability, updates)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        let mut session = output.session(&capability);
                        for ((order, what), epoch, diff) in updates {
                            let cancellations = cancelled.get(&order).copied().unwrap_or(0);
                            if let Some(at) = what {
                                orders.add(order, at, diff);
                                if cancellations == 0 {
                                    session.give(((order.0, at), epoch, diff));
                                }
                                continue;
                            }
                            match cancellations + diff {
                                0 => _ = cancelled.remove(&order),
                                after => _ = cancelled.insert(order, after),
                            }
                            // Stands again, falls, or stays fallen.
                            let stands = isize::from(cancellations + diff == 0)
                                - isize::from(cancellations == 0);
                            for (at, count) in orders.of(order).filter(|_| stands != 0) {
                                session.give(((order.0, at), epoch, stands * count));
                            }
                        }
                    }
                    kept.tell(|| orders.once.len() + orders.more.len() + cancelled.len());
                }
            },
        )
        .as_collection()
}
