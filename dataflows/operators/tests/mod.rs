//! The custom operators against differential's own, over random updates.

mod alerts;
mod counted;
mod impacts;
mod lifetimes;
mod live_orders;

use counted::counted;
use lifetimes::{CustomerFact, Lifetime, Repurchase, lifetimes};
use live_orders::live_orders;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use differential_dataflow::input::Input;
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use proptest::prelude::*;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::{Broadcast, Input as _};
use timely::dataflow::operators::{Inspect, Operator};

use super::{
    Grade, Ranked, Sold, Sums, TOP_K, at_cuts, deduplicate, earliest, latest_by_key, left_join,
    lookup_join, sliding_windows, top_k, totals,
};
use crate::analytics::Output;
use crate::analytics::story::Kept;
use crate::keeper::Keeper;
use crate::ledger::{Origin, Sourced};
use crate::model::time::{HOUR, day_of};
use crate::model::{
    Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, ProductId, ScenarioAction,
    ScenarioEvent, Strength, UserId,
};
use crate::operators::Vecs;
use crate::passes::Rows;
use crate::row::{Cell, Row};
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
    let line = Line {
        product_id: ProductId(1),
        category: "food".into(),
        quantity: 2,
        unit_price: Krw(unit_price),
    };
    Order {
        event: kind,
        order_id: OrderId(1),
        user_id: UserId(user_id),
        at: 5,
        ordered_at: 5,
        lines: [line].into(),
    }
}

/// Order events of few orders and customers; some are withdrawn later.
fn order_events() -> impl Strategy<Value = Vec<(Order, Epoch, isize)>> {
    let event = (0..3usize, 0..6i64, 0..3i64, 0..9i64).prop_map(|(kind, order_id, user_id, at)| {
        let at = at * 10 * HOUR;
        Order {
            order_id: OrderId(order_id),
            at,
            ordered_at: at,
            ..order(OrderKind::ALL[kind], user_id, 7)
        }
    });
    let stays = prop::option::of(1..4u64);
    prop::collection::vec((event, 0..6u64, stays), 0..30).prop_map(|events| {
        let mut updates = Vec::new();
        for (order, comes, stays) in events {
            updates.extend(stays.map(|stays| (order.clone(), comes + stays, -1)));
            updates.push((order, comes, 1));
        }
        updates.sort_by_key(|(_, epoch, _)| *epoch);
        updates
    })
}

