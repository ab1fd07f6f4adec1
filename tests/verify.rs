//! `verify` finds whatever differs.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use dataflows::QUERIES;
use dataflows::analytics::Tables;
use dataflows::ledger::Reach;
use dataflows::model::{Millis, Topic, UserId, time};
use marketday::log::{Batch, Log, Owner, Reader, Record, Writer};
use marketday::store;
use marketday::verify::verify;
use postgres::{Client, Config};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{
    analytics, command, connect, copied_database, database_url, fresh_database, marketday, scratch,
};
use crate::twins::run_twins;

/// A client whose wall clock is the market's.
fn client(config: &Config) -> Client {
    let mut client = connect(config);
    client.batch_execute("SET TIME ZONE 'Asia/Seoul'").unwrap();
    client
}

/// What became of a record, as an engine would have it.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Counted,
    Duplicate,
    /// A dead letter that moves the time as a copy does.
    Conflict,
    Dead,
    Heartbeat,
}

/// A log in memory: (topic, partition, value, fate), offsets counted by partition.
#[derive(Clone)]
struct Story {
    identity: String,
    records: Vec<(Topic, u32, String, Fate)>,
    start: u64,
    owner: Option<Owner>,
}

impl Story {
    fn of(&self, topic: Topic, partition: u32) -> Vec<(&str, Fate)> {
        self.records
            .iter()
            .filter(|record| (record.0, record.1) == (topic, partition))
            .map(|record| (record.2.as_str(), record.3))
            .collect()
    }
}

impl Log for Story {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn owner(&self) -> Result<Option<Owner>> {
        Ok(self.owner)
    }

    fn partitions(&self, topic: Topic) -> u32 {
        if topic == Topic::Scenarios { 1 } else { 2 }
    }

    fn start(&self, topic: Topic, _: u32) -> Result<u64> {
        Ok(if topic == Topic::Orders { self.start } else { 0 })
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.of(topic, partition).len() as u64)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        bail!("a story is not written to")
    }

    fn readers(&self, topic: Topic, from: &[(u32, u64)]) -> Result<Vec<Box<dyn Reader>>> {
        let reader = |&(partition, offset): &(u32, u64)| {
            let records = self.of(topic, partition);
            let values = records.into_iter().map(|(value, _)| value.to_owned()).collect();
            let next = offset as usize;
            Box::new(StoryReader { topic, partition, values, next }) as Box<dyn Reader>
        };
        Ok(from.iter().map(reader).collect())
    }
}

struct StoryReader {
    topic: Topic,
    partition: u32,
    values: Vec<String>,
    next: usize,
}

impl Reader for StoryReader {
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize> {
        let count = max.min(2).min(self.values.len() - self.next);
        for _ in 0..count {
            let value = Some(self.values[self.next].as_bytes());
            batch.push(Record { offset: self.next as u64, timestamp: 0, key: None, value });
            self.next += 1;
        }
        Ok(count)
    }

    fn position(&self) -> u64 {
        self.next as u64
    }

    fn partition(&self) -> (Topic, u32) {
        (self.topic, self.partition)
    }
}

const NOW: Millis = 1_750_000_000_000;

fn placed(event_id: u64, order_id: i64, at: Millis, price: i64) -> Value {
    json!({"event_id": event_id, "at": at, "event": "placed", "order_id": order_id, "user_id": 1,
           "ordered_at": at, "lines": [
               {"product_id": 1, "category": "books", "quantity": 2, "unit_price": price},
               {"product_id": 2, "category": "장난감", "quantity": 1, "unit_price": 5}]})
}

