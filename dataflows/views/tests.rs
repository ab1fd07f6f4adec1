//! Views beside a naive evaluation: from the start or added in the middle, whatever is told and however many
//! workers there are, each is at every cut what its plan says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::RngExt;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::expr::{Arithmetic, Comparison, Expr, Func, Width};
use super::naive::{Multiset, naive};
use super::plan::{
    Aggregate, AggregateKind, JoinKind, Limit, Order, Plan, SetOperation, WhileCondition,
    WindowFunction,
};
use super::*;
use crate::Epoch;
use crate::row::{self, Fate, RowBatch};

fn column(column: usize) -> Expr {
    Expr::Column(column)
}

fn int(int: i64) -> Expr {
    Expr::Constant(Value::Int(int))
}

fn scan(table: usize) -> Plan {
    let source = &sources()[table];
    Plan::Scan { table, arity: source.types.len(), key: (0..source.key).collect() }
}

/// Orders (who, number, amount, when), with copies; customers by their number (region, score); grades by
/// customer and month; and the market's time.
fn sources() -> Vec<Source> {
    let source = |name: &str, table, types: &[Type], key| Source {
        name: name.into(),
        table,
        types: types.to_vec(),
        hidden: vec![],
        key,
    };
    vec![
        source("orders", 1, &[Type::Bigint, Type::Bigint, Type::Bigint, Type::Instant], 0),
        source("customers", 7, &[Type::Bigint, Type::Text, Type::Bigint], 1),
        source("grades", 8, &[Type::Bigint, Type::Bigint, Type::Text], 2),
        source("market", MARKET, &[Type::Instant], 0),
    ]
}

fn aggregate(kind: AggregateKind, of: usize, distinct: bool) -> Aggregate {
    Aggregate { kind, distinct, argument: Some(column(of)), filter: None }
}

fn join(kind: JoinKind, residual: Option<Expr>) -> Plan {
    let keys = vec![(column(0), column(0))];
    Plan::Join { kind, left: scan(0).into(), right: scan(1).into(), keys, residual }
}

const HOUR: i64 = 3_600_000_000;

/// A plan for each operator, and some together.
fn plans() -> Vec<Plan> {
    let less = |a, b| Expr::Call(Func::Compare(Comparison::Less), vec![a, b]);
    let window = |functions, limit| Plan::Window {
        input: scan(0).into(),
        keys: vec![column(0)],
        order: vec![Order { by: column(2), descending: true, nulls_first: true }],
        functions,
        limit,
    };
    let recent = Expr::Call(
        Func::Earlier,
        vec![
            column(0),
            Expr::Constant(Value::Interval(Box::new(value::Interval {
                months: 0,
                days: 0,
                micros: 30 * HOUR,
            }))),
        ],
    );
    let divided =
        Expr::Call(Func::Integer(Arithmetic::Divide, Width::Bigint), vec![int(60), column(2)]);
    vec![
        scan(0),
        scan(1),
        Plan::Group {
            input: scan(0).into(),
            keys: vec![column(0)],
            aggregates: vec![
                aggregate(AggregateKind::Count, 2, false),
                aggregate(AggregateKind::SumNumeric, 2, false),
                aggregate(AggregateKind::Min, 2, false),
                aggregate(AggregateKind::Max, 3, false),
                aggregate(AggregateKind::Count, 2, true),
            ],
        },
        Plan::Group {
            input: Box::new(join(JoinKind::Inner, None)),
            keys: vec![],
            aggregates: vec![aggregate(AggregateKind::SumNumeric, 6, false)],
        },
        join(JoinKind::Left, None),
        join(JoinKind::Left, Some(less(column(2), column(6)))),
        join(JoinKind::Semi, None),
        join(JoinKind::Semi, Some(less(column(2), column(6)))),
        join(JoinKind::Anti, None),
        join(JoinKind::Anti, Some(less(column(2), column(6)))),
        Plan::Distinct(Box::new(scan(0).project(vec![column(2)]))),
        Plan::Set {
            operation: SetOperation::Except,
            all: true,
            left: Box::new(scan(0).project(vec![column(0)])),
            right: Box::new(scan(1).project(vec![column(0)])),
        },
        Plan::Union(vec![scan(0).project(vec![column(0)]), scan(1).project(vec![column(2)])]),
        window(vec![WindowFunction::Rank], Some(Limit { function: 0, count: 2 })),
        window(
            vec![
                WindowFunction::RowNumber,
                WindowFunction::Lag { value: column(1), offset: -1, default: Value::Int(-7) },
            ],
            None,
        ),
        Plan::Group {
            input: Box::new(Plan::While {
                input: scan(0).into(),
                conditions: vec![
                    WhileCondition {
                        at: column(3),
                        comparison: Comparison::Greater,
                        bound: recent,
                    },
                    WhileCondition {
                        at: column(3),
                        comparison: Comparison::LessOrEqual,
                        bound: column(0),
                    },
                ],
            }),
            keys: vec![column(0)],
            aggregates: vec![Aggregate {
                kind: AggregateKind::CountRows,
                distinct: false,
                argument: None,
                filter: Some(less(column(2), int(4))),
            }],
        },
        // It raises while an amount is nothing.
        scan(0).project(vec![column(0), divided]),
        Plan::Values(vec![Arc::new([Value::Int(1), Value::Null])]),
        // One that is told apart by two columns, beside one that has only one.
        Plan::Join {
            kind: JoinKind::Inner,
            left: scan(2).into(),
            right: scan(3).into(),
            keys: vec![],
            residual: None,
        },
    ]
}

