//! In how many placed orders two categories lie together.
//!
//! Work: a placed order changes one row for each pair of its categories. State: one sum a pair.

use super::{Inputs, Table};
use crate::model::{OrderKind, Word};
use crate::operators::{Sums, sums_by, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = sums_by(inputs.orders.clone(), "sums by pair", |order, add| {
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
