//! How many known customers have each grade; four rows, always.
//!
//! Work: two rows a change of grade. State: four counts.

use super::{Inputs, Table};
use crate::operators::{Grade, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let rows = inputs.always.clone().flat_map(|()| Grade::ALL);
    let customers = inputs.grades.clone().map(|(_user_id, grade)| grade);

    // The row counts in a place of its own, so that a grade without customers has one.
    let rows_and_customers = rows
        .explode(|grade| Some((grade, (1, 0))))
        .concat(customers.explode(|grade| Some((grade, (0, 1)))));

    totals(rows_and_customers, "grade_distribution").map(move |(grade, (_row, customers))| {
        table.row(&[Cell::Text(grade.word())], &[Cell::Int(customers as i64)])
    })
}
