//! What `explain` says of a query, against what follows from the events themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use dataflows::model::Topic;
use dataflows::model::time::{TICK, six_months_after};
use marketday::log::embedded;
use serde_json::Value;

use crate::support::{marketday, scratch};

const MARKET: [&str; 5] = ["--history", "3d", "--start", "2026-11-30", "--exit-when-caught-up"];

/// A directory with the log of a small market, and its order events as lines of JSON say them.
fn market() -> &'static (String, Vec<Value>) {
    static MADE: OnceLock<(String, Vec<Value>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = scratch().to_str().unwrap().to_owned();
        marketday(&[&["market", "--to", &dir], &MARKET[..]].concat());
        let lines = marketday(&[&["market", "--to", "-"], &MARKET[..]].concat());
        let events = lines.lines().filter_map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let is_event = line["topic"] == "orders" && line["value"]["event"] != "heartbeat";
            is_event.then(|| line["value"].take())
        });
        let events: Vec<_> = events.collect();
        assert!(events.len() > 1_000, "only {} events", events.len());
        (dir, events)
    })
}

fn explain(dir: &str, query: &str, workers: &str) -> Value {
    let said = marketday(&["explain", query, "--dir", dir, "-w", workers, "--json"]);
    serde_json::from_str(&said).unwrap()
}

fn operators(part: &Value) -> Vec<&Value> {
    part["operators"].as_array().unwrap().iter().collect()
}

fn names(part: &Value) -> Vec<&str> {
    operators(part).iter().map(|operator| operator["name"].as_str().unwrap()).collect()
}

fn named<'e>(part: &'e Value, name: &str) -> &'e Value {
    operators(part).into_iter().find(|operator| operator["name"] == name).unwrap()
}

/// What an operator has of something at each worker.
fn at_workers(operator: &Value, what: &str) -> Vec<f64> {
    let workers = operator["workers"].as_array().unwrap();
    workers.iter().map(|cost| cost[what].as_f64().unwrap()).collect()
}

fn records(part: &Value, name: &str) -> usize {
    at_workers(named(part, name), "records").iter().sum::<f64>() as usize
}