/// What an epoch tells: rows with what becomes of them; and at a cut, `now`.
struct Told {
    rows: Vec<(usize, Row, Fate)>,
    cut: Option<i64>,
}

const START: i64 = 820_000_000_000_000;

fn story(seed: u64) -> Vec<Told> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut orders, mut tables) = (Vec::<Row>::new(), BTreeMap::<(usize, i64), Row>::new());
    let mut told = Vec::new();
    for epoch in 0..40i64 {
        let mut rows = Vec::new();
        for _ in 0..random.random_range(0..9) {
            if !orders.is_empty() && random.random_ratio(1, 3) {
                let place = random.random_range(0..orders.len());
                rows.push((0, orders.swap_remove(place), Fate::Gone));
            } else {
                let at = START + (epoch + random.random_range(-40..3)) * HOUR;
                let order: Row = Arc::new([
                    if random.random_ratio(1, 6) {
                        Value::Null
                    } else {
                        Value::Int(random.random_range(0..4))
                    },
                    Value::Int(random.random_range(0..50)),
                    Value::Int(random.random_range(i64::from(!(11..20).contains(&epoch))..7)),
                    Value::Instant(at),
                ]);
                for _ in 0..random.random_range(1..3) {
                    orders.push(Arc::clone(&order));
                    rows.push((0, Arc::clone(&order), Fate::New));
                }
            }
        }
        let cut = random.random_ratio(1, 2) || epoch == 39;
        // A table changes at cuts, a key once.
        if cut {
            for (table, who) in (1..=2).flat_map(|table| (0..5).map(move |who| (table, who))) {
                if random.random_ratio(1, 3) {
                    let region = Value::text(["north", "south"][random.random_range(0..2usize)]);
                    let row: Row = if table == 1 {
                        [Value::Int(who), region, Value::Int(random.random_range(0..6))].into()
                    } else {
                        [Value::Int(who / 2), Value::Int(who % 2), region].into()
                    };
                    let fate = match tables.get(&(table, who)).cloned() {
                        Some(gone) if random.random_ratio(1, 3) => {
                            tables.remove(&(table, who));
                            rows.push((table, gone, Fate::Gone));
                            continue;
                        }
                        Some(_) => Fate::Changed,
                        None => Fate::New,
                    };
                    tables.insert((table, who), Arc::clone(&row));
                    rows.push((table, row, fate));
                }
            }
        }
        told.push(Told { rows, cut: cut.then_some(START + epoch * HOUR) });
    }
    told
}

