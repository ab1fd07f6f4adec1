//! Which order events count: of several placings (or cancellations) of one order, the earliest.

use std::collections::hash_map::Entry;

use differential_dataflow::{AsCollection, Hashable};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use crate::model::{
    Category, Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, ProductId, UserId,
};
use crate::operators::{HashMap, Stash, StateSize, Vecs};
use crate::passes::{put, take};
use crate::{Collection, Epoch};

/// How an order is named.
type Name = (UserId, OrderId);

/// The event that counts of each order, placed or cancelled.
#[derive(Default)]
struct Earliest {
    placed: HashMap<Name, Packed>,
    cancelled: HashMap<Name, Packed>,
    packing: Packing,
}

/// What counts, as far as its name does not say it. There is one for each order for ever, so it is
/// packed: a fourth of what it takes as an [`Order`].
struct Packed(Box<[u8]>);

/// What packing and unpacking share.
#[derive(Default)]
struct Packing {
    categories: Vec<Category>,
    numbers: HashMap<Category, u64>,
    bytes: Vec<u8>,
}

impl Packing {
    fn pack(&mut self, event_id: u64, order: &Order) -> Packed {
        let Packing { categories, numbers, bytes } = self;
        bytes.clear();
        for number in [order.at as u64, event_id, (order.at - order.ordered_at) as u64] {
            put(number, bytes);
        }
        for line in &*order.lines {
            let category = *numbers.entry(line.category).or_insert_with(|| {
                categories.push(line.category);
                categories.len() as u64 - 1
            });
            put(category, bytes);
            for number in [line.product_id.0, line.quantity, line.unit_price.0] {
                put(number as u64, bytes);
            }
        }
        Packed(bytes.as_slice().into())
    }

    fn unpack(&self, kind: OrderKind, (user_id, order_id): Name, Packed(bytes): &Packed) -> Order {
        let bytes = &mut &**bytes;
        let (at, _event_id, after) = (take(bytes) as Millis, take(bytes), take(bytes) as Millis);
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            lines.push(Line {
                category: self.categories[take(bytes) as usize],
                product_id: ProductId(take(bytes) as i64),
                quantity: take(bytes) as i64,
                unit_price: Krw(take(bytes) as i64),
            });
        }
        Order { event: kind, order_id, user_id, at, ordered_at: at - after, lines: lines.into() }
    }
}

impl Packed {
    /// By which the earlier of two is found.
    fn stamp(&self) -> (Millis, u64) {
        let bytes = &mut &*self.0;
        (take(bytes) as Millis, take(bytes))
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
/// Work: one look-up an event. State: some 110 bytes an order and cancellation, for ever, since
/// an earlier event may always come.
pub(super) fn counted(
    events: Collection<'_, OrderEvent>,
    hydrated: Epoch,
) -> Collection<'_, Order> {
    let scope = events.inner.scope();
    let by_customer =
        Exchange::new(|(event, _, _): &(OrderEvent, Epoch, isize)| event.order.user_id.hashed());
    events
        .inner
        .unary_frontier::<Vecs<(Order, Epoch, isize)>, _, _, _>(
            by_customer,
            "counted",
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut earliest = Earliest::default();
                let mut held: Stash<Vec<OrderEvent>> = Stash::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        let mut session = output.session(&capability);
                        for (event, epoch, _one) in batches.flat_map(|batch| batch.drain(..)) {
                            if epoch <= hydrated {
                                earliest.enter(event, |order, diff| {
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
                            earliest.enter(event, |order, diff| {
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

impl Earliest {
    fn len(&self) -> usize {
        self.placed.len() + self.cancelled.len()
    }

    /// Takes an event in, and gives what counts from now on (1) and what counts no longer (-1).
    fn enter(
        &mut self,
        OrderEvent { event_id, order }: OrderEvent,
        mut give: impl FnMut(Order, isize),
    ) {
        let Earliest { placed, cancelled, packing } = self;
        let events = match order.event {
            OrderKind::Placed => placed,
            OrderKind::Cancelled => cancelled,
            OrderKind::Refunded => return give(order, 1),
        };
        let name = (order.user_id, order.order_id);
        match events.entry(name) {
            Entry::Vacant(place) => _ = place.insert(packing.pack(event_id, &order)),
            Entry::Occupied(held) if held.get().stamp() < (order.at, event_id) => return,
            Entry::Occupied(mut held) => {
                let beaten = held.insert(packing.pack(event_id, &order));
                give(packing.unpack(order.event, name, &beaten), -1);
            }
        }
        give(order, 1);
    }
}
