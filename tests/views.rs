//! Standing views: added to analytics that run, exact at every commit, through kills, and gone when dropped.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store::views::is_looked_after;
use postgres::{Client, Config};

use crate::processes::hosts_of;
use crate::support::{
    Running, analytics, command, connect, database_url, fresh_database, one_sentence, scratch,
    wait_until,
};

/// Views of all kinds: what is added up, joined, ranked, looked back on, without a key, over another view.
const VIEWS: [(&str, &str); 6] = [
    (
        "vip_regions",
        "SELECT u.region AS 지역, count(*) AS \"VIPs\", sum(v.revenue) AS \"total revenue\"
         FROM customer_grade g JOIN users u USING (user_id) JOIN customer_value v USING (user_id)
         WHERE g.grade <> 'VIP' GROUP BY u.region",
    ),
    (
        "category_days",
        "SELECT (at AT TIME ZONE 'Asia/Seoul')::date AS day, category, count(DISTINCT user_id) AS buyers,
                sum(amount) FILTER (WHERE event = 'placed') AS placed, max(unit_price) AS dearest
         FROM order_lines GROUP BY 1, 2",
    ),
    (
        "best_days",
        "SELECT * FROM (SELECT day, category, placed, rank() OVER (PARTITION BY category
                               ORDER BY placed DESC NULLS LAST) AS place FROM category_days) AS ranked
         WHERE place <= 3",
    ),
    (
        "last_hours",
        "SELECT event, count(*) AS events FROM order_lines
         WHERE at > market_now() - interval '6 hours' AND at <= market_now() GROUP BY event",
    ),
    // It repeats rows, and has NULLs.
    (
        "taken_back",
        "SELECT o.status AS t, u.sex AS its, o.cancelled_at IS NULL AS \"It \"\"stands\"\", now\",
                o.refunded_amount / 10000 AS \"table\"
         FROM orders o LEFT JOIN users u ON u.user_id = o.user_id AND u.status = 'active'
         WHERE o.status <> 'placed'",
    ),
    (
        "never_bought",
        "SELECT u.user_id, u.region FROM users u
         WHERE NOT EXISTS (SELECT FROM order_events e WHERE e.user_id = u.user_id)",
    ),
];

/// `marketday view ...` over a directory's market, or a database.
fn view(args: &[&str], dir: &Path, database: Option<&Config>) -> Output {
    let mut command = command(&["view"]);
    command.args(args).arg("--dir").arg(dir);
    if let Some(database) = database {
        command.env("DATABASE_URL", database_url(database));
    }
    command.output().unwrap()
}

/// What it prints, where it ends well.
fn told(args: &[&str], dir: &Path, database: Option<&Config>) -> String {
    let output = view(args, dir, database);
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{args:?}: {out}{err}");
    out
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(format!("{name}.sql"));
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn add(dir: &Path, name: &str, text: &str, database: Option<&Config>) -> String {
    told(&["add", &file(dir, name, text)], dir, database)
}

/// `verify` finds all equal, and so many of the views among it.
fn verified(dir: &Path, database: Option<&Config>, names: &[&str]) {
    let mut verify = command(&["verify", "--dir"]);
    verify.arg(dir);
    if let Some(database) = database {
        verify.env("DATABASE_URL", database_url(database));
    }
    let output = verify.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for name in names {
        let line = said.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| !line.contains("compared")), "{name}: {said}");
    }
}

fn names() -> Vec<&'static str> {
    VIEWS.iter().map(|(name, _)| *name).collect()
}

fn rows(db: &mut Client, name: &str) -> i64 {
    db.query_one(&format!("SELECT count(*) FROM {name}"), &[]).unwrap().get(0)
}

fn up(dir: &Path, workers: &str) -> Running {
    let mut up = command(&["up", "--history", "12d", "--start", "2026-11-23", "--speed", "600"]);
    up.args(["--page", "127.0.0.1:0", "-w", workers, "--dir"]).arg(dir);
    let mut up = Running::start(&mut up, dir.join("said"));
    up.wait_for_history();
    let server = PrivatePostgres::start(dir).unwrap();
    let db = &mut connect(&server.config());
    up.wait_until("something is committed", || {
        db.query_one("SELECT EXISTS (SELECT FROM orders_by_minute)", &[]).unwrap().get(0)
    });
    up
}