/// What the relations hold behind an epoch.
fn state(story: &[Told]) -> Vec<Multiset> {
    let mut tables = vec![Multiset::new(); 4];
    for (table, row, fate) in story.iter().flat_map(|told| &told.rows) {
        let key = sources()[*table].key;
        if key > 0 {
            tables[*table].retain(|other, _| other[..key] != row[..key]);
        }
        if *fate != Fate::Gone {
            *tables[*table].entry(Arc::clone(row)).or_default() += 1;
        } else if key == 0 {
            let count = tables[*table].get_mut(row).unwrap();
            *count -= 1;
            if *count == 0 {
                tables[*table].remove(row);
            }
        }
    }
    let now = story.iter().filter_map(|told| told.cut).max();
    tables[3].insert(hearing::market_row(now), 1);
    tables
}

fn batch<'r>(rows: impl Iterator<Item = (usize, &'r Row, Fate)>) -> RowBatch {
    let mut batch = RowBatch::default();
    for (table, row, fate) in rows {
        let source = &sources()[table];
        let mut bytes = Vec::new();
        row.iter().zip(&source.types).for_each(|(value, of)| encode(value, of, &mut bytes));
        batch.push(&row::Row::of(source.table, &[], &bytes), fate);
    }
    batch
}

/// What one view has become at a cut: changes, and whether something is raised.
type Seen = Vec<(Epoch, Vec<(Row, isize)>, bool)>;

/// Runs a view that is added at an epoch; what each worker has seen at the cuts behind it.
fn run(plan: &Plan, seed: u64, workers: usize, added: usize) -> Vec<Seen> {
    let all: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (out, plan) = (Arc::clone(&all), plan.clone());
    let ended = timely::execute(timely::Config::process(workers), move |worker| {
        let story = story(seed);
        let shape = Shape { table: 9, types: vec![], key: plan.key() };
        let definition = Definition::new("it", shape, plan.clone(), &sources());
        let hub = Hub::default();
        let (index, peers) = (worker.index(), worker.peers());
        let mut view = None;
        let mut mine = Seen::new();
        for (number, told) in (0..).zip(&story) {
            let epoch = number as Epoch + 100;
            if number == added {
                let (ear, from) = hub.listen([1, 7, 8]);
                assert!(from < epoch);
                let now = story[..added].iter().filter_map(|told| told.cut).max();
                let mut made = View::build(worker, &definition, &ear, epoch - 1, now);
                let past = state(&story[..added]);
                for (table, rows) in past.iter().enumerate().take(3) {
                    let copies = rows.iter().flat_map(|(row, n)| (0..*n).map(move |_| row));
                    let rows = copies.enumerate().filter(|(place, _)| place % peers == index);
                    for (_, row) in rows {
                        made.take_in(&batch([(table, row, Fate::New)].into_iter()));
                        made.next_slice();
                    }
                }
                made.past_is_over();
                view = Some(made);
            }
            // Each row is told at one worker; a key's always at the same.
            let rows = told.rows.iter().filter(|(table, row, _)| {
                let place = if *table == 0 { &row[1] } else { &row[0] };
                matches!(place, Value::Int(place) if *place as usize % peers == index)
            });
            hub.rows(epoch, &batch(rows.map(|(table, row, fate)| (*table, row, *fate))));
            if let Some(now) = told.cut.filter(|_| index == 0) {
                hub.cut(epoch, None);
                hub.cut(epoch, Some(now / 1_000 + 946_684_800_000));
            }
            hub.goes_on(Some(epoch + 1));
            for _ in 0..(number % 3) {
                worker.step();
            }
        }
        hub.goes_on(None);
        let view = view.unwrap();
        while view.frontier().is_some() {
            worker.step();
        }
        for cut in view.cuts() {
            mine.push((cut.epoch, cut.changes, cut.raised.is_some()));
        }
        drop(view);
        out.lock().unwrap().push(mine);
    });
    ended.unwrap().join().into_iter().for_each(|it| it.unwrap());
    Arc::into_inner(all).unwrap().into_inner().unwrap()
}

