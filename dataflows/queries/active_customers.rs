//! How many different customers placed an order within the last 5 minutes, hour, 24 hours and 30
//! days up to now; four rows, always.
//!
//! Work: an order is counted in and out once a span; in history, which `now` lives through in
//! great steps, seldom for the short ones. State: the orders of 30 days, and one count a customer
//! and span.

use super::{Inputs, Table};
use crate::model::time::{DAY, HOUR, MINUTE};
use crate::model::{Millis, OrderKind};
use crate::operators::{distinct, sliding_windows, totals};
use crate::row::{Cell, Rows};

const SPANS: [Millis; 4] = [5 * MINUTE, HOUR, DAY, 30 * DAY];
const WORDS: [&str; 4] = ["5 min", "1 h", "24 h", "30 d"];

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let rows = inputs.always.clone().flat_map(|()| 0..SPANS.len());
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let placed = placed.map(|order| (order.user_id, order.at));
    let within = sliding_windows(placed, &SPANS, inputs.now.clone(), "placed within spans");
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

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_span_begins_behind_its_first_instant_and_ends_with_now() {
        told(
            "
            10-28 12:00         customer 6 places 1: book 500
            11-27 11:59         customer 6 cancels 1
            11-26 12:00         customer 1 places 1: book 500
            11-27 11:00:00.001  customer 2 places 1: book 500
            11-27 11:55:00.001  customer 3 places 1 to 2: book 500
            11-27 12:00         customer 4 places 1: book 500
            11-27 12:00:00.001  customer 5 places 1: book 500
            11-27 12:00         now
            active_customers: span | buyers
            | 5 min | 2
            | 1 h | 3
            | 24 h | 3
            | 30 d | 4

            11-27 12:05  now
            active_customers:
            | 5 min | 1
            | 1 h | 3
            | 24 h | 4
            | 30 d | 5
            ",
        );
    }

    #[test]
    fn four_rows_always_and_a_late_buyer_counts_where_they_belong() {
        told(
            "
            11-27 12:00  customer 1 places 1: book 500
            active_customers:
            | 5 min | 0
            | 1 h | 0
            | 24 h | 0
            | 30 d | 0

            11-27 12:00  now
            active_customers:
            | 5 min | 1
            | 1 h | 1
            | 24 h | 1
            | 30 d | 1
            # Cancelled is placed all the same; the same customer is no second one.
            11-27 11:30  customer 1 places 2: book 500
            11-27 11:30  customer 2 places 1: book 500
            11-27 11:58  customer 1 cancels 1
            active_customers:
            | 5 min | 1
            | 1 h | 2
            | 24 h | 2
            | 30 d | 2
            ",
        );
    }
}
