//! Scenarios by hand in a running market, and what no shop knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dataflows::model::Topic;
use marketday::log::embedded;
use marketday::market::Speed;
use marketday::market::control::{ControlRequest, ask};
use serde_json::Value;

use crate::support::{
    Running, command, connect, database_url, events, first_records, fresh_database, log_end,
    marketday, partitions, refused, scratch,
};

/// What a log says of the scenarios of one name: action and strength.
fn told(dir: &Path, name: &str) -> Vec<(String, f64)> {
    let events = events(dir, Topic::Scenarios).into_iter().filter(|event| event["name"] == name);
    events
        .map(|event| {
            (event["action"].as_str().unwrap().to_owned(), event["strength"].as_f64().unwrap())
        })
        .collect()
}

/// Started and stopped by other programs; in the log like everything else; and a market that lives
/// through its life again, without its snapshots, does the same again.
#[test]
fn a_scenario_by_hand_is_part_of_the_market() {
    let dir = scratch();
    let name = dir.to_str().unwrap();
    let live = ["market", "--to", name, "--history", "1d", "--start", "2026-11-30"];
    let run = |said: &str| {
        let mut market = command(&live);
        Running::start(market.args(["--speed", "600"]), dir.join(said))
    };
    refused(
        &mut command(&["scenario", "start", "flash", "--dir", name]),
        "no market is running in",
    );
    let mut market = run("first");
    market.wait_until("it can be spoken to", || dir.join("market/control.sock").exists());

    refused(
        &mut command(&["scenario", "start", "flash", "--dir", name]),
        "one of your own needs a --strength",
    );
    refused(
        &mut command(&["scenario", "stop", "flash", "--dir", name]),
        "no scenario `flash` is active",
    );
    let strong = ["scenario", "start", "flash", "--strength", "99", "--dir", name];
    refused(&mut command(&strong), "a strength is a factor from 0.05 to 10");
    let cars = ["scenario", "start", "flash", "--categories", "cars", "--dir", name];
    refused(&mut command(&[&cars[..], &["--strength", "2"]].concat()), "no category `cars`");

    let start = ["scenario", "start", "flash", "--strength", "3", "--categories", "toys,food"];
    let said = marketday(&[&start[..], &["--for", "20m", "--dir", name]].concat());
    assert!(said.starts_with("flash from 2026-11-30 ") && said.contains("for 20m"), "{said}");
    let said = marketday(&["scenario", "start", "black-friday", "--dir", name]);
    assert!(said.contains("until `marketday scenario stop black-friday`"), "{said}");
    // What was started a moment ago can be stopped, before any tick has come.
    for what in [&["start", "short", "--strength", "2"][..], &["stop", "short"]] {
        marketday(&[&["scenario"], what, &["--dir", name]].concat());
    }
    let start = |strength| ("start".to_owned(), strength);
    let stop = |strength| ("stop".to_owned(), strength);
    // Black Friday was on the 27th: its rule's tail is active, and is changed.
    market.wait_until("both are in the log", || {
        told(&dir, "flash").contains(&start(3.0))
            && told(&dir, "black-friday").contains(&("change".to_owned(), 3.0))
    });
    market.wait_until("the flash is over", || told(&dir, "flash").len() == 2);
    assert_eq!(told(&dir, "flash"), [start(3.0), stop(3.0)]);
    marketday(&["scenario", "stop", "black-friday", "--dir", name]);
    market.wait_until("it is stopped", || told(&dir, "black-friday").contains(&stop(3.0)));
    assert_eq!(market.interrupt().code(), Some(0), "{}", market.said());

    // Lived through again from the beginning, the commands included, it goes on where it was.
    for file in fs::read_dir(dir.join("market")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snapshot") {
            fs::remove_file(path).unwrap();
        }
    }
    let log = embedded::open(&dir.join("log")).unwrap();
    let (before, held) = (log_end(&dir), partitions(&dir));
    let ends: BTreeMap<_, _> =
        held.keys().map(|place| (*place, log.end(place.0, place.1).unwrap())).collect();
    let mut market = run("second");
    market.wait_until("it goes on", || log_end(&dir) >= before + 500);
    assert_eq!(market.interrupt().code(), Some(0), "{}", market.said());
    assert_eq!(first_records(&dir, |topic, partition| ends[&(topic, partition)]), held);
    for topic in [Topic::Orders, Topic::Scenarios] {
        let events = events(&dir, topic);
        let mut ids: Vec<u64> = events.iter().filter_map(|it| it["event_id"].as_u64()).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..ids.len() as u64), "{topic:?}: not every event once");
    }
}

