//! The properties that every query has, over random stories: the tables depend on the set of events
//! and on `now`, and on nothing else, and they are those of the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use timely::dataflow::ProbeHandle;

use super::oracle::{Contents, END, START, by_oracle};
use super::story::{Kept, graph};
use super::*;
use crate::model::time::{DAY, HOUR, MINUTE, SECOND, WEEK, day_of};
use crate::model::{
    Krw, Line, Order, OrderId, OrderKind, Product, ProductId, ScenarioAction, Sex, Status,
    Strength, User, UserId,
};
use crate::queries::QUERIES;
use crate::row::Row;

pub(super) const PARTITIONS: u32 = 3;
/// Where an hour, a day and a month begin: 2024-12-01 in Seoul.
const MONTH: Millis = END - 30 * DAY;
/// Instants at which a millisecond makes a difference.
const BORDERS: [Millis; 5] = [END, END - 5 * MINUTE, END - HOUR, END - DAY, MONTH];

pub(super) fn tables_of(kept: Kept) -> Contents {
    let all = Tables::of(QUERIES);
    let of = |number| all.results().find(|(it, _)| *it == number).map_or("", |(_, name)| name);
    let row = |row: Row| ((of(row.table), row.key().into()), row.value().into());
    kept.0.into_values().map(row).collect()
}

/// How a story is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// So many events an epoch; in a long story more.
    batch: usize,
    /// So many epochs a cut.
    cut: usize,
    workers: usize,
}

pub(super) const AT_ONCE: Reading = Reading { batch: usize::MAX, cut: 1, workers: 1 };

fn readings() -> impl Strategy<Value = Reading> {
    let cut = prop_oneof![Just(1usize), 2..30usize];
    (1..9usize, cut, 1..4usize).prop_map(|(batch, cut, workers)| Reading { batch, cut, workers })
}

/// The tables after all events.
pub(super) fn tables(events: &[Event], Reading { batch, cut, workers }: Reading) -> Contents {
    let batch = batch.saturating_mul(1 + events.len() / 100);
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (events, all) = (events.to_vec(), Arc::clone(&kept));
    timely::execute(timely::Config::process(workers), move |worker| {
        let all = Arc::clone(&all);
        let probe = ProbeHandle::new();
        let mut handles = graph(worker, &probe, move |changes| all.lock().unwrap().take(&changes));
        for (epoch, batch) in events.chunks(batch).enumerate() {
            handles.advance_to(epoch as Epoch + 1);
            for (place, event) in batch.iter().enumerate() {
                let offset = (epoch * 1_000 + place) as u64;
                feed(&mut handles, event.clone(), offset, (worker.index(), worker.peers()));
            }
            if worker.index() == 0 && epoch % cut == cut - 1 {
                handles.cut();
            }
            // The first worker runs ahead: what it says is heard before the others have read.
            if worker.index() > 0 || epoch % 5 == 0 {
                let epoch = handles.epoch();
                worker.step_or_park_while(None, || probe.less_than(&epoch));
            }
        }
        if worker.index() == 0 {
            handles.advance_to(Epoch::MAX - 1);
            (0..PARTITIONS).for_each(|partition| handles.reached.send((partition, END)));
            handles.cut();
        }
    })
    .unwrap();
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    tables_of(kept)
}

/// Gives an event to the worker that reads its partition.
pub(super) fn feed(
    handles: &mut Handles,
    event: Event,
    offset: u64,
    (index, peers): (usize, usize),
) {
    let (key, at) = match &event {
        Event::User(event) => (event.user.user_id.0, None),
        Event::Product(event) => (event.product.product_id.0, None),
        // So that the events of one order are in several partitions.
        Event::Order(event) => (event.event_id as i64, Some(event.order.at)),
        Event::Scenario(_) | Event::Heartbeat(_) => (0, None),
    };
    let partition = key as u32 % PARTITIONS;
    if partition as usize % peers != index {
        return;
    }
    let origin = Origin { partition, offset, hash: 0 };
    handles.send(origin, event);
    if let Some(at) = at {
        handles.reached.send((partition, at));
    }
}

