//! Orders, pieces, revenue and money given back of each day and category, by the lines' category.
//!
//! Work: an event changes one row for each category in it. State: one sum a day and category.

use super::{Inputs, Table};
use crate::operators::totals;
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    totals(inputs.by_category.clone(), "sales_by_category").map(move |((day, category), sums)| {
        table.row(
            &[Cell::Date(day), Cell::Text(&category)],
            &[
                Cell::Int(sums.orders),
                Cell::Int(sums.units),
                Cell::Int(sums.revenue.0),
                Cell::Int(sums.refunded.0),
            ],
        )
    })
}
