//! The operators around the pass and its buckets: all that knows of frontiers here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Monoid};
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, Operator};

use super::contributions::{Told, plus};
use super::customers::Pass;
use super::{Bucket, Contributed, Parts, Rows};
use crate::Epoch;
use crate::analytics::{Begin, Output, Outputs};
use crate::keeper::Keeper;
use crate::model::{Millis, OrderEvent, UserEvent};
use crate::operators::{HashMap, Stash, StateSize, Sums, Vecs};
use crate::queries::Table;
use crate::row::{Fate, Row};
use crate::slots::worker_of;
use crate::views::Hub;

/// What an epoch brings.
#[derive(Default)]
struct Arrivals {
    orders: Vec<Vec<OrderEvent>>,
    users: Vec<Vec<UserEvent>>,
    /// For each output a capability, and `now`.
    cut: Option<(Vec<Capability<Epoch>>, Millis)>,
}

/// The rows of customers, and at the cuts what parts contribute: a stream for each of `apart`, by their places,
/// and one before them for all others.
///
/// Work: a look-up an event, and what the parts do; at a cut, the customers with an event since the last
/// one, and those for whom time does something. State: see [`super::history`], and some 500 bytes a
/// customer, for ever; and until an epoch is closed its events.
pub(crate) fn customers<'s, P: Parts>(
    orders: Stream<'s, Epoch, Vec<OrderEvent>>,
    users: Stream<'s, Epoch, Vec<UserEvent>>,
    cuts: Stream<'s, Epoch, Vec<Millis>>,
    tables: Vec<Option<Table>>,
    apart: &[usize],
    hub: &Hub,
    begin: &Begin,
) -> (Rows<'s>, Vec<Contributed<'s>>) {
    let (scope, peers) = (orders.scope(), orders.scope().peers());
    let mut builder = OperatorBuilder::new("customers".into(), scope);
    let info = builder.operator_info();
    let by_customer =
        Exchange::new(move |event: &OrderEvent| worker_of(&event.order.user_id, peers));
    let mut orders = builder.new_input(orders, by_customer);
    let by_customer = Exchange::new(move |event: &UserEvent| worker_of(&event.user.user_id, peers));
    let mut users = builder.new_input(users, by_customer);
    let mut cuts = builder.new_input(cuts, Pipeline);
    let (rows_out, rows) = builder.new_output::<Vec<Output>>();
    let mut rows_out = OutputBuilder::<_, Outputs>::from(rows_out);
    let mut contributed = Vec::new();
    let mut outs: Vec<_> = std::iter::repeat_with(|| {
        let (sums_out, sums) = builder.new_output::<Vec<(Bucket, Epoch, Sums)>>();
        let (told_out, told) = builder.new_output::<Told>();
        contributed.push(Contributed { sums: sums.as_collection(), facts: told.as_collection() });
        (
            OutputBuilder::<_, Vecs<(Bucket, Epoch, Sums)>>::from(sums_out),
            OutputBuilder::<_, NoopBuilder<Told>>::from(told_out),
        )
    })
    .take(1 + apart.len())
    .collect();
    // In which stream the contributions of each part are.
    let stream = |part| apart.iter().position(|it| *it == part).map_or(0, |place| place + 1);
    let stream_of: Vec<usize> = (0..tables.len()).map(stream).collect();
    let always = scope.index() == 0;
    // Each worker sends its events in their order; put together, half of them would be late.
    let by_time = scope.peers() > 1;
    let hub = hub.clone();
    builder.build(move |_capabilities| {
        let mut kept = StateSize::by(scope, &info);
        let pass = Rc::new(RefCell::new(Pass::<P>::new(tables, always, begin)));
        begin.keeper.keep(pass.clone());
        let mut held: BTreeMap<Epoch, Arrivals> = BTreeMap::new();
        move |frontiers| {
            let mut pass = pass.borrow_mut();
            orders.for_each(|capability, batch| {
                let epoch = *capability.least().expect("a message has a time");
                held.entry(epoch).or_default().orders.push(std::mem::take(batch));
            });
            users.for_each(|capability, batch| {
                let epoch = *capability.least().expect("a message has a time");
                held.entry(epoch).or_default().users.push(std::mem::take(batch));
            });
            cuts.for_each(|capability, batch| {
                let epoch = *capability.least().expect("a message has a time");
                let of_outs = (0..=2 * outs.len()).filter_map(|out| capability.retain_least(out));
                let cut = batch.iter().copied().max().map(|now| (of_outs.collect(), now));
                held.entry(epoch).or_default().cut = cut;
            });
            while let Some(first) = held.first_entry()
                && !frontiers.iter().any(|frontier| frontier.less_equal(first.key()))
            {
                let (epoch, arrived) = first.remove_entry();
                pass.told.listens(|table| hub.wants(epoch, table));
                arrived.users.into_iter().flatten().for_each(|record| pass.record(record));
                if by_time {
                    let mut events: Vec<_> = arrived.orders.into_iter().flatten().collect();
                    events.sort_unstable_by_key(|it| (it.order.at, it.event_id));
                    pass.apply(&events);
                } else {
                    arrived.orders.into_iter().for_each(|events| pass.apply(&events));
                }
                pass.told.rows().iter().for_each(|rows| hub.rows(epoch, rows));
                let Some((capabilities, now)) = arrived.cut else { continue };
                let mut rows_out = rows_out.activate();
                let mut rows = rows_out.session_with_builder(&capabilities[0]);
                pass.cut(now, |row, fate| rows.give((row, fate)));
                for (part, of_part) in pass.contributions() {
                    let stream = stream_of[part];
                    let (sums_out, told_out) = &mut outs[stream];
                    let [to_sums, to_told] = [1, 2].map(|out| &capabilities[2 * stream + out]);
                    let sums = of_part.drain().map(|(bucket, sums)| (bucket, epoch, sums));
                    sums_out.activate().session(to_sums).give_iterator(sums);
                    let mut told_out = told_out.activate();
                    let mut session = told_out.session_with_builder(to_told);
                    of_part.told(epoch).for_each(|mut told| session.give_container(&mut told));
                }
            }
            kept.tell(|| pass.size());
        }
    });
    (rows, contributed)
}

