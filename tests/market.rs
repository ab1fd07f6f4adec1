//! The market is one and the same, whoever lives through it: any number of workers, cut or killed.
//!
//! Black Friday lies inside each history here.

use std::path::Path;

use sha2::{Digest, Sha256};

use dataflows::model::Topic;
use marketday::log::embedded;
use marketday::market::Speed;
use marketday::market::control::{ControlRequest, ask};

use crate::support::{
    Running, command, first_records, log_end, marketday, one_sentence, partitions, scratch,
};

/// A market with its past in a directory, ready to be run to the end of that past.
fn market<'a>(dir: &'a Path, workers: &'a str) -> [&'a str; 10] {
    let dir = dir.to_str().unwrap();
    let history = ["--history", "60d", "--start", "2026-11-30", "--exit-when-caught-up"];
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

/// A market that was begun goes on only where it makes the same again, whatever the program and its
/// tests are built with. Who changes these bytes ends every market that there is.
#[test]
fn a_seed_keeps_its_market() {
    let lines = marketday(&[
        "market",
        "--to",
        "-",
        "--seed",
        "1",
        "--history",
        "30d",
        "--start",
        "2026-11-24",
        "--exit-when-caught-up",
    ]);
    assert_eq!(Sha256::digest(lines)[..8], 0x75c8_873c_c762_ad30_u64.to_be_bytes());
}

#[test]
fn the_log_is_the_same_however_often_the_market_is_stopped_or_killed() {
    let undisturbed = scratch();
    marketday(&market(&undisturbed, "1"));
    let (expected, total) = (partitions(&undisturbed), log_end(&undisturbed));
    assert!(total > 100_000, "only {total} records");
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
    assert!(("2026-10-01".."2026-11-30").contains(&&date[..10]), "{said}");
    let half = log_end(&cut);
    assert!(half >= total / 2 && half < total, "{half} of {total} records at the stop");
    marketday(&market(&cut, "3"));
    assert_eq!(partitions(&cut), expected, "stopped at half, resumed with more workers");

    let killed = scratch();
    for (kill, workers) in ["1", "2", "3", "2", "1"].into_iter().enumerate() {
        let reached = log_end(&killed);
        let mut running =
            Running::start(&mut command(&market(&killed, workers)), killed.join("said"));
        running.wait_until("the log has grown", || log_end(&killed) > reached);
        running.kill();
        assert!(log_end(&killed) < total, "kill {kill} came after the end");
    }
    marketday(&market(&killed, "2"));
    assert_eq!(partitions(&killed), expected, "killed five times");
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
    let day = start + 86_400_000;
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
