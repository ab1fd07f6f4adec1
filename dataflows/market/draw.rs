//! Random numbers by name: each purpose, entity and tick has a stream of its own.
//!
//! No stream is shared, so what one worker draws never depends on what another has drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Person,
    Goods,
    Day,
    Mood,
    Ticks,
    Demand,
    SignUps,
    Listing,
    Order,
    Weather,
    Delivery,
    Leave,
}

/// The stream of that purpose for one entity at one tick.
pub(super) fn draw(seed: u64, purpose: Purpose, entity: u64, tick: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, entity, tick]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
