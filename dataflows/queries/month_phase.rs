//! Orders and days of each phase of each month: do people buy more when they have been paid?
//!
//! Work: a minute with a placed order changes the sum of its day, and that one row. State: one sum a day.

use chrono::Datelike;

use super::{Inputs, Table};
use crate::model::Day;
use crate::model::time::{date_of, day_of, month_of};
use crate::operators::{Sums, regrouped, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let by_day = regrouped(inputs.by_minute.clone(), |minute, sums| {
        (day_of(minute), Sums { orders: sums.orders, ..Sums::default() })
    });
    let by_phase = totals(by_day, "orders by day").explode(|(day, sums)| {
        let (days, orders) = (1, sums.orders as isize);
        Some(((month_of(day), phase_of(day)), (days, orders)))
    });

    totals(by_phase, "month_phase").map(
        move |((month, phase), (days, orders)): (_, (isize, isize))| {
            table.row(
                &[Cell::Date(month), Cell::Text(PHASES[phase])],
                &[Cell::Int(days as i64), Cell::Int(orders as i64)],
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
