//! The profile: every number of the market's rules, read from TOML.
//!
//! `year.toml` and `brief.toml` ship with the program. A profile of one's own names one of them as
//! its `base` and says what it changes.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::model::{
    Krw,
    time::{DAY, HOUR, SECOND, Span},
};

/// Age bands: under 20, the 20s, 30s, 40s, 50s, and from 60.
pub(super) const BANDS: usize = 6;

/// The profiles that ship: name and text.
const PROFILES: [(&str, &str); 2] =
    [("year", include_str!("year.toml")), ("brief", include_str!("brief.toml"))];

/// Every number of the market's rules; `year.toml` says what each is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How long the market lives through before it goes live: 12mo, 30d or 0.
    pub history: String,
    pub(super) customers: Customers,
    pub(super) rhythm: Rhythm,
    pub(super) working_set: WorkingSet,
    pub(super) score: Score,
    pub(super) demand: Demand,
    pub(super) basket: Basket,
    pub(super) products: Products,
    #[serde(rename = "category")]
    pub(super) categories: Vec<Category>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Customers {
    pub(super) initial: u32,
    pub(super) reach: f64,
    pub(super) growth: f64,
    /// A market of an older program has none.
    #[serde(default = "no_head_start")]
    pub(super) head_start: f64,
    pub(super) rush: f64,
    pub(super) rush_decay: Span,
    pub(super) women: f64,
    pub(super) consent: f64,
    pub(super) ages: Vec<(u8, u8, f64)>,
    pub(super) dormant_after: Span,
    pub(super) withdrawn: f64,
    pub(super) ready: f64,
    pub(super) ready_at_once: f64,
    pub(super) ready_delay: Span,
    pub(super) opening_delay: Span,
}

