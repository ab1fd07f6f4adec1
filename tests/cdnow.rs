//! Real purchases through the whole program: CDNOW, 69,659 orders of 23,570 customers in 1997 and 1998.
//!
//! The customers are those who bought music at a real shop for the first time in early 1997, as the
//! Python package `lifetimes` carries them. Our tables must say what the file says, read plainly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use chrono::{Datelike, NaiveDate};
use marketday::platform::private_postgres::PrivatePostgres;
use postgres::Client;
use sha2::{Digest, Sha256};

use crate::support::{connect, marketday, shared_scratch};

const SHA256: &str = "eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef";

/// A line of the file.
struct Purchase {
    customer: i64,
    date: NaiveDate,
    cents: i64,
}

impl Purchase {
    /// Noon in Seoul, as the file knows no hour.
    fn at(&self) -> i64 {
        self.date.and_hms_opt(3, 0, 0).unwrap().and_utc().timestamp_millis()
    }
}

/// The file, fetched once.
fn file() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lifetimes-0.11.3");
    let file = dir.join("lifetimes/datasets/CDNOW_master.txt");
    if !file.exists() {
        let output = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-compile",
                "--upgrade",
                "--target",
            ])
            .arg(&dir)
            .arg("lifetimes==0.11.3")
            .output()
            .expect("python3 with pip, to fetch the package");
        assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    }
    let hash = Sha256::digest(fs::read(&file).unwrap());
    let hash = hash.iter().fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
    assert_eq!(hash, SHA256, "{} is not the file that this test knows: remove it", file.display());
    file
}

/// The purchases, in the file's order by customer.
fn purchases(file: &Path) -> Vec<Purchase> {
    let text = fs::read_to_string(file).unwrap();
    let purchase = |line: &str| {
        let [customer, date, _units, dollars] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("four fields: {line}");
        };
        Purchase {
            customer: customer.parse().unwrap(),
            date: NaiveDate::parse_from_str(date, "%Y%m%d").unwrap(),
            cents: dollars.replace('.', "").parse().unwrap(),
        }
    };
    text.lines().skip(1).map(purchase).collect()
}

/// The purchases as events, in the form that `marketday import` takes: an order of one line each, a
/// cent as a won, a customer signed up by their first purchase.
fn ndjson(purchases: &[Purchase]) -> String {
    let mut orders: Vec<&Purchase> = purchases.iter().collect();
    orders.sort_by_key(|purchase| purchase.date);
    let start = orders[0].at();
    let mut lines = format!(
        r#"{{"topic":"products","key":"1","value":{{"event_id":0,"at":{start},"product_id":1,"name":"CD","category":"cd","price":1500,"stock":0,"listed_at":{start}}}}}
"#
    );
    let mut customers = BTreeSet::new();
    for (id, purchase) in orders.into_iter().enumerate() {
        let (customer, at, cents) = (purchase.customer, purchase.at(), purchase.cents);
        if customers.insert(customer) {
            let event_id = customers.len() - 1;
            writeln!(
                lines,
                r#"{{"topic":"users","key":"{customer}","value":{{"event_id":{event_id},"at":{at},"user_id":{customer},"name":"{customer}","birth_date":"1970-01-01","sex":"F","region":"unknown","status":"ACTIVE","marketing_consent":false,"signed_up_at":{at}}}}}"#
            )
            .unwrap();
        }
        writeln!(
            lines,
            r#"{{"topic":"orders","key":"{customer}","value":{{"event_id":{id},"at":{at},"event":"placed","order_id":{id},"user_id":{customer},"ordered_at":{at},"lines":[{{"product_id":1,"category":"cd","quantity":1,"unit_price":{cents}}}]}}}}"#
        )
        .unwrap();
    }
    lines
}

/// The rows of whole numbers that a query gives.
fn numbers<const N: usize>(db: &mut Client, sql: &str) -> Vec<[i64; N]> {
    let rows = db.query(sql, &[]).unwrap();
    rows.iter().map(|row| std::array::from_fn(|column| row.get(column))).collect()
}

/// The directory of a market that holds these purchases, with its tables filled; made once.
pub(crate) fn market() -> &'static str {
    static MARKET: OnceLock<String> = OnceLock::new();
    MARKET.get_or_init(|| {
        let dir = shared_scratch();
        let events = dir.join("cdnow.ndjson");
        fs::write(&events, ndjson(&purchases(&file()))).unwrap();
        let market = dir.join("market").to_str().unwrap().to_owned();
        marketday(&["import", events.to_str().unwrap(), "--dir", &market]);
        marketday(&["analytics", "--dir", &market, "--exit-when-caught-up"]);
        market
    })
}

