//! The grade of every known customer, since when, and the six months' totals behind it.
//!
//! Work: a row for each event that comes or expires. State: that of the grade's fold.

use super::Table;
use crate::passes::{Customer, Facts, Part};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    const ROW: Facts = Facts::STANDING;
    type State = ();

    fn row(who: &Customer, (): &(), table: Table) -> Option<Row> {
        let (signed_up_at, standing) = (who.record()?.user.signed_up_at, who.standing());
        Some(table.row(
            &[Cell::Int(who.user_id.0)],
            &[
                Cell::Text(standing.grade.word()),
                Cell::Instant(standing.since.unwrap_or(signed_up_at)),
                Cell::Int(standing.amount.0),
                Cell::Int(standing.orders),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_late_refund_costs_the_grade_and_not_the_order() {
        told(
            "
            01-05 08:30  customer 1 is 하나 F 1996-02-29
            02-01 10:00  customer 1 places 1 to 5: book 2x50_000
            02-01 10:00  now
            customer_grade: user_id | grade | since | amount_6m | orders_6m
            | 1 | SILVER | 02-01 10:00 | 500000 | 5

            02-03 10:00  customer 1 refunds 5: book 1
            08-01 09:59  now
            customer_grade:
            | 1 | BRONZE | 02-03 10:00 | 499999 | 5
            # What is taken back six months after the order, or later, never counts.
            08-01 10:00  customer 1 cancels 4
            08-01 10:00  now
            customer_grade:
            | 1 | BRONZE | 02-03 10:00 | 0 | 0
            ",
        );
    }

    #[test]
    fn a_customer_has_a_grade_as_soon_as_their_record_is_known() {
        told(
            "
            02-01 10:00  customer 1 places 1 to 5: book 100_000
            02-02 10:00  customer 2 cancels 9 of 02-01 10:00: book 70_000
            02-03 10:00  now
            customer_grade:

            01-05 08:30  customer 1 is 하나 F 1996-02-29
            01-06 08:30  customer 2 is 두리 M 1990-01-01
            customer_grade:
            | 1 | SILVER | 02-01 10:00 | 500000 | 5
            | 2 | BRONZE | 01-06 08:30 | -70000 | -1
            # Without a change they have it since their sign-up, of which the newest record tells.
            01-09 00:00  customer 2 is 두리 M 1990-01-01 since 01-08 00:00
            01-07 00:00  customer 2 is 두리 M 1990-01-01 since 01-02 00:00
            customer_grade:
            | 1 | SILVER | 02-01 10:00 | 500000 | 5
            | 2 | BRONZE | 01-08 00:00 | -70000 | -1
            ",
        );
    }

    #[test]
    fn six_months_are_those_of_the_calendar_in_seoul() {
        told(
            "
            2025-08-01 00:00  customer 1 is 하나 F 1996-02-29
            2025-08-31 00:30  customer 1 places 1: book 500
            02-28 00:20       now
            customer_grade:
            | 1 | BRONZE | 2025-08-01 00:00 | 500 | 1

            02-28 00:30  now
            customer_grade:
            | 1 | BRONZE | 2025-08-01 00:00 | 0 | 0
            ",
        );
    }
}
