//! How long after their listing products are first ordered, by the week of the listing: do new
//! products sell within three days?
//!
//! Work: a product's first order changes two rows, any other order none. State: 8 bytes a line of a
//! placed order (see `earliest`).

use super::{Inputs, Table};
use crate::model::time::{DAY, day_of, week_of};
use crate::model::{Millis, OrderKind, ProductId};
use crate::operators::{changed, earliest, lookup_join, totals};
use crate::passes::{Build, Contributed, Contributions, Customer, Entry, Part, Rows};
use crate::row::Cell;

pub(super) struct Query;

impl Part for Query {
    type State = ();
    const ROWS: Option<Build> = Some(rows);

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            for product_id in event.products() {
                out.tell((product_id.0, event.at, 0), d);
            }
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, sold: Contributed<'s>, table: Table) -> Rows<'s> {
    let listed =
        inputs.products.clone().map(|(product_id, event)| (product_id, event.product.listed_at));
    let sold = sold.facts.map(|(product_id, at, _)| (ProductId(product_id), at));
    let first_sold = earliest(sold, "first sale", &inputs.keeper);

    // Every product counts as not sold, and that is taken back with its first sale.
    let unsold = listed.clone().map(|(product_id, _listed_at)| (product_id, None));
    let no_longer = first_sold.clone().map(|(product_id, _at)| (product_id, None)).negate();
    let sold = first_sold.map(|(product_id, at)| (product_id, Some(at)));
    let sales = unsold.concat(no_longer).concat(sold);
    let products =
        lookup_join(sales, listed, "sale after listing", &inputs.keeper, |listed_at, sold_at| {
            Some((week_of(day_of(*listed_at)), lag(*listed_at, *sold_at)))
        });

    changed(
        totals(products, "first_sale_lag", &inputs.keeper),
        move |(week, lag), products: &isize| {
            table.row(&[Cell::Date(*week), Cell::Text(LAGS[*lag])], &[Cell::Int(*products as i64)])
        },
    )
}

const LAGS: [&str; 7] = ["0", "1", "2", "3", "4-7", "8+", "none yet"];

/// The place in [`LAGS`] of the whole days from a listing to a sale.
fn lag(listed_at: Millis, sold_at: Option<Millis>) -> usize {
    match sold_at.map(|sold_at| (sold_at - listed_at).div_euclid(DAY).max(0)) {
        Some(days @ 0..=3) => days as usize,
        Some(4..=7) => 4,
        Some(_) => 5,
        None => 6,
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_product_waits_until_it_is_sold_and_the_earliest_sale_counts() {
        told(
            "
            11-23 00:00  product 1 is 연필 book 500
            11-22 23:59  product 2 is 볼펜 book 500
            # A cancellation, whose order has not come, sells nothing.
            11-23 10:00  customer 3 cancels 9 of 11-23 09:00: book:1 500
            first_sale_lag: listing_week | lag | products
            | 11-16 | none yet | 1
            | 11-23 | none yet | 1

            11-26 23:59:59.999  customer 1 places 1: book:1 500, book:1 400
            first_sale_lag:
            | 11-16 | none yet | 1
            | 11-23 | 3 | 1
            # An earlier sale comes late; that it is cancelled does not matter.
            11-24 00:00  customer 2 places 1: book:1 500
            11-24 00:01  customer 2 cancels 1
            first_sale_lag:
            | 11-16 | none yet | 1
            | 11-23 | 1 | 1
            # The newest record says when it was listed.
            11-24 10:00  product 2 is 볼펜 book 500 since 11-23 00:00
            11-22 10:00  product 2 is 볼펜 book 500 since 11-01 00:00
            first_sale_lag:
            | 11-23 | 1 | 1
            | 11-23 | none yet | 1
            ",
        );
    }

    #[test]
    fn days_are_of_24_hours_and_a_sale_before_the_listing_is_day_0() {
        told(
            "
            11-23 12:00         product 1 is 연필 book 500
            11-23 12:00         product 2 is 볼펜 book 500
            11-23 12:00         product 3 is 지우개 book 500
            11-23 12:00         product 4 is 자 book 500
            11-20 12:00         customer 1 places 1: book:1 500
            11-27 12:00         customer 1 places 2: book:2 500
            12-01 11:59:59.999  customer 1 places 3: book:3 500
            12-01 12:00         customer 1 places 4: book:4 500
            first_sale_lag:
            | 11-23 | 0 | 1
            | 11-23 | 4-7 | 2
            | 11-23 | 8+ | 1
            ",
        );
    }
}