/// What must hold of whatever query.
fn is_sound(explained: &Value, workers: usize) {
    let parts = [&explained["own"], &explained["shared"]];
    let [mut own, shared] = parts.map(operators);
    own.extend(shared);
    let numbers: BTreeSet<_> = own.iter().map(|it| it["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=own.len() as u64).collect(), "each operator has its number");
    for operator in &own {
        assert_eq!(at_workers(operator, "ms").len(), workers);
        let number = operator["number"].as_u64().unwrap();
        for read in operator["reads"].as_array().unwrap() {
            assert!(read.as_u64().unwrap() < number, "{operator} reads from what comes after it");
        }
    }
    for part in parts {
        for (what, digits) in [("ms", 1e-6), ("records", 0.0), ("activations", 0.0)] {
            let sum: f64 = operators(part).iter().flat_map(|it| at_workers(it, what)).sum();
            assert!((sum - part["total"][what].as_f64().unwrap()).abs() <= digits, "{what}");
        }
    }
    let costs = [&explained["own"]["total"], &explained["shared"]["total"], &explained["rest"]];
    let percent: f64 = costs.iter().map(|cost| cost["percent"].as_f64().unwrap()).sum();
    assert!((percent - 100.0).abs() < 1e-6, "{percent}");
    assert!(costs.iter().all(|cost| cost["ms"].as_f64().unwrap() > 0.0), "{costs:?}");
    // Whoever works has been seen at it.
    for name in ["orders", "ledger", "counted"] {
        let operator = named(&explained["shared"], name);
        for what in ["activations", "ms"] {
            let costs = at_workers(operator, what);
            assert!(costs.iter().all(|cost| *cost > 0.0), "{what} of {name}: {costs:?}");
        }
    }
}

#[test]
fn a_table_by_minute_holds_a_record_a_minute() {
    let (dir, events) = market();
    let int = |event: &Value, field: &str| event[field].as_i64().unwrap();
    let minute = |event: &Value| int(event, "at") / 60_000;
    let minutes: BTreeSet<_> = events.iter().map(minute).collect();
    let placed = events.iter().filter(|event| event["event"] == "placed");
    let buyers: BTreeSet<_> = placed.map(|it| (minute(it), int(it, "user_id"))).collect();
    for workers in [1, 2] {
        let explained = explain(dir, "orders_by_minute", &workers.to_string());
        is_sound(&explained, workers);
        assert_eq!(explained["query"], "orders_by_minute");
        let own = &explained["own"];
        assert_eq!(
            names(own),
            [
                "Filter",
                "FlatMap",
                "buyers by minute",
                "FlatMap",
                "FlatMap",
                "Concatenate",
                "orders_by_minute",
                "FlatMap",
                "FlatMap",
            ]
        );
        assert_eq!(records(own, "orders_by_minute"), minutes.len(), "{workers} workers");
        assert_eq!(records(own, "buyers by minute"), buyers.len(), "{workers} workers");
        assert!(at_workers(named(own, "orders_by_minute"), "records").iter().all(|it| *it > 0.0));

        let shared = &explained["shared"];
        assert_eq!(records(shared, "sums by minute"), 0, "{workers} workers");
        let orders: usize = events.len();
        assert_eq!(records(shared, "orders"), orders, "an id for each event");
        assert!(!names(shared).contains(&"grades"), "no grade is needed: {:?}", names(shared));
        let [reads] = &operators(own)[6]["reads"].as_array().unwrap()[..] else { panic!() };
        assert_eq!(*reads, named(own, "Concatenate")["number"]);
    }
}

#[test]
fn a_table_of_customers_holds_them_and_their_standing_orders() {
    let (dir, events) = market();
    let customers: BTreeSet<_> = events.iter().map(|it| it["user_id"].as_i64().unwrap()).collect();
    let mut orders: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for event in events {
        let kinds = orders.entry(event["order_id"].as_i64().unwrap()).or_default();
        kinds.insert(event["event"].as_str().unwrap());
    }
    let cancelled = orders.values().filter(|kinds| kinds.contains("cancelled")).count();
    assert!(cancelled > 0 && orders.values().all(|kinds| kinds.contains("placed")));
    for workers in [1, 2] {
        let explained = explain(dir, "customer_value", &workers.to_string());
        is_sound(&explained, workers);
        let (own, shared) = (&explained["own"], &explained["shared"]);
        assert_eq!(names(own), ["FlatMap", "FlatMap"]);
        let kept = customers.len() + orders.len() - cancelled;
        assert_eq!(records(shared, "lifetimes"), kept, "{workers} workers");
        let kept = orders.len() + cancelled;
        assert_eq!(records(shared, "standing orders"), kept, "{workers} workers");
    }
}

#[test]
fn grades_hold_each_customer_and_two_steps_an_order() {
    let (dir, events) = market();
    let int = |event: &Value, field: &str| event[field].as_i64().unwrap();
    let tick = |at: i64| (at + TICK - 1) / TICK;
    let mut steps = BTreeSet::new();
    for event in events {
        for at in [int(event, "at"), six_months_after(int(event, "ordered_at"))] {
            steps.insert((int(event, "user_id"), tick(at)));
        }
    }
    for workers in [1, 2] {
        let explained = explain(dir, "customer_grade", &workers.to_string());
        is_sound(&explained, workers);
        let shared = &explained["shared"];
        let customers = records(shared, "users");
        assert!(customers > 1_000, "each customer has one record in so few days: {customers}");
        assert_eq!(records(shared, "newest of a customer"), customers);
        assert_eq!(records(shared, "grades"), customers + steps.len(), "{workers} workers");
    }
}

#[test]
fn spans_hold_the_orders_that_are_within_the_longest() {
    let (dir, events) = market();
    let placed = events.iter().filter(|event| event["event"] == "placed").count();
    let explained = explain(dir, "active_customers", "2");
    is_sound(&explained, 2);
    assert_eq!(records(&explained["own"], "placed within spans"), placed, "none is 30 days old");
}

#[test]
fn people_see_each_operator_and_each_worker() {
    let (dir, _) = market();
    let said = marketday(&["explain", "customer_grade", "--dir", dir, "-w", "2"]);
    assert!(said.starts_with("customer_grade: the graph of all queries over "), "{said}");
    let lines: Vec<_> = said.lines().collect();
    let at = |start: &str| {
        let numbered = |c: char| c == ' ' || c.is_ascii_digit();
        let starts = |line: &&str| line.trim_start_matches(numbered).starts_with(start);
        lines.iter().position(starts).unwrap_or_else(|| panic!("{start}:\n{said}"))
    };
    assert!(at("its own operators") < at("shared operators"), "{said}");
    assert!(at("shared operators") < at("grades"), "{said}");
    assert!(at("grades") < at("everything else"), "{said}");
    assert!(lines[at("grades") + 1].trim_start().starts_with("1 "), "the second worker: {said}");
    assert!(lines.iter().all(|line| line.len() < 100), "{said}");
}

#[test]
fn a_log_that_lost_its_beginning_is_read_from_there() {
    let dir = scratch();
    let log = embedded::open(&dir.join("log")).unwrap();
    let mut writer = log.writer().unwrap();
    let large = vec![b'x'; 1 << 20];
    for n in 1..=70 {
        writer.append(Topic::Orders, 0, n, None, &large).unwrap();
        writer.flush().unwrap();
    }
    drop(writer);
    fs::remove_file(first_segment(&dir)).unwrap();
    let start = log.start(Topic::Orders, 0).unwrap();
    assert!(start > 0);

    let explained = explain(dir.to_str().unwrap(), "users", "1");
    let note = format!("orders/0: the log no longer holds what is before offset {start}");
    assert_eq!(explained["notes"], serde_json::json!([note]));
    assert_eq!(explained["log_records"], 70 - start);
}

fn first_segment(dir: &Path) -> std::path::PathBuf {
    let segments = fs::read_dir(dir.join("log/orders-0")).unwrap();
    segments.map(|entry| entry.unwrap().path()).min().unwrap()
}
