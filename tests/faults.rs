//! Faults changes no answer, and is the same dirt whoever makes it: any number of workers, killed or
//! stopped, over either log.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dataflows::market::Faults;
use dataflows::model::codec;
use dataflows::model::{Topic, partition_of};
use marketday::log::{Batch, Log, embedded};
use postgres::Config;
use serde::Deserialize;
use serde_json::Value;

use crate::support::{
    Running, brokers, command, connect, first_records, fresh_database, hashes, kafka_log, log_end,
    marketday, partitions, records, scratch, tables, with_database,
};

const SECOND: i64 = 1_000;
const DAY: i64 = 86_400_000;

/// All four kinds.
const DIRT: &str = "late=2%:30d,duplicate=5%,shuffle=60s,corrupt=0.5%";
/// So much of it is late that some of each day is by four weeks.
const LATE: &str = "late=40%:30d,duplicate=5%,shuffle=60s,corrupt=0.5%";

/// A market of so many days before Black Friday's dip, with its past only.
fn history<'a>(dir: &'a Path, days: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&live(dir, days, more)[..], &["--exit-when-caught-up"]].concat()
}

/// The same, going live.
fn live<'a>(dir: &'a Path, days: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let to = ["market", "--to", dir.to_str().unwrap(), "--start", "2026-11-30", "--seed", "7"];
    [&to[..], &["--history", days], more].concat()
}

/// A line of the side file.
#[derive(Deserialize)]
struct Label {
    kind: String,
    topic: Topic,
    partition: u32,
    record: u64,
    event_id: u64,
    at: i64,
    due: i64,
    home: Option<u32>,
    damage: Option<String>,
}

fn label_text(dir: &Path) -> String {
    fs::read_to_string(dir.join("market/dirt.ndjson")).unwrap()
}

