//! Orders, pieces, revenue and money given back of each day and category, by the lines' category.
//!
//! Work: an event changes one row for each category in it. State: one sum a day and category.

use super::Table;
use crate::model::time::day_of;
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Part};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        let day = day_of(event.at);
        for (category, sums) in event.by_category() {
            out.add((day, category), sums, d);
        }
    }

    fn bucket_row(cell: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        Some(table.row(
            &[Cell::Date(cell.day()), Cell::Text(cell.word(0))],
            &[
                Cell::Int(sums.orders),
                Cell::Int(sums.units),
                Cell::Int(sums.revenue.0),
                Cell::Int(sums.refunded.0),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_category_twice_in_a_basket_is_one_order_there() {
        told(
            "
            11-27 14:00  customer 1 places 7: book:1 2x500, food:2 900, book:3 50
            sales_by_category: day | category | orders | units | revenue | refunded
            | 11-27 | book | 1 | 3 | 1050 | 0
            | 11-27 | food | 1 | 1 | 900 | 0
            ",
        );
    }

    #[test]
    fn a_refund_stands_on_its_own_day_in_the_categories_it_names() {
        told(
            "
            11-27 23:59:59.999  customer 1 places 7: book 2x500, food 2x450
            11-28 00:00         customer 1 refunds 7: food 2x450
            sales_by_category:
            | 11-27 | book | 1 | 2 | 1000 | 0
            | 11-27 | food | 1 | 2 | 900 | 0
            | 11-28 | food | 0 | 0 | 0 | 900

            11-29 08:00  customer 2 places 8: book 500
            11-29 09:00  customer 2 cancels 8
            sales_by_category:
            | 11-27 | book | 1 | 2 | 1000 | 0
            | 11-27 | food | 1 | 2 | 900 | 0
            | 11-28 | food | 0 | 0 | 0 | 900
            | 11-29 | book | 1 | 1 | 500 | 500
            ",
        );
    }
}
