//! Stores as strangers have them: ledgers that somebody has changed, and databases, schemas and logins that
//! are set otherwise than ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use marketday::platform::private_postgres::PrivatePostgres;
use postgres::Config;
use serde_json::{Value, json};

use crate::support::{
    Running, command, connect, copied_database, database_url, fresh_database, marketday, refused,
    scratch,
};

const AT: i64 = 1_790_000_000_000;

/// A log with events whose fields are as strange as they may be: of each topic, in several partitions.
pub(crate) fn log() -> PathBuf {
    let dir = scratch();
    let mut lines = Vec::new();
    let mut add = |topic: &str, key: String, value: Value| {
        lines.push(json!({ "topic": topic, "key": key, "value": value }).to_string());
    };
    // In Seoul each of these birthdays began half an hour or an hour late.
    let births =
        ["1900-01-01", "1961-08-10", "1949-04-03", "1960-05-01", "1999-12-31", "2099-12-31"];
    let ids = [0, 9_999, 10_000, 10_000_000_000_000_000, 120_000_000, u64::MAX];
    for ((birth_date, event_id), user_id) in births.iter().zip(ids).zip(1..) {
        add(
            "users",
            user_id.to_string(),
            json!({"event_id": event_id, "at": AT + user_id, "user_id": user_id,
            "name": "김 하나\t\"\\\n", "birth_date": birth_date, "sex": "F", "region": "",
            "status": "ACTIVE", "marketing_consent": user_id % 2 == 0, "signed_up_at": AT}),
        );
    }
    for (event_id, product_id) in ids.iter().zip([0, 1, 2, 3, 4, i64::MAX]) {
        add(
            "products",
            product_id.to_string(),
            json!({"event_id": event_id, "at": AT,
            "product_id": product_id, "name": "é", "category": "장난감", "price": product_id % 2,
            "stock": product_id, "listed_at": AT}),
        );
    }
    // On their birthdays in Seoul, and a moment before.
    let birthdays =
        ["2026-08-10T00:00:00+09:00", "2026-04-03T00:00:00+09:00", "2026-05-01T00:00:00+09:00"];
    let birthdays = birthdays.map(millis);
    for (event_id, at) in (1_000u64..).zip(birthdays.iter().flat_map(|at| [*at, at - 1])) {
        for user_id in 1u64..7 {
            add(
                "orders",
                user_id.to_string(),
                json!({"event_id": event_id * 10_000 + user_id, "at": at,
                "event": "placed", "order_id": event_id, "user_id": user_id, "ordered_at": at, "lines": [
                    {"product_id": 1, "category": "books", "quantity": 1_000_000, "unit_price": 0},
                    {"product_id": 2, "category": "장난감", "quantity": 1, "unit_price": 1_000_000_000}]}),
            );
        }
    }
    // Whatever the lists of a narrow ledger must not mistake, and all of an event's numbers.
    let categories =
        [json!([""]), json!(["", "a,b", "|"]), json!(["\u{1}e,\u{1}\u{1}x|", "}{", "\\\"'"])];
    for ((event_id, n), categories) in ids.iter().zip(1i64..).zip(categories.iter().cycle()) {
        for (event, after) in [("placed", 0), ("refunded", 1), ("cancelled", 2)] {
            let line = |category: &Value| {
                json!({"product_id": i64::MAX - n, "category": category, "quantity": n,
                "unit_price": 1_000 * n})
            };
            let lines: Vec<Value> = categories.as_array().unwrap().iter().map(line).collect();
            // Of different ids for each of them; those of the ends are the ones of the placed.
            let event_id = if after == 0 { *event_id } else { 500_000_000 + n as u64 * 3 + after };
            add(
                "orders",
                "7".into(),
                json!({"event_id": event_id, "at": AT + n * 60_000 + after as i64, "event": event,
                "order_id": i64::MAX - n, "user_id": 7, "ordered_at": AT + n * 60_000,
                "lines": lines}),
            );
        }
    }
    for (event_id, (strength, categories)) in ids.iter().zip([
        (json!(1e-300), json!([])),
        (json!(1.3), json!(["books", ""])),
        (json!(2), json!(["s"])),
    ]) {
        add(
            "scenarios",
            "s".into(),
            json!({"event_id": event_id, "at": AT, "occurrence": "o", "name": "s",
            "action": "start", "strength": strength, "categories": categories}),
        );
    }
    let file = dir.join("events.ndjson");
    fs::write(&file, lines.join("\n")).unwrap();
    marketday(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
    dir
}

fn millis(at: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(at).unwrap().timestamp_millis()
}

fn analytics(dir: &Path, flags: &[&str]) -> Vec<String> {
    let args = ["analytics", "--exit-when-caught-up", "--dir", dir.to_str().unwrap()];
    args.iter().chain(flags).map(ToString::to_string).collect()
}

/// A command on a database.
fn on(database: &Config, args: &[String]) -> Command {
    let mut command = command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let options = database.get_options().map(|options| format!(" options='{options}'"));
    command.env("DATABASE_URL", database_url(database) + &options.unwrap_or_default());
    command
}

/// Runs a command on a database; it ends well, and this is what it says.
fn well(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said.into_owned()
}

fn args(words: &[&str], dir: &Path) -> Vec<String> {
    words.iter().chain(&["--dir", dir.to_str().unwrap()]).map(ToString::to_string).collect()
}

fn hashes(database: &Config) -> Vec<(String, i64, Option<i64>)> {
    let sql = "SELECT topic, partition, ledger_hash FROM commit_offsets ORDER BY 1, 2";
    let rows = connect(database).query(sql, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// Each topic's rows are read back as they were written, in all binary forms, by any number of workers.
#[test]
fn a_changed_or_missing_row_of_a_ledger_ends_the_start_by_its_name() {
    let (dir, database) = (log(), fresh_database());
    well(on(&database, &analytics(&dir, &["-w", "2"])));
    for workers in ["1", "3"] {
        assert_eq!(well(on(&database, &analytics(&dir, &["-w", workers]))), "");
    }
    let verify = args(&["verify"], &dir);
    assert!(well(on(&database, &verify)).contains("all equal"));
    for topic in ["users", "products", "orders", "scenarios"] {
        let hashes = hashes(&database);
        let mut of_topic = hashes.iter().filter(|(of, _, _)| of == topic);
        assert!(of_topic.any(|(_, _, hash)| !matches!(hash, None | Some(0))), "{hashes:?}");
    }

    for (change, expected) in [
        ("DELETE FROM user_events WHERE user_id = 2", "rows were committed"),
        ("DELETE FROM order_events WHERE user_id = 2", "rows with the amount "),
        (
            "UPDATE user_events SET birth_date = birth_date + 1",
            "not all say what was committed (users/",
        ),
        (
            "UPDATE user_events SET event_id = 9998 WHERE event_id = 9999",
            "its row differs from the record",
        ),
        (
            "UPDATE product_events SET stock = 7 WHERE product_id = 2",
            "its row differs from the record",
        ),
        (
            "UPDATE product_events SET \"offset\" = \"offset\" + 50 WHERE product_id = 2",
            "product_events",
        ),
        (
            "UPDATE scenario_events SET strength = 1.3000000000000003 WHERE strength = 1.3",
            "scenarios/0 offset",
        ),
        (
            "UPDATE scenario_events SET categories = '{{a},{b}}' WHERE strength = 2",
            "lists that do not fit",
        ),
        (
            "UPDATE order_events SET unit_prices = '{0,7}' WHERE user_id = 3",
            "were committed (orders/",
        ),
        (
            "UPDATE order_events SET quantities = '{1,NULL}' WHERE user_id = 3",
            "lists that do not fit",
        ),
        ("UPDATE order_events SET quantities = '{1}' WHERE user_id = 3", "lists that do not fit"),
        ("UPDATE order_ledger SET lines = lines || '|' WHERE user_id = 3", "lists that do not fit"),
        (
            "UPDATE order_ledger SET lines = replace(lines, 'books', '') WHERE user_id = 3",
            "nothing instead of a word",
        ),
        (
            "UPDATE order_ledger SET lines = '1,x' || substr(lines, 4) WHERE user_id = 3",
            "\"x\" instead of a whole number",
        ),
        (
            "UPDATE order_events SET event = 'sold' WHERE user_id = 3",
            "the number 0 instead of that of placed",
        ),
        (
            "UPDATE order_events SET quantities = '{9223372036854775807,2}' WHERE user_id = 3",
            "a sum beyond 64 bits",
        ),
        (
            "UPDATE order_events SET order_id = 7 WHERE event_id = 10000001",
            "not all say what was committed",
        ),
        (
            "UPDATE commit_offsets SET ledger_hash = ledger_hash # 1 WHERE topic = 'orders'",
            "the ledger's hash is not that of its rows",
        ),
        (
            "INSERT INTO order_events SELECT * FROM order_events WHERE user_id = 1",
            "has a second row",
        ),
    ] {
        let copy = copied_database(database.get_dbname().unwrap());
        connect(&copy).batch_execute(change).unwrap();
        for workers in ["1", "2"] {
            // One that goes on from a checkpoint does not read what was counted before.
            let mut start = on(&copy, &analytics(&dir, &["-w", workers, "--checkpoint", "off"]));
            refused(&mut start, expected);
            refused(&mut start, "_events does not hold what was committed: ");
            refused(&mut start, "`marketday analytics --rebuild` counts the log again");
        }
        assert_eq!(on(&copy, &verify).output().unwrap().status.code(), Some(1), "{change}");
    }
}

#[test]
fn several_processes_end_with_a_changed_ledger_and_a_rebuild_is_the_way_out() {
    let (dir, database) = (log(), fresh_database());
    well(on(&database, &analytics(&dir, &[])));
    connect(&database).batch_execute("DELETE FROM order_events WHERE user_id = 2").unwrap();
    let flags = ["-n", "2", "--checkpoint", "off"];
    let output = on(&database, &analytics(&dir, &flags)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let what = "order_events does not hold what was committed: partition ";
    assert_eq!(said.matches(what).count(), 1, "{said}");
    assert!(said.contains("offset") && !said.contains("again in"), "{said}");
    well(on(&database, &analytics(&dir, &["--rebuild"])));
    assert!(well(on(&database, &args(&["verify"], &dir))).contains("all equal"));
    assert_eq!(well(on(&database, &analytics(&dir, &[]))), "");
}

/// As an upgrade leaves it.
#[test]
fn a_store_whose_ledgers_have_no_hash_yet_is_taken_over_where_the_rest_agrees() {
    let (dir, database) = (log(), fresh_database());
    well(on(&database, &analytics(&dir, &[])));
    let before = hashes(&database);
    connect(&database).batch_execute("UPDATE commit_offsets SET ledger_hash = NULL").unwrap();
    let missing = copied_database(database.get_dbname().unwrap());
    well(on(&database, &analytics(&dir, &["-w", "2"])));
    assert_eq!(hashes(&database), before);

    connect(&missing).batch_execute("DELETE FROM user_events WHERE user_id = 2").unwrap();
    refused(
        &mut on(&missing, &analytics(&dir, &[])),
        "user_events does not hold what was committed",
    );
    let unknown = hashes(&missing).iter().filter(|(_, _, hash)| hash.is_none()).count();
    assert!(unknown > 0 && unknown < before.len(), "the others are taken over");
}

/// A database of the shared server, of a login of its own that may make no roles.
fn owned(name: &str) -> (Config, Config) {
    let database = copied_database("template1");
    let dbname = database.get_dbname().unwrap().to_owned();
    connect(&database)
        .batch_execute(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'sekret'; ALTER DATABASE {dbname} OWNER TO {name}"
        ))
        .unwrap();
    (login(&database, name), database)
}

fn login(database: &Config, name: &str) -> Config {
    let mut login = database.clone();
    login.user(name).password("sekret");
    login
}

#[test]
fn an_own_schema_and_other_settings_change_no_answer() {
    let dir = log();
    let (mut shop, admin) = owned("shop_owner");
    let dbname = admin.get_dbname().unwrap().to_owned();
    let db = &mut connect(&admin);
    // A stranger's tables, and whatever else an administrator may set.
    db.batch_execute(&format!(
        "CREATE SCHEMA shop AUTHORIZATION shop_owner; CREATE SCHEMA other AUTHORIZATION shop_owner;
         CREATE TABLE public.users (note text); CREATE TABLE public.orders (note text);
         REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO shop_owner;
         GRANT marketday_twin, marketday_reader TO shop_owner;
         ALTER DATABASE {dbname} SET TimeZone = 'Asia/Seoul';
         ALTER DATABASE {dbname} SET DateStyle = 'German, DMY';
         ALTER DATABASE {dbname} SET IntervalStyle = 'sql_standard';
         ALTER DATABASE {dbname} SET standard_conforming_strings = off;
         ALTER DATABASE {dbname} SET default_transaction_isolation = 'serializable';
         ALTER DATABASE {dbname} SET bytea_output = 'escape';
         ALTER DATABASE {dbname} SET extra_float_digits = -15;
         ALTER DATABASE {dbname} SET idle_in_transaction_session_timeout = '100ms';
         ALTER ROLE shop_owner SET statement_timeout = '1s';
         ALTER ROLE shop_owner SET search_path = shop, public"
    ))
    .unwrap();
    well(on(&shop, &analytics(&dir, &["-w", "2"])));
    // A schema that comes first later has no store, so it is not looked at.
    db.batch_execute("ALTER ROLE shop_owner SET search_path = other, shop, public").unwrap();
    well(on(&shop, &analytics(&dir, &["-w", "2"])));
    let verify = args(&["verify"], &dir);
    assert!(well(on(&shop, &verify)).contains("all equal"));
    // A session's own setting says the same.
    db.batch_execute("ALTER ROLE shop_owner RESET search_path").unwrap();
    shop.options("-csearch_path=shop");
    assert!(well(on(&shop, &verify)).contains("all equal"));
    let status: Value =
        serde_json::from_str(&well(on(&shop, &args(&["status", "--json"], &dir)))).unwrap();
    assert_eq!(status["waiting"], 0, "{status}");
    assert!(status["committed_at"].as_str().unwrap().ends_with("+00"), "{status}");
    assert!(status["now"].as_str().unwrap().starts_with("2026-"), "{status}");
    let tables = "SELECT string_agg(DISTINCT schemaname || '.' || (tablename IN ('users', 'orders'))::text, ' ')
                  FROM pg_tables WHERE tableowner = 'shop_owner'";
    let tables: String = db.query_one(tables, &[]).unwrap().get(0);
    assert_eq!(tables, "shop.false shop.true", "nothing is made elsewhere");

    // One that may only read.
    db.batch_execute(
        "CREATE ROLE viewer LOGIN PASSWORD 'sekret'; GRANT pg_read_all_data, marketday_twin TO viewer;
         ALTER ROLE viewer SET default_transaction_read_only = on; ALTER ROLE viewer SET search_path = shop",
    )
    .unwrap();
    let viewer = login(&admin, "viewer");
    assert!(well(on(&viewer, &verify)).contains("all equal"));
    assert!(well(on(&viewer, &args(&["status"], &dir))).contains("market time   2026-"));
    well(on(&viewer, &args(&["realism"], &dir)));
    db.batch_execute("ALTER ROLE viewer RESET default_transaction_read_only").unwrap();
    let tail = args(&["tail", "--snapshot", "orders_by_minute"], &dir);
    let rights = "GRANT SELECT, INSERT, UPDATE ON followed_tables TO viewer; GRANT SELECT, UPDATE (one) ON \
                  progress TO viewer";
    refused(&mut on(&viewer, &tail), rights);
    db.batch_execute(&format!("SET search_path = shop; {rights}")).unwrap();
    let mut following = Running::start(&mut on(&viewer, &tail), dir.join("said"));
    let said = dir.join("said");
    following.wait_until("the table is told", || {
        fs::read_to_string(&said).unwrap().contains("\"minute\":\"2026-08-10T00:00:00+09:00\"")
    });
    assert!(following.interrupt().success(), "{}", following.said());
    refused(
        &mut on(&viewer, &args(&["page", "--page", "127.0.0.1:0"], &dir)),
        "`GRANT marketday_reader TO viewer; GRANT USAGE ON SCHEMA shop TO marketday_reader`",
    );
    db.batch_execute("REVOKE marketday_twin FROM viewer").unwrap();
    let rights = "`GRANT marketday_twin TO viewer; GRANT USAGE ON SCHEMA shop TO marketday_twin`";
    refused(&mut on(&viewer, &verify), rights);
    db.batch_execute(
        "GRANT marketday_twin TO viewer; REVOKE USAGE ON SCHEMA shop FROM marketday_twin",
    )
    .unwrap();
    refused(&mut on(&viewer, &verify), rights);
}

#[test]
fn a_database_that_cannot_be_a_store_is_told_in_a_sentence() {
    let dir = log();
    let analytics = analytics(&dir, &[]);
    let looks = [&["verify"][..], &["status"], &["realism"]].map(|it| args(it, &dir));
    let server = fresh_database();
    let db = &mut connect(&server);
    for (name, encoding) in [("in_latin1", "LATIN1"), ("in_ascii", "SQL_ASCII")] {
        let make = format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        db.batch_execute(&make).unwrap();
        let mut other = server.clone();
        let expected = format!("database {name} is in {encoding}, which does not hold every text");
        refused(&mut on(other.dbname(name), &analytics), &expected);
    }

    // Nothing is there.
    let (owner, admin) = owned("nobodys");
    for look in &looks {
        refused(&mut on(&owner, look), "there is no store in the schemas ");
    }
    let db = &mut connect(&admin);
    let made = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(db.query_one(made, &[]).unwrap().get::<_, i64>(0), 0, "who looks makes nothing");
    let mut nowhere = owner.clone();
    nowhere.options("-csearch_path=nowhere");
    refused(&mut on(&nowhere, &analytics), "has no schema of the search path");
    db.batch_execute("CREATE ROLE guest LOGIN PASSWORD 'sekret'").unwrap();
    let guest = login(&admin, "guest");
    refused(&mut on(&guest, &analytics), "`GRANT USAGE, CREATE ON SCHEMA public TO guest`");
    // Somebody else's tables, and somebody else's migrations.
    db.batch_execute("CREATE TABLE users (id serial)").unwrap();
    refused(&mut on(&owner, &analytics), "CREATE SCHEMA shop");
    let ours = "SELECT count(*) FROM pg_tables WHERE tablename LIKE '%\\_events'";
    assert_eq!(db.query_one(ours, &[]).unwrap().get::<_, i64>(0), 0, "nothing is left behind");
    db.batch_execute(
        "DROP TABLE users; INSERT INTO refinery_schema_history VALUES (1, 'blog', '', '7')",
    )
    .unwrap();
    refused(&mut on(&owner, &analytics), "has the migrations of another program (1 is blog)");
    refused(&mut on(&owner, &looks[0]), "has the migrations of another program (1 is blog)");

    // A store of another version.
    let (newer, older) = (fresh_database(), fresh_database());
    let change = "INSERT INTO refinery_schema_history VALUES (9999, 'later', '', '7')";
    connect(&newer).batch_execute(change).unwrap();
    let change = "DELETE FROM refinery_schema_history WHERE version > 16";
    connect(&older).batch_execute(change).unwrap();
    refused(&mut on(&newer, &analytics), "the store is of a newer marketday (schema 9999");
    for look in &looks {
        refused(&mut on(&newer, look), "the store is of a newer marketday (schema 9999");
        refused(&mut on(&older, look), "the store is of an older marketday (schema 1");
    }
    // Somebody else may not bring it up to date.
    connect(&older).batch_execute("GRANT USAGE, CREATE ON SCHEMA public TO guest; GRANT ALL ON refinery_schema_history TO guest").unwrap();
    refused(&mut on(&login(&older, "guest"), &analytics), "which the tables' owner has to do");
}

/// The roles are the cluster's: on a server of its own nobody has made them yet.
#[test]
fn an_owner_who_may_make_no_roles_is_told_what_to_run() {
    let dir = log();
    let server = PrivatePostgres::start(&dir.join("server")).unwrap();
    let admin = server.config();
    let db = &mut connect(&admin);
    db.batch_execute("CREATE ROLE owner LOGIN PASSWORD 'sekret'").unwrap();
    let databases = ["one", "two"].map(|name| {
        db.batch_execute(&format!("CREATE DATABASE {name} OWNER owner")).unwrap();
        let mut database = login(&admin, "owner");
        database.dbname(name);
        database
    });
    let rights = "CREATE ROLE marketday_twin; CREATE ROLE marketday_reader; GRANT marketday_twin, \
                  marketday_reader TO owner";
    refused(&mut on(&databases[0], &analytics(&dir, &[])), rights);
    db.batch_execute(rights).unwrap();
    for database in &databases {
        well(on(database, &analytics(&dir, &[])));
        assert!(well(on(database, &args(&["verify"], &dir))).contains("all equal"));
    }
    server.stop().unwrap();
}
