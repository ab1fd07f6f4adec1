//! What a person asks of `orders` and `order_items`: the answer is right, and comes from indexes, which
//! are made when the history is over.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use postgres::{Client, Config};

use crate::support::{
    Running, analytics, command, connect, database_url, fresh_database, marketday, scratch,
};

/// The indexes of the whole ledger.
fn indexes(db: &mut Client) -> Vec<String> {
    let sql = "SELECT indexname::text FROM pg_indexes
               WHERE tablename = 'order_ledger' AND indexdef NOT LIKE '%WHERE%' AND indexdef NOT LIKE '%brin%'
               ORDER BY 1";
    db.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

const ALL: [&str; 3] = ["order_ledger_by_order", "order_ledger_by_time", "order_ledger_by_user"];

/// Runs the analytics until they kill themselves at a point.
fn crash(dir: &Path, database: &Config, point: &str, flags: &[&str]) {
    let mut analytics = command(&["analytics", "--exit-when-caught-up", "--dir"]);
    analytics.arg(dir).args(flags).env("DATABASE_URL", database_url(database));
    let output = analytics.env("MARKETDAY_CRASH_AT", point).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
}

fn market(dir: &Path, flags: &[&str]) {
    let dir = dir.to_str().unwrap();
    let market = ["market", "--exit-when-caught-up", "--start", "2026-11-30", "--seed", "7"];
    marketday(&[&market[..], &["--dir", dir], flags].concat());
}

#[test]
fn the_indexes_are_made_when_the_history_is_over() {
    let (dir, database) = (scratch(), fresh_database());
    let db = &mut connect(&database);
    market(&dir, &["--history", "20d"]);
    crash(&dir, &database, "after-commit:2", &[]);
    assert!(indexes(db).is_empty(), "not while it is read");
    analytics(&dir, &database, "1");
    assert_eq!(indexes(db), ALL);
    let order = "SELECT order_id, user_id FROM orders ORDER BY ordered_at LIMIT 1";
    let (order, user): (i64, i64) = {
        let row = db.query_one(order, &[]).unwrap();
        (row.get(0), row.get(1))
    };
    for (question, index) in [
        (format!("SELECT * FROM orders WHERE order_id = {order}"), ALL[0]),
        (format!("SELECT * FROM order_items WHERE order_id = {order}"), ALL[0]),
        (
            format!(
                "SELECT o.*, i.quantity, p.name FROM orders AS o JOIN order_items AS i USING (user_id, order_id)
                 JOIN products AS p USING (product_id) WHERE user_id = {user}"
            ),
            ALL[2],
        ),
        (format!("SELECT * FROM order_events WHERE user_id = {user}"), ALL[2]),
        ("SELECT * FROM orders ORDER BY ordered_at DESC LIMIT 50".to_owned(), ALL[1]),
    ] {
        assert!(!db.query(&question, &[]).unwrap().is_empty(), "{question}");
        let plan = db.query(&format!("EXPLAIN {question}"), &[]).unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{question}\n{plan}");
        assert!(!plan.contains("Seq Scan on order_ledger"), "{question}\n{plan}");
    }

    crash(&dir, &database, "after-commit:2", &["--rebuild"]);
    assert!(indexes(db).is_empty(), "nor when all is counted again");
    // Of analytics that stay, when they have caught up.
    let mut live = command(&["analytics", "--dir"]);
    live.arg(&dir).env("DATABASE_URL", database_url(&database));
    let mut live = Running::start(&mut live, dir.join("said"));
    live.wait_until("the indexes are there", || indexes(db) == ALL);
    assert!(live.interrupt().success(), "{}", live.said());
}

#[test]
fn a_market_that_goes_live_has_the_indexes() {
    let (dir, database) = (scratch(), fresh_database());
    let db = &mut connect(&database);
    let mut up = command(&["up", "--history", "1d", "--start", "2026-11-30", "--dir"]);
    up.arg(&dir).env("DATABASE_URL", database_url(&database));
    let mut up = Running::start(&mut up, dir.join("said"));
    up.wait_until("the indexes are there", || indexes(db) == ALL);
    assert!(up.interrupt().success(), "{}", up.said());
}

/// `orders` looks each order up; this is what it says, put together from the whole ledger.
const ORDERS: &str = "
    SELECT order_id, user_id, ordered_at, amount, coalesce(refunded_amount, 0) AS refunded_amount,
           CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
                WHEN refunded_amount >= amount THEN 'refunded'
                WHEN refunded_amount > 0 THEN 'partly refunded'
                ELSE 'placed' END AS status,
           cancelled_at
    FROM (SELECT user_id, order_id, ordered_at, sum(amount)::bigint AS amount
          FROM order_lines WHERE event = 'placed' GROUP BY user_id, order_id, ordered_at) AS placed
    LEFT JOIN (SELECT user_id, order_id, at AS cancelled_at
               FROM counted_order_events WHERE event = 'cancelled') AS cancelled
        USING (user_id, order_id)
    LEFT JOIN (SELECT user_id, order_id, sum(amount)::bigint AS refunded_amount
               FROM order_lines WHERE event = 'refunded' GROUP BY user_id, order_id) AS refunded
        USING (user_id, order_id)";

#[test]
fn each_order_stands_as_the_ledger_has_it() {
    let (strange, dirty, database) = (crate::stores::log(), scratch(), fresh_database());
    market(&dirty, &["--history", "10d", "--dirt", "late=5%:3d,duplicate=5%,shuffle=60s"]);
    let (first, second) = (&mut connect(&database), fresh_database());
    analytics(&strange, &database, "1");
    analytics(&dirty, &second, "1");
    for db in [first, &mut connect(&second)] {
        // An order that is told again, and is cancelled again, before and after: the earliest counts.
        db.batch_execute(
            "INSERT INTO order_ledger
             SELECT -event_id - 1, \"offset\", at + later, order_id, user_id, ordered_at, partition, kind, lines
             FROM order_ledger, unnest(ARRAY[interval '-1 h', '0', '1 h']) AS later
             WHERE kind < 3 AND user_id % 7 = 0",
        )
        .unwrap();
        let differ = format!(
            "WITH whole AS MATERIALIZED ({ORDERS})
             SELECT (SELECT count(*) FROM (TABLE whole EXCEPT ALL TABLE orders) AS missing),
                    (SELECT count(*) FROM (TABLE orders EXCEPT ALL TABLE whole) AS unexpected),
                    (SELECT count(DISTINCT status) FROM orders)"
        );
        let row = db.query_one(&differ, &[]).unwrap();
        let counts: [i64; 3] = [0, 1, 2].map(|column| row.get(column));
        assert!(counts[..2] == [0, 0] && counts[2] > 1, "{counts:?}");
    }
}