/// Killed, started again and asked at once: what the log holds stays as it is, and a market that
/// lives through the journal from the beginning has the same log.
#[test]
fn a_scenario_in_a_market_that_lives_again_begins_behind_its_log() {
    let (dir, replay) = (scratch(), scratch().join("replay"));
    let history = ["--history", "2d", "--start", "2026-11-30", "--speed", "600"];
    let run = |dir: &Path, said: &str| {
        let mut market = command(&["market", "--to", dir.to_str().unwrap()]);
        Running::start(market.args(history), scratch().join(said))
    };
    let mut market = run(&dir, "first");
    let live = || ask(&dir, &ControlRequest::Look).is_ok_and(|it| it.clock > it.start + 3_600_000);
    market.wait_until("it has lived for an hour", live);
    market.kill();
    for file in fs::read_dir(dir.join("market")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snapshot") {
            fs::remove_file(path).unwrap();
        }
    }
    let (held, length) = (partitions(&dir), log_end(&dir));
    let times = events(&dir, Topic::Orders).into_iter().map(|it| it["at"].as_i64().unwrap());
    let newest = times.max().unwrap();
    let log = embedded::open(&dir.join("log")).unwrap();
    let ends: BTreeMap<_, _> =
        held.keys().map(|place| (*place, log.end(place.0, place.1).unwrap())).collect();

    let mut market = run(&dir, "second");
    market.wait_until("it can be spoken to", || ask(&dir, &ControlRequest::Look).is_ok());
    marketday(&["scenario", "start", "flash", "--strength", "9", "--dir", dir.to_str().unwrap()]);
    market.wait_until("it goes on", || log_end(&dir) > length + 3_000);
    assert!(market.interrupt().success(), "{}", market.said());
    let journal = dir.join("market/commands.ndjson");
    let command: Value = serde_json::from_str(&fs::read_to_string(&journal).unwrap()).unwrap();
    assert!(command["at"].as_i64().unwrap() >= newest, "{command} after {newest}");
    assert_eq!(first_records(&dir, |topic, partition| ends[&(topic, partition)]), held);

    fs::create_dir_all(replay.join("market")).unwrap();
    fs::copy(journal, replay.join("market/commands.ndjson")).unwrap();
    let all = |dir: &Path, topic, partition| {
        embedded::open(&dir.join("log")).unwrap().end(topic, partition).unwrap()
    };
    let mut market = run(&replay, "replay");
    market.wait_until("it can be spoken to", || ask(&replay, &ControlRequest::Look).is_ok());
    ask(&replay, &ControlRequest::Speed(Speed::Max)).unwrap();
    let as_far = || held.keys().all(|&(topic, n)| all(&replay, topic, n) >= all(&dir, topic, n));
    market.wait_until("it is as far", as_far);
    assert!(market.interrupt().success(), "{}", market.said());
    assert_eq!(first_records(&replay, |topic, n| all(&dir, topic, n)), partitions(&dir));
}

#[test]
fn the_list_says_when_scenarios_are_active_next() {
    let nowhere = scratch().join("none");
    let list = ["scenario", "list", "--from", "2026-11-24", "--dir", nowhere.to_str().unwrap()];
    let text = marketday(&list);
    assert!(text.contains("2026-11-27 to 2026-12-03  black-friday"), "{text}");
    assert!(text.contains("lunar 01-01"), "{text}");
    let listed: Value =
        serde_json::from_str(&marketday(&[&list[..], &["--json"]].concat())).unwrap();
    let listed = listed.as_array().unwrap();
    assert!(listed.len() >= 20, "{} scenarios", listed.len());
    let seollal = listed.iter().find(|it| it["name"] == "seollal").unwrap();
    assert_eq!((&seollal["from"], &seollal["until"]), (&"2027-01-17".into(), &"2027-02-10".into()));

    let file = nowhere.with_extension("toml");
    fs::write(
        &file,
        "[[scenario]]\nname = \"mine\"\ncategories = [\"toys\"]\nday = { date = \"12-24\" }\n\
         phases = [{ from = 0, to = 1, demand = 1.5 }]",
    )
    .unwrap();
    let mine = marketday(&[&list[..], &["--scenarios", file.to_str().unwrap()]].concat());
    assert!(mine.starts_with("2026-12-24 to 2026-12-25  mine  12-24  x1.50"), "{mine}");
    fs::write(&file, "[[scenario]]\nname = \"mine\"").unwrap();
    let bad = [&list[..], &["--scenarios", file.to_str().unwrap()]].concat();
    let output = command(&bad).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("missing field") && said.contains("line 1"), "{said}");
}

/// The truth is of this market, and of the orders that it has.
#[test]
fn the_truth_is_told_on_request() {
    let (dir, database) = (scratch(), fresh_database());
    let with_database = |args: &[&str]| {
        let mut command = command(args);
        command.arg("--dir").arg(&dir).env("DATABASE_URL", database_url(&database));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let history = ["--history", "20d", "--start", "2026-11-30", "--exit-when-caught-up"];
    with_database(&[&["up"], &history[..]].concat());
    // Twice is once.
    with_database(&["truth"]);
    with_database(&["truth"]);
    let mut db = connect(&database);
    let mut says = |sql: &str| -> bool { db.query_one(sql, &[]).unwrap().get(0) };
    // It goes as far as whole refreshes do.
    let until = "(SELECT max(at) FROM truth_demand)";
    assert!(says(&format!(
        "SELECT (SELECT array_agg(user_id ORDER BY user_id) FROM truth_customers)
              = (SELECT array_agg(user_id ORDER BY user_id) FROM users WHERE signed_up_at <= {until})"
    )));
    assert!(says(
        "SELECT count(*) = 21 * (SELECT count(*) FROM truth_customers)
                AND avg(liking) BETWEEN 0.95 AND 1.05
         FROM truth_taste"
    ));
    assert!(says(&format!(
        "SELECT sum(orders) = (SELECT count(*) FROM orders WHERE ordered_at <= {until})
                AND abs(sum(expected_orders) / sum(orders) - 1) < 0.05
         FROM truth_demand"
    )));
    assert!(says(
        "SELECT count(*) > 100 AND bool_and(EXISTS (SELECT FROM orders
             WHERE orders.user_id = gone.user_id AND ordered_at = gone.at))
         FROM truth_drop_outs AS gone"
    ));
    // Who has a quick rhythm orders oftener.
    let orders = |rhythm: &str| {
        format!(
            "(SELECT avg(orders) FROM (SELECT count(*) AS orders FROM orders
                  JOIN truth_customers USING (user_id) WHERE {rhythm} GROUP BY user_id) AS of_each)"
        )
    };
    let (often, seldom) = (orders("orders_a_month > 5"), orders("orders_a_month < 1"));
    assert!(says(&format!("SELECT {often} > {seldom}")));
}
