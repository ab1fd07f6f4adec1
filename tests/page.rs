//! The web page as a visitor has it: in a real browser, over a living market.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketday::page::dashboards::{self, DASHBOARDS};
use marketday::page::{self, Page};
use marketday::platform::private_postgres::PrivatePostgres;
use postgres::Config;
use postgres::error::SqlState;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{
    Running, command, command_of, connect, database_url, fresh_database, scratch, wait_until,
};

/// For who looks at the figures of a run.
macro_rules! say {
    ($($what:tt)*) => { _ = writeln!(std::io::stderr(), $($what)*) };
}

/// Orders enough to count by the minute: a dozen, on average.
const BUSY: &str = "base = \"year\"\n[customers]\ninitial = 20_000\n\
     [rhythm]\norders_a_month = 30.0\nrest = \"1h\"\nsoon = [0.0, \"1h\"]\ndrop_out = [0.1, 2.0]\nonly_one = 0.0\n";

/// A market of a month and its page.
struct Market {
    up: Running,
    dir: PathBuf,
    url: String,
}

/// Where a program has said that its page is; nothing while it has not.
pub(crate) fn said_url(said: &Path) -> String {
    let said = fs::read_to_string(said).unwrap();
    let found = said.lines().find_map(|line| line.split_once("http://"));
    found.map(|(_, rest)| format!("http://{}", rest.trim())).unwrap_or_default()
}

/// A page over a store, where there is no market.
fn settings(database: &Config, stalled: Duration) -> page::Settings {
    page::Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        names: vec!["shop".into()],
        database: database.clone(),
        reader: database.clone(),
        dir: scratch(),
        stalled,
    }
}

/// A page over a store in which nothing is committed, and where there is no market.
fn empty_page() -> (Page, Config, String) {
    let config = fresh_database();
    let page = page::serve(settings(&config, page::STALLED)).unwrap();
    let url = format!("http://{}", page.address);
    (page, config, url)
}

impl Market {
    /// Waits until the page says that it is live.
    fn is_live(&mut self, browser: &mut Browser) {
        self.up.wait_for_history();
        browser.until("the market is live", LIVE);
    }

    /// Waits until the history is in the tables.
    fn start(speed: &str) -> Market {
        let dir = scratch();
        let profile = dir.join("busy.toml");
        fs::write(&profile, BUSY).unwrap();
        let mut up = command(&["up", "--history", "30d", "--start", "2026-11-23", "--seed", "3"]);
        up.arg("--dir").arg(&dir).arg("--profile").arg(&profile).args(["--speed", speed]);
        let said = dir.join("said");
        let mut up = Running::start(up.args(["--page", "127.0.0.1:0"]), said.clone());
        let mut url = String::new();
        up.wait_until("the page is served", || {
            url = said_url(&said);
            !url.is_empty()
        });
        Market { up, dir, url }
    }

    fn database(&self) -> PrivatePostgres {
        PrivatePostgres::start(&self.dir).unwrap()
    }
}

/// Asks something of the market as the page does.
fn steer(browser: &mut Browser, what: &Value) -> Value {
    browser.eval(&format!(
        "fetch('/api/market', {{method: 'POST', headers: {{'content-type': 'application/json'}},
         body: JSON.stringify({what})}}).then(answer => answer.json())"
    ))
}

/// The numbers of a panel's fields by the SQL, each column added up.
fn sums(panel: &Value) -> BTreeMap<String, f64> {
    let fields = panel["fields"].as_array().unwrap();
    let rows = panel["rows"].as_array().unwrap();
    let numbers = fields.iter().enumerate().filter(|(_, field)| field["type"] == "number");
    numbers
        .map(|(place, field)| {
            let sum = rows.iter().filter_map(|row| row[place].as_f64()).sum();
            (field["name"].as_str().unwrap().to_owned(), sum)
        })
        .collect()
}

fn between(value: f64, one: f64, other: f64) -> bool {
    let room = 1e-9 * one.abs().max(1.0);
    (one.min(other) - room..=one.max(other) + room).contains(&value)
}

/// What the page has drawn of each panel.
const DRAWN: &str = "[...document.querySelectorAll('[data-panel]')].map(panel => ({
    id: Number(panel.dataset.panel), type: panel.dataset.type, state: panel.dataset.state,
    sum: panel.dataset.sum && JSON.parse(panel.dataset.sum),
    marks: panel.querySelectorAll('canvas, svg path').length,
    rows: panel.querySelectorAll('tbody tr').length,
    values: [...panel.querySelectorAll('[data-value]')]
        .map(value => ({ field: value.dataset.field, value: Number(value.dataset.value) }))
        .filter(value => !Number.isNaN(value.value)),
}))";

/// The strip says that the market has lived through its history.
const LIVE: &str = "document.querySelector('#market')?.dataset.state === 'live'";

