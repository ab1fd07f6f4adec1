//! What every customer is worth so far: first and last order that stands, orders, net revenue, and
//! the days from the first order to the last.
//!
//! Work: an event changes one row. State: none beside the operator `lifetimes`.

use super::{Inputs, Table};
use crate::model::time::day_of;
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    inputs.lifetimes.clone().map(move |(user_id, lifetime)| {
        let [first, last, days] = match lifetime.first_and_last {
            Some((first, last)) => {
                let days = day_of(last) - day_of(first);
                [Cell::Instant(first), Cell::Instant(last), Cell::Int(i64::from(days))]
            }
            None => [Cell::Null; 3],
        };
        table.row(
            &[Cell::Int(user_id.0)],
            &[first, last, Cell::Int(lifetime.orders), Cell::Int(lifetime.revenue.0), days],
        )
    })
}
