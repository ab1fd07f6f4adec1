//! Orders and revenue of each hour of each day: when the shop is busy.
//!
//! Work: a minute with a placed order changes one row. State: one sum an hour.

use super::{Inputs, Table};
use crate::model::time::{day_of, hour_of};
use crate::operators::{regrouped, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = regrouped(inputs.by_minute.clone(), |minute, sums| {
        ((day_of(minute), hour_of(minute)), sums.placed())
    });

    totals(sums, "orders_by_hour").map(move |((day, hour), sums)| {
        table.row(
            &[Cell::Date(day), Cell::Int(hour)],
            &[Cell::Int(sums.orders), Cell::Int(sums.revenue.0)],
        )
    })
}
