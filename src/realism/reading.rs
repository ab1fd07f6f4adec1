//! What the statistics are made of, read from one snapshot of the store.
//!
//! The database reduces millions of orders to counts; what is left is small, and the statistics are
//! worked out here from it. Each statement of `queries.sql` runs once.

use anyhow::{Context, Result};
use dataflows::model::time::Day;
use postgres::types::FromSql;
use postgres::{Client, IsolationLevel, Row, Transaction};

const QUERIES: &str = include_str!("queries.sql");

/// Memory for each sort or hash: most statements read the whole ledger.
const WORK_MEM: &str = "256MB";

/// The orders that were placed, as the statistics need them.
#[derive(Default)]
pub(super) struct Market {
    /// Orders a day, from the day of the first order to that of the last.
    pub(super) days: Vec<(Day, i64)>,
    /// Orders and amount of each customer who bought.
    pub(super) buyers: Vec<(i64, i64)>,
    /// Days from one day with purchases of a customer to the next, and how often.
    pub(super) gaps: Vec<(i64, i64)>,
    /// Share of the customers that bought again within 30, 90 and 180 days; none where nobody has
    /// been a customer for so long.
    pub(super) repeats: [Option<f64>; 3],
    /// Mean and deviation of ln(amount), and the mean amount.
    pub(super) amounts: [Option<f64>; 3],
    /// Orders by floor(10 log10(amount)).
    pub(super) amount_bins: Vec<(i64, i64)>,
    /// Orders by number of lines.
    pub(super) baskets: Vec<(i64, i64)>,
    /// Lines of each product that was ever sold, the best first.
    pub(super) popularity: Vec<i64>,
    /// Share of the lines that their customer had bought before.
    pub(super) reorders: Option<f64>,
    pub(super) hours: Vec<Hour>,
    pub(super) vips: Vips,
    /// Share of new products sold within three days, and the median of days until then.
    pub(super) first_sales: [Option<f64>; 2],
    pub(super) cohort: Vec<Buyers>,
    /// Share of the sign-ups that have bought; none where nobody signed up long enough ago.
    pub(super) ever_bought: Option<f64>,
    /// Customers by the month of their first purchase who bought so many months later.
    pub(super) retention: Vec<Retained>,
    /// The most days with purchases, and orders, of one customer within a year.
    pub(super) most_frequent: [Option<f64>; 2],
    /// Share of the products that sold in the last year; none before a year is over.
    pub(super) catalogue: Option<f64>,
}

/// The customers of one month who bought in a later one, or in the same.
pub(super) struct Retained {
    /// The month of the first purchase, 0 for the shop's first.
    pub(super) first: i64,
    /// Months since then.
    pub(super) since: i64,
    pub(super) customers: i64,
}

/// Orders in an hour of the day.
pub(super) struct Hour {
    pub(super) age_band: Option<String>,
    pub(super) sex: Option<String>,
    pub(super) hour: i64,
    pub(super) orders: i64,
}

/// Days between the purchases of those who are VIP now.
#[derive(Default)]
pub(super) struct Vips {
    pub(super) lifetime_mean: Option<f64>,
    pub(super) lifetime_median: Option<f64>,
    /// From order to order, within the six months of the grade.
    pub(super) recent_orders_mean: Option<f64>,
    pub(super) recent_mean: Option<f64>,
    pub(super) recent_median: Option<f64>,
}

/// Customers of the first weeks whose purchases are alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Buyers {
    /// Days with purchases after the first.
    pub(super) repeats: i64,
    /// Days from the first to the last of these.
    pub(super) last: i64,
    /// Days from the first to the end of the time of observation.
    pub(super) observed: i64,
    pub(super) customers: i64,
    /// How many of them came back after it.
    pub(super) came_back: i64,
}

/// A snapshot of the store, with the temporary tables of the placed orders.
pub(super) fn snapshot(client: &mut Client) -> Result<Transaction<'_>> {
    // Temporary tables are no harm, where a login may only read, too.
    let mut tx = client.build_transaction().read_only(false).start()?;
    tx.batch_execute(statement(QUERIES, "tables")).context(
        "making temporary tables for the scorecard, for which it takes `GRANT TEMPORARY` on the \
                 database",
    )?;
    tx.commit()?;
    let mut tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .context("taking a snapshot of the database")?;
    // Hardly two orders have the same lines, so remembering what came of them only costs.
    tx.batch_execute(&format!(
        "SET LOCAL work_mem = '{WORK_MEM}'; SET LOCAL jit = off; SET LOCAL enable_memoize = off"
    ))
    .context("giving the scorecard memory")?;
    tx.batch_execute(statement(QUERIES, "fill")).context("reading the placed orders")?;
    Ok(tx)
}