/// A story: few customers and products, so that they collide; bursts, so that grades move, every
/// seven hours from some day on, or back from a border; orders for customers and products that are
/// known late, changed, or never known. Each customer's orders have numbers from 1 on, so that one
/// number names orders of several; a cancellation may name another customer, who has an order of that
/// number or not; an order may be placed, and cancelled, once more, earlier, later or at the same time
/// and with other lines. Scenarios of few occurrences, of which two may have one word, that start,
/// change and stop in any order, some after the last order. In some stories the same hour is crowded
/// for four weeks, one of them more or less than the others, and then is not.
pub(super) fn stories() -> impl Strategy<Value = Vec<Event>> {
    let user = (0..6i64, 0..40 * DAY, 0..600i64, 0..3_000i32);
    let product = (0..5i64, 0..40 * DAY, 0..40 * DAY);
    let line = (0..6i64, 0..3usize, 1..4i64, 1..60i64);
    let fate = prop::option::of((any::<bool>(), 0..190 * DAY));
    let apart = prop_oneof![1 => Just(0i64), 2 => -60 * DAY..60 * DAY, 1 => -HOUR..HOUR];
    let again = prop::option::of((apart, line.clone()));
    let burst = prop_oneof![
        2 => (0..90 * DAY).prop_map(|after| (START + after + 13 * MINUTE, 7 * HOUR)),
        1 => (0..BORDERS.len(), -1..2i64)
            .prop_map(|(border, side)| ((BORDERS[border] + side).min(END), -7 * HOUR)),
    ];
    let order = (0..7i64, burst, 1..14usize, prop::collection::vec(line, 1..4), fate, again);
    let odd = (0..4usize, prop::sample::select(vec![1, 60, 100, 200]));
    let crowd = (0..7i64, 0..4_800i64, 0..25i64, odd, 0..4usize).prop_map(
        |(user_id, hour, minute, (odd_week, odd), rest)| {
            let begins = START + hour * HOUR + minute * MINUTE;
            let lines = vec![(0, 0, 1, 1)];
            let week = |(times, week)| {
                (user_id, (begins + week * WEEK, 17 * SECOND), times, lines.clone(), None, None)
            };
            let mut weeks = [120, 120, 120, 120, rest];
            weeks[odd_week] = odd;
            weeks.into_iter().zip(0..).map(week).collect::<Vec<_>>()
        },
    );
    let instant = prop_oneof![
        4 => (0..300 * DAY).prop_map(|after| START + after),
        1 => (0..3i64).prop_map(|day| START + day * DAY),
        1 => (0..BORDERS.len(), -1..2i64).prop_map(|(border, side)| BORDERS[border] + side),
        1 => (1..90 * DAY).prop_map(|after| END + after),
    ];
    let scenario = (0..4usize, 0..2usize, 0..3usize, instant);
    (
        prop::collection::vec(user, 0..9),
        prop::collection::vec(product, 0..7),
        prop::collection::vec(order, 1..12),
        prop::option::weighted(0.2, crowd),
        prop::collection::vec(scenario, 0..9),
    )
        .prop_map(|(users, products, mut orders, crowd, scenarios)| {
            orders.extend(crowd.into_iter().flatten());
            let users = users.into_iter().zip(1..).map(|(user, id)| user_event(id, user));
            let products = products.into_iter().zip(1..).map(|(it, id)| product_event(id, it));
            let scenarios = scenarios.into_iter().zip(1..).map(|(it, id)| scenario_event(id, it));
            let mut story: Vec<Event> = users.chain(products).chain(scenarios).collect();
            let mut event_id = 0;
            let mut numbers: BTreeMap<i64, i64> = BTreeMap::new();
            for (user_id, (begins, step), times, lines, fate, again) in orders {
                for n in 0..times as i64 {
                    let order_id = numbers.entry(user_id).or_default();
                    *order_id += 1;
                    let order_id = *order_id;
                    let at = begins + n * step;
                    let lines: Arc<[Line]> = lines.iter().map(line_of).collect();
                    let mut event = |kind, user_id, at: Millis, ordered_at, lines| {
                        event_id += 1;
                        let at = at.min(END);
                        let (order_id, user_id) = (OrderId(order_id), UserId(user_id));
                        let order = Order { event: kind, order_id, user_id, at, ordered_at, lines };
                        story.push(Event::Order(OrderEvent { event_id, order }));
                    };
                    let again: Option<(Millis, Arc<[Line]>)> = again
                        .filter(|_| n % 2 == 0)
                        .map(|(apart, line)| (apart, [line_of(&line)].into()));
                    event(OrderKind::Placed, user_id, at, at, Arc::clone(&lines));
                    if let Some((apart, lines)) = &again {
                        let at = (at + apart).clamp(START, END);
                        event(OrderKind::Placed, user_id, at, at, Arc::clone(lines));
                    }
                    match fate {
                        Some((true, later)) if n % 3 == 0 => {
                            let named = if order_id % 4 == 0 { 6 - user_id } else { user_id };
                            event(OrderKind::Cancelled, named, at + later, at, lines);
                            if let Some((apart, lines)) = again {
                                let then = (at + later + apart).max(at);
                                event(OrderKind::Cancelled, named, then, at, lines);
                            }
                        }
                        Some((false, later)) if n % 3 == 0 => {
                            event(OrderKind::Refunded, user_id, at + later, at, lines[..1].into());
                        }
                        _ => {}
                    }
                }
            }
            story
        })
}

