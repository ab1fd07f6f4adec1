//! The twins say what SPEC says, and `verify` finds whatever differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use dataflows::QUERIES;
use dataflows::analytics::Tables;
use dataflows::ledger::Reach;
use dataflows::model::time::{self, TICK};
use dataflows::model::{Millis, Topic, UserId};
use marketday::log::{Batch, Log, Reader, Record, Writer, embedded};
use marketday::store;
use marketday::verify::verify;
use postgres::{Client, Config};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{analytics, connect, copied_database, fresh_database, marketday, scratch};

/// A client whose wall clock is the market's.
fn client(config: &Config) -> Client {
    let mut client = connect(config);
    client.batch_execute("SET TIME ZONE 'Asia/Seoul'").unwrap();
    client
}

/// Runs all twins as their role and keeps what they give under the results' names in `pg_temp`.
fn run_twins(client: &mut Client) {
    for (table, twin) in QUERIES.iter().map(|query| (query.name, query.twin)) {
        client
            .batch_execute(&format!(
                "SET ROLE marketday_twin; CREATE TEMP TABLE {table} AS {twin}; RESET ROLE"
            ))
            .unwrap();
    }
}

/// A twin's rows, sorted, one a line, columns between bars.
fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let sql = format!(
        "SELECT array_to_string(ARRAY(SELECT coalesce(value, '') FROM
        json_each_text(to_json(t)) WITH ORDINALITY AS f (key, value, n) ORDER BY n), '|')
        FROM ({sql}) AS t ORDER BY 1"
    );
    client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn set_now(client: &mut Client, now: &str) {
    let sql = format!(
        "INSERT INTO commit_points VALUES (1, '2000-01-01', '{{}}', 0, 0, now()),
                                          (2, '{now}', '{{}}', 0, 0, now())"
    );
    client.batch_execute(&sql).unwrap();
}

fn user(client: &mut Client, user_id: i64, event_id: i64, at: &str, name: &str) {
    let sql = format!(
        "INSERT INTO user_events VALUES ({event_id}, 0, {event_id}, '{at}', {user_id}, '{name}',
            '1990-05-05', 'F', 'Seoul', 'ACTIVE', true, '2025-01-01 00:00')"
    );
    client.batch_execute(&sql).unwrap();
}

/// An order event with one line of one piece.
fn order(
    client: &mut Client,
    event: &str,
    order_id: i64,
    user_id: i64,
    times: [&str; 2],
    won: i64,
) {
    lines(client, event, order_id, user_id, times, &[(1, "books", 1, won)]);
}

/// An order event; `times` are `at` and `ordered_at`.
fn lines(
    client: &mut Client,
    event: &str,
    order_id: i64,
    user_id: i64,
    [at, ordered_at]: [&str; 2],
    lines: &[(i64, &str, i64, i64)],
) {
    let list = |item: fn(&(i64, &str, i64, i64)) -> String| {
        lines.iter().map(item).collect::<Vec<_>>().join(",")
    };
    let sql = format!(
        "INSERT INTO order_events
         SELECT count(*), 0, count(*), '{at}', '{event}', {order_id}, {user_id}, '{ordered_at}',
                ARRAY[{}], ARRAY[{}], ARRAY[{}], ARRAY[{}] FROM order_events",
        list(|it| it.0.to_string()),
        list(|it| format!("'{}'", it.1)),
        list(|it| it.2.to_string()),
        list(|it| it.3.to_string()),
    );
    client.batch_execute(&sql).unwrap();
}

#[test]
fn grades_follow_the_story() {
    let mut client = client(&fresh_database());
    for user_id in 1..=8 {
        user(&mut client, user_id, user_id, "2025-01-01 00:00", "n");
    }
    let mut orders = (0..).flat_map(|user: i64| (0..100).map(move |n| user * 100 + n));
    let mut place = |client: &mut Client, user, at: &str, count, won| {
        for id in orders.by_ref().take(count) {
            order(client, "placed", id, user, [at, at], won);
        }
    };
    // 1: an order of 31 August expires on the last day of February, at its time of day.
    place(&mut client, 1, "2025-08-31 10:00", 5, 100_000);
    // 2: up at once, down one level a tick, and held on the way down by five new orders.
    place(&mut client, 2, "2025-03-15 09:05", 30, 200_000);
    place(&mut client, 2, "2025-09-15 09:25", 5, 100_000);
    // 3: one order is cancelled a millisecond after a tick, and so leaves at the next.
    place(&mut client, 3, "2025-09-01 12:00", 4, 100_000);
    let times = ["2025-09-01 12:00", "2025-09-01 12:00"];
    order(&mut client, "placed", 9001, 3, times, 100_000);
    order(&mut client, "cancelled", 9001, 3, ["2025-09-01 12:10:00.001", times[1]], 100_000);
    // 4: a cancellation at the very instant of expiry never counts.
    place(&mut client, 4, "2025-05-01 12:00", 4, 100_000);
    order(&mut client, "placed", 9002, 4, ["2025-05-01 12:00", "2025-05-01 12:00"], 100_000);
    order(&mut client, "cancelled", 9002, 4, ["2025-11-01 12:00", "2025-05-01 12:00"], 100_000);
    // 5: a late refund takes the amount below the line, the number of orders stays.
    place(&mut client, 5, "2025-10-01 00:00", 4, 110_000);
    order(&mut client, "placed", 9003, 5, ["2025-10-01 00:00", "2025-10-01 00:00"], 110_000);
    order(&mut client, "refunded", 9003, 5, ["2026-02-28 00:00", "2025-10-01 00:00"], 60_000);
    // 6: nothing ever. 7: a cancellation whose order has not come; and one order after now.
    order(&mut client, "cancelled", 9004, 7, ["2026-02-01 00:00", "2026-02-01 00:00"], 70_000);
    place(&mut client, 7, "2026-03-01 00:06", 1, 1);
    // 8: both marks of VIP met exactly, then one order less than GOLD needs.
    place(&mut client, 8, "2026-01-01 00:00", 14, 200_000);
    place(&mut client, 8, "2025-07-15 00:00", 16, 137_500);
    // 9: five orders, but no record.
    place(&mut client, 9, "2026-01-01 00:00", 5, 100_000);
    set_now(&mut client, "2026-03-01 00:05");
    run_twins(&mut client);

    let changes = "SELECT user_id, to_char(tick, 'YYYY-MM-DD HH24:MI'), from_grade, to_grade
                   FROM pg_temp.grade_changes";
    assert_eq!(
        rows(&mut client, changes),
        [
            "1|2025-08-31 10:00|BRONZE|SILVER",
            "1|2026-02-28 10:00|SILVER|BRONZE",
            "2|2025-03-15 09:10|BRONZE|VIP",
            "2|2025-09-15 09:10|VIP|GOLD",
            "2|2025-09-15 09:20|GOLD|SILVER",
            "3|2025-09-01 12:00|BRONZE|SILVER",
            "3|2025-09-01 12:20|SILVER|BRONZE",
            "4|2025-05-01 12:00|BRONZE|SILVER",
            "4|2025-11-01 12:00|SILVER|BRONZE",
            "5|2025-10-01 00:00|BRONZE|SILVER",
            "5|2026-02-28 00:00|SILVER|BRONZE",
            "8|2025-07-15 00:00|BRONZE|GOLD",
            "8|2026-01-01 00:00|GOLD|VIP",
            "8|2026-01-15 00:00|VIP|GOLD",
            "8|2026-01-15 00:10|GOLD|SILVER",
        ]
    );
    let grades = "SELECT user_id, grade, to_char(since, 'YYYY-MM-DD HH24:MI'), amount_6m, orders_6m
                  FROM pg_temp.customer_grade";
    assert_eq!(
        rows(&mut client, grades),
        [
            "1|BRONZE|2026-02-28 10:00|0|0",
            "2|SILVER|2025-09-15 09:20|500000|5",
            "3|BRONZE|2025-09-01 12:20|400000|4",
            "4|BRONZE|2025-11-01 12:00|0|0",
            "5|BRONZE|2026-02-28 00:00|490000|5",
            "6|BRONZE|2025-01-01 00:00|0|0",
            "7|BRONZE|2025-01-01 00:00|-70000|-1",
            "8|SILVER|2026-01-15 00:10|2800000|14",
        ]
    );
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.grade_distribution"),
        ["BRONZE|6", "GOLD|0", "SILVER|2", "VIP|0",]
    );
}

