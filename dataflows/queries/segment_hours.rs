//! At which hours of the day customers of each age and sex place their orders, by their age on the
//! day of the order.
//!
//! Work: a placed order changes one row; a corrected customer moves all of theirs. State: the hour of
//! each placed order by customer, for ever.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::model::time::{age_on, day_of_hour, hour_number, hour_of_day};
use crate::operators::{enriched, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let hours = placed.map(|order| (order.user_id, hour_number(order.at)));
    let customers = inputs
        .users
        .clone()
        .map(|(user_id, event)| (user_id, (event.user.birth_date, event.user.sex)));
    let orders = enriched(hours, customers, "orders by segment", |(birth_date, sex), hour| {
        Some((age_band(age_on(day_of_hour(*hour), *birth_date)), *sex, hour_of_day(*hour)))
    });

    totals(orders, "segment_hours").map(move |((band, sex, hour), orders)| {
        table.row(
            &[Cell::Text(AGE_BANDS[band]), Cell::Text(sex.word()), Cell::Int(hour)],
            &[Cell::Int(orders as i64)],
        )
    })
}

const AGE_BANDS: [&str; 6] = ["10s", "20s", "30s", "40s", "50s", "60+"];

/// The place in [`AGE_BANDS`] of an age.
fn age_band(age: u32) -> usize {
    (age / 10).clamp(1, AGE_BANDS.len() as u32) as usize - 1
}
