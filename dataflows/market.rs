//! The market: rules that make customers, products and orders, and the dataflow made of them.
//!
//! Time goes in *refreshes* of 50 s; each holds 12 or 13 *order ticks*, 3 to 5 s apart. At the start
//! of a refresh every worker proposes its best candidates for the working set, and hears the
//! proposals of all; from then on each knows who orders when without another word, because the draw
//! of who orders is made by everybody alike. Only the worker that keeps the customer fills the
//! basket and tells of it.
//!
//! A customer's rhythm runs in *demand time*, a clock for each age band that runs fast in the hours
//! that the band likes, on Mondays, in a sale. So orders follow the hours and the calendar although
//! only customers who are due buy, and a sale brings forward what would have been bought later.
//!
//! Invariant: the events are a function of the settings and the commands alone. Tests compare
//! different numbers of workers, and a run cut in two.

mod basket;
mod cache;
mod calendar;
mod catalog;
mod customers;
mod dataflow;
mod draw;
mod leading;
mod people;
mod roster;
mod scenarios;
mod working_set;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use serde::{Deserialize, Serialize};

pub use cache::{AgeBand, Cache, CachedCustomer, CachedProduct, CachedSet, Group, Reading};
pub use dataflow::{Control, Output, Release, market};
pub use scenarios::{Command, RULES, Rule};

use crate::model::{
    Day, Millis, Order, OrderEvent, OrderId, OrderKind, ProductEvent, ScenarioEvent, Topic,
    UserEvent, Word,
    time::{DAY, HOUR, MINUTE, SECOND, day_of, hour_of},
};
use cache::Offer;
use calendar::BANDS;
use catalog::Catalog;
use customers::{Customers, Shard};
use draw::{Purpose, draw};
use scenarios::Scenarios;
use working_set::{Face, WorkingSet};

/// The working set holds for so long.
pub const REFRESH: Millis = 50 * SECOND;
/// In history no partition of orders is silent for longer: then it gets a heartbeat.
pub const SILENCE: Millis = 10 * MINUTE;
/// Demand time until a customer who is due buys, on average.
const WAIT: f64 = 75.0 * MINUTE as f64;
/// Demand time until a newcomer buys, on average.
const CONVERSION: f64 = 8.0 * DAY as f64;
/// Customers that the market can win, and how fast it does, by month.
const REACH: f64 = 150_000.0;
const GROWTH: f64 = 0.4;
const MONTH: f64 = 30.0 * DAY as f64;

/// Which past buyers the working set looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// Those who are due by their own rhythm.
    Due,
    /// All of them, to the letter of the brief: the market becomes a queue.
    All,
}

/// What makes a market: the same settings give the same events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Names the random numbers.
    pub seed: u64,
    /// Market time at which the history begins: the start of a day.
    pub origin: Millis,
    /// Market time at which live running begins.
    pub start: Millis,
    /// Customers and products that are there from the beginning.
    pub customers: u32,
    /// See `customers`.
    pub products: u32,
    /// Which past buyers the working set looks at.
    pub selection: Selection,
    /// 0 takes the best scores, 1 draws in proportion to the score.
    pub temperature: f64,
    /// Days that count for the best sellers; none counts since ever.
    pub best_sellers_days: Option<u32>,
    /// Partitions of each topic.
    pub partitions: [u32; 4],
}

impl Settings {
    /// The defaults, for a market that goes live at `start` after `history` (whole days).
    pub fn new(seed: u64, start: Millis, history: Millis) -> Self {
        Settings {
            seed,
            origin: start - history,
            start,
            customers: 10_000,
            products: 20_000,
            selection: Selection::Due,
            temperature: 1.0,
            best_sellers_days: Some(30),
            partitions: [3, 3, 3, 1],
        }
    }

    /// The market time at which a refresh begins.
    pub fn border(&self, refresh: u64) -> Millis {
        self.origin + refresh as Millis * REFRESH
    }

    /// The refresh that an instant falls into.
    pub fn refresh_of(&self, at: Millis) -> u64 {
        ((at - self.origin).max(0) / REFRESH) as u64
    }

