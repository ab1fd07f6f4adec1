//! Orders and revenue of each hour of each day: when the shop is busy.
//!
//! Work: a placed order changes one row. State: one sum an hour.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::model::time::{day_of, hour_of};
use crate::operators::{Sums, sums_by, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = sums_by(inputs.orders.clone(), "sums by hour", |order, add| {
        if order.kind == OrderKind::Placed {
            let hour = (day_of(order.at), hour_of(order.at));
            add(hour, Sums::of(order.kind, order.units(), order.amount()));
        }
    });

    totals(sums, "orders_by_hour").map(move |((day, hour), sums)| {
        table.row(
            &[Cell::Date(day), Cell::Int(hour)],
            &[Cell::Int(sums.orders), Cell::Int(sums.revenue)],
        )
    })
}