fn story() -> Story {
    use Fate::{Conflict, Counted, Dead, Duplicate, Heartbeat};
    let mut records = Vec::new();
    let mut add = |topic, partition, value: Value, fate| {
        records.push((topic, partition, value.to_string(), fate));
    };
    let customer = json!({"event_id": u64::MAX, "at": NOW, "user_id": 1, "name": "김하나",
        "birth_date": "2000-02-29", "sex": "F", "region": "Seoul", "status": "ACTIVE",
        "marketing_consent": true, "signed_up_at": NOW, "unknown": 1.5});
    add(Topic::Users, 0, customer.clone(), Counted);
    add(Topic::Users, 1, customer, Duplicate); // a copy in another partition
    for product_id in [1, 2] {
        let product = json!({"event_id": product_id, "at": NOW, "product_id": product_id,
            "name": "p", "category": "books", "price": 10, "stock": 3, "listed_at": NOW});
        add(Topic::Products, 0, product, Counted);
    }
    add(Topic::Orders, 0, placed(1, 1, NOW, 100), Counted);
    add(Topic::Orders, 0, placed(1, 1, NOW, 100), Duplicate);
    add(Topic::Orders, 0, placed(2, 1, NOW, 100), Counted); // superseded: the order was placed
    add(Topic::Orders, 0, placed(1, 1, NOW, 101), Conflict);
    add(Topic::Orders, 0, placed(3, 3, NOW, -1), Dead);
    add(Topic::Orders, 0, json!({"event": "heartbeat", "at": NOW + 5_000}), Heartbeat);
    let mut cancelled = placed(4, 1, NOW, 100);
    cancelled["event"] = json!("cancelled");
    cancelled["at"] = json!(NOW + 1);
    add(Topic::Orders, 1, cancelled, Counted);
    // Of somebody else: one customer alone would not move the time.
    let mut other = placed(5, 5, NOW + 7_000, 300);
    other["user_id"] = json!(2);
    add(Topic::Orders, 1, other, Counted);
    // Enough for SILVER.
    for order in 11..16 {
        let event = placed(order as u64, order, NOW - 10_800_000, 200_000);
        add(Topic::Orders, 1, event, Counted);
    }
    // Enough in three of four weeks that orders are missed in the fourth after, two hours ago.
    for order in 1_000..2_200 {
        let at = NOW - (2 + order % 3) * 7 * time::DAY - 2 * time::HOUR;
        add(Topic::Orders, 1, placed(order as u64, order, at, 1), Counted);
    }
    let scenario = json!({"event_id": 0, "at": NOW, "occurrence": "o", "name": "sale",
        "action": "start", "strength": 1.3, "categories": ["books", "toys"]});
    add(Topic::Scenarios, 0, scenario, Counted);
    Story { identity: "story".into(), records, start: 0, owner: None }
}

