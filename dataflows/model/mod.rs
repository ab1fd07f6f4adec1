//! The words of the market as types: events, ids, money and time.

mod category;
pub mod codec;
mod event;
pub mod kind;
pub mod record;
pub mod time;

pub use category::Category;
pub use event::{
    AMOUNT_MAX, Beat, Choice, Event, Heartbeat, Line, Order, OrderEvent, OrderKind, Product,
    ProductEvent, Record, ScenarioAction, ScenarioEvent, Sex, Status, Strength, Topic, User,
    UserEvent,
};
pub use time::{Day, Millis};

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use derive_more::{Add, AddAssign, Display, From, Into, Mul, Neg, Sub, SubAssign, Sum};
use serde::{Deserialize, Serialize};

/// Money: whole Korean won.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Add,
    AddAssign,
    Display,
    From,
    Into,
    Mul,
    Neg,
    Sub,
    SubAssign,
    Sum,
)]
pub struct Krw(pub i64);

/// Declares the name of a thing: a number that is not computed with.
macro_rules! id {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            Display, From, Into,
        )]
        pub struct $name(pub i64);
    };
}

id! {
    /// Names a customer; also the record key of `users` and `orders`.
    UserId
}

id! {
    /// Names a product; also the record key of `products`.
    ProductId
}

id! {
    /// Names an order among those of its customer.
    OrderId
}

/// A short text that many records share (a category, a region, a name): cheap to copy.
pub type Word = Arc<str>;

/// How many different short texts a thread shares; then it begins anew.
const WORDS_MAX: usize = 4096;

thread_local! {
    static WORDS: RefCell<HashSet<Word>> = RefCell::default();
}

/// A short text, in the memory of an equal one that this thread has had (a category, a region).
pub fn shared(text: &str) -> Word {
    WORDS.with_borrow_mut(|words| {
        if let Some(word) = words.get(text) {
            return word.clone();
        }
        let word = Word::from(text);
        // Who has one of them keeps it; records with many words do not spoil it for those behind them.
        if words.len() >= WORDS_MAX {
            words.clear();
        }
        words.insert(word.clone());
        word
    })
}

/// The partition that Kafka's own clients choose for a record key: murmur2, made positive.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// `MurmurHash2` (32 bit) with the seed of Kafka's `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_share_memory_up_to_a_bound() {
        assert!(Word::ptr_eq(&shared("식품"), &shared("식품")));
        for n in 0..2 * WORDS_MAX {
            assert_eq!(&*shared(&n.to_string()), n.to_string());
        }
        assert!(WORDS.with_borrow(HashSet::len) <= WORDS_MAX);
        assert!(Word::ptr_eq(&shared("식품"), &shared("식품")));
    }

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