/// The lines of such a text that are whole.
fn labels(text: &str) -> Vec<Label> {
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Where a record is.
type Place = (Topic, u32, u64);

/// The places with a label of a kind; none has two.
fn places(labels: &[Label], kind: &str) -> BTreeSet<Place> {
    let of_kind = labels.iter().filter(|label| label.kind == kind);
    let mut places = BTreeSet::new();
    for label in of_kind {
        let fresh = places.insert((label.topic, label.partition, label.record));
        assert!(fresh, "{kind} twice: {} {}", label.partition, label.record);
    }
    places
}

/// What a log of a market with dirt says by itself of its records.
#[derive(Default)]
struct Seen {
    events: usize,
    /// Those that no event can be.
    corrupt: BTreeSet<Place>,
    /// Those not in the partition of their key, or there a second time.
    elsewhere: BTreeSet<Place>,
    again: BTreeSet<Place>,
    /// Taken back before they are placed, and of these the refunds.
    early: BTreeSet<Place>,
    refunds: usize,
    /// Copies in another partition of orders that are newer than all of its own before them.
    news: usize,
    /// Of the others, those that come behind one of a later time, and by how much.
    behind: BTreeMap<Place, i64>,
    /// The time, and the id of what is an event.
    records: BTreeMap<Place, (i64, Option<u64>)>,
}

impl Seen {
    fn of(log: &dyn Log) -> Seen {
        let mut seen = Seen::default();
        for topic in Topic::ALL {
            for partition in 0..log.partitions(topic) {
                seen.partition(log, topic, partition, &records(log, topic, partition));
            }
        }
        seen
    }

    fn partition(&mut self, log: &dyn Log, topic: Topic, partition: u32, batch: &Batch) {
        let (mut ids, mut placed) = (HashSet::new(), HashSet::new());
        let (mut newest, mut newest_own) = (None, 0);
        for record in batch.iter() {
            let place = (topic, partition, record.offset);
            let value = record.value.unwrap();
            let event = codec::decode(topic, Some(value));
            let Ok(event) = event else {
                self.corrupt.insert(place);
                self.records.insert(place, (record.timestamp, None));
                continue;
            };
            let stamp = (event.at(), event.event_id());
            assert_eq!(event.at(), record.timestamp);
            self.records.insert(place, stamp);
            let ahead = newest.filter(|newest| *newest > stamp);
            newest = newest.max(Some(stamp));
            let Some(event_id) = event.event_id() else {
                assert_eq!(ahead, None, "a heartbeat is in its place");
                newest_own = event.at();
                continue;
            };
            self.events += 1;
            if partition_of(record.key.unwrap(), log.partitions(topic)) != partition {
                self.elsewhere.insert(place);
                self.news += usize::from(topic == Topic::Orders && event.at() > newest_own);
                continue;
            }
            newest_own = newest_own.max(event.at());
            if !ids.insert(event_id) {
                self.again.insert(place);
                continue;
            }
            if let Some((at, _)) = ahead {
                self.behind.insert(place, at - event.at());
            }
            let value: Value = serde_json::from_slice(value).unwrap();
            match value["event"].as_str() {
                Some("placed") => _ = placed.insert(value["order_id"].as_i64()),
                Some(kind) if !placed.contains(&value["order_id"].as_i64()) => {
                    self.early.insert(place);
                    self.refunds += usize::from(kind == "refunded");
                }
                _ => {}
            }
        }
    }
}

/// The ledgers without the places of their rows.
fn ledgers(database: &Config) -> Vec<String> {
    let db = &mut connect(database);
    let tables = ["user_events", "product_events", "order_events", "scenario_events"];
    let mut ledger = |table| {
        let query = format!(
            "SELECT count(*) || ' rows, ' || md5(string_agg(line, ',' ORDER BY line))
             FROM (SELECT (to_jsonb(t) - 'partition' - 'offset')::text AS line FROM {table} AS t) AS lines"
        );
        db.query_one(&query, &[]).unwrap().get(0)
    };
    tables.map(&mut ledger).into()
}

#[test]
fn the_flag_says_what_it_means_and_a_wrong_one_is_named() {
    for (text, means) in [
        (DIRT, "late=2%:30d,duplicate=5%,shuffle=1m,corrupt=0.5%"),
        ("corrupt=100%,late=0.0001%:36h", "late=0.0001%:36h,corrupt=100%"),
        ("duplicate=33.3%", "duplicate=33.3%"),
        ("shuffle=90s", "shuffle=90s"),
        ("shuffle=365d", "shuffle=365d"),
    ] {
        let faults: Faults = text.parse().unwrap();
        assert_eq!(faults.to_string(), means);
        assert_eq!(means.parse(), Ok(faults));
    }
    for (text, expected) in [
        ("", "there is no dirt \"\", only late, duplicate, shuffle and corrupt"),
        ("soap=1%", "there is no dirt \"soap\""),
        ("late=1%:1d,", "there is no dirt \"\""),
        ("late=1%:1d,late=1%:1d", "late is given twice"),
        ("late=2%", "late=2% lacks a share or a span"),
        ("late", "lacks a share or a span"),
        ("late=:30d", "\"\" is no share"),
        ("late=2%:", "\"\" is no span"),
        ("duplicate", "\"\" is no share"),
        ("duplicate=101%", "\"101%\" is no share"),
        ("duplicate=0%", "\"0%\" is no share"),
        ("duplicate=-1%", "\"-1%\" is no share"),
        ("corrupt=0.00001%", "\"0.00001%\" is no share"),
        ("corrupt=NaN%", "\"NaN%\" is no share"),
        ("corrupt=5", "\"5\" is no share"),
        ("shuffle=60", "\"60\" is no span"),
        ("shuffle=0s", "\"0s\" is no span"),
        ("shuffle=-1s", "\"-1s\" is no span"),
        ("shuffle=1.5h", "\"1.5h\" is no span"),
        ("shuffle=2mo", "\"2mo\" is no span"),
        ("shuffle=366d", "\"366d\" is no span"),
        ("shuffle=99999999999999999d", "\"99999999999999999d\" is no span"),
    ] {
        let error = text.parse::<Faults>().unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert_eq!(error.lines().count(), 1);
    }
    for name in ["up", "market"] {
        let output = command(&[name, "--dirt", "late=200%:1d"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("\"200%\" is no share: it lies above 0%"), "{said}");
    }
}

#[test]
fn a_market_keeps_its_dirt_for_life() {
    let (dirty, clean) = (scratch(), scratch());
    let refused = |args: &[&str], expected: &str| {
        let output = command(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(expected), "{said}");
    };
    marketday(&history(&dirty, "1d", &["--dirt", "duplicate=5%"]));
    marketday(&history(&dirty, "1d", &[]));
    marketday(&history(&dirty, "1d", &["--dirt", "duplicate=5.0%"]));
    let more = ["--dirt", "duplicate=6%"];
    refused(&history(&dirty, "1d", &more), "has dirt duplicate=5%, not duplicate=6%");
    marketday(&history(&clean, "1d", &[]));
    refused(&history(&clean, "1d", &more), "has no dirt, not duplicate=6%");
    refused(&["market", "--to", "-", "--dirt", "duplicate=6%"], "--dirt does not go with --to -");
    assert!(!clean.join("market/dirt.ndjson").exists());

    // Without its labels nobody could tell its dirt from its events.
    fs::write(dirty.join("market/dirt.ndjson"), "").unwrap();
    refused(&history(&dirty, "1d", &[]), "dirt.ndjson has lost labels");
}

/// Runs a market with dirt and the clean one, which must have the same answers, and holds the labels
/// against what the log shows and what the analytics found.
fn compared(days: &str, dirt: &str, shuffle: i64) -> (Vec<Label>, Seen) {
    let (dirty, clean) = (scratch(), scratch());
    let (of_dirty, of_clean) = (fresh_database(), fresh_database());
    for (dir, database, more) in
        [(&dirty, &of_dirty, &["--dirt", dirt][..]), (&clean, &of_clean, &[])]
    {
        marketday(&history(dir, days, more));
        let dir = dir.to_str().unwrap();
        with_database(&["analytics", "--exit-when-caught-up", "--dir", dir], database);
        let said = with_database(&["verify", "--dir", dir], database);
        assert!(said.ends_with("all equal\n"), "{said}");
    }
    let (dirty_tables, clean_tables) = (tables(&of_dirty), tables(&of_clean));
    assert!(clean_tables["customer_grade"].len() > 10_000);
    for (name, rows) in &clean_tables {
        assert!(dirty_tables[name] == *rows, "{name} differs");
    }
    assert_eq!(dirty_tables.len(), clean_tables.len());
    assert_eq!(ledgers(&of_dirty), ledgers(&of_clean));

    let labels = labels(&label_text(&dirty));
    let seen = Seen::of(&*embedded::open(&dirty.join("log")).unwrap());
    let corrupt = places(&labels, "corrupt");
    assert_eq!(corrupt, seen.corrupt);
    let db = &mut connect(&of_dirty);
    let dead = db.query("SELECT topic, partition, \"offset\" FROM dead_letters", &[]).unwrap();
    let dead = dead.iter().map(|row| {
        let topic = Topic::from_name(row.get(0)).unwrap();
        (topic, row.get::<_, i64>(1) as u32, row.get::<_, i64>(2) as u64)
    });
    assert_eq!(dead.collect::<BTreeSet<Place>>(), corrupt);

    let duplicates = places(&labels, "duplicate");
    let both: BTreeSet<Place> = seen.elsewhere.union(&seen.again).copied().collect();
    assert_eq!(duplicates, both);
    let counted = db.query_one("SELECT sum(duplicate)::bigint FROM commit_offsets", &[]).unwrap();
    assert_eq!(counted.get::<_, i64>(0) as usize, duplicates.len());
    assert_eq!(places(&labels, "early"), seen.early);

    let (late, shuffled) = (places(&labels, "late"), places(&labels, "shuffled"));
    assert!(late.is_disjoint(&shuffled) && shuffled.iter().all(|it| seen.behind.contains_key(it)));
    for (place, by) in &seen.behind {
        assert!(late.contains(place) || shuffled.contains(place), "{place:?}");
        assert!(*by <= shuffle || late.contains(place), "{place:?}, {by}");
    }
    for label in &labels {
        let place = (label.topic, label.partition, label.record);
        let (at, event_id) = seen.records[&place];
        assert_eq!(label.at, at);
        assert_eq!(event_id.unwrap_or(label.event_id), label.event_id);
        assert!(label.due > at);
        assert_eq!(label.damage.is_some(), label.kind == "corrupt");
        let elsewhere = label.home.is_some_and(|home| home != label.partition);
        assert_eq!(elsewhere, seen.elsewhere.contains(&place));
    }
    (labels, seen)
}

#[test]
fn the_answers_are_those_of_the_clean_market() {
    let (labels, seen) = compared("40d", DIRT, 60 * SECOND);
    assert!(seen.refunds > 0, "a refund comes before its order");
    let latest = seen.behind.values().max().unwrap();
    assert!((29 * DAY..=30 * DAY).contains(latest), "{latest}");

    // The shares are those of the flag.
    let number = |kind| places(&labels, kind).len();
    let duplicates = number("duplicate");
    let events = seen.events - duplicates;
    for (of, among, share) in [
        (number("late"), events, 0.02),
        (duplicates, events, 0.05),
        (number("corrupt"), events, 0.005),
        (seen.elsewhere.len(), duplicates, 0.5),
    ] {
        let found = of as f64 / among as f64;
        assert!((found / share - 1.0).abs() < 0.15, "{of} of {among}, not {share}");
    }
    for damage in ["cut off", "not UTF-8", "is missing", "is \"1\"", "is 1", "is 4102444800000"] {
        let has = |label: &Label| label.damage.as_ref().is_some_and(|of| of.contains(damage));
        assert!(labels.iter().any(has), "{damage}");
    }
    assert!(number("shuffled") > events / 20, "{} of {events}", number("shuffled"));
}

#[test]
fn no_record_need_be_clean() {
    let all = "late=50%:30d,duplicate=100%,shuffle=1d,corrupt=100%";
    let (labels, seen) = compared("3d", all, DAY);
    let events = seen.events / 2;
    assert_eq!(events, places(&labels, "duplicate").len());
    assert_eq!(events, places(&labels, "corrupt").len());
}

#[test]
fn a_copy_in_another_partition_says_nothing_of_its_time() {
    let (_, seen) = compared("2d", "duplicate=100%", 0);
    assert!(seen.elsewhere.len() > 10_000, "{}", seen.elsewhere.len());
    assert_eq!(seen.news, 0);
}

#[test]
fn the_log_and_its_labels_are_the_same_for_any_number_of_workers() {
    let made = ["1", "2", "3"].map(|workers| {
        let dir = scratch();
        marketday(&history(&dir, "20d", &["--dirt", DIRT, "-w", workers]));
        (partitions(&dir), label_text(&dir))
    });
    assert!(labels(&made[0].1).len() > 5_000);
    assert!(made[0] == made[1], "1 worker and 2");
    assert!(made[0] == made[2], "1 worker and 3");
}

/// Runs a market until it kills itself at the n-th passing of a point, or ends before.
fn killed_at(point: &str, market: &mut Command) -> bool {
    let output = market.env("MARKETDAY_CRASH_AT", point).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let killed = output.status.signal() == Some(9);
    assert!(killed || output.status.success(), "{point}: {}\n{said}", output.status);
    assert!(!killed || said.contains("MARKETDAY_CRASH_AT: "), "{said}");
    killed
}

#[test]
fn killed_in_its_history_it_makes_the_same_log_and_labels() {
    let undisturbed = scratch();
    let market = |dir| history(dir, "20d", &["--dirt", DIRT]);
    marketday(&market(&undisturbed));
    let (expected, expected_labels) = (partitions(&undisturbed), label_text(&undisturbed));

    let dir = scratch();
    assert!(killed_at("seeding:2", command(&market(&dir)).args(["-w", "2"])));
    assert!(killed_at("seeded:1", &mut command(&market(&dir))));
    // When what is held back is on its way, and nothing but the settings knows of it.
    assert!(killed_at("delivering:1", &mut command(&market(&dir))));
    assert!(killed_at("keeping:1", &mut command(&market(&dir))));
    // After each flush, those at the end included, until it comes through.
    let kills = (1..100).find(|n| !killed_at(&format!("seeded:{n}"), &mut command(&market(&dir))));
    assert!(kills.unwrap() >= 3, "{kills:?}");
    assert!(partitions(&dir) == expected);
    assert!(label_text(&dir) == expected_labels);
}

/// Runs a live market until the log has so many more records, then asks it to end.
fn lives_on(dir: &Path, market: &mut Command, more: u64) {
    let end = log_end(dir) + more;
    let mut running = Running::start(market, dir.join("said"));
    running.wait_until("the log has grown", || log_end(dir) >= end);
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
}

/// Number of records in each partition.
fn counts(dir: &Path) -> BTreeMap<(Topic, u32), u64> {
    let log = embedded::open(&dir.join("log")).unwrap();
    hashes(&*log, |_, _| u64::MAX).into_iter().map(|(place, (count, _))| (place, count)).collect()
}

/// Runs a live market over files until it has so many records in each partition.
fn lives_until(dir: &Path, market: &mut Command, held: &BTreeMap<(Topic, u32), u64>) {
    let mut running = Running::start(market, dir.join("said"));
    running.wait_until("it is as far", || {
        dir.join("log/log.json").exists() && {
            let log = embedded::open(&dir.join("log")).unwrap();
            held.iter()
                .all(|((topic, partition), count)| log.end(*topic, *partition).unwrap() >= *count)
        }
    });
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
}

/// Compares a market with one that was never disturbed; that may end with its history first.
fn one_alone_makes_the_same(dir: &Path, days: &str, dirt: &str, ends_first: bool) {
    let (alone, held) = (scratch(), counts(dir));
    if ends_first {
        marketday(&history(&alone, days, &["--dirt", dirt]));
    }
    let max = live(&alone, days, &["--dirt", dirt, "--speed", "max"]);
    lives_until(&alone, &mut command(&max), &held);
    let same = first_records(&alone, |topic, partition| held[&(topic, partition)]);
    assert!(same == partitions(dir));
    assert!(label_text(&alone).starts_with(&label_text(dir)));
}

/// The snapshots in a market's directory.
fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("market")).into_iter().flatten();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "snapshot")).collect()
}