#[test]
fn views_are_exact_beside_a_running_market_and_through_kills() {
    let dir = scratch();
    let mut running = up(&dir, "1");
    for (name, text) in VIEWS {
        let said = add(&dir, name, text, None);
        assert!(said.starts_with(&format!("{name}: ")) && said.contains(" rows as of "), "{said}");
    }
    verified(&dir, None, &names());
    let listed = told(&["list"], &dir, None);
    assert_eq!(listed.matches(" live ").count(), VIEWS.len(), "{listed}");
    for workers in ["2", "3"] {
        running.kill();
        running = up(&dir, workers);
        wait_until("the views stand again", || {
            told(&["list"], &dir, None).matches(" live ").count() == VIEWS.len()
        });
        verified(&dir, None, &names());
    }
    let server = PrivatePostgres::start(&dir).unwrap();
    let db = &mut connect(&server.config());
    for name in names() {
        assert!(rows(db, name) > 0, "{name} is empty");
    }
    // What another reads stays; then they go, and can come again.
    let refused = view(&["drop", "category_days"], &dir, None);
    one_sentence(
        &String::from_utf8(refused.stderr).unwrap(),
        "the view best_days reads category_days",
    );
    assert_eq!(told(&["drop", "best_days"], &dir, None), "best_days is dropped\n");
    assert_eq!(told(&["drop", "category_days"], &dir, None), "category_days is dropped\n");
    let gone =
        "SELECT to_regclass('kept_category_days') IS NULL AND to_regclass('category_days') IS NULL";
    assert!(db.query_one(gone, &[]).unwrap().get::<_, bool>(0));
    add(
        &dir,
        "category_days",
        "SELECT category, count(*) AS lines FROM order_lines GROUP BY 1",
        None,
    );
    let text = "SELECT category, count(*) + 0 AS lines FROM order_items GROUP BY 1";
    told(&["add", &file(&dir, "category_days", text), "--replace"], &dir, None);
    assert!(told(&["show", "category_days"], &dir, None).contains("order_items"));
    verified(&dir, None, &["category_days", "vip_regions"]);
    assert!(running.interrupt().success());
    verified(&dir, None, &["category_days", "vip_regions"]);
}

/// A log that is read to its end, and its database.
fn shop() -> (PathBuf, Config) {
    let (dir, database) = (scratch(), fresh_database());
    let mut market = command(&["market", "--history", "8d", "--exit-when-caught-up", "--dir"]);
    assert!(market.arg(&dir).status().unwrap().success());
    analytics(&dir, &database, "1");
    (dir, database)
}

#[test]
fn a_view_added_beside_stopped_analytics_stands_from_their_next_start_on() {
    let (dir, database) = shop();
    let said =
        add(&dir, "regions", "SELECT region, count(*) AS n FROM users GROUP BY 1", Some(&database));
    assert!(said.contains("stands from the next start"), "{said}");
    assert!(told(&["list"], &dir, Some(&database)).contains(" adding "));
    for workers in ["1", "2"] {
        analytics(&dir, &database, workers);
        verified(&dir, Some(&database), &["regions"]);
    }
    let db = &mut connect(&database);
    assert_eq!(rows(db, "regions"), 17);
    // A changed row of it is found, and put right by the next start.
    db.execute("UPDATE kept_regions SET n = n + 1 WHERE region = '서울'", &[]).unwrap();
    let mut verify = command(&["verify", "--dir"]);
    let verify = verify.arg(&dir).env("DATABASE_URL", database_url(&database)).output().unwrap();
    let said = String::from_utf8(verify.stdout).unwrap();
    assert!(!verify.status.success() && said.contains("unexpected {\"n\""), "{said}");
    analytics(&dir, &database, "1");
    verified(&dir, Some(&database), &["regions"]);
    assert_eq!(told(&["drop", "regions"], &dir, Some(&database)), "regions is dropped\n");
    analytics(&dir, &database, "1");
}