/// Fills the database as an engine would that has read the story to its end.
#[expect(clippy::too_many_lines, reason = "a small engine, read from top to bottom")]
fn commit(config: &Config, story: &Story) {
    let mut client = connect(config);
    let (mut all, mut all_hash) = (0, 0i64);
    let mut offsets = BTreeMap::<_, Vec<usize>>::new();
    for topic in Topic::ALL {
        for partition in 0..story.partitions(topic) {
            let records = story.of(topic, partition);
            let count = |fate| records.iter().filter(|record| record.1 == fate).count() as i64;
            let (mut amount, mut hash, mut reach) = (0i64, 0i64, None);
            let mut counted = (Vec::new(), Vec::new());
            for (offset, (value, fate)) in (0i64..).zip(&records) {
                let json: Value = serde_json::from_str(value).unwrap();
                if *fate != Fate::Dead && topic == Topic::Orders {
                    let (at, by) = (json["at"].as_i64().unwrap(), json["user_id"].as_i64());
                    reach = Some(Reach::after(reach, offset as u64, at, by.map(UserId)));
                }
                if matches!(fate, Fate::Dead | Fate::Conflict) {
                    let sql = "INSERT INTO dead_letters VALUES ('orders', $1, $2, now(), 'bad')";
                    client.execute(sql, &[&i64::from(partition), &offset]).unwrap();
                }
                if *fate != Fate::Counted {
                    continue;
                }
                hash = hash.wrapping_add(xxh3_64(value.as_bytes()) as i64);
                for line in json["lines"].as_array().into_iter().flatten() {
                    amount +=
                        line["quantity"].as_i64().unwrap() * line["unit_price"].as_i64().unwrap();
                }
                counted.0.push(offset);
                counted.1.push(*value);
            }
            let time = |name: &str| format!("to_timestamp((v->>'{name}')::bigint / 1000.0)");
            let texts = "ARRAY(SELECT jsonb_array_elements_text(v->'categories'))";
            let column = |name: &str, kind: &str| {
                format!(
                    "ARRAY(SELECT (line->>'{name}')::{kind} FROM jsonb_array_elements(v->'lines')
                        WITH ORDINALITY AS l (line, n) ORDER BY n)"
                )
            };
            let (table, columns) = match topic {
                Topic::Users => (
                    "user_events",
                    format!(
                        "(v->>'user_id')::bigint, v->>'name', (v->>'birth_date')::date, v->>'sex',
                         v->>'region', v->>'status', (v->>'marketing_consent')::boolean, {}",
                        time("signed_up_at")
                    ),
                ),
                Topic::Products => (
                    "product_events",
                    format!(
                        "(v->>'product_id')::bigint, v->>'name', v->>'category',
                         (v->>'price')::bigint, (v->>'stock')::bigint, {}",
                        time("listed_at")
                    ),
                ),
                Topic::Orders => (
                    "order_events",
                    format!(
                        "v->>'event', (v->>'order_id')::bigint, (v->>'user_id')::bigint, {}, {}, {}, {}, {}",
                        time("ordered_at"),
                        column("product_id", "bigint"),
                        column("category", "text"),
                        column("quantity", "bigint"),
                        column("unit_price", "bigint")
                    ),
                ),
                Topic::Scenarios => (
                    "scenario_events",
                    format!(
                        "v->>'occurrence', v->>'name', v->>'action', (v->>'strength')::float8, {texts}"
                    ),
                ),
            };
            let sql = format!(
                "INSERT INTO {table} SELECT (v->>'event_id')::numeric, $1, n, {}, {columns}
                     FROM unnest($2::bigint[], $3::text[]) AS counted (n, value),
                          LATERAL (SELECT value::jsonb AS v) AS record",
                time("at")
            );
            client.execute(&sql, &[&i64::from(partition), &counted.0, &counted.1]).unwrap();
            let dead = count(Fate::Dead) + count(Fate::Conflict);
            let newest_offset = reach.map(|reach| reach.newest_offset as i64);
            client
                .execute(
                    "INSERT INTO commit_offsets
                         (topic, partition, next_offset, counted, duplicate, dead, heartbeat, amount,
                          hash, newest_at, newest_by, newest_offset, other_at, reached_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10::bigint / 1000.0),
                             $11, $12, to_timestamp($13::bigint / 1000.0),
                             to_timestamp($14::bigint / 1000.0))",
                    &[
                        &topic.name(),
                        &i64::from(partition),
                        &(records.len() as i64),
                        &count(Fate::Counted),
                        &count(Fate::Duplicate),
                        &dead,
                        &count(Fate::Heartbeat),
                        &amount,
                        &hash,
                        &reach.map(|reach| reach.newest_at),
                        &reach.and_then(|reach| reach.newest_by).map(i64::from),
                        &newest_offset,
                        &reach.and_then(|reach| reach.other_at),
                        &reach.and_then(|reach| reach.reached),
                    ],
                )
                .unwrap();
            all += count(Fate::Counted);
            all_hash = all_hash.wrapping_add(hash);
            offsets.entry(topic.name()).or_default().push(records.len());
        }
    }
    client
        .execute(
            "INSERT INTO commit_points VALUES (7, to_timestamp($1::bigint / 1000.0), $2::text::jsonb, $3, $4, now())",
            &[&(NOW + 5_000), &json!(offsets).to_string(), &all, &all_hash],
        )
        .unwrap();
    client
        .batch_execute(
            "UPDATE progress SET log_identity = 'story', now = (SELECT now FROM commit_points)",
        )
        .unwrap();
    run_twins(&mut client);
}

/// Runs verify: whether all is equal, and the report.
fn verified(config: &Config, log: &Story) -> (bool, String) {
    let mut out = Vec::new();
    let equal = verify(config, Some(log), &mut out, false).unwrap();
    let mut json = Vec::new();
    assert_eq!(verify(config, Some(log), &mut json, true).unwrap(), equal);
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["equal"], equal);
    (equal, String::from_utf8(out).unwrap())
}

#[test]
fn equal_is_reported_equal() {
    let config = fresh_database();
    commit(&config, &story());
    let (equal, report) = verified(&config, &story());
    assert!(equal, "{report}");
    assert!(report.contains("all equal"), "{report}");
    assert!(report.contains("superseded"), "{report}");
}

