//! Each change of a known customer's grade, and the tick at which it happened.
//!
//! Work: a row a change. State: none beside the operator `grades`.

use super::{Inputs, Table};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    inputs.grade_changes.clone().map(move |(user_id, change)| {
        table.row(
            &[Cell::Int(user_id.0), Cell::Instant(change.at)],
            &[Cell::Text(change.from.word()), Cell::Text(change.to.word())],
        )
    })
}