#[test]
fn without_a_commit_point_there_is_no_tick() {
    let mut client = client(&fresh_database());
    user(&mut client, 1, 1, "2025-01-01 00:00", "n");
    for id in 0..5 {
        order(&mut client, "placed", id, 1, ["2025-02-01 00:00", "2025-02-01 00:00"], 100_000);
    }
    run_twins(&mut client);
    assert!(rows(&mut client, "SELECT * FROM pg_temp.grade_changes").is_empty());
    let grades = rows(&mut client, "SELECT user_id, grade, amount_6m FROM pg_temp.customer_grade");
    assert_eq!(grades, ["1|BRONZE|0"]);
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.active_customers"),
        ["1 h|0", "24 h|0", "30 d|0", "5 min|0"]
    );
}

#[test]
fn sales_users_and_products_follow_the_story() {
    let mut client = client(&fresh_database());
    let basket = [(1, "books", 2, 1_000), (2, "toys", 1, 500), (1, "books", 1, 900)];
    // A second before midnight in Seoul, and midnight.
    lines(&mut client, "placed", 1, 1, ["2025-05-04 23:59:59", "2025-05-04 23:59:59"], &basket);
    lines(&mut client, "placed", 2, 1, ["2025-05-05 00:00", "2025-05-05 00:00"], &basket[..2]);
    lines(
        &mut client,
        "placed",
        3,
        1,
        ["2025-05-05 00:00:59.999", "2025-05-05 00:00:59.999"],
        &basket[1..2],
    );
    lines(
        &mut client,
        "refunded",
        1,
        1,
        ["2025-05-05 00:00:30", "2025-05-04 23:59:59"],
        &basket[1..2],
    );
    lines(&mut client, "cancelled", 2, 1, ["2025-05-06 00:00", "2025-05-05 00:00"], &basket[..2]);
    user(&mut client, 1, 1, "2025-01-02 00:00", "late");
    user(&mut client, 1, 9, "2025-01-01 00:00", "early");
    user(&mut client, 2, 2, "2025-01-01 00:00", "first id");
    user(&mut client, 2, 10, "2025-01-01 00:00", "second id");
    client
        .batch_execute(
            "INSERT INTO product_events VALUES
             (1, 0, 0, '2025-01-02', 1, 'new', 'books', 10, 5, '2025-01-01'),
             (2, 0, 1, '2025-01-01', 1, 'old', 'books', 10, 5, '2025-01-01'),
             (3, 0, 2, '2025-01-01', 3, 'unsold', 'toys', 10, 5, '2025-01-01')",
        )
        .unwrap();
    set_now(&mut client, "2025-05-06 00:00");
    run_twins(&mut client);
    let minutes = "SELECT to_char(minute, 'DD HH24:MI'), orders, units, gross_revenue,
                   cancelled_orders, refunded_revenue, buyers FROM pg_temp.orders_by_minute";
    assert_eq!(
        rows(&mut client, minutes),
        ["04 23:59|1|4|3400|0|0|1", "05 00:00|2|4|3000|0|500|1", "06 00:00|0|0|0|1|2500|0",]
    );
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.sales_by_category"),
        [
            "2025-05-04|books|1|3|2900|0",
            "2025-05-04|toys|1|1|500|0",
            "2025-05-05|books|1|2|2000|0",
            "2025-05-05|toys|2|2|1000|500",
            "2025-05-06|books|0|0|0|2000",
            "2025-05-06|toys|0|0|0|500",
        ]
    );
    let users = "SELECT user_id, name, updated_at::date, grade FROM pg_temp.users";
    assert_eq!(
        rows(&mut client, users),
        ["1|late|2025-01-02|BRONZE", "2|second id|2025-01-01|BRONZE",]
    );
    let products = "SELECT product_id, name, updated_at::date, order_count FROM pg_temp.products";
    assert_eq!(rows(&mut client, products), ["1|new|2025-01-02|2", "3|unsold|2025-01-01|0"]);
}

