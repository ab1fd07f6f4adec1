//! Every customer's newest record, with the grade.
//!
//! Work: a row for each new record and each change of grade. State: one record and one grade a
//! customer.

use super::{Inputs, Table};
use crate::operators::side_by_side;
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let (users, grades) = (inputs.users.clone(), inputs.grades.clone());

    side_by_side(users, grades, "users", move |user_id, event, grade| {
        let user = &event.user;
        Some(table.row(
            &[Cell::Int(user_id.0)],
            &[
                Cell::Text(&user.name),
                Cell::Date(user.birth_date),
                Cell::Text(user.sex.word()),
                Cell::Text(&user.region),
                Cell::Text(user.status.word()),
                Cell::Flag(user.marketing_consent),
                Cell::Instant(user.signed_up_at),
                Cell::Instant(event.at),
                Cell::Text(grade?.word()),
            ],
        ))
    })
}
