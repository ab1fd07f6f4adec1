//! What goes into an order: 1 to 10 different products.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Poisson};

use super::{
    catalog::{BEST, CATEGORY_COUNT, Catalog, NEWEST},
    roster::Roster,
    scenarios::Scenarios,
};
use crate::model::{Krw, Line, Word};

/// Lines beyond the first: negative binomial with this shape and mean.
const LINES: (f64, f64) = (0.7, 1.4);
/// No order has more lines.
const LINES_MAX: usize = 10;
/// Shares of lines that are bought again, and that are new arrivals.
const AGAIN: f64 = 0.33;
const NEW: f64 = 0.12;
/// How much more customers choose their favourite categories than the others.
const FAVOURITE: f64 = 2.5;

/// Fills the basket of customer `id`, who has bought `remembered` before, from what is `offered`.
pub(super) fn fill(
    random: &mut ChaCha8Rng,
    id: u32,
    remembered: &[u32],
    offered: &Roster,
    catalog: &Catalog,
    scenarios: &Scenarios,
    words: &[Word],
) -> Arc<[Line]> {
    let (shape, mean) = LINES;
    let rate: f64 = Gamma::new(shape, mean / shape).expect("a positive shape").sample(random);
    let more = Poisson::new(rate.max(1e-9)).map_or(0.0, |poisson| poisson.sample(random));
    let count = (1 + more as usize).min(LINES_MAX);
    let mut chosen: Vec<u32> = Vec::with_capacity(count);
    // Where little is left to choose from, the basket stays smaller.
    for _ in 0..count * 4 {
        if chosen.len() == count {
            break;
        }
        if let Some(product) = choose(random, id, remembered, offered, catalog, scenarios)
            && !chosen.contains(&product)
        {
            chosen.push(product);
        }
    }
    let line = |product: u32| {
        let goods = catalog.get(product);
        let quantity = match random.random::<f64>() {
            many if many < 0.9 => 1,
            many if many < 0.97 => 2,
            _ => 3,
        };
        Line {
            product_id: i64::from(product),
            category: words[usize::from(goods.category)].clone(),
            quantity,
            unit_price: Krw::from(goods.price),
        }
    };
    chosen.into_iter().map(line).collect()
}

/// One product: bought before, newly listed, or from the best sellers, by taste and scenarios.
fn choose(
    random: &mut ChaCha8Rng,
    id: u32,
    remembered: &[u32],
    offered: &Roster,
    catalog: &Catalog,
    scenarios: &Scenarios,
) -> Option<u32> {
    let way = random.random::<f64>();
    if way < AGAIN && !remembered.is_empty() {
        return Some(remembered[random.random_range(0..remembered.len())]);
    }
    let first = if way < AGAIN + NEW { NEWEST } else { BEST };
    let band = if offered.total(first) > 0 { first } else { BEST + NEWEST - first };
    if offered.total(band) == 0 {
        return None;
    }
    let mut product = 0;
    // Rejection: a category is taken in proportion to what speaks for it.
    for _ in 0..40 {
        product = offered.at(band, random.random_range(0..offered.total(band)));
        let category = usize::from(catalog.get(product).category);
        let effect = taste(id, category) * scenarios.focus[category];
        if random.random::<f64>() * FAVOURITE * scenarios.focus_max < effect {
            break;
        }
    }
    Some(product)
}

/// What a customer thinks of a category: three in sixteen are favourites, for life.
fn taste(id: u32, category: usize) -> f64 {
    let first = id.wrapping_mul(0x9e37_79b1) >> 28;
    let favourite = (0..3).any(|n| (first as usize + 5 * n) % CATEGORY_COUNT == category);
    if favourite { FAVOURITE } else { 0.65 }
}
