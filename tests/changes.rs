//! The change feed: played back it is the table, also after a pause, and in the middle of commits.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;
use dataflows::QUERIES;
use dataflows::analytics::{BASE_TABLES, Tables};
use dataflows::row::Fate::{Changed, Gone, New};
use dataflows::row::{Cell, Fate, Row, RowBatch};
use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store::{Claim, Columns, Committer, Writes};
use postgres::{Client, Config};
use serde_json::Value;

use crate::support::{
    Running, command, connect, database_url, fresh_database, one_sentence, refused, scratch,
    wait_until,
};

/// Plays changes back, from what was there before. Returns the last commit point.
fn play(rows: &mut BTreeMap<String, Value>, said: &str, key: &[String]) -> Option<i64> {
    let mut last = None;
    for line in said.lines() {
        let change: Value = serde_json::from_str(line).unwrap();
        let row = &change["row"];
        let place = key.iter().map(|column| row[column].to_string()).collect::<Vec<_>>().join(",");
        let commit_point = change["commit_point"].as_i64().unwrap();
        assert!(last.is_none_or(|last| last <= commit_point), "{line}");
        last = Some(commit_point);
        let before = match change["change"].as_str().unwrap() {
            "insert" => {
                assert!(!rows.contains_key(&place), "there already: {line}");
                rows.insert(place, row.clone())
            }
            "update" => Some(rows.insert(place, row.clone()).expect(line)),
            "delete" => Some(rows.remove(&place).expect(line)),
            other => panic!("{other}: {line}"),
        };
        // A row goes as it was.
        assert!(change["change"] != "delete" || before.as_ref() == Some(row), "{before:?} {line}");
    }
    last
}

/// The whole lines of a file that somebody may be writing to.
fn lines(file: &Path) -> String {
    let said = fs::read_to_string(file).unwrap();
    said[..said.rfind('\n').map_or(0, |end| end + 1)].to_owned()
}

/// The commit point of a line.
fn commit_point(line: &str) -> i64 {
    serde_json::from_str::<Value>(line).expect(line)["commit_point"].as_i64().unwrap()
}

/// The first and the last commit point that a feed has told of, once there is such a change in it.
fn reach(file: &Path, change: &str) -> Option<(i64, i64)> {
    let said = lines(file);
    let there = said.contains(&format!("\"change\":\"{change}\""));
    let (first, last) = (said.lines().next()?, said.lines().last()?);
    there.then(|| (commit_point(first), commit_point(last)))
}

fn table(db: &mut Client, table: &str, key: &[String]) -> BTreeMap<String, Value> {
    db.batch_execute("SET TIME ZONE 'Asia/Seoul'").unwrap();
    let sql = format!("SELECT row_to_json(t)::text FROM {table} AS t");
    let rows = db.query(&sql, &[]).unwrap();
    let row = |row: &postgres::Row| -> Value { serde_json::from_str(row.get(0)).unwrap() };
    let place =
        |row: &Value| key.iter().map(|it| row[it].to_string()).collect::<Vec<_>>().join(",");
    rows.iter().map(row).map(|row| (place(&row), row)).collect()
}

#[test]
fn played_back_the_feed_is_the_table() {
    let dir = scratch();
    let mut up = command(&["up", "--history", "20d", "--start", "2026-11-23", "--speed", "3000"]);
    let mut up = Running::start(up.arg("--dir").arg(&dir), dir.join("said"));
    // The tables are there when the page is.
    up.wait_until("the page is served", || lines(&dir.join("said")).contains("look at http"));
    let server = PrivatePostgres::start(&dir).unwrap();
    let db = &mut connect(&server.config());
    let epoch = |db: &mut Client| -> i64 {
        db.query_one("SELECT epoch FROM progress", &[]).unwrap().get(0)
    };
    wait_until("there are commits", || epoch(db) > 5);
    // Rows that come; ranks that change and go; customers whose grades go up and down. A minute's row
    // seldom changes: at this speed a commit is of many minutes, and only its last may have another order
    // after it.
    let followed = [
        ("orders_by_minute", "insert"),
        ("best_sellers", "update"),
        ("customer_grade", "update"),
        ("active_customers", "update"),
    ];
    let tail = |table: &str, more: &[&str], file: &Path| {
        let mut tail = command(&["tail", table, "--dir", dir.to_str().unwrap()]);
        Running::start(tail.args(more), file.to_owned())
    };
    let file = |table: &str, turn: u32| dir.join(format!("{table}.{turn}"));
    let mut tails: Vec<_> =
        followed.iter().map(|(table, _)| tail(table, &["--whole"], &file(table, 1))).collect();
    wait_until("each has told of a change", || {
        for tail in &mut tails {
            tail.still_runs("it has told of a change");
        }
        // The whole table is of one commit point.
        followed.iter().all(|(table, change)| {
            reach(&file(table, 1), change).is_some_and(|(first, last)| first < last)
        })
    });
    // Killed, not asked: what they said last is where the next ones go on.
    tails.iter_mut().for_each(Running::kill);
    let begun = epoch(db);
    wait_until("commits come while nobody listens", || epoch(db) > begun + 5);

    let mut played = Vec::new();
    let resumed = epoch(db);
    for ((table, _), tailing) in followed.iter().zip(&mut tails) {
        let key = Columns::of(db, table).unwrap().key;
        let mut rows = BTreeMap::new();
        // What was cut in two is not a line, and the rest of its commit point may be missing.
        let said = lines(&file(table, 1));
        let last = said.lines().last().map(commit_point).unwrap();
        let whole = said.lines().filter(|line| commit_point(line) != last);
        let whole: Vec<_> = whole.map(|line| format!("{line}\n")).collect();
        let from = play(&mut rows, &whole.concat(), &key).unwrap();
        *tailing = tail(table, &["--from", &from.to_string()], &file(table, 2));
        played.push((table, key, rows));
    }
    wait_until("each goes on", || {
        for tail in &mut tails {
            tail.still_runs("it goes on");
        }
        followed.iter().all(|(table, change)| {
            reach(&file(table, 2), change).is_some_and(|(_, last)| last > resumed)
        })
    });
    assert!(up.interrupt().success());
    for ((table, key, rows), tailing) in played.into_iter().zip(&mut tails) {
        let now = self::table(db, table, &key);
        assert!(!now.is_empty(), "{table}");
        wait_until(&format!("the feed of {table} has told of the last commit"), || {
            tailing.still_runs("it has told of the last commit");
            let mut rows = rows.clone();
            play(&mut rows, &lines(&file(table, 2)), &key);
            rows == now
        });
    }
    server.stop().unwrap();
}