#[test]
fn what_cannot_be_compared_is_a_line_and_the_others_go_on() {
    let equal = fresh_database();
    commit(&equal, &story());
    // What is done to the store, what is named, how many differences that makes, and what goes on.
    let check = |sql: &str, named: &[&str], differences: Option<usize>, others: &[&str]| {
        let config = copied_database(equal.get_dbname().unwrap());
        connect(&config).batch_execute(sql).unwrap();
        let (equal, report) = verified(&config, &story());
        assert!(!equal, "{sql}\n{report}");
        for named in named {
            assert!(report.contains(named), "{sql}: {named}\n{report}");
        }
        if let Some(differences) = differences {
            assert_eq!(report.matches("differs: ").count(), differences, "{sql}\n{report}");
        }
        for other in others {
            let row = |line: &str| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.first() == Some(other) && words[words.len() - 2..] == ["0", "0"]
            };
            assert!(report.lines().any(row), "{sql}: {other}\n{report}");
        }
    };
    check(
        "ALTER TABLE season_pattern RENAME TO gone",
        &["season_pattern could not be compared with its twin: "],
        Some(1),
        &["sales_by_month", "users", "orders/0"],
    );
    // The twin of season_pattern reads that of this one, which is there all the same.
    check(
        "ALTER TABLE sales_by_category DROP COLUMN revenue CASCADE",
        &["sales_by_category could not be compared with its twin: "],
        Some(1),
        &["season_pattern", "orders/1"],
    );
    // As a time-out has it.
    check(
        "CREATE FUNCTION late() RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = 'query_canceled'; END $$;
         ALTER TABLE best_sellers RENAME TO gone;
         CREATE VIEW best_sellers AS SELECT * FROM gone WHERE late()",
        &["best_sellers could not be compared with its twin: ", "too late"],
        Some(1),
        &["basket_pairs", "orders/0"],
    );
    check(
        "REVOKE SELECT ON product_events FROM marketday_twin",
        &["first_sale_lag could not be compared with its twin: ", "permission denied"],
        None,
        &["orders_by_minute", "products/0"],
    );
    check(
        "REVOKE SELECT ON order_events, counted_order_events FROM marketday_twin",
        &["finding the order events that count: ", "orders_by_minute could not be compared"],
        None,
        &["users/0", "orders/0"],
    );
    check(
        "ALTER TABLE user_events RENAME TO gone",
        &["the base table of topic users could not be compared with the log: "],
        None,
        &["orders_by_minute", "products/0", "orders/0", "orders/1", "scenarios/0"],
    );
    check(
        "ALTER TABLE dead_letters RENAME TO gone",
        &["dead_letters could not be compared with the log: "],
        Some(1),
        &["orders_by_minute", "users/0", "orders/0"],
    );
    check(
        "ALTER TABLE commit_offsets RENAME TO gone",
        &["the base tables could not be compared with the log: reading commit_offsets: "],
        Some(1),
        &["orders_by_minute", "users"],
    );
    check(
        "ALTER TABLE commit_points RENAME TO gone",
        &[
            "asking whether anything is committed: ",
            "the newest commit point could not be compared: ",
        ],
        None,
        &["orders_by_minute", "products", "orders/0"],
    );
}

/// What another session holds is waited for some seconds.
#[test]
fn a_table_that_is_locked_is_a_line_and_the_others_go_on() {
    let config = fresh_database();
    commit(&config, &story());
    let mut other = connect(&config);
    let mut holding = other.transaction().unwrap();
    holding.batch_execute("LOCK TABLE best_sellers").unwrap();
    let (equal, report) = verified(&config, &story());
    assert!(!equal, "{report}");
    for locked in ["best_sellers could not be", "lock timeout"] {
        assert!(report.contains(locked), "{locked}\n{report}");
    }
    for other in ["orders_by_minute", "users/0", "orders/0"] {
        assert!(report.lines().any(|line| line.starts_with(other)), "{other}\n{report}");
    }
    holding.rollback().unwrap();
}

