//! How many different customers placed an order within the last 5 minutes, hour, 24 hours and 30
//! days up to now; four rows, always.
//!
//! Work: an order is counted in and out once a span; in history, which `now` lives through in
//! great steps, seldom for the short ones. State: the orders of 30 days, and one count a customer
//! and span.

use super::{Inputs, Table};
use crate::model::time::{DAY, HOUR, MINUTE};
use crate::model::{Millis, OrderKind};
use crate::operators::{distinct, totals, within};
use crate::row::{Cell, Rows};

const SPANS: [Millis; 4] = [5 * MINUTE, HOUR, DAY, 30 * DAY];
const WORDS: [&str; 4] = ["5 min", "1 h", "24 h", "30 d"];

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let rows = inputs.always.clone().flat_map(|()| 0..SPANS.len());
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let placed = placed.map(|order| (order.user_id, order.at));
    let within = within(placed, &SPANS, inputs.now.clone(), "placed within spans");
    let buyers = distinct(within, "buyers within spans");

    // The row counts in a place of its own, so that a span without buyers has one.
    let rows_and_buyers = rows
        .explode(|span| Some((span, (1, 0))))
        .concat(buyers.explode(|(span, _user_id)| Some((span, (0, 1)))));

    totals(rows_and_buyers, "active_customers").map(
        move |(span, (_row, buyers)): (_, (_, isize))| {
            table.row(&[Cell::Text(WORDS[span])], &[Cell::Int(buyers as i64)])
        },
    )
}
