//! Random standing views beside PostgreSQL: a view's dataflow holds at every cut what that answers.
//!
//! `VIEWS_FUZZ_SEED` and `VIEWS_FUZZ_COUNT` say which views, and how many.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Write as _};
use std::io::{Read, Write as _};
use std::sync::{Arc, Mutex};
use std::thread;

use dataflows::Epoch;
use dataflows::row::{self, Fate, RowBatch};
use dataflows::views::expr::Expr;
use dataflows::views::plan::{JoinKind, Plan};
use dataflows::views::{
    Catalog, Definition, Function, Hub, Kept, MARKET, Raised, Relation, Row, Shape, Source, Type,
    Value, View, decode, encode, lower, micros,
};
use postgres::{Client, error::Error};

use crate::support::{connect, fresh_database};
use crate::views_generate::{Multiset, Random, TABLES, VIEWS, now, query, state, type_of};

/// How often the tables change.
const STATES: usize = 4;
/// So many views stand beside each other.
const TOGETHER: usize = 50;

/// So many rows of a difference are tried to be left out.
const STEPS: usize = 500;

/// What the tables hold from cut to cut, and the time at each.
#[derive(Clone)]
struct Story {
    states: Vec<Vec<Multiset>>,
    nows: Vec<i64>,
}

impl Story {
    fn new(random: &mut Random) -> Story {
        let mut story = Story { states: vec![], nows: vec![] };
        for number in 0..STATES {
            let size = if number == 0 { 8 } else { 14 };
            story.states.push(state(random, story.states.last().map(Vec::as_slice), size));
            let now = now(random, &story.states[number][0]);
            // Time does not go back.
            story.nows.push(story.nows.last().map_or(now, |before| now.max(*before)));
        }
        story
    }
}

/// A view.
struct Asked {
    select: String,
    plan: Plan,
    types: Vec<Type>,
    /// The first state is its past; else it has heard everything.
    late: bool,
}

/// What a view is at a cut, or what is raised.
type Answer = Result<Multiset, String>;

fn said(error: &Error) -> String {
    error.as_db_error().map_or(error.to_string(), |said| said.message().to_owned())
}

// PostgreSQL.

fn types(table: usize) -> Vec<Type> {
    TABLES[table].columns.iter().map(|(_, of)| type_of(of)).collect()
}

fn create(client: &mut Client) {
    client
        .batch_execute(
            "SET TimeZone = 'Asia/Seoul'; SET client_min_messages = warning; SET jit = off;
             SET max_parallel_workers_per_gather = 0; SET synchronous_commit = off",
        )
        .unwrap();
    for number in 0..STATES {
        let mut sql = format!("CREATE SCHEMA cp{number}; SET search_path = cp{number};");
        for table in &TABLES {
            let column = |(name, of): &(&str, &str)| {
                let collation = if of.starts_with("text") { " COLLATE \"C\"" } else { "" };
                format!("{name} {}{collation}", type_of(of).sql())
            };
            let columns: Vec<String> = table.columns.iter().map(column).collect();
            _ = write!(sql, "CREATE TABLE {} ({});", table.name, columns.join(", "));
        }
        sql += "CREATE FUNCTION market_now() RETURNS timestamptz LANGUAGE sql STABLE
                    RETURN (SELECT now FROM market);";
        for (name, text) in VIEWS {
            _ = write!(sql, "CREATE VIEW {name} AS {text};");
        }
        client.batch_execute(&sql).unwrap();
    }
}

