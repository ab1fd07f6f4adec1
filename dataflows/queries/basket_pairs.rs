//! In how many placed orders two categories lie together.
//!
//! Work: a placed order changes one row for each pair of its categories. State: one sum a pair.

use super::Table;
use crate::model::OrderKind;
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Part, orders};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    type State = ();

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            let categories = event.categories();
            for (place, a) in categories.iter().enumerate() {
                for b in &categories[place + 1..] {
                    out.add((*a, *b), orders(1), d);
                }
            }
        }
    }

    fn bucket_row(pair: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        let key = [Cell::Text(pair.word(0)), Cell::Text(pair.word(1))];
        Some(table.row(&key, &[Cell::Int(sums.orders)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_pair_counts_once_a_basket_with_the_lesser_word_first() {
        told(
            "
            11-27 14:00  customer 1 places 1: food 900, book:1 500, book:2 50, toys 10
            11-27 14:01  customer 2 places 1: book 500, book:2 50
            basket_pairs: category_a | category_b | orders
            | book | food | 1
            | book | toys | 1
            | food | toys | 1

            11-27 14:02  customer 2 places 2: book 500, food 900
            basket_pairs:
            | book | food | 2
            | book | toys | 1
            | food | toys | 1
            ",
        );
    }

    #[test]
    fn a_cancelled_basket_was_a_basket() {
        told(
            "
            11-27 14:00  customer 1 places 1: food 900, book 500
            11-27 15:00  customer 1 cancels 1
            basket_pairs:
            | book | food | 1
            ",
        );
    }
}
