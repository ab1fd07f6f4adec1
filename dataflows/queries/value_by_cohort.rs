//! Of the customers who signed up in one month: how many there are, how many of them placed an order
//! in each month since, and their net revenue of it; a row for each month up to that of now.
//!
//! Work: an event changes one row; a sign-up, the rows of its cohort; a new month, one row a cohort.
//! State: two sums a customer and month with an event, for ever.

use super::{Inputs, Table};
use crate::model::Day;
use crate::model::time::{day_of, month_of, months_between};
use crate::operators::{enriched, month_of_now, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let signed_up = inputs
        .users
        .clone()
        .map(|(user_id, event)| (user_id, month_of(day_of(event.user.signed_up_at))));

    let active = inputs.buyers_by_month.clone();
    let active = active.explode(|(month, user_id)| Some(((user_id, month), (0, 1, 0))));
    let revenue = inputs.orders.clone().explode(|order| {
        let revenue = order.amount() * order.event.sign();
        Some(((order.user_id, month_of(day_of(order.at))), (0, 0, revenue.0 as isize)))
    });
    let facts = active.concat(revenue);
    let value = enriched(facts, signed_up.clone(), "value by cohort", |signup, month| {
        Some((*signup, months_between(*signup, *month)))
    });

    let customers = signed_up.map(|(_user_id, signup_month)| signup_month);
    let cohorts = totals(customers, "customers by cohort").map(|cohort| ((), cohort));
    let month = month_of_now(inputs.now.clone()).map(|month| ((), month));
    let rows = cohorts.join_map(month, |(), (signup, customers), now| (*signup, *customers, *now));
    let rows = rows.explode(|(signup, customers, now): (Day, isize, Day)| {
        (0..=months_between(signup, now)).map(move |since| ((signup, since), (customers, 0, 0)))
    });
    totals(rows.concat(value), "value_by_cohort")
        // What lies before the sign-up or beyond the month of now has no customers.
        .filter(|(_cell, (customers, _active, _revenue))| *customers > 0)
        .map(move |((signup, since), (customers, active, revenue))| {
            table.row(
                &[Cell::Date(signup), Cell::Int(since)],
                &[Cell::Int(customers as i64), Cell::Int(active as i64), Cell::Int(revenue as i64)],
            )
        })
}
