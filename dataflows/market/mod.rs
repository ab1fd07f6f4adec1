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
mod faults;
mod leading;
mod people;
mod profile;
mod roster;
mod scenarios;
mod truth;
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
pub use faults::{Delayed, FaultStage, Faults, Label, Record, Released};
pub use profile::{Profile, word};
pub use scenarios::{Command, MonthDay, Occurrence, Rule, Running, Scenario, occurrences};
pub use truth::Truth;

use crate::model::{
    Day, Event, Millis, Order, OrderEvent, OrderId, OrderKind, ProductEvent, Status, Topic,
    UserEvent, UserId, Word,
    time::{DAY, MINUTE, SECOND, Span, TIME_END, day_of, hour_of},
};
use basket::BasketContext;
use cache::Offer;
use catalog::Catalog;
use customers::{Customers, Shard};
use draw::{Purpose, draw};
use profile::BANDS;
use scenarios::{Scenarios, opens_hour};
use working_set::{Candidate, WorkingSet};

/// In history no partition of orders is silent for longer: then it gets a heartbeat.
pub const SILENCE: Millis = 10 * MINUTE;
/// The oldest customers of a market that begins then were born in 1900, as valid events have it.
const EARLIEST: Millis = 978_274_800_000;
/// A market that goes live then has a year until its events are no longer valid.
const LATEST: Millis = TIME_END - 366 * DAY;
/// A month of rates.
const MONTH: f64 = 30.0 * DAY as f64;

/// What makes a market: the same settings give the same events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Names the random numbers.
    pub seed: u64,
    /// Market time at which the history begins: the start of a day.
    pub origin: Millis,
    /// Market time at which live running begins.
    pub start: Millis,
    /// Partitions of each topic.
    pub partitions: [u32; Topic::ALL.len()],
    /// The numbers of the rules.
    pub profile: Profile,
    /// The scenarios by rule.
    pub scenarios: Vec<Scenario>,
}

impl Settings {
    /// The defaults, for a market that goes live at `start` after `history` (whole days).
    pub fn new(seed: u64, start: Millis, history: Millis) -> Self {
        let profile = Profile::named("year").expect("it ships");
        let scenarios = Scenario::shipped(&profile.words()).expect("they ship with the profile");
        Settings {
            seed,
            origin: start - history,
            start,
            partitions: Topic::PARTITIONS,
            profile,
            scenarios,
        }
    }

    /// Refuses what no market could live by: where a file was changed by hand, say.
    pub fn check(&self) -> Result<(), String> {
        self.profile.check()?;
        Scenario::check(&self.scenarios, &self.profile.words())?;
        if self.partitions.contains(&0) {
            return Err("there is a topic without partitions".into());
        }
        if self.origin < EARLIEST || self.start < self.origin || self.start > LATEST {
            return Err("a market begins in 2001 at the earliest, and goes live before 2099".into());
        }
        Ok(())
    }

    /// The working set holds for so long.
    pub fn refresh(&self) -> Millis {
        self.profile.working_set.refresh.0
    }

    /// The market time at which a refresh begins.
    pub fn border(&self, refresh: u64) -> Millis {
        self.origin + refresh as Millis * self.refresh()
    }

    /// The refresh that an instant falls into.
    pub fn refresh_of(&self, at: Millis) -> u64 {
        ((at - self.origin).max(0) / self.refresh()) as u64
    }

    /// The order ticks of a refresh; the last one is its end.
    fn ticks(&self, refresh: u64) -> Vec<Millis> {
        let random = &mut draw(self.seed, Purpose::Ticks, refresh, 0);
        let [least, most] = self.profile.demand.tick.map(|span| span.0);
        let span = self.refresh();
        // As many as a gap between the least and the most, on average, leaves room for.
        let (few, many) = (span / least.midpoint(most), span / least);
        let count = random.random_range(few..=(few + 1).min(many));
        let mut at = self.border(refresh);
        // The least for each tick, and what remains is shared out, no more than the most for each.
        let mut spare = span - count * least;
        (1..=count)
            .map(|tick| {
                let owed = (spare - (count - tick) * (most - least)).clamp(0, most - least);
                let more = if tick == count {
                    spare
                } else {
                    random.random_range(owed..=spare.min(most - least))
                };
                spare -= more;
                at += least + more;
                at
            })
            .collect()
    }