#[test]
fn the_tables_say_what_the_file_of_real_purchases_says() {
    let (market, purchases) = (market(), purchases(&file()));
    marketday(&["verify", "--dir", market]);
    let server = PrivatePostgres::start(Path::new(market)).unwrap();
    let db = &mut connect(&server.config());

    // What others report of this data set.
    assert_eq!(
        numbers(
            db,
            "SELECT count(*), count(DISTINCT user_id), sum(amount)::bigint FROM order_lines"
        ),
        [[69_659, 23_570, 250_031_563]]
    );
    assert_eq!(numbers(db, "SELECT order_count FROM products"), [[69_659]]);
    assert_eq!(numbers(db, "SELECT count(*) FROM users"), [[23_570]]);

    // How many customers have how many orders; half of them bought once.
    let mut orders_of: BTreeMap<i64, i64> = BTreeMap::new();
    for purchase in &purchases {
        *orders_of.entry(purchase.customer).or_default() += 1;
    }
    let mut customers_with: BTreeMap<i64, i64> = BTreeMap::new();
    for orders in orders_of.values() {
        *customers_with.entry(*orders).or_default() += 1;
    }
    assert_eq!(customers_with[&1], 11_908);
    assert_eq!(
        numbers(
            db,
            "SELECT orders, count(*) FROM (SELECT count(*) AS orders FROM orders GROUP BY user_id) AS customer
             GROUP BY orders ORDER BY orders"
        ),
        customers_with.into_iter().map(|(orders, customers)| [orders, customers]).collect::<Vec<_>>()
    );

    // Each day's orders, cents and buyers: in its one minute, and in its one category.
    let mut days: BTreeMap<i64, (i64, i64, BTreeSet<i64>)> = BTreeMap::new();
    for purchase in &purchases {
        let (orders, cents, buyers) = days.entry(purchase.at() / 1000).or_default();
        *orders += 1;
        *cents += purchase.cents;
        buyers.insert(purchase.customer);
    }
    let minutes: Vec<_> = days
        .iter()
        .map(|(at, (orders, cents, buyers))| {
            [*at, *orders, *orders, *cents, buyers.len() as i64, 0, 0]
        })
        .collect();
    assert_eq!(
        numbers(
            db,
            "SELECT extract(epoch FROM minute)::bigint, orders, units, gross_revenue, buyers,
                    cancelled_orders, refunded_revenue
             FROM orders_by_minute ORDER BY minute"
        ),
        minutes
    );
    assert_eq!(
        numbers(
            db,
            "SELECT extract(epoch FROM (day + time '12:00') AT TIME ZONE 'Asia/Seoul')::bigint,
                    orders, units, revenue, refunded
             FROM sales_by_category WHERE category = 'cd' ORDER BY day"
        ),
        minutes
            .iter()
            .map(|&[at, orders, units, cents, ..]| [at, orders, units, cents, 0])
            .collect::<Vec<_>>()
    );

    customers_and_months(db, &purchases);

    // Two customers ever spend the 5,000 dollars in six months that make SILVER. These changes were
    // worked out from the file by a script that adds up each customer's last six months day by day.
    let changes: Vec<String> = db
        .query(
            "SELECT user_id || to_char(tick AT TIME ZONE 'Asia/Seoul', ' YYYY-MM-DD HH24:MI ') || to_grade
             FROM grade_changes ORDER BY user_id, tick",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(
        changes,
        [
            "7592 1997-05-19 12:00 SILVER",
            "7592 1997-10-07 12:00 BRONZE",
            "7592 1997-10-08 12:00 SILVER",
            "7592 1997-10-11 12:00 BRONZE",
            "7592 1997-10-14 12:00 SILVER",
            "7592 1997-11-19 12:00 BRONZE",
            "19339 1997-03-26 12:00 SILVER",
            "19339 1997-09-18 12:00 BRONZE",
        ]
    );
    assert_eq!(
        numbers(db, "SELECT customers FROM grade_distribution ORDER BY grade"),
        [[23_570], [0], [0], [0]]
    );
    server.stop().unwrap();
}

/// The tables by customer, by month and up to now.
fn customers_and_months(db: &mut Client, purchases: &[Purchase]) {
    // Each customer's orders, cents, and the days between the first and the last.
    let mut customers: BTreeMap<i64, [i64; 4]> = BTreeMap::new();
    for purchase in purchases {
        let day = i64::from(purchase.date.to_epoch_days());
        let customer = customers.entry(purchase.customer).or_insert([0, 0, day, day]);
        let [orders, cents, first, last] = *customer;
        *customer = [orders + 1, cents + purchase.cents, first.min(day), last.max(day)];
    }
    assert_eq!(
        numbers(
            db,
            "SELECT user_id, orders, revenue, days_active FROM customer_value ORDER BY user_id"
        ),
        customers
            .into_iter()
            .map(|(customer, [orders, cents, first, last])| [customer, orders, cents, last - first])
            .collect::<Vec<_>>()
    );
    // The three months in which customers were taken in, and the last.
    assert_eq!(
        numbers(
            db,
            "SELECT extract(month FROM month)::bigint, orders, revenue, buyers FROM sales_by_month
             WHERE month < '1997-04-01' OR month = '1998-06-01' ORDER BY month"
        ),
        [1, 2, 3, 6].map(|month| {
            let year = if month == 6 { 1998 } else { 1997 };
            let of_month = purchases
                .iter()
                .filter(|it| (it.date.year(), i64::from(it.date.month())) == (year, month));
            let buyers: BTreeSet<_> = of_month.clone().map(|it| it.customer).collect();
            let cents = of_month.clone().map(|it| it.cents).sum();
            [month, of_month.count() as i64, cents, buyers.len() as i64]
        })
    );
    // The last day of the file is the newest event.
    let now = purchases.iter().map(Purchase::at).max().unwrap();
    let month: BTreeSet<_> = purchases
        .iter()
        .filter(|it| now - it.at() < 30 * 86_400_000)
        .map(|it| it.customer)
        .collect();
    assert_eq!(
        numbers(db, "SELECT buyers FROM active_customers WHERE span = '30 d'"),
        [[month.len() as i64]]
    );
}
