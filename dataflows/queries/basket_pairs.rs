//! In how many placed orders two categories lie together.
//!
//! Work: a placed order changes one row for each pair of its categories. State: one sum a pair.

use super::{Inputs, Table};
use crate::model::{OrderKind, Word};
use crate::operators::{Sums, preaggregate, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = preaggregate(inputs.orders.clone(), "sums by pair", |order, add| {
        if order.event == OrderKind::Placed {
            let words = order.categories();
            for (place, a) in words.iter().enumerate() {
                for b in &words[place + 1..] {
                    add((Word::clone(a), Word::clone(b)), Sums { orders: 1, ..Sums::default() });
                }
            }
        }
    });

    totals(sums, "basket_pairs").map(move |((a, b), sums)| {
        table.row(&[Cell::Text(&a), Cell::Text(&b)], &[Cell::Int(sums.orders)])
    })
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
