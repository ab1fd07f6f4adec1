//! What falls on a border of the calendar: midnights, month ends, the 29th to the 31st, the turn of
//! the year, a leap day, a Seollal whose sale crosses it; worked out by hand.

use std::fs;

use chrono::NaiveDateTime;
use postgres::Client;
use serde_json::{Value, json};

use crate::support::{analytics, connect, fresh_database, marketday, scratch};

/// An instant by Seoul's clock: `2024-02-29 23:59:59.999`.
fn at(text: &str) -> i64 {
    let text = if text.len() == 16 { format!("{text}:00") } else { text.to_owned() };
    let clock = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
    clock.and_utc().timestamp_millis() - 9 * 3_600_000
}

/// The lines of an import, as they are told.
#[derive(Default)]
struct Story {
    lines: Vec<Value>,
    events: u64,
    orders: i64,
}

impl Story {
    fn tell(&mut self, topic: &str, key: &str, at: i64, mut value: Value) {
        value["event_id"] = json!(self.events);
        value["at"] = json!(at);
        self.events += 1;
        self.lines.push(json!({"topic": topic, "key": key, "value": value}));
    }

    fn customer(&mut self, user_id: i64, sex: &str, birth_date: &str, signed_up: &str) {
        let value = json!({"user_id": user_id, "name": "이름", "birth_date": birth_date, "sex": sex,
            "region": "서울", "status": "ACTIVE", "marketing_consent": true,
            "signed_up_at": at(signed_up)});
        self.tell("users", &user_id.to_string(), at(signed_up), value);
    }

    fn product(&mut self, product_id: i64, listed: &str) {
        let value = json!({"product_id": product_id, "name": "상품", "category": "book",
            "price": 900, "stock": 5, "listed_at": at(listed)});
        self.tell("products", &product_id.to_string(), at(listed), value);
    }

    fn scenario(&mut self, action: &str, when: &str) {
        let value = json!({"occurrence": "seollal-2023", "name": "seollal", "action": action,
            "strength": 1.5, "categories": []});
        self.tell("scenarios", "seollal-2023", at(when), value);
    }

    fn event(&mut self, event: &str, user_id: i64, product: i64, when: [&str; 2], won: i64) {
        let value = json!({"event": event, "order_id": self.orders, "user_id": user_id,
            "ordered_at": at(when[1]),
            "lines": [{"product_id": product, "category": "book", "quantity": 1, "unit_price": won}]});
        self.tell("orders", &user_id.to_string(), at(when[0]), value);
    }

    /// An order of one piece.
    fn sell(&mut self, user_id: i64, product: i64, when: &str, won: i64) {
        self.orders += 1;
        self.event("placed", user_id, product, [when, when], won);
    }

    fn order(&mut self, user_id: i64, when: &str, won: i64) {
        self.sell(user_id, 1, when, won);
    }

    /// Takes the last order back, or part of it.
    fn take_back(&mut self, event: &str, user_id: i64, when: [&str; 2], won: i64) {
        self.event(event, user_id, 1, when, won);
    }
}