/// A view that divides by zero is stale, says so, and heals; the others go on.
#[test]
fn a_view_that_fails_harms_no_other_and_heals() {
    let (dir, database) = shop();
    let text = "SELECT region, 100 / (count(*) - (SELECT_ME)) AS n FROM users GROUP BY 1";
    let db = &mut connect(&database);
    let of_region = "SELECT count(*) FROM users WHERE region = '서울'";
    let count: i64 = db.query_one(of_region, &[]).unwrap().get(0);
    add(&dir, "fragile", &text.replace("(SELECT_ME)", &count.to_string()), Some(&database));
    add(&dir, "sound", "SELECT region, count(*) AS n FROM users GROUP BY 1", Some(&database));
    let mut analytics = command(&["analytics", "--exit-when-caught-up", "--dir"]);
    let analytics = analytics.arg(&dir).env("DATABASE_URL", database_url(&database)).status();
    assert!(analytics.unwrap().success());
    let listed = told(&["list"], &dir, Some(&database));
    assert!(listed.contains("failed") && listed.contains("division by zero"), "{listed}");
    assert_eq!(rows(db, "fragile"), 0);
    verified(&dir, Some(&database), &["sound"]);
    // The market goes on, and with a customer more in that region nothing is divided by zero.
    let mut market = command(&["market", "--history", "8d", "--speed", "3000", "--dir"]);
    let mut market = Running::start(market.arg(&dir), dir.join("market-said"));
    let mut analytics = command(&["analytics", "--dir"]);
    let analytics = analytics.arg(&dir).env("DATABASE_URL", database_url(&database));
    let mut analytics = Running::start(analytics, dir.join("analytics-said"));
    wait_until("it heals", || {
        let healed = "SELECT state = 'live' FROM standing_view_states WHERE name = 'fragile'";
        db.query_one(healed, &[]).unwrap().get(0)
    });
    assert!(rows(db, "fragile") > 0);
    assert!(market.interrupt().success());
    assert!(analytics.interrupt().success());
    verified(&dir, Some(&database), &["sound", "fragile"]);
}

/// Two processes work a view out together, each with its share, also when one is lost.
#[test]
fn two_processes_keep_views_exact() {
    let (dir, database) = shop();
    let mut market = command(&["market", "--history", "8d", "--speed", "600", "--dir"]);
    let mut market = Running::start(market.arg(&dir), dir.join("market-said"));
    let hosts = hosts_of(&dir, 2);
    let process = |index: &str| {
        let mut analytics = command(&["analytics", "-n", "2", "-p", index, "-w", "2", "-h"]);
        analytics.arg(&hosts).arg("--dir").arg(&dir).env("DATABASE_URL", database_url(&database));
        Running::start(&mut analytics, dir.join(format!("analytics-{index}-said")))
    };
    let mut processes = ["0", "1"].map(process);
    let db = &mut connect(&database);
    wait_until("somebody looks after views", || is_looked_after(db).unwrap());
    for (name, text) in VIEWS {
        let said = add(&dir, name, text, Some(&database));
        assert!(said.contains(" rows as of "), "{said}");
    }
    verified(&dir, Some(&database), &names());
    for lost in ["1", "0"] {
        let place: usize = lost.parse().unwrap();
        processes[place].kill();
        processes[place] = process(lost);
        wait_until("the views stand again", || {
            is_looked_after(db).unwrap()
                && told(&["list"], &dir, Some(&database)).matches(" live ").count() == VIEWS.len()
        });
        verified(&dir, Some(&database), &names());
    }
    assert!(market.interrupt().success());
    for process in &mut processes {
        process.interrupt();
    }
    verified(&dir, Some(&database), &names());
}

