//! A directory that an older version has left: `tests/upgrade` is one of commit a81944c, which named
//! orders by their number alone and let any customer's clock move `now`. It took two imports with dead
//! letters, an order told of two customers, and one order of 2099. `tests/upgrade/market.json` is of a
//! market by the first rules.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use postgres::Config;

use crate::page::{get, said_url};
use crate::support::{
    Running, analytics, command, connect, database_url, fresh_database, marketday, partitions,
    refused, scratch, tables, wait_until, with_database,
};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// A store as that version left it, read from `tests/upgrade/store.sql`.
fn old_store() -> Config {
    let database = schema_of(13);
    let db = &mut connect(&database);
    db.batch_execute("TRUNCATE progress").unwrap();
    let store = fs::read_to_string(format!("{HERE}/tests/upgrade/store.sql")).unwrap();
    db.batch_execute(&store).unwrap();
    database
}

/// An empty store with the schema of a version.
fn schema_of(version: u32) -> Config {
    let database = fresh_database();
    let db = &mut connect(&database);
    db.batch_execute(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC",
    )
    .unwrap();
    db.batch_execute(
        "CREATE TABLE refinery_schema_history
             (version int4 PRIMARY KEY, name text, applied_on text, checksum text)",
    )
    .unwrap();
    let migrations = fs::read_dir(format!("{HERE}/migrations")).unwrap();
    let mut migrations: Vec<(u32, String)> = migrations
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let number = name[1..].split_once("__").unwrap().0.parse().unwrap();
            (number, fs::read_to_string(&path).unwrap())
        })
        .collect();
    migrations.sort();
    for (_, sql) in migrations.iter().filter(|(number, _)| *number <= version) {
        db.batch_execute(sql).unwrap();
    }
    database
}

/// The same with the rows of a store of today: as the version before the ledger of orders was narrow had it.
fn wide_store(narrow: &Config) -> Config {
    let database = schema_of(19);
    let (from, to) = (&mut connect(narrow), &mut connect(&database));
    to.batch_execute("TRUNCATE progress").unwrap();
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
    for row in to.query(tables, &[]).unwrap() {
        let table: String = row.get(0);
        let which = if table.starts_with("refinery") { "WHERE version <= 19" } else { "" };
        let mut rows = Vec::new();
        let copy = format!("COPY (SELECT * FROM {table} {which}) TO STDOUT");
        from.copy_out(&copy).unwrap().read_to_end(&mut rows).unwrap();
        let mut writer = to.copy_in(&format!("COPY {table} FROM STDIN")).unwrap();
        writer.write_all(&rows).unwrap();
        writer.finish().unwrap();
    }
    database
}

fn old_log(dir: &Path) {
    let log = format!("{HERE}/tests/upgrade/log");
    assert!(Command::new("cp").arg("-r").args([log.as_ref(), dir]).status().unwrap().success());
}

