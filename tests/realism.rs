//! The scorecard: of real purchases, of a market like clockwork, and of orders with planted habits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use postgres::Config;
use serde_json::Value;

use crate::cdnow;
use crate::support::{
    command, connect, database_url, fresh_database, marketday, scratch, server, with_database,
};

/// The statistics of a report, `M1` first.
fn statistics(report: &Value) -> &[Value] {
    report["statistics"].as_array().unwrap()
}

/// The status of a statistic.
fn status<'r>(report: &'r Value, id: &str) -> &'r str {
    let statistic = statistics(report).iter().find(|it| it["id"] == id);
    statistic.unwrap()["status"].as_str().unwrap()
}

/// The values of a statistic's parts; NaN where there is none.
fn values(report: &Value, id: &str) -> Vec<f64> {
    let statistic = statistics(report).iter().find(|it| it["id"] == id).unwrap();
    let parts = statistic["parts"].as_array().unwrap();
    parts.iter().map(|part| part["value"].as_f64().unwrap_or(f64::NAN)).collect()
}

#[track_caller]
fn assert_near(values: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(values.len(), expected.len(), "{values:?}");
    for (value, expected) in values.iter().zip(expected) {
        let near = (value - expected).abs() <= relative * expected.abs();
        assert!(near, "{values:?}: {value} is not {expected}");
    }
}

/// Runs the command on a database.
fn realism(database: &Config, args: &[&str]) -> Output {
    let mut command = command(&["realism"]);
    command.args(args).env("DATABASE_URL", database_url(database)).output().unwrap()
}

