//! The twins say what docs/tables.md says: stories with the rows that come of them, and grades worked out tick by
//! tick.
//!
//! A story is a file of `tests/twins`, in the words of `dataflows/analytics/story.rs`. The twins, over
//! ledgers that hold its events, must give its rows, and so must the queries.

#[path = "../dataflows/analytics/story.rs"]
mod story;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use chrono::{DateTime, NaiveDate};
use dataflows::QUERIES;
use dataflows::analytics::ledger_table;
use dataflows::ledger::{Origin, Sourced, ledger_row};
use dataflows::model::time::{self, TICK};
use dataflows::model::{Event, Millis, Record, Topic};
use dataflows::row::{Fields, Row};
use postgres::Client;

use self::story::{day_as_told, difference, instant_as_told, is_sql, steps, told};
use crate::support::{connect, fresh_database};

#[test]
fn every_story_has_the_rows_that_it_expects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/twins");
    let files = folder.read_dir().unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no stories", folder.display());
    let mut failed = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        // A panic tells the name of its thread.
        let story = thread::Builder::new().name(name.clone()).spawn(move || {
            let text = fs::read_to_string(file).unwrap();
            told_to_twins(&text);
            told(&text);
        });
        if story.unwrap().join().is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "of the stories of tests/twins failed, as told above: {failed:?}");
}

/// Writes a story into ledgers, step by step; what the twins say otherwise fails the test.
fn told_to_twins(text: &str) {
    let mut client = client();
    let mut wrong = Vec::new();
    let mut origin = Origin::default();
    for (step, epoch) in steps(text).into_iter().zip(1..) {
        enter(&mut client, step.events, &mut origin);
        if let Some(now) = step.now {
            set_now(&mut client, epoch, now);
        }
        run_twins(&mut client);
        for (table, expected) in &step.tables {
            let all = format!("SELECT * FROM pg_temp.{table}");
            let sql = if is_sql(table) { table } else { &all };
            wrong.extend(difference(table, expected, &rows(&mut client, sql)));
        }
    }
    assert!(wrong.is_empty(), "the twins differ\n{}{text}", wrong.concat());
}

/// A client of a database of its own, in a zone where a day of August has 23 hours.
fn client() -> Client {
    let mut client = connect(&fresh_database());
    client.batch_execute("SET TIME ZONE 'AAA0BBB,M8.3.0,M12.1.0'").unwrap();
    client
}

/// Puts events into their ledgers, as the engine does.
fn enter(client: &mut Client, events: Vec<Event>, origin: &mut Origin) {
    let mut ledgers: BTreeMap<Topic, Vec<Row>> = BTreeMap::new();
    for event in events {
        let (topic, row) = match event {
            Event::User(event) => entry(*origin, event),
            Event::Product(event) => entry(*origin, event),
            Event::Order(event) => entry(*origin, event),
            Event::Scenario(event) => entry(*origin, event),
            Event::Heartbeat(_) => continue,
        };
        origin.offset += 1;
        ledgers.entry(topic).or_default().push(row);
    }
    for (topic, rows) in ledgers {
        let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for row in rows {
            bytes.extend_from_slice(&count_fields(row.value()).to_be_bytes());
            bytes.extend_from_slice(row.value());
        }
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        // `order_events` is a view of what the engine writes.
        let ledger = match topic {
            Topic::Orders => {
                "order_ledger (event_id, partition, \"offset\", at, kind, order_id, user_id, \
                 ordered_at, lines)"
            }
            topic => topic.ledger(),
        };
        let copy = format!("COPY {ledger} FROM STDIN (FORMAT binary)");
        let mut copy = client.copy_in(copy.as_str()).unwrap();
        copy.write_all(&bytes).unwrap();
        copy.finish().unwrap();
    }
}

/// An event's row in its ledger.
fn entry<E: Record>(origin: Origin, event: E) -> (Topic, Row) {
    (E::TOPIC, ledger_row(ledger_table(E::TOPIC), &Sourced { origin, event }))
}

fn count_fields(row: &[u8]) -> i16 {
    let mut fields = Fields(row);
    let mut count = 0;
    while !fields.0.is_empty() {
        fields.bytes();
        count += 1;
    }
    count
}

