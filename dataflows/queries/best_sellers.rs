//! The hundred products of which most pieces were ordered within the last hour, 24 hours and 7 days up
//! to now, with their revenue.
//!
//! Work: a line is counted in and out once a span, and the products of a span that changed are ranked
//! anew. State: the lines of 7 days, and one sum a product and span.

use super::{Inputs, Table};
use crate::model::time::{DAY, HOUR};
use crate::model::{Millis, OrderKind, ProductId};
use crate::operators::{changed, sliding_windows, top_k};
use crate::passes::{Build, Contributed, Contributions, Customer, Entry, Part, Rows};
use crate::row::Cell;

const SPANS: [Millis; 3] = [HOUR, DAY, 7 * DAY];
const WORDS: [&str; 3] = ["1 h", "24 h", "7 d"];

pub(super) struct Query;

impl Part for Query {
    type State = ();
    const ROWS: Option<Build> = Some(rows);

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            for line in &event.lines {
                out.tell((line.product_id.0, event.at, line.unit_price.0), d * line.quantity);
            }
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, sold: Contributed<'s>, table: Table) -> Rows<'s> {
    // Each piece is one, with its price.
    let sold = sold.facts.explode(|(product_id, at, price)| {
        Some(((ProductId(product_id), at), (1, price as isize)))
    });
    let within =
        sliding_windows(sold, &SPANS, inputs.now.clone(), "sold within spans", &inputs.keeper);
    let ranked = top_k(within, "best_sellers").map(|(span, (rank, sold))| ((span, rank), sold));

    changed(ranked, move |(span, rank), (units, revenue, ProductId(product_id))| {
        table.row(
            &[Cell::Text(WORDS[*span]), Cell::Int(*rank as i64)],
            &[Cell::Int(*product_id), Cell::Int(units.0 as i64), Cell::Int(revenue.0 as i64)],
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn pieces_then_revenue_then_the_number_of_the_product_rank() {
        told(
            "
            11-27 12:00  customer 1 places 1: book:4 2x500, food:1 2x500, toys:2 2x600, book:9 1x90_000
            11-27 12:00  customer 1 places 2: book:3 480, book:3 490
            11-27 12:00  customer 1 cancels 1
            11-27 12:00  now
            best_sellers: span | rank | product_id | units | revenue
            | 1 h | 1 | 2 | 2 | 1200
            | 1 h | 2 | 1 | 2 | 1000
            | 1 h | 3 | 4 | 2 | 1000
            | 1 h | 4 | 3 | 2 | 970
            | 1 h | 5 | 9 | 1 | 90000
            | 24 h | 1 | 2 | 2 | 1200
            | 24 h | 2 | 1 | 2 | 1000
            | 24 h | 3 | 4 | 2 | 1000
            | 24 h | 4 | 3 | 2 | 970
            | 24 h | 5 | 9 | 1 | 90000
            | 7 d | 1 | 2 | 2 | 1200
            | 7 d | 2 | 1 | 2 | 1000
            | 7 d | 3 | 4 | 2 | 1000
            | 7 d | 4 | 3 | 2 | 970
            | 7 d | 5 | 9 | 1 | 90000
            ",
        );
    }

    #[test]
    fn what_leaves_a_span_makes_room_and_what_comes_late_takes_it() {
        told(
            "
            11-27 11:00:00.001  customer 1 places 1: book:1 5x100
            11-27 11:30         customer 1 places 2: book:2 2x100
            11-27 12:00         now
            best_sellers:
            | 1 h | 1 | 1 | 5 | 500
            | 1 h | 2 | 2 | 2 | 200
            | 24 h | 1 | 1 | 5 | 500
            | 24 h | 2 | 2 | 2 | 200
            | 7 d | 1 | 1 | 5 | 500
            | 7 d | 2 | 2 | 2 | 200

            11-27 12:00:00.001  now
            best_sellers:
            | 1 h | 1 | 2 | 2 | 200
            | 24 h | 1 | 1 | 5 | 500
            | 24 h | 2 | 2 | 2 | 200
            | 7 d | 1 | 1 | 5 | 500
            | 7 d | 2 | 2 | 2 | 200

            11-26 12:00  customer 2 places 1: book:2 3x100, book:2 1x100
            best_sellers:
            | 1 h | 1 | 2 | 2 | 200
            | 24 h | 1 | 1 | 5 | 500
            | 24 h | 2 | 2 | 2 | 200
            | 7 d | 1 | 2 | 6 | 600
            | 7 d | 2 | 1 | 5 | 500
            ",
        );
    }
}
