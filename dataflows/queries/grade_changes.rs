//! Each change of a known customer's grade, and the tick at which it happened.
//!
//! Work: a row a change. State: the changes.

use super::Table;
use crate::operators::{Change, Grade, Sums};
use crate::passes::{Bucket, Contributions, Customer, Part};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn graded(who: &Customer, change: &Change, d: i64, out: &mut Contributions) {
        let (orders, units) = (change.from as i64, change.to as i64);
        out.add((who.user_id, change.at), Sums { events: 1, orders, units, ..Sums::default() }, d);
    }

    fn bucket_row(change: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        let word = |grade: i64| Cell::Text(Grade::ALL[grade as usize].word());
        Some(table.row(
            &[Cell::Int(change.a), Cell::Instant(change.b)],
            &[word(sums.orders), word(sums.units)],
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn up_at_the_next_tick_and_down_one_level_a_tick() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            02-01 10:05  customer 1 places 1 to 30: book 200_000
            02-01 10:09  now
            grade_changes: user_id | tick | from_grade | to_grade

            02-01 10:10  now
            grade_changes:
            | 1 | 02-01 10:10 | BRONZE | VIP
            # Six months after the orders all of them are gone at once.
            08-01 10:20  now
            grade_changes:
            | 1 | 02-01 10:10 | BRONZE | VIP
            | 1 | 08-01 10:10 | VIP | GOLD
            | 1 | 08-01 10:20 | GOLD | SILVER

            08-01 12:00  now
            grade_changes:
            | 1 | 02-01 10:10 | BRONZE | VIP
            | 1 | 08-01 10:10 | VIP | GOLD
            | 1 | 08-01 10:20 | GOLD | SILVER
            | 1 | 08-01 10:30 | SILVER | BRONZE
            ",
        );
    }

    #[test]
    fn six_months_after_31_august_is_the_last_day_of_february() {
        told(
            "
            2023-08-31 10:00  customer 1 is 하나 F 1996-02-29
            2023-08-31 10:00  customer 1 places 1 to 5: book 2x50_000
            2024-08-31 10:00  customer 1 places 6 to 10: book 2x50_000
            # What was bought before does not help any more.
            2025-09-15 10:00  customer 1 places 11 to 15: book 99_999
            03-01 00:00       now
            grade_changes:
            | 1 | 2023-08-31 10:00 | BRONZE | SILVER
            | 1 | 2024-02-29 10:00 | SILVER | BRONZE
            | 1 | 2024-08-31 10:00 | BRONZE | SILVER
            | 1 | 2025-02-28 10:00 | SILVER | BRONZE
            ",
        );
    }

    #[test]
    fn a_late_order_and_its_cancellation_rewrite_the_grades() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            02-01 10:00  customer 1 places 1 to 4: book 100_000
            02-03 10:00  customer 1 places 5: book 100_000
            02-10 00:00  now
            grade_changes:
            | 1 | 02-03 10:00 | BRONZE | SILVER

            02-02 10:00  customer 1 places 6: book 100_000
            grade_changes:
            | 1 | 02-02 10:00 | BRONZE | SILVER

            02-02 11:05  customer 1 cancels 6
            grade_changes:
            | 1 | 02-02 10:00 | BRONZE | SILVER
            | 1 | 02-02 11:10 | SILVER | BRONZE
            | 1 | 02-03 10:00 | BRONZE | SILVER

            02-05 10:00  customer 1 refunds 5: book 1
            grade_changes:
            | 1 | 02-02 10:00 | BRONZE | SILVER
            | 1 | 02-02 11:10 | SILVER | BRONZE
            | 1 | 02-03 10:00 | BRONZE | SILVER
            | 1 | 02-05 10:00 | SILVER | BRONZE
            ",
        );
    }

    #[test]
    fn the_marks_themselves_are_enough() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            02-01 10:00  customer 1 places 1 to 5: book 100_000
            02-02 10:00  customer 1 places 6 to 15: book 150_000
            02-03 10:00  customer 1 places 16 to 30: book 200_000
            02-10 00:00  now
            grade_changes:
            | 1 | 02-01 10:00 | BRONZE | SILVER
            | 1 | 02-02 10:00 | SILVER | GOLD
            | 1 | 02-03 10:00 | GOLD | VIP
            ",
        );
    }
}