/// The report on a database.
fn report(database: &Config) -> Value {
    let output = realism(database, &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The numbers are those that scripts in Python found in the same file: the first five with pandas, the
/// last with a fit of its own.
#[test]
fn real_purchases_pass_what_they_speak_of() {
    let page = scratch().join("page.html");
    let page = page.to_str().unwrap();
    let args = ["realism", "--dir", cdnow::market(), "--html", page, "--json"];
    let report: Value = serde_json::from_str(&marketday(&args)).unwrap();

    for id in ["M1", "M2", "M3", "M4", "M5", "M18", "M20", "M21"] {
        assert_eq!(status(&report, id), "PASS", "{id}: {:?}", values(&report, id));
    }
    assert_near(&values(&report, "M1"), &[0.505_218_498], 1e-8);
    assert_near(&values(&report, "M2"), &[0.502_372_653], 1e-8);
    // There, those who got everything for nothing did not count.
    assert_near(&values(&report, "M3"), &[0.677_022_829], 0.005);
    assert_near(&values(&report, "M4"), &[34.0, 1.272_359_542, 72.213_988_778], 1e-8);
    assert_near(&values(&report, "M5")[..3], &[0.174_586_339, 0.292_193_466, 0.374_501_485], 1e-8);
    // Its prices are cents here, so their mean says nothing, and their spread does.
    assert_near(&values(&report, "M6")[..1], &[0.734_302_780], 1e-8);
    assert_eq!(statistics(&report)[5]["parts"][0]["accepted"], true);
    let fit = [0.251_624_019, 4.788_945_175, 0.723_436_720, 2.161_097_131];
    assert_near(&values(&report, "M18")[..4], &fit, 0.01);
    assert_near(&values(&report, "M20")[..4], &[0.149_300, 0.098_982, 0.080_653, 0.073_144], 1e-4);
    assert_near(&values(&report, "M21"), &[134.0, 169.0], 0.0);
    // A product and an hour are not in the file.
    assert_eq!(status(&report, "M8"), "-");
    assert_eq!(status(&report, "M10"), "OUT");

    // A page that loads nothing, with all plots.
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<figure>").count(), 9);
    for loading in ["<script", "<link", "<img", "src=", "url(", "@import"] {
        assert!(!page.contains(loading), "{loading}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number that is none");

    let text = marketday(&["realism", "--dir", cdnow::market()]);
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}");
    assert!(!text.contains('\x1b'), "colours where there is no terminal");
    let verdict = format!(
        "{} of 22 in the band of real data (PASS), {} set by the brief (BRIEF), {} OUT",
        report["pass"], report["brief"], report["out"]
    );
    assert!(text.contains(&verdict), "{verdict}\n{text}");
}

#[test]
fn nothing_can_be_said_of_no_orders() {
    let report = report(&fresh_database());
    let ids: Vec<_> = statistics(&report).iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids, (1..=22).map(|number| format!("M{number}")).collect::<Vec<_>>());
    assert!(ids.iter().all(|id| status(&report, id) == "-"));
    assert_eq!(report["not_computed"], 22);
    assert_eq!(report["statistics"][0]["parts"][0]["reason"], "there are no orders yet");
    // The numbers of real shops stand there all the same, each with where it is from.
    assert_eq!(report["statistics"][0]["parts"][0]["real"][0]["source"], "CDNOW");
    assert!(report["sources"].as_array().unwrap().iter().any(|it| it["name"] == "CDNOW"));
}

/// 2,000 customers who buy one of 1,200 products every 20 days, at all hours alike.
#[test]
fn clockwork_is_not_like_a_shop() {
    let database = fresh_database();
    connect(&database)
        .batch_execute(
            "INSERT INTO order_events
             SELECT number, 0, number, at, 'placed', number, user_id, at, ARRAY[number % 1200],
                    ARRAY['food'], ARRAY[1], ARRAY[10000 + number]
             FROM generate_series(1, 2000) AS user_id, generate_series(0, 19) AS time,
                  LATERAL (SELECT 20 * user_id + time AS number,
                                  timestamptz '2026-01-01 00:30+09' + (user_id % 20 + 20 * time) * interval '1 day'
                                      + user_id * 7 % 24 * interval '1 hour' AS at) AS planned",
        )
        .unwrap();
    let report = report(&database);
    for id in ["M1", "M2", "M4", "M8", "M10", "M11", "M20"] {
        assert_eq!(status(&report, id), "OUT", "{id}: {:?}", values(&report, id));
    }
    assert_near(&values(&report, "M1"), &[0.0], 0.0);
    assert_near(&values(&report, "M4"), &[20.0, 0.0, 20.0], 0.0);
}

/// A year in which each order but the VIP's is of a customer of their own: 40 a day, 30 % more on the
/// first five days of a month, 120 on Black Friday, half an hour after midnight in Seoul (the day before
/// in London). A VIP in her 20s buys three things every 14 days at 21:30. Nine of ten new products sell
/// half a day after their listing.
#[test]
fn planted_habits_are_found() {
    let database = fresh_database();
    connect(&database)
        .batch_execute(
            "INSERT INTO order_events
             SELECT number, 0, number, at, 'placed', number, number, at, ARRAY[100], ARRAY['food'],
                    ARRAY[2], ARRAY[30000]
             FROM (SELECT row_number() OVER () AS number,
                          (day::date + time '00:30') AT TIME ZONE 'Asia/Seoul' AS at
                   FROM generate_series(date '2026-01-01', date '2026-12-31', interval '1 day') AS day,
                        generate_series(1, CASE WHEN day = date '2026-11-27' THEN 120
                                                WHEN extract(day FROM day) <= 5 THEN 52
                                                ELSE 40 END)) AS planned;
             INSERT INTO order_events
             SELECT -time, 0, time, at, 'placed', -time, 0, at, ARRAY[101, 102, 103],
                    ARRAY['food', 'food', 'food'], ARRAY[1, 1, 1], ARRAY[9000, 20000, 1000]
             FROM generate_series(0, 25) AS time,
                  LATERAL (SELECT timestamptz '2026-01-01 21:30+09' + 14 * time * interval '1 day' AS at)
                      AS planned;
             INSERT INTO users VALUES (0, 'A', '2001-05-05', 'F', '서울', 'ACTIVE', false,
                                       '2026-01-01 00:00+09', '2026-01-01 00:00+09', 'VIP');
             INSERT INTO products
             SELECT id, 'B', 'food', 9, 9, '2026-03-10 12:30+09', '2026-03-10 12:30+09', 0
             FROM generate_series(1, 10) AS id;
             -- Sold with the first order of the next day.
             UPDATE order_events SET product_ids = ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9],
                                     categories = array_fill('food'::text, ARRAY[9]),
                                     quantities = array_fill(1, ARRAY[9]),
                                     unit_prices = array_fill(1000, ARRAY[9])
             WHERE order_id = (SELECT min(order_id) FROM order_events
                               WHERE at = '2026-03-11 00:30+09');
             -- What became of an order does not matter.
             INSERT INTO order_events
             SELECT -1000 - order_id, 0, 0, at + interval '1 hour', 'cancelled', order_id, user_id,
                    ordered_at, product_ids, categories, quantities, unit_prices
             FROM order_events WHERE order_id % 3 = 0 AND order_id > 0",
        )
        .unwrap();
    let report = report(&database);
    let others = 365 * 40 + 12 * 5 * 12 + 80;
    assert_eq!(report["orders"], others + 26);
    assert_eq!((&report["from"], &report["to"]), (&"2026-01-01".into(), &"2026-12-31".into()));
    let (others, orders) = (f64::from(others), f64::from(others + 26));

    assert_near(&values(&report, "M1"), &[others / (others + 1.0)], 1e-12);
    assert_near(&values(&report, "M4"), &[14.0, 0.0, 14.0], 1e-12);
    assert_near(
        &values(&report, "M6")[1..],
        &[(others * 60_000.0 - 51_000.0 + 26.0 * 30_000.0) / orders],
        1e-12,
    );
    assert_near(
        &values(&report, "M7")[..2],
        &[(others + 8.0 + 26.0 * 3.0) / orders, (others - 1.0) / orders],
        1e-12,
    );
    // The VIP's, but those of her first order.
    assert_near(&values(&report, "M9"), &[25.0 * 3.0 / (others + 8.0 + 26.0 * 3.0)], 1e-9);
    assert_near(&values(&report, "M10")[..2], &[others / orders, others / orders], 1e-12);
    assert_near(&values(&report, "M12")[3..], &[1.0], 0.0);
    assert_near(&values(&report, "M13"), &[21.0, 1.0], 1e-12);
    assert_near(&values(&report, "M14"), &[14.0; 5], 1e-9);
    assert_near(&values(&report, "M15")[..1], &[0.30], 0.05);
    assert_near(&values(&report, "M16"), &[0.9, 0.5], 1e-9);
    assert_near(&values(&report, "M17"), &[3.0], 1e-12);
    let judged = ["M13", "M14", "M15", "M16", "M17"].map(|id| status(&report, id));
    // All her orders in one hour are too many, and a VIP by the rule would order oftener.
    assert_eq!(judged, ["OUT", "OUT", "BRIEF", "BRIEF", "PASS"]);
}

