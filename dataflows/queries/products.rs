//! Every product's newest record, with the number of placed orders that contain it.
//!
//! Work: an order changes one row for each product in it. State: one count and one record a product.

use super::{Inputs, Table};
use crate::model::{OrderKind, ProductId};
use crate::operators::{side_by_side, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let placed = inputs.orders.clone().filter(|order| order.event == OrderKind::Placed);
    let ordered = placed.flat_map(|order| {
        let mut products: Vec<ProductId> = order.lines.iter().map(|it| it.product_id).collect();
        products.sort_unstable();
        products.dedup();
        products
    });
    let orders = totals(ordered, "orders by product");

    side_by_side(inputs.products.clone(), orders, "products", move |product_id, event, orders| {
        let product = &event.product;
        Some(table.row(
            &[Cell::Int(product_id.0)],
            &[
                Cell::Text(&product.name),
                Cell::Text(&product.category),
                Cell::Int(product.price.0),
                Cell::Int(product.stock),
                Cell::Instant(product.listed_at),
                Cell::Instant(event.at),
                Cell::Int(orders.map_or(0, |orders| *orders as i64)),
            ],
        ))
    })
}
