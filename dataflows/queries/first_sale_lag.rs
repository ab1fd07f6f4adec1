//! How long after their listing products are first ordered, by the week of the listing: do new
//! products sell within three days?
//!
//! Work: a product's first order changes two rows, any other order none. State: 8 bytes a line of a
//! placed order (see `earliest`).

use super::{Inputs, Table};
use crate::model::time::{DAY, day_of, week_of};
use crate::model::{Millis, OrderKind};
use crate::operators::{earliest, enriched, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let listed =
        inputs.products.clone().map(|(product_id, event)| (product_id, event.product.listed_at));
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let sold = placed.flat_map(|order| {
        let at = order.at;
        let products: Vec<_> = order.lines.iter().map(|line| (line.product_id, at)).collect();
        products
    });
    let first_sold = earliest(sold, "first sale");

    // Every product counts as not sold, and that is taken back with its first sale.
    let unsold = listed.clone().map(|(product_id, _listed_at)| (product_id, None));
    let no_longer = first_sold.clone().map(|(product_id, _at)| (product_id, None)).negate();
    let sold = first_sold.map(|(product_id, at)| (product_id, Some(at)));
    let sales = unsold.concat(no_longer).concat(sold);
    let products = enriched(sales, listed, "sale after listing", |listed_at, sold_at| {
        Some((week_of(day_of(*listed_at)), lag(*listed_at, *sold_at)))
    });

    totals(products, "first_sale_lag").map(move |((week, lag), products)| {
        table.row(&[Cell::Date(week), Cell::Text(LAGS[lag])], &[Cell::Int(products as i64)])
    })
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
