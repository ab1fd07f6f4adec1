//! The market: rules that make customers, products and orders, and the dataflow made of them.
//!
//! Time goes in *refreshes* of 50 s; each holds 12 or 13 *order ticks*, 3 to 5 s apart. At the start
//! of a refresh every worker proposes its best candidates for the working set, and hears the
//! proposals of all; from then on each knows who orders when without another word, because who
//! orders is decided by everybody alike ([`race`]). Only the worker that keeps the customer fills the
//! basket and tells of it.
//!
//! Invariant: the events are a function of the settings and the commands alone, and what one customer
//! draws is a function of that customer's own past. Tests compare different numbers of workers, and a
//! run cut in two.

mod basket;
mod best;
mod cache;
mod calendar;
mod catalog;
mod customers;
mod dataflow;
mod demand;
mod draw;
mod faults;
mod leading;
mod people;
mod profile;
mod race;
mod scenarios;
mod settings;
mod shelf;
mod truth;
mod working_set;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rand::RngExt;
use rand_distr::{Distribution, Poisson};
use serde::{Deserialize, Serialize};

pub use cache::{
    AgeBand, ById, Cache, CachedCustomer, CachedProduct, CachedSet, CustomerById, Group,
    ProductById, Reading,
};
pub use dataflow::{Control, Output, Release, market};
pub use faults::{Delayed, FaultStage, Faults, Label, Record, Released};
pub use people::Score;
pub use profile::{Profile, word};
pub use scenarios::{Command, MonthDay, Occurrence, Rule, Running, Scenario, occurrences};
pub use settings::Settings;
pub use truth::Truth;

use crate::model::{
    Category, Day, Event, Millis, Order, OrderEvent, OrderId, OrderKind, ProductEvent, Status,
    UserEvent, UserId,
    time::{MINUTE, day_of, start_of_day},
};
use basket::BasketContext;
use cache::Offer;
use catalog::Catalog;
use customers::{Customers, Shard};
use demand::{Demand, Hours, Rates};
use draw::{Purpose, draw};
use profile::Mood;
use race::{Race, Runner};
use scenarios::{Scenarios, opens_hour};
use working_set::{Candidate, GROUPS, Member, WorkingSet};

/// In history no partition of orders is silent for longer: then it gets a heartbeat.
pub const SILENCE: Millis = 10 * MINUTE;

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
    /// Candidates, and how many of them are new, by group.
    candidates: [u32; GROUPS],
    arrived: [u32; GROUPS],
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
    demand: Demand,
    scenarios: Scenarios,
    catalog: Catalog,
}

/// The market as one worker sees it.
struct Market {
    settings: Settings,
    hours: Hours,
    words: Vec<Category>,
    common: Common,
    customers: Customers,
    working_set: WorkingSet,
    race: Race,

