//! Orders, net revenue and buyers of each month; what is taken back counts in the month it comes.
//!
//! Work: a minute with an event changes one row. State: one sum a month.

use super::{Inputs, Table};
use crate::model::time::{day_of, month_of};
use crate::operators::{Sums, regrouped, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let events =
        regrouped(inputs.by_minute.clone(), |minute, sums| (month_of(day_of(minute)), sums));
    let buyers = inputs
        .buyers_by_month
        .clone()
        .explode(|(month, _user_id)| Some((month, Sums { buyers: 1, ..Sums::default() })));

    totals(events.concat(buyers), "sales_by_month").map(move |(month, sums)| {
        table.row(
            &[Cell::Date(month)],
            &[
                Cell::Int(sums.orders),
                Cell::Int((sums.revenue - sums.refunded).0),
                Cell::Int(sums.buyers),
            ],
        )
    })
}