impl Market {
    /// Reads all of it from a snapshot.
    pub(super) fn read(tx: &mut Transaction<'_>) -> Result<Market> {
        let mut market = Market {
            days: pairs(tx, "days")?,
            buyers: pairs(tx, "buyers")?,
            gaps: pairs(tx, "gaps")?,
            repeats: one(tx, QUERIES, "repeats")?,
            amounts: one(tx, QUERIES, "amounts")?,
            amount_bins: pairs(tx, "amount_bins")?,
            baskets: pairs(tx, "baskets")?,
            ..Market::default()
        };
        for row in rows(tx, QUERIES, "popularity")? {
            market.popularity.push(row.try_get(0)?);
        }
        [market.reorders] = one(tx, QUERIES, "reorders")?;
        for row in rows(tx, QUERIES, "hours")? {
            market.hours.push(Hour {
                age_band: row.try_get(0)?,
                sex: row.try_get(1)?,
                hour: row.try_get(2)?,
                orders: row.try_get(3)?,
            });
        }
        let [lifetime_mean, lifetime_median, recent_orders_mean, recent_mean, recent_median] =
            one(tx, QUERIES, "vips")?;
        market.vips =
            Vips { lifetime_mean, lifetime_median, recent_orders_mean, recent_mean, recent_median };
        market.first_sales = one(tx, QUERIES, "first_sales")?;
        for row in rows(tx, QUERIES, "cohort")? {
            market.cohort.push(Buyers {
                repeats: row.try_get(0)?,
                last: row.try_get(1)?,
                observed: row.try_get(2)?,
                customers: row.try_get(3)?,
                came_back: row.try_get(4)?,
            });
        }
        [market.ever_bought] = one(tx, QUERIES, "sign_ups")?;
        for row in rows(tx, QUERIES, "retention")? {
            market.retention.push(Retained {
                first: row.try_get(0)?,
                since: row.try_get(1)?,
                customers: row.try_get(2)?,
            });
        }
        market.most_frequent = one(tx, QUERIES, "most_frequent")?;
        [market.catalogue] = one(tx, QUERIES, "catalogue")?;
        Ok(market)
    }

    /// Number of placed orders.
    pub(super) fn orders(&self) -> i64 {
        self.days.iter().map(|(_day, orders)| orders).sum()
    }

    /// The days without the first and the last, of which there may be a part only.
    pub(super) fn whole_days(&self) -> &[(Day, i64)] {
        self.days.get(1..self.days.len().saturating_sub(1)).unwrap_or_default()
    }

    /// Orders in each hour of the day, of those whom a condition holds for.
    pub(super) fn by_hour(&self, of: impl Fn(&Hour) -> bool) -> [f64; 24] {
        let mut by_hour = [0.0; 24];
        for hour in self.hours.iter().filter(|hour| of(hour)) {
            by_hour[hour.hour as usize] += hour.orders as f64;
        }
        by_hour
    }
}

/// The statement, or the statements, of a name in a file of them.
pub(super) fn statement(queries: &'static str, name: &str) -> &'static str {
    queries
        .split("\n-- name: ")
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('\n'))
        .expect("the file has the statements that are read")
}

pub(super) fn rows(
    tx: &mut Transaction<'_>,
    queries: &'static str,
    name: &str,
) -> Result<Vec<Row>> {
    tx.query(statement(queries, name), &[])
        .with_context(|| format!("reading {name} for the scorecard"))
}

fn pairs<A, B>(tx: &mut Transaction<'_>, name: &str) -> Result<Vec<(A, B)>>
where
    A: for<'a> FromSql<'a>,
    B: for<'a> FromSql<'a>,
{
    rows(tx, QUERIES, name)?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The one row, of numbers that may be missing.
pub(super) fn one<const N: usize>(
    tx: &mut Transaction<'_>,
    queries: &'static str,
    name: &str,
) -> Result<[Option<f64>; N]> {
    let mut numbers = [None; N];
    if let Some(row) = rows(tx, queries, name)?.first() {
        for (place, number) in numbers.iter_mut().enumerate() {
            *number = row.try_get(place)?;
        }
    }
    Ok(numbers)
}
