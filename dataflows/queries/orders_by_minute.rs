//! Orders, pieces, revenue, cancellations, money given back and buyers of each minute.
//!
//! Work: an event changes one row. State: one sum a minute, and one pair a buyer and minute, for ever.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::model::time::minute_of;
use crate::operators::{Sums, distinct, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let buyers =
        distinct(placed.map(|order| (minute_of(order.at), order.user_id)), "buyers by minute")
            .explode(|(minute, _user_id)| Some((minute, Sums { buyers: 1, ..Sums::default() })));

    totals(inputs.by_minute.clone().concat(buyers), "orders_by_minute").map(
        move |(minute, sums)| {
            table.row(
                &[Cell::Instant(minute)],
                &[
                    Cell::Int(sums.orders),
                    Cell::Int(sums.units),
                    Cell::Int(sums.revenue.0),
                    Cell::Int(sums.cancelled),
                    Cell::Int(sums.refunded.0),
                    Cell::Int(sums.buyers),
                ],
            )
        },
    )
}
