//! Random numbers by their owner: each purpose, owner and count of the owner's own has a stream.
//!
//! No stream is shared, and none is named by a number that others move on: what one customer, product
//! or day draws does not depend on what any other has drawn, nor on how many orders there were.

use rand::SeedableRng;
use rand_xoshiro::SplitMix64;
use xxhash_rust::xxh3::xxh3_64;

/// What a stream of random numbers is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Who a customer is, by customer.
    Person,
    /// Whether and when a new customer is ready to buy, by customer.
    Readiness,
    /// How much a customer likes a category, by customer and category.
    Taste,
    /// A customer's boost and life event, by customer and day or refresh.
    Mood,
    /// When a customer's keys of the race fall, by customer and hour.
    Race,
    /// What a sale moves a customer to do, by customer and day.
    Sale,
    /// Lines, rest and fate of an order, by customer and the customer's count of orders.
    Order,
    /// One line of an order, by customer, count of orders and place of the line.
    Choice,
    /// Whether a quiet customer leaves, by customer and time.
    Leave,
    /// A product as it is listed, by product.
    Goods,
    /// The time to the next listing, by product.
    Listing,
    /// How long a delivery takes, by product and refresh.
    Delivery,
    /// A day's own luck, by day.
    Day,
    /// The order ticks of a refresh, by refresh.
    Ticks,
    /// The number of orders of a tick where the highest scores order, by refresh and tick.
    Demand,
    /// Who signs up in a refresh, by refresh.
    SignUps,
    /// The day that the weather chooses, by scenario and year.
    Weather,
}

/// The stream of that purpose for one owner at one count of theirs.
pub(super) fn draw(seed: u64, purpose: Purpose, owner: u64, count: u64) -> SplitMix64 {
    let mut name = [0; 32];
    for (bytes, word) in name.chunks_exact_mut(8).zip([seed, purpose as u64, owner, count]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    SplitMix64::seed_from_u64(xxh3_64(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::Rng;

    use super::*;

    const ALL: [Purpose; 17] = [
        Purpose::Person,
        Purpose::Readiness,
        Purpose::Taste,
        Purpose::Mood,
        Purpose::Race,
        Purpose::Sale,
        Purpose::Order,
        Purpose::Choice,
        Purpose::Leave,
        Purpose::Goods,
        Purpose::Listing,
        Purpose::Delivery,
        Purpose::Day,
        Purpose::Ticks,
        Purpose::Demand,
        Purpose::SignUps,
        Purpose::Weather,
    ];

    /// Every purpose, owner, count and seed names another stream, and names it again.
    #[test]
    fn every_name_has_a_stream_of_its_own() {
        assert!(ALL.iter().enumerate().all(|(place, purpose)| *purpose as usize == place));
        let mut known = HashMap::new();
        for seed in [0, 1, 7] {
            for purpose in ALL {
                for owner in [0, 1, 2, 256, u64::MAX] {
                    for count in [0, 1, 2, 256, 1 << 32, u64::MAX] {
                        let first =
                            |random: &mut SplitMix64| [random.next_u64(), random.next_u64()];
                        let values = first(&mut draw(seed, purpose, owner, count));
                        assert_eq!(values, first(&mut draw(seed, purpose, owner, count)));
                        let name = (seed, purpose as u64, owner, count);
                        for value in values {
                            assert_eq!(known.insert(value, name), None, "{name:?}");
                        }
                    }
                }
            }
        }
    }
}