/// In a year 100 customers buy on the first day, of whom ever fewer do so again later; another one buys
/// every second day, and 99 never. Of 20 products 7 sell in it, and one only before.
#[test]
fn who_stays_and_what_sells_is_found() {
    let database = fresh_database();
    connect(&database)
        .batch_execute(
            "INSERT INTO order_events
             SELECT row_number() OVER (), 0, 0, at, 'placed', row_number() OVER (), user_id, at,
                    ARRAY[product_id], ARRAY['food'], ARRAY[1], ARRAY[30000]
             FROM (SELECT user_id, day, 1 AS product_id
                   FROM (VALUES (0, 100), (35, 25), (100, 15), (190, 10), (340, 8))
                            AS later (day, buyers),
                        generate_series(1, buyers) AS user_id
                   UNION ALL
                   SELECT 101, day, 1 + day % 7 FROM generate_series(0, 364, 2) AS day
                   UNION ALL
                   -- Before the year that counts.
                   SELECT 101, -1, 8) AS bought,
                  LATERAL (SELECT timestamptz '2026-01-02 12:00+09' + day * interval '1 day' AS at)
                      AS planned;
             INSERT INTO users
             SELECT id, 'A', '2001-05-05', 'F', '서울', 'ACTIVE', false, at, at, 'BRONZE'
             FROM generate_series(1, 200) AS id, (SELECT timestamptz '2026-01-01 00:00+09' AS at) AS signed;
             -- Who signed up lately may yet buy.
             INSERT INTO users
             SELECT id, 'B', '2001-05-05', 'F', '서울', 'ACTIVE', false, at, at, 'BRONZE'
             FROM generate_series(301, 400) AS id, (SELECT timestamptz '2026-12-01 00:00+09' AS at) AS signed;
             INSERT INTO products
             SELECT id, 'C', 'food', 9, 9, '2025-12-10 12:30+09', '2025-12-10 12:30+09', 0
             FROM generate_series(1, 20) AS id",
        )
        .unwrap();
    let report = report(&database);
    assert_near(&values(&report, "M19"), &[101.0 / 200.0], 1e-12);
    let retained = [26.0 / 101.0, 16.0 / 101.0, 11.0 / 101.0, 9.0 / 101.0, 9.0 / 26.0];
    assert_near(&values(&report, "M20"), &retained, 1e-9);
    assert_near(&values(&report, "M21"), &[183.0, 183.0], 0.0);
    assert_near(&values(&report, "M22"), &[7.0 / 20.0], 1e-12);
    let judged = ["M19", "M20", "M21", "M22"].map(|id| status(&report, id));
    assert_eq!(judged, ["BRIEF", "PASS", "OUT", "BRIEF"]);
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let nowhere = scratch().join("none").join("page.html");
    let output = realism(&fresh_database(), &["--html", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(nowhere.to_str().unwrap()), "{said}");
    assert!(output.stdout.is_empty());
}

/// A market small enough for a test: a tenth of the places, and of those who wait for them.
const SMALL: &str = "base = 'year'
    customers.initial = 3000
    customers.reach = 60000
    working_set.customers = 100
    working_set.buyers = 60
    demand.backlog = [70, 54]
    demand.arrivals = [8, 46]
    ";

/// Gives back what a market that is over has taken of the disk.
fn forget(dir: &Path, database: &Config) {
    fs::remove_dir_all(dir).unwrap();
    let name = database.get_dbname().unwrap();
    connect(server()).batch_execute(&format!("DROP DATABASE {name}")).unwrap();
}

/// Lives through a market by a profile; gives its directory and its database.
fn lived(name: &str, profile: &str, flags: &[&str]) -> (PathBuf, Config) {
    let (dir, database) = (scratch(), fresh_database());
    let file = dir.join("profile.toml");
    fs::write(&file, profile).unwrap();
    let mut up = command(&["up", "--exit-when-caught-up"]);
    up.args(flags).arg("--dir").arg(&dir).arg("--profile").arg(&file);
    let output = up.env("DATABASE_URL", database_url(&database)).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    (dir, database)
}

/// A rule of the market that is not like a real shop's, and the statistics that it fails.
const CONTROLS: [(&str, &str, &[&str]); 5] = [
    (
        "plain top N of all past buyers",
        // As many orders as in the others.
        "score.temperature = 0.0
         working_set.selection = 'all'
         working_set.refresh = '600s'
         demand.tick = ['300s', '300s']
         demand.orders_a_tick = 1",
        &["M2", "M4"],
    ),
    (
        "uniform products",
        "products.popularity = [0.0, 30.0]
         working_set.best_sellers = 0
         basket.again = 0.0",
        &["M8"],
    ),
    ("flat hours", "demand.hours = [[], [], [], [], [], []]", &["M10"]),
    (
        "customers who are all alike",
        "rhythm.orders_a_month = 2.0
         rhythm.spread = 0.0
         rhythm.regulars.share = 0.0
         rhythm.soon = [0.0, '15d']
         rhythm.drop_out = [0.001, 10.0]
         rhythm.only_one = 0.0
         score.women = 1.0
         score.men = 1.0
         score.ages = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]",
        &["M2"],
    ),
    ("nobody leaves", "rhythm.drop_out = [0.001, 10.0]\nrhythm.only_one = 0.0", &["M20"]),
];

