//! The cache of the working set: what is put there, and what is drawn from once it was read.
//!
//! Live, the worker that leads puts each refresh's set into the cache and then says so; every worker
//! reads it from there before the refresh's first order tick, and draws customers and products from
//! what it read. While the market lives through its past it draws from its own copy.
//!
//! Invariant: the cache changes no event. A set that was read is held against the market's own,
//! member by member, and one that differs (stale, foreign, damaged) is treated as missing. So the
//! cache can be lost at any moment, and nobody who writes into it can change the market.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{profile::BANDS, roster::Roster};
use crate::model::Millis;

/// A place for working sets that is quicker to ask than a database; the shell says where it is.
pub trait Cache: Send + Sync {
    /// Puts the set of a refresh. In history it need not, and then does not have it drawn up.
    fn put(&self, live: bool, set: &dyn Fn() -> CachedSet);

    /// The set of a version, if it is there and can be read. Asked only live.
    fn get(&self, version: u64) -> Option<CachedSet>;

    /// Hears what a worker made of its [`get`](Cache::get).
    fn count(&self, reading: Reading);
}

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The refresh draws from what was read.
    Hit,
    /// There was nothing; the refresh draws from the market's own copy.
    Miss,
    /// What was there is not this market's set; the refresh draws from the market's own copy.
    Differs,
}

/// The working set of a refresh, as it stands in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedSet {
    /// The refresh, counted from the market's beginning.
    pub version: u64,
    /// Market time at which it begins.
    pub at: Millis,
    /// The customers to win, by slot.
    pub customers: Vec<CachedCustomer>,
    /// The products offered first, by slot.
    pub products: Vec<CachedProduct>,
}

/// A customer of the working set. Slots are part of it, because a draw goes along them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedCustomer {
    /// Its place in draws.
    pub slot: u16,
    /// Who it is.
    pub user_id: u32,
    /// Decades of age share an hour's liking.
    pub age_band: AgeBand,
    /// Past buyers have another demand than those who never bought.
    pub bought_before: bool,
    /// Its share in draws, less the time of day.
    pub weight: u64,
}

/// A product of the working set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedProduct {
    /// Its place in draws.
    pub slot: u16,
    /// Which it is.
    pub product_id: u32,
    /// Why it is offered.
    pub group: Group,
    /// Its share in draws: how much people like it.
    pub weight: u64,
}

/// Ages that buy at the same hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgeBand {
    /// Everybody under 20.
    #[serde(rename = "10s")]
    Tens,
    /// 20 to 29, and so on.
    #[serde(rename = "20s")]
    Twenties,
    /// See `Twenties`.
    #[serde(rename = "30s")]
    Thirties,
    /// See `Twenties`.
    #[serde(rename = "40s")]
    Forties,
    /// See `Twenties`.
    #[serde(rename = "50s")]
    Fifties,
    /// From 60.
    #[serde(rename = "60+")]
    Sixties,
}

/// Why a product is in the working set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    /// Among the 700 with most orders.
    #[serde(rename = "best seller")]
    BestSeller,
    /// Among the newest others.
    #[serde(rename = "newest")]
    Newest,
}

/// In the order of the roster's bands.
const AGE_BANDS: [AgeBand; BANDS] = [
    AgeBand::Tens,
    AgeBand::Twenties,
    AgeBand::Thirties,
    AgeBand::Forties,
    AgeBand::Fifties,
    AgeBand::Sixties,
];
/// In the order of the roster's bands.
const GROUPS: [Group; 2] = [Group::BestSeller, Group::Newest];

impl CachedSet {
    /// The set as two rosters and the past buyers have it.
    pub(super) fn new(
        version: u64,
        at: Millis,
        customers: &Roster,
        has_bought: impl Fn(u32) -> bool,
        products: &Roster,
    ) -> Self {
        let customer = |(slot, user_id, band, weight)| CachedCustomer {
            slot,
            user_id,
            age_band: AGE_BANDS[usize::from(band)],
            bought_before: has_bought(user_id),
            weight,
        };
        let product = |(slot, product_id, band, weight)| CachedProduct {
            slot,
            product_id,
            group: GROUPS[usize::from(band)],
            weight,
        };
        CachedSet {
            version,
            at,
            customers: customers.by_slot().map(customer).collect(),
            products: products.by_slot().map(product).collect(),
        }
    }
}

/// What a refresh draws from, made of a set that was read.
pub(super) struct Offer {
    pub(super) customers: Roster,
    pub(super) products: Roster,
    buyers: HashSet<u32>,
}

impl Offer {
    pub(super) fn new(set: &CachedSet) -> Self {
        let (mut customers, mut products) = (Roster::new(BANDS), Roster::new(GROUPS.len()));
        for one in &set.customers {
            customers.seat(one.slot, one.user_id, one.age_band as u8, one.weight);
        }
        for one in &set.products {
            products.seat(one.slot, one.product_id, one.group as u8, one.weight);
        }
        let buyers = set.customers.iter().filter(|one| one.bought_before);
        Offer { customers, products, buyers: buyers.map(|one| one.user_id).collect() }
    }

    /// Whether a customer has bought before.
    pub(super) fn has_bought(&self, id: u32) -> bool {
        self.buyers.contains(&id)
    }
}