/// Makes the newest commit point say `now`; an older one says something else.
fn set_now(client: &mut Client, epoch: i64, now: Millis) {
    let (older, newest) = (2 * epoch, 2 * epoch + 1);
    let sql = format!(
        "INSERT INTO commit_points VALUES
             ({older}, '2000-01-01', '{{}}', 0, 0, now()),
             ({newest}, to_timestamp({now} / 1000.0), '{{}}', 0, 0, now())"
    );
    client.batch_execute(&sql).unwrap();
}

/// Runs all twins as their role; what they give is in `pg_temp` under the results' names, and in the
/// result tables.
pub(crate) fn run_twins(client: &mut Client) {
    for (table, twin) in QUERIES.iter().map(|query| (query.name, query.twin)) {
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS pg_temp.{table};
                 SET ROLE marketday_twin; CREATE TEMP TABLE {table} AS {twin}; RESET ROLE;
                 DELETE FROM public.{table}; INSERT INTO public.{table} SELECT * FROM pg_temp.{table}"
            ))
            .unwrap();
    }
}

/// The rows of a query as stories write them, sorted.
fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let sql = format!(
        "SELECT ARRAY(SELECT coalesce(value, '') FROM
        json_each_text(to_json(t)) WITH ORDINALITY AS f (key, value, n) ORDER BY n)
        FROM ({sql}) AS t"
    );
    let text = |row: &postgres::Row| {
        let cells: Vec<String> = row.get(0);
        cells.iter().map(|cell| as_told(cell)).collect::<Vec<_>>().join(" | ")
    };
    let mut rows: Vec<String> = client.query(&sql, &[]).unwrap().iter().map(text).collect();
    rows.sort();
    rows
}

/// A cell as stories write it, from how JSON has it.
fn as_told(cell: &str) -> String {
    if let Ok(at) = DateTime::parse_from_rfc3339(cell) {
        return instant_as_told(at.timestamp_millis());
    }
    let date = cell.parse::<NaiveDate>();
    date.map_or_else(|_| cell.to_owned(), |date| day_as_told(date.to_epoch_days()))
}

/// A ledger entry: at, `ordered_at`, orders, amount.
type Entry = (Millis, Millis, i64, i64);

/// How the naive grade may be wrong.
#[derive(Clone, Copy)]
struct Mutation {
    demotion: usize,
    expiry_inclusive: bool,
}

/// A customer's grade changes by the letter: all entries summed at every tick.
fn naive_changes(
    entries: &[Entry],
    now: Millis,
    mutation: Mutation,
) -> Vec<(Millis, usize, usize)> {
    let Some(first) = entries.iter().map(|entry| entry.0).min() else { return Vec::new() };
    let entries: Vec<_> =
        entries.iter().map(|it| (it.0, time::six_months_after(it.1), it.2, it.3)).collect();
    let mut changes = Vec::new();
    let mut grade = 0usize;
    let mut tick = first - first.rem_euclid(TICK);
    while tick <= now {
        let (mut orders, mut amount) = (0, 0);
        for (at, expiry, entry_orders, entry_amount) in &entries {
            if *at <= tick && (tick < *expiry || mutation.expiry_inclusive && tick == *expiry) {
                orders += entry_orders;
                amount += entry_amount;
            }
        }
        let marks = [(500_000, 5), (2_000_000, 15), (5_000_000, 30)];
        let target = marks.iter().rposition(|mark| amount >= mark.0 && orders >= mark.1);
        let target = target.map_or(0, |mark| mark + 1);
        let next = target.max(grade.saturating_sub(mutation.demotion));
        if next != grade {
            changes.push((tick, grade, next));
        }
        grade = next;
        tick += TICK;
    }
    changes
}