/// A view that holds more than it may is given up, with the rows of one cut, and the others go on.
#[test]
fn a_view_that_holds_too_much_is_given_up_and_harms_no_other() {
    let dir = scratch();
    let mut running = up(&dir, "2");
    add(&dir, "regions", "SELECT region, count(*) AS n FROM users GROUP BY 1", None);
    // An event has both of its rows, which are different workers', or none.
    let text = "SELECT event_id, 1 AS n FROM counted_order_events
                UNION SELECT event_id, 2 FROM counted_order_events";
    let pairs = file(&dir, "pairs", text);
    let refused = view(&["add", &pairs, "--most", "100"], &dir, None);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        said.contains("pairs does not hold: it held ") && said.contains("may hold 100"),
        "{said}"
    );
    let server = PrivatePostgres::start(&dir).unwrap();
    let db = &mut connect(&server.config());
    // What comes from now on is little at first.
    let now: String = db.query_one("SELECT market_now()::text", &[]).unwrap().get(0);
    let later = text.replace("events", &format!("events WHERE at > '{now}'"));
    let later = file(&dir, "pairs", &later);
    told(&["add", &later, "--replace", "--most", "300"], &dir, None);
    wait_until("it has grown", || told(&["list"], &dir, None).contains(" ended "));
    assert!(told(&["list"], &dir, None).contains("it held 3"));
    let torn =
        "SELECT count(*) FROM (SELECT event_id FROM pairs GROUP BY 1 HAVING count(*) <> 2) AS torn";
    let count = |db: &mut Client, sql: &str| -> i64 { db.query_one(sql, &[]).unwrap().get(0) };
    assert_eq!((count(db, torn), rows(db, "pairs") > 100), (0, true));
    let before = rows(db, "pairs");
    let epoch = count(db, "SELECT epoch FROM progress");
    wait_until("others are committed", || count(db, "SELECT epoch FROM progress") > epoch);
    assert_eq!((count(db, torn), rows(db, "pairs")), (0, before));
    verified(&dir, None, &["regions"]);

    // What it costs, step by step.
    assert!(running.interrupt().success());
    let explained = command(&["explain", "pairs", "--json", "--dir"]).arg(&dir).output().unwrap();
    assert!(explained.status.success(), "{}", String::from_utf8_lossy(&explained.stderr));
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    let steps = explained["own"]["operators"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap().trim()).collect();
    assert!(names.contains(&"read counted_order_events"), "{names:?}");
    let step = |name: &str| {
        steps.iter().find(|it| it["name"].as_str().unwrap().trim().contains(name)).unwrap()
    };
    assert_eq!(step("union of 2")["reads"].as_array().unwrap().len(), 2);
    let records = step("distinct")["workers"][0]["records"].as_i64().unwrap();
    assert!(records >= before, "{steps:?}");
    let none = command(&["explain", "nothing", "--dir"]).arg(&dir).output().unwrap();
    one_sentence(&String::from_utf8(none.stderr).unwrap(), "no query and no view nothing");
}