#[test]
fn a_view_is_at_every_cut_what_its_plan_says() {
    let (mut compared, mut raised) = (0, 0);
    for (number, plan) in plans().iter().enumerate() {
        for (seed, workers, added) in [(1, 1, 0), (2, 2, 0), (3, 1, 13), (4, 3, 22), (5, 2, 15)] {
            let story = story(seed);
            let seen = run(plan, seed, workers, added);
            let mut held = Multiset::new();
            let cuts =
                story.iter().enumerate().skip(added).filter_map(|(n, told)| Some((n, told.cut?)));
            for (cut, (epoch, now)) in cuts.enumerate() {
                for worker in &seen {
                    assert_eq!(worker[cut].0, epoch as Epoch + 100);
                    assert_eq!(worker[cut].2, seen[0][cut].2, "all workers know what is raised");
                    for (row, diff) in &worker[cut].1 {
                        *held.entry(Arc::clone(row)).or_default() += diff;
                    }
                }
                held.retain(|_, count| *count != 0);
                let is_raised = seen[0][cut].2;
                if let Ok(expected) = naive(plan, &state(&story[..=epoch]), now) {
                    assert!(!is_raised, "plan {number}");
                    assert_eq!(held, expected, "plan {number}, seed {seed}, epoch {epoch}");
                    compared += 1;
                } else {
                    assert!(is_raised, "plan {number}");
                    raised += 1;
                }
            }
        }
    }
    assert!(compared > 1_000 && raised > 5, "{compared} {raised}");
}

fn kept(key: Option<Vec<usize>>) -> Kept {
    Kept::new(Shape { table: 9, types: vec![Type::Bigint, Type::Bigint], key })
}

fn changes(rows: &[(i64, i64, isize)]) -> Vec<(Row, isize)> {
    let row = |(a, b, diff): &(i64, i64, isize)| {
        (Arc::new([Value::Int(*a), Value::Int(*b)]) as Row, *diff)
    };
    rows.iter().map(row).collect()
}

fn given(kept: &mut Kept, rows: &[(i64, i64, isize)]) -> Result<Vec<(i64, Fate)>, Fault> {
    let mut given = Vec::new();
    kept.change(changes(rows), |row, fate| {
        let mut fields = row::Fields(row.value());
        given.push((fields.int(), fate));
    })?;
    given.sort();
    Ok(given)
}

#[test]
fn rows_are_kept_as_often_as_they_are_there() {
    let mut rows = kept(None);
    assert_eq!(given(&mut rows, &[(1, 1, 2), (2, 2, 1)]), Ok(vec![(1, Fate::New), (2, Fate::New)]));
    assert_eq!(
        given(&mut rows, &[(1, 1, 1), (2, 2, -1)]),
        Ok(vec![(0, Fate::Gone), (3, Fate::Changed)])
    );
    assert_eq!(given(&mut rows, &[(1, 1, -2), (1, 1, 2)]), Ok(vec![]));
    assert_eq!(rows.rows(), 1);
    assert_eq!(given(&mut rows, &[(5, 5, -1)]), Err(Fault));
}

#[test]
fn a_row_takes_the_place_of_another_of_its_key() {
    let mut rows = kept(Some(vec![0]));
    assert_eq!(given(&mut rows, &[(1, 1, 1), (2, 2, 1)]), Ok(vec![(1, Fate::New); 2]));
    assert_eq!(
        given(&mut rows, &[(1, 1, -1), (1, 3, 1), (2, 2, -1)]),
        Ok(vec![(0, Fate::Gone), (1, Fate::Changed)])
    );
    assert_eq!(rows.rows(), 1);
    assert_eq!(given(&mut rows, &[(4, 1, 1), (4, 2, 1)]), Err(Fault));
    assert_eq!(given(&mut rows, &[(6, 1, 2)]), Err(Fault));
}