/// A committer of the first result table, which is that of minutes.
fn committer(config: &Config) -> (Committer, u16) {
    assert_eq!(QUERIES[0].name, "orders_by_minute");
    let claim = Claim {
        generation: 0,
        epoch: 0,
        now: None,
        tallies: BTreeMap::new(),
        latest: None,
        kept_tables: Vec::new(),
    };
    let committer = Committer::new(connect(config), &claim, &Tables::of(&QUERIES[..1]));
    (committer.unwrap(), BASE_TABLES.len() as u16)
}

/// What a cut changes: of each minute the number of its orders, and what becomes of its row.
fn minutes(table: u16, rows: &[(i64, i64, Fate)]) -> Vec<RowBatch> {
    let mut batch = RowBatch::default();
    for &(minute, orders, fate) in rows {
        let [orders, none] = [orders, 0].map(Cell::Int);
        let key = [Cell::Instant(1_790_000_000_000 / 60_000 * 60_000 + minute * 60_000)];
        batch.push(&Row::new(table, &key, &[orders, none, none, none, none, none]), fate);
    }
    vec![batch]
}

/// Commits it; nothing was read.
fn commit(committer: &mut Committer, epoch: u64, changes: Vec<RowBatch>) -> Result<()> {
    let writes = Writes::of(changes, &Tables::of(&QUERIES[..1]))?;
    committer.commit(epoch, &writes, &BTreeMap::new(), None)
}