/// The rule to the letter: every order with all its events, every customer with all of theirs.
fn naive_lifetimes(orders: Collection<'_, Order>) -> Collection<'_, (UserId, CustomerFact)> {
    let standing = orders.clone().map(|order| ((order.user_id, order.order_id), order)).reduce(
        |_order, events, standing| {
            if events.iter().all(|(event, _)| event.event != OrderKind::Cancelled) {
                let placed = events.iter().filter(|(event, _)| event.event == OrderKind::Placed);
                standing.extend(placed.map(|(event, count)| (Order::clone(event), *count)));
            }
        },
    );
    let events = orders.map(|order| (order.user_id, (false, order)));
    let stands = standing.map(|(_order, order)| (order.user_id, (true, order)));
    events.concat(stands).reduce(|_user_id, entries, lived| {
        let mut sums = Lifetime::default();
        let mut stand: Vec<Millis> = Vec::new();
        for ((stands, order), count) in entries {
            let count = *count as i64;
            match (stands, order.event) {
                (true, _) => stand.extend((0..count).map(|_| order.ordered_at)),
                (false, OrderKind::Placed) => {
                    sums.orders += count;
                    sums.revenue += order.amount() * count;
                }
                (false, OrderKind::Cancelled) => {
                    sums.orders -= count;
                    sums.revenue -= order.amount() * count;
                }
                (false, OrderKind::Refunded) => sums.revenue -= order.amount() * count,
            }
        }
        stand.sort_unstable();
        sums.first_and_last = stand.first().copied().zip(stand.last().copied());
        let mut habits: BTreeMap<Repurchase, isize> = BTreeMap::new();
        for pair in stand.windows(2) {
            *habits.entry(Repurchase::Gap(day_of(pair[1]) - day_of(pair[0]))).or_default() += 1;
        }
        habits.extend((!stand.is_empty()).then_some((Repurchase::Buys, 1)));
        habits.extend((stand.len() > 1).then_some((Repurchase::BuysAgain, 1)));
        lived.push((CustomerFact::Lifetime(sums), 1));
        lived.extend(
            habits.into_iter().map(|(habit, count)| (CustomerFact::Repurchase(habit), count)),
        );
    })
}

/// A fact about a key, or the key's record.
type FactOrRecord = (i64, Result<i64, i64>);

type OfKeys<'s> = Collection<'s, (i64, i64)>;

/// Facts, and the greatest record of each key.
fn facts_and_records(both: Collection<'_, FactOrRecord>) -> (OfKeys<'_>, OfKeys<'_>) {
    let facts = both.clone().flat_map(|(key, it)| it.ok().map(|fact| (key, fact)));
    let records = both.flat_map(|(key, it)| it.err().map(|record| (key, record)));
    let greatest = records.reduce(|_key, records, greatest| {
        let record = records.iter().filter(|(_, count)| *count > 0).map(|(record, _)| **record);
        greatest.extend(record.max().map(|record| (record, 1)));
    });
    (facts, greatest)
}

/// Where the record of its key puts a fact: nowhere, if it is the greater.
fn bucket(record: i64, fact: i64) -> Option<i64> {
    (fact <= record).then_some(10 * record + fact)
}

/// A row of both sides of a key, if there is a left one.
fn row(key: i64, left: i64, right: Option<i64>) -> Row {
    let right = right.map_or(Cell::Null, Cell::Int);
    Row::new(0, &[Cell::Int(key)], &[Cell::Int(left), right])
}

/// The greatest record of each side, and what a reduction over both makes of them.
fn naive_side_by_side(both: Collection<'_, FactOrRecord>) -> Collection<'_, Row> {
    let rows = greatest_of_sides(both).reduce(|key, sides, rows| {
        let left = sides.iter().find_map(|(side, _)| side.ok());
        let right = sides.iter().find_map(|(side, _)| side.err());
        rows.extend(left.map(|left| (row(*key, left, right), 1)));
    });
    rows.map(|(_key, row)| row)
}

/// What a table of changed rows holds, as a collection: a row is new where its key had none, and only then.
fn kept(rows: Rows<'_>) -> Collection<'_, Row> {
    let changes = rows.unary::<Vecs<(Row, Epoch, isize)>, _, _, _>(Pipeline, "kept", |_, _| {
        let mut table = Kept::default();
        move |input, output| {
            input.for_each_stamp(|capability, batches| {
                let epoch = *capability.least().unwrap();
                let mut session = output.session(&capability);
                for changed in batches.flat_map(|batch| batch.drain(..)) {
                    let Output::Rows(rows) = changed else { panic!("{changed:?}") };
                    for row in rows.iter() {
                        for (row, diff) in table.apply(&row.to_row(), row.fate) {
                            session.give((row, epoch, diff));
                        }
                    }
                }
            });
        }
    });
    changes.as_collection()
}

fn greatest_of_sides(both: Collection<'_, FactOrRecord>) -> Collection<'_, FactOrRecord> {
    both.map(|(key, it)| ((key, it.is_ok()), it))
        .reduce(|_key, records, greatest| {
            let record = records.iter().filter(|(_, count)| *count > 0).map(|(it, _)| **it);
            greatest.extend(record.max().map(|record| (record, 1)));
        })
        .map(|((key, _), it)| (key, it))
}

/// The first of each group by a reduction over all of it.
fn naive_leaders(
    sold: Collection<'_, ((usize, i64), (u8, u8))>,
) -> Collection<'_, (usize, (usize, Ranked))> {
    sold.map(|((group, product_id), sold)| (group, (product_id, sold))).reduce(
        |_group, sold, places| {
            let mut sums: BTreeMap<i64, Sold> = BTreeMap::new();
            for ((product_id, (units, revenue)), count) in sold {
                let sum = sums.entry(*product_id).or_default();
                sum.0 += isize::from(*units) * count;
                sum.1 += isize::from(*revenue) * count;
            }
            let mut ranked: Vec<Ranked> = sums
                .into_iter()
                .filter(|(_, sold)| *sold != (0, 0))
                .map(|(product_id, (units, revenue))| {
                    (Reverse(units), Reverse(revenue), ProductId(product_id))
                })
                .collect();
            ranked.sort_unstable();
            places.extend(ranked.into_iter().take(TOP_K).zip(1..).map(|(it, n)| ((n, it), 1)));
        },
    )
}

/// Spans that share a queue, in no order.
const SPANS: [Millis; 3] = [10, 1, 25];

/// Epochs: records with their differences, and where `now` moves to.
type Moves<D> = Vec<(Vec<(D, isize)>, Option<Millis>)>;

/// A dataflow of records and `now`.
type Build<D, O> =
    for<'s> fn(Collection<'s, D>, Stream<'s, Epoch, Vec<Millis>>) -> Collection<'s, O>;

/// What a dataflow's output holds at the end of each epoch.
fn held<D, O>(moves: Moves<D>, workers: usize, build: Build<D, O>) -> Changes<O>
where
    D: differential_dataflow::ExchangeData + Sync,
    O: differential_dataflow::ExchangeData,
{
    let held: Arc<Mutex<Changes<O>>> = Arc::default();
    let (told, epochs) = (Arc::clone(&held), moves.len() as Epoch);
    timely::execute(timely::Config::process(workers), move |worker| {
        let (mut records, mut nows) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (records, updates) = scope.new_collection();
            let (nows, now) = scope.new_input();
            let told = Arc::clone(&told);
            build(updates, now.broadcast()).inspect(move |(record, from, diff)| {
                let mut held = told.lock().unwrap();
                for epoch in *from..epochs {
                    *held.entry((epoch, record.clone())).or_default() += diff;
                }
            });
            (records, nows)
        });
        for (epoch, (arrived, now)) in moves.iter().enumerate() {
            records.advance_to(epoch as Epoch);
            nows.advance_to(epoch as Epoch);
            for (place, (record, diff)) in arrived.iter().enumerate() {
                if place % worker.peers() == worker.index() {
                    records.update(record.clone(), *diff);
                }
            }
            if let Some(now) = now.filter(|_| worker.index() == 0) {
                nows.send(now);
            }
        }
    })
    .unwrap();
    let mut held = std::mem::take(&mut *held.lock().unwrap());
    held.retain(|_, count| *count != 0);
    held
}

/// The epochs so far, each with all records up to its end and the greatest `now`, if there is one.
fn so_far<D: Clone + Ord>(
    moves: &Moves<D>,
) -> impl Iterator<Item = (Epoch, Vec<(D, isize)>, Option<Millis>)> {
    (0..moves.len()).map(|epoch| {
        let so_far = &moves[..=epoch];
        let mut records = so_far.iter().flat_map(|(arrived, _)| arrived.clone()).collect();
        differential_dataflow::consolidation::consolidate(&mut records);
        (epoch as Epoch, records, so_far.iter().filter_map(|(_, now)| *now).max())
    })
}

/// Epochs whose records may be withdrawn in a later one; `steps` are how far `now` moves, from
/// `begin` on.
fn moves<D: std::fmt::Debug + Clone>(
    record: impl Strategy<Value = (D, isize)>,
    begin: Millis,
    steps: impl Strategy<Value = Millis>,
) -> impl Strategy<Value = Moves<D>> {
    let stays = prop::option::weighted(0.2, 1..4usize);
    let epoch = (prop::collection::vec((record, stays), 0..9), prop::option::weighted(0.7, steps));
    prop::collection::vec(epoch, 1..14).prop_map(move |epochs| {
        let mut now = begin;
        let mut moves: Moves<D> = epochs
            .iter()
            .map(|(_, step)| {
                now += step.unwrap_or(0);
                (Vec::new(), step.map(|_| now))
            })
            .collect();
        for (comes, (records, _)) in epochs.into_iter().enumerate() {
            for ((record, diff), stays) in records {
                if let Some((epoch, _)) = stays.and_then(|stays| moves.get_mut(comes + stays)) {
                    epoch.push((record.clone(), -diff));
                }
                moves[comes].0.push((record, diff));
            }
        }
        moves
    })
}

/// The same by the letter: at the end of each epoch, every record so far against every span.
fn naive_within_spans(moves: &Moves<(u8, Millis)>) -> Changes<(usize, u8)> {
    let mut held = Changes::new();
    for (epoch, records, now) in so_far(moves) {
        let Some(now) = now else { continue };
        for ((record, at), diff) in records {
            for (place, span) in SPANS.iter().enumerate() {
                if now - span < at && at <= now {
                    *held.entry((epoch, (place, record))).or_default() += diff;
                }
            }
        }
    }
    held.retain(|_, count| *count != 0);
    held
}

/// A customer's six months as the events enter them: orders and amount, both marks at their edges.
#[test]
fn a_grade_needs_its_orders_and_its_amount_and_loses_what_is_taken_back() {
    let six_months = |events: &[(OrderKind, i64)]| {
        let effect = |(kind, won): &(OrderKind, i64)| {
            (kind.orders(), order(*kind, 1, *won).amount() * kind.sign())
        };
        let sum = |(a, b), (orders, amount)| (a + orders, b + amount);
        events.iter().map(effect).fold((0, Krw(0)), sum)
    };
    let grade = |events: &[(OrderKind, i64)]| {
        let (orders, amount) = six_months(events);
        Grade::of(orders, amount)
    };
    // Two pieces an order.
    let mut events = vec![(OrderKind::Placed, 50_000); 5];
    assert_eq!(grade(&events), Grade::Silver);
    events.push((OrderKind::Refunded, 1));
    assert_eq!(grade(&events), Grade::Bronze, "499,998 won");
    let mut events = vec![(OrderKind::Placed, 100_000); 5];
    events.push((OrderKind::Cancelled, 100_000));
    assert_eq!(six_months(&events), (4, Krw(800_000)));
    assert_eq!(grade(&events), Grade::Bronze, "four orders");
    for (grade, orders, amount) in
        [(Grade::Silver, 5, 500_000), (Grade::Gold, 15, 2_000_000), (Grade::Vip, 30, 5_000_000)]
    {
        assert_eq!(Grade::of(orders, Krw(amount)), grade);
        assert!(Grade::of(orders - 1, Krw(9_000_000)) < grade);
        assert!(Grade::of(90, Krw(amount - 1)) < grade);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_those_of_count_total(updates in updates(0..4u64), workers in 1..4usize) {
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |keys| totals(keys, "totals", &Keeper::default()),
            |keys| keys.count_total(),
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Cancellations before their orders, by other customers and more than one of them included.
    #[test]
    fn lifetimes_are_those_of_reduce(updates in order_events(), workers in 1..4usize) {
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |orders| lifetimes(orders.clone(), live_orders(orders)),
            naive_lifetimes,
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Facts before their record, records corrected and withdrawn.
    #[test]
    fn enriched_is_join(
        updates in updates((0..3i64, prop_oneof![(0..5i64).prop_map(Ok), (0..5i64).prop_map(Err)])),
        workers in 1..4usize,
    ) {
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |both| {
                let (facts, records) = facts_and_records(both);
                lookup_join(facts, records, "lookup_join", &Keeper::default(), |record, fact| bucket(*record, *fact))
            },
            |both| {
                let (facts, records) = facts_and_records(both);
                facts
                    .join_map(records, |_key, fact, record| bucket(*record, *fact))
                    .flat_map(|bucket| bucket)
            },
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Records that come on one side or on both, change and go.
    #[test]
    fn side_by_side_is_that_of_reduce(
        updates in updates((0..3i64, prop_oneof![(0..3i64).prop_map(Ok), (0..3i64).prop_map(Err)])),
        workers in 1..4usize,
    ) {
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |both| {
                let both = greatest_of_sides(both);
                let left = both.clone().flat_map(|(key, it)| it.ok().map(|left| (key, left)));
                let right = both.flat_map(|(key, it)| it.err().map(|right| (key, right)));
                kept(left_join(left, right, "side by side", &Keeper::default(), |key, left, right| {
                    row(key, *left, right.copied())
                }))
            },
            naive_side_by_side,
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Records of one time, late and withdrawn ones.
    #[test]
    fn newest_is_that_of_reduce(
        updates in updates((0..3u64, 0..3i64, 0..3u64)),
        workers in 1..4usize,
    ) {
        let scenario = |(event_id, at, key): (u64, Millis, u64)| ScenarioEvent {
            event_id,
            at,
            occurrence: key.to_string().into(),
            name: "sale".into(),
            action: ScenarioAction::Start,
            strength: Strength::new(1.5).unwrap(),
            categories: Vec::new(),
        };
        let updates: Vec<_> = updates
            .into_iter()
            .flat_map(|(record, epoch, _)| {
                let gone = (epoch % 2 == 0).then_some((scenario(record), epoch + 3, -1));
                std::iter::once((scenario(record), epoch, 1)).chain(gone)
            })
            .collect();
        let mut updates = updates;
        updates.sort_by_key(|(_, epoch, _)| *epoch);
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |events| latest_by_key(events, "newest", &Keeper::default(), |event| event.occurrence.parse().unwrap()),
            |events| {
                events.map(|event| (event.occurrence.parse().unwrap(), event)).reduce(
                    |_key: &i64, events, newest| {
                        let event = events.iter().max_by_key(|(it, _)| (it.at, it.event_id));
                        newest.extend(event.map(|(event, _)| (ScenarioEvent::clone(event), 1)));
                    },
                )
            },
        );
        prop_assert_eq!(ours, theirs);
    }

    /// More products than are ranked, with many ties.
    #[test]
    fn leaders_are_those_of_reduce(
        updates in prop::collection::vec(
            ((0..2usize, 0..150i64), (0..3u8, 0..3u8), 0..4u64, prop_oneof![4 => Just(1isize), 1 => Just(-1)]),
            0..800,
        ),
        workers in 1..4usize,
    ) {
        let mut updates: Vec<_> = updates
            .into_iter()
            .map(|(key, sold, epoch, diff)| ((key, sold), epoch, diff))
            .collect();
        updates.sort_by_key(|(_, epoch, _)| *epoch);
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |sold| {
                let sold = sold.explode(|((group, product_id), (units, revenue))| {
                    let sold = (isize::from(units), isize::from(revenue));
                    Some(((group, ProductId(product_id)), sold))
                });
                top_k(sold, "leaders")
            },
            naive_leaders,
        );
        prop_assert_eq!(ours, theirs);
    }

    /// What comes goes again at the same worker.
    #[test]
    fn earliest_lets_go(events in order_events()) {
        let updates = events.into_iter().map(|(order, epoch, diff)| {
            ((order.user_id, order.at), epoch, diff)
        });
        let [ours, theirs] = changes_of_both(
            updates.collect(),
            1,
            |instants| earliest(instants, "earliest", &Keeper::default()),
            |instants| instants.reduce(|_key, instants, first| first.push((*instants[0].0, 1))),
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Of what only comes, in whatever order.
    #[test]
    fn earliest_is_that_of_reduce(
        updates in updates((0..3i64, 0..20i64)),
        workers in 1..4usize,
    ) {
        let updates = updates.into_iter().map(|(instant, epoch, _)| (instant, epoch, 1)).collect();
        let [ours, theirs] = changes_of_both(
            updates,
            workers,
            |instants| earliest(instants, "earliest", &Keeper::default()),
            |instants| instants.reduce(|_key, instants, first| first.push((*instants[0].0, 1))),
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Placings and cancellations of few orders, told again earlier and later, with ties.
    #[test]
    fn counted_is_the_first_of_reduce(events in order_events(), workers in 1..4usize) {
        let updates = (0..).zip(events).map(|(event_id, (order, epoch, _))| {
            (OrderEvent { event_id, order }, epoch, 1)
        });
        let [ours, theirs] = changes_of_both(
            updates.collect(),
            workers,
            |events| counted(events, 0),
            |events| {
                let named = events.map(|OrderEvent { event_id, order }| {
                    let refund = (order.event == OrderKind::Refunded).then_some(event_id);
                    let once = (order.user_id, order.order_id, order.event, refund);
                    (once, (order.at, event_id, order))
                });
                named
                    .reduce(|_once, events, first| first.push((events[0].0.clone(), 1)))
                    .map(|(_once, (_at, _event_id, order))| order)
            },
        );
        prop_assert_eq!(ours, theirs);
    }

    /// Records late, beyond `now` and withdrawn; `now` absent, at rest, in small and great steps.
    #[test]
    fn within_holds_what_the_letter_says(
        moves in moves(
            ((0..3u8, 0..90i64), prop_oneof![Just(1isize), Just(-1)]),
            0,
            0..12i64,
        ),
        workers in 1..4usize,
    ) {
        let ours = held(moves.clone(), workers, |records, now| {
            sliding_windows(records, &SPANS, now, "within", &Keeper::default())
        });
        prop_assert_eq!(ours, naive_within_spans(&moves));
    }

    /// Of the events with one id one is accepted, from the first epoch that has it, and there the
    /// one at the lowest place; the others are its copies, or conflict with it; nothing is lost.
    #[test]
    fn first_accepts_the_first(
        events in prop::collection::vec((0..18u64, 1..4u64, 0..3u32), 0..60),
        workers in 1..4usize,
    ) {
        let mut naive: BTreeMap<u64, (Epoch, u64, u32)> = BTreeMap::new();
        for (offset, (id, epoch, partition)) in events.iter().enumerate() {
            let place = (*epoch, offset as u64, *partition);
            let best = naive.entry(*id >> 1).or_insert(place);
            *best = place.min(*best);
        }
        let seen: Arc<Mutex<[Vec<Sourced<u64>>; 3]>> = Arc::default();
        let (told, all) = (Arc::clone(&seen), events.clone());
        timely::execute(timely::Config::process(workers), move |worker| {
            let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
                let (input, stream) = scope.new_input();
                // The same content under an id: half of its events say something else.
                let firsts = deduplicate(stream, "first", 0, &Keeper::default(), |event: &u64| event >> 1);
                let fates = [firsts.accepted, firsts.copies, firsts.conflicts];
                for (place, stream) in fates.into_iter().enumerate() {
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
        let [accepted, copies, conflicts] = std::mem::take(&mut *seen.lock().unwrap());
        prop_assert_eq!(accepted.len() + copies.len() + conflicts.len(), events.len());
        let first: BTreeMap<u64, u64> =
            accepted.iter().map(|event| (event.event >> 1, event.origin.offset)).collect();
        prop_assert_eq!(first.len(), accepted.len());
        let expected: BTreeMap<u64, u64> =
            naive.into_iter().map(|(id, (_, offset, _))| (id, offset)).collect();
        prop_assert_eq!(&first, &expected);
        let says = |event: &Sourced<u64>| events[first[&(event.event >> 1)] as usize].0 == event.event;
        prop_assert!(copies.iter().all(says));
        prop_assert!(!conflicts.iter().any(says));
    }
}

/// What comes behind a cut waits for the next one, though it is there when the first is made.
#[test]
fn what_comes_behind_a_cut_is_not_in_it() {
    let told: Arc<Mutex<Vec<(i64, Epoch)>>> = Arc::default();
    let tell = Arc::clone(&told);
    timely::execute_directly(move |worker| {
        let (mut changes, mut cuts) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (changes, updates) = scope.new_input::<(i64, Epoch, isize)>();
            let (cuts, cut) = scope.new_input::<Millis>();
            let told = at_cuts(updates.as_collection(), cut).inner;
            told.inspect(move |(record, epoch, _)| tell.lock().unwrap().push((*record, *epoch)));
            (changes, cuts)
        });
        for epoch in 0..4 {
            changes.send((epoch as i64, epoch, 1));
            if epoch % 2 == 1 {
                cuts.send(0);
            }
            changes.advance_to(epoch + 1);
            cuts.advance_to(epoch + 1);
        }
    });
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort_unstable();
    assert_eq!(told, [(0, 1), (1, 1), (2, 3), (3, 3)]);
}