fn story() -> Story {
    let mut story = Story::default();
    // 1: twenty on a leap day; a millisecond lies between two years, and a calendar day.
    story.customer(1, "F", "2004-02-29", "2023-12-31 23:59:59.999");
    story.order(1, "2023-12-31 23:59:59.999", 1_000);
    let times = ["2024-01-31 23:59:59.999", "2023-12-31 23:59:59.999"];
    story.take_back("refunded", 1, times, 300);
    story.order(1, "2024-01-01 00:00", 2_000);
    story.order(1, "2024-02-28 23:59:59.999", 4_000);
    story.order(1, "2024-02-29 00:00", 8_000);
    story.order(1, "2024-02-29 23:59:59.999", 16_000);
    story.order(1, "2024-03-01 00:00", 32_000);
    // 4: thirty in a year without a leap day, and so on 1 March.
    story.customer(4, "M", "1996-02-29", "2024-01-01 00:00");
    story.order(4, "2026-02-28 23:59:59.999", 10);
    story.order(4, "2026-03-01 00:00", 10);
    // 2, 3: six months after 31 August is the last day of February, of a leap year too.
    story.customer(2, "M", "1984-03-01", "2024-08-01 00:00");
    story.customer(3, "F", "1994-12-31", "2023-08-31 10:00");
    for _ in 0..5 {
        story.order(2, "2024-08-31 10:00", 100_000);
        story.order(3, "2023-08-31 10:00", 100_000);
    }
    // 5: what was ordered on the 29th, 30th and 31st goes together.
    story.customer(5, "F", "1970-01-01", "2024-08-01 00:00");
    for day in ["2024-08-29 12:00", "2024-08-30 12:00", "2024-08-31 12:00"] {
        story.order(5, day, 100_000);
        story.order(5, day, 100_000);
    }
    // 6, whom nobody knows: on both sides of each border of the month's phases.
    for day in [
        "05 23:59:59.999",
        "06 00:00",
        "09 23:59:59.999",
        "10 00:00",
        "12 23:59:59.999",
        "13 00:00",
        "24 23:59:59.999",
        "25 00:00",
        "27 23:59:59.999",
        "28 00:00",
        "30 23:59:59.999",
    ] {
        story.order(6, &format!("2024-04-{day}"), 1);
    }
    // Weeks begin on Monday, across the turn of the year; lags are days of 24 hours.
    story.product(11, "2024-12-30 00:00");
    story.sell(6, 11, "2025-01-02 00:00", 1);
    story.product(12, "2024-12-29 23:59:59.999");
    story.sell(6, 12, "2025-01-01 23:59:59.998", 1);
    story.product(13, "2025-01-05 23:59:59.999");
    story.sell(6, 13, "2025-01-13 23:59:59.998", 1);
    story.product(14, "2025-01-06 00:00");
    story.sell(6, 14, "2025-01-14 00:00", 1);
    story.product(15, "2025-01-06 00:00");
    story.sell(6, 15, "2025-01-05 23:59:59.999", 1);
    story.product(16, "2025-01-06 00:00");
    // Seollal of 22 January 2023: the sale of three weeks and a day crosses the turn of the year.
    story.scenario("start", "2022-12-31 00:00");
    story.scenario("stop", "2023-01-22 00:00");
    for (when, won) in [
        ("2022-12-02 23:59:59.999", 1),      // five weeks before: no
        ("2022-12-03 00:00", 10),            // the first day of a week: set against four
        ("2022-12-24 23:59:59.999", 100),    // likewise
        ("2022-12-25 00:00", 1_000),         // the other days: three
        ("2022-12-30 23:59:59.999", 10_000), // likewise
        ("2022-12-31 00:00", 2),             // during
        ("2022-12-31 23:59:59.999", 20),     // during
        ("2023-01-01 00:00", 200),           // during
        ("2023-01-21 23:59:59.999", 2_000),  // during
        ("2023-01-22 00:00", 20_000),        // no more
    ] {
        story.order(7, when, won);
    }
    story
}

/// The rows of a query, one a line, columns between bars.
fn rows(db: &mut Client, sql: &str) -> Vec<String> {
    let sql = format!(
        "SELECT concat_ws('|', VARIADIC ARRAY(
        SELECT value FROM json_each_text(to_json(t)))) FROM ({sql}) AS t"
    );
    db.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// The tables after the story, by Seoul's clock; they equal their twins.
fn told() -> Client {
    let dir = scratch();
    let database = fresh_database();
    let place = dir.to_str().unwrap();
    let lines: Vec<String> = story().lines.iter().map(Value::to_string).collect();
    let file = dir.join("story.ndjson");
    fs::write(&file, lines.join("\n")).unwrap();
    // The newest order is one customer's alone; whoever tells the story knows that it is right.
    let until = ["--until", "2026-03-01T00:00:00"];
    marketday(&[&["import", file.to_str().unwrap(), "--dir", place], &until[..]].concat());
    analytics(&dir, &database, "2");
    let mut db = connect(&database);
    db.batch_execute("SET TIME ZONE 'Asia/Seoul'").unwrap();
    db
}