    /// The order ticks of a refresh; the last one is its end.
    fn ticks(&self, refresh: u64) -> Vec<Millis> {
        let random = &mut draw(self.seed, Purpose::Ticks, refresh, 0);
        let count = random.random_range(12..=13);
        let mut at = self.border(refresh);
        // 3 s for each tick, and what remains of the 50 s shared out, at most 2 s for each.
        let mut spare = REFRESH - count * 3 * SECOND;
        (1..=count)
            .map(|tick| {
                let least = (spare - (count - tick) * 2 * SECOND).max(0);
                let more = if tick == count {
                    spare
                } else {
                    random.random_range(least..=spare.min(2 * SECOND))
                };
                spare -= more;
                at += 3 * SECOND + more;
                at
            })
            .collect()
    }

    /// 1 / temperature; at temperature 0 the order of the scores is all that counts.
    fn sharpness(&self) -> f64 {
        if self.temperature > 0.0 { 1.0 / self.temperature } else { 1.0 }
    }

    /// When a customer signed up who is there from the beginning: in the 30 days before it.
    fn signed_up_before(&self, id: u32) -> Millis {
        self.origin - 30 * DAY + 30 * DAY * Millis::from(id) / Millis::from(self.customers)
    }

    /// New customers a millisecond: an S-curve, and a rush when the market goes live, which begins
    /// at 10 in 10 s and decays.
    fn sign_up_rate(&self, at: Millis) -> f64 {
        let months = (at - self.origin) as f64 / MONTH;
        let first = f64::from(self.customers.max(1));
        let odds = (REACH / first - 1.0).max(0.0) * (-GROWTH * months).exp();
        let curve = REACH * GROWTH * odds / (1.0 + odds).powi(2) / MONTH;
        let since = (at - self.start) as f64;
        let decay = if since < 0.0 { -15.0 * MINUTE as f64 } else { 2.0 * HOUR as f64 };
        curve + (-since / decay).exp() / SECOND as f64
    }

    /// Time from one new product to the next: 6 to 8 s live, longer in the past, when the shop
    /// listed 60 a day at first and 20 a day more each month.
    fn listing_gap(&self, id: u32, at: Millis) -> Millis {
        let gap = draw(self.seed, Purpose::Listing, u64::from(id), 0)
            .random_range(6 * SECOND..=8 * SECOND);
        if at >= self.start {
            return gap;
        }
        let a_day = 60.0 + 20.0 * (at - self.origin) as f64 / MONTH;
        ((gap as f64 * DAY as f64 / (7.0 * SECOND as f64) / a_day) as Millis).min(self.start - at)
    }
}

/// An event of any topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A customer's record.
    User(UserEvent),
    /// A product's record.
    Product(ProductEvent),
    /// A ledger entry.
    Order(OrderEvent),
    /// A decision of the scenario producer.
    Scenario(ScenarioEvent),
    /// Nothing happened in a partition of orders up to this time.
    Heartbeat(Millis),
}

impl Event {
    /// Where it goes.
    pub fn topic(&self) -> Topic {
        match self {
            Event::User(_) => Topic::Users,
            Event::Product(_) => Topic::Products,
            Event::Order(_) | Event::Heartbeat(_) => Topic::Orders,
            Event::Scenario(_) => Topic::Scenarios,
        }
    }

    /// When it happened.
    pub fn at(&self) -> Millis {
        match self {
            Event::User(event) => event.at,
            Event::Product(event) => event.at,
            Event::Order(event) => event.order.at,
            Event::Scenario(event) => event.at,
            Event::Heartbeat(at) => *at,
        }
    }

    /// Its id in the topic; a heartbeat has none.
    pub fn event_id(&self) -> Option<u64> {
        match self {
            Event::User(event) => Some(event.event_id),
            Event::Product(event) => Some(event.event_id),
            Event::Order(event) => Some(event.event_id),
            Event::Scenario(event) => Some(event.event_id),
            Event::Heartbeat(_) => None,
        }
    }