/// The page has drawn all panels of a dashboard.
const ALL_DRAWN: &str = "!!document.body?.dataset.epoch
    && [...document.querySelectorAll('[data-panel]')].length > 3
    && [...document.querySelectorAll('[data-panel]')].every(panel => panel.dataset.state)";

/// A panel draws the rows of its SQL, which was run before and after. Returns whether there are any.
fn draws(uid: &str, panel: &Value, before: &Value, after: &Value) -> bool {
    let what = format!("{uid}: {panel}");
    assert!(before["error"].is_null(), "{what}: {before}");
    let rows = before["rows"].as_array().unwrap();
    if rows.is_empty() {
        assert_eq!(panel["state"], "empty", "{what}");
        return false;
    }
    assert_eq!(panel["state"], "drawn", "{what}");
    let (one, other) = (sums(before), sums(after));
    if let Some(sum) = panel["sum"].as_object() {
        assert!(panel["marks"].as_u64().unwrap() > 0, "nothing is drawn: {what}");
        assert!(!sum.is_empty(), "{what}");
        for (field, sum) in sum {
            let sum = sum.as_f64().unwrap();
            assert!(between(sum, one[field], other[field]), "{field} {one:?}: {what}");
        }
        return true;
    }
    let values = panel["values"].as_array().unwrap();
    if panel["type"] == "table" {
        assert_eq!(panel["rows"], rows.len(), "{what}");
    } else {
        assert!(!values.is_empty(), "{what}");
    }
    for shown in values {
        let value = shown["value"].as_f64().unwrap();
        if let Some(field) = shown["field"].as_str() {
            assert!(between(value, one[field], other[field]), "{field}: {what}");
        } else if !uid.starts_with("pipeline") {
            // There, some cells are ages.
            let mut cells = rows.iter().flat_map(|row| row.as_array().unwrap());
            let known =
                cells.any(|cell| cell.as_f64().is_some_and(|cell| between(value, cell, cell)));
            assert!(known, "{value}: {what}");
        }
    }
    true
}

#[test]
fn every_panel_draws_what_its_sql_says() {
    let mut market = Market::start("max");
    let (server, browser) = (market.database(), &mut Browser::start());
    let db = &mut connect(&server.config());
    browser.size(1440, 900);
    browser.open(&market.url);
    // Also before the first commit there is a page, and nothing in it is an error.
    browser.until("the page is there", "!!document.querySelector('[data-panel]')");
    market.is_live(browser);
    steer(browser, &json!({ "speed": 1 }));
    browser.until("something is drawn", "document.body?.dataset.epoch > 0");
    let (seen, live) = (browser.eval("document.body.dataset.epoch"), LIVE);
    browser.until(
        "it is drawn anew at a commit",
        &format!("{live} && document.body.dataset.epoch > {seen}"),
    );
    assert!(steer(browser, &json!({ "pause": true }))["error"].is_null());
    let epoch = |db: &mut postgres::Client| -> i64 {
        db.query_one("SELECT epoch FROM progress", &[]).unwrap().get(0)
    };
    wait_until("nothing is committed any more", || {
        let before = epoch(db);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let waiting = "SELECT coalesce(sum(lag), 1)::bigint FROM pipeline_status
                       WHERE written_at > clock_timestamp() - interval '2 s'";
        let waiting: i64 = db.query_one(waiting, &[]).unwrap().get(0);
        waiting == 0 && before == epoch(db)
    });

    for dashboard in DASHBOARDS.iter() {
        let uid = dashboard["uid"].as_str().unwrap();
        let ask = |points: i64| -> dashboards::Ask {
            let ask = json!({ "uid": uid, "from": dashboard["time"]["from"],
                              "to": dashboard["time"]["to"], "points": points });
            serde_json::from_value(ask).unwrap()
        };
        let before = dashboards::draw(db, &ask(600)).unwrap();
        browser.open(&format!("{}/d/{uid}", market.url));
        browser.until(&format!("all panels of {uid} are drawn"), ALL_DRAWN);
        let drawn = browser.eval(DRAWN);
        let after = dashboards::draw(db, &ask(600)).unwrap();
        assert_eq!(before.epoch, after.epoch, "the market is held");
        let mut seen = 0;
        for panel in drawn.as_array().unwrap() {
            let id = panel["id"].as_i64().unwrap();
            match (before.panels.get(&id), after.panels.get(&id)) {
                (Some(one), Some(other)) => seen += i32::from(draws(uid, panel, one, other)),
                _ => {
                    assert!(panel["type"] == "text" && panel["state"] == "drawn", "{uid}: {panel}");
                }
            }
        }
        assert!(seen >= 5, "{uid} shows little: {seen}");
        for (scheme, width, height) in
            [("light", 1440, 900), ("dark", 1440, 900), ("dark", 390, 844)]
        {
            browser.scheme(scheme);
            browser.size(width, height);
            let wide = browser.eval("document.documentElement.scrollWidth - innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{uid} is wider than {width} pixels by {wide}");
            std::thread::sleep(std::time::Duration::from_millis(300));
            browser.picture(&format!("{uid}-{width}-{scheme}"));
        }
        browser.scheme("light");
        browser.size(1440, 900);
    }
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    let foreign: Vec<_> =
        browser.requests.iter().filter(|url| !url.starts_with(&market.url)).collect();
    let foreign: Vec<_> = foreign.iter().filter(|url| !url.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "requests that leave the machine: {foreign:?}");

    // A first visit, with nothing kept from before.
    let first = &mut Browser::start();
    first.open(&market.url);
    first.until("the first page is drawn", ALL_DRAWN);
    let took = first.eval("performance.getEntriesByType('navigation')[0].domComplete");
    say!("a first load: {} KiB, {took} ms until it is complete", first.bytes >> 10);
    assert!(first.bytes < 1_000_000, "{} bytes", first.bytes);
    server.stop().unwrap();
}

