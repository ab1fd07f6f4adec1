//! The web page as a visitor has it: in a real browser, over a living market.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use marketday::page::dashboards::{self, DASHBOARDS};
use marketday::page::{self, Page};
use marketday::platform::private_postgres::PrivatePostgres;
use postgres::Config;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{Running, command, connect, database_url, fresh_database, scratch};

/// For who looks at the figures of a run.
macro_rules! say {
    ($($what:tt)*) => { _ = writeln!(std::io::stderr(), $($what)*) };
}

/// Orders enough to count by the minute: a dozen, on average.
const BUSY: &str =
    "base = \"year\"\n[customers]\ninitial = 20_000\n[rhythm]\norders_a_month = 30.0\n";

/// A market of a month and its page.
struct Market {
    _up: Running,
    dir: PathBuf,
    url: String,
}

/// Where a program has said that its page is; nothing while it has not.
fn said_url(said: &Path) -> String {
    let said = fs::read_to_string(said).unwrap();
    let found = said.lines().find_map(|line| line.split_once("http://"));
    found.map(|(_, rest)| format!("http://{}", rest.trim())).unwrap_or_default()
}

/// A page over a store in which nothing is committed, and where there is no market.
fn empty_page() -> (Page, Config, String) {
    let config = fresh_database();
    let page = page::serve(([127, 0, 0, 1], 0).into(), &config, &scratch()).unwrap();
    let url = format!("http://{}", page.address);
    (page, config, url)
}

impl Market {
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
        Market { _up: up, dir, url }
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
    let market = Market::start("max");
    let (server, browser) = (market.database(), &mut Browser::start());
    let db = &mut connect(&server.config());
    browser.size(1440, 900);
    browser.open(&market.url);
    // Also before the first commit there is a page, and nothing in it is an error.
    browser.until("the page is there", "!!document.querySelector('[data-panel]')");
    browser.until("the market is live", LIVE);
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
    crate::support::wait_until("nothing is committed any more", || {
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
    let market = Market::start("120");
    let (server, browser) = (market.database(), &mut Browser::start());
    let db = &mut connect(&server.config());
    browser.size(1440, 900);
    browser.open(&format!("{}/d/now?from=now-1h&to=now", market.url));
    browser.until("the market is live", LIVE);
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
    crate::support::wait_until("it has lived 25 minutes since it is live", || {
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
    crate::support::wait_until("25 minutes of the sale are over", || now(db) >= since + 26);
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
    let market = Market::start("600");
    let browser = &mut Browser::start();
    browser.open(&format!("{}/d/customers", market.url));
    browser.until("the market is live", LIVE);
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

fn get(url: &str, path: &str, head: &str) -> String {
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
    assert_eq!(status(&get("/api/dashboards", "Host: shop.example:8020")), "403");
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
    assert_eq!(status(&get("/assets/../Cargo.toml", "Host: HERE")), "404");
    // Nothing is committed yet: a page without numbers, and no error.
    let empty = post("/api/panels", &own, r#"{"uid":"now","from":"now-1h","to":"now"}"#);
    assert!(status(&empty) == "200" && empty.contains(r#""epoch":null"#), "{empty}");
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
    let metrics = get("/metrics", "Host: page:8020");
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
