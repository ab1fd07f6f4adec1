//! Of the customers who signed up in one month: how many there are, how many of them placed an order
//! in each month since, and their net revenue of it; a row for each month up to that of now.
//!
//! Work: an event changes one row; a sign-up, the rows of its cohort; a new month, one row a cohort.
//! State: two sums a cohort and month.

use super::{Inputs, Table};
use crate::keeper::Keeper;
use crate::model::time::{day_of, month_of, months_between};
use crate::model::{Day, Krw, Millis};
use crate::operators::{changed, month_of_now, totals};
use crate::passes::{
    Bucket, Build, Contributed, Contributions, Customer, Entry, Facts, Part, Rows, buyers, revenue,
};
use crate::row::Cell;

pub(super) struct Query;

/// In the place of the months since, of the buckets that count customers.
const CUSTOMERS: i64 = i64::MIN;

impl Part for Query {
    const READS: Facts = Facts::RECORD;
    const ROWS: Option<Build> = Some(rows);
    type State = ();

    fn known(who: &Customer, d: i64, out: &mut Contributions) {
        out.add((cohort(who), CUSTOMERS), buyers(1), d);
    }

    fn event(who: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        out.add(since(who, event.at), revenue(event.amount() * event.event.sign()), d);
    }

    fn placed(who: &Customer, before: Option<Millis>, at: Millis, d: i64, out: &mut Contributions) {
        if before.map(month) != Some(month(at)) {
            out.add(since(who, at), buyers(1), d);
        }
    }
}

fn month(at: Millis) -> Day {
    month_of(day_of(at))
}

/// The month in which a customer signed up.
fn cohort(who: &Customer) -> Day {
    month(who.known().user.signed_up_at)
}

/// That month, and how many months after it an instant lies.
fn since(who: &Customer, at: Millis) -> (Day, i64) {
    (cohort(who), months_between(cohort(who), month(at)))
}

fn rows<'s>(inputs: &Inputs<'s>, contributed: Contributed<'s>, table: Table) -> Rows<'s> {
    let sums = contributed.sums;
    let is_cohort = |bucket: &Bucket| bucket.b == CUSTOMERS;
    let cohorts =
        totals(sums.clone().filter(is_cohort), "customers by cohort", &inputs.keeper.told());
    let cohorts = cohorts.map(|(cohort, sums)| ((), (cohort.day(), sums.buyers as isize)));
    let month = month_of_now(inputs.now.clone()).map(|month| ((), month));
    let rows = cohorts.join_map(month, |(), (signup, customers), now| (*signup, *customers, *now));
    let rows = rows.explode(|(signup, customers, now): (Day, isize, Day)| {
        (0..=months_between(signup, now)).map(move |since| ((signup, since), (customers, 0, 0)))
    });
    let value = totals(
        sums.filter(move |bucket| !is_cohort(bucket)),
        "value by cohort",
        &inputs.keeper.told(),
    );
    let value = value.explode(|(cell, sums)| {
        let Krw(revenue) = sums.revenue;
        Some(((cell.day(), cell.b), (0, sums.buyers as isize, revenue as isize)))
    });
    let cells = totals(rows.concat(value), "value_by_cohort", &Keeper::default())
        // What lies before the sign-up or beyond the month of now has no customers.
        .filter(|(_cell, (customers, _active, _revenue))| *customers > 0);

    changed(cells, move |(signup, since), (customers, active, revenue)| {
        table.row(
            &[Cell::Date(*signup), Cell::Int(*since)],
            &[Cell::Int(*customers as i64), Cell::Int(*active as i64), Cell::Int(*revenue as i64)],
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_cohort_has_a_row_for_each_month_up_to_that_of_now() {
        told(
            "
            09-30 23:59:59.999  customer 1 is 하나 F 1996-02-29
            09-01 00:00         customer 2 is 두리 M 1990-01-01
            10-01 00:00         customer 3 is 세리 F 1990-01-01
            08-31 23:00         customer 1 places 1: book 1
            09-30 23:59:59.999  customer 1 places 2: book 500
            11-01 00:00         customer 1 places 3 to 4: book 2x150
            11-30 23:59:59.999  now
            value_by_cohort: signup_month | months_since | customers | active | revenue
            | 09-01 | 0 | 2 | 1 | 500
            | 09-01 | 1 | 2 | 0 | 0
            | 09-01 | 2 | 2 | 1 | 600
            | 10-01 | 0 | 1 | 0 | 0
            | 10-01 | 1 | 1 | 0 | 0
            # What is taken back counts in its own month, without a buyer there.
            12-01 00:00  customer 1 refunds 2: book 200
            12-01 00:00  now
            value_by_cohort:
            | 09-01 | 0 | 2 | 1 | 500
            | 09-01 | 1 | 2 | 0 | 0
            | 09-01 | 2 | 2 | 1 | 600
            | 09-01 | 3 | 2 | 0 | -200
            | 10-01 | 0 | 1 | 0 | 0
            | 10-01 | 1 | 1 | 0 | 0
            | 10-01 | 2 | 1 | 0 | 0
            ",
        );
    }

    #[test]
    fn a_corrected_sign_up_takes_its_orders_to_another_cohort() {
        told(
            "
            2025-12-10 10:00  customer 1 is 하나 F 1996-02-29
            01-15 10:00       customer 1 places 1: book 500
            01-31 10:00       now
            value_by_cohort:
            | 2025-12-01 | 0 | 1 | 0 | 0
            | 2025-12-01 | 1 | 1 | 1 | 500

            01-20 10:00  customer 1 is 하나 F 1996-02-29 since 01-10 10:00
            value_by_cohort:
            | 01-01 | 0 | 1 | 1 | 500
            ",
        );
    }
}
