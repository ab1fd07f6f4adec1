//! The grade of every known customer, since when, and the six months' totals behind it.
//!
//! Work: a row for each entry that comes or expires. State: one standing a customer, beside the
//! operator `grades`.

use super::{Inputs, Table};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let standings = inputs.standings.clone().arrange_by_key();

    inputs.users.clone().join_core(standings, move |user_id, event, standing| {
        Some(table.row(
            &[Cell::Int(*user_id)],
            &[
                Cell::Text(standing.grade.word()),
                Cell::Instant(standing.since.unwrap_or(event.user.signed_up_at)),
                Cell::Int(standing.amount),
                Cell::Int(standing.orders),
            ],
        ))
    })
}
