//! Orders, pieces, revenue, cancellations, money given back and buyers of each minute.
//!
//! Work: an event changes one row. State: one sum a minute.

use super::Table;
use crate::model::Millis;
use crate::model::time::minute_of;
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Part, buyers};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        out.add(minute_of(event.at), Sums::of(event.event, event.units(), event.amount()), d);
    }

    fn placed(_: &Customer, before: Option<Millis>, at: Millis, d: i64, out: &mut Contributions) {
        if before.map(minute_of) != Some(minute_of(at)) {
            out.add(minute_of(at), buyers(1), d);
        }
    }

    fn bucket_row(minute: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        Some(table.row(
            &[Cell::Instant(minute.a)],
            &[
                Cell::Int(sums.orders),
                Cell::Int(sums.units),
                Cell::Int(sums.revenue.0),
                Cell::Int(sums.cancelled),
                Cell::Int(sums.refunded.0),
                Cell::Int(sums.buyers),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_cancellation_stands_in_a_minute_of_its_own_and_takes_no_order_away() {
        told(
            "
            11-27 14:00:05      customer 1 places 7: book 2x500, food 900
            11-27 14:00:59.999  customer 1 places 8: food 900
            11-27 14:01         customer 2 places 9: book 500
            orders_by_minute: minute | orders | units | gross_revenue | cancelled_orders | refunded_revenue | buyers
            | 11-27 14:00 | 2 | 4 | 2800 | 0 | 0 | 1
            | 11-27 14:01 | 1 | 1 | 500 | 0 | 0 | 1

            11-28 09:30:10  customer 1 cancels 7
            11-28 09:30:20  customer 2 refunds 9: book 200
            orders_by_minute:
            | 11-27 14:00 | 2 | 4 | 2800 | 0 | 0 | 1
            | 11-27 14:01 | 1 | 1 | 500 | 0 | 0 | 1
            | 11-28 09:30 | 0 | 0 | 0 | 1 | 2100 | 0
            ",
        );
    }

    #[test]
    fn an_order_told_twice_moves_to_the_earlier_minute() {
        told(
            "
            11-27 14:05  customer 1 places 7: book 500
            orders_by_minute:
            | 11-27 14:05 | 1 | 1 | 500 | 0 | 0 | 1

            11-27 14:03  customer 1 places 7: book 300
            orders_by_minute:
            | 11-27 14:03 | 1 | 1 | 300 | 0 | 0 | 1
            ",
        );
    }
}