#[test]
fn now_is_what_the_rule_gives_in_a_markets_log_and_within_bounds_in_another() {
    let equal = fresh_database();
    commit(&equal, &story());
    let market = Story { owner: Some(Owner::Market), ..story() };
    let import = Story { owner: Some(Owner::Import), ..story() };
    // The partitions have reached NOW + 5 s and NOW + 7 s.
    for (now, of_market, of_import) in [
        (5_000, true, true),
        (5_001, false, true),
        (7_000, false, true),
        (7_001, false, false),
        (4_999, false, false),
    ] {
        let config = copied_database(equal.get_dbname().unwrap());
        let now = format!("to_timestamp({} / 1000.0)", NOW + now);
        let sql = format!("UPDATE progress SET now = {now}; UPDATE commit_points SET now = {now}");
        connect(&config).batch_execute(&sql).unwrap();
        for (story, fine) in [(&market, of_market), (&import, of_import)] {
            let (_, report) = verified(&config, story);
            let differs = report.contains("now does not follow from the times");
            assert_eq!(differs, !fine, "{now} {:?}\n{report}", story.owner);
        }
    }
    let config = copied_database(equal.get_dbname().unwrap());
    let none = "UPDATE progress SET now = NULL; UPDATE commit_points SET now = NULL";
    if connect(&config).batch_execute(none).is_ok() {
        assert!(verified(&config, &import).1.contains("now does not follow from the times"));
    }
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let (dir, database) = (scratch(), fresh_database());
    let name = dir.to_str().unwrap();
    marketday(&["market", "--to", name, "--history", "1d", "--exit-when-caught-up"]);
    analytics(&dir, &database, "1");
    let verify = |args: &[&str]| {
        let mut verify = command(&[&["verify", "--dir", name], args].concat());
        verify.env("DATABASE_URL", database_url(&database));
        verify
    };
    for args in [&[][..], &["--json"]] {
        let output = verify(args).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let quiet = output.stdout;
        let verify = verify(args);
        let words: Vec<_> =
            std::iter::once(verify.get_program()).chain(verify.get_args()).collect();
        let words = words.join(std::ffi::OsStr::new("' '"));
        let out = dir.join("out");
        let run = format!("'{}' > '{}'", words.to_str().unwrap(), out.display());
        let mut terminal = std::process::Command::new("script");
        terminal.args(["-qec", &run, "/dev/null"]).env("TERM", "xterm");
        terminal.env("DATABASE_URL", database_url(&database)).stdin(std::process::Stdio::null());
        let output = terminal.output().expect("script can be run (Debian's package bsdutils)");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shown}");
        for what in [" of the log: ", "  table "] {
            assert!(shown.contains(what), "{what}: {shown:?}");
        }
        assert_eq!(std::fs::read(out).unwrap(), quiet);
    }
}

/// A change of each column of each result table, and a row dropped and added.
fn changes_of_results() -> Vec<(&'static str, String)> {
    let mut client = connect(&fresh_database());
    let columns = "SELECT attname::text, atttypid::regtype::text, attnum = ANY (indkey)
                   FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND indisprimary
                   WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum";
    let mut changes = Vec::new();
    for table in QUERIES.iter().map(|query| query.name) {
        for row in client.query(columns, &[&table]).unwrap() {
            let (column, kind, of_key): (String, String, bool) =
                (row.get(0), row.get(1), row.get(2));
            let (other, new) = match kind.as_str() {
                "bigint" => (format!("{column} + 1"), "77"),
                "text" => (format!("{column} || ' '"), "none"),
                "boolean" => (format!("NOT {column}"), "true"),
                "date" => (format!("{column} + 1"), "2001-01-01"),
                _ => (format!("{column} + interval '1 ms'"), "2001-01-01"),
            };
            if of_key {
                changes.push((table, format!(
                    "INSERT INTO {table} SELECT (jsonb_populate_record(t, '{{\"{column}\": \"{new}\"}}')).*
                     FROM {table} AS t LIMIT 1"
                )));
            } else {
                changes.push((table, format!("UPDATE {table} SET {column} = {other}")));
            }
        }
        let first = format!("ctid = (SELECT min(ctid) FROM {table})");
        changes.push((table, format!("DELETE FROM {table} WHERE {first}")));
    }
    changes
}