/// Customers sign up, and have their birthdays, before and while the orders come.
fn user_event(event_id: u64, (user_id, after, days, age): (i64, Millis, i64, i32)) -> Event {
    Event::User(UserEvent {
        event_id,
        at: START + after,
        user: User {
            user_id: UserId(user_id),
            name: format!("이름{event_id}").into(),
            birth_date: -10_000 + user_id as i32 * 4_000 + age,
            sex: if event_id.is_multiple_of(2) { Sex::F } else { Sex::M },
            region: "서울".into(),
            status: Status::Active,
            marketing_consent: days % 2 == 0,
            signed_up_at: END + 30 * DAY - days * DAY,
        },
    })
}

fn product_event(event_id: u64, (product_id, after, listed): (i64, Millis, Millis)) -> Event {
    Event::Product(ProductEvent {
        event_id,
        at: START + after,
        product: Product {
            product_id: ProductId(product_id),
            name: format!("상품{event_id}").into(),
            category: "food".into(),
            price: Krw(900),
            stock: 3,
            listed_at: START + listed,
        },
    })
}

fn scenario_event(
    event_id: u64,
    (occurrence, name, action, at): (usize, usize, usize, Millis),
) -> Event {
    Event::Scenario(ScenarioEvent {
        event_id,
        at,
        occurrence: ["a", "b", "c", "d"][occurrence].into(),
        name: ["sale", "gifts"][name].into(),
        action: ScenarioAction::ALL[action],
        strength: Strength::new(1.5).unwrap(),
        categories: Vec::new(),
    })
}