/// Has the market live through its history again.
fn forget_snapshots(dir: &Path) {
    let all = snapshots(dir);
    assert!(!all.is_empty());
    for path in all {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn killed_while_live_it_holds_back_what_it_held_back() {
    let dir = scratch();
    let market = |workers| live(&dir, "40d", &["--dirt", LATE, "--speed", "3600", "-w", workers]);
    let newest = || {
        let names = snapshots(&dir).into_iter();
        names.filter_map(|path| path.file_stem()?.to_str()?.parse::<u64>().ok()).max()
    };
    let live_since = 40 * 86_400 / 50;
    let mut running = Running::start(&mut command(&market("1")), dir.join("said"));
    running.wait_until("it has a snapshot from live", || newest() > Some(live_since));
    running.kill();
    let before = label_text(&dir).len();
    for (point, workers) in [("resume:1", "2"), ("seeding:20", "1"), ("seeded:20", "2")] {
        assert!(killed_at(point, &mut command(&market(workers))), "{point}");
    }
    lives_on(&dir, &mut command(&live(&dir, "40d", &["--speed", "max", "-w", "2"])), 30_000);
    let text = label_text(&dir);
    let (_, after) = text[before..].split_once('\n').unwrap();
    let late = |label: &Label| label.kind == "late" && label.due - label.at > 28 * DAY;
    assert!(labels(after).iter().any(late), "what is a month late has come after the kills");
    one_alone_makes_the_same(&dir, "40d", LATE, false);

    // It has been live: the end of its history is not the end of what it holds back.
    let held = (partitions(&dir), label_text(&dir));
    forget_snapshots(&dir);
    marketday(&history(&dir, "40d", &[]));
    assert!(partitions(&dir) == held.0);
    lives_on(&dir, &mut command(&market("1")), 2_000);
    one_alone_makes_the_same(&dir, "40d", LATE, false);
}

#[test]
fn after_the_end_of_its_history_it_goes_on_live() {
    let dir = scratch();
    marketday(&history(&dir, "5d", &["--dirt", DIRT]));
    forget_snapshots(&dir);
    lives_on(&dir, &mut command(&live(&dir, "5d", &["--speed", "max", "-w", "2"])), 3_000);
    one_alone_makes_the_same(&dir, "5d", DIRT, true);
}

#[test]
fn over_brokers_it_is_the_same_however_often_it_is_killed() {
    let (dir, state) = (scratch(), scratch());
    let flags = ["--history", "10d", "--start", "2026-11-30", "--seed", "7", "--dirt", DIRT];
    let on_brokers = |more: &[&str]| {
        let mut market =
            command(&["market", "--brokers", brokers(), "--topic-prefix", "dirt", "--dir"]);
        market.arg(&state).args(flags).args(more);
        market
    };
    for (point, workers) in [("seeding:2", "1"), ("seeded:2", "3"), ("delivering:1", "2")] {
        let ends = ["--exit-when-caught-up", "-w", workers];
        assert!(killed_at(point, &mut on_brokers(&ends)), "{point}");
    }
    assert!(on_brokers(&["--exit-when-caught-up"]).status().unwrap().success());
    marketday(&history(&dir, "10d", &["--dirt", DIRT]));
    let records = || hashes(&*kafka_log("dirt"), |_, _| u64::MAX);
    let of_files = |limit: &dyn Fn(Topic, u32) -> u64| {
        hashes(&*embedded::open(&dir.join("log")).unwrap(), limit)
    };
    assert!(records() == of_files(&|_, _| u64::MAX));

    // From a snapshot, behind which the offsets are not those of records alone.
    for point in ["seeding:5", "seeded:20"] {
        assert!(killed_at(point, &mut on_brokers(&["--speed", "3600"])), "{point}");
    }
    let log = kafka_log("dirt");
    let ends = || log.end(Topic::Users, 0).unwrap();
    let before = ends();
    let mut running = Running::start(&mut on_brokers(&["--speed", "3600"]), state.join("said"));
    running.wait_until("there is more", || ends() > before + 100);
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
    let held = records();
    let max = live(&dir, "10d", &["--dirt", DIRT, "--speed", "max"]);
    let far = held.iter().map(|(place, (count, _))| (*place, *count)).collect();
    lives_until(&dir, &mut command(&max), &far);
    assert!(of_files(&|topic, partition| held[&(topic, partition)].0) == held);
    assert!(label_text(&dir).starts_with(&label_text(&state)));
}