#[test]
fn the_fast_grade_twin_equals_the_naive_one() {
    const USERS: i64 = 24;
    let mut state = 7u64;
    let mut random = move |below: i64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as i64) % below
    };
    // Bursts of orders around month ends, half of them on a tick, so that levels fall away at once; some taken back early or late.
    let start: Millis = 1_740_000_000_000; // 2025-02-20
    let now = start + 450 * time::DAY + 123_456;
    let mut client = client();
    let mut ledgers = vec![Vec::new(); USERS as usize];
    let mut sql = String::from("INSERT INTO order_events VALUES ");
    let (mut event_id, mut order_id) = (0, 0);
    for (user, ledger) in ledgers.iter_mut().enumerate() {
        let mut add = |event: &str, order: i64, at: Millis, ordered: Millis, won: i64| {
            let (sign, orders) = match event {
                "placed" => (1, 1),
                "cancelled" => (-1, -1),
                _ => (-1, 0),
            };
            ledger.push((at, ordered, orders, sign * won));
            write!(
                sql,
                "{}({event_id}, 0, {event_id}, to_timestamp({at} / 1000.0), '{event}', {order}, {user},
                  to_timestamp({ordered} / 1000.0), '{{1}}', '{{c}}', '{{1}}', '{{{won}}}')",
                if event_id == 0 { "" } else { ",\n" }
            )
            .unwrap();
            event_id += 1;
        };
        for _ in 0..2 {
            let burst = start + random(400) * time::DAY + random(144) * TICK;
            let ticks = 1 + 3 * random(2); // all at one tick, or over four
            let late = random(2) * random(TICK); // on the tick, or after it
            for _ in 0..random(40) {
                let at = burst - burst.rem_euclid(TICK) + random(ticks) * TICK + late;
                let won = 20_000 + random(300_000);
                order_id += 1;
                add("placed", order_id, at, at, won);
                match random(10) {
                    0 => add("cancelled", order_id, at + random(200 * time::DAY), at, won),
                    1 => add("refunded", order_id, at + random(200 * time::DAY), at, won / 2),
                    2 => add("cancelled", order_id, time::six_months_after(at), at, won),
                    _ => {}
                }
            }
        }
    }
    client.batch_execute(&sql).unwrap();
    let users = format!(
        "INSERT INTO user_events
         SELECT n, 0, n, '2025-01-01', n, 'n', '1990-05-05', 'F', 'Seoul', 'ACTIVE', true, '2025-01-01'
         FROM generate_series(0, {USERS} - 1) AS n"
    );
    client.batch_execute(&users).unwrap();
    set_now(&mut client, 1, now);
    run_twins(&mut client);
    let words = ["BRONZE", "SILVER", "GOLD", "VIP"];
    let naive = |mutation| {
        let mut lines = Vec::new();
        for (user, ledger) in ledgers.iter().enumerate() {
            for (tick, from, to) in naive_changes(ledger, now, mutation) {
                lines.push(format!("{user} | {tick} | {} | {}", words[from], words[to]));
            }
        }
        lines.sort();
        lines
    };
    let fast = rows(
        &mut client,
        "SELECT user_id, (extract(epoch FROM tick) * 1000)::bigint AS tick, from_grade, to_grade
         FROM pg_temp.grade_changes",
    );
    assert!(fast.len() > 50, "too few changes to prove anything: {}", fast.len());
    for word in words {
        assert!(fast.iter().any(|change| change.ends_with(word)), "nobody became {word}");
    }
    assert_eq!(fast, naive(Mutation { demotion: 1, expiry_inclusive: false }));
    // The comparison has teeth: a wrong rule gives something else.
    assert_ne!(fast, naive(Mutation { demotion: 2, expiry_inclusive: false }));
    assert_ne!(fast, naive(Mutation { demotion: 1, expiry_inclusive: true }));
}

#[test]
fn the_twins_role_sees_the_base_tables_and_nothing_else() {
    let mut client = client();
    let readable = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
                    AND relkind IN ('r', 'v', 'm')
                    AND has_table_privilege('marketday_twin', oid, 'SELECT')";
    assert_eq!(
        rows(&mut client, readable),
        [
            "commit_points",
            "counted_order_events",
            "order_events",
            "order_lines",
            "product_events",
            "scenario_events",
            "user_events",
        ]
    );
    let writable = readable.replace("'SELECT'", "'INSERT, UPDATE, DELETE, TRUNCATE'");
    assert!(rows(&mut client, &writable).is_empty());
}