#[test]
fn months_hours_spans_and_customers_follow_the_story() {
    let mut client = client(&fresh_database());
    let mut event = |event, id, user, at, ordered_at, won| {
        order(&mut client, event, id, user, [at, ordered_at], won);
    };
    // 1: on both sides of a midnight that is also a month's end; the first is cancelled before it
    // came, the second refunded in the month after, and that is all that month has.
    event("cancelled", 11, 1, "2025-05-31 23:59:59.999", "2025-05-31 23:59:59.999", 100);
    event("placed", 11, 1, "2025-05-31 23:59:59.999", "2025-05-31 23:59:59.999", 100);
    event("placed", 12, 1, "2025-06-01 00:00", "2025-06-01 00:00", 30);
    event("refunded", 12, 1, "2025-07-31 23:59:59.999", "2025-06-01 00:00", 10);
    // 2: less than a day, but on two days. 3: the only order stands: the
    // cancellation of that number is another customer's, who has no such order.
    event("placed", 21, 2, "2025-06-01 23:00", "2025-06-01 23:00", 5);
    event("placed", 22, 2, "2025-06-02 01:00", "2025-06-02 01:00", 5);
    event("placed", 31, 3, "2025-06-01 00:59:59.999", "2025-06-01 00:59:59.999", 7);
    event("cancelled", 31, 4, "2025-06-01 01:00", "2025-06-01 00:59:59.999", 7);
    // Spans: at their starts and a millisecond later, at now and a millisecond later; a customer
    // counts once, and a cancelled order counts as placed.
    for (id, at) in [
        (51, "2025-08-02 12:00"),
        (52, "2025-08-02 12:00:00.001"),
        (53, "2025-08-31 12:00"),
        (54, "2025-08-31 12:00:00.001"),
        (55, "2025-09-01 11:00"),
        (56, "2025-09-01 11:00:00.001"),
        (57, "2025-09-01 11:55"),
        (58, "2025-09-01 11:55:00.001"),
        (59, "2025-09-01 12:00"),
        (60, "2025-09-01 12:00:00.001"),
    ] {
        event("placed", id, id, at, at, 1);
    }
    event("placed", 61, 58, "2025-09-01 12:00", "2025-09-01 12:00", 1);
    event("cancelled", 59, 59, "2025-09-01 12:00", "2025-09-01 12:00", 1);
    set_now(&mut client, "2025-09-01 12:00");
    // A zone in which a day of that August has 23 hours.
    client.batch_execute("SET TIME ZONE 'AAA0BBB,M8.3.0,M12.1.0'").unwrap();
    run_twins(&mut client);
    client.batch_execute("SET TIME ZONE 'Asia/Seoul'").unwrap();
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.sales_by_month"),
        [
            "2025-05-01|1|0|1",
            "2025-06-01|4|40|3",
            "2025-07-01|0|-10|0",
            "2025-08-01|4|4|4",
            "2025-09-01|7|6|6",
        ]
    );
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.orders_by_hour WHERE day < '2025-07-01'"),
        ["2025-05-31|23|1|100", "2025-06-01|0|2|37", "2025-06-01|23|1|5", "2025-06-02|1|1|5",]
    );
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.active_customers"),
        ["1 h|4", "24 h|6", "30 d|8", "5 min|2"]
    );
    let customers = "SELECT user_id, to_char(first_order_at, 'MM-DD HH24:MI'),
                     to_char(last_order_at, 'MM-DD HH24:MI'), orders, revenue, days_active
                     FROM pg_temp.customer_value WHERE user_id < 50 OR user_id IN (58, 59)";
    assert_eq!(
        rows(&mut client, customers),
        [
            "1|06-01 00:00|06-01 00:00|1|20|0",
            "2|06-01 23:00|06-02 01:00|2|10|1",
            "3|06-01 00:59|06-01 00:59|1|7|0",
            "4|||-1|-7|",
            "58|09-01 11:55|09-01 12:00|2|2|0",
            "59|||0|0|",
        ]
    );

    let fill = "INSERT INTO public.sales_by_month SELECT * FROM pg_temp.sales_by_month
                WHERE month <> '2025-08-01';
                INSERT INTO public.customer_value SELECT * FROM pg_temp.customer_value";
    client.batch_execute(fill).unwrap();
    assert_eq!(
        rows(&mut client, "SELECT * FROM sales_growth"),
        ["2025-05-01|0||", "2025-06-01|40|0|", "2025-07-01|-10|40|-125.0", "2025-09-01|6||"]
    );
    let means = "SELECT user_id, lifetime_value, mean_order_value FROM customer_lifetime_value
                 WHERE user_id < 5";
    assert_eq!(rows(&mut client, means), ["1|20|20", "2|10|5", "3|7|7", "4|-7|"]);
}

#[test]
fn of_two_events_of_an_order_the_earlier_counts() {
    let mut client = client(&fresh_database());
    let mut event = |event, id, user, at, won| order(&mut client, event, id, user, [at, at], won);
    // The later one came first; then one at the very time, of which the lower event_id counts.
    event("placed", 1, 1, "2025-05-02 10:00", 300);
    event("placed", 1, 1, "2025-05-01 10:00", 100);
    event("placed", 1, 1, "2025-05-01 10:00", 200);
    // Another customer's order of the same number, and its cancellations: those of this customer alone.
    event("placed", 1, 2, "2025-05-03 10:00", 50);
    event("cancelled", 1, 2, "2025-05-05 10:00", 40);
    event("cancelled", 1, 2, "2025-05-04 10:00", 50);
    // Every refund counts.
    event("refunded", 1, 1, "2025-05-06 10:00", 10);
    event("refunded", 1, 1, "2025-05-06 10:00", 10);
    user(&mut client, 1, 1, "2025-01-01 00:00", "n");
    user(&mut client, 2, 2, "2025-01-01 00:00", "n");
    set_now(&mut client, "2025-05-07 00:00");
    run_twins(&mut client);
    assert_eq!(
        rows(&mut client, "SELECT event_id FROM counted_order_events"),
        ["1", "3", "5", "6", "7"]
    );
    assert_eq!(
        rows(&mut client, "SELECT user_id, order_id, amount, refunded_amount, status FROM orders"),
        ["1|1|100|20|partly refunded", "2|1|50|0|cancelled"]
    );
    assert_eq!(
        rows(&mut client, "SELECT user_id, order_id, unit_price FROM order_items"),
        ["1|1|100", "2|1|50"]
    );
    assert_eq!(
        rows(&mut client, "SELECT user_id, order_id, amount FROM newest_orders"),
        ["1|1|100", "2|1|50"]
    );
    let customers = "SELECT user_id, to_char(first_order_at, 'MM-DD'), orders, revenue, days_active
                     FROM pg_temp.customer_value";
    assert_eq!(rows(&mut client, customers), ["1|05-01|1|80|0", "2||0|0|"]);
    assert_eq!(
        rows(&mut client, "SELECT * FROM pg_temp.orders_by_hour"),
        ["2025-05-01|10|1|100", "2025-05-03|10|1|50"]
    );
    assert_eq!(
        rows(&mut client, "SELECT buyers, repeat_buyers FROM pg_temp.repurchase WHERE buyers > 0"),
        ["1|0"]
    );
}

/// A line of an import.
fn import_line(topic: Topic, value: &Value) -> String {
    json!({"topic": topic.name(), "key": "1", "value": value}).to_string() + "\n"
}

/// Puts decisions of the scenario producer into a log, without a heartbeat after them.
fn decide(dir: &Path, events: &[Value]) {
    let log = embedded::open(&dir.join("log")).unwrap();
    let mut writer = log.writer().unwrap();
    for event in events {
        writer.append(Topic::Scenarios, 0, 0, None, event.to_string().as_bytes()).unwrap();
    }
    writer.flush().unwrap();
}