fn catalog(client: &mut Client) -> Catalog {
    let mut catalog = Catalog::default();
    let functions = "SELECT oid, prosrc, proname::text, provolatile = 'v' FROM pg_proc
                     WHERE pronamespace = 'pg_catalog'::regnamespace
                        OR oid = to_regprocedure('cp0.market_now()')";
    for row in client.query(functions, &[]).unwrap() {
        let function = Function { source: row.get(1), name: row.get(2), volatile: row.get(3) };
        catalog.functions.insert(row.get(0), function);
    }
    for row in client.query("SELECT oid, oprname::text FROM pg_operator", &[]).unwrap() {
        catalog.operators.insert(row.get(0), row.get(1));
    }
    let relations = "SELECT class.oid, relname::text, ev_action::text FROM pg_class AS class
                     LEFT JOIN pg_rewrite ON ev_class = class.oid
                     WHERE relnamespace = 'cp0'::regnamespace AND relkind IN ('r', 'v')";
    for row in client.query(relations, &[]).unwrap() {
        let name: String = row.get(1);
        let relation = match TABLES.iter().position(|table| table.name == name) {
            Some(place) => {
                let key = (0..TABLES[place].key).collect();
                Relation::Table { place, arity: TABLES[place].columns.len(), key, hidden: vec![] }
            }
            None => Relation::Defined { name, tree: row.get(2) },
        };
        catalog.relations.insert(row.get(0), relation);
    }
    catalog
}

/// What PostgreSQL makes of a SELECT: the tree, and the types of its columns.
fn analysed(client: &mut Client, select: &str) -> Result<(String, Vec<Type>), Error> {
    let mut transaction = client.transaction()?;
    transaction.execute(&format!("CREATE VIEW asked AS {select}"), &[])?;
    let row = transaction.query_one(
        "SELECT ev_action::text, ARRAY(SELECT atttypid FROM pg_attribute
                                       WHERE attrelid = ev_class AND attnum > 0 ORDER BY attnum)
         FROM pg_rewrite WHERE ev_class = 'asked'::regclass",
        &[],
    )?;
    transaction.rollback()?;
    let types = row.get::<_, Vec<u32>>(1).into_iter().map(|oid| Type::of(oid).unwrap()).collect();
    Ok((row.get(0), types))
}

fn load(client: &mut Client, story: &Story) {
    for (number, (tables, now)) in story.states.iter().zip(&story.nows).enumerate() {
        let begin = format!(
            "BEGIN; SET search_path = cp{number};
             DELETE FROM orders; DELETE FROM lines; DELETE FROM users; DELETE FROM market;
             INSERT INTO market VALUES
                 (timestamptz '2000-01-01 00:00+00' + interval '{now} microseconds')"
        );
        client.batch_execute(&begin).unwrap();
        for (place, rows) in tables.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
            for row in rows.iter().flat_map(|(row, copies)| (0..*copies).map(move |_| row)) {
                bytes.extend((row.len() as i16).to_be_bytes());
                bytes.extend(encoded(row, &types(place)));
            }
            bytes.extend((-1i16).to_be_bytes());
            let copy = format!("COPY {} FROM STDIN (FORMAT binary)", TABLES[place].name);
            let mut writer = client.copy_in(&copy).unwrap();
            writer.write_all(&bytes).unwrap();
            writer.finish().unwrap();
        }
        client.batch_execute("COMMIT").unwrap();
    }
}

fn encoded(row: &Row, types: &[Type]) -> Vec<u8> {
    let mut bytes = vec![];
    row.iter().zip(types).for_each(|(value, of)| encode(value, of, &mut bytes));
    bytes
}

/// What PostgreSQL answers in the schema that is set.
fn answer(client: &mut Client, asked: &Asked) -> Answer {
    let mut bytes = vec![];
    let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", asked.select);
    let mut reader = client.copy_out(&copy).map_err(|error| said(&error))?;
    reader.read_to_end(&mut bytes).map_err(|error| {
        let database = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        database.map_or(error.to_string(), said)
    })?;
    let (mut rest, mut rows) = (&bytes[19..], Multiset::new());
    let mut take = |length: usize| {
        let (taken, more) = rest.split_at(length);
        rest = more;
        taken
    };
    while i16::from_be_bytes(take(2).try_into().unwrap()) >= 0 {
        let mut values = vec![];
        for of in &asked.types {
            let length = i32::from_be_bytes(take(4).try_into().unwrap());
            let field = usize::try_from(length).ok().map(&mut take);
            let value = decode(field, of);
            if value.is_none() && *of == Type::Numeric {
                return Err("(a numeric beyond 127 bits)".into());
            }
            values.push(value.unwrap_or_else(|| panic!("{field:?} is no {of:?}: {asked:?}")));
        }
        *rows.entry(values.into()).or_default() += 1;
    }
    Ok(rows)
}

