//! The hundred products of which most pieces were ordered within the last hour, 24 hours and 7 days up
//! to now, with their revenue.
//!
//! Work: a line is counted in and out once a span, and the products of a span that changed are ranked
//! anew. State: the lines of 7 days, and one sum a product and span.

use super::{Inputs, Table};
use crate::model::time::{DAY, HOUR};
use crate::model::{Millis, OrderKind};
use crate::operators::{leaders, within};
use crate::row::{Cell, Rows};

const SPANS: [Millis; 3] = [HOUR, DAY, 7 * DAY];
const WORDS: [&str; 3] = ["1 h", "24 h", "7 d"];

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let sold = placed.explode(|order| {
        let at = order.at;
        let sold = order.lines.iter().map(|line| {
            ((line.product_id, at), (line.quantity as isize, line.amount().0 as isize))
        });
        sold.collect::<Vec<_>>()
    });
    let within = within(sold, &SPANS, inputs.now.clone(), "sold within spans");

    leaders(within, "best_sellers").map(move |(span, (rank, (units, revenue, product_id)))| {
        table.row(
            &[Cell::Text(WORDS[span]), Cell::Int(rank as i64)],
            &[Cell::Int(product_id.0), Cell::Int(units.0 as i64), Cell::Int(revenue.0 as i64)],
        )
    })
}