#[test]
fn verify_finds_a_change_in_every_table() {
    let tables = changes_of_results().into_iter();
    let base = [
        ("user_events", "UPDATE user_events SET name = 'other'"),
        ("user_events", "UPDATE user_events SET birth_date = birth_date + 1"),
        ("product_events", "DELETE FROM product_events WHERE \"offset\" = 1"),
        ("product_events", "UPDATE product_events SET stock = stock + 1"),
        ("scenario_events", "UPDATE scenario_events SET strength = 1.3000000000000003"),
        ("scenario_events", "UPDATE scenario_events SET categories = '{books,toy,s}'"),
        ("order_events", "UPDATE order_events SET quantities = '{3,1}' WHERE event_id = 1"),
        ("order_events", "UPDATE order_events SET unit_prices = '{100}' WHERE event_id = 1"),
        ("order_events", "UPDATE order_events SET at = at + interval '1 ms' WHERE event_id = 4"),
        ("order_events", "UPDATE order_events SET \"offset\" = 1 WHERE event_id = 1"),
        ("order_events", "UPDATE order_events SET partition = 5 WHERE event_id = 1"),
        ("order_events", "INSERT INTO order_events SELECT * FROM order_events WHERE event_id = 1"),
        ("order_events", "DELETE FROM order_events WHERE event_id = 5"),
        // It counts nowhere, but it stands in the ledger.
        ("order_events", "DELETE FROM order_events WHERE event_id = 2"),
        ("order_events", "UPDATE order_events SET unit_prices = '{1,5}' WHERE event_id = 2"),
        // The other one of the two would count.
        ("order_events", "UPDATE order_events SET at = at - interval '1 ms' WHERE event_id = 2"),
        ("dead_letters", "DELETE FROM dead_letters"),
        ("dead_letters", "INSERT INTO dead_letters SELECT * FROM dead_letters"),
        ("dead_letters", "UPDATE dead_letters SET topic = 'users'"),
        ("commit_offsets", "UPDATE commit_offsets SET amount = amount + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET duplicate = duplicate + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET next_offset = 1 WHERE topic = 'products'"),
        ("commit_offsets", "UPDATE commit_offsets SET next_offset = next_offset + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET hash = hash + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET newest_at = newest_at + interval '1 ms'"),
        ("commit_offsets", "UPDATE commit_offsets SET newest_by = newest_by + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET newest_offset = newest_offset + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET other_at = other_at - interval '1 ms'"),
        ("commit_offsets", "UPDATE commit_offsets SET reached_at = reached_at - interval '1 ms'"),
        ("commit_points", "UPDATE commit_points SET checksum = checksum + 1"),
        ("commit_points", "UPDATE commit_points SET counted = counted + 1"),
        ("commit_points", "UPDATE commit_points SET now = now - interval '1 ms'"),
        ("commit_points", "UPDATE commit_points SET offsets = '{\"orders\": [5, 2]}'"),
        ("progress", "UPDATE progress SET now = NULL"),
        ("progress", "UPDATE progress SET log_identity = 'another'"),
    ];
    let equal = fresh_database();
    commit(&equal, &story());
    for (table, sql) in tables.chain(base.map(|(table, sql)| (table, sql.to_owned()))) {
        let config = copied_database(equal.get_dbname().unwrap());
        let mut client = connect(&config);
        let changed = client.execute(&sql, &[]).unwrap();
        assert_ne!(changed, 0, "{sql} did nothing to {table}");
        let (equal, report) = verified(&config, &story());
        assert!(!equal, "{sql}\n{report}");
    }
}