/// The scorecard can fail: a small market passes what each change to its rules makes fail.
#[test]
fn rules_that_are_not_a_shops_are_found_out() {
    let judged = |name: &str, changes: &str, history: &str| {
        let flags = ["--history", history, "--start", "2026-08-01"];
        let (dir, database) = lived(name, &format!("{SMALL}{changes}"), &flags);
        let report = report(&database);
        forget(&dir, &database);
        report
    };
    let year = judged("year", "", "12mo");
    for (name, changes, fails) in CONTROLS {
        // Who stays for how long takes a year.
        let report = judged(name, changes, if *fails == ["M20"] { "12mo" } else { "7mo" });
        for id in fails {
            assert_eq!(status(&year, id), "PASS", "year, {id}: {:?}", values(&year, id));
            assert_eq!(status(&report, id), "OUT", "{name}, {id}: {:?}", values(&report, id));
        }
    }
}

// --- the numbers of the brief

/// The table of the brief's numbers.
fn brief(dir: &Path, database: &Config) -> Value {
    let output = realism(database, &["--brief", "--json", "--dir", dir.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The row of the table that begins so.
fn row<'t>(table: &'t Value, what: &str) -> &'t Value {
    let rows = table["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["what"].as_str().unwrap().starts_with(what));
    row.unwrap_or_else(|| panic!("no row {what}"))
}

#[track_caller]
fn assert_verdicts(table: &Value, verdict: &str, rows: &[&str]) {
    for what in rows {
        assert_eq!(row(table, what)["verdict"], verdict, "{}", row(table, what));
    }
}

/// What a day of the profile `brief` shows, by the events alone.
const SHOWN: [&str; 14] = [
    "customers at the beginning",
    "products at the beginning",
    "prices",
    "customers who have bought",
    "customers who never bought",
    "last day's lines",
    "orders 3 to 5 s apart",
    "new products 6 to 8 s",
    "of those who consented",
    "its factor",
    "life as usual",
    "increased spending",
    "big spending",
    "orders of 1 to 10 lines",
];

/// And by the truth.
const TRUE: [&str; 2] = ["working set", "order ticks 3 to 5 s"];

/// A market of other numbers than the brief's is found out in each of them.
#[test]
fn the_numbers_of_the_brief_are_measured() {
    let judged = |profile: &str| {
        let (dir, database) =
            lived(profile, profile, &["--history", "2d", "--start", "2026-08-01"]);
        let place = ["--dir", dir.to_str().unwrap()];
        let before = brief(&dir, &database);
        assert_verdicts(&before, "-", &TRUE);
        with_database(&[&["truth"][..], &place].concat(), &database);
        brief(&dir, &database)
    };
    let shipped = judged("base = 'brief'");
    assert_verdicts(&shipped, "BRIEF", &SHOWN);
    assert_verdicts(&shipped, "BRIEF", &TRUE);
    // What a day cannot tell says why.
    for (what, why) in [
        ("scenarios in a year", "it needs a year"),
        ("Black Friday", "no Black Friday with four weeks before it"),
        ("sign-ups live", "it has not lived an hour live, or no week before"),
        ("gifts among units before Seollal", "it needs the day and seven weeks before it"),
    ] {
        assert_eq!(row(&shipped, what)["verdict"], "-");
        assert_eq!(row(&shipped, what)["reason"], why);
    }

    let other = judged(
        "base = 'brief'
         customers.initial = 900
         products.initial = 2000
         products.price = [2.0, 2.0]
         products.listing = ['9s', '12s']
         score.boost = [0.3, 1.5]
         score.life = [[0.2, 1.5], [0.1, 3.0]]
         demand.tick = ['6s', '9s']
         working_set.refresh = '100s'",
    );
    let found_out = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12].map(|place| SHOWN[place]);
    assert_verdicts(&other, "OUT", &found_out);
    assert_verdicts(&other, "OUT", &TRUE);

    // As a table for people.
    let database = fresh_database();
    let text = realism(&database, &["--brief", "--dir", scratch().to_str().unwrap()]);
    let text = String::from_utf8(text.stdout).unwrap();
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}");
    assert!(text.contains("there is no market in the directory"), "{text}");
}