/// Four Mondays with eight orders a minute from ten to eleven, on one of them twice as many, which
/// matters to no alert; on the fifth they fail to come from 10:20 on, while a sale runs, and another
/// whose stop is announced. Then three orders, a stop and an older scenario arrive late.
#[test]
fn scenarios_and_missing_orders_follow_the_story() {
    const MONDAY: Millis = 1_772_413_200_000; // 2026-03-02 10:00 in Seoul
    let mut event_id = 0;
    let mut order = |at: Millis| {
        event_id += 1;
        import_line(
            Topic::Orders,
            &json!({"event_id": event_id, "at": at, "event": "placed",
            "order_id": event_id, "user_id": event_id % 9, "ordered_at": at,
            "lines": [{"product_id": 1, "category": "books", "quantity": 1, "unit_price": 10}]}),
        )
    };
    let of = |event_id: u64, name: &str, occurrence: &str, action: &str, at: Millis| {
        json!({"event_id": event_id, "at": at, "name": name, "occurrence": occurrence,
               "action": action, "strength": 2.0, "categories": []})
    };
    let scenario = |event_id, occurrence: &str, action: &str, at| {
        import_line(Topic::Scenarios, &of(event_id, "sale", occurrence, action, at))
    };
    let monday = |week: i64, minute: i64| MONDAY + week * 7 * time::DAY + minute * time::MINUTE;
    let mut first = String::new();
    for (minutes, week) in [60, 60, 60, 60, 20].into_iter().zip(0..) {
        first.extend((0..minutes * 8).map(|n| order(monday(week, 0) + n * 7_500)));
    }
    first.extend((0..480).map(|n| order(monday(1, 0) + n * 7_500 + 1)));
    first.push_str(&order(monday(4, 70)));
    // Of the same word; the stop, and another start, are where now does not get.
    let announced = [
        of(1, "gifts", "march", "start", monday(4, 10)),
        of(2, "gifts", "march", "stop", monday(5, 0)),
        of(3, "gifts", "may", "start", monday(4, 70) + 1),
    ];
    first.push_str(&scenario(5, "march", "start", monday(4, 0)));
    first.push_str(&scenario(4, "march", "stop", monday(4, 0))); // not after the start
    first.push_str(&scenario(6, "april", "stop", monday(1, 0))); // of something that never starts
    let mut then = String::new();
    then.extend((0..3).map(|n| order(monday(4, 24) + n)));
    then.push_str(&scenario(9, "march", "stop", monday(4, 20)));
    then.push_str(&scenario(8, "february", "change", monday(0, 0)));
    then.push_str(&scenario(7, "february", "start", monday(1, 0)));

    let database = fresh_database();
    let dir = scratch();
    let tables_after = |lines: &str| {
        let (file, dir) = (dir.join("lines"), dir.join("market"));
        std::fs::write(&file, lines).unwrap();
        marketday(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
        decide(&dir, &announced);
        analytics(&dir, &database, "2");
        let mut client = client(&database);
        let scenarios = rows(&mut client, "SELECT * FROM scenario_impact");
        // From and to which minute each severity holds, and the orders there.
        let alerts = "SELECT severity, count(*), to_char(min(minute), 'MM-DD HH24:MI'),
                             to_char(max(minute), 'MM-DD HH24:MI'), min(orders), max(orders),
                             min(orders_before), max(orders_before)
                      FROM order_alerts GROUP BY severity";
        (scenarios, rows(&mut client, alerts))
    };
    let (scenarios, alerts) = tables_after(&first);
    assert_eq!(scenarios, ["gifts|march|81|810|2000|20000", "sale|march|161|1610|2400|24000"]);
    assert_eq!(
        alerts,
        [
            "alarm|41|03-30 10:27|03-30 11:07|0|16|3840|19200",
            "warning|3|03-30 10:24|03-30 10:26|24|40|19200|19200",
        ]
    );
    let (scenarios, alerts) = tables_after(&then);
    assert_eq!(
        scenarios,
        [
            "gifts|march|84|840|2000|20000",
            "sale|february|2084|20840|1920|19200",
            "sale|march|160|1600|800|8000",
        ]
    );
    assert_eq!(
        alerts,
        [
            "alarm|41|03-30 10:27|03-30 11:07|0|19|3840|19200",
            "warning|2|03-30 10:25|03-30 10:26|27|35|19200|19200",
        ]
    );
    let mut client = client(&database);
    assert_eq!(
        rows(&mut client, "SELECT * FROM scenario_lift"),
        [
            "gifts|march|84|840|16.8|16.8",
            "sale|february|2084|20840|434.2|434.2",
            "sale|march|160|1600|80.0|80.0",
        ]
    );
}

/// A ledger entry: at, `ordered_at`, orders, amount.
type Entry = (Millis, Millis, i64, i64);

/// How the naive grade may be wrong.
#[derive(Clone, Copy)]
struct Mutation {
    demotion: usize,
    expiry_inclusive: bool,
}

/// A customer's grade changes by the letter: all entries summed at every tick.
fn naive_changes(
    entries: &[Entry],
    now: Millis,
    mutation: Mutation,
) -> Vec<(Millis, usize, usize)> {
    let Some(first) = entries.iter().map(|entry| entry.0).min() else { return Vec::new() };
    let entries: Vec<_> =
        entries.iter().map(|it| (it.0, time::six_months_after(it.1), it.2, it.3)).collect();
    let mut changes = Vec::new();
    let mut grade = 0usize;
    let mut tick = first - first.rem_euclid(TICK);
    while tick <= now {
        let (mut orders, mut amount) = (0, 0);
        for (at, expiry, entry_orders, entry_amount) in &entries {
            if *at <= tick && (tick < *expiry || mutation.expiry_inclusive && tick == *expiry) {
                orders += entry_orders;
                amount += entry_amount;
            }
        }
        let marks = [(500_000, 5), (2_000_000, 15), (5_000_000, 30)];
        let target = marks.iter().rposition(|mark| amount >= mark.0 && orders >= mark.1);
        let target = target.map_or(0, |mark| mark + 1);
        let next = target.max(grade.saturating_sub(mutation.demotion));
        if next != grade {
            changes.push((tick, grade, next));
        }
        grade = next;
        tick += TICK;
    }
    changes
}

#[test]
fn the_fast_grade_twin_equals_the_naive_one() {
    const USERS: i64 = 24;
    let mut state = 7u64;
    let mut random = move |below: i64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as i64) % below
    };
    // Bursts of orders around month ends, half of them on a tick, so that levels fall away at once; some taken back early or late.
    let start: Millis = 1_740_000_000_000; // 2025-02-20
    let now = start + 450 * time::DAY + 123_456;
    let mut client = client(&fresh_database());
    let mut ledgers = vec![Vec::new(); USERS as usize];
    let mut sql = String::from("INSERT INTO order_events VALUES ");
    let (mut event_id, mut order_id) = (0, 0);
    for (user, ledger) in ledgers.iter_mut().enumerate() {
        let mut add = |event: &str, order: i64, at: Millis, ordered: Millis, won: i64| {
            let (sign, orders) = match event {
                "placed" => (1, 1),
                "cancelled" => (-1, -1),
                _ => (-1, 0),
            };
            ledger.push((at, ordered, orders, sign * won));
            write!(
                sql,
                "{}({event_id}, 0, {event_id}, to_timestamp({at} / 1000.0), '{event}', {order}, {user},
                  to_timestamp({ordered} / 1000.0), '{{1}}', '{{c}}', '{{1}}', '{{{won}}}')",
                if event_id == 0 { "" } else { ",\n" }
            )
            .unwrap();
            event_id += 1;
        };
        for _ in 0..2 {
            let burst = start + random(400) * time::DAY + random(144) * TICK;
            let ticks = 1 + 3 * random(2); // all at one tick, or over four
            let late = random(2) * random(TICK); // on the tick, or after it
            for _ in 0..random(40) {
                let at = burst - burst.rem_euclid(TICK) + random(ticks) * TICK + late;
                let won = 20_000 + random(300_000);
                order_id += 1;
                add("placed", order_id, at, at, won);
                match random(10) {
                    0 => add("cancelled", order_id, at + random(200 * time::DAY), at, won),
                    1 => add("refunded", order_id, at + random(200 * time::DAY), at, won / 2),
                    2 => add("cancelled", order_id, time::six_months_after(at), at, won),
                    _ => {}
                }
            }
        }
    }
    client.batch_execute(&sql).unwrap();
    for user_id in 0..USERS {
        user(&mut client, user_id, user_id, "2025-01-01 00:00", "n");
    }
    set_now(&mut client, &time::wall_clock(now).to_string());
    run_twins(&mut client);
    let words = ["BRONZE", "SILVER", "GOLD", "VIP"];
    let naive = |mutation| {
        let mut lines = Vec::new();
        for (user, ledger) in ledgers.iter().enumerate() {
            for (tick, from, to) in naive_changes(ledger, now, mutation) {
                lines.push(format!("{user}|{tick}|{}|{}", words[from], words[to]));
            }
        }
        lines.sort();
        lines
    };
    let fast = rows(
        &mut client,
        "SELECT user_id, (extract(epoch FROM tick) * 1000)::bigint AS tick, from_grade, to_grade
         FROM pg_temp.grade_changes",
    );
    assert!(fast.len() > 50, "too few changes to prove anything: {}", fast.len());
    for word in words {
        assert!(fast.iter().any(|change| change.ends_with(word)), "nobody became {word}");
    }
    assert_eq!(fast, naive(Mutation { demotion: 1, expiry_inclusive: false }));
    // The comparison has teeth: a wrong rule gives something else.
    assert_ne!(fast, naive(Mutation { demotion: 2, expiry_inclusive: false }));
    assert_ne!(fast, naive(Mutation { demotion: 1, expiry_inclusive: true }));
}

