//! The market is one and the same, whoever lives through it: any number of workers, cut or killed.
//!
//! Black Friday lies inside the histories that are compared here.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use dataflows::model::Topic;
use dataflows::model::time::{DAY, MINUTE, SECOND};
use marketday::log::embedded;
use marketday::market::Speed;
use marketday::market::control::{ControlRequest, ask};
use marketday::platform::clock;

use crate::support::{
    Running, case, command, events, first_records, log_end, marketday, one_sentence, partitions,
    scratch,
};

/// A market with its past in a directory, ready to be run to the end of that past.
fn market<'a>(dir: &'a Path, workers: &'a str) -> [&'a str; 10] {
    let dir = dir.to_str().unwrap();
    let history = ["--history", "120d", "--start", "2026-11-30", "--exit-when-caught-up"];
    let [history, days, start, date, end] = history;
    ["market", "--to", dir, history, days, start, date, end, "-w", workers]
}

#[test]
fn the_lines_are_the_same_for_any_number_of_workers() {
    let lines = |workers| {
        let output = command(&["market", "--to", "-", "--history", "10d", "-w", workers])
            .args(["--start", "2026-11-30", "--exit-when-caught-up"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() > 1_000_000, "only {} bytes", output.stdout.len());
        Sha256::digest(output.stdout).to_vec()
    };
    let one = lines("1");
    assert_eq!(one, lines("2"));
    assert_eq!(one, lines("3"));
}

/// What the rules make of `tests/cases/09-pinned-market`, and of the same as the brief has it: the start
/// of a hash of each.
const PINNED: [u64; 2] = [0x4a50_a660_4c61_37ef, 0xbe33_2997_fe05_af18];

/// A market that was begun goes on only where it makes the same again, whatever the program and its
/// tests are built with. Who changes these bytes raises `RULES` in `src/market/settings.rs`, and ends every
/// market that there is.
#[test]
fn a_seed_keeps_its_market() {
    let (dir, scenarios) = (scratch(), case("09-pinned-market/scenarios.toml"));
    let profile = fs::read_to_string(case("09-pinned-market/profile.toml")).unwrap();
    let brief = [
        ("selection = \"due\"", "selection = \"all\""),
        ("mood = \"day\"", "mood = \"refresh\""),
        ("temperature = 1.0", "temperature = 0.0"),
        ("visitor = 1.0", "visitor = 0.3"),
        ("[demand]", "[demand]\norders_a_tick = 1"),
        ("listed_a_day = 30", "listed_a_day = 0"),
    ];
    let brief = brief.into_iter().fold(profile.clone(), |profile, (from, to)| {
        assert!(profile.contains(from), "{from}");
        profile.replace(from, to)
    });
    let hashes = [(profile, "30d"), (brief, "3d")].map(|(text, history)| {
        let profile = dir.join("profile.toml");
        fs::write(&profile, text).unwrap();
        let mut market = command(&["market", "--to", "-", "--start", "2026-11-24", "--seed", "1"]);
        market.args(["--history", history, "--exit-when-caught-up", "--profile"]).arg(&profile);
        let output = market.arg("--scenarios").arg(&scenarios).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() > 1_000_000, "only {} bytes", output.stdout.len());
        u64::from_be_bytes(*Sha256::digest(&output.stdout).first_chunk().unwrap())
    });
    assert_eq!(hashes, PINNED, "{hashes:#x?}");
}

#[test]
fn the_log_is_the_same_however_often_the_market_is_stopped_or_killed() {
    let undisturbed = scratch();
    marketday(&market(&undisturbed, "1"));
    let (expected, total) = (partitions(&undisturbed), log_end(&undisturbed));
    assert!(total > 50_000, "only {total} records");
    for workers in ["2", "3"] {
        let dir = scratch();
        marketday(&market(&dir, workers));
        assert_eq!(partitions(&dir), expected, "with {workers} workers");
    }

    let cut = scratch();
    let mut running = Running::start(&mut command(&market(&cut, "1")), cut.join("said"));
    running.wait_until("half of it is in the log", || log_end(&cut) >= total / 2);
    assert_eq!(running.interrupt().code(), Some(130));
    let said = running.said();
    one_sentence(&said, "(market time); run again to go on");
    let date = said.strip_prefix("marketday: stopped at ").unwrap();
    assert!(("2026-09-01".."2026-11-30").contains(&&date[..10]), "{said}");
    let half = log_end(&cut);
    assert!(half >= total / 2 && half < total, "{half} of {total} records at the stop");
    marketday(&market(&cut, "3"));
    assert_eq!(partitions(&cut), expected, "stopped at half, resumed with more workers");

    let (killed, mut kills) = (scratch(), 0);
    for workers in ["1", "2", "3", "2", "1"] {
        let reached = log_end(&killed);
        // A fast machine may have come to the end before a kill.
        if reached == total {
            break;
        }
        let mut running =
            Running::start(&mut command(&market(&killed, workers)), killed.join("said"));
        running.wait_until("the log has grown", || log_end(&killed) > reached);
        running.kill();
        kills += usize::from(log_end(&killed) < total);
    }
    assert!(kills >= 2, "only {kills} kills came before the end");
    marketday(&market(&killed, "2"));
    assert_eq!(partitions(&killed), expected, "killed {kills} times");
}

