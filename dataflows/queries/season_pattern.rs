//! What is bought in each month of the year, by category, over all years.
//!
//! Work: a placed order changes one row for each category in it. State: one sum a row.

use super::Table;
use crate::model::OrderKind;
use crate::model::time::{day_of, month_of_year};
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Part};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            let month = month_of_year(day_of(event.at));
            for (category, sums) in event.by_category() {
                out.add((month, category), sums, d);
            }
        }
    }

    fn bucket_row(cell: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        let key = [Cell::Int(cell.a), Cell::Text(cell.word(0))];
        Some(table.row(&key, &[Cell::Int(sums.revenue.0)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn the_novembers_of_all_years_are_one_row() {
        told(
            "
            2025-11-30 23:59:59.999  customer 1 places 1: book 500, food 900, book 50
            2025-12-01 00:00         customer 1 places 2: book 7
            season_pattern: month_of_year | category | revenue
            | 11 | book | 550
            | 11 | food | 900
            | 12 | book | 7

            11-01 00:00  customer 1 places 3: book 1000
            season_pattern:
            | 11 | book | 1550
            | 11 | food | 900
            | 12 | book | 7
            ",
        );
    }

    #[test]
    fn what_is_taken_back_stays_in_the_pattern() {
        told(
            "
            11-02 10:00  customer 1 places 7: book 500
            11-30 10:00  customer 1 refunds 7: book 100
            12-01 10:00  customer 1 cancels 7
            season_pattern:
            | 11 | book | 500
            ",
        );
    }
}
