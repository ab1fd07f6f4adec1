//! What goes into an order: 1 to 10 different products.

use std::sync::Arc;

use rand::{Rng, RngExt};
use smallvec::SmallVec;

use super::{
    catalog::{Catalog, Offered},
    customers::Customer,
    draw::{Purpose, draw},
    people::{taste, weighted},
    profile::{self, Basket},
    scenarios::Scenarios,
    shelf::Shelf,
};
use crate::model::{Category, Krw, Line, ProductId};

/// What a basket is filled from.
pub(super) struct BasketContext<'m> {
    pub(super) rules: &'m Basket,
    pub(super) seed: u64,
    /// The products of the working set.
    pub(super) offered: &'m Offered,
    pub(super) catalog: &'m Catalog,
    pub(super) scenarios: &'m Scenarios,
    pub(super) categories: &'m [profile::Category],
    pub(super) words: &'m [Category],
}

/// Fills the basket of customer `id`. How many lines it has, and how many of each product, is drawn
/// from `random`; each line's product from a stream of its own.
pub(super) fn fill(
    random: &mut impl Rng,
    id: u32,
    customer: &Customer,
    context: &BasketContext<'_>,
) -> Arc<[Line]> {
    let BasketContext { rules, catalog, scenarios, words, .. } = *context;
    let mean = f64::from(customer.person.lines) * scenarios.lines;
    let count = 1 + truncated_poisson(random.random(), mean, rules.most - 1);
    let mut choosing = Choosing {
        context,
        id,
        remembered: &customer.remembered,
        likings: SmallVec::new(),
        chosen: Vec::with_capacity(count),
    };
    for line in 0..count {
        let name = u64::from(customer.orders) << 8 | line as u64;
        let random = &mut draw(context.seed, Purpose::Choice, u64::from(id), name);
        // Where little is left to choose from, the basket stays smaller.
        if let Some(product) = choosing.choose(random) {
            choosing.chosen.push(product);
        }
    }
    let line = |product: u32| {
        let goods = catalog.get(product);
        let category = usize::from(goods.category);
        Line {
            product_id: ProductId(product.into()),
            category: words[category],
            quantity: weighted(random, &rules.quantity, |weight| *weight) as i64 + 1,
            unit_price: reduced(goods.price, scenarios.discount[category]),
        }
    };
    choosing.chosen.into_iter().map(line).collect()
}

/// A price less a discount, in steps of ten won.
fn reduced(price: u32, discount: f64) -> Krw {
    let price = i64::from(price);
    Krw(if discount > 0.0 { price - (price as f64 * discount / 10.0) as i64 * 10 } else { price })
}

/// A Poisson number that is at most `most`: drawn again where it would be more, not cut off, so that
/// there is no heap at the end. Inverted, so it grows with `uniform` and with the mean.
fn truncated_poisson(uniform: f64, mean: f64, most: usize) -> usize {
    let first = (-mean).exp();
    let terms = (1..=most).scan(first, |term, k| {
        *term *= mean / k as f64;
        Some(*term)
    });
    let all: f64 = first + terms.clone().sum::<f64>();
    let mut left = uniform * all - first;
    terms
        .take_while(|term| {
            let more = left >= 0.0;
            left -= term;
            more
        })
        .count()
}

/// The products of one order.
struct Choosing<'m> {
    context: &'m BasketContext<'m>,
    id: u32,
    remembered: &'m [u32],
    /// How likely each category is chosen, as far as it is known: its share, by the customer's taste
    /// and by what scenarios make of it.
    likings: SmallVec<[f64; 32]>,
    chosen: Vec<u32>,
}

