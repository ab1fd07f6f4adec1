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