/// One day of three times as many orders, and nothing that says what comes of it.
const SALE: &str = "[[scenario]]
    name = 'black-friday'
    categories = ['electronics']
    day = { first = ['Fri', '11-23'] }
    phases = [{ from = 0, to = 0, demand = 3.0 }]";

/// After a sale less is ordered than in the same market without it. Where nothing is pulled forward and
/// demand answers neither who is left nor who arrives, there is no dip, and that is found out.
#[test]
fn a_sale_without_a_dip_is_found_out() {
    let scenarios = scratch().join("scenarios.toml");
    fs::write(&scenarios, SALE).unwrap();
    let dip = |name: &str, changes: &str| {
        let mut flags = vec!["--history", "4mo", "--start", "2026-12-15"];
        flags.extend(["--scenarios", scenarios.to_str().unwrap()]);
        let (dir, database) = lived(name, &format!("base = 'year'\n{changes}"), &flags);
        row(&brief(&dir, &database), "the 14 days after it").clone()
    };
    let year = dip("year", "");
    assert_eq!(year["verdict"], "BRIEF", "{year}");
    let none = dip(
        "no dip",
        // So few orders that those who have just ordered are no loss.
        "demand.pull = 0.0\ndemand.pressure = 0.0\ndemand.smooth = '1000d'\n\
         demand.arrivals = [30, 30]",
    );
    assert_eq!(none["verdict"], "OUT", "{none}");
}
