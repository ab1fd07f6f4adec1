//! Minutes in which orders are missing: the ten minutes up to there had at most half of what the
//! same hours of the four weeks before let expect, by more than chance would have it.
//!
//! Work: a minute is judged once when it is over, and again when a late order touches it. State:
//! that of the operator `alerts`: one count a minute of each hour with orders, for ever.

use super::{Inputs, Table};
use crate::operators::alerts;
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.by_minute.clone();

    alerts(placed, inputs.now.clone()).map(move |alert| {
        table.row(
            &[Cell::Instant(alert.minute)],
            &[
                Cell::Int(alert.orders),
                Cell::Int(alert.orders_before),
                Cell::Text(alert.severity()),
            ],
        )
    })
}