impl Debug for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = if self.late { "the first state is its past" } else { "heard from the start" };
        write!(out, "{} ({heard})", self.select)
    }
}

/// What it answers for each view at each cut.
fn theirs(client: &mut Client, asked: &[Asked]) -> Vec<Vec<Answer>> {
    let mut answers: Vec<Vec<Answer>> = asked.iter().map(|_| vec![]).collect();
    for number in 0..STATES {
        client.batch_execute(&format!("SET search_path = cp{number}")).unwrap();
        for (asked, answers) in asked.iter().zip(&mut answers) {
            answers.push(answer(client, asked));
        }
    }
    answers
}

// The dataflows.

/// The number of a table's rows: not one of the engine's own.
fn number(table: usize) -> u16 {
    if TABLES[table].name == "market" { MARKET } else { table as u16 + 90 }
}

fn sources() -> Vec<Source> {
    let source = |(place, table): (usize, &crate::views_generate::Table)| Source {
        name: table.name.into(),
        table: number(place),
        types: types(place),
        // A row of users takes the place of another; orders are a ledger.
        hidden: vec![],
        key: usize::from(table.name == "users"),
    };
    TABLES.iter().enumerate().map(source).collect()
}

/// What has to be told between two states.
fn told(before: Option<&[Multiset]>, after: &[Multiset]) -> Vec<(usize, Row, Fate)> {
    let (nothing, mut told) = (Multiset::new(), vec![]);
    for (place, after) in after.iter().enumerate() {
        let before = before.map_or(&nothing, |before| &before[place]);
        let rows: BTreeSet<&Row> = before.keys().chain(after.keys()).collect();
        let keyed = TABLES[place].name == "users";
        let shares_key =
            |rows: &Multiset, row: &Row| keyed && rows.keys().any(|other| other[0] == row[0]);
        for row in rows {
            let count = |rows: &Multiset| rows.get(row).copied().unwrap_or(0);
            let more = count(after) - count(before);
            let fate = match more {
                1.. if shares_key(before, row) => Fate::Changed,
                1.. => Fate::New,
                _ if shares_key(after, row) => continue,
                _ => Fate::Gone,
            };
            told.extend((0..more.abs()).map(|_| (place, Arc::clone(row), fate)));
        }
    }
    told
}

/// The share of one worker; a key's changes are all told at the same.
fn batch(told: &[(usize, Row, Fate)], index: usize, peers: usize) -> RowBatch {
    let mut batch = RowBatch::default();
    for (table, row, fate) in told {
        let place = if let Value::Int(id) = row[0] { id.rem_euclid(peers as i64) } else { 0 };
        if place as usize == index {
            let row = row::Row::of(number(*table), &[], &encoded(row, &types(*table)));
            batch.push(&row, *fate);
        }
    }
    batch
}

/// What one worker has seen of a view at the cuts.
type Seen = Vec<(Multiset, Option<Raised>)>;

