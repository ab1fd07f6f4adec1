//! Orders and revenue of each hour of each day: when the shop is busy.
//!
//! Work: a placed order changes one row. State: one sum an hour.

use super::Table;
use crate::model::OrderKind;
use crate::model::time::{day_of, hour_of};
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Part};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            let sums = Sums::of(event.event, event.units(), event.amount());
            out.add((day_of(event.at), hour_of(event.at)), sums, d);
        }
    }

    fn bucket_row(hour: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        Some(table.row(
            &[Cell::Date(hour.day()), Cell::Int(hour.b)],
            &[Cell::Int(sums.orders), Cell::Int(sums.revenue.0)],
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn hours_and_days_are_those_of_seoul_to_the_millisecond() {
        told(
            "
            11-27 23:00         customer 1 places 1: book 500
            11-27 23:59:59.999  customer 2 places 2: book 2x500
            11-28 00:00         customer 1 places 3: book 700
            orders_by_hour: day | hour | orders | revenue
            | 11-27 | 23 | 2 | 1500
            | 11-28 | 0 | 1 | 700
            ",
        );
    }

    #[test]
    fn what_is_taken_back_takes_no_order_from_its_hour_and_makes_no_row() {
        told(
            "
            11-27 14:00  customer 1 places 7: book 500
            11-27 20:00  customer 1 refunds 7: book 100
            11-27 21:00  customer 1 cancels 7
            orders_by_hour:
            | 11-27 | 14 | 1 | 500
            # One that comes late is counted where it belongs.
            11-27 14:59  customer 2 places 8: book 300
            orders_by_hour:
            | 11-27 | 14 | 2 | 800
            ",
        );
    }
}
