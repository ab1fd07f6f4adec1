//! How many known customers have each grade; four rows, always.
//!
//! Work: two rows a change of grade. State: four counts.

use super::Table;
use crate::operators::{Grade, Sums};
use crate::passes::{Bucket, Contributions, Customer, Facts, Part, buyers, row};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    const READS: Facts = Facts::GRADE;
    type State = ();

    fn always(out: &mut Contributions) {
        for grade in Grade::ALL {
            out.add(grade, row(), 1);
        }
    }

    fn known(who: &Customer, d: i64, out: &mut Contributions) {
        out.add(who.grade(), buyers(1), d);
    }

    fn bucket_row(grade: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        let word = Grade::ALL[grade.a as usize].word();
        Some(table.row(&[Cell::Text(word)], &[Cell::Int(sums.buyers)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn four_rows_always_and_each_customer_in_one_of_them() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            02-01 10:00  customer 9 places 1 to 5: book 100_000
            02-01 12:00  now
            grade_distribution: grade | customers
            | BRONZE | 1
            | SILVER | 0
            | GOLD | 0
            | VIP | 0
            # Customer 9 has a record now, and customer 1 enough for GOLD.
            01-06 00:00  customer 9 is 구름 M 1990-01-01
            02-01 11:00  customer 1 places 1 to 15: book 200_000
            grade_distribution:
            | BRONZE | 0
            | SILVER | 1
            | GOLD | 1
            | VIP | 0

            08-01 10:00  now
            grade_distribution:
            | BRONZE | 1
            | SILVER | 0
            | GOLD | 1
            | VIP | 0
            ",
        );
    }

    #[test]
    fn a_new_record_of_a_customer_is_no_new_customer() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            01-09 00:00  customer 1 is 둘째 F 1996-02-29
            grade_distribution:
            | BRONZE | 1
            | SILVER | 0
            | GOLD | 0
            | VIP | 0
            ",
        );
    }
}
