//! The working set in a real Redis: read from there at every refresh, and the market goes on without.

use std::path::Path;

use dataflows::market::CachedSet;
use marketday::log::embedded;
use marketday::platform::clock::Stopwatch;
use redis::cmd;
use serde_json::Value;

use crate::support::{
    Redis, Running, command, database_url, first_records, fresh_database, log_end, marketday,
    partitions, scratch,
};

const DAY_REFRESHES: u64 = 24 * 3_600 / 50;
/// See `marketday::market::cache::market_name`.
const KEY: &str = "marketday:1-2026-11-28-2026-11-30:working_set";

/// A market that goes live after two days.
fn market(dir: &Path) -> [&str; 7] {
    ["market", "--to", dir.to_str().unwrap(), "--history", "2d", "--start", "2026-11-30"]
}

#[test]
fn every_worker_reads_the_set_of_every_live_refresh_from_redis() {
    let (dir, redis) = (scratch(), Redis::start());
    let mut up = command(&["up", "--dir", dir.to_str().unwrap(), "--history", "2d"]);
    up.args(["--start", "2026-11-30", "--speed", "600", "-w", "2", "--json"]);
    up.env("DATABASE_URL", database_url(&fresh_database())).env("REDIS_URL", redis.url());
    let mut running = Running::start(&mut up, dir.join("said"));
    running.wait_until("forty live refreshes are over", || redis.calls("get") >= 80);

    // Both keys are one version, or the newest set has just been replaced.
    let connection = &mut redis.connect();
    let (set, version) = loop {
        let version: u64 = cmd("GET").arg(KEY).query(connection).unwrap();
        let set: Option<String> =
            cmd("GET").arg(format!("{KEY}:{version}")).query(connection).unwrap();
        if let Some(set) = set {
            break (set, version);
        }
    };
    let looked = redis.calls("get");
    let seconds: i64 = cmd("TTL").arg(format!("{KEY}:{version}")).query(connection).unwrap();
    assert!((1..=3_600).contains(&seconds), "{seconds} s to live");
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());

    let set: CachedSet = serde_json::from_str(&set).unwrap();
    assert_eq!(set.version, version);
    assert_eq!((set.customers.len(), set.products.len()), (1_000, 1_000));
    let words = serde_json::to_string(&set).unwrap();
    for word in [r#""age_band":"20s""#, r#""bought_before":true"#, r#""group":"best seller""#] {
        assert!(words.contains(word), "{word}");
    }

    // Redis counted a GET a worker and refresh, and two SETs a put; the test itself looked a little.
    let newest: u64 = cmd("GET").arg(KEY).query(connection).unwrap();
    let live = newest - 2 * DAY_REFRESHES + 1;
    let (gets, sets) = (redis.calls("get"), redis.calls("set"));
    assert!(live >= 40 && gets >= looked);
    assert!((2 * live - 4..=2 * live + 10).contains(&gets), "{gets} GETs in {live} refreshes");
    let said = running.said();
    let summary: Value = serde_json::from_str(&said[said.find("\n{").unwrap()..]).unwrap();
    let count = |name: &str| summary["cache"][name].as_u64().unwrap();
    assert_eq!(summary["cache"]["home"], "redis");
    assert!((2 * live - 4..=2 * live).contains(&count("hits")), "{summary}");
    assert_eq!((count("misses"), count("differing"), count("failures")), (0, 0, 0), "{summary}");
    assert!(count("puts") >= live && sets == 2 * count("puts"), "{sets} SETs: {summary}");

    // What was replaced is taken away.
    let keys: Vec<String> = cmd("KEYS").arg("*").query(connection).unwrap();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with(KEY)), "{keys:?}");
}

#[test]
fn history_writes_once_a_second_at_most_and_reads_nothing() {
    let (dir, redis) = (scratch(), Redis::start());
    let clock = Stopwatch::start();
    let (dir, url) = (dir.to_str().unwrap(), redis.url());
    let history = ["--history", "60d", "--start", "2026-11-30", "--exit-when-caught-up"];
    marketday(&[&["market", "--to", dir, "--redis", &url][..], &history].concat());
    let seconds = clock.elapsed().as_secs();
    let puts = redis.calls("set") / 2;
    // One when it begins, and perhaps one for the live refresh that is drawn up when it ends.
    assert!((1..=seconds + 2).contains(&puts), "{puts} puts in {seconds} s");
    assert_eq!(redis.calls("get"), 0);
}

#[test]
fn the_market_goes_on_without_redis_and_takes_it_up_again() {
    let (dir, mut redis) = (scratch(), Redis::start());
    let url = redis.url();
    let live = ["--speed", "600", "-w", "2", "--redis", &url];
    let mut running = Running::start(command(&market(&dir)).args(live), dir.join("said"));
    running.wait_until("the market reads from Redis", || redis.calls("get") >= 20);

    redis.kill();
    // Past what was under way.
    running.wait_until("the market has seen it", || running_said(&dir).contains("is lost"));
    let before = log_end(&dir);
    running.wait_until("the log grows without Redis", || log_end(&dir) >= before + 500);
    redis.restart();
    running.wait_until("the market is at Redis again", || {
        redis.calls("get") >= 20 && redis.calls("set") >= 20
    });
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
    let said = running.said();
    assert_eq!(
        (said.matches("is lost").count(), said.matches("is back").count()),
        (1, 1),
        "{said}"
    );

    let log = embedded::open(&dir.join("log")).unwrap();
    let end = |topic, partition| log.end(topic, partition).unwrap();
    let alone = scratch();
    let mut running =
        Running::start(command(&market(&alone)).args(["--speed", "max"]), alone.join("said"));
    let held = partitions(&dir);
    running.wait_until("the market without Redis is as far", || {
        let log = embedded::open(&alone.join("log")).unwrap();
        held.keys().all(|(topic, partition)| {
            log.end(*topic, *partition).unwrap() >= end(*topic, *partition)
        })
    });
    running.interrupt();
    assert_eq!(first_records(&alone, end), held);
}

fn running_said(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("said")).unwrap()
}