    /// 1 / temperature; at temperature 0 the order of the scores is all that counts.
    fn sharpness(&self) -> f64 {
        let temperature = self.profile.score.temperature;
        if temperature > 0.0 { 1.0 / temperature } else { 1.0 }
    }

    /// When one of so many came who are there from the beginning: in the 30 days before it.
    fn before_opening(&self, id: u32, initial: u32) -> Millis {
        self.origin - 30 * DAY + 30 * DAY * Millis::from(id) / Millis::from(initial)
    }

    /// New customers a millisecond: an S-curve, and a rush when the market goes live.
    fn sign_up_rate(&self, at: Millis) -> f64 {
        let rules = &self.profile.customers;
        let months = (at - self.origin) as f64 / MONTH;
        let first = f64::from(rules.initial.max(1));
        let odds = (rules.reach / first - 1.0).max(0.0) * (-rules.growth * months).exp();
        let curve = rules.reach * rules.growth * odds / (1.0 + odds).powi(2) / MONTH;
        let since = (at - self.start) as f64;
        let decay = if since < 0.0 { -15 * MINUTE } else { rules.rush_decay.0 };
        curve + rules.rush * (-since / decay as f64).exp() / SECOND as f64
    }

    /// Time from one new product to the next: as the profile has it live; longer in the past, when
    /// the shop listed some a day at first and more each month.
    fn listing_gap(&self, id: u32, at: Millis) -> Millis {
        let rules = &self.profile.products;
        let [least, most] = rules.listing.map(|span| span.0);
        let gap = draw(self.seed, Purpose::Listing, u64::from(id), 0).random_range(least..=most);
        if at >= self.start {
            return gap;
        }
        let a_day = rules.listed_a_day + rules.listed_more * (at - self.origin) as f64 / MONTH;
        let mean = (least + most) as f64 / 2.0;
        ((gap as f64 * DAY as f64 / mean / a_day) as Millis).min(self.start - at)
    }
}

/// Figures of the market as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The scenarios that are active.
    pub scenarios: Arc<[Running]>,
}

