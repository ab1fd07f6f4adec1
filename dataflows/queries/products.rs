//! Every product's newest record, with the number of placed orders that contain it.
//!
//! Work: an order changes one row for each product in it. State: one count and one record a product.

use super::{Inputs, Table};
use crate::model::{OrderKind, ProductId};
use crate::operators::{left_join, regrouped, totals};
use crate::passes::{Build, Contributed, Contributions, Customer, Entry, Part, Rows, orders};
use crate::row::Cell;

pub(super) struct Query;

impl Part for Query {
    type State = ();
    const ROWS: Option<Build> = Some(rows);

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            for product_id in event.products() {
                out.add(product_id, orders(1), d);
            }
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, ordered: Contributed<'s>, table: Table) -> Rows<'s> {
    let ordered =
        regrouped(ordered.sums, |product, sums| (ProductId(product.a), sums.orders as isize));
    let orders = totals(ordered, "orders by product", &inputs.keeper);

    left_join(
        inputs.products.clone(),
        orders,
        "products",
        &inputs.keeper,
        move |product_id, event, orders| {
            let product = &event.product;
            table.row(
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
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn the_newest_record_holds_whatever_comes_last() {
        told(
            "
            11-01 09:00  product 3 is 연필 book 500
            11-20 09:00  product 3 is 색연필 book 700
            11-10 09:00  product 3 is 볼펜 toys 600
            products: product_id | name | category | price | stock | listed_at | updated_at | order_count
            | 3 | 색연필 | book | 700 | 5 | 11-01 09:00 | 11-20 09:00 | 0
            ",
        );
    }

    #[test]
    fn an_order_with_the_product_counts_once_even_before_the_record_comes() {
        told(
            "
            11-27 14:00  customer 1 places 1: book:3 2x500, book:3 450, food:4 900
            11-27 14:05  customer 2 places 1: book:3 500
            11-27 14:06  customer 2 cancels 1
            products:

            11-01 09:00  product 3 is 연필 book 500
            products:
            | 3 | 연필 | book | 500 | 5 | 11-01 09:00 | 11-01 09:00 | 2
            ",
        );
    }
}