#[test]
fn the_twins_role_sees_the_base_tables_and_nothing_else() {
    let mut client = client(&fresh_database());
    let readable = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
                    AND relkind IN ('r', 'v', 'm')
                    AND has_table_privilege('marketday_twin', oid, 'SELECT')";
    assert_eq!(
        rows(&mut client, readable),
        [
            "commit_points",
            "counted_order_events",
            "order_events",
            "order_lines",
            "product_events",
            "scenario_events",
            "user_events",
        ]
    );
    let writable = readable.replace("'SELECT'", "'INSERT, UPDATE, DELETE, TRUNCATE'");
    assert!(rows(&mut client, &writable).is_empty());
}

/// What became of a record, as an engine would have it.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Counted,
    Duplicate,
    /// A dead letter that moves the time as a copy does.
    Conflict,
    Dead,
    Heartbeat,
}

/// A log in memory: (topic, partition, value, fate), offsets counted by partition.
#[derive(Clone)]
struct Story {
    identity: String,
    records: Vec<(Topic, u32, String, Fate)>,
    start: u64,
}

impl Story {
    fn of(&self, topic: Topic, partition: u32) -> Vec<(&str, Fate)> {
        self.records
            .iter()
            .filter(|record| (record.0, record.1) == (topic, partition))
            .map(|record| (record.2.as_str(), record.3))
            .collect()
    }
}

impl Log for Story {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn partitions(&self, topic: Topic) -> u32 {
        if topic == Topic::Scenarios { 1 } else { 2 }
    }

    fn start(&self, topic: Topic, _: u32) -> Result<u64> {
        Ok(if topic == Topic::Orders { self.start } else { 0 })
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.of(topic, partition).len() as u64)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        bail!("a story is not written to")
    }

    fn readers(&self, topic: Topic, from: &[(u32, u64)]) -> Result<Vec<Box<dyn Reader>>> {
        let reader = |&(partition, offset): &(u32, u64)| {
            let records = self.of(topic, partition);
            let values = records.into_iter().map(|(value, _)| value.to_owned()).collect();
            let next = offset as usize;
            Box::new(StoryReader { topic, partition, values, next }) as Box<dyn Reader>
        };
        Ok(from.iter().map(reader).collect())
    }
}

struct StoryReader {
    topic: Topic,
    partition: u32,
    values: Vec<String>,
    next: usize,
}

impl Reader for StoryReader {
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize> {
        let count = max.min(2).min(self.values.len() - self.next);
        for _ in 0..count {
            let value = Some(self.values[self.next].as_bytes());
            batch.push(Record { offset: self.next as u64, timestamp: 0, key: None, value });
            self.next += 1;
        }
        Ok(count)
    }

    fn position(&self) -> u64 {
        self.next as u64
    }

    fn partition(&self) -> (Topic, u32) {
        (self.topic, self.partition)
    }
}

const NOW: Millis = 1_750_000_000_000;

fn placed(event_id: u64, order_id: i64, at: Millis, price: i64) -> Value {
    json!({"event_id": event_id, "at": at, "event": "placed", "order_id": order_id, "user_id": 1,
           "ordered_at": at, "lines": [
               {"product_id": 1, "category": "books", "quantity": 2, "unit_price": price},
               {"product_id": 2, "category": "장난감", "quantity": 1, "unit_price": 5}]})
}

