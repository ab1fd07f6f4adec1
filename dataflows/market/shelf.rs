//! The products of a category that are offered, to choose from in proportion to their appeal.
//!
//! A choice is a race, as that of the customers is: each product arrives at a time of its own, an
//! exponential draw by the choice and the product, over its appeal, and the first is taken. So a product
//! more or less changes only the choices that it takes, or would have taken.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::SplitMix64;

/// Products with their appeal, in no particular order.
#[derive(Clone, Default)]
pub(super) struct Shelf(Vec<(u32, u32)>);

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, id: u32, appeal: u32) {
        self.0.push((id, appeal));
    }

    /// Takes a product off the shelf, if it is there.
    pub(super) fn remove(&mut self, id: u32) {
        if let Some(place) = self.0.iter().position(|(other, _)| *other == id) {
            self.0.swap_remove(place);
        }
    }

    /// The products and their appeal, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    /// The choice of that name among the products that are not left out.
    pub(super) fn choose(&self, choice: u64, left_out: &[u32]) -> Option<u32> {
        let (mut first, mut chosen) = (f64::INFINITY, None);
        for (id, appeal) in &self.0 {
            // The id-th number of the choice's stream.
            let place = choice.wrapping_add(u64::from(*id).wrapping_mul(STEP));
            let uniform: f64 = SplitMix64::seed_from_u64(place).random();
            // The time is at least that, and it need not be known whose time is too late anyway.
            let least = uniform / f64::from(*appeal);
            if least <= first && !left_out.contains(id) {
                let time = -(-uniform).ln_1p() / f64::from(*appeal);
                if (time, Some(*id)) < (first, chosen) {
                    (first, chosen) = (time, Some(*id));
                }
            }
        }
        chosen
    }
}

/// From one number of a stream to the next.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(products: &[(u32, u32)]) -> Shelf {
        let mut shelf = Shelf::default();
        for (id, appeal) in products {
            shelf.add(*id, *appeal);
        }
        shelf
    }

    const PRODUCTS: [(u32, u32); 5] = [(3, 1), (70, 2), (71, 3), (5_000, 10), (2, 24)];

    #[test]
    fn products_are_chosen_in_proportion_to_their_appeal() {
        let (shelf, choices) = (shelf(&PRODUCTS), 100_000);
        let chosen: Vec<u32> =
            (0..choices).filter_map(|choice| shelf.choose(choice, &[])).collect();
        let mut distance = 0.0;
        for (id, appeal) in PRODUCTS {
            let expected = choices as f64 * f64::from(appeal) / 40.0;
            let seen = chosen.iter().filter(|other| **other == id).count() as f64;
            distance += (seen - expected).powi(2) / expected;
        }
        // Chi-square with 4 degrees of freedom: beyond it once in ten thousand.
        assert!(distance < 23.5, "{distance}");
        assert_eq!(chosen.len() as u64, choices);
    }

    #[test]
    fn one_product_more_changes_only_the_choices_that_it_takes() {
        let before = shelf(&PRODUCTS[..4]);
        let mut after = shelf(&PRODUCTS);
        let differ = |after: &Shelf| {
            (0..1_000).filter(|it| before.choose(*it, &[]) != after.choose(*it, &[])).count()
        };
        let taken = (0..1_000).filter(|it| after.choose(*it, &[]) == Some(2)).count();
        assert_eq!(differ(&after), taken);
        after.remove(2);
        after.remove(4);
        assert_eq!(differ(&after), 0);
        assert_eq!(before.choose(7, &[3, 70, 71, 5_000]), None);
    }
}
