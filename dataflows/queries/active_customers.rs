//! How many different customers placed an order within the last 5 minutes, hour, 24 hours and 30
//! days up to now; four rows, always.
//!
//! Work: a customer is looked at when they order, and when their last order leaves a span. State: one
//! byte a customer.

use super::Table;
use crate::model::Millis;
use crate::model::time::{DAY, HOUR, MINUTE};
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Part, buyers, row};
use crate::row::{Cell, Row};

/// The longest first: who is in a span is in all before it.
const SPANS: [Millis; 4] = [30 * DAY, DAY, HOUR, 5 * MINUTE];
const WORDS: [&str; 4] = ["30 d", "24 h", "1 h", "5 min"];

pub(super) struct Query;

impl Part for Query {
    /// In how many of the spans the customer is.
    type State = u8;

    fn always(out: &mut Contributions) {
        (0..SPANS.len()).for_each(|span| out.add(span, row(), 1));
    }

    fn at(who: &Customer, within: &mut u8, now: Millis, out: &mut Contributions) -> Millis {
        let (last, next) = who.placed_around(now);
        let leaves = SPANS.map(|span| last.map_or(Millis::MIN, |last| last + span));
        let before = usize::from(*within);
        let after = leaves.iter().take_while(|leaves| **leaves > now).count();
        (before..after).for_each(|span| out.add(span, buyers(1), 1));
        (after..before).for_each(|span| out.add(span, buyers(1), -1));
        *within = after as u8;
        let leaves = leaves[..after].last().copied().unwrap_or(Millis::MAX);
        leaves.min(next.unwrap_or(Millis::MAX))
    }

    fn bucket_row(span: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        Some(table.row(&[Cell::Text(WORDS[span.a as usize])], &[Cell::Int(sums.buyers)]))
    }
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