/// SQL that is beside this file, or beside the queries.
fn sql(file: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The built-in tables whose twins stand as views, as they are.
const AS_THEY_ARE: [&str; 6] = [
    "grade_distribution",
    "month_phase",
    "orders_by_hour",
    "sales_by_month",
    "season_pattern",
    "users",
];

/// Those whose twins stand when they are written over the relations of views; and why, otherwise not.
const REWRITTEN: [(&str, &str); 10] = [
    ("active_customers", "commit_points"),
    ("basket_pairs", "a column of the query around"),
    ("best_sellers", "commit_points"),
    ("customer_grade", "commit_points"),
    ("customer_value", "a column of the query around"),
    ("first_sale_lag", "a column of the query around"),
    ("orders_by_minute", "a column of the query around"),
    ("products", "array_position()"),
    ("sales_by_category", "array_position()"),
    ("segment_hours", "age()"),
];

/// The others: what refuses them.
const REFUSED: [(&str, &str); 5] = [
    ("grade_changes", "a column of the query around"),
    ("order_alerts", "floating point numbers"),
    ("repurchase", "aggregates over windows"),
    ("scenario_impact", "commit_points"),
    ("value_by_cohort", "a column of the query around"),
];

/// Views that say what a built-in table says are equal to it in every snapshot, also through kills.
#[test]
fn the_twins_as_views_are_the_tables_at_every_commit() {
    let dir = scratch();
    let mut running = up(&dir, "1");
    let of = |table: &str| format!("twin_{table}");
    for table in AS_THEY_ARE {
        add(&dir, &of(table), &sql(&format!("dataflows/queries/{table}.sql")), None);
    }
    for (table, _) in REWRITTEN {
        add(&dir, &of(table), &sql(&format!("tests/views/twins/{table}.sql")), None);
    }
    for (table, why) in REWRITTEN.into_iter().chain(REFUSED) {
        let file = file(&dir, "refused", &sql(&format!("dataflows/queries/{table}.sql")));
        let refused = view(&["add", &file], &dir, None);
        assert!(!refused.status.success(), "{table} stands as it is");
        one_sentence(&String::from_utf8(refused.stderr).unwrap(), why);
    }
    for query in ["q1", "q3", "q4", "q10", "q18"] {
        add(&dir, query, &sql(&format!("tests/views/tpch/{query}.sql")), None);
    }
    let tables: Vec<&str> =
        AS_THEY_ARE.into_iter().chain(REWRITTEN.into_iter().map(|(table, _)| table)).collect();
    assert_eq!(tables.len() + REFUSED.len(), dataflows::QUERIES.len());
    let server = PrivatePostgres::start(&dir).unwrap();
    let mut compared = std::collections::BTreeSet::new();
    for workers in ["2", "3"] {
        let mut db = connect(&server.config());
        let mut differences = Vec::new();
        wait_until("many commits are compared", || {
            let mut tx = db
                .build_transaction()
                .isolation_level(postgres::IsolationLevel::RepeatableRead)
                .start()
                .unwrap();
            let epoch: i64 = tx.query_one("SELECT epoch FROM progress", &[]).unwrap().get(0);
            for table in &tables {
                let (left, right) = (of(table), table);
                let differ = format!(
                    "SELECT (SELECT count(*) FROM (TABLE {left} EXCEPT ALL TABLE {right}) AS a)
                            + (SELECT count(*) FROM (TABLE {right} EXCEPT ALL TABLE {left}) AS b)"
                );
                let count: i64 = tx.query_one(&differ, &[]).unwrap().get(0);
                if count > 0 {
                    differences.push(format!("{count} rows of {table} at {epoch}"));
                }
            }
            compared.insert(epoch);
            compared.len().is_multiple_of(8)
        });
        assert!(differences.is_empty(), "{differences:?}");
        drop(db);
        running.kill();
        running = up(&dir, workers);
        wait_until("the views stand again", || {
            told(&["list"], &dir, None).matches(" live ").count() == tables.len() + 5
        });
    }
    let names: Vec<String> = tables.iter().map(|table| of(table)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["q1", "q10"]).collect();
    verified(&dir, None, &names);
    assert!(running.interrupt().success(), "{}", running.said());
}

/// Killed while a view is added or dropped, and at any time with several: at the end all is exact.
#[test]
fn killed_at_any_time_the_views_are_exact() {
    let kills = std::env::var("VIEWS_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let dir = scratch();
    let mut running = up(&dir, "1");
    let mut random = 7u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % bound
    };
    for (name, text) in &VIEWS[..4] {
        add(&dir, name, text, None);
    }
    let late = file(&dir, "never_bought", VIEWS[5].1);
    for kill in 0..kills {
        let asked: &[&str] = match kill % 3 {
            0 => &["add", &late],
            1 => &["drop", "never_bought"],
            _ => &["list"],
        };
        let mut asking = command(&["view"]);
        let asking = asking.args(asked).arg("--dir").arg(&dir);
        let mut asking = asking.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(below(500)));
        running.kill();
        // It may wait for what is gone, and says so.
        _ = asking.wait();
        running = up(&dir, ["1", "2"][kill % 2]);
    }
    wait_until("all that are wanted stand", || {
        let listed = told(&["list"], &dir, None);
        !listed.contains(" adding ") && !listed.contains(" dropped ")
    });
    verified(&dir, None, &names()[..4]);
    assert!(running.interrupt().success());
}