#[test]
fn verify_finds_what_was_counted_wrongly() {
    use Fate::{Conflict, Counted, Duplicate};
    let orders = |records: &[(u32, Value, Fate)]| {
        let mut story = story();
        story.records.retain(|record| record.0 != Topic::Orders);
        for (partition, value, fate) in records {
            story.records.push((Topic::Orders, *partition, value.to_string(), *fate));
        }
        for partition in [0, 1] {
            let heartbeat = json!({"event": "heartbeat", "at": NOW + 5_000}).to_string();
            story.records.push((Topic::Orders, partition, heartbeat, Fate::Heartbeat));
        }
        story
    };
    let a = placed(1, 1, NOW, 100);
    let same_id = placed(1, 2, NOW, 100);
    let same_order = placed(2, 1, NOW, 100);
    for (fine, records) in [
        // The lower offset counts; between partitions what was committed first, as the ledger has it.
        (true, vec![(0, a.clone(), Counted), (0, same_id.clone(), Conflict)]),
        (true, vec![(0, a.clone(), Conflict), (1, same_id.clone(), Counted)]),
        (true, vec![(0, a.clone(), Duplicate), (1, a.clone(), Counted)]),
        // Both stand in the ledger, whichever came first.
        (true, vec![(0, a.clone(), Counted), (0, same_order.clone(), Counted)]),
        (true, vec![(0, same_order.clone(), Counted), (1, a.clone(), Counted)]),
        // What counts nowhere for its order's sake uses up its id.
        (
            true,
            vec![
                (0, a.clone(), Counted),
                (0, same_order.clone(), Counted),
                (0, placed(2, 9, NOW, 1), Conflict),
            ],
        ),
        (false, vec![(0, a.clone(), Conflict), (0, same_id.clone(), Counted)]),
        // One conflict in 255 is taken for a copy, and no more than that.
        (true, vec![(0, a.clone(), Counted), (0, same_id.clone(), Duplicate)]),
        (
            false,
            vec![
                (0, a.clone(), Counted),
                (0, same_id.clone(), Duplicate),
                (0, placed(1, 3, NOW, 100), Duplicate),
                (0, placed(1, 4, NOW, 100), Duplicate),
                (0, placed(1, 5, NOW, 100), Duplicate),
            ],
        ),
        (false, vec![(0, a.clone(), Counted), (0, a.clone(), Conflict)]),
        (false, vec![(0, a.clone(), Counted), (0, same_order.clone(), Duplicate)]),
        (false, vec![(0, a.clone(), Duplicate), (0, same_order.clone(), Counted)]),
        (false, vec![(0, a.clone(), Counted), (1, same_id.clone(), Counted)]),
        (false, vec![(0, a.clone(), Counted), (1, a.clone(), Counted)]),
        (false, vec![(0, a.clone(), Conflict), (1, same_id.clone(), Conflict)]),
        (false, vec![(0, a.clone(), Duplicate)]),
    ] {
        let story = orders(&records);
        let config = fresh_database();
        commit(&config, &story);
        let (equal, report) = verified(&config, &story);
        assert_eq!(equal, fine, "{report}");
    }
}

#[test]
fn a_log_that_lost_its_beginning_is_checked_from_there() {
    let config = fresh_database();
    commit(&config, &story());
    let story = Story { start: 1, ..story() };
    let (equal, report) = verified(&config, &story);
    assert!(equal, "{report}");
    assert!(
        report.contains("orders/0: the log no longer holds what is before offset 1"),
        "{report}"
    );
    connect(&config)
        .execute("UPDATE order_events SET user_id = 3 WHERE event_id = 5", &[])
        .unwrap();
    assert!(!verified(&config, &story).0);
}

/// Of a store that older rules have counted, and whose log no longer goes back to its start.
#[test]
fn a_store_of_older_rules_that_is_gone_on_from_is_checked_from_there() {
    let config = fresh_database();
    let story = story();
    commit(&config, &story);
    let mut client = client(&config);
    // An order told a second time: it was no event by those rules.
    client.batch_execute("UPDATE progress SET rules = 1").unwrap();
    let story = Story { start: 1, ..story };
    let claim = store::claim(&mut client, &story, &Tables::of(QUERIES), "").unwrap();
    let froms = "SELECT count(*) FROM commit_offsets WHERE rules_from = next_offset";
    let all: i64 = client.query_one(froms, &[]).unwrap().get(0);
    assert_eq!(all, claim.tallies.len() as i64);
    client.execute("DELETE FROM order_events WHERE event_id = 5", &[]).unwrap();
    let (_, report) = verified(&config, &story);
    assert!(report.contains("was counted by older rules"), "{report}");
    assert!(!report.contains("its event_id was not used"), "{report}");
    // The second time there is nothing to go over to.
    client.execute("UPDATE commit_offsets SET rules_from = 0", &[]).unwrap();
    store::claim(&mut client, &story, &Tables::of(QUERIES), "").unwrap();
    let froms = "SELECT count(*) FROM commit_offsets WHERE rules_from > 0";
    let none: i64 = client.query_one(froms, &[]).unwrap().get(0);
    assert_eq!(none, 0);
    assert!(verified(&config, &story).1.contains("its event_id was not used"));
}
