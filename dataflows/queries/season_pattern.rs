//! What is bought in each month of the year, by category, over all years.
//!
//! Work: a placed order changes one row for each category in it. State: one sum a row.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::model::time::{day_of, month_of_year};
use crate::operators::{Sums, sums_by, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let sums = sums_by(inputs.orders.clone(), "sums by season", |order, add| {
        if order.kind == OrderKind::Placed {
            let month = month_of_year(day_of(order.at));
            for category in order.by_category() {
                let sums = Sums::of(order.kind, category.units, category.amount);
                add((month, category.word), sums);
            }
        }
    });

    totals(sums, "season_pattern").map(move |((month, category), sums)| {
        table.row(&[Cell::Int(month), Cell::Text(&category)], &[Cell::Int(sums.revenue)])
    })
}
