//! What is sold, and what is known of it.

use std::collections::BTreeMap;

use super::{END, Put, clock, count, date, newest, only};
use crate::model::{Event, Order, ProductId};
use crate::row::Cell;

pub(super) fn sold(placed: &[&Order], row: Put<'_>) {
    for (span, hours) in [("1 h", 1), ("24 h", 24), ("7 d", 7 * 24)] {
        let within = only(placed, |order| END - hours * 3_600_000 < order.at && order.at <= END);
        let mut sold: BTreeMap<ProductId, (i64, i64)> = BTreeMap::new();
        for line in within.iter().flat_map(|order| order.lines.iter()) {
            let (units, revenue) = sold.entry(line.product_id).or_default();
            *units += line.quantity;
            *revenue += line.quantity * line.unit_price.0;
        }
        let mut sold: Vec<_> = sold.into_iter().collect();
        // Stable: of equals the lower product_id comes first.
        sold.sort_by_key(|(_product_id, (units, revenue))| (-units, -revenue));
        for ((product_id, (units, revenue)), rank) in sold.into_iter().take(100).zip(1..) {
            let value = [Cell::Int(product_id.0), Cell::Int(units), Cell::Int(revenue)];
            row("best_sellers", &[Cell::Text(span), Cell::Int(rank)], &value);
        }
    }
}

pub(super) fn known(story: &[Event], placed: &[&Order], row: Put<'_>) {
    let products = story.iter().filter_map(|event| match event {
        Event::Product(event) => Some(event),
        _ => None,
    });
    let mut lags: BTreeMap<_, i64> = BTreeMap::new();
    for event in newest(products, |event| (event.product.product_id, event.at, event.event_id)) {
        let product = &event.product;
        let with = only(placed, |order| {
            order.lines.iter().any(|line| line.product_id == product.product_id)
        });
        let value = [
            Cell::Text(&product.name),
            Cell::Text(&product.category),
            Cell::Int(product.price.0),
            Cell::Int(product.stock),
            Cell::Instant(product.listed_at),
            Cell::Instant(event.at),
            count(&with),
        ];
        row("products", &[Cell::Int(product.product_id.0)], &value);
        let lag = match with.iter().map(|order| order.at).min() {
            None => "none yet",
            Some(first) => match (first - product.listed_at).max(0) / 86_400_000 {
                0 => "0",
                1 => "1",
                2 => "2",
                3 => "3",
                4..=7 => "4-7",
                _ => "8+",
            },
        };
        let week = clock(product.listed_at).date().week(chrono::Weekday::Mon).first_day();
        *lags.entry((week, lag)).or_default() += 1;
    }
    for ((week, lag), products) in lags {
        row("first_sale_lag", &[date(week), Cell::Text(lag)], &[Cell::Int(products)]);
    }
}