/// Runs views beside each other; of each what it is at each cut, but for those that were its past.
fn ours(asked: &Arc<[Asked]>, story: &Story, workers: usize) -> Vec<Vec<Answer>> {
    let all: Arc<Mutex<Vec<Vec<Seen>>>> = Arc::default();
    let (out, views, story) = (Arc::clone(&all), Arc::clone(asked), story.clone());
    let ended = timely::execute(timely::Config::process(workers), move |worker| {
        let (hub, index, peers) = (Hub::default(), worker.index(), worker.peers());
        let mut running: Vec<Option<View>> = views.iter().map(|_| None).collect();
        for (number, state) in story.states.iter().enumerate() {
            let epoch = number as Epoch + 100;
            let before = number.checked_sub(1);
            for (asked, view) in views.iter().zip(&mut running) {
                if number != usize::from(asked.late) {
                    continue;
                }
                let shape = Shape { table: 99, types: asked.types.clone(), key: asked.plan.key() };
                let plan = asked.plan.clone();
                let definition = Definition { name: "it".into(), shape, plan, sources: sources() };
                let (ear, from) = hub.listen(definition.tables());
                assert!(from < epoch);
                let now = before.map(|before| story.nows[before]);
                let mut made = View::build(worker, &definition, &ear, epoch - 1, now);
                if let Some(before) = before {
                    let past = told(None, &story.states[before]);
                    let own: Vec<_> = past.into_iter().skip(index).step_by(peers).collect();
                    for slice in own.chunks(5) {
                        made.take_in(&batch(slice, 0, 1));
                        made.next_slice();
                    }
                }
                made.past_is_over();
                *view = Some(made);
            }
            let rows = told(before.map(|before| &story.states[before][..]), state);
            hub.rows(epoch, &batch(&rows, index, peers));
            if index == 0 {
                let since_1970 = (story.nows[number] - micros(0)).div_euclid(1_000);
                hub.cut(epoch, None);
                hub.cut(epoch, Some(since_1970));
            }
            hub.goes_on(Some(epoch + 1));
            for _ in 0..number % 3 {
                worker.step();
            }
        }
        hub.goes_on(None);
        while running.iter().flatten().any(|view| view.frontier().is_some()) {
            worker.step();
        }
        let seen = views.iter().zip(running).map(|(asked, view)| seen(asked, &view.unwrap()));
        let seen = seen.collect();
        out.lock().unwrap().push(seen);
    });
    ended.unwrap().join().into_iter().for_each(|it| it.unwrap());
    let all = Arc::into_inner(all).unwrap().into_inner().unwrap();
    (0..asked.len()).map(|view| together(all.iter().map(|seen| &seen[view]))).collect()
}

/// Takes what a view has become, with the rows that are kept of it as the engine does.
fn seen(asked: &Asked, view: &View) -> Seen {
    let shape = Shape { table: 99, types: asked.types.clone(), key: asked.plan.key() };
    let (mut kept, mut pending, mut held) = (Kept::new(shape), vec![], Multiset::new());
    let mut seen = Seen::new();
    for cut in view.cuts() {
        for (row, diff) in &cut.changes {
            *held.entry(Arc::clone(row)).or_default() += diff;
        }
        held.retain(|_, copies| *copies != 0);
        pending.extend(cut.changes);
        if cut.raised.is_none() {
            let fault = kept.change(std::mem::take(&mut pending), |_, _| {});
            assert_eq!(fault, Ok(()), "a fault: {asked:?}\n{:?}", asked.plan);
            assert_eq!(held.len(), kept.rows(), "{asked:?}");
        }
        seen.push((held.clone(), cut.raised));
    }
    assert_eq!(seen.len(), STATES - usize::from(asked.late), "a cut for each: {asked:?}");
    seen
}

/// The rows of all workers.
fn together<'s>(workers: impl Iterator<Item = &'s Seen>) -> Vec<Answer> {
    let mut together: Vec<(Multiset, Option<Raised>)> = vec![];
    for (number, worker) in workers.enumerate() {
        if number == 0 {
            together.clone_from(worker);
            continue;
        }
        for ((rows, raised), (more, more_raised)) in together.iter_mut().zip(worker) {
            assert_eq!(raised, more_raised, "all workers know what is raised");
            for (row, copies) in more {
                *rows.entry(Arc::clone(row)).or_default() += copies;
            }
        }
    }
    let answer = |(rows, raised): (Multiset, Option<Raised>)| match raised {
        Some(raised) => Err(raised.to_string()),
        None => Ok(rows),
    };
    together.into_iter().map(answer).collect()
}

// What is found.

