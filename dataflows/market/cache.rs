//! The cache of the working set: what is put there, and what is drawn from once it was read.
//!
//! Live, the worker that leads puts each refresh's set into the cache and then says so; every worker
//! reads it from there before the refresh's first order tick, and draws customers and products from
//! what it read. While the market lives through its past it draws from its own copy.
//!
//! Invariant: the cache changes no event. A set that was read is held against the market's own,
//! member by member, and one that differs (stale, foreign, damaged) is treated as missing. So the
//! cache can be lost at any moment, and nobody who writes into it can change the market.

use serde::{Deserialize, Serialize};

use super::{
    catalog::{Catalog, Offered},
    profile::BANDS,
    working_set::{Member, Members},
};
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
    /// The customers to win, by id.
    pub customers: Vec<CachedCustomer>,
    /// The products offered first, by id.
    pub products: Vec<CachedProduct>,
}

/// A customer of the working set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedCustomer {
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
    /// Which it is.
    pub product_id: u32,
    /// Why it is offered.
    pub group: Group,
    /// Its share in draws: how much people like it.
    pub weight: u32,
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

/// In the order of the bands.
const AGE_BANDS: [AgeBand; BANDS] = [
    AgeBand::Tens,
    AgeBand::Twenties,
    AgeBand::Thirties,
    AgeBand::Forties,
    AgeBand::Fifties,
    AgeBand::Sixties,
];

impl CachedSet {
    pub(super) fn new(version: u64, at: Millis, members: &Members, offered: &Offered) -> Self {
        let customer = |(user_id, member): (u32, Member)| CachedCustomer {
            user_id,
            age_band: AGE_BANDS[usize::from(member.band)],
            bought_before: member.group == 0,
            weight: member.weight,
        };
        let groups = [(&offered.best, Group::BestSeller), (&offered.newest, Group::Newest)];
        let products = groups.into_iter().flat_map(|(shelves, group)| {
            let product = move |(product_id, weight)| CachedProduct { product_id, group, weight };
            shelves.iter().flat_map(|shelf| shelf.iter()).map(product)
        });
        let mut set = CachedSet {
            version,
            at,
            customers: members.iter().map(customer).collect(),
            products: products.collect(),
        };
        set.customers.sort_unstable_by_key(|one| one.user_id);
        set.products.sort_unstable_by_key(|one| one.product_id);
        set
    }
}

/// What a refresh draws from, made of a set that was read.
pub(super) struct Offer {
    pub(super) members: Members,
    pub(super) products: Offered,
}

impl Offer {
    pub(super) fn new(set: &CachedSet, catalog: &Catalog) -> Self {
        let mut members = Members::default();
        for one in &set.customers {
            let group = u8::from(!one.bought_before);
            let member = Member { group, band: one.age_band as u8, weight: one.weight };
            members.set(one.user_id, member);
        }
        let mut products = Offered::new(catalog.offered().best.len());
        for one in &set.products {
            let shelves = match one.group {
                Group::BestSeller => &mut products.best,
                Group::Newest => &mut products.newest,
            };
            let category = catalog.get(one.product_id).category;
            shelves[usize::from(category)].add(one.product_id, one.weight);
        }
        Offer { members, products }
    }
}