fn story() -> Story {
    use Fate::{Conflict, Counted, Dead, Duplicate, Heartbeat};
    let mut records = Vec::new();
    let mut add = |topic, partition, value: Value, fate| {
        records.push((topic, partition, value.to_string(), fate));
    };
    let customer = json!({"event_id": u64::MAX, "at": NOW, "user_id": 1, "name": "김하나",
        "birth_date": "2000-02-29", "sex": "F", "region": "Seoul", "status": "ACTIVE",
        "marketing_consent": true, "signed_up_at": NOW, "unknown": 1.5});
    add(Topic::Users, 0, customer.clone(), Counted);
    add(Topic::Users, 1, customer, Duplicate); // a copy in another partition
    for product_id in [1, 2] {
        let product = json!({"event_id": product_id, "at": NOW, "product_id": product_id,
            "name": "p", "category": "books", "price": 10, "stock": 3, "listed_at": NOW});
        add(Topic::Products, 0, product, Counted);
    }
    add(Topic::Orders, 0, placed(1, 1, NOW, 100), Counted);
    add(Topic::Orders, 0, placed(1, 1, NOW, 100), Duplicate);
    add(Topic::Orders, 0, placed(2, 1, NOW, 100), Counted); // superseded: the order was placed
    add(Topic::Orders, 0, placed(1, 1, NOW, 101), Conflict);
    add(Topic::Orders, 0, placed(3, 3, NOW, -1), Dead);
    add(Topic::Orders, 0, json!({"event": "heartbeat", "at": NOW + 5_000}), Heartbeat);
    let mut cancelled = placed(4, 1, NOW, 100);
    cancelled["event"] = json!("cancelled");
    cancelled["at"] = json!(NOW + 1);
    add(Topic::Orders, 1, cancelled, Counted);
    // Of somebody else: one customer alone would not move the time.
    let mut other = placed(5, 5, NOW + 7_000, 300);
    other["user_id"] = json!(2);
    add(Topic::Orders, 1, other, Counted);
    // Enough for SILVER.
    for order in 11..16 {
        let event = placed(order as u64, order, NOW - 10_800_000, 200_000);
        add(Topic::Orders, 1, event, Counted);
    }
    // Enough in three of four weeks that orders are missed in the fourth after, two hours ago.
    for order in 1_000..2_200 {
        let at = NOW - (2 + order % 3) * 7 * time::DAY - 2 * time::HOUR;
        add(Topic::Orders, 1, placed(order as u64, order, at, 1), Counted);
    }
    let scenario = json!({"event_id": 0, "at": NOW, "occurrence": "o", "name": "sale",
        "action": "start", "strength": 1.3, "categories": ["books", "toys"]});
    add(Topic::Scenarios, 0, scenario, Counted);
    Story { identity: "story".into(), records, start: 0 }
}

/// Fills the database as an engine would that has read the story to its end.
#[expect(clippy::too_many_lines, reason = "a small engine, read from top to bottom")]
fn commit(config: &Config, story: &Story) {
    let mut client = connect(config);
    let (mut all, mut all_hash) = (0, 0i64);
    let mut offsets = BTreeMap::<_, Vec<usize>>::new();
    for topic in Topic::ALL {
        for partition in 0..story.partitions(topic) {
            let records = story.of(topic, partition);
            let count = |fate| records.iter().filter(|record| record.1 == fate).count() as i64;
            let (mut amount, mut hash, mut reach) = (0i64, 0i64, None);
            let mut counted = (Vec::new(), Vec::new());
            for (offset, (value, fate)) in (0i64..).zip(&records) {
                let json: Value = serde_json::from_str(value).unwrap();
                if *fate != Fate::Dead && topic == Topic::Orders {
                    let (at, by) = (json["at"].as_i64().unwrap(), json["user_id"].as_i64());
                    reach = Some(Reach::after(reach, offset as u64, at, by.map(UserId)));
                }
                if matches!(fate, Fate::Dead | Fate::Conflict) {
                    let sql = "INSERT INTO dead_letters VALUES ('orders', $1, $2, now(), 'bad')";
                    client.execute(sql, &[&i64::from(partition), &offset]).unwrap();
                }
                if *fate != Fate::Counted {
                    continue;
                }
                hash = hash.wrapping_add(xxh3_64(value.as_bytes()) as i64);
                for line in json["lines"].as_array().into_iter().flatten() {
                    amount +=
                        line["quantity"].as_i64().unwrap() * line["unit_price"].as_i64().unwrap();
                }
                counted.0.push(offset);
                counted.1.push(*value);
            }
            let time = |name: &str| format!("to_timestamp((v->>'{name}')::bigint / 1000.0)");
            let texts = "ARRAY(SELECT jsonb_array_elements_text(v->'categories'))";
            let column = |name: &str, kind: &str| {
                format!(
                    "ARRAY(SELECT (line->>'{name}')::{kind} FROM jsonb_array_elements(v->'lines')
                        WITH ORDINALITY AS l (line, n) ORDER BY n)"
                )
            };
            let (table, columns) = match topic {
                Topic::Users => (
                    "user_events",
                    format!(
                        "(v->>'user_id')::bigint, v->>'name', (v->>'birth_date')::date, v->>'sex',
                         v->>'region', v->>'status', (v->>'marketing_consent')::boolean, {}",
                        time("signed_up_at")
                    ),
                ),
                Topic::Products => (
                    "product_events",
                    format!(
                        "(v->>'product_id')::bigint, v->>'name', v->>'category',
                         (v->>'price')::bigint, (v->>'stock')::bigint, {}",
                        time("listed_at")
                    ),
                ),
                Topic::Orders => (
                    "order_events",
                    format!(
                        "v->>'event', (v->>'order_id')::bigint, (v->>'user_id')::bigint, {}, {}, {}, {}, {}",
                        time("ordered_at"),
                        column("product_id", "bigint"),
                        column("category", "text"),
                        column("quantity", "bigint"),
                        column("unit_price", "bigint")
                    ),
                ),
                Topic::Scenarios => (
                    "scenario_events",
                    format!(
                        "v->>'occurrence', v->>'name', v->>'action', (v->>'strength')::float8, {texts}"
                    ),
                ),
            };
            let sql = format!(
                "INSERT INTO {table} SELECT (v->>'event_id')::numeric, $1, n, {}, {columns}
                     FROM unnest($2::bigint[], $3::text[]) AS counted (n, value),
                          LATERAL (SELECT value::jsonb AS v) AS record",
                time("at")
            );
            client.execute(&sql, &[&i64::from(partition), &counted.0, &counted.1]).unwrap();
            let dead = count(Fate::Dead) + count(Fate::Conflict);
            let newest_offset = reach.map(|reach| reach.newest_offset as i64);
            client
                .execute(
                    "INSERT INTO commit_offsets
                         (topic, partition, next_offset, counted, duplicate, dead, heartbeat, amount,
                          hash, newest_at, newest_by, newest_offset, other_at, reached_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10::bigint / 1000.0),
                             $11, $12, to_timestamp($13::bigint / 1000.0),
                             to_timestamp($14::bigint / 1000.0))",
                    &[
                        &topic.name(),
                        &i64::from(partition),
                        &(records.len() as i64),
                        &count(Fate::Counted),
                        &count(Fate::Duplicate),
                        &dead,
                        &count(Fate::Heartbeat),
                        &amount,
                        &hash,
                        &reach.map(|reach| reach.newest_at),
                        &reach.and_then(|reach| reach.newest_by).map(i64::from),
                        &newest_offset,
                        &reach.and_then(|reach| reach.other_at),
                        &reach.and_then(|reach| reach.reached),
                    ],
                )
                .unwrap();
            all += count(Fate::Counted);
            all_hash = all_hash.wrapping_add(hash);
            offsets.entry(topic.name()).or_default().push(records.len());
        }
    }
    client
        .execute(
            "INSERT INTO commit_points VALUES (7, to_timestamp($1::bigint / 1000.0), $2::text::jsonb, $3, $4, now())",
            &[&(NOW + 5_000), &json!(offsets).to_string(), &all, &all_hash],
        )
        .unwrap();
    client
        .batch_execute(
            "UPDATE progress SET log_identity = 'story', now = (SELECT now FROM commit_points)",
        )
        .unwrap();
    run_twins(&mut client);
    for table in QUERIES.iter().map(|query| query.name) {
        client
            .batch_execute(&format!("INSERT INTO public.{table} SELECT * FROM pg_temp.{table}"))
            .unwrap();
    }
}