/// Rows that are new go straight into their table: they are told of like the others.
#[test]
fn each_kind_of_change_is_written_and_told() {
    let config = fresh_database();
    let db = &mut connect(&config);
    let (mut committer, table) = committer(&config);
    let stands = |db: &mut Client, sql: &str| -> Vec<String> {
        db.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let rows = "SELECT orders::text FROM orders_by_minute ORDER BY minute";
    let told = "SELECT epoch || ' ' || change || ' ' || (\"row\"->>'orders') FROM table_changes
                ORDER BY epoch, change, 1";
    commit(&mut committer, 1, minutes(table, &[(1, 10, New), (2, 20, New), (3, 30, New)])).unwrap();
    assert_eq!(stands(db, rows), ["10", "20", "30"]);
    assert!(stands(db, told).is_empty(), "nobody follows");

    db.batch_execute(
        "INSERT INTO followed_tables VALUES ('orders_by_minute', 1, now() + interval '1 h')",
    )
    .unwrap();
    let all = [(1, 10, Gone), (2, 21, Changed), (4, 40, New), (0, 5, New)];
    commit(&mut committer, 2, minutes(table, &all)).unwrap();
    assert_eq!(stands(db, rows), ["5", "21", "30", "40"]);
    commit(&mut committer, 3, minutes(table, &[(3, 31, Changed)])).unwrap();
    assert_eq!(stands(db, rows), ["5", "21", "31", "40"]);
    let expected = ["2 delete 10", "2 insert 40", "2 insert 5", "2 update 21", "3 update 31"];
    assert_eq!(stands(db, told), expected);

    db.batch_execute("DELETE FROM followed_tables").unwrap();
    let all = [(0, 5, Gone), (1, 11, New), (2, 22, Changed)];
    commit(&mut committer, 4, minutes(table, &all)).unwrap();
    assert_eq!(stands(db, rows), ["11", "22", "31", "40"]);
    assert_eq!(stands(db, told), expected);
}

/// Whoever edits a table while it is kept: nothing more is committed, and the sentence says what to do.
#[test]
fn a_table_that_somebody_has_changed_ends_the_commit_by_its_name() {
    for (edit, changes, expected) in [
        (
            "INSERT INTO orders_by_minute SELECT minute + interval '1 min', 7, 0, 0, 0, 0, 0 \
             FROM orders_by_minute",
            &[(2, 20, New), (5, 50, New)][..],
            "changing orders_by_minute: a row that is new is there already; somebody",
        ),
        (
            "DELETE FROM orders_by_minute",
            &[(1, 11, Changed)][..],
            "changing orders_by_minute: of 1 rows that change 0 are there; somebody",
        ),
    ] {
        let config = fresh_database();
        let db = &mut connect(&config);
        let (mut committer, table) = committer(&config);
        commit(&mut committer, 1, minutes(table, &[(1, 10, New)])).unwrap();
        db.batch_execute(edit).unwrap();
        let rows = "SELECT count(*) || ' ' || (SELECT epoch FROM progress) FROM orders_by_minute";
        let before: String = db.query_one(rows, &[]).unwrap().get(0);
        let error = commit(&mut committer, 2, minutes(table, changes)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with(expected), "{error}");
        assert!(error.contains("`marketday analytics --rebuild`"), "{error}");
        assert_eq!(db.query_one(rows, &[]).unwrap().get::<_, String>(0), before);
    }
}

/// A mistake of a query: two rows of one key.
#[test]
fn a_second_row_of_a_key_is_never_committed() {
    let config = fresh_database();
    let (mut committer, table) = committer(&config);
    commit(&mut committer, 1, minutes(table, &[(1, 10, New)])).unwrap();
    let planted = minutes(table, &[(2, 20, New), (3, 30, New), (3, 31, New)]);
    let error = commit(&mut committer, 2, planted).unwrap_err().to_string();
    assert!(error.contains("orders_by_minute gives a key more than one row"), "{error}");
    let rows = "SELECT count(*) || ' ' || (SELECT epoch FROM progress) FROM orders_by_minute";
    let rows: String = connect(&config).query_one(rows, &[]).unwrap().get(0);
    assert_eq!(rows, "1 1");
}

#[test]
fn who_was_away_too_long_is_told_so() {
    let config = fresh_database();
    let db = &mut connect(&config);
    let tail = |table: &str, more: &[&str]| {
        let mut tail = command(&["tail", table]);
        tail.args(more).env("DATABASE_URL", database_url(&config));
        tail
    };
    refused(&mut tail("orders", &[]), "there is no result table `orders`; there are ");
    refused(
        &mut tail("users", &["--from", "7"]),
        "commit point 7 has not come yet: the newest is 0",
    );
    db.batch_execute("UPDATE progress SET epoch = 9; DELETE FROM followed_tables").unwrap();
    refused(&mut tail("users", &["--from", "7"]), "begin anew with the whole table");
}

/// Who follows while nothing is kept is told so, not left without some of the changes.
#[test]
fn a_lease_that_lapsed_ends_the_feed() {
    let config = fresh_database();
    let db = &mut connect(&config);
    let mut tail = command(&["tail", "users"]);
    let said = scratch().join("said");
    let mut tail = Running::start(tail.env("DATABASE_URL", database_url(&config)), said.clone());
    let followed = |db: &mut Client| -> i64 {
        db.query_one("SELECT count(*) FROM followed_tables", &[]).unwrap().get(0)
    };
    tail.wait_until("it follows", || followed(db) == 1);
    db.batch_execute("UPDATE followed_tables SET until = clock_timestamp(); NOTIFY commit_point")
        .unwrap();
    assert_eq!(tail.end().code(), Some(1));
    one_sentence(
        &fs::read_to_string(said).unwrap(),
        "not beyond a rebuild: that is over, begin anew",
    );
}

/// Who reads a snapshot slowly, as `tail | less` does, holds no snapshot in the store meanwhile; and
/// what they read has all its digits.
#[test]
fn a_slow_reader_of_a_snapshot_holds_none() {
    let config = fresh_database();
    let db = &mut connect(&config);
    db.batch_execute(
        "INSERT INTO best_sellers
         SELECT '1 h', n, n, n, 9223372036854775807 - n FROM generate_series(1, 30000) AS n",
    )
    .unwrap();
    let mut tail = command(&["tail", "--snapshot", "best_sellers"]);
    tail.env("DATABASE_URL", database_url(&config)).stdout(Stdio::piped());
    let mut tail = tail.spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The others, some megabytes, do not fit into the pipe.
    let first = lines.next().unwrap();
    let holds = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)";
    let holds: i64 = db.query_one(holds, &[]).unwrap().get(0);
    assert_eq!(holds, 0, "a transaction is open while nobody reads");
    let rows: BTreeMap<i64, i64> = std::iter::once(first)
        .chain(lines.by_ref().take(29_999))
        .map(|line| {
            let change: Value = serde_json::from_str(&line).unwrap();
            let number = |column: &str| change["row"][column].as_i64().unwrap();
            (number("rank"), number("revenue"))
        })
        .collect();
    assert!(rows.len() == 30_000 && rows.iter().all(|(n, revenue)| i64::MAX - n == *revenue));
    tail.kill().unwrap();
    tail.wait().unwrap();
}
