//! What was placed while each occurrence of a scenario was active, up to `now`, and at the same
//! times of the four weeks before it: what a sale brings.
//!
//! Work: an order changes the rows of the occurrences that it stands in or before, `now` those of
//! the open ones. State: that of the operator `impacts`: every placed order, in 12 bytes.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::operators::{Impact, actives, impacts, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let placed = placed.map(|order| (order.at, order.amount()));
    let impacts = impacts(placed, actives(inputs.scenarios.clone()), inputs.now.clone());

    totals(impacts, "scenario_impact").map(move |(active, (during, before)): (_, Impact)| {
        table.row(
            &[Cell::Text(&active.name), Cell::Text(&active.occurrence)],
            &[
                Cell::Int(during.orders),
                Cell::Int(during.revenue.0),
                Cell::Int(before.orders),
                Cell::Int(before.revenue.0),
            ],
        )
    })
}