#[test]
fn black_friday_comes_by_its_button() {
    let mut market = Market::start("120");
    let (server, browser) = (market.database(), &mut Browser::start());
    let db = &mut connect(&server.config());
    browser.size(1440, 900);
    browser.open(&format!("{}/d/now?from=now-1h&to=now", market.url));
    market.is_live(browser);
    let now = |db: &mut postgres::Client| -> i64 {
        let sql = "SELECT coalesce((extract(epoch FROM now) / 60)::bigint, 0) FROM progress";
        db.query_one(sql, &[]).unwrap().get(0)
    };
    // Orders of whole minutes of market time.
    let orders = |db: &mut postgres::Client, from: i64, until: i64| -> i64 {
        let sql = "SELECT coalesce(sum(orders), 0)::bigint FROM orders_by_minute
                   WHERE minute >= to_timestamp($1) AND minute < to_timestamp($2)";
        let [from, until] = [from, until].map(|minute| (minute * 60) as f64);
        db.query_one(sql, &[&from, &until]).unwrap().get(0)
    };
    // 2026-11-23 in Seoul.
    let live = 1_795_359_600 / 60;
    let mut start = 0;
    wait_until("it has lived 25 minutes since it is live", || {
        start = now(db);
        start >= live + 25
    });
    // Of the chart that shows orders by the minute, and drawn at each commit.
    let shown = "JSON.parse(document.querySelector('[data-panel=\"4\"]').dataset.sum).orders";
    let orders_shown = browser.eval(shown);
    browser.eval("document.querySelector('#black-friday').click()");
    browser.until(
        "the strip shows it",
        "!!document.querySelector('#running [data-stop=\"black-friday\"]')",
    );
    let since = now(db);
    wait_until("25 minutes of the sale are over", || now(db) >= since + 26);
    let (before, after) = (orders(db, start - 25, start), orders(db, since + 1, since + 26));
    assert!(before >= 25, "too few orders to compare: {before}");
    assert!(after >= 2 * before, "{before} orders in 25 minutes before, {after} in the sale");
    let drawn = browser.eval(shown);
    assert!(drawn.as_f64() > orders_shown.as_f64(), "the chart stands still: {drawn}");
    browser.picture("black-friday");
    browser.open(&format!("{}/d/now-ko?from=now-1h&to=now", market.url));
    browser.until("all panels are drawn in Korean", ALL_DRAWN);
    browser.picture("black-friday-ko");

    browser.eval("document.querySelector('#running [data-stop=\"black-friday\"]').click()");
    browser
        .until("it is stopped", "!document.querySelector('#running [data-stop=\"black-friday\"]')");
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    server.stop().unwrap();
}

#[test]
fn all_panels_of_a_page_agree_whenever_it_is_loaded() {
    let mut market = Market::start("600");
    let browser = &mut Browser::start();
    browser.open(&format!("{}/d/customers", market.url));
    market.is_live(browser);
    browser.until("all panels are drawn", ALL_DRAWN);
    let loads = browser.eval(
        "(async () => {
             const ask = JSON.stringify({ uid: 'customers', from: 'now-30d', to: 'now', only: [1, 2, 4] });
             const loads = [];
             for (let load = 0; load < 1000; load++) {
                 const answer = await fetch('/api/panels', { method: 'POST', body: ask,
                     headers: { 'content-type': 'application/json' } });
                 const { epoch, panels } = await answer.json();
                 const [customers, percent] = panels[1].rows[0];
                 loads.push({
                     epoch, customers, buyers: customers * percent / 100,
                     graded: panels[2].rows[0].reduce((sum, n) => sum + (n ?? 0), 0),
                     bought: panels[4].rows.reduce((sum, row) => sum + row[1], 0),
                 });
             }
             return loads;
         })()",
    );
    let loads = loads.as_array().unwrap();
    let number = |load: &Value, key: &str| load[key].as_f64().unwrap();
    for load in loads {
        assert!(number(load, "customers") > 0.0, "{load}");
        assert_eq!(number(load, "customers").to_bits(), number(load, "graded").to_bits(), "{load}");
        assert!((number(load, "buyers") - number(load, "bought")).abs() < 1e-3, "{load}");
    }
    let epochs: std::collections::BTreeSet<_> =
        loads.iter().map(|load| load["epoch"].as_i64()).collect();
    let (first, last) = (&loads[0], &loads[loads.len() - 1]);
    assert!(epochs.len() > 5, "it stood still: {} commit points", epochs.len());
    assert!(number(last, "customers") > number(first, "customers"), "{first} {last}");
    say!("1000 loads over {} commit points agree", epochs.len());
}