#[test]
fn months_days_hours_and_scenarios() {
    let db = &mut told();
    assert_eq!(
        rows(db, "SELECT * FROM sales_by_month WHERE month < '2024-04-01' ORDER BY month"),
        [
            "2022-12-01|7|11133|1",
            "2023-01-01|3|22200|1",
            "2023-08-01|5|500000|1",
            "2023-12-01|1|1000|1",
            "2024-01-01|1|1700|1",
            "2024-02-01|3|28000|1",
            "2024-03-01|1|32000|1",
        ]
    );
    assert_eq!(
        rows(
            db,
            "SELECT day, orders, revenue, refunded FROM sales_by_category
                  WHERE day BETWEEN '2023-12-01' AND '2024-03-31' ORDER BY day"
        ),
        [
            "2023-12-31|1|1000|0",
            "2024-01-01|1|2000|0",
            "2024-01-31|0|0|300",
            "2024-02-28|1|4000|0",
            "2024-02-29|2|24000|0",
            "2024-03-01|1|32000|0",
        ]
    );
    assert_eq!(
        rows(
            db,
            "SELECT * FROM orders_by_hour WHERE day BETWEEN '2024-02-28' AND '2024-03-01'
                  ORDER BY day, hour"
        ),
        [
            "2024-02-28|23|1|4000",
            "2024-02-29|0|1|8000",
            "2024-02-29|23|1|16000",
            "2024-03-01|0|1|32000",
        ]
    );
    assert_eq!(
        rows(
            db,
            "SELECT phase, days, orders FROM month_phase WHERE month = '2024-04-01'
                  ORDER BY phase"
        ),
        ["10-12|2|2", "25-27|2|2", "end|2|2", "middle|4|4", "start|1|1"]
    );
    assert_eq!(
        rows(
            db,
            "SELECT month_of_year, revenue FROM season_pattern WHERE month_of_year < 5
                  ORDER BY month_of_year"
        ),
        ["1|24205", "2|28010", "3|32010", "4|11"]
    );
    assert_eq!(rows(db, "SELECT * FROM scenario_impact"), ["seollal|seollal-2023|4|2222|14|33440"]);
}

#[test]
fn customers_and_new_products() {
    let db = &mut told();
    assert_eq!(
        rows(
            db,
            "SELECT user_id, to_char(tick, 'YYYY-MM-DD HH24:MI'), to_grade FROM grade_changes
                  ORDER BY user_id, tick"
        ),
        [
            "2|2024-08-31 10:00|SILVER",
            "2|2025-02-28 10:00|BRONZE",
            "3|2023-08-31 10:00|SILVER",
            "3|2024-02-29 10:00|BRONZE",
            "5|2024-08-31 12:00|SILVER",
            "5|2025-02-28 12:00|BRONZE",
        ]
    );
    assert_eq!(
        rows(
            db,
            "SELECT age_band, sex, hour, orders FROM segment_hours
                  WHERE (age_band, sex) IN (('10s', 'F'), ('20s', 'M'), ('30s', 'M'))
                     OR (age_band, sex) = ('20s', 'F') AND hour <> 10
                  ORDER BY age_band, sex, hour"
        ),
        ["10s|F|0|1", "10s|F|23|2", "20s|F|0|2", "20s|F|23|1", "20s|M|23|1", "30s|M|0|1",]
    );
    assert_eq!(
        rows(
            db,
            "SELECT signup_month, months_since, customers, active, revenue
                  FROM value_by_cohort WHERE active > 0 OR revenue <> 0 ORDER BY 1, 2"
        ),
        [
            "2023-08-01|0|1|1|500000",
            "2023-12-01|0|1|1|1000",
            "2023-12-01|1|1|1|1700",
            "2023-12-01|2|1|1|28000",
            "2023-12-01|3|1|1|32000",
            "2024-01-01|25|1|1|10",
            "2024-01-01|26|1|1|10",
            "2024-08-01|0|2|2|1100000",
        ]
    );
    // From each cohort's month to that of now, March 2026.
    assert_eq!(rows(db, "SELECT count(*) FROM value_by_cohort"), [(32 + 28 + 27 + 20).to_string()]);
    assert_eq!(
        rows(
            db,
            "SELECT buyers, repeat_buyers, gaps, gap_days, gap_days_median FROM repurchase
                  WHERE grade = 'BRONZE'"
        ),
        // Days between: 1, 58, 1, 0, 1 of customer 1; 1 of 4; 0 four times of 2 and of 3; 0, 1, 0,
        // 1, 0 of 5.
        ["5|5|19|64|0"]
    );
    assert_eq!(
        rows(db, "SELECT * FROM first_sale_lag ORDER BY listing_week, lag"),
        [
            "2024-12-23|2|1",
            "2024-12-30|3|1",
            "2024-12-30|4-7|1",
            "2025-01-06|0|1",
            "2025-01-06|8+|1",
            "2025-01-06|none yet|1",
        ]
    );
}