#[test]
fn its_pace_changes_no_event() {
    let live = |dir: &Path| {
        let mut market = command(&["market", "--to", dir.to_str().unwrap(), "--history", "1d"]);
        market.args(["--start", "2026-11-30", "--speed", "600"]);
        Running::start(&mut market, dir.join("said"))
    };
    let (even, uneven) = (scratch(), scratch());
    let mut market = live(&even);
    let mut other = live(&uneven);
    other.wait_until("it can be spoken to", || ask(&uneven, &ControlRequest::Look).is_ok());
    let clock = |dir: &Path| ask(dir, &ControlRequest::Look).unwrap().clock;
    let start = ask(&uneven, &ControlRequest::Look).unwrap().start;
    other.wait_until("it is live", || clock(&uneven) > start);
    for speed in [Speed::Times(1.0), Speed::Times(9_000.0), Speed::Times(60.0), Speed::Max] {
        ask(&uneven, &ControlRequest::Pause(true)).unwrap();
        let held = ask(&uneven, &ControlRequest::Speed(speed)).unwrap();
        assert!(held.paused && held.speed == speed);
        ask(&uneven, &ControlRequest::Pause(false)).unwrap();
        let from = clock(&uneven);
        other.wait_until("the clock goes on", || clock(&uneven) > from);
    }
    let day = start + DAY;
    other.wait_until("a day is lived", || clock(&uneven) > day);
    ask(&even, &ControlRequest::Speed(Speed::Max)).unwrap();
    market.wait_until("the other has lived it too", || clock(&even) > day);
    assert!(other.interrupt().success() && market.interrupt().success());
    // Both have what is before the end of the shorter one.
    let end = |dir: &Path, topic, partition| {
        embedded::open(&dir.join("log")).unwrap().end(topic, partition).unwrap()
    };
    let both = |topic, partition| end(&even, topic, partition).min(end(&uneven, topic, partition));
    assert!(both(Topic::Orders, 0) > 1_000, "{} records", both(Topic::Orders, 0));
    assert_eq!(first_records(&even, both), first_records(&uneven, both));
}

/// The times of a topic's events that have one, in order.
fn times(dir: &Path, topic: Topic, time: impl Fn(&Value) -> Option<i64>) -> Vec<i64> {
    let mut times: Vec<i64> = events(dir, topic).iter().filter_map(time).collect();
    times.sort_unstable();
    times
}

/// When customers signed up, products were listed and orders were placed, from a time on.
fn arrivals(dir: &Path, from: i64) -> [Vec<i64>; 3] {
    let first = |event: &Value, of: &str| {
        // A heartbeat has none.
        let at = event[of].as_i64()?;
        (event["at"] == event[of] && at > from).then_some(at)
    };
    let placed = |event: &Value| event["event"] == "placed";
    [
        times(dir, Topic::Users, |event| first(event, "signed_up_at")),
        times(dir, Topic::Products, |event| first(event, "listed_at")),
        times(dir, Topic::Orders, |event| first(event, "ordered_at").filter(|_| placed(event))),
    ]
}

/// Who starts the brief's market sees it begin, at whatever hour: ten customers in ten seconds, an order
/// every 3 to 5 s, a product every 6 to 8 s.
#[test]
fn the_brief_begins_when_it_is_started() {
    let dir = scratch();
    let before = clock::wall();
    let mut market = command(&["market", "--to", dir.to_str().unwrap(), "--profile", "brief"]);
    let mut market = Running::start(market.args(["--speed", "60"]), dir.join("said"));
    market.wait_until("it can be spoken to", || ask(&dir, &ControlRequest::Look).is_ok());
    let standing = ask(&dir, &ControlRequest::Look).unwrap();
    let start = standing.start;
    assert!((before - 50 * SECOND..=clock::wall()).contains(&start), "{before} {start}");
    assert_eq!((standing.origin, start % (50 * SECOND)), (start, 0));
    market.wait_until("five minutes are lived", || {
        ask(&dir, &ControlRequest::Look).unwrap().clock > start + 5 * MINUTE
    });
    assert_eq!(market.interrupt().code(), Some(0), "{}", market.said());

    let [sign_ups, listings, orders] = arrivals(&dir, start);
    let up_to = |span| sign_ups.iter().filter(|at| **at <= start + span).count();
    let (ten, five) = (up_to(10 * SECOND), up_to(5 * MINUTE));
    assert!((3..=20).contains(&ten) && (240..=360).contains(&five), "{ten}, {five} sign-ups");
    for (times, least, most) in [(listings, 6, 8), (orders, 3, 5)] {
        let mut last = start;
        for at in &times {
            let gap = at - std::mem::replace(&mut last, *at);
            assert!((least * SECOND..=most * SECOND).contains(&gap), "{gap} ms to {at}");
        }
        assert!(last > start + 5 * MINUTE - most * SECOND, "{last}");
    }
}

/// Live, `year` goes on at the rates of its history.
#[test]
fn going_live_is_no_cliff() {
    let dir = scratch();
    let mut market = command(&["market", "--to", dir.to_str().unwrap(), "--speed", "max"]);
    // A Tuesday and a Wednesday on which nothing happens.
    market.args(["--history", "30d", "--start", "2026-06-17"]);
    let mut market = Running::start(&mut market, dir.join("said"));
    market.wait_until("a day is lived live", || {
        ask(&dir, &ControlRequest::Look).is_ok_and(|it| it.clock > it.start + DAY)
    });
    let start = ask(&dir, &ControlRequest::Look).unwrap().start;
    assert_eq!(market.interrupt().code(), Some(0), "{}", market.said());
    for (what, times) in
        ["sign-ups", "listings", "orders"].into_iter().zip(arrivals(&dir, start - DAY))
    {
        let live = times.iter().filter(|at| **at > start && **at <= start + DAY).count();
        let before = times.iter().filter(|at| **at <= start).count();
        let change = live as f64 / before as f64;
        assert!(before > 20 && (0.7..1.4).contains(&change), "{what}: {before}, then {live}");
    }
}