/// Runs verify: whether all is equal, and the report.
fn verified(config: &Config, log: &Story) -> (bool, String) {
    let mut out = Vec::new();
    let equal = verify(config, Some(log), &mut out, false).unwrap();
    let mut json = Vec::new();
    assert_eq!(verify(config, Some(log), &mut json, true).unwrap(), equal);
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["equal"], equal);
    (equal, String::from_utf8(out).unwrap())
}

#[test]
fn equal_is_reported_equal() {
    let config = fresh_database();
    commit(&config, &story());
    let (equal, report) = verified(&config, &story());
    assert!(equal, "{report}");
    assert!(report.contains("all equal"), "{report}");
    assert!(report.contains("superseded"), "{report}");
}

#[test]
fn a_table_that_cannot_be_compared_is_named_and_the_others_are() {
    let config = fresh_database();
    commit(&config, &story());
    connect(&config).batch_execute("ALTER TABLE season_pattern RENAME TO gone").unwrap();
    let (equal, report) = verified(&config, &story());
    assert!(!equal, "{report}");
    let what = "differs: season_pattern could not be compared with its twin: ";
    assert!(report.contains(what), "{report}");
    assert_eq!(report.matches("could not").count(), 1, "{report}");
    for other in ["sales_by_month", "users", "orders/0"] {
        assert!(report.lines().any(|line| line.starts_with(other)), "{report}");
    }
}

/// A change of each column of each result table, and a row dropped and added.
fn changes_of_results() -> Vec<(&'static str, String)> {
    let mut client = connect(&fresh_database());
    let columns = "SELECT attname::text, atttypid::regtype::text, attnum = ANY (indkey)
                   FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND indisprimary
                   WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum";
    let mut changes = Vec::new();
    for table in QUERIES.iter().map(|query| query.name) {
        for row in client.query(columns, &[&table]).unwrap() {
            let (column, kind, of_key): (String, String, bool) =
                (row.get(0), row.get(1), row.get(2));
            let (other, new) = match kind.as_str() {
                "bigint" => (format!("{column} + 1"), "77"),
                "text" => (format!("{column} || ' '"), "none"),
                "boolean" => (format!("NOT {column}"), "true"),
                "date" => (format!("{column} + 1"), "2001-01-01"),
                _ => (format!("{column} + interval '1 ms'"), "2001-01-01"),
            };
            if of_key {
                changes.push((table, format!(
                    "INSERT INTO {table} SELECT (jsonb_populate_record(t, '{{\"{column}\": \"{new}\"}}')).*
                     FROM {table} AS t LIMIT 1"
                )));
            } else {
                changes.push((table, format!("UPDATE {table} SET {column} = {other}")));
            }
        }
        let first = format!("ctid = (SELECT min(ctid) FROM {table})");
        changes.push((table, format!("DELETE FROM {table} WHERE {first}")));
    }
    changes
}

#[test]
fn verify_finds_a_change_in_every_table() {
    let tables = changes_of_results().into_iter();
    let base = [
        ("user_events", "UPDATE user_events SET name = 'other'"),
        ("user_events", "UPDATE user_events SET birth_date = birth_date + 1"),
        ("product_events", "DELETE FROM product_events WHERE \"offset\" = 1"),
        ("product_events", "UPDATE product_events SET stock = stock + 1"),
        ("scenario_events", "UPDATE scenario_events SET strength = 1.3000000000000003"),
        ("scenario_events", "UPDATE scenario_events SET categories = '{books,toy,s}'"),
        ("order_events", "UPDATE order_events SET quantities = '{3,1}' WHERE event_id = 1"),
        ("order_events", "UPDATE order_events SET unit_prices = '{100}' WHERE event_id = 1"),
        ("order_events", "UPDATE order_events SET at = at + interval '1 ms' WHERE event_id = 4"),
        ("order_events", "UPDATE order_events SET \"offset\" = 1 WHERE event_id = 1"),
        ("order_events", "UPDATE order_events SET partition = 5 WHERE event_id = 1"),
        ("order_events", "INSERT INTO order_events SELECT * FROM order_events WHERE event_id = 1"),
        ("order_events", "DELETE FROM order_events WHERE event_id = 5"),
        // It counts nowhere, but it stands in the ledger.
        ("order_events", "DELETE FROM order_events WHERE event_id = 2"),
        ("order_events", "UPDATE order_events SET unit_prices = '{1,5}' WHERE event_id = 2"),
        // The other one of the two would count.
        ("order_events", "UPDATE order_events SET at = at - interval '1 ms' WHERE event_id = 2"),
        ("dead_letters", "DELETE FROM dead_letters"),
        ("dead_letters", "INSERT INTO dead_letters SELECT * FROM dead_letters"),
        ("dead_letters", "UPDATE dead_letters SET topic = 'users'"),
        ("commit_offsets", "UPDATE commit_offsets SET amount = amount + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET duplicate = duplicate + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET next_offset = 1 WHERE topic = 'products'"),
        ("commit_offsets", "UPDATE commit_offsets SET next_offset = next_offset + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET hash = hash + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET newest_at = newest_at + interval '1 ms'"),
        ("commit_offsets", "UPDATE commit_offsets SET newest_by = newest_by + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET newest_offset = newest_offset + 1"),
        ("commit_offsets", "UPDATE commit_offsets SET other_at = other_at - interval '1 ms'"),
        ("commit_offsets", "UPDATE commit_offsets SET reached_at = reached_at - interval '1 ms'"),
        ("commit_points", "UPDATE commit_points SET checksum = checksum + 1"),
        ("commit_points", "UPDATE commit_points SET counted = counted + 1"),
        ("commit_points", "UPDATE commit_points SET now = now - interval '1 ms'"),
        ("commit_points", "UPDATE commit_points SET offsets = '{\"orders\": [5, 2]}'"),
        ("progress", "UPDATE progress SET now = NULL"),
        ("progress", "UPDATE progress SET log_identity = 'another'"),
    ];
    let equal = fresh_database();
    commit(&equal, &story());
    for (table, sql) in tables.chain(base.map(|(table, sql)| (table, sql.to_owned()))) {
        let config = copied_database(equal.get_dbname().unwrap());
        let mut client = connect(&config);
        let changed = client.execute(&sql, &[]).unwrap();
        assert_ne!(changed, 0, "{sql} did nothing to {table}");
        let (equal, report) = verified(&config, &story());
        assert!(!equal, "{sql}\n{report}");
    }
}

