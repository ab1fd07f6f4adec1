//! Orders, pieces, revenue and money given back of each day and category, by the lines' category.
//!
//! Work: an event changes one row for each category in it. State: one sum a day and category.

use super::{Inputs, Table};
use crate::model::time::day_of;
use crate::operators::{Sums, sums_by, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = sums_by(inputs.orders.clone(), "sums by category", |order, add| {
        for category in order.by_category() {
            let sums = Sums::of(order.kind, category.units, category.amount);
            add((day_of(order.at), category.word), sums);
        }
    });

    totals(sums, "sales_by_category").map(move |((day, category), sums)| {
        table.row(
            &[Cell::Date(day), Cell::Text(&category)],
            &[
                Cell::Int(sums.orders),
                Cell::Int(sums.units),
                Cell::Int(sums.revenue),
                Cell::Int(sums.refunded),
            ],
        )
    })
}
