//! What goes into an order: 1 to 10 different products.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

use super::{
    catalog::{BEST, Catalog, NEWEST},
    customers::Customer,
    people::{TASTE_MAX, taste, weighted},
    profile::Basket,
    roster::Roster,
    scenarios::Scenarios,
};
use crate::model::{Krw, Line, ProductId, Word};

/// What a basket is filled from.
pub(super) struct BasketContext<'m> {
    pub(super) rules: &'m Basket,
    pub(super) seed: u64,
    /// The products of the working set.
    pub(super) offered: &'m Roster,
    pub(super) catalog: &'m Catalog,
    pub(super) scenarios: &'m Scenarios,
    pub(super) words: &'m [Word],
}

/// Fills the basket of customer `id`.
pub(super) fn fill(
    random: &mut ChaCha8Rng,
    id: u32,
    customer: &Customer,
    shelf: &BasketContext<'_>,
) -> Arc<[Line]> {
    let BasketContext { rules, catalog, words, .. } = *shelf;
    let remembered = &customer.remembered;
    let more = Poisson::new(f64::from(customer.person.lines).max(1e-9));
    let more = more.map_or(0.0, |poisson| poisson.sample(random));
    let count = (1 + more as usize).min(rules.most);
    let mut chosen: Vec<u32> = Vec::with_capacity(count);
    // Where little is left to choose from, the basket stays smaller.
    for _ in 0..count * 4 {
        if chosen.len() == count {
            break;
        }
        if let Some(product) = choose(random, id, remembered, shelf)
            && !chosen.contains(&product)
        {
            chosen.push(product);
        }
    }
    let line = |product: u32| {
        let goods = catalog.get(product);
        let quantity = weighted(random, &rules.quantity, |weight| *weight) as i64 + 1;
        Line {
            product_id: ProductId(product.into()),
            category: words[usize::from(goods.category)].clone(),
            quantity,
            unit_price: Krw(goods.price.into()),
        }
    };
    chosen.into_iter().map(line).collect()
}

/// One product: bought before, newly listed, or from the best sellers, by taste and scenarios.
fn choose(
    random: &mut ChaCha8Rng,
    id: u32,
    remembered: &[u32],
    shelf: &BasketContext<'_>,
) -> Option<u32> {
    let BasketContext { rules, seed, offered, catalog, scenarios, .. } = *shelf;
    let way = random.random::<f64>();
    if way < rules.again && !remembered.is_empty() {
        let product = remembered[random.random_range(0..remembered.len())];
        if !catalog.get(product).sold_out {
            return Some(product);
        }
    }
    let first = if way < rules.again + rules.new { NEWEST } else { BEST };
    let band = if offered.total(first) > 0 { first } else { BEST + NEWEST - first };
    if offered.total(band) == 0 {
        return None;
    }
    let mut product = 0;
    // Rejection: a category is taken in proportion to what speaks for it.
    for _ in 0..100 {
        product = offered.at(band, random.random_range(0..offered.total(band)));
        let category = usize::from(catalog.get(product).category);
        let effect = taste(seed, id, category) * scenarios.focus[category];
        if random.random::<f64>() * TASTE_MAX * scenarios.focus_max < effect {
            break;
        }
    }
    Some(product)
}