#[test]
fn verify_finds_what_was_counted_wrongly() {
    use Fate::{Conflict, Counted, Duplicate};
    let orders = |records: &[(u32, Value, Fate)]| {
        let mut story = story();
        story.records.retain(|record| record.0 != Topic::Orders);
        for (partition, value, fate) in records {
            story.records.push((Topic::Orders, *partition, value.to_string(), *fate));
        }
        for partition in [0, 1] {
            let heartbeat = json!({"event": "heartbeat", "at": NOW + 5_000}).to_string();
            story.records.push((Topic::Orders, partition, heartbeat, Fate::Heartbeat));
        }
        story
    };
    let a = placed(1, 1, NOW, 100);
    let same_id = placed(1, 2, NOW, 100);
    let same_order = placed(2, 1, NOW, 100);
    for (fine, records) in [
        // The lower offset counts; between partitions what was committed first, as the ledger has it.
        (true, vec![(0, a.clone(), Counted), (0, same_id.clone(), Conflict)]),
        (true, vec![(0, a.clone(), Conflict), (1, same_id.clone(), Counted)]),
        (true, vec![(0, a.clone(), Duplicate), (1, a.clone(), Counted)]),
        // Both stand in the ledger, whichever came first.
        (true, vec![(0, a.clone(), Counted), (0, same_order.clone(), Counted)]),
        (true, vec![(0, same_order.clone(), Counted), (1, a.clone(), Counted)]),
        // What counts nowhere for its order's sake uses up its id.
        (
            true,
            vec![
                (0, a.clone(), Counted),
                (0, same_order.clone(), Counted),
                (0, placed(2, 9, NOW, 1), Conflict),
            ],
        ),
        (false, vec![(0, a.clone(), Conflict), (0, same_id.clone(), Counted)]),
        // One conflict in 255 is taken for a copy, and no more than that.
        (true, vec![(0, a.clone(), Counted), (0, same_id.clone(), Duplicate)]),
        (
            false,
            vec![
                (0, a.clone(), Counted),
                (0, same_id.clone(), Duplicate),
                (0, placed(1, 3, NOW, 100), Duplicate),
                (0, placed(1, 4, NOW, 100), Duplicate),
                (0, placed(1, 5, NOW, 100), Duplicate),
            ],
        ),
        (false, vec![(0, a.clone(), Counted), (0, a.clone(), Conflict)]),
        (false, vec![(0, a.clone(), Counted), (0, same_order.clone(), Duplicate)]),
        (false, vec![(0, a.clone(), Duplicate), (0, same_order.clone(), Counted)]),
        (false, vec![(0, a.clone(), Counted), (1, same_id.clone(), Counted)]),
        (false, vec![(0, a.clone(), Counted), (1, a.clone(), Counted)]),
        (false, vec![(0, a.clone(), Conflict), (1, same_id.clone(), Conflict)]),
        (false, vec![(0, a.clone(), Duplicate)]),
    ] {
        let story = orders(&records);
        let config = fresh_database();
        commit(&config, &story);
        let (equal, report) = verified(&config, &story);
        assert_eq!(equal, fine, "{report}");
    }
}

#[test]
fn a_log_that_lost_its_beginning_is_checked_from_there() {
    let config = fresh_database();
    commit(&config, &story());
    let story = Story { start: 1, ..story() };
    let (equal, report) = verified(&config, &story);
    assert!(equal, "{report}");
    assert!(
        report.contains("orders/0: the log no longer holds what is before offset 1"),
        "{report}"
    );
    connect(&config)
        .execute("UPDATE order_events SET user_id = 3 WHERE event_id = 5", &[])
        .unwrap();
    assert!(!verified(&config, &story).0);
}

/// Of a store that older rules have counted, and whose log no longer goes back to its start.
#[test]
fn a_store_of_older_rules_that_is_gone_on_from_is_checked_from_there() {
    let config = fresh_database();
    let story = story();
    commit(&config, &story);
    let mut client = client(&config);
    // An order told a second time: it was no event by those rules.
    client.batch_execute("UPDATE progress SET rules = 1").unwrap();
    let story = Story { start: 1, ..story };
    let claim = store::claim(&mut client, &story, &Tables::of(QUERIES)).unwrap();
    let froms = "SELECT count(*) FROM commit_offsets WHERE rules_from = next_offset";
    let all: i64 = client.query_one(froms, &[]).unwrap().get(0);
    assert_eq!(all, claim.tallies.len() as i64);
    client.execute("DELETE FROM order_events WHERE event_id = 5", &[]).unwrap();
    let (_, report) = verified(&config, &story);
    assert!(report.contains("was counted by older rules"), "{report}");
    assert!(!report.contains("its event_id was not used"), "{report}");
    // The second time there is nothing to go over to.
    client.execute("UPDATE commit_offsets SET rules_from = 0", &[]).unwrap();
    store::claim(&mut client, &story, &Tables::of(QUERIES)).unwrap();
    let froms = "SELECT count(*) FROM commit_offsets WHERE rules_from > 0";
    let none: i64 = client.query_one(froms, &[]).unwrap().get(0);
    assert_eq!(none, 0);
    assert!(verified(&config, &story).1.contains("its event_id was not used"));
}
