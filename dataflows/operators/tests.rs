//! The custom operators against differential's own, over random updates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use differential_dataflow::VecCollection;
use differential_dataflow::input::Input;
use differential_dataflow::operators::CountTotal;
use proptest::prelude::*;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::vec::Input as _;

use super::{Sums, first, sums_by, totals};
use crate::ledger::{Origin, Sourced};
use crate::model::{Line, Order, OrderKind};
use crate::{Collection, Epoch};

/// Changes of a collection, consolidated: by epoch and record.
type Changes<D> = BTreeMap<(Epoch, D), isize>;

/// Runs two dataflows over the same updates, some of them later withdrawn, and gives what each
/// changed at each epoch.
fn changes_of_both<D, O>(
    updates: Vec<(D, Epoch, isize)>,
    workers: usize,
    ours: fn(Collection<'_, D>) -> Collection<'_, O>,
    theirs: fn(Collection<'_, D>) -> Collection<'_, O>,
) -> [Changes<O>; 2]
where
    D: differential_dataflow::ExchangeData + Sync,
    O: differential_dataflow::ExchangeData,
{
    let both: Arc<Mutex<[Changes<O>; 2]>> = Arc::default();
    let seen = Arc::clone(&both);
    timely::execute(timely::Config::process(workers), move |worker| {
        let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
            let (input, updates) = scope.new_collection();
            for (place, output) in [ours(updates.clone()), theirs(updates)].into_iter().enumerate()
            {
                let seen = Arc::clone(&seen);
                output.inspect(move |(record, epoch, diff)| {
                    let changes = &mut seen.lock().unwrap()[place];
                    *changes.entry((*epoch, record.clone())).or_default() += diff;
                });
            }
            input
        });
        for (place, (record, epoch, diff)) in updates.iter().enumerate() {
            if place % worker.peers() == worker.index() {
                input.advance_to(*epoch);
                input.update(record.clone(), *diff);
            }
        }
    })
    .unwrap();
    let mut both = std::mem::take(&mut *both.lock().unwrap());
    for changes in &mut both {
        changes.retain(|_, diff| *diff != 0);
    }
    both
}

/// Updates in the order of their epochs.
fn updates<D: std::fmt::Debug + Clone>(
    record: impl Strategy<Value = D>,
) -> impl Strategy<Value = Vec<(D, Epoch, isize)>> {
    prop::collection::vec((record, 0..6u64, prop_oneof![Just(1isize), Just(-1)]), 0..60).prop_map(
        |mut updates| {
            updates.sort_by_key(|(_, epoch, _)| *epoch);
            updates
        },
    )
}

fn order(kind: OrderKind, user_id: i64, unit_price: i64) -> Order {
    let line = Line { product_id: 1, category: "food".into(), quantity: 2, unit_price };
    Order { kind, order_id: 1, user_id, at: 5, ordered_at: 5, lines: [line].into() }
}

fn sums_of(order: &Order) -> Sums {
    Sums::of(order.kind, order.units(), order.amount())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_those_of_count_total(updates in updates(0..4u64), workers in 1..4usize) {
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |keys| totals(keys, "totals"),
            |keys| keys.count_total(),
        );
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn sums_are_those_of_explode(
        updates in updates((0..3usize, 0..4i64, 0..5i64).prop_map(|(kind, user_id, price)| {
            order(OrderKind::ALL[kind], user_id, price)
        })),
        workers in 1..4usize,
    ) {
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |orders| {
                let sums = sums_by(orders, "sums", |order, add| add(order.user_id, sums_of(order)));
                totals(sums, "totals")
            },
            |orders| {
                let sums: VecCollection<'_, Epoch, i64, Sums> =
                    orders.explode(|order| Some((order.user_id, sums_of(&order))));
                sums.count_total()
            },
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Of the events with one id one is accepted, from the first epoch that has it, and there the
    /// one at the lowest place; the others are duplicates; nothing is lost.
    #[test]
    fn first_accepts_the_first(
        events in prop::collection::vec((0..9u64, 1..4u64, 0..3u32), 0..60),
        workers in 1..4usize,
    ) {
        let mut naive: BTreeMap<u64, (Epoch, u64, u32)> = BTreeMap::new();
        for (offset, (id, epoch, partition)) in events.iter().enumerate() {
            let place = (*epoch, offset as u64, *partition);
            let best = naive.entry(*id).or_insert(place);
            *best = place.min(*best);
        }
        let seen: Arc<Mutex<[Vec<Sourced<u64>>; 2]>> = Arc::default();
        let (told, all) = (Arc::clone(&seen), events.clone());
        timely::execute(timely::Config::process(workers), move |worker| {
            let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
                let (input, stream) = scope.new_input();
                let firsts = first(stream, "first", 0, |id: &u64| (*id != 8).then_some(*id));
                for (place, stream) in [firsts.accepted, firsts.duplicates].into_iter().enumerate() {
                    let told = Arc::clone(&told);
                    stream.inspect(move |event| told.lock().unwrap()[place].push(event.clone()));
                }
                input
            });
            for epoch in 1..4 {
                input.advance_to(epoch);
                for (offset, (id, at, partition)) in all.iter().enumerate() {
                    if *at == epoch && offset % worker.peers() == worker.index() {
                        let origin =
                            Origin { partition: *partition, offset: offset as u64, hash: 0 };
                        input.send(Sourced { origin, event: *id });
                    }
                }
            }
        })
        .unwrap();
        let [accepted, duplicates] = std::mem::take(&mut *seen.lock().unwrap());
        prop_assert_eq!(accepted.len() + duplicates.len(), events.len());
        let without_id = events.iter().filter(|(id, _, _)| *id == 8).count();
        let (free, bound): (Vec<_>, Vec<_>) = accepted.iter().partition(|event| event.event == 8);
        prop_assert_eq!(free.len(), without_id);
        let first: BTreeMap<u64, u64> =
            bound.iter().map(|event| (event.event, event.origin.offset)).collect();
        prop_assert_eq!(first.len(), bound.len());
        naive.remove(&8);
        let expected: BTreeMap<u64, u64> =
            naive.into_iter().map(|(id, (_, offset, _))| (id, offset)).collect();
        prop_assert_eq!(first, expected);
    }
}