fn no_head_start() -> f64 {
    1.0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rhythm {
    pub(super) orders_a_month: f64,
    pub(super) spread: f64,
    pub(super) rest: Span,
    pub(super) soon: (f64, Span),
    pub(super) drop_out: (f64, f64),
    pub(super) only_one: f64,
    #[serde(rename = "return")]
    pub(super) back: Span,
    pub(super) regulars: Regulars,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Regulars {
    pub(super) share: f64,
    pub(super) orders_a_month: f64,
    pub(super) spread: f64,
    pub(super) lines: (f64, f64),
    pub(super) drop_out: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkingSet {
    pub(super) refresh: Span,
    pub(super) customers: usize,
    pub(super) buyers: usize,
    pub(super) products: usize,
    pub(super) best_sellers: usize,
    pub(super) best_sellers_days: u32,
    pub(super) selection: Selection,
}

/// Which past buyers the working set looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Selection {
    /// Those who are due by their own rhythm.
    Due,
    /// All of them, to the letter of the brief: the market becomes a queue.
    All,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Score {
    pub(super) temperature: f64,
    pub(super) factor: (f64, f64),
    pub(super) visitor: f64,
    pub(super) mood: Mood,
    pub(super) women: f64,
    pub(super) men: f64,
    pub(super) ages: [f64; BANDS],
    pub(super) dormant: f64,
    pub(super) consent: [f64; 2],
    pub(super) grades: [f64; 4],
    pub(super) boost: (f64, f64),
    pub(super) life: [(f64, f64); 2],
}

/// For how long a customer's boost and life event hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mood {
    /// A day.
    Day,
    /// A refresh.
    Refresh,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Demand {
    pub(super) tick: [Span; 2],
    /// Orders of a tick, whatever the demand; none where it decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) orders_a_tick: Option<usize>,
    pub(super) backlog: [f64; 2],
    pub(super) pressure: f64,
    pub(super) smooth: Span,
    pub(super) arrivals: [f64; 2],
    pub(super) lift: f64,
    pub(super) pull: f64,
    pub(super) horizon: Span,
    pub(super) awakened: f64,
    pub(super) noise: f64,
    pub(super) ceiling: f64,
    pub(super) holidays: f64,
    pub(super) weekdays: [f64; 7],
    pub(super) months: [f64; 12],
    /// Waves by age band: hour of the peak, spread in hours, share.
    pub(super) hours: [Vec<(f64, f64, f64)>; BANDS],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Basket {
    pub(super) lines: (f64, f64),
    pub(super) most: usize,
    pub(super) quantity: [f64; 3],
    pub(super) again: f64,
    pub(super) new: f64,
    pub(super) remembered: usize,
    pub(super) cancelled: f64,
    pub(super) refunded: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Products {
    pub(super) initial: u32,
    pub(super) listing: [Span; 2],
    pub(super) listed_a_day: f64,
    pub(super) listed_more: f64,
    pub(super) popularity: (f64, f64),
    pub(super) price: (f64, f64),
    pub(super) stock: (i64, i64),
    pub(super) reorder: f64,
    pub(super) delivery: [Span; 2],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Category {
    pub(super) name: String,
    pub(super) share: f64,
    pub(super) price: (Krw, Krw),
    pub(super) elasticity: f64,
    pub(super) goods: Vec<String>,
}

impl Profile {
    /// The profile that ships under a name.
    pub fn named(name: &str) -> Option<Profile> {
        let (_, text) = PROFILES.iter().find(|(known, _)| *known == name)?;
        Some(Profile::read(text).expect("what ships is valid"))
    }

    /// Reads a profile; the error says what is wrong, and where.
    pub fn read(text: &str) -> Result<Profile, String> {
        let table = whole(text)?;
        let profile: Profile =
            Value::Table(table).try_into().map_err(|error: toml::de::Error| error.to_string())?;
        profile.check()?;
        Ok(profile)
    }

    /// The categories' words.
    pub fn words(&self) -> Vec<&str> {
        self.categories.iter().map(|category| category.name.as_str()).collect()
    }

    /// Refuses numbers that the rules could not live by.
    pub(super) fn check(&self) -> Result<(), String> {
        let claims = self.claims_of_customers().into_iter().chain(self.claims_of_orders());
        match claims.into_iter().find(|(holds, _)| !holds) {
            Some((_, claim)) => Err(claim.to_owned()),
            None => Ok(()),
        }
    }

    fn claims_of_customers(&self) -> Vec<Claim> {
        let Profile { customers, rhythm, working_set, score, demand, .. } = self;
        let (refresh, regulars) = (working_set.refresh.0, &rhythm.regulars);
        vec![
            (
                refresh > 0 && HOUR % refresh == 0 && refresh >= demand.tick[1].0,
                "[working_set] refresh divides an hour, and holds an order tick",
            ),
            (
                (1..=1024).contains(&working_set.customers)
                    && (1..=1024).contains(&working_set.products),
                "[working_set] customers and products are 1 to 1024",
            ),
            (
                working_set.buyers <= working_set.customers
                    && working_set.best_sellers <= working_set.products,
                "[working_set] buyers are among the customers, best_sellers among the products",
            ),
            (
                working_set.best_sellers_days <= 3_660,
                "[working_set] best_sellers_days are 3660 at the most",
            ),
            (
                customers.reach >= f64::from(customers.initial)
                    && customers.reach <= 1e8
                    && factors(&[customers.growth])
                    && (1.0..=100.0).contains(&customers.head_start)
                    && (0.0..=1_000.0).contains(&customers.rush)
                    && customers.rush_decay.0 > 0,
                "[customers] reach is from initial to 100000000, growth 0 to 100, head_start 1 to 100, \
                 rush 0 to 1000",
            ),
            (
                share(customers.women) && share(customers.consent) && share(customers.withdrawn),
                "[customers] women, consent and withdrawn are shares, 0 to 1",
            ),
            (
                !customers.ages.is_empty()
                    && customers
                        .ages
                        .iter()
                        .all(|(from, to, weight)| from <= to && *to <= 99 && positive(*weight)),
                "[customers] ages are [from, to, weight], up to 99",
            ),
            (customers.dormant_after.0 >= DAY, "[customers] dormant_after is at least a day"),
            (
                positive(rhythm.orders_a_month)
                    && spread(rhythm.spread)
                    && rhythm.rest.0 >= 0
                    && share(rhythm.soon.0)
                    && rhythm.soon.1.0 >= 0
                    && positive(rhythm.drop_out.0)
                    && positive(rhythm.drop_out.1)
                    && share(rhythm.only_one)
                    && rhythm.back.0 > 0,
                "[rhythm] numbers are 0.001 to 1000000, spread is 0 or 0.001 to 100, only_one and the first \
                 of soon are shares",
            ),
            (
                share(regulars.share)
                    && positive(regulars.orders_a_month)
                    && spread(regulars.spread)
                    && positive(regulars.lines.0)
                    && positive(regulars.lines.1)
                    && share(regulars.drop_out),
                "[rhythm.regulars] share and drop_out are shares, spread 0 or 0.001 to 100, others above 0",
            ),
            (
                share(customers.ready)
                    && share(customers.ready_at_once)
                    && customers.ready_delay.0 >= 0
                    && customers.opening_delay.0 >= 0,
                "[customers] ready and ready_at_once are shares, 0 to 1",
            ),
            (
                positive(score.factor.0)
                    && score.factor.0 <= score.factor.1
                    && score.factor.1 <= 100.0,
                "[score] factor is the least and the most, above 0",
            ),
            (
                score.temperature >= 0.0 && score.temperature <= 10.0,
                "[score] temperature is 0 to 10",
            ),
            (
                factors(&[score.women, score.men, score.dormant, score.visitor, score.boost.1])
                    && factors(&score.ages)
                    && factors(&score.consent)
                    && factors(&score.grades)
                    && factors(&score.life.map(|(_, factor)| factor)),
                "[score] factors are 0 to 100",
            ),
            (
                share(score.boost.0)
                    && score.life.iter().all(|(part, _)| share(*part))
                    && share(score.life[0].0 + score.life[1].0),
                "[score] boost and life begin with shares, 0 to 1",
            ),
        ]
    }

    fn claims_of_orders(&self) -> Vec<Claim> {
        let Profile { demand, basket, products, .. } = self;
        vec![
            (
                span(demand.tick) && demand.tick[0].0 >= SECOND,
                "[demand] tick is the least and the most span, from 1s on",
            ),
            (
                demand.backlog.into_iter().all(positive)
                    && (0.0..=10.0).contains(&demand.pressure)
                    && demand.arrivals.into_iter().all(|it| (0.0..=1e9).contains(&it))
                    && demand.smooth.0 > 0,
                "[demand] backlog and smooth are above 0, pressure is 0 to 10",
            ),
            (
                (0.0..=10.0).contains(&demand.lift)
                    && share(demand.pull)
                    && demand.horizon.0 >= DAY
                    && share(demand.awakened),
                "[demand] lift is 0 to 10, pull and awakened are shares, horizon is at least a day",
            ),
            (
                demand.orders_a_tick.is_none_or(|it| it > 0 && self.score.temperature == 0.0),
                "[demand] orders_a_tick is above 0, and for the highest scores: temperature 0",
            ),
            (
                factors(&demand.weekdays)
                    && factors(&demand.months)
                    && (0.0..=2.0).contains(&demand.noise)
                    && (1.0..=10.0).contains(&demand.ceiling)
                    && (0.05..=1.0).contains(&demand.holidays),
                "[demand] weekdays and months are factors, noise is 0 to 2, ceiling 1 to 10, holidays \
                 0.05 to 1",
            ),
            (
                demand.hours.iter().flatten().all(|(peak, spread, part)| {
                    (0.0..24.0).contains(peak) && *spread >= 0.2 && share(*part)
                }) && demand
                    .hours
                    .iter()
                    .all(|waves| share(waves.iter().map(|wave| wave.2).sum::<f64>())),
                "[demand] hours are waves [hour, spread of at least 0.2, share], shares up to 1",
            ),
            (
                positive(basket.lines.0)
                    && positive(basket.lines.1)
                    && (1..=100).contains(&basket.most)
                    && basket.quantity.iter().copied().all(share)
                    && positive(basket.quantity.iter().sum()),
                "[basket] lines are positive, most is 1 to 100, quantity three shares",
            ),
            (
                share(basket.again + basket.new)
                    && share(basket.again)
                    && share(basket.new)
                    && share(basket.cancelled)
                    && share(basket.refunded)
                    && share(basket.cancelled + basket.refunded),
                "[basket] again, new, cancelled and refunded are shares, 0 to 1",
            ),
            (
                (1..=10_000_000).contains(&products.initial)
                    && span(products.listing)
                    && (products.listed_a_day == 0.0 || positive(products.listed_a_day))
                    && products.listed_a_day <= 100_000.0
                    && (0.0..=100_000.0).contains(&products.listed_more),
                "[products] initial is 1 to 10000000, listing spans, listed_a_day 0 or 0.001 to 100000, \
                 listed_more 0 to 100000",
            ),
            (
                products.popularity.0 >= 0.0
                    && products.popularity.0 <= 5.0
                    && positive(products.popularity.1)
                    && positive(products.price.0)
                    && positive(products.price.1),
                "[products] popularity is an exponent of 0 to 5 and an offset, price two shapes",
            ),
            (
                products.stock.0 >= 1
                    && products.stock.0 <= products.stock.1
                    && products.stock.1 <= 1_000_000_000
                    && share(products.reorder)
                    && span(products.delivery),
                "[products] stock and delivery are the least and the most, reorder a share",
            ),
            (
                (1..=255).contains(&self.categories.len())
                    && self.categories.iter().all(|category| {
                        let (low, high) = category.price;
                        word(&category.name)
                            && positive(category.share)
                            && (0.0..=10.0).contains(&category.elasticity)
                            && (Krw(1_000)..=high).contains(&low)
                            && high <= Krw(100_000_000)
                            && !category.goods.is_empty()
                            && category.goods.iter().all(|name| is_name(name))
                    }),
                "a category has a word of letters and hyphens, a share, a price range from 1,000 \
                 won on, an elasticity of 0 to 10, and goods, whose names have at most 200 bytes",
            ),
        ]
    }
}

/// Whether something holds, and what it is.
type Claim = (bool, &'static str);

fn share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

/// Whether it is above 0, and neither so small nor so great that what is worked out of it leaves
/// its type.
fn positive(value: f64) -> bool {
    (1e-3..=1e6).contains(&value)
}

/// Whether it can be the variance of a factor; 0 where there is none.
fn spread(value: f64) -> bool {
    value == 0.0 || (1e-3..=100.0).contains(&value)
}

fn factors(values: &[f64]) -> bool {
    values.iter().all(|value| (0.0..=100.0).contains(value))
}

/// Whether it is the least and the most of a span.
fn span([least, most]: [Span; 2]) -> bool {
    least.0 > 0 && least.0 <= most.0
}

/// Whether a text can be part of a product's name.
fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether a text is a word as scenarios and categories are named by.
pub fn word(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A profile's table, with what it takes from its base.
fn whole(text: &str) -> Result<Table, String> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let Some(base) = table.remove("base") else { return Ok(table) };
    let known = || PROFILES.map(|(name, _)| name).join(" or ");
    let base = base.as_str().and_then(|base| PROFILES.iter().find(|(name, _)| *name == base));
    let Some((_, base)) = base else { return Err(format!("`base` is {}", known())) };
    let mut merged = whole(base)?;
    merge(&mut merged, table);
    Ok(merged)
}

/// Puts what `over` says in the place of what `under` says; tables are merged key by key.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_changes_what_it_says_and_nothing_else() {
        let year = Profile::named("year").unwrap();
        let read = Profile::read("base = \"year\"\n[score]\ntemperature = 0.0").unwrap();
        assert!(read != year);
        let mut expected = year.clone();
        expected.score.temperature = 0.0;
        assert_eq!(read, expected);
        assert_eq!(Profile::read("base = \"year\"").unwrap(), year);
        assert!(Profile::named("brief").is_some());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("base = \"moon\"", "`base` is year or brief"),
            ("base = \"year\"\n[score]\nheat = 1", "unknown field `heat`"),
            ("base = \"year\"\n[score]\ntemperature = -1", "temperature is 0 to 10"),
            ("base = \"year\"\n[demand]\nsmooth = \"soon\"", "such as 50s, 10m, 2h or 30d"),
            ("base = \"year\"\n[working_set]\nrefresh = \"7s\"", "divides an hour"),
            ("base = \"year\"\n[working_set]\nbest_sellers_days = 4000000000", "3660 at the most"),
            ("base = \"year\"\n[customers]\ngrowth = 1e9", "growth 0 to 100"),
            ("base = \"year\"\n[customers]\nrush = 1e9", "rush 0 to 1000"),
            ("base = \"year\"\n[rhythm]\nspread = 1e-310", "0.001 to 1000000"),
            ("base = \"year\"\n[products]\nlisted_a_day = 1e300", "listed_a_day 0 or 0.001 to"),
            ("base = \"year\"\n[products]\nlisted_more = inf", "listed_more 0 to"),
            ("base = \"year\"\n[demand]\npressure = -1.0", "pressure is 0 to 10"),
            ("base = \"year\"\n[demand]\npull = 1.5", "pull and awakened are shares"),
            ("base = \"year\"\n[demand]\norders_a_tick = 1", "temperature 0"),
            ("base = \"year\"\n[score]\nfactor = [2.0, 1.0]", "the least and the most"),
            ("base = \"year\"\n[products]\ninitial = 4000000000", "initial is 1 to 10000000"),
            (
                "base = \"year\"\n[[category]]\nname = \"a\"\nshare = 1.0\nprice = [1000, 2000]\n\
                 elasticity = 1.0\ngoods = [\"a\\u0000\"]",
                "at most 200 bytes",
            ),
            ("base = \"year\"\n[working_set]\nselection = \"some\"", "unknown variant `some`"),
            ("[customers]", "missing field"),
            ("base = year", "expected"),
        ] {
            let error = Profile::read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