/// The cuts at which a view is not what PostgreSQL says: state, ours, theirs.
fn differences<'a>(
    asked: &Asked,
    ours: &'a [Answer],
    theirs: &'a [Answer],
) -> impl Iterator<Item = (usize, &'a Multiset, &'a Multiset)> {
    let heard = ours.iter().zip(&theirs[usize::from(asked.late)..]).enumerate();
    let late = usize::from(asked.late);
    heard.filter_map(move |(state, pair)| match pair {
        (Ok(ours), Ok(theirs)) if ours != theirs => Some((state + late, ours, theirs)),
        _ => None,
    })
}

/// A difference of one view alone, in words.
fn differs(
    client: &mut Client,
    asked: &Arc<[Asked]>,
    story: &Story,
    workers: usize,
) -> Option<String> {
    load(client, story);
    let (ours, theirs) = (ours(asked, story, workers), theirs(client, asked));
    let (state, ours, theirs) = differences(&asked[0], &ours[0], &theirs[0]).next()?;
    Some(format!("state {state}\n  ours       {ours:?}\n  PostgreSQL {theirs:?}"))
}

/// The smallest case of a difference that is soon found.
fn smallest(client: &mut Client, asked: Asked, mut story: Story, workers: usize) -> String {
    let asked: Arc<[Asked]> = Arc::new([asked]);
    let alone = [1, workers].into_iter().find_map(|workers| {
        differs(client, &asked, &story, workers).map(|difference| (workers, difference))
    });
    let Some((workers, mut difference)) = alone else {
        return format!("not alone: {:?}\n{:?}", asked[0], asked[0].plan);
    };
    let mut rows: Vec<(usize, usize, Row)> = vec![];
    for (number, tables) in story.states.iter().enumerate() {
        for (place, table) in tables.iter().enumerate() {
            rows.extend(table.keys().map(|row| (number, place, Arc::clone(row))));
        }
    }
    for (number, place, row) in rows.into_iter().take(STEPS) {
        let mut without = story.clone();
        without.states[number][place].remove(&row);
        if let Some(other) = differs(client, &asked, &without, workers) {
            (story, difference) = (without, other);
        }
    }
    let mut text =
        format!("{workers} workers: {:?}\n{:?}\n{difference}\n", asked[0], asked[0].plan);
    for (number, (tables, now)) in story.states.iter().zip(&story.nows).enumerate() {
        _ = writeln!(text, "  state {number}, now {now}");
        for (table, rows) in TABLES.iter().zip(tables).filter(|(_, rows)| !rows.is_empty()) {
            _ = writeln!(text, "    {}: {rows:?}", table.name);
        }
    }
    text
}

type Counts = BTreeMap<String, usize>;

fn count(counts: &mut Counts, what: impl Into<String>) {
    *counts.entry(what.into()).or_default() += 1;
}

/// The first word of what something is.
fn word(of: &impl Debug) -> String {
    let text = format!("{of:?}");
    text.split([' ', '(', ',']).next().unwrap().to_owned()
}

fn count_expr(counts: &mut Counts, expr: &Expr) {
    match expr {
        Expr::Call(function, _) => count(counts, format!("function {}", word(function))),
        other => count(counts, format!("expression {}", word(other))),
    }
    expr.parts().into_iter().for_each(|part| count_expr(counts, part));
}

