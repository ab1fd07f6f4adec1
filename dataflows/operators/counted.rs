//! Which order events count: of several placings (or cancellations) of one order, the earliest.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use differential_dataflow::{AsCollection, Hashable};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Held, Kept, Vecs};
use crate::model::{Line, Millis, Order, OrderEvent, OrderId, OrderKind, UserId};
use crate::{Collection, Epoch};

/// What an order has but once: an order is named by customer and number.
type Once = (UserId, OrderId, OrderKind);

/// What counts of it, as far as its name does not say it.
struct Earliest {
    at: Millis,
    event_id: u64,
    ordered_at: Millis,
    lines: Arc<[Line]>,
}

impl Earliest {
    fn order(&self, (user_id, order_id, kind): Once) -> Order {
        let Earliest { at, ordered_at, .. } = *self;
        Order { event: kind, order_id, user_id, at, ordered_at, lines: Arc::clone(&self.lines) }
    }
}

/// The order events that count: every refund, and of the placed and of the cancelled events of one
/// order the one with the least `at`, then `event_id`. One that comes later and is earlier takes
/// back the one that counted, lines and all.
///
/// `reduce` says the same. It would keep every event in two arrangements and merge them again and
/// again; this keeps the winner alone, which is enough because a ledger only grows.
///
/// Events of epochs up to `hydrated` come from the ledger, all in one epoch: they pass at once, so
/// that a restart does not gather them all.
///
/// Work: one look-up an event. State: some 80 bytes an order and cancellation beside its lines, for
/// ever, since an earlier event may always come.
pub fn counted(events: Collection<'_, OrderEvent>, hydrated: Epoch) -> Collection<'_, Order> {
    let scope = events.inner.scope();
    let by_customer =
        Exchange::new(|(event, _, _): &(OrderEvent, Epoch, isize)| event.order.user_id.hashed());
    events
        .inner
        .unary_frontier::<Vecs<(Order, Epoch, isize)>, _, _, _>(
            by_customer,
            "counted",
            |_capability, info| {
                let mut kept = Kept::by(scope, &info);
                let mut earliest: HashMap<Once, Earliest> = HashMap::default();
                let mut held: Held<Vec<OrderEvent>> = Held::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        let mut session = output.session(&capability);
                        for (event, epoch, _one) in batches.flat_map(|batch| batch.drain(..)) {
                            if epoch <= hydrated {
                                enter(&mut earliest, event, |order, diff| {
                                    session.give((order, epoch, diff));
                                });
                            } else {
                                held.at(epoch, || capability.delayed(&epoch, 0)).push(event);
                            }
                        }
                    });
                    while let Some((capability, events)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        for event in events {
                            enter(&mut earliest, event, |order, diff| {
                                session.give((order, epoch, diff));
                            });
                        }
                    }
                    kept.tell(|| earliest.len());
                }
            },
        )
        .as_collection()
}

/// Takes an event in, and gives what counts from now on (1) and what counts no longer (-1).
fn enter(
    earliest: &mut HashMap<Once, Earliest>,
    OrderEvent { event_id, order }: OrderEvent,
    mut give: impl FnMut(Order, isize),
) {
    if order.event == OrderKind::Refunded {
        give(order, 1);
        return;
    }
    let once = (order.user_id, order.order_id, order.event);
    let Order { at, ordered_at, .. } = order;
    let event = Earliest { at, event_id, ordered_at, lines: Arc::clone(&order.lines) };
    match earliest.entry(once) {
        Entry::Vacant(place) => _ = place.insert(event),
        Entry::Occupied(held) if (held.get().at, held.get().event_id) < (at, event_id) => return,
        Entry::Occupied(mut held) => give(held.insert(event).order(once), -1),
    }
    give(order, 1);
}