    /// The record key.
    pub fn key(&self) -> Option<String> {
        match self {
            Event::User(event) => Some(event.user.user_id.to_string()),
            Event::Product(event) => Some(event.product.product_id.to_string()),
            Event::Order(event) => Some(event.order.user_id.to_string()),
            Event::Scenario(event) => Some(event.occurrence.to_string()),
            Event::Heartbeat(_) => None,
        }
    }
}

/// Figures of the market as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Market time.
    pub at: Millis,
    /// Customers so far.
    pub customers: u64,
    /// Products so far.
    pub products: u64,
    /// Orders placed so far.
    pub orders: u64,
    /// Orders expected so far: the sum of the means that their numbers were drawn from.
    pub demand: f64,
}

/// What a worker tells all workers before a refresh.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal {
    refresh: u64,
    due: u32,
    newcomers: u32,
    left: Vec<(Option<Millis>, u32)>,
    came: Vec<Face>,
    sold: Vec<u32>,
    takings_back: Vec<(Millis, OrderId)>,
}

/// A market at the start of a refresh, from all workers; any number of workers can go on with it.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    common: Common,
    shards: Vec<Shard>,
    /// Time of the last record in each partition of orders, for the heartbeats.
    orders_at: Vec<Millis>,
}

impl Snapshot {
    /// Puts together what the workers gave.
    pub fn new(parts: Vec<Part>, orders_at: Vec<Millis>) -> Option<Self> {
        let mut common = None;
        let mut shards = Vec::new();
        for part in parts {
            common = common.or(part.common);
            shards.push(part.shard);
        }
        Some(Snapshot { common: *common?, shards, orders_at })
    }

    /// The refresh that comes next.
    pub fn refresh(&self) -> u64 {
        self.common.refresh
    }

    /// Time of the last record in each partition of orders.
    pub fn orders_at(&self) -> &[Millis] {
        &self.orders_at
    }
}

/// What one worker gives to a snapshot.
pub struct Part {
    common: Option<Box<Common>>,
    shard: Shard,
}

/// What is the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
struct Common {
    refresh: u64,
    customers: u32,
    /// Time of the next listing.
    listing_at: Millis,
    orders: u64,
    order_events: u64,
    demand: f64,
    /// The clocks of the age bands, in milliseconds of demand time.
    demand_time: [i64; BANDS],
    scenarios: Scenarios,
    catalog: Catalog,
    working_set: WorkingSet,
}

/// The market as one worker sees it.
struct Market {
    settings: Settings,
    hours: [[f64; 24]; BANDS],
    words: Vec<Word>,
    common: Common,
    customers: Customers,

    // The refresh that is going on.
    ticks: Vec<Millis>,
    /// The next tick; behind the last one while the proposals are awaited.
    tick: usize,
    day: Option<(Day, f64)>,
    due: u32,
    newcomers: u32,
    sign_ups: Vec<Millis>,
    takings_back: Vec<(Millis, OrderId)>,
    random: ChaCha8Rng,
    /// What the refresh draws from, where it was read from the cache. The market's own copy is kept
    /// in step with it, and is what a refresh draws from without it.
    offer: Option<Offer>,
}

impl Market {
    fn new(
        settings: Settings,
        index: usize,
        peers: usize,
        snapshot: Option<&Snapshot>,
        commands: &[Command],
    ) -> Self {
        let Settings { seed, origin, .. } = settings;
        let mut customers = Customers::new(seed, index as u32, peers as u32);
        let mut common = if let Some(snapshot) = snapshot {
            customers.restore(&snapshot.shards);
            let mut common = snapshot.common.clone();
            common.catalog.restore();
            common
        } else {
            let mut catalog = Catalog::new();
            for _ in 0..settings.products {
                catalog.list(seed);
            }
            for id in (1..=settings.customers).filter(|id| id % peers as u32 == index as u32) {
                let signed_up_at = settings.signed_up_before(id);
                customers.sign_up(id, people::person(seed, id, signed_up_at).0, signed_up_at);
            }
            Common {
                refresh: 0,
                customers: settings.customers,
                listing_at: origin + settings.listing_gap(settings.products, origin),
                orders: 0,
                order_events: 0,
                demand: 0.0,
                demand_time: [0; BANDS],
                scenarios: Scenarios::new(),
                catalog,
                working_set: WorkingSet::new(),
            }
        };
        let begun = settings.border(common.refresh);
        common.scenarios.commands =
            commands.iter().filter(|command| command.at >= begun).cloned().collect();
        Market {
            hours: calendar::hours(),
            words: catalog::words(),
            common,
            customers,
            ticks: Vec::new(),
            tick: 0,
            day: None,
            due: 0,
            newcomers: 0,
            sign_ups: Vec::new(),
            takings_back: Vec::new(),
            random: draw(seed, Purpose::Demand, 0, 0),
            offer: None,
            settings,
        }
    }

