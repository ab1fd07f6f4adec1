//! Orders, net revenue and buyers of each month; what is taken back counts in the month it comes.
//!
//! Work: an event changes one row. State: one sum a month.

use super::Table;
use crate::model::time::{day_of, month_of};
use crate::model::{Day, Millis};
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Part, buyers};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        out.add(month(event.at), Sums::of(event.event, event.units(), event.amount()), d);
    }

    fn placed(_: &Customer, before: Option<Millis>, at: Millis, d: i64, out: &mut Contributions) {
        if before.map(month) != Some(month(at)) {
            out.add(month(at), buyers(1), d);
        }
    }

    fn bucket_row(month: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        Some(table.row(
            &[Cell::Date(month.day())],
            &[
                Cell::Int(sums.orders),
                Cell::Int((sums.revenue - sums.refunded).0),
                Cell::Int(sums.buyers),
            ],
        ))
    }
}

fn month(at: Millis) -> Day {
    month_of(day_of(at))
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_refund_lowers_the_month_in_which_it_comes() {
        told(
            "
            11-30 23:59:59.999  customer 1 places 7: book 500
            12-01 00:00         customer 1 places 8: book 300
            sales_by_month: month | orders | revenue | buyers
            | 11-01 | 1 | 500 | 1
            | 12-01 | 1 | 300 | 1

            2027-01-05 10:00  customer 1 refunds 7: book 200
            2027-01-06 10:00  customer 1 cancels 8
            sales_by_month:
            | 11-01 | 1 | 500 | 1
            | 12-01 | 1 | 300 | 1
            | 2027-01-01 | 0 | -500 | 0
            ",
        );
    }

    #[test]
    fn who_buys_twice_in_a_month_is_one_buyer_of_it() {
        told(
            "
            11-02 10:00  customer 1 places 1 to 2: book 500
            11-20 10:00  customer 2 places 1: book 500
            11-21 10:00  customer 2 cancels 1
            sales_by_month:
            | 11-01 | 3 | 1000 | 2
            ",
        );
    }
}
