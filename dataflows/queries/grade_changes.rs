//! Each change of a known customer's grade, and the tick at which it happened.
//!
//! Work: a row a change. State: the changes, for ever.

use super::{Inputs, Table};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let changes = inputs.grade_changes.clone().arrange_by_key();

    inputs.users.clone().join_core(changes, move |user_id, _event, change| {
        Some(table.row(
            &[Cell::Int(*user_id), Cell::Instant(change.at)],
            &[Cell::Text(change.from.word()), Cell::Text(change.to.word())],
        ))
    })
}