    /// What this worker's customers would have the next refresh be.
    fn propose(&mut self) -> Proposal {
        let from = self.settings.border(self.common.refresh);
        self.customers.wake(from, &self.common.demand_time);
        let (due, newcomers) = self.customers.counts();
        let (left, came) = self.customers.changes(day_of(from), self.opens_day());
        Proposal {
            refresh: self.common.refresh,
            due,
            newcomers,
            left,
            came,
            sold: std::mem::take(&mut self.customers.sold),
            takings_back: self.customers.takings_back(from, from + REFRESH),
        }
    }

    fn opens_day(&self) -> bool {
        (self.common.refresh as Millis * REFRESH) % DAY == 0
    }

    /// Begins a refresh, once all workers have proposed.
    fn begin(&mut self, proposals: &[Arc<Proposal>], emit: &mut impl FnMut(Event)) {
        let Settings { seed, best_sellers_days, .. } = self.settings;
        let sharpness = self.settings.sharpness();
        let refresh = self.common.refresh;
        let from = self.settings.border(refresh);
        let first = refresh == 0;
        if first {
            self.tell_beginning(emit);
        }

        self.due = proposals.iter().map(|proposal| proposal.due).sum();
        self.newcomers = proposals.iter().map(|proposal| proposal.newcomers).sum();
        self.takings_back =
            proposals.iter().flat_map(|proposal| &proposal.takings_back).copied().collect();
        self.takings_back.sort_unstable_by(|a, b| b.cmp(a));
        self.common.catalog.refresh(
            refresh as u32,
            best_sellers_days.map(|days| days * (DAY / REFRESH) as u32),
            proposals.iter().flat_map(|proposal| &proposal.sold).copied(),
        );
        let opens_day = self.opens_day();
        self.common.working_set.refresh(
            proposals.iter().flat_map(|proposal| &proposal.left),
            proposals.iter().flat_map(|proposal| &proposal.came),
            |score| weight(score, sharpness),
            opens_day,
        );

        let day = day_of(from);
        if self.day.is_none_or(|(known, _)| known != day) {
            self.day = Some((day, calendar::day_factor(seed, day)));
        }
        if opens_day {
            let told = self.customers.owns(0);
            self.common.scenarios.open(day, from, |event| {
                if told {
                    emit(Event::Scenario(event));
                }
            });
        }
        self.offer = None;
        self.ticks = self.settings.ticks(refresh);
        self.tick = 0;
        self.random = draw(seed, Purpose::Demand, refresh, 0);
        let random = &mut draw(seed, Purpose::SignUps, refresh, 0);
        let count = poisson(random, self.settings.sign_up_rate(from) * REFRESH as f64);
        self.sign_ups = (0..count).map(|_| from + random.random_range(1..=REFRESH)).collect();
        self.sign_ups.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Whether the refresh that has begun, or is about to, is a live one.
    fn is_live(&self) -> bool {
        self.settings.border(self.common.refresh) >= self.settings.start
    }

    /// The working set of a refresh that has begun and had no tick yet.
    fn cached_set(&self) -> CachedSet {
        let Common { refresh, working_set, catalog, .. } = &self.common;
        CachedSet::new(
            *refresh,
            self.settings.border(*refresh),
            &working_set.roster,
            |id| working_set.has_bought(id),
            &catalog.roster,
        )
    }

    /// Has the refresh draw from what was read, if that is what it would draw from anyway.
    fn read(&mut self, set: Option<&CachedSet>) -> Reading {
        let Some(set) = set else { return Reading::Miss };
        if *set != self.cached_set() {
            return Reading::Differs;
        }
        self.offer = Some(Offer::new(set));
        Reading::Hit
    }

    /// Tells of the customers and products that are there from the beginning.
    fn tell_beginning(&self, emit: &mut impl FnMut(Event)) {
        let Settings { seed, origin, customers, products, .. } = self.settings;
        for id in (1..=customers).filter(|id| self.customers.owns(*id)) {
            let (_, user) = people::person(seed, id, self.settings.signed_up_before(id));
            emit(Event::User(UserEvent { event_id: u64::from(id) - 1, at: origin, user }));
        }
        for id in (1..=products).filter(|id| self.customers.owns(*id)) {
            let listed_at =
                origin - 30 * DAY + 30 * DAY * Millis::from(id) / Millis::from(products);
            let product = catalog::product(seed, id, &self.words, listed_at);
            emit(Event::Product(ProductEvent { event_id: u64::from(id) - 1, at: origin, product }));
        }
    }

    /// The time of the next order tick of this refresh, if one remains.
    fn next_tick(&self) -> Option<Millis> {
        self.ticks.get(self.tick).copied()
    }

    /// Lives through the next order tick.
    fn run_tick(&mut self, emit: &mut impl FnMut(Event)) {
        let at = self.ticks[self.tick];
        let from = match self.tick {
            0 => self.settings.border(self.common.refresh),
            tick => self.ticks[tick - 1],
        };
        self.tick += 1;
        if !self.common.scenarios.commands.is_empty() {
            let told = self.customers.owns(0);
            self.common.scenarios.obey(at, |event| {
                if told {
                    emit(Event::Scenario(event));
                }
            });
        }
        self.arrive(at, emit);

        let hour = hour_of(at - 1) as usize;
        let (day, day_factor) = self.day.expect("a refresh begins with its day");
        let factor = day_factor * self.common.scenarios.demand;
        let span = (at - from) as f64;
        let own = &self.common.working_set.roster;
        let roster = self.offer.as_ref().map_or(own, |offer| &offer.customers);
        let (mut all, mut timely) = (0.0, 0.0);
        for band in 0..BANDS {
            let liking = self.hours[band][hour];
            self.common.demand_time[band] += (span * factor * liking) as i64;
            all += roster.total(band) as f64;
            timely += roster.total(band) as f64 * liking;
        }
        let rate = f64::from(self.due) / WAIT + f64::from(self.newcomers) / CONVERSION;
        let mean = if all > 0.0 { rate * timely / all * factor * span } else { 0.0 };
        self.common.demand += mean;
        let count = poisson(&mut self.random, mean).min(roster.len());

        for place in 1..=count {
            let placed_at = from + (at - from) * place as Millis / count as Millis;
            self.take_back(placed_at - 1, emit);
            let id = self.pick(hour);
            self.place(id, placed_at, day, emit);
        }
        self.take_back(at, emit);
        if self.tick == self.ticks.len() {
            self.common.refresh += 1;
        }
    }

    /// New customers and new products up to `at`.
    fn arrive(&mut self, at: Millis, emit: &mut impl FnMut(Event)) {
        let Settings { seed, .. } = self.settings;
        while let Some(signed_up_at) = self.sign_ups.pop_if(|time| *time <= at) {
            self.common.customers += 1;
            let id = self.common.customers;
            if self.customers.owns(id) {
                let (person, user) = people::person(seed, id, signed_up_at);
                self.customers.sign_up(id, person, signed_up_at);
                let event_id = u64::from(id) - 1;
                emit(Event::User(UserEvent { event_id, at: signed_up_at, user }));
            }
        }
        while self.common.listing_at <= at {
            let listed_at = self.common.listing_at;
            let id = self.common.catalog.list(seed);
            self.common.listing_at += self.settings.listing_gap(id, listed_at);
            if self.customers.owns(id) {
                let product = catalog::product(seed, id, &self.words, listed_at);
                let event_id = u64::from(id) - 1;
                emit(Event::Product(ProductEvent { event_id, at: listed_at, product }));
            }
        }
    }

    /// The cancellations and refunds up to `at`.
    fn take_back(&mut self, at: Millis, emit: &mut impl FnMut(Event)) {
        while let Some(key) = self.takings_back.pop_if(|(time, _)| *time <= at) {
            let event_id = self.common.order_events;
            self.common.order_events += 1;
            if let Some(order) = self.customers.take_back(key) {
                emit(Event::Order(OrderEvent { event_id, order }));
            }
        }
    }

    /// Draws who orders next, and takes them out of the set.
    fn pick(&mut self, hour: usize) -> u32 {
        let own = &mut self.common.working_set;
        let roster = self.offer.as_ref().map_or(&own.roster, |offer| &offer.customers);
        // Whole numbers: thousandths of the hour's liking.
        let liking =
            |band: usize| (self.hours[band][hour].powf(self.settings.sharpness()) * 1e3) as u64 + 1;
        let id = if self.settings.temperature > 0.0 {
            let likings: [u64; BANDS] = std::array::from_fn(liking);
            let shares =
                likings.iter().enumerate().map(|(band, liking)| roster.total(band) * liking);
            let mut point = self.random.random_range(0..shares.sum());
            let mut band = 0;
            while point >= roster.total(band) * likings[band] {
                point -= roster.total(band) * likings[band];
                band += 1;
            }
            roster.at(band, point / likings[band])
        } else {
            let score =
                |(id, band, weight): (u32, u8, u64)| (weight * liking(usize::from(band)), id);
            roster.members().map(score).max().map_or(0, |(_, id)| id)
        };
        let has_bought = if let Some(offer) = &mut self.offer {
            offer.customers.remove(id);
            offer.has_bought(id)
        } else {
            own.has_bought(id)
        };
        own.roster.remove(id);
        if has_bought {
            self.due = self.due.saturating_sub(1);
        } else {
            self.newcomers = self.newcomers.saturating_sub(1);
        }
        id
    }

    /// Customer `id` places an order.
    fn place(&mut self, id: u32, at: Millis, day: Day, emit: &mut impl FnMut(Event)) {
        self.common.orders += 1;
        let event_id = self.common.order_events;
        self.common.order_events += 1;
        if !self.customers.owns(id) {
            return;
        }
        let order_id = self.common.orders as OrderId;
        let random = &mut draw(self.settings.seed, Purpose::Order, self.common.orders, 0);
        let remembered = &self.customers.get(id).remembered;
        let Common { catalog, scenarios, demand_time, .. } = &self.common;
        let offered = self.offer.as_ref().map_or(&catalog.roster, |offer| &offer.products);
        let lines = basket::fill(random, id, remembered, offered, catalog, scenarios, &self.words);
        let order = Order {
            kind: OrderKind::Placed,
            order_id,
            user_id: i64::from(id),
            at,
            ordered_at: at,
            lines,
        };
        let at_once = self.settings.selection == Selection::All;
        self.customers.ordered(random, &order, day, demand_time, at_once);
        emit(Event::Order(OrderEvent { event_id, order }));
    }

    fn figures(&self) -> Figures {
        Figures {
            at: self.settings.border(self.common.refresh),
            customers: u64::from(self.common.customers),
            products: self.common.catalog.len() as u64,
            orders: self.common.orders,
            demand: self.common.demand,
        }
    }

    fn part(&self) -> Part {
        Part {
            common: self.customers.owns(0).then(|| Box::new(self.common.clone())),
            shard: self.customers.shard(),
        }
    }
}

/// The whole number that a score counts in draws.
fn weight(score: f64, sharpness: f64) -> u64 {
    (score.powf(sharpness) * 65_536.0).clamp(1.0, 1e12) as u64
}

/// A number of arrivals with that mean.
fn poisson(random: &mut ChaCha8Rng, mean: f64) -> usize {
    Poisson::new(mean).map_or(0, |poisson| poisson.sample(random) as usize)
}
