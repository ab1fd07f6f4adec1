//! Each change of a known customer's grade, and the tick at which it happened.
//!
//! Work: a row a change. State: none beside the operator `grades`.

use super::{Inputs, Table};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    inputs.grade_changes.clone().map(move |(user_id, change)| {
        table.row(
            &[Cell::Int(user_id.0), Cell::Instant(change.at)],
            &[Cell::Text(change.from.word()), Cell::Text(change.to.word())],
        )
    })
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