/// What a worker tells all workers before a refresh.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal {
    refresh: u64,
    due: u32,
    newcomers: u32,
    left: Vec<(Option<Millis>, u32)>,
    came: Vec<Candidate>,
    sold: Vec<(u32, u32)>,
    changed: Vec<(u32, Status)>,
    reversals: Vec<(Millis, OrderId)>,
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
    user_events: u64,
    product_events: u64,
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
    reversals: Vec<(Millis, OrderId)>,
    random: ChaCha8Rng,
    /// What the refresh draws from, where it was read from the cache. The market's own copy is kept
    /// in step with it, and is what a refresh draws from without it.
    offer: Option<Offer>,
    /// What no shop knows, since it was last asked for; kept on request only.
    truth: Option<Vec<Truth>>,
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
        let profile = Arc::new(settings.profile.clone());
        let rules = &profile.working_set;
        let mut customers = Customers::new(Arc::clone(&profile), seed, index as u32, peers as u32);
        let mut common = if let Some(snapshot) = snapshot {
            customers.restore(&snapshot.shards);
            let mut common = snapshot.common.clone();
            common.catalog.restore(rules);
            common
        } else {
            let (all_customers, all_products) =
                (profile.customers.initial, profile.products.initial);
            let mut catalog = Catalog::new(rules);
            for id in 1..=all_products {
                catalog.list(&profile, seed, settings.before_opening(id, all_products));
            }
            for id in (1..=all_customers).filter(|id| id % peers as u32 == index as u32) {
                let signed_up_at = settings.before_opening(id, all_customers);
                let (person, _) = people::person(&profile, seed, id, signed_up_at);
                customers.sign_up(id, person, signed_up_at);
            }
            Common {
                refresh: 0,
                customers: all_customers,
                listing_at: origin + settings.listing_gap(all_products, origin),
                orders: 0,
                user_events: u64::from(all_customers),
                product_events: u64::from(all_products),
                order_events: 0,
                demand: 0.0,
                demand_time: [0; BANDS],
                scenarios: Scenarios::new(profile.categories.len()),
                catalog,
                working_set: WorkingSet::new(),
            }
        };
        let begun = settings.border(common.refresh);
        common.scenarios.commands =
            commands.iter().filter(|command| command.at >= begun).cloned().collect();
        Market {
            hours: calendar::hours(&profile.demand),
            words: profile.words().into_iter().map(Word::from).collect(),
            common,
            customers,
            ticks: Vec::new(),
            tick: 0,
            day: None,
            due: 0,
            newcomers: 0,
            sign_ups: Vec::new(),
            reversals: Vec::new(),
            random: draw(seed, Purpose::Demand, 0, 0),
            offer: None,
            truth: None,
            settings,
        }
    }

    /// What this worker's customers would have the next refresh be.
    fn propose(&mut self) -> Proposal {
        let from = self.settings.border(self.common.refresh);
        if self.opens_day() {
            self.customers.open_day(from);
        }
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
            changed: std::mem::take(&mut self.customers.changed),
            reversals: self.customers.reversals(from, from + self.settings.refresh()),
        }
    }

    fn opens_day(&self) -> bool {
        (self.common.refresh as Millis * self.settings.refresh()) % DAY == 0
    }

    /// Begins a refresh, once all workers have proposed.
    fn begin(&mut self, proposals: &[Arc<Proposal>], emit: &mut impl FnMut(Event)) {
        let Settings { seed, .. } = self.settings;
        let sharpness = self.settings.sharpness();
        let refresh = self.common.refresh;
        let from = self.settings.border(refresh);
        if refresh == 0 {
            self.tell_beginning(emit);
        }

        self.due = proposals.iter().map(|proposal| proposal.due).sum();
        self.newcomers = proposals.iter().map(|proposal| proposal.newcomers).sum();
        self.reversals =
            proposals.iter().flat_map(|proposal| &proposal.reversals).copied().collect();
        self.reversals.sort_unstable_by(|a, b| b.cmp(a));
        self.tell_changes(proposals, from, emit);
        let opens_day = self.opens_day();
        self.common.working_set.refresh(
            &self.settings.profile.working_set,
            proposals.iter().flat_map(|proposal| &proposal.left),
            proposals.iter().flat_map(|proposal| &proposal.came),
            |score| weight(score, sharpness),
            opens_day,
        );

        let day = day_of(from);
        if self.day.is_none_or(|(known, _)| known != day) {
            let demand = &self.settings.profile.demand;
            self.day = Some((day, calendar::day_factor(demand, seed, day)));
        }
        if opens_hour(from) {
            let told = self.customers.owns(0);
            self.common.scenarios.open(&self.settings, from, &mut |event| {
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
        let span = self.settings.refresh();
        let count = poisson(random, self.settings.sign_up_rate(from) * span as f64);
        self.sign_ups = (0..count).map(|_| from + random.random_range(1..=span)).collect();
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
    fn tell_beginning(&mut self, emit: &mut impl FnMut(Event)) {
        let at = self.settings.origin;
        for id in (1..=self.common.customers).filter(|id| self.customers.owns(*id)) {
            let user = self.customers.record(id, Status::Active);
            if let Some(truth) = &mut self.truth {
                let Settings { seed, profile, .. } = &self.settings;
                let person = &self.customers.get(id).person;
                truth.push(Truth::customer(profile, *seed, id, person, day_of(user.signed_up_at)));
            }
            emit(Event::User(UserEvent { event_id: u64::from(id) - 1, at, user }));
        }
        for id in (1..=self.common.catalog.len() as u32).filter(|id| self.customers.owns(*id)) {
            self.tell_product(u64::from(id) - 1, id, at, emit);
        }
    }

    /// Tells of the customers and products whose records have changed since the refresh before.
    fn tell_changes(
        &mut self,
        proposals: &[Arc<Proposal>],
        from: Millis,
        emit: &mut impl FnMut(Event),
    ) {
        let Settings { seed, profile, .. } = &self.settings;
        let sold = proposals.iter().flat_map(|proposal| &proposal.sold).copied();
        let refresh = self.common.refresh as u32;
        for id in self.common.catalog.refresh(profile, *seed, refresh, sold) {
            let event_id = self.common.product_events;
            self.common.product_events += 1;
            self.tell_product(event_id, id, from, emit);
        }
        let changed = proposals.iter().flat_map(|proposal| &proposal.changed).copied();
        let mut changed: Vec<(u32, Status)> = changed.collect();
        // Of one customer's changes the order stays.
        changed.sort_by_key(|(id, _)| *id);
        for (id, status) in changed {
            let event_id = self.common.user_events;
            self.common.user_events += 1;
            if self.customers.owns(id) {
                let user = self.customers.record(id, status);
                emit(Event::User(UserEvent { event_id, at: from, user }));
            }
        }
    }

    /// Tells of a product as it is now.
    fn tell_product(&self, event_id: u64, id: u32, at: Millis, emit: &mut impl FnMut(Event)) {
        if self.customers.owns(id) {
            let Settings { seed, profile, .. } = &self.settings;
            let product = self.common.catalog.record(profile, *seed, id, &self.words);
            emit(Event::Product(ProductEvent { event_id, at, product }));
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
        if self.common.scenarios.has_commands() {
            let told = self.customers.owns(0);
            self.common.scenarios.obey(&self.settings, at, &mut |event| {
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
        let Span(wait) = self.settings.profile.demand.wait;
        let Span(conversion) = self.settings.profile.demand.conversion;
        let rate =
            f64::from(self.due) / wait as f64 + f64::from(self.newcomers) / conversion as f64;
        let mean = if all > 0.0 { rate * timely / all * factor * span } else { 0.0 };
        self.common.demand += mean;
        let count = poisson(&mut self.random, mean).min(roster.len());
        if self.customers.owns(0)
            && let Some(truth) = &mut self.truth
        {
            let (due, newcomers, orders) = (self.due, self.newcomers, count as u32);
            truth.push(Truth::Demand { at, due, newcomers, expected: mean, orders });
        }

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
            let event_id = self.common.user_events;
            self.common.user_events += 1;
            if self.customers.owns(id) {
                let profile = &self.settings.profile;
                let (person, user) = people::person(profile, seed, id, signed_up_at);
                if let Some(truth) = &mut self.truth {
                    let day = day_of(signed_up_at);
                    truth.push(Truth::customer(profile, seed, id, &person, day));
                }
                self.customers.sign_up(id, person, signed_up_at);
                emit(Event::User(UserEvent { event_id, at: signed_up_at, user }));
            }
        }
        while self.common.listing_at <= at {
            let listed_at = self.common.listing_at;
            let id = self.common.catalog.list(&self.settings.profile, seed, listed_at);
            self.common.listing_at += self.settings.listing_gap(id, listed_at);
            let event_id = self.common.product_events;
            self.common.product_events += 1;
            self.tell_product(event_id, id, listed_at, emit);
        }
    }

    /// The cancellations and refunds up to `at`.
    fn take_back(&mut self, at: Millis, emit: &mut impl FnMut(Event)) {
        while let Some(key) = self.reversals.pop_if(|(time, _)| *time <= at) {
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
        // Whole numbers: thousandths of the hour's liking. At a low temperature they have no end, but
        // what all bands have together is to stay within 64 bits.
        let heaviest = (0..BANDS).map(|band| roster.total(band)).max().unwrap_or(0).max(1);
        let most = u64::MAX / BANDS as u64 / heaviest - 1;
        let liking = |band: usize| {
            let liking = self.hours[band][hour].powf(self.settings.sharpness()) * 1e3;
            (liking as u64).min(most) + 1
        };
        let id = if self.settings.profile.score.temperature > 0.0 {
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
        let order_id = OrderId(self.common.orders as i64);
        let random = &mut draw(self.settings.seed, Purpose::Order, self.common.orders, 0);
        let customer = self.customers.get(id);
        let Common { catalog, scenarios, demand_time, .. } = &self.common;
        let offered = self.offer.as_ref().map_or(&catalog.roster, |offer| &offer.products);
        let goods = BasketContext {
            rules: &self.settings.profile.basket,
            seed: self.settings.seed,
            offered,
            catalog,
            scenarios,
            words: &self.words,
        };
        let lines = basket::fill(random, id, customer, &goods);
        let order = Order {
            event: OrderKind::Placed,
            order_id,
            user_id: UserId(id.into()),
            at,
            ordered_at: at,
            lines,
        };
        let drops_out = self.customers.ordered(random, &order, day, demand_time);
        if let Some(truth) = self.truth.as_mut().filter(|_| drops_out) {
            truth.push(Truth::DropOut { user_id: id, at });
        }
        emit(Event::Order(OrderEvent { event_id, order }));
    }

    fn figures(&self) -> Figures {
        Figures {
            at: self.settings.border(self.common.refresh),
            customers: u64::from(self.common.customers),
            products: self.common.catalog.len() as u64,
            orders: self.common.orders,
            demand: self.common.demand,
            scenarios: Arc::clone(&self.common.scenarios.running),
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
