//! Orders and days of each phase of each month: do people buy more when they have been paid?
//!
//! Work: a placed order changes the sum of its day, and that one row. State: one sum a day.

use chrono::Datelike;

use super::{Inputs, Table};
use crate::model::time::{date_of, day_of, month_of};
use crate::model::{Day, OrderKind};
use crate::operators::{changed, totals};
use crate::passes::{Build, Contributed, Contributions, Customer, Entry, Part, Rows, orders};
use crate::row::Cell;

pub(super) struct Query;

impl Part for Query {
    type State = ();
    const ROWS: Option<Build> = Some(rows);

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            out.add(day_of(event.at), orders(1), d);
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, orders: Contributed<'s>, table: Table) -> Rows<'s> {
    let by_phase = totals(orders.sums, "orders by day", &inputs.keeper).explode(|(day, sums)| {
        let (day, days, orders) = (day.day(), 1, sums.orders as isize);
        Some(((month_of(day), phase_of(day)), (days, orders)))
    });

    changed(
        totals(by_phase, "month_phase", &inputs.keeper),
        move |(month, phase), (days, orders): &(isize, isize)| {
            table.row(
                &[Cell::Date(*month), Cell::Text(PHASES[*phase])],
                &[Cell::Int(*days as i64), Cell::Int(*orders as i64)],
            )
        },
    )
}

/// Salaries come on the 10th or the 25th, or at the month's end.
const PHASES: [&str; 5] = ["start", "10-12", "25-27", "end", "middle"];

/// The place in [`PHASES`] of a day.
fn phase_of(day: Day) -> usize {
    match date_of(day).day() {
        1..=5 => 0,
        10..=12 => 1,
        25..=27 => 2,
        28.. => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn phases_begin_and_end_at_midnight_in_seoul() {
        told(
            "
            11-05 23:59:59.999  customer 1 places 1: book 500
            11-06 00:00         customer 1 places 2: book 500
            11-10 00:00         customer 1 places 3: book 500
            11-12 23:59:59.999  customer 1 places 4: book 500
            11-13 00:00         customer 1 places 5: book 500
            11-25 00:00         customer 1 places 6: book 500
            11-28 00:00         customer 1 places 7: book 500
            month_phase: month | phase | days | orders
            | 11-01 | start | 1 | 1
            | 11-01 | 10-12 | 2 | 2
            | 11-01 | middle | 2 | 2
            | 11-01 | 25-27 | 1 | 1
            | 11-01 | end | 1 | 1
            ",
        );
    }

    #[test]
    fn a_day_counts_once_however_many_orders_it_has() {
        told(
            "
            11-01 10:00  customer 1 places 1 to 4: book 500
            11-01 15:00  customer 1 places 5: book 500
            11-02 10:00  customer 1 cancels 1
            month_phase:
            | 11-01 | start | 1 | 5
            # The first order of another day comes late.
            11-03 10:00  customer 2 places 1: book 500
            month_phase:
            | 11-01 | start | 2 | 6
            ",
        );
    }
}