/// Counts what there is in a plan.
fn count_plan(counts: &mut Counts, plan: &Plan) {
    let mut parts: Vec<&Expr> = vec![];
    let name = word(plan);
    let name = match plan {
        Plan::Join { kind, keys, residual, .. } => {
            parts.extend(keys.iter().flat_map(|(left, right)| [left, right]).chain(residual));
            let keys = ["without keys", "with keys"][usize::from(!keys.is_empty())];
            let kind: &JoinKind = kind;
            format!("{name} {kind:?} {keys}{}", if residual.is_some() { ", residual" } else { "" })
        }
        Plan::Set { operation, all, .. } => {
            format!("{name} {operation:?}{}", if *all { " all" } else { "" })
        }
        Plan::Group { keys, aggregates, .. } => {
            parts.extend(keys);
            for it in aggregates {
                parts.extend(it.argument.iter().chain(&it.filter));
                let distinct = if it.distinct { " distinct" } else { "" };
                let filter = if it.filter.is_some() { " filter" } else { "" };
                count(counts, format!("aggregate {:?}{distinct}{filter}", it.kind));
            }
            format!("{name} by {}", keys.len().min(2))
        }
        Plan::Window { keys, order, functions, limit, .. } => {
            parts.extend(keys.iter().chain(order.iter().map(|order| &order.by)));
            for it in functions {
                count(counts, format!("window {}", word(it)));
            }
            format!("{name}{}", if limit.is_some() { " limit" } else { "" })
        }
        Plan::Unnest { arrays, ordinality, .. } => {
            parts.extend(arrays);
            format!("{name} {}{}", arrays.len(), if *ordinality { " ordinality" } else { "" })
        }
        Plan::While { conditions, .. } => {
            parts.extend(conditions.iter().flat_map(|it| [&it.at, &it.bound]));
            for it in conditions {
                count(counts, format!("while {:?}", it.comparison));
            }
            name
        }
        Plan::Project { columns, .. } => {
            parts.extend(columns);
            name
        }
        Plan::Filter { condition, .. } => {
            parts.push(condition);
            name
        }
        _ => name,
    };
    count(counts, format!("plan {name}"));
    for part in parts {
        count_expr(counts, part);
    }
    for input in plan.inputs() {
        count_plan(counts, input);
    }
}

/// What is to be reached; of each line what may follow the first words.
const REACHED: [(&str, &[&str]); 8] = [
    ("plan ", &["Scan", "Values", "Project", "Filter", "While", "Distinct", "Union"]),
    ("plan ", &["Group by 0", "Group by 1", "Group by 2", "Window", "Window limit"]),
    ("plan Unnest ", &["1", "1 ordinality", "2", "2 ordinality"]),
    ("plan Set ", &["Except", "Except all", "Intersect", "Intersect all"]),
    (
        "plan Join ",
        &[
            "Inner without keys",
            "Inner with keys",
            "Left without keys, residual",
            "Left with keys",
            "Left with keys, residual",
            "Semi without keys, residual",
            "Semi with keys",
            "Semi with keys, residual",
            "Anti without keys, residual",
            "Anti with keys",
            "Anti with keys, residual",
        ],
    ),
    (
        "aggregate ",
        &[
            "CountRows",
            "CountRows filter",
            "Count",
            "Count distinct",
            "Count filter",
            "Count distinct filter",
            "SumBigint",
            "SumBigint distinct",
            "SumBigint filter",
            "SumBigint distinct filter",
            "SumNumeric",
            "SumNumeric distinct",
            "SumNumeric filter",
            "SumNumeric distinct filter",
            "BoolAnd",
            "BoolAnd filter",
            "BoolOr",
            "BoolOr filter",
            "Min",
            "Min filter",
            "Max",
            "Max filter",
        ],
    ),
    ("window ", &["RowNumber", "Rank", "Lag"]),
    ("while ", &["Less", "LessOrEqual", "Greater", "GreaterOrEqual"]),
];

/// What has been found.
#[derive(Default)]
struct Found {
    reached: Counts,
    /// What is not compared, and why.
    apart: Counts,
    equal: usize,
    filled: usize,
    rows: isize,
    both: usize,
    one: usize,
}

impl Found {
    fn compared(&mut self, asked: &Asked, ours: &[Answer], theirs: &[Answer]) {
        for pair in ours.iter().zip(&theirs[usize::from(asked.late)..]) {
            match pair {
                (Ok(ours), Ok(theirs)) if ours == theirs => {
                    self.equal += 1;
                    self.filled += usize::from(!theirs.is_empty());
                    self.rows += theirs.values().sum::<isize>();
                }
                (Ok(_), Ok(_)) => {}
                (Err(_), Err(_)) => self.both += 1,
                (Err(ours), Ok(_)) => {
                    self.one += 1;
                    count(&mut self.apart, format!("raised by us only: {ours}"));
                }
                (Ok(_), Err(theirs)) => {
                    self.one += 1;
                    count(&mut self.apart, format!("raised by PostgreSQL only: {theirs}"));
                }
            }
        }
    }
}