    // The refresh that is going on.
    ticks: Vec<Millis>,
    /// The next tick; behind the last one while the proposals are awaited.
    tick: usize,
    /// Its day, and the day's factor.
    day: Option<(Day, f64)>,
    candidates: [u32; GROUPS],
    rates: Rates,
    sign_ups: Vec<Millis>,
    reversals: Vec<(Millis, OrderId)>,
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
        let mut customers = Customers::new(Arc::clone(&profile), seed, index as u32, peers as u32);
        let mut common = if let Some(snapshot) = snapshot {
            customers.restore(&snapshot.shards);
            let mut common = snapshot.common.clone();
            common.catalog.restore(&profile);
            common
        } else {
            let (all_customers, all_products) =
                (profile.customers.initial, profile.products.initial);
            let mut catalog = Catalog::new(&profile);
            for id in 1..=all_products {
                catalog.list(&profile, seed, settings.before_opening(id, all_products));
            }
            for id in (1..=all_customers).filter(|id| id % peers as u32 == index as u32) {
                let signed_up_at = settings.before_opening(id, all_customers);
                let (person, _) = people::person(&profile, seed, id, signed_up_at);
                customers.sign_up(id, person, signed_up_at, None);
            }
            Common {
                refresh: 0,
                customers: all_customers,
                listing_at: origin + settings.listing_gap(all_products, origin),
                orders: 0,
                user_events: u64::from(all_customers),
                product_events: u64::from(all_products),
                order_events: 0,
                demand: Demand::new(&profile),
                scenarios: Scenarios::new(profile.categories.len()),
                catalog,
            }
        };
        let begun = settings.border(common.refresh);
        common.scenarios.commands =
            commands.iter().filter(|command| command.at >= begun).cloned().collect();
        Market {
            hours: Hours::new(&profile),
            words: profile.words().into_iter().map(Category::from).collect(),
            common,
            customers,
            working_set: WorkingSet::new(),
            race: Race::default(),
            ticks: Vec::new(),
            tick: 0,
            day: None,
            candidates: [0; GROUPS],
            rates: Rates::default(),
            sign_ups: Vec::new(),
            reversals: Vec::new(),
            offer: None,
            truth: None,
            settings,
        }
    }

    /// Keeps from now on what no shop knows.
    fn tell_truth(&mut self) {
        self.truth = Some(Vec::new());
        self.customers.arrivals = Some(Vec::new());
    }

    /// What this worker's customers would have the next refresh be.
    fn propose(&mut self) -> Proposal {
        let from = self.settings.border(self.common.refresh);
        if self.opens_day() {
            self.customers.open_day(from);
        }
        self.customers.wake(from, self.common.demand.time);
        if let (Some(truth), Some(arrivals)) = (&mut self.truth, &mut self.customers.arrivals) {
            let arrivals = arrivals.drain(..);
            truth.extend(arrivals.map(|user_id| Truth::Arrival { user_id, at: from }));
        }
        let (left, came) = self.customers.changes(from, self.opens_day());
        Proposal {
            refresh: self.common.refresh,
            candidates: self.customers.counts(),
            arrived: self.customers.take_arrived(),
            left,
            came,
            sold: std::mem::take(&mut self.customers.sold),
            changed: std::mem::take(&mut self.customers.changed),
            reversals: self.customers.reversals(from, from + self.settings.refresh()),
        }
    }

    /// Whether the refresh that comes is the first of a day, or of all.
    fn opens_day(&self) -> bool {
        let from = self.settings.border(self.common.refresh);
        self.common.refresh == 0 || from == start_of_day(day_of(from))
    }

    /// Begins a refresh, once all workers have proposed.
    fn begin(&mut self, proposals: &[Arc<Proposal>], emit: &mut impl FnMut(Event)) {
        let Settings { seed, .. } = self.settings;
        let refresh = self.common.refresh;
        let from = self.settings.border(refresh);
        if refresh == 0 {
            self.tell_beginning(emit);
        }
        let sum = |of: fn(&Proposal) -> [u32; GROUPS]| {
            let all = proposals.iter().map(|proposal| of(proposal));
            all.fold([0; GROUPS], |sum, one| std::array::from_fn(|group| sum[group] + one[group]))
        };
        self.candidates = sum(|proposal| proposal.candidates);
        self.common.demand.count(&self.settings.profile, sum(|proposal| proposal.arrived));
        self.reversals =
            proposals.iter().flat_map(|proposal| &proposal.reversals).copied().collect();
        self.reversals.sort_unstable_by(|a, b| b.cmp(a));
        self.tell_changes(proposals, from, emit);

        let day = day_of(from);
        if self.day.is_none_or(|(known, _)| known != day) {
            let demand = &self.settings.profile.demand;
            self.day = Some((day, calendar::day_factor(demand, seed, day)));
        }
        if self.opens_day() {
            self.common.demand.open_day();
        }
        // A market that opens within an hour has what the hour has.
        if opens_hour(from) || refresh == 0 {
            let told = self.customers.owns(0);
            self.common.scenarios.open(&self.settings, from, &mut |event| {
                if told {
                    emit(Event::Scenario(event));
                }
            });
        }
        self.offer = None;
        self.draw_up(proposals, from);

        self.ticks = self.settings.ticks(refresh);
        self.tick = 0;
        let random = &mut draw(seed, Purpose::SignUps, refresh, 0);
        let span = self.settings.refresh();
        let count = poisson(random, self.settings.sign_up_rate(from) * span as f64);
        self.sign_ups = (0..count).map(|_| from + random.random_range(1..=span)).collect();
        self.sign_ups.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Draws up the working set, and what the demand on it is.
    fn draw_up(&mut self, proposals: &[Arc<Proposal>], from: Millis) {
        let Settings { seed, profile, .. } = &self.settings;
        let rules = &profile.score;
        let sharpness = self.settings.sharpness();
        let time = self.settings.mood_time(from);
        let anew = rules.mood == Mood::Refresh || self.opens_day();
        let entered = self.working_set.refresh(
            &profile.working_set,
            proposals.iter().flat_map(|proposal| &proposal.left),
            proposals.iter().flat_map(|proposal| &proposal.came),
            |face| {
                let mood = people::mood(rules, *seed, face.id, face.consent, time);
                weight(face.score * mood, sharpness)
            },
            anew,
        );
        let (_, factor) = self.day.expect("a refresh begins with its day");
        let Common { demand, scenarios, .. } = &mut self.common;
        let members = &self.working_set.members;
        self.rates = demand.rates(profile, &self.hours, from, factor, self.candidates, members);
        let sale = demand::sale(profile, scenarios.demand);
        if opens_hour(from)
            && let Some(hour) = demand.sell(profile, &self.rates, sale)
        {
            self.customers.sell(from, &hour);
        }
        // A race is one hour's.
        if opens_hour(from) || entered.len() == members.len() {
            self.start_race(from, sale);
        } else if self.settings.races() {
            for id in entered {
                if let Some(member) = members.get(id) {
                    self.race.enter(*seed, from, runner(&self.rates, id, member));
                }
            }
        }
    }

    /// Draws when whose keys fall in this hour, for the demand of now, where there is a race.
    fn start_race(&mut self, now: Millis, sale: f64) {
        if !self.settings.races() {
            return;
        }
        let own = &self.working_set.members;
        let members = self.offer.as_ref().map_or(own, |offer| &offer.members);
        let runners = members.iter().map(|(id, member)| runner(&self.rates, id, member));
        self.race.start(self.settings.seed, now, self.rates.demand(sale), runners);
    }

    /// Whether the refresh that has begun, or is about to, is a live one.
    fn is_live(&self) -> bool {
        self.settings.border(self.common.refresh) >= self.settings.start
    }

    /// The working set of a refresh that has begun and had no tick yet.
    fn cached_set(&self) -> CachedSet {
        let Common { refresh, catalog, .. } = &self.common;
        let at = self.settings.border(*refresh);
        CachedSet::new(*refresh, at, &self.working_set.members, catalog.offered())
    }

    /// Has the refresh draw from what was read, if that is what it would draw from anyway.
    fn read(&mut self, set: Option<&CachedSet>) -> Reading {
        let Some(set) = set else { return Reading::Miss };
        if *set != self.cached_set() {
            return Reading::Differs;
        }
        self.take_offer(set);
        Reading::Hit
    }

    /// Has the refresh draw from a set.
    fn take_offer(&mut self, set: &CachedSet) {
        self.offer = Some(Offer::new(set, &self.common.catalog));
        let sale = demand::sale(&self.settings.profile, self.common.scenarios.demand);
        self.start_race(self.settings.border(self.common.refresh), sale);
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

        let (day, _) = self.day.expect("a refresh begins with its day");
        let profile = &self.settings.profile;
        let sale = demand::sale(profile, self.common.scenarios.demand);
        self.common.demand.pass(profile, &self.rates, sale, at - from);
        let before = self.common.orders;
        if self.settings.races() {
            self.race_on(from, at, sale, day, emit);
        } else {
            self.take_highest(from, at, sale, day, emit);
        }
        self.take_back(at, emit);
        if self.customers.owns(0)
            && let Some(truth) = &mut self.truth
        {
            let [due, ready] = self.candidates;
            let expected = self.rates.expected(&self.settings.profile, sale, at - from);
            let orders = (self.common.orders - before) as u32;
            truth.push(Truth::Demand { at, due, ready, expected, orders });
        }
        if self.tick == self.ticks.len() {
            self.common.refresh += 1;
        }
    }

    /// The members whose keys fall up to `at` below the demand order.
    fn race_on(
        &mut self,
        from: Millis,
        at: Millis,
        sale: f64,
        day: Day,
        emit: &mut impl FnMut(Event),
    ) {
        let demand = self.rates.demand(sale);
        if !self.race.reaches(demand) {
            self.start_race(from, sale);
        }
        while let Some(key) = self.race.pop(at) {
            let Runner { id, group, .. } = key.runner;
            if key.demand <= demand[group] && self.runs(key.runner) && self.take(id) {
                self.take_back(key.at - 1, emit);
                self.place(id, key.at, day, emit);
            }
        }
    }

    /// Whether a runner is a member as they run: who has left the set and come back with another
    /// score, or in the other group, has keys of both, and the old ones count no more.
    fn runs(&self, known: Runner) -> bool {
        let own = &self.working_set.members;
        let members = self.offer.as_ref().map_or(own, |offer| &offer.members);
        members.get(known.id).is_some_and(|member| runner(&self.rates, known.id, member) == known)
    }

    /// The members with the highest scores order: so many as the profile has it, or as demand has it.
    fn take_highest(
        &mut self,
        from: Millis,
        at: Millis,
        sale: f64,
        day: Day,
        emit: &mut impl FnMut(Event),
    ) {
        let Settings { seed, profile, .. } = &self.settings;
        let count = profile.demand.orders_a_tick.unwrap_or_else(|| {
            let tick = self.tick as u64;
            let random = &mut draw(*seed, Purpose::Demand, self.common.refresh, tick);
            poisson(random, self.rates.mean(sale, at - from))
        });
        let own = &self.working_set.members;
        let members = self.offer.as_ref().map_or(own, |offer| &offer.members);
        let score = |(id, member): (u32, Member)| {
            (member.weight as f64 * self.rates.liking[usize::from(member.band)], id)
        };
        let mut scores: Vec<(f64, u32)> = members.iter().map(score).collect();
        let count = count.min(scores.len());
        let higher = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1));
        if count < scores.len() {
            scores.select_nth_unstable_by(count, higher);
        }
        scores.truncate(count);
        scores.sort_unstable_by(higher);
        for (place, (_, id)) in (1..).zip(scores) {
            let placed_at = from + (at - from) * place / count as Millis;
            self.take(id);
            self.take_back(placed_at - 1, emit);
            self.place(id, placed_at, day, emit);
        }
    }

    /// Takes a member out of the working set, if it is one: who orders has no other order in the
    /// refresh.
    fn take(&mut self, id: u32) -> bool {
        let own = self.working_set.members.remove(id);
        match &mut self.offer {
            Some(offer) => offer.members.remove(id).is_some(),
            None => own.is_some(),
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
                let Demand { time, lifted, .. } = self.common.demand;
                self.customers.sign_up(id, person, signed_up_at, Some((time, lifted)));
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

    /// Customer `id` places an order.
    fn place(&mut self, id: u32, at: Millis, day: Day, emit: &mut impl FnMut(Event)) {
        self.common.orders += 1;
        let event_id = self.common.order_events;
        self.common.order_events += 1;
        if !self.customers.owns(id) {
            return;
        }
        let order_id = OrderId(self.common.orders as i64);
        let customer = self.customers.get(id);
        let orders = u64::from(customer.orders);
        let random = &mut draw(self.settings.seed, Purpose::Order, u64::from(id), orders);
        let Common { catalog, scenarios, demand, .. } = &self.common;
        let offered = self.offer.as_ref().map_or(catalog.offered(), |offer| &offer.products);
        let goods = BasketContext {
            rules: &self.settings.profile.basket,
            seed: self.settings.seed,
            offered,
            catalog,
            scenarios,
            categories: &self.settings.profile.categories,
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
        let drops_out = self.customers.ordered(random, &order, day, demand.time);
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
            demand: self.common.demand.expected,
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

/// A member in the race of the hour.
fn runner(rates: &Rates, id: u32, member: Member) -> Runner {
    let intensity = member.weight as f64 * rates.liking[usize::from(member.band)];
    Runner { id, group: usize::from(member.group), intensity }
}

/// A number of arrivals with that mean.
fn poisson(random: &mut impl rand::Rng, mean: f64) -> usize {
    Poisson::new(mean.min(1e9)).map_or(0, |poisson| poisson.sample(random) as usize)
}
