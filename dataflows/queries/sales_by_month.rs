//! Orders, net revenue and buyers of each month; what is taken back counts in the month it comes.
//!
//! Work: an event changes one row. State: one sum a month, and one count a buyer and month, for ever.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::model::time::{day_of, month_of};
use crate::operators::{Sums, distinct, sums_by, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.orders.clone().filter(|order| order.kind == OrderKind::Placed);
    let buyers = distinct(
        placed.map(|order| (month_of(day_of(order.at)), order.user_id)),
        "buyers by month",
    )
    .explode(|(month, _user_id)| Some((month, Sums { buyers: 1, ..Sums::default() })));

    let events = sums_by(inputs.orders.clone(), "sums by month", |order, add| {
        let month = month_of(day_of(order.at));
        add(month, Sums::of(order.kind, order.units(), order.amount()));
    });

    totals(events.concat(buyers), "sales_by_month").map(move |(month, sums)| {
        table.row(
            &[Cell::Date(month)],
            &[
                Cell::Int(sums.orders),
                Cell::Int(sums.revenue - sums.refunded),
                Cell::Int(sums.buyers),
            ],
        )
    })
}
