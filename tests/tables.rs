//! `--tables`: what is not chosen keeps its rows, is named so, and is caught up when it is chosen again.

use std::fs;

use postgres::Config;
use serde_json::Value;

use crate::support::{
    command, connect, database_url, fresh_database, marketday, refused, scratch, with_database,
};

/// Lines of an import: an order of each of these numbers, a minute apart, all of one customer.
fn orders(numbers: std::ops::Range<i64>) -> String {
    let line = |number: i64| {
        let at = 1_790_000_000_000 + number * 60_000;
        format!(
            r#"{{"topic":"orders","key":"5","value":{{"event_id":{number},"at":{at},"event":"placed","order_id":{number},"user_id":5,"ordered_at":{at},"lines":[{{"product_id":3,"category":"food","quantity":1,"unit_price":900}}]}}}}"#
        )
    };
    numbers.map(|number| line(number) + "\n").collect()
}

fn count(config: &Config, table: &str) -> i64 {
    connect(config).query_one(&format!("SELECT count(*) FROM {table}"), &[]).unwrap().get(0)
}

/// The tables that `status` and `verify` name as not kept.
fn not_kept(dir: &str, database: &Config) -> Vec<String> {
    let names = |report: &Value| -> Vec<String> {
        let names = report["not_kept"].as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let status: Value =
        serde_json::from_str(&with_database(&["status", "--json", "--dir", dir], database))
            .unwrap();
    let verify: Value =
        serde_json::from_str(&with_database(&["verify", "--json", "--dir", dir], database))
            .unwrap();
    assert_eq!(verify["equal"], true);
    assert_eq!(names(&status), names(&verify["report"]));
    names(&status)
}

#[test]
fn a_table_that_is_not_chosen_keeps_its_rows_and_is_named() {
    let (dir, database) = (scratch(), fresh_database());
    let place = dir.to_str().unwrap();
    let file = dir.join("orders.ndjson");
    let run = |numbers, more: &[&str]| {
        fs::write(&file, orders(numbers)).unwrap();
        marketday(&["import", file.to_str().unwrap(), "--dir", place]);
        let args = [&["analytics", "--exit-when-caught-up", "--dir", place], more].concat();
        with_database(&args, &database);
    };
    run(0..3, &[]);
    assert_eq!(count(&database, "orders_by_minute"), 3);
    assert!(not_kept(place, &database).is_empty());

    run(3..5, &["--tables", "orders_by_minute,sales_by_month"]);
    assert_eq!(count(&database, "orders_by_minute"), 5);
    let sold = "SELECT sum(units)::bigint FROM best_sellers WHERE span = '7 d'";
    let sold = || connect(&database).query_one(sold, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(sold(), 3, "it keeps what it had");
    let named = not_kept(place, &database);
    assert_eq!(named.len(), dataflows::QUERIES.len() - 4, "{named:?}");
    for kept in ["orders_by_minute", "sales_by_month", "users", "products"] {
        assert!(!named.iter().any(|name| name == kept), "{named:?}");
    }
    for args in [&["status", "--dir", place][..], &["verify", "--dir", place]] {
        let said = with_database(args, &database);
        let line = said.lines().find(|line| line.contains("best_sellers"));
        assert!(line.is_some_and(|line| line.contains("not kept")), "{said}");
    }

    // The processes of one that has several keep the same.
    run(5..6, &["--tables", "best_sellers", "-n", "2"]);
    assert_eq!((sold(), count(&database, "orders_by_minute")), (6, 5));

    run(6..7, &[]);
    assert_eq!((sold(), count(&database, "orders_by_minute")), (7, 7));
    assert!(not_kept(place, &database).is_empty());
}

#[test]
fn a_table_that_there_is_not_is_named_before_anything_begins() {
    let (dir, database) = (scratch(), fresh_database());
    let place = dir.to_str().unwrap();
    for name in ["up", "analytics"] {
        let mut command = command(&[name, "--tables", "users,wishes", "--dir", place]);
        refused(
            command.env("DATABASE_URL", database_url(&database)),
            "there is no result table `wishes`; there are orders_by_minute, ",
        );
    }
    assert!(!dir.join("log").exists(), "nothing was begun");
}
