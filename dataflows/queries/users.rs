//! Every customer's newest record, with the grade.
//!
//! Work: a row for each new record and each change of grade. State: one record and one grade a
//! customer.

use super::{Inputs, Table};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let grades = inputs.grades.clone().arrange_by_key();

    inputs.users.clone().join_core(grades, move |user_id, event, grade| {
        let user = &event.user;
        Some(table.row(
            &[Cell::Int(*user_id)],
            &[
                Cell::Text(&user.name),
                Cell::Date(user.birth_date),
                Cell::Text(user.sex.word()),
                Cell::Text(&user.region),
                Cell::Text(user.status.word()),
                Cell::Flag(user.marketing_consent),
                Cell::Instant(user.signed_up_at),
                Cell::Instant(event.at),
                Cell::Text(grade.word()),
            ],
        ))
    })
}
