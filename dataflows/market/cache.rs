//! The cache of the working set: what is put there, and what is drawn from once it was read.
//!
//! Live, the worker that leads puts each refresh's set into the cache and then says so; every worker
//! reads it from there before the refresh's first order tick, and draws customers and products from
//! what it read. While the market lives through its past it draws from its own copy.
//!
//! Invariant: the cache changes no event. A set that was read is held against the market's own,
//! member by member, and one that differs (stale, foreign, damaged) is treated as missing. So the
//! cache can be lost at any moment, and nobody who writes into it can change the market. Members by
//! id stand beside the set for those who look, and are not read at all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Market, Settings,
    catalog::{Catalog, Offered},
    people::{Score, mood, person},
    profile::BANDS,
    shelf::Shelf,
    working_set::{Member, Members},
};
use crate::model::{
    Category, Krw, Millis, Sex, Status,
    time::{age_on, day_of},
};

/// A place for working sets that is quicker to ask than a database; the shell says where it is.
pub trait Cache: Send + Sync {
    /// Puts the set of a refresh, and beside it, where others can look, its members by id. In history
    /// it need not, and then does not have it drawn up.
    fn put(&self, live: bool, set: &dyn Fn() -> CachedSet, by_id: &dyn Fn(&CachedSet) -> ById);

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

/// The members of a set by id, for those who look into the cache: the market never reads them.
pub struct ById {
    /// In the order of the set.
    pub customers: Vec<CustomerById>,
    /// In the order of the set.
    pub products: Vec<ProductById>,
}

/// A customer of the working set, as one who looks sees them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CustomerById {
    /// The set's.
    pub version: u64,
    /// Who it is.
    pub user_id: u32,
    /// Their name.
    pub name: Arc<str>,
    /// Their sex.
    pub sex: Sex,
    /// In years, today.
    pub age: u32,
    /// Their status.
    pub status: Status,
    /// Whether they agreed to marketing.
    pub marketing_consent: bool,
    /// The word of their grade as the day began, or as they came among the candidates since.
    pub grade: &'static str,
    /// When they placed their last order; none if they never did.
    pub last_order_at: Option<Millis>,
    /// What the score is the product of; its grade is the one at which they became due.
    pub parts: Score,
    /// The score, less the time of day.
    pub score: f64,
    /// The set's: the score to the power of 1 / temperature, in 65,536ths.
    pub weight: u64,
}

/// A product of the working set, as one who looks sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProductById {
    /// The set's.
    pub version: u64,
    /// Which it is.
    pub product_id: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its category.
    pub category: Category,
    /// Its price.
    pub price: Krw,
    /// Units left as the refresh begins.
    pub stock: i64,
    /// The set's: why it is offered.
    pub group: Group,
    /// The set's.
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
            shelves.iter().flat_map(Shelf::iter).map(product)
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

impl ById {
    /// Of the set of the refresh that has just begun.
    pub(super) fn new(market: &Market, set: &CachedSet) -> Self {
        let Market { settings, words, common, working_set, .. } = market;
        let Settings { seed, profile, .. } = settings;
        let (version, day, mood_time) =
            (set.version, day_of(set.at), market.settings.mood_time(set.at));
        let customer = |one: &CachedCustomer| {
            let face = working_set.face(one.user_id);
            let (person, user) = person(profile, *seed, one.user_id, face.signed_up_at);
            let never_bought = face.last_order_at.is_none();
            let parts = Score {
                mood: mood(&profile.score, *seed, one.user_id, person.consent, mood_time),
                ..person.score(&profile.score, face.status, face.due_grade, never_bought, day)
            };
            CustomerById {
                version,
                user_id: one.user_id,
                name: user.name,
                sex: person.sex,
                age: age_on(day, person.birth_date),
                status: face.status,
                marketing_consent: person.consent,
                grade: face.grade.word(),
                last_order_at: face.last_order_at,
                parts,
                score: parts.product(),
                weight: one.weight,
            }
        };
        let product = |one: &CachedProduct| {
            let known = common.catalog.record(profile, *seed, one.product_id, words);
            ProductById {
                version,
                product_id: one.product_id,
                name: known.name,
                category: known.category,
                price: known.price,
                stock: known.stock,
                group: one.group,
                weight: one.weight,
            }
        };
        ById {
            customers: set.customers.iter().map(customer).collect(),
            products: set.products.iter().map(product).collect(),
        }
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