impl Choosing<'_> {
    /// One product: bought before, newly listed, or from the best sellers, by taste and scenarios.
    fn choose(&mut self, random: &mut impl Rng) -> Option<u32> {
        let BasketContext { rules, offered, catalog, .. } = *self.context;
        let (way, known) = (random.random::<f64>(), random.random::<f64>());
        if way < rules.again && !self.remembered.is_empty() {
            let product = self.remembered[(known * self.remembered.len() as f64) as usize];
            if !catalog.get(product).sold_out && !self.chosen.contains(&product) {
                return Some(product);
            }
        }
        let Offered { best, newest } = offered;
        let (first, second) =
            if way < rules.again + rules.new { (newest, best) } else { (best, newest) };
        self.from(first, random).or_else(|| self.from(second, random))
    }

    /// One that is not in the basket: of a category, and there by its appeal.
    fn from(&mut self, shelves: &[Shelf], random: &mut impl Rng) -> Option<u32> {
        if self.likings.is_empty() {
            let BasketContext { seed, scenarios, categories, .. } = *self.context;
            let liking = |(place, category): (usize, &profile::Category)| {
                category.share * taste(seed, self.id, place) * scenarios.focus[place]
            };
            self.likings = categories.iter().enumerate().map(liking).collect();
        }
        let offered = || shelves.iter().zip(&self.likings).filter(|(one, _)| !one.is_empty());
        let all: f64 = offered().map(|(_, liking)| liking).sum();
        let mut point = random.random::<f64>() * all;
        let (category, _) = offered().find(|(_, liking)| {
            point -= *liking;
            point < 0.0
        })?;
        category.choose(random.random(), &self.chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chance of each number of lines beyond the first: from uniforms that are evenly spread.
    fn shares(mean: f64, most: usize) -> Vec<f64> {
        const STEPS: usize = 200_000;
        let mut shares = vec![0.0; most + 1];
        for step in 0..STEPS {
            let uniform = (step as f64 + 0.5) / STEPS as f64;
            shares[truncated_poisson(uniform, mean, most)] += 1.0 / STEPS as f64;
        }
        shares
    }

    /// It is the Poisson law of those that are at most `most`: what is beyond is on all of them, in
    /// proportion, not on the last.
    #[test]
    fn a_truncated_poisson_has_no_heap_at_its_end() {
        for (mean, most) in [(0.0, 9), (0.4, 9), (1.3, 9), (6.0, 9), (6.0, 3), (25.0, 9), (2.0, 0)]
        {
            let mut term = 1.0;
            let terms: Vec<f64> = (0..=most)
                .map(|k| {
                    let this = term;
                    term *= mean / (k + 1) as f64;
                    this
                })
                .collect();
            let all: f64 = terms.iter().sum();
            for (k, (share, term)) in shares(mean, most).into_iter().zip(&terms).enumerate() {
                assert!((share - term / all).abs() < 2e-5, "{k} of mean {mean}: {share}");
            }
        }
    }

    #[test]
    fn it_grows_with_the_uniform_and_with_the_mean() {
        for mean in [0.1, 1.3, 6.0, 40.0] {
            let counts: Vec<usize> =
                (0..1_000).map(|it| truncated_poisson(f64::from(it) / 1e3, mean, 9)).collect();
            assert!(counts.is_sorted(), "mean {mean}");
            assert_eq!(counts[0], 0);
        }
        for uniform in [0.01, 0.3, 0.5, 0.9, 0.999] {
            let means = (0..2_000).map(|it| f64::from(it) / 20.0);
            let counts: Vec<usize> =
                means.map(|mean| truncated_poisson(uniform, mean, 9)).collect();
            assert!(counts.is_sorted(), "uniform {uniform}");
        }
        // Means beyond what can be worked out: as many as there may be.
        for mean in [800.0, 1e9, 1e19] {
            assert_eq!(truncated_poisson(0.5, mean, 9), 9);
        }
    }

    #[test]
    fn a_discount_takes_tens_of_won() {
        assert_eq!(reduced(12_900, 0.0), Krw(12_900));
        assert_eq!(reduced(12_900, 0.3), Krw(9_030));
        assert_eq!(reduced(990, 0.25), Krw(750));
        assert_eq!(reduced(1_000, 0.9), Krw(100));
    }
}