/// Some views more that PostgreSQL and we take.
fn ask(
    client: &mut Client,
    catalog: &Catalog,
    random: &mut Random,
    found: &mut Found,
) -> Vec<Asked> {
    client.batch_execute("SET search_path = cp0").unwrap();
    let mut views: Vec<Asked> = vec![];
    for place in 0..TOGETHER {
        let select = query(random);
        let (tree, types) = match analysed(client, &select) {
            Ok(analysed) => analysed,
            Err(error) => {
                let said = said(&error);
                let said = said.split('"').next().unwrap().to_owned();
                count(&mut found.apart, format!("not taken by PostgreSQL: {said}"));
                continue;
            }
        };
        match lower(&tree, catalog) {
            Ok(plan) => {
                count_plan(&mut found.reached, &plan);
                assert_eq!(plan.arity(), types.len(), "{select}");
                views.push(Asked { select, plan, types, late: place % 2 == 1 });
            }
            Err(refused) => count(&mut found.apart, format!("refused: {refused}")),
        }
    }
    views
}

#[test]
#[expect(clippy::print_stdout, reason = "what was reached is for a person to read")]
fn random_views_are_as_postgres_says() {
    let set = |name, or| std::env::var(name).map_or(or, |text| text.parse::<u64>().unwrap());
    let (seed, wanted) = (set("VIEWS_FUZZ_SEED", 20_261_130), set("VIEWS_FUZZ_COUNT", 2_000));
    println!("VIEWS_FUZZ_SEED={seed} VIEWS_FUZZ_COUNT={wanted}");
    let mut client = connect(&fresh_database());
    create(&mut client);
    let catalog = catalog(&mut client);
    let (mut random, mut found) = (Random(seed), Found::default());
    let mut views = 0;
    for turn in 0..wanted.div_ceil(TOGETHER as u64) {
        let (story, workers) = (Story::new(&mut random), turn as usize % 3 + 1);
        let asked: Arc<[Asked]> = ask(&mut client, &catalog, &mut random, &mut found).into();
        views += asked.len();
        load(&mut client, &story);
        let (ours, theirs) = thread::scope(|scope| {
            let ours = scope.spawn(|| ours(&asked, &story, workers));
            let theirs = theirs(&mut client, &asked);
            (ours.join().unwrap(), theirs)
        });
        for (place, asked) in asked.iter().enumerate() {
            let (ours, theirs) = (&ours[place], &theirs[place]);
            if differences(asked, ours, theirs).next().is_some() {
                let Asked { select, plan, types, late } = asked;
                let (select, plan, types) = (select.clone(), plan.clone(), types.clone());
                let alone = Asked { select, plan, types, late: *late };
                panic!("turn {turn}: {}", smallest(&mut client, alone, story, workers));
            }
            found.compared(asked, ours, theirs);
        }
    }
    let Found { reached, apart, equal, filled, rows, both, one } = found;
    println!(
        "{views} views; {equal} answers equal, {filled} of them with rows ({rows}); both raise \
         {both}, one raises {one}"
    );
    apart.iter().chain(&reached).for_each(|(what, times)| println!("{times:8} {what}"));
    assert!(filled * 2 >= equal, "most answers are empty");
    assert!((both + one) * 5 < equal, "too much is raised");
    // A short run does not reach everything.
    if wanted >= 1_000 {
        let names =
            REACHED.iter().flat_map(|(of, it)| it.iter().map(move |it| format!("{of}{it}")));
        let rare: Vec<String> =
            names.filter(|name| reached.get(name).is_none_or(|times| *times < 3)).collect();
        assert!(rare.is_empty(), "hardly reached: {rare:?}");
    }
}
