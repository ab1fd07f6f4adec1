//! What is bought in each month of the year, by category, over all years.
//!
//! Work: a placed order changes one row for each category in it. State: one sum a row.

use super::{Inputs, Table};
use crate::model::time::month_of_year;
use crate::operators::{regrouped, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = regrouped(inputs.by_category.clone(), |(day, category), sums| {
        ((month_of_year(day), category), sums.placed())
    });

    totals(sums, "season_pattern").map(move |((month, category), sums)| {
        table.row(&[Cell::Int(month), Cell::Text(&category)], &[Cell::Int(sums.revenue.0)])
    })
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
