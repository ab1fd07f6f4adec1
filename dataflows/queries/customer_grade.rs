//! The grade of every known customer, since when, and the six months' totals behind it.
//!
//! Work: a row for each entry that comes or expires. State: one standing a customer, beside the
//! operator `grades`.

use super::{Inputs, Table};
use crate::operators::side_by_side;
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let users = inputs.users.clone();
    let signed_up = users.map(|(user_id, event)| (user_id, event.user.signed_up_at));
    let standings = inputs.standings.clone();

    side_by_side(signed_up, standings, "customer_grade", move |user_id, signed_up_at, standing| {
        let standing = standing?;
        Some(table.row(
            &[Cell::Int(user_id.0)],
            &[
                Cell::Text(standing.grade.word()),
                Cell::Instant(standing.since.unwrap_or(*signed_up_at)),
                Cell::Int(standing.amount.0),
                Cell::Int(standing.orders),
            ],
        ))
    })
}