/// The rows of buckets: each that a cut changed, once.
///
/// Work: a look-up a bucket and cut. State: the sums of each bucket, while there is an event in it.
pub(crate) fn buckets<'s>(
    sums: VecCollection<'s, Epoch, Bucket, Sums>,
    keeper: &Keeper,
    row: impl Fn(&Bucket, &Sums) -> Row + 'static,
) -> Rows<'s> {
    let (scope, peers) = (sums.inner.scope(), sums.inner.scope().peers());
    let by_bucket =
        Exchange::new(move |(bucket, _, _): &(Bucket, Epoch, Sums)| worker_of(bucket, peers));
    sums.inner.unary_frontier::<Outputs, _, _, _>(by_bucket, "buckets", move |_capability, info| {
        let mut kept = StateSize::by(scope, &info);
        let totals = keeper.hashed::<Bucket, Sums>();
        let mut held: Stash<HashMap<Bucket, Sums>> = Stash::new();
        move |(input, frontier), output| {
            let mut totals = totals.borrow_mut();
            input.for_each_stamp(|capability, batches| {
                for (bucket, epoch, sums) in batches.flat_map(|batch| batch.drain(..)) {
                    let held = held.at(epoch, || capability.delayed(&epoch, 0));
                    plus(held.entry(bucket).or_insert_with(Sums::zero), &sums, &bucket);
                }
            });
            while let Some((capability, changes)) =
                held.pop_closed(|epoch| frontier.less_equal(epoch))
            {
                let mut session = output.session_with_builder(&capability);
                for (bucket, change) in changes.into_iter().filter(|(_, it)| !it.is_zero()) {
                    let [before, after] = totals.update(bucket, |total| {
                        let before = total.unwrap_or_else(Sums::zero);
                        let mut after = before;
                        plus(&mut after, &change, &bucket);
                        *total = Some(after).filter(|after| !after.is_zero());
                        [before, after]
                    });
                    let (fate, sums) = match (before.is_zero(), after.is_zero()) {
                        (true, _) => (Fate::New, after),
                        (false, false) => (Fate::Changed, after),
                        (false, true) => (Fate::Gone, before),
                    };
                    let shown = row(&bucket, &sums);
                    // What has changed may be in no row.
                    if fate != Fate::Changed || row(&bucket, &before) != shown {
                        session.give((shown, fate));
                    }
                }
            }
            kept.tell(|| totals.len());
        }
    })
}
