//! Every product's newest record, with the number of placed orders that contain it.
//!
//! Work: an order changes one row for each product in it. State: one count and one record a product.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::operators::totals;
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let listed = inputs.products.clone().as_collection(|product_id, _event| *product_id);
    let ordered =
        inputs.orders.clone().filter(|order| order.kind == OrderKind::Placed).flat_map(|order| {
            let mut products: Vec<_> = order.lines.iter().map(|line| line.product_id).collect();
            products.sort_unstable();
            products.dedup();
            products
        });

    // The listing counts in a place of its own, so that a product without an order has a row.
    let listings_and_orders = listed
        .explode(|product_id| Some((product_id, (1, 0))))
        .concat(ordered.explode(|product_id| Some((product_id, (0, 1)))));
    let order_counts = totals(listings_and_orders, "products")
        .filter(|(_product_id, (listings, _orders))| *listings > 0)
        .map(|(product_id, (_listings, orders))| (product_id, orders))
        .arrange_by_key();

    inputs.products.clone().join_core(order_counts, move |product_id, event, orders: &isize| {
        let product = &event.product;
        Some(table.row(
            &[Cell::Int(*product_id)],
            &[
                Cell::Text(&product.name),
                Cell::Text(&product.category),
                Cell::Int(product.price),
                Cell::Int(product.stock),
                Cell::Instant(product.listed_at),
                Cell::Instant(event.at),
                Cell::Int(*orders as i64),
            ],
        ))
    })
}
