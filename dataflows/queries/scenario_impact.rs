//! What was placed while each occurrence of a scenario was active, up to `now`, and at the same
//! times of the four weeks before it: what a sale brings.
//!
//! Work: an order changes the rows of the occurrences that it stands in or before, `now` those of
//! the open ones. State: that of the operator `impacts`: every placed order, in 12 bytes.

use super::{Inputs, Table};
use crate::keeper::Keeper;
use crate::model::{Krw, OrderKind};
use crate::operators::{Impact, actives, changed, impacts, totals};
use crate::passes::{Build, Contributed, Contributions, Customer, Entry, Part, Rows};
use crate::row::Cell;

pub(super) struct Query;

impl Part for Query {
    type State = ();
    const ROWS: Option<Build> = Some(rows);

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            out.tell((event.at, event.amount().0, 0), d);
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, placed: Contributed<'s>, table: Table) -> Rows<'s> {
    let placed = placed.facts.map(|(at, amount, _)| (at, Krw(amount)));
    let impacts =
        impacts(placed, actives(inputs.scenarios.clone()), inputs.now.clone(), &inputs.keeper);

    let impacts = totals(impacts, "scenario_impact", &Keeper::default())
        .map(|(active, impact)| ((active.name, active.occurrence), impact));

    changed(impacts, move |(name, occurrence), (during, before): &Impact| {
        table.row(
            &[Cell::Text(name), Cell::Text(occurrence)],
            &[
                Cell::Int(during.orders),
                Cell::Int(during.revenue.0),
                Cell::Int(before.orders),
                Cell::Int(before.revenue.0),
            ],
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_running_sale_grows_with_now_and_is_set_against_four_weeks_before() {
        told(
            "
            10-30 14:30  customer 1 places 1: book 1
            11-20 14:30  customer 1 places 2: book 10
            11-20 16:30  customer 1 places 3: book 100
            11-27 14:30  customer 1 places 4: book 1000
            11-27 16:00  customer 1 places 5: book 10000
            11-27 14:00  scenario sale friday starts
            11-27 13:59  now
            scenario_impact: name | occurrence | orders | revenue | orders_before | revenue_before

            11-27 14:00  now
            scenario_impact:
            | sale | friday | 0 | 0 | 0 | 0

            11-27 15:00  now
            scenario_impact:
            | sale | friday | 1 | 1000 | 2 | 11
            # Now itself is within the sale.
            11-27 16:00  now
            scenario_impact:
            | sale | friday | 2 | 11000 | 2 | 11

            11-27 17:00  now
            scenario_impact:
            | sale | friday | 2 | 11000 | 3 | 111
            ",
        );
    }

    #[test]
    fn a_late_stop_ends_the_sale_at_its_own_instant() {
        told(
            "
            11-20 14:59  customer 1 places 1: book 10
            11-20 15:01  customer 1 places 2: book 100
            11-27 14:00  customer 1 places 3: book 2x500
            11-27 15:00  customer 1 places 4: book 2x5000
            11-27 15:02  customer 1 cancels 3
            11-27 14:00  scenario sale friday starts
            11-27 16:30  scenario sale friday stops
            11-27 18:00  now
            scenario_impact:
            | sale | friday | 2 | 11000 | 2 | 110

            11-27 15:30  scenario sale friday stops
            scenario_impact:
            | sale | friday | 2 | 11000 | 2 | 110

            11-27 15:00  scenario sale friday stops
            scenario_impact:
            | sale | friday | 1 | 1000 | 1 | 10
            ",
        );
    }

    #[test]
    fn the_second_week_of_a_sale_is_set_against_the_weeks_before_its_start() {
        told(
            "
            11-20 10:00  customer 1 places 1: book 10
            11-27 10:00  customer 1 places 2: book 100
            12-04 10:00  customer 1 places 3: book 1000
            11-27 00:00  scenario sale long starts
            12-11 00:00  scenario sale long stops
            12-20 00:00  now
            scenario_impact:
            | sale | long | 2 | 1100 | 2 | 20
            ",
        );
    }
}