/// A request as anybody can send one; the head of what comes back.
fn raw(url: &str, request: &str) -> String {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let request = request.replace("HERE", host).replace('\n', "\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) fn get(url: &str, path: &str, head: &str) -> String {
    raw(url, &format!("GET {path} HTTP/1.1\n{head}\nConnection: close\n\n"))
}

fn status(answer: &str) -> String {
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_page_is_for_its_own_visitors() {
    let (_page, _, url) = empty_page();
    let get = |path: &str, head: &str| get(&url, path, head);
    let post = |path: &str, head: &str, body: &str| {
        let length = body.len();
        let head = format!("{head}\nContent-Length: {length}\nConnection: close");
        raw(&url, &format!("POST {path} HTTP/1.1\n{head}\n\n{body}"))
    };

    assert_eq!(status(&get("/", "Host: HERE")), "200");
    assert_eq!(status(&get("/api/dashboards", "Host: HERE")), "200");
    for path in ["/api/dashboards", "/metrics"] {
        assert_eq!(status(&get(path, "Host: shop.example:8020")), "403");
        assert_eq!(status(&get(path, "Host: page:8020")), "403");
        // Its name, by --page-name, and numbers with and without a port.
        for host in ["SHOP:8020", "shop", "127.0.0.1", "[::1]:8020", "[::1]", "localhost:1"] {
            assert_eq!(status(&get(path, &format!("Host: {host}"))), "200", "{host}");
        }
    }
    let json = "Content-Type: application/json";
    let pause = r#"{"pause":true}"#;
    let foreign = format!("Host: HERE\nOrigin: http://shop.example\n{json}");
    assert_eq!(status(&post("/api/market", &foreign, pause)), "403");
    // A form of another site can send this without being asked.
    assert_eq!(status(&post("/api/market", "Host: HERE\nContent-Type: text/plain", pause)), "415");

    let own = format!("Host: HERE\nOrigin: http://HERE\n{json}");
    let nobody = post("/api/market", &own, pause);
    assert!(status(&nobody) == "400" && nobody.contains("no market is running in"), "{nobody}");
    for (path, body, said) in [
        ("/api/market", r#"{"speed":-1}"#, "a speed is a number above 0"),
        ("/api/panels", r#"{"uid":"x","from":"now-1h","to":"now"}"#, "there is no dashboard `x`"),
    ] {
        let answer = post(path, &own, body);
        assert!(status(&answer) == "400" && answer.contains(said), "{path} {body}: {answer}");
    }
    assert_eq!(status(&post("/api/market", &own, "{")), "400");
    assert_eq!(status(&post("/api/market", &own, &" ".repeat(100_000))), "413");
    assert_eq!(status(&get("/assets/../Cargo.toml", "Host: HERE")), "404");
    // Nothing is committed yet: a page without numbers, and no error.
    let empty = post("/api/panels", &own, r#"{"uid":"now","from":"now-1h","to":"now"}"#);
    assert!(status(&empty) == "200" && empty.contains(r#""epoch":null"#), "{empty}");
}

/// Whoever imports events names the categories.
#[test]
fn a_category_may_be_called_what_a_macro_is() {
    let (_page, config, url) = empty_page();
    connect(&config)
        .batch_execute(
            "INSERT INTO commit_points VALUES (7, '2026-11-20 12:00+09', '{}', 5, 0, clock_timestamp());
             INSERT INTO sales_by_category
             SELECT '2026-11-20', category, 1, 1, 1, 0
             FROM unnest(ARRAY['$__timeFrom()', '$__x', '${tz:sqlstring}', 'it''s']) AS category",
        )
        .unwrap();
    let post = |body: &str| {
        let head = "Host: HERE\nContent-Type: application/json\nConnection: close";
        let length = body.len();
        raw(&url, &format!("POST /api/panels HTTP/1.1\n{head}\nContent-Length: {length}\n\n{body}"))
    };
    let answer = post(r#"{"uid":"trends","from":"now-30d","to":"now"}"#);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(status(&answer) == "200" && !body.contains(r#""error""#), "{answer}");
    for category in ["$__timeFrom()", "$__x", "${tz:sqlstring}", "it's"] {
        assert!(body.matches(category).count() > 1, "{category}: {body}");
    }
    for (from, said) in [
        ("-9223372036854775808", "from 1900 to 2199"),
        ("\"now-100000y\"", "from 1900 to 2199"),
        ("\"now-900y/y\"", "from 1900 to 2199"),
        ("{}", "is no time"),
        ("9223372036854775807", "from 1900 to 2199"),
    ] {
        let answer = post(&format!(r#"{{"uid":"trends","from":{from},"to":"now"}}"#));
        assert!(status(&answer) == "400" && answer.contains(said), "{from}: {answer}");
    }
}

#[test]
fn metrics_and_the_feed_are_those_of_the_store() {
    let (_page, config, url) = empty_page();
    let get = |path: &str, head: &str| get(&url, path, head);
    // Metrics: a number a line, the commit point that of the store.
    let db = &mut connect(&config);
    db.batch_execute(
        "UPDATE progress SET epoch = 7;
         INSERT INTO commit_points VALUES (7, '2026-11-20 12:00+09', '{}', 5, 0, clock_timestamp());
         INSERT INTO pipeline_status VALUES ('orders', 2, 9, 8, 10, 2, 4096, clock_timestamp())",
    )
    .unwrap();
    let metrics = get("/metrics", "Host: shop:8020");
    let body = metrics.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(status(&metrics), "200");
    let lines: BTreeMap<&str, f64> = body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let metric = |name: &str| lines[name];
    assert!(between(metric("marketday_commit_point"), 7.0, 7.0), "{body}");
    assert!(between(metric("marketday_market_time_seconds"), 1_795_143_600.0, 1_795_143_600.0));
    let lag = r#"marketday_lag_records{topic="orders",partition="2"}"#;
    assert!(between(metric(lag), 2.0, 2.0), "{body}");
    let told = include_str!("../docs/operate.md");
    for name in body.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().unwrap();
        assert!(told.contains(&format!("`{name}`")), "docs/operate.md says nothing of {name}");
    }

    // The feed: refused where it cannot be; then from where one is, and on from there.
    let refused = get("/api/tables/orders/changes", "Host: HERE");
    assert!(status(&refused) == "400" && refused.contains("there is no result table"), "{refused}");
    let foreign = "Host: HERE\nSec-Fetch-Site: cross-site";
    assert_eq!(status(&get("/api/tables/users/changes", foreign)), "403");
    for (last, said) in
        [("9223372036854775807", "has not come yet"), ("-9223372036854775808", "begin anew")]
    {
        let refused =
            get("/api/tables/users/changes", &format!("Host: HERE\nLast-Event-ID: {last}"));
        assert!(status(&refused) == "400" && refused.contains(said), "{refused}");
    }
    let host = url.strip_prefix("http://").unwrap();
    let heard = |head: &str, until: &str| {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_mins(1))).unwrap();
        let request = format!(
            "GET /api/tables/active_customers/changes HTTP/1.1\r\nHost: {host}\r\n{head}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let (mut said, mut bytes) = (String::new(), [0; 4096]);
        while !said.contains(until) {
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "ended before {until}: {said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    heard("", "id: 7");
    db.batch_execute(
        "BEGIN; UPDATE progress SET epoch = 8;
         INSERT INTO table_changes VALUES (8, 'active_customers', 'insert', '{\"span\":\"1 h\",\"buyers\":3}');
         COMMIT",
    )
    .unwrap();
    heard(
        "Last-Event-ID: 7\r\n",
        r#"[{"commit_point":8,"change":"insert","row":{"span":"1 h","buyers":3}}]"#,
    );
}

#[test]
fn what_the_results_wait_for_stands_above_the_panels_while_it_lasts() {
    let (_page, config, url) = empty_page();
    let (db, browser) = (&mut connect(&config), &mut Browser::start());
    browser.size(1440, 900);
    browser.open(&format!("{url}/d/pipeline"));
    browser.until("the page is there", "!!document.querySelector('[data-panel]')");
    assert_eq!(browser.eval("document.querySelector('#holds').hidden"), true);
    let client = "asking the brokers at kafka-1:9092 for their topics: are they running?";
    let wait = "INSERT INTO waits SELECT $1::bigint, what, place, clock_timestamp() - interval '70 s', place_from, n, told,
                       clock_timestamp() + $2::bigint * interval '1 s'
                FROM (VALUES ('transaction', 'orders-1', 1200, 34, NULL), ('partition', 'users-0', 7, 3, NULL),
                             ('brokers', '', NULL, NULL, $3::text),
                             ('lock', '', NULL, NULL, 'backend 71 (<b>psql</b>) holds'))
                     AS waits (what, place, place_from, n, told)";
    // Two processes tell the same; a third one told it last a while ago.
    for (process, told) in [(0_i64, 3_600_i64), (1, 3_600), (2, -11)] {
        db.execute(wait, &[&process, &told, &client]).unwrap();
    }
    // Six hours behind, two days behind, none.
    db.batch_execute(
        "INSERT INTO commit_offsets (topic, partition, next_offset, counted, duplicate, dead, heartbeat, amount, hash, reached_at)
         SELECT 'orders', partition, 9, 9, 0, 0, 0, 0, 0, reached_at
         FROM (VALUES (0, timestamptz '2026-11-20 12:00+09'), (1, '2026-11-20 06:00+09'),
                      (2, '2026-11-18 12:00+09'), (3, NULL)) AS times (partition, reached_at);
         -- The panels are asked for at a commit point.
         INSERT INTO commit_points VALUES (1, '2026-11-20 06:00+09', '{}', 5, 0, clock_timestamp());
         UPDATE progress SET epoch = 1",
    )
    .unwrap();
    let said = |browser: &mut Browser| -> Vec<String> {
        let said =
            browser.eval("[...document.querySelectorAll('#holds li')].map(it => it.textContent)");
        said.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    browser.until("all are named", "document.querySelectorAll('#holds li').length === 7");
    let english = said(browser);
    for (note, what) in english.iter().zip([
        "The brokers do not answer: asking the brokers at kafka-1:9092",
        "PostgreSQL: waiting for a lock that backend 71 (<b>psql</b>) holds (1 min",
        "The log holds 3 records of users-0 from offset 7 on, and does not give them. (1 min",
        "A producer holds a transaction open in orders-1 from offset 1,200 on: 34 records",
        "The market time waits for orders-1: it is read up to Fri, 20 Nov 2026, 06:00:00, 6 h behind",
        "The market time goes on without orders-2: it is read up to Wed, 18 Nov 2026, 12:00:00, 2 d behind",
        "The market time goes on without orders-3: no two customers and no heartbeat",
    ]) {
        assert!(note.starts_with(what), "{what}: {english:#?}");
    }
    let rows = "document.querySelector('[data-panel=\"13\"]').querySelectorAll('tbody tr').length";
    browser.until("the panel lists them too", &format!("{rows} === 7"));
    let wide = "document.documentElement.scrollWidth - innerWidth";
    for (name, scheme, width) in
        [("", "light", 1440), ("-dark", "dark", 1440), ("-phone", "dark", 390)]
    {
        browser.scheme(scheme);
        browser.size(width, 900);
        assert!(browser.eval(wide).as_i64().unwrap() <= 0, "it is wider than {width} pixels");
        browser.picture(&format!("holds{name}"));
    }
    browser.size(1440, 900);
    browser.eval("document.querySelector('#language').click()");
    let korean =
        "document.querySelector('#holds').textContent.includes('브로커가 응답하지 않습니다')";
    browser.until("they are named in Korean", korean);
    assert!(said(browser).iter().zip(&english).all(|(korean, english)| korean != english));
    browser.picture("holds-ko");

    let metrics = get(&url, "/metrics", "Host: HERE");
    for gauge in [
        r#"marketday_wait_seconds{what="transaction",place="orders-1"} "#,
        r#"marketday_wait_seconds{what="brokers",place=""} "#,
        r#"marketday_behind_furthest_seconds{partition="1"} 21600"#,
    ] {
        assert!(metrics.contains(gauge), "{gauge}: {metrics}");
    }
    db.batch_execute(
        "UPDATE waits SET written_at = clock_timestamp() - interval '11 s';
         UPDATE commit_offsets SET reached_at = timestamptz '2026-11-20 12:00+09'",
    )
    .unwrap();
    browser.until("it is over", "document.querySelector('#holds').hidden");
    assert!(!get(&url, "/metrics", "Host: HERE").contains("marketday_wait_seconds{"));
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

#[test]
fn the_command_ends_well_while_visitors_are_there() {
    let mut page = command(&["page", "--page", "127.0.0.1:0"]);
    let said = scratch().join("said");
    let page = page.env("DATABASE_URL", database_url(&fresh_database()));
    let mut page = Running::start(page, said.clone());
    let mut url = String::new();
    page.wait_until("the page is served", || {
        url = said_url(&said);
        !url.is_empty()
    });
    assert_eq!(status(&get(&url, "/metrics", "Host: HERE")), "200");
    let host = url.trim_start_matches("http://");
    let mut listening = TcpStream::connect(host).unwrap();
    let live = format!("GET /api/live HTTP/1.1\r\nHost: {host}\r\n\r\n");
    listening.write_all(live.as_bytes()).unwrap();
    assert!(page.interrupt().success(), "{}", page.said());
    assert!(!page.said().contains("panicked"), "{}", page.said());
}

/// Who begins a request, or its body, and goes no further, is not waited for.
#[test]
fn a_request_comes_in_time_or_is_not_heard() {
    let (_page, _, url) = empty_page();
    let host = url.trim_start_matches("http://");
    let asked = [
        String::new(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n"),
        format!("POST /api/market HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n{{"),
        // Once answered it may ask again, but not whenever it likes.
        format!("GET /api/dashboards HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ];
    let asked = asked.map(|text| {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    });
    let answers = asked.map(|mut stream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        status(&answer)
    });
    assert_eq!(answers, ["", "", "408", "200"]);
}

/// Opens connections to the page of a whole market that may have 256 descriptors, and says little.
#[test]
fn idle_connections_keep_nobody_out_and_end_no_market() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let (dir, many) = (scratch(), limit.current.unwrap_or(4000).saturating_sub(500).min(2000));
    let limited =
        ["-c", "ulimit -n 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_marketday"), "up"];
    let mut up = command_of(Path::new("sh"), &limited);
    up.args(["--history", "1d", "--speed", "600", "--page", "127.0.0.1:0", "--dir"]).arg(&dir);
    let said = dir.join("said");
    let mut up = Running::start(&mut up, said.clone());
    let mut url = String::new();
    up.wait_until("the page is served", || {
        url = said_url(&said);
        !url.is_empty()
    });
    let server = PrivatePostgres::start(&dir).unwrap();
    let db = &mut connect(&server.config());
    let mut epoch = || -> i64 { db.query_one("SELECT epoch FROM progress", &[]).unwrap().get(0) };
    up.wait_until("something is committed", || epoch() > 0);
    let memory = |up: &Running| {
        let status = fs::read_to_string(format!("/proc/{}/status", up.id())).unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    let before = memory(&up);
    let host = url.trim_start_matches("http://");
    let idle = |n: u64| {
        let mut stream = TcpStream::connect(host).unwrap();
        if n.is_multiple_of(2) {
            // The first ones give way meanwhile.
            _ = stream.write_all(b"GET / HTTP/1.1\r\nHost:");
        }
        stream
    };
    let idle: Vec<TcpStream> = (0..many).map(idle).collect();
    // A market's socket takes no line without an end.
    let mut control = UnixStream::connect(dir.join("market/control.sock")).unwrap();
    let endless = (0..100).try_for_each(|_| control.write_all(&[b'x'; 10_000]));
    assert!(endless.is_err(), "a megabyte is listened to");

    for path in ["/api/dashboards", "/metrics"] {
        assert_eq!(status(&get(&url, path, "Host: HERE")), "200");
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", up.id())).unwrap().count();
    assert!(descriptors < 200, "{descriptors} of 256 descriptors are taken");
    let committed = epoch();
    up.wait_until("the market and its analytics go on", || epoch() > committed + 2);
    say!("{} idle connections: {before} before, {} after", idle.len(), memory(&up));

    // What the page reads, it reads as a login that owns nothing and cannot become who does.
    let mut page = server.login("marketday_page", "marketday_reader").unwrap();
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE application_name = 'marketday' AND usename = 'marketday_page'";
    let sessions: i64 = db.query_one(sessions, &[]).unwrap().get(0);
    assert!(sessions >= 2, "the commit points and the metrics: {sessions}");
    let page = &mut connect(page.application_name("test"));
    for sql in ["SET ROLE marketday", "SET SESSION AUTHORIZATION marketday", "TABLE progress"] {
        let error = page.batch_execute(sql).expect_err(sql);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {error}");
    }
    for (setting, value) in
        [("is_superuser", "off"), ("statement_timeout", "30s"), ("transaction_read_only", "on")]
    {
        let shown: String = page.query_one(&format!("SHOW {setting}"), &[]).unwrap().get(0);
        assert_eq!(shown, value, "{setting}");
    }
    server.stop().unwrap();
    drop(idle);
    assert!(up.interrupt().success(), "{}", up.said());
}

/// Who follows a table and reads nothing of it is cut off, and the session in the store ends.
#[test]
fn who_takes_nothing_of_the_feed_gives_the_place_back() {
    let config = fresh_database();
    let page = page::serve(settings(&config, Duration::from_secs(1))).unwrap();
    let db = &mut connect(&config);
    let sessions = |db: &mut postgres::Client| -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND backend_type = 'client backend'";
        db.query_one(sql, &[]).unwrap().get(0)
    };
    let follows = |db: &mut postgres::Client| -> bool {
        db.query_one("SELECT EXISTS (SELECT FROM followed_tables)", &[]).unwrap().get(0)
    };
    wait_until("the page has looked at the store", || sessions(db) == 2);
    let mut stalled = TcpStream::connect(page.address).unwrap();
    let ask = "GET /api/tables/active_customers/changes HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stalled.write_all(ask.as_bytes()).unwrap();
    wait_until("it follows", || follows(db) && sessions(db) == 3);
    // More than the buffers of both ends take.
    db.batch_execute(
        "BEGIN; UPDATE progress SET epoch = 1;
         INSERT INTO table_changes
         SELECT 1, 'active_customers', 'insert', json_build_object('buyers', n, 'span', repeat('x', 2000))
         FROM generate_series(1, 9999) AS n;
         NOTIFY commit_point; COMMIT",
    )
    .unwrap();
    wait_until("nobody follows any more", || sessions(db) == 2);
}

/// Words and numbers of the data that look like something else, as the page shows them.
#[test]
fn what_the_data_says_is_shown_to_the_letter() {
    const WORDS: [&str; 8] = [
        "${category:sqlstring}",
        "$__timeFrom()",
        "$__timeFilter(x)",
        "${",
        "it's",
        r"a\b\",
        "</script><b>{0}",
        "$__all it is not",
    ];
    let (page, config, url) = empty_page();
    let db = &mut connect(&config);
    db.batch_execute(
        "UPDATE progress SET epoch = 1, now = '2026-11-20 12:00+09';
         INSERT INTO commit_points
         VALUES (1, '2026-11-20 12:00+09', '{}', 5, 0, clock_timestamp());
         INSERT INTO best_sellers VALUES ('24 h', 1, 9007199254740993, 3, 9223372036854775807),
                                         ('24 h', 2, 2, 2, 9007199254740993), ('24 h', 3, 3, 1, -5);
         INSERT INTO products
         VALUES (2, '</script><b>it''s ${span:sqlstring} {a} $& a\\b', '$__timeTo()', 1, 1, now(), now(), 1)",
    )
    .unwrap();
    for (n, word) in WORDS.iter().enumerate() {
        let revenue = 9_007_199_254_740_993 + n as i64;
        db.execute(
            "INSERT INTO sales_by_category VALUES ('2026-11-20', $1, 1, 1, $2, 0)",
            &[word, &revenue],
        )
        .unwrap();
        db.execute("INSERT INTO season_pattern VALUES (11, $1, 5)", &[word]).unwrap();
        db.execute("INSERT INTO basket_pairs VALUES ($1, $1 || 'z', 1)", &[word]).unwrap();
        db.execute("INSERT INTO scenario_impact VALUES ($1, $1, 4, 4, 4, 4)", &[word]).unwrap();
        db.execute(
            "INSERT INTO scenario_events
             VALUES ($1::bigint, 0, $1::bigint, '2026-11-19 12:00+09', $2, $2, 'start', 2, ARRAY[$2])",
            &[&(n as i64), word],
        )
        .unwrap();
    }
    // Each word alone finds its own row, and no other.
    let ask = |uid: &str, chosen: &[&str]| -> dashboards::Ask {
        let ask = json!({ "uid": uid, "from": "now-24h", "to": "now",
                          "variables": { "category": chosen } });
        serde_json::from_value(ask).unwrap()
    };
    let mut known = WORDS.map(str::to_owned).to_vec();
    known.sort();
    for (n, word) in WORDS.iter().enumerate() {
        let drawn = dashboards::draw(db, &ask("trends", &[word])).unwrap();
        assert_eq!(drawn.variables["category"], known);
        for (id, panel) in &drawn.panels {
            assert!(panel["error"].is_null(), "{word}: panel {id}: {panel}");
        }
        let revenue = (9_007_199_254_740_993 + n as i64).to_string();
        assert_eq!(drawn.panels[&4]["rows"], json!([[word, revenue, 0]]));
    }

    let browser = &mut Browser::start();
    browser.size(1440, 1600);
    for uid in ["now", "trends", "customers", "pipeline"] {
        browser.open(&format!("{url}/d/{uid}"));
        browser.until(&format!("all panels of {uid} are drawn"), ALL_DRAWN);
        let errors =
            "[...document.querySelectorAll('[data-state=\"error\"]')].map(it => it.textContent)";
        assert_eq!(browser.eval(errors), json!([]), "{uid}");
        browser.picture(&format!("words-{uid}"));
    }
    let cells = |browser: &mut Browser, uid: &str, panel: u32| {
        browser.open(&format!("{url}/d/{uid}"));
        browser.until("all panels are drawn", ALL_DRAWN);
        browser.eval(&format!(
            "(() => {{
                 const panel = document.querySelector('[data-panel=\"{panel}\"]');
                 // A chart shows its numbers as a table, too.
                 panel.querySelector('.flip')?.click();
                 return [...panel.querySelectorAll('tbody tr')]
                     .map(row => [...row.children].map(cell => cell.textContent));
             }})()"
        ))
    };
    let best = cells(browser, "now", 9);
    assert_eq!(
        best[0],
        json!(["1", "product 9007199254740993", "–", "3", "9,223,372,036,854,775,807"])
    );
    let name = "</script><b>it's ${span:sqlstring} {a} $& a\\b";
    assert_eq!(best[1], json!(["2", name, "$__timeTo()", "2", "9,007,199,254,740,993"]));
    assert_eq!(best[2][4], "−5");
    let sales = cells(browser, "trends", 4);
    let sales: BTreeMap<_, _> =
        sales.as_array().unwrap().iter().map(|row| (row[0].as_str().unwrap(), &row[1])).collect();
    for (n, word) in WORDS.iter().enumerate() {
        let digits = format!("9,007,199,254,740,{}", 993 + n);
        if n < 7 {
            assert!(sales[word].as_str().unwrap().contains(&digits), "{word}: {sales:?}");
        }
    }
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    drop(page);
}