fn line_of(&(product_id, category, quantity, price): &(i64, usize, i64, i64)) -> Line {
    let category = ["food", "beauty", "books"][category].into();
    let (product_id, unit_price) = (ProductId(product_id), Krw(price * 1_000));
    Line { product_id, category, quantity, unit_price }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Record by record or all at once, with cuts anywhere, by one worker or three: the same tables.
    #[test]
    fn incremental_equals_batch(story in stories(), reading in readings()) {
        prop_assert_eq!(&tables(&story, reading), &tables(&story, AT_ONCE));
    }

    /// The rows are those that the oracle's letter gives, whatever the batches and the cuts.
    #[test]
    fn the_tables_say_what_spec_says(story in stories(), reading in readings()) {
        prop_assert_eq!(tables(&story, reading), by_oracle(&story));
    }

    /// In whatever order events arrive, refunds before their orders and orders before their
    /// customers included, and however often: with the same id, or an order placed or cancelled
    /// once more with another.
    #[test]
    fn arrival_order_and_duplicates_change_nothing(
        (story, shuffled) in stories().prop_flat_map(|story| {
            let again = story.iter().step_by(2).map(|event| match event {
                Event::Order(event) if event.order.event != OrderKind::Refunded => {
                    Event::Order(OrderEvent { event_id: 1_000_000 + event.event_id, ..event.clone() })
                }
                event => event.clone(),
            });
            let doubled = [&story[..], &story[..story.len() / 2]].concat();
            let doubled: Vec<Event> = doubled.into_iter().chain(again).collect();
            (Just(story), Just(doubled).prop_shuffle())
        }),
        reading in readings(),
    ) {
        prop_assert_eq!(tables(&shuffled, reading), tables(&story, AT_ONCE));
    }
}

/// What random stories seldom meet: an order in the month after that of `now`, while a scenario of
/// which the stop is told already goes on, one in the days before a birthday, and sales whole days
/// after a listing.
#[test]
fn at_the_edges_the_tables_say_what_spec_says() {
    let thirty = day_of(END) - 10_957; // born 1995-01-01
    let mut story = vec![user_event(1, (0, 0, 60, 0)), user_event(2, (3, 0, 60, thirty - 2_000))];
    let sales = [0, 1, 3, 4, 8];
    for (product_id, days) in (0..).zip(sales) {
        story.push(product_event(1 + product_id as u64, (product_id, 0, 40 * DAY - days * DAY)));
    }
    let scenarios = [(0, 0, END - 3 * DAY), (0, 2, END + 2 * DAY), (1, 0, END), (2, 0, END + 1)];
    for (event_id, (occurrence, action, at)) in (1..).zip(scenarios) {
        story.push(scenario_event(event_id, (occurrence, 0, action, at)));
    }
    // Every partition is at END before one goes on, and so `now` stays there.
    let orders = [
        (1, END, vec![(5, 2, 1, 1)]),
        (2, END, vec![(5, 2, 1, 1)]),
        (0, END + DAY, vec![(5, 0, 1, 1)]),
        (3, END - 5 * DAY, vec![(5, 1, 1, 1)]),
        (0, START + 40 * DAY, (0..5).map(|product_id| (product_id, 0, 1, 1)).collect()),
    ];
    for (order_id, (user_id, at, lines)) in (1..).zip(orders) {
        let lines: Arc<[Line]> = lines.iter().map(line_of).collect();
        let (event, event_id) = (OrderKind::Placed, order_id as u64);
        let (order_id, user_id) = (OrderId(order_id), UserId(user_id));
        let order = Order { event, order_id, user_id, at, ordered_at: at, lines };
        story.push(Event::Order(OrderEvent { event_id, order }));
    }
    let reading = Reading { batch: 2, cut: 3, workers: 2 };
    assert_eq!(tables(&story, reading), by_oracle(&story));
}

/// A query that gave no rows would have most of the properties, and one that the oracle has not heard
/// of is told by its name.
#[test]
fn the_stories_fill_every_table_of_the_oracle() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut filled, mut known) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..20 {
        let story = stories().new_tree(&mut runner).unwrap().current();
        filled.extend(tables(&story, AT_ONCE).into_keys().map(|(table, _key)| table));
        known.extend(by_oracle(&story).into_keys().map(|(table, _key)| table));
    }
    for name in QUERIES.iter().map(|query| query.name) {
        assert!(known.contains(name), "the oracle lacks {name}");
        assert!(filled.contains(name), "{name} stays empty");
    }
}
