//! What `explain` says of a query, against what follows from the events themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use dataflows::model::Topic;
use marketday::log::embedded;
use serde_json::Value;

use crate::support::{marketday, scratch, shared_scratch};

const MARKET: [&str; 5] = ["--history", "3d", "--start", "2026-11-30", "--exit-when-caught-up"];

/// A directory with the log of a small market, and its order events as lines of JSON say them.
fn market() -> &'static (String, Vec<Value>) {
    static MADE: OnceLock<(String, Vec<Value>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = shared_scratch().to_str().unwrap().to_owned();
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
    let costs = costs.map(|cost| cost["ms"].as_f64().unwrap());
    // A part of the pass has no operator of its own, and all of its time is shared.
    let of_pass = operators(&explained["own"]).is_empty();
    let work = costs.iter().filter(|ms| **ms > 0.0).count();
    assert_eq!(work, if of_pass { 2 } else { 3 }, "{costs:?}");
    // Whoever works has been seen at it.
    for name in ["orders", "customers"] {
        let operator = named(&explained["shared"], name);
        for what in ["activations", "ms"] {
            let costs = at_workers(operator, what);
            assert!(costs.iter().all(|cost| *cost > 0.0), "{what} of {name}: {costs:?}");
        }
    }
}

/// Customers with a record and those who ordered, all of whom are the pass's.
fn customers(events: &[Value], shared: &Value) -> usize {
    let buyers: BTreeSet<_> = events.iter().map(|it| it["user_id"].as_i64().unwrap()).collect();
    let known = records(shared, "users");
    assert!(known > 1_000 && buyers.len() < known, "each has one record in so few days: {known}");
    known
}

#[test]
fn the_pass_holds_each_customer_and_each_event() {
    let (dir, events) = market();
    for workers in [1, 2] {
        for query in ["orders_by_minute", "customer_value", "customer_grade", "active_customers"] {
            let explained = explain(dir, query, &workers.to_string());
            is_sound(&explained, workers);
            assert_eq!(explained["query"], query);
            assert!(names(&explained["own"]).is_empty(), "{query} is a part of the pass");
            let shared = &explained["shared"];
            assert_eq!(records(shared, "orders"), events.len(), "an id for each event");
            let kept = customers(events, shared) + events.len();
            assert_eq!(records(shared, "customers"), kept, "{workers} workers");
            assert!(at_workers(named(shared, "customers"), "records").iter().all(|it| *it > 0.0));
        }
    }
}

#[test]
fn a_query_that_joins_holds_what_it_joins_with() {
    let (dir, events) = market();
    let placed = events.iter().filter(|event| event["event"] == "placed").count();
    for workers in [1, 2] {
        let explained = explain(dir, "scenario_impact", &workers.to_string());
        is_sound(&explained, workers);
        let impacts = records(&explained["own"], "impacts");
        assert!(impacts >= placed, "every placed order, and each occurrence: {impacts}");
        let [.., last] = &operators(&explained["own"])[..] else { panic!("it has operators") };
        assert_eq!(last["name"], "changed rows");
        assert!(!names(&explained["shared"]).contains(&"buckets"), "it makes its rows itself");
    }
}

#[test]
fn spans_hold_the_lines_that_are_within_the_longest() {
    let (dir, events) = market();
    let placed = events.iter().filter(|event| event["event"] == "placed");
    let lines: usize = placed.map(|it| it["lines"].as_array().unwrap().len()).sum();
    let explained = explain(dir, "best_sellers", "2");
    is_sound(&explained, 2);
    assert_eq!(records(&explained["own"], "sold within spans"), lines, "none is 7 days old");
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
    assert!(at("It is a part of the pass over customers") < at("shared operators"), "{said}");
    assert!(at("shared operators") < at("customers"), "{said}");
    assert!(at("customers") < at("everything else"), "{said}");
    assert!(lines[at("customers") + 1].trim_start().starts_with("1 "), "the second worker: {said}");
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
