//! Every customer's newest record, with the grade.
//!
//! Work: a row for each new record and each change of grade. State: one record a customer.

use super::Table;
use crate::passes::{Customer, Facts, Part};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    const ROW: Facts = Facts::GRADE;
    type State = ();

    fn row(who: &Customer, (): &(), table: Table) -> Option<Row> {
        let event = who.record()?;
        let user = &event.user;
        Some(table.row(
            &[Cell::Int(who.user_id.0)],
            &[
                Cell::Text(&user.name),
                Cell::Date(user.birth_date),
                Cell::Text(user.sex.word()),
                Cell::Text(&user.region),
                Cell::Text(user.status.word()),
                Cell::Flag(user.marketing_consent),
                Cell::Instant(user.signed_up_at),
                Cell::Instant(event.at),
                Cell::Text(who.grade().word()),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn the_newest_record_holds_whatever_comes_last() {
        told(
            "
            01-05 08:30  customer 1 is 하나 F 1996-02-29
            03-01 08:30  customer 1 is 한나 F 1996-02-28
            02-01 08:30  customer 1 is 한아 M 1996-02-27
            users: user_id | name | birth_date | sex | region | status | marketing_consent | signed_up_at | updated_at | grade
            | 1 | 한나 | 1996-02-28 | F | 서울 | ACTIVE | true | 01-05 08:30 | 03-01 08:30 | BRONZE
            # Of two records of one time that with the greater event_id.
            03-01 08:30  customer 1 is 한나 M 1996-02-28
            users:
            | 1 | 한나 | 1996-02-28 | M | 서울 | ACTIVE | true | 01-05 08:30 | 03-01 08:30 | BRONZE
            ",
        );
    }

    #[test]
    fn the_grade_is_that_of_the_last_tick() {
        told(
            "
            01-05 08:30  customer 1 is 하나 F 1996-02-29
            02-01 10:00  customer 1 places 1 to 5: book 100_000
            02-01 10:00  customer 2 places 1 to 5: book 100_000
            02-01 09:59  now
            users:
            | 1 | 하나 | 1996-02-29 | F | 서울 | ACTIVE | true | 01-05 08:30 | 01-05 08:30 | BRONZE

            02-01 10:00  now
            users:
            | 1 | 하나 | 1996-02-29 | F | 서울 | ACTIVE | true | 01-05 08:30 | 01-05 08:30 | SILVER

            02-01 10:00  customer 1 cancels 5
            users:
            | 1 | 하나 | 1996-02-29 | F | 서울 | ACTIVE | true | 01-05 08:30 | 01-05 08:30 | BRONZE
            ",
        );
    }
}