/// Money that goes from account to account: at each moment the balances add up to nothing, whatever is late
/// and whoever is killed. (The internal-consistency test of streaming systems: orders whose customer gives
/// and whose product takes.)
#[test]
#[expect(clippy::print_stdout, reason = "figures for who runs it alone")]
fn the_balances_add_up_to_nothing_in_every_snapshot() {
    let transfers = std::env::var("VIEWS_TRANSFERS").map_or(150_000, |it| it.parse().unwrap());
    let (dir, database) = (scratch(), fresh_database());
    let mut random = 99u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % bound
    };
    let mut lines = String::new();
    for number in 1..=transfers {
        // Up to ten seconds late.
        let at = 1_790_000_000_000 + number * 10 - below(10_000);
        let (from, to, amount) = (1 + below(10), 1 + below(10), 1 + below(1_000));
        _ = writeln!(
            lines,
            "{{\"topic\":\"orders\",\"key\":\"{from}\",\"value\":{{\"event_id\":{number},\"event\":\"placed\",\
             \"order_id\":{number},\"user_id\":{from},\"at\":{at},\"ordered_at\":{at},\"lines\":[{{\
             \"product_id\":{to},\"category\":\"money\",\"quantity\":1,\"unit_price\":{amount}}}]}}}}"
        );
    }
    let first = lines.len() / 100;
    let first = first + lines[first..].find('\n').unwrap() + 1;
    let import = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).unwrap();
        let mut import = command(&["import", file.to_str().unwrap(), "--dir"]);
        let output = import.arg(&dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    import("first", &lines[..first]);
    analytics(&dir, &database, "1");
    for (name, text) in [
        (
            "credits",
            "SELECT product_id AS account, sum(amount) AS credits FROM order_items GROUP BY 1",
        ),
        ("debits", "SELECT user_id AS account, sum(amount) AS debits FROM order_items GROUP BY 1"),
        (
            "balance",
            "SELECT account, sum(amount) AS balance
             FROM (SELECT account, credits AS amount FROM credits
                   UNION ALL SELECT account, -debits FROM debits) AS moved GROUP BY account",
        ),
        ("total", "SELECT coalesce(sum(balance), 0) AS total FROM balance"),
    ] {
        add(&dir, name, text, Some(&database));
    }
    analytics(&dir, &database, "2");
    import("rest", &lines[first..]);
    let run = |workers: &str| {
        let mut analytics = command(&["analytics", "-w", workers, "--dir"]);
        let analytics = analytics.arg(&dir).env("DATABASE_URL", database_url(&database));
        Running::start(analytics, dir.join("said"))
    };
    let mut running = run("1");
    let db = &mut connect(&database);
    let (mut snapshots, mut epochs, mut killed) = (0, std::collections::BTreeSet::new(), 0);
    wait_until("all is counted", || {
        for _ in 0..20 {
            let row = db
                .query_one(
                    "SELECT (SELECT count(*) FROM total), (SELECT sum(total)::bigint FROM total),
                            (SELECT sum(balance)::bigint FROM balance),
                            (SELECT sum(credits)::bigint FROM credits)
                            - (SELECT sum(debits)::bigint FROM debits), epoch,
                            (SELECT sum(counted)::bigint FROM commit_offsets WHERE topic = 'orders')
                     FROM progress",
                    &[],
                )
                .unwrap();
            let all: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
            assert_eq!(all, [1, 0, 0, 0], "snapshot {snapshots}");
            snapshots += 1;
            epochs.insert(row.get::<_, i64>(4));
            let counted = row.get::<_, i64>(5) as u64;
            if counted == transfers {
                return true;
            }
            if counted > transfers * (killed + 1) / 4 {
                killed += 1;
                running.kill();
                running = run(["1", "2", "3"][killed as usize % 3]);
            }
        }
        false
    });
    println!("{snapshots} snapshots of {} commits, {killed} kills", epochs.len());
    assert!(running.interrupt().success());
    verified(&dir, Some(&database), &["credits", "debits", "balance", "total"]);
}