/// What a start of the analytics says on standard error.
fn start(dir: &Path, database: &Config, flags: &[&str]) -> String {
    let dir = dir.to_str().unwrap();
    let mut analytics = command(&["analytics", "--exit-when-caught-up", "-w", "2", "--dir", dir]);
    let output =
        analytics.args(flags).env("DATABASE_URL", database_url(database)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_store_of_older_rules_is_counted_again_at_the_first_start() {
    let (dir, database) = (scratch(), old_store());
    old_log(&dir);
    let stands = || -> (String, i64, i64) {
        let sql = "SELECT left(now::text, 4),
                          (SELECT count(*) FROM order_events WHERE user_id = 2 AND order_id = 77),
                          (SELECT count(*) FROM users WHERE grade = 'GOLD') FROM progress";
        let row = connect(&database).query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    // An order of the other customer's with a number that is used was no event.
    assert_eq!(stands(), ("2099".to_owned(), 0, 0));

    let said = start(&dir, &database, &[]);
    assert!(said.contains("counted by older rules (1, today's are 2)"), "{said}");
    assert!(said.contains("counting the log's"), "{said}");
    // The import of then has written the wrong time into the log itself, as heartbeats.
    assert_eq!(stands(), ("2099".to_owned(), 1, 0));
    assert_eq!(start(&dir, &database, &[]), "", "it is said once");
    analytics(&dir, &database, "1");

    let anew = fresh_database();
    analytics(&dir, &anew, "1");
    assert_eq!(tables(&database), tables(&anew));

    start(&dir, &database, &["--rebuild", "--latest", "2026-10-01"]);
    assert_eq!(stands(), ("2026".to_owned(), 1, 2));
    analytics(&dir, &database, "2");
}

/// Ids, words and lists as strange as they may be, through the table and the view that came in its place.
#[test]
fn the_ledger_of_orders_becomes_narrow_and_says_the_same() {
    let (dir, narrow) = (crate::stores::log(), fresh_database());
    analytics(&dir, &narrow, "2");
    let wide = wide_store(&narrow);
    let all = |config: &Config, table: &str| -> Vec<String> {
        let sql = format!("SELECT t::text FROM {table} AS t ORDER BY 1");
        connect(config).query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let is_view = |config: &Config| -> bool {
        let sql = "SELECT relkind = 'v' FROM pg_class WHERE oid = 'order_events'::regclass";
        connect(config).query_one(sql, &[]).unwrap().get(0)
    };
    assert!(!is_view(&wide) && is_view(&narrow));
    let ledgers = ["order_events", "counted_order_events", "orders", "order_items", "order_lines"];
    for table in ledgers {
        assert_eq!(all(&wide, table), all(&narrow, table), "{table} says what the table said");
    }
    // Of somebody's own: it is named, and nothing is done.
    let db = &mut connect(&wide);
    db.batch_execute("CREATE VIEW mine AS SELECT count(*) FROM order_events").unwrap();
    let place = dir.to_str().unwrap();
    let args = ["analytics", "--exit-when-caught-up", "--dir", place];
    let mut start_refused = command(&args);
    let output = start_refused.env("DATABASE_URL", database_url(&wide)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("views of your own") && said.contains("view mine depends on"), "{said}");
    assert!(!is_view(&wide), "all or nothing");

    db.batch_execute("DROP VIEW mine").unwrap();
    assert_eq!(start(&dir, &wide, &[]), "");
    assert!(is_view(&wide));
    for table in ledgers.into_iter().chain(["order_ledger", "commit_offsets"]) {
        assert_eq!(all(&wide, table), all(&narrow, table), "{table}");
    }
    assert_eq!(tables(&wide), tables(&narrow));
    analytics(&dir, &wide, "3");
}

/// Analytics of the older version may be in the midst of a commit when this one starts.
#[test]
fn what_is_committed_last_by_an_older_version_is_not_lost() {
    let (dir, narrow) = (crate::stores::log(), fresh_database());
    analytics(&dir, &narrow, "1");
    let wide = wide_store(&narrow);
    let (mut older, db) = (connect(&wide), &mut connect(&wide));
    let count = "SELECT count(*) FROM order_events";
    let before: i64 = db.query_one(count, &[]).unwrap().get(0);
    let mut commit = older.transaction().unwrap();
    let copy = "INSERT INTO order_events SELECT * FROM order_events LIMIT 1";
    assert_eq!(commit.execute(copy, &[]).unwrap(), 1);
    std::thread::scope(|scope| {
        let migrating = scope.spawn(|| marketday::store::migrate::run(&wide));
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("the migration waits", || {
            db.query_one(waits, &[]).unwrap().get::<_, i64>(0) == 1
        });
        commit.commit().unwrap();
        migrating.join().unwrap().unwrap();
    });
    assert_eq!(db.query_one(count, &[]).unwrap().get::<_, i64>(0), before + 1);
}

/// Killed in the midst of it, a store is as it was, and the next start does it from the beginning.
#[test]
fn a_migration_that_is_killed_begins_anew() {
    let (dir, narrow) = (crate::stores::log(), fresh_database());
    analytics(&dir, &narrow, "1");
    let wide = wide_store(&narrow);
    let db = &mut connect(&wide);
    db.batch_execute(
        "INSERT INTO order_events
         SELECT event_id + 20000000 * n, partition, \"offset\", at, event, order_id, user_id, ordered_at,
                product_ids, categories, quantities, unit_prices
         FROM order_events, generate_series(1::bigint, 10000) AS n WHERE event_id < 20000000",
    )
    .unwrap();
    let count = |db: &mut postgres::Client| -> i64 {
        db.query_one("SELECT count(*) FROM order_events", &[]).unwrap().get(0)
    };
    let rows = count(db);
    assert!(rows > 300_000, "{rows} are too few for a kill to come in between");
    let mut analytics = command(&["analytics", "--exit-when-caught-up"]);
    analytics.arg("--dir").arg(&dir).env("DATABASE_URL", database_url(&wide));
    let mut running = Running::start(&mut analytics, dir.join("said"));
    let works = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'active' AND query LIKE '%order_ledger%'
                   AND pid <> pg_backend_pid()";
    running.wait_until("it migrates", || db.query_one(works, &[]).unwrap().get::<_, i64>(0) > 0);
    running.kill();
    wait_until("the server has noticed", || {
        db.query_one(works, &[]).unwrap().get::<_, i64>(0) == 0
    });
    let version = "SELECT max(version) FROM refinery_schema_history";
    assert_eq!(db.query_one(version, &[]).unwrap().get::<_, i32>(0), 19);
    assert_eq!(count(db), rows);
    marketday::store::migrate::run(&wide).unwrap();
    assert_eq!(count(db), rows);
    assert!(db.query_one(version, &[]).unwrap().get::<_, i32>(0) > 19);
}

/// Its log, tables and page are what they were; nothing is added, and nobody steers it.
#[test]
fn a_market_of_older_rules_is_shown_and_does_not_go_on() {
    let (dir, database) = (scratch(), fresh_database());
    let (place, profile) = (dir.to_str().unwrap(), dir.join("small.toml"));
    let small = "base = \"year\"\n[customers]\ninitial = 60\nreach = 300\nopening_delay = \"1h\"\n\
                 [products]\ninitial = 40";
    fs::write(&profile, small).unwrap();
    let market = ["market", "--dir", place, "--history", "1d", "--start", "2026-11-30"];
    let profile = ["--exit-when-caught-up", "--profile", profile.to_str().unwrap()];
    // The records of then have the form of today's.
    marketday(&[&market[..], &profile].concat());
    let about = fs::read_to_string(format!("{HERE}/tests/upgrade/market.json")).unwrap();
    let log: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("log/log.json")).unwrap()).unwrap();
    let about = about.replace("LOG", log["identity"].as_str().unwrap());
    fs::write(dir.join("market.json"), &about).unwrap();
    let held = partitions(&dir);

    let why = format!(
        "the market in {place} was made by rules of version 1; it is shown and does not go on; a \
         new market needs a new --dir"
    );
    let stored = |args: &[&str]| {
        let mut command = command(args);
        command.args(["--dir", place]).env("DATABASE_URL", database_url(&database));
        command
    };
    let start = ["scenario", "start", "flash", "--strength", "2"];
    let list = ["scenario", "list"];
    for args in [&["market"][..], &["market", "--seed", "7"], &["truth"], &list, &start] {
        refused(&mut stored(args), &why);
    }

    let output = stored(&["up", "--exit-when-caught-up"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.matches(&why).count() == 1, "{said}");
    let orders: i64 =
        connect(&database).query_one("SELECT count(*) FROM orders", &[]).unwrap().get(0);
    assert!(orders > 0);
    with_database(&["verify", "--dir", place], &database);

    // It stays for as long as one looks.
    let said = dir.join("said");
    let mut up = Running::start(&mut stored(&["up", "--page", "127.0.0.1:0"]), said.clone());
    up.wait_until("the page is served", || !said_url(&said).is_empty());
    let url = said_url(&said);
    assert!(get(&url, "/", "Host: HERE").starts_with("HTTP/1.1 200"));
    assert!(get(&url, "/api/scenarios", "Host: HERE").ends_with("[]"));
    assert!(up.interrupt().success(), "{}", up.said());
    assert!(up.said().contains(&why), "{}", up.said());
    assert_eq!(partitions(&dir), held);
    assert_eq!(fs::read_to_string(dir.join("market.json")).unwrap(), about);
}
