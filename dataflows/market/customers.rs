//! The customers of one worker: who they are, when they would buy again, and what they have to come.
//!
//! A customer's rhythm runs in *demand time*: a clock that runs fast at the hours, weekdays and in the
//! months that people like, and in a sale, but for the share that a sale pulls forward.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque, binary_heap::PeekMut},
    sync::Arc,
};

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Serialize};

use super::{
    draw::{Purpose, draw},
    leading::Leading,
    people::{Person, person, ready_in},
    profile::{Basket, Profile, Selection},
    working_set::Candidate,
};
use crate::model::{
    Day, Line, Millis, Order, OrderId, OrderKind, Status, User,
    time::{DAY, HOUR, MINUTE, day_of},
};
use crate::operators::{Grade, GradeTimeline, tick_until};

/// Where a customer stands.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Stage {
    /// Has never bought, and is not about to, until sales have lifted demand by so many days in all.
    Visitor(Lift),
    /// Has never bought, and will be ready to at this demand time.
    Waiting(i64),
    /// Has never bought, and would.
    Ready,
    /// Has bought, and will be due at this demand time.
    Resting(i64),
    /// Has bought, and would buy again.
    Due,
    /// Has left for good.
    Gone,
}

/// A customer.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Customer {
    pub(super) person: Person,
    pub(super) signed_up_at: Millis,
    pub(super) status: Status,
    stage: Stage,
    /// Orders so far.
    pub(super) orders: u32,
    /// 0 for one who never bought.
    last_order_at: Millis,
    /// The grade when they became due; the score keeps it until they buy.
    due_grade: Grade,
    timeline: GradeTimeline,
    /// What they bought last, newest last.
    pub(super) remembered: Vec<u32>,
}

impl Customer {
    fn last_active_at(&self) -> Millis {
        self.signed_up_at.max(self.last_order_at)
    }
}

/// The customers whose id leaves the worker's index when divided by the number of workers.
pub(super) struct Customers {
    rules: Arc<Profile>,
    seed: u64,
    index: u32,
    peers: u32,
    all: Vec<Customer>,
    /// Past buyers who are due, oldest last order first.
    due: Leading<(Millis, u32)>,
    /// Those who never bought and are ready, newest sign-up first.
    ready: Leading<Reverse<u32>>,
    /// Those who will be due or ready.
    waking: Waking,
    visitors: BinaryHeap<Reverse<(Lift, u32)>>,
    /// What the sale of today moves whom to do.
    moved: Option<Moved>,
    /// How many have become due, and ready, since the last proposal.
    arrived: [u32; 2],
    /// Who they are, where somebody asks.
    pub(super) arrivals: Option<Vec<u32>>,
    /// Takings-back to come.
    planned: BTreeMap<(Millis, OrderId), Order>,
    /// When customers signed up or ordered, oldest first: who did nothing since becomes DORMANT.
    quiet: VecDeque<(Millis, u32)>,
    /// What was sold since the last proposal: product and units.
    pub(super) sold: Vec<(u32, u32)>,
    /// Whose status has changed since the last proposal.
    pub(super) changed: Vec<(u32, Status)>,
}

/// The customers of one worker, as kept in a snapshot.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Shard {
    pub(super) customers: Vec<(u32, Customer)>,
    arrived: [u32; 2],
    planned: Vec<Order>,
    sold: Vec<(u32, u32)>,
    changed: Vec<(u32, Status)>,
}

impl Customers {
    pub(super) fn new(rules: Arc<Profile>, seed: u64, index: u32, peers: u32) -> Self {
        let places = rules.working_set.customers;
        Customers {
            rules,
            seed,
            index,
            peers,
            all: Vec::new(),
            due: Leading::new(places),
            ready: Leading::new(places),
            waking: Waking::default(),
            visitors: BinaryHeap::new(),
            moved: None,
            arrived: [0; 2],
            arrivals: None,
            planned: BTreeMap::new(),
            quiet: VecDeque::new(),
            sold: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Has them live by other rules from now on.
    #[cfg(test)]
    pub(super) fn set_rules(&mut self, rules: &Profile) {
        self.rules = Arc::new(rules.clone());
    }

    /// Takes its share of a snapshot, whatever the number of workers that made it.
    pub(super) fn restore(&mut self, shards: &[Shard]) {
        let mut mine: Vec<_> = shards
            .iter()
            .flat_map(|shard| &shard.customers)
            .filter(|(id, _)| self.owns(*id))
            .collect();
        mine.sort_by_key(|(id, _)| *id);
        for (id, customer) in mine {
            self.enter(*id, customer.clone());
        }
        self.quiet.make_contiguous().sort_unstable();
        for order in shards.iter().flat_map(|shard| &shard.planned) {
            if self.owns(order.user_id.0 as u32) {
                self.planned.insert((order.at, order.order_id), order.clone());
            }
        }
        if self.index == 0 {
            for shard in shards {
                self.sold.extend(&shard.sold);
                self.changed.extend(&shard.changed);
                for (all, one) in self.arrived.iter_mut().zip(shard.arrived) {
                    *all += one;
                }
            }
        }
    }

    /// What a snapshot keeps of them.
    pub(super) fn shard(&self) -> Shard {
        let customers = self.all.iter().enumerate();
        Shard {
            customers: customers.map(|(place, one)| (self.id(place), one.clone())).collect(),
            arrived: self.arrived,
            planned: self.planned.values().cloned().collect(),
            sold: self.sold.clone(),
            changed: self.changed.clone(),
        }
    }

    pub(super) fn owns(&self, id: u32) -> bool {
        id % self.peers == self.index
    }

    pub(super) fn get(&self, id: u32) -> &Customer {
        &self.all[self.place(id)]
    }

    /// Ids start at 1, so the worker with index 0 has its first customer at `peers`.
    fn place(&self, id: u32) -> usize {
        (id / self.peers - u32::from(self.index == 0)) as usize
    }

    fn id(&self, place: usize) -> u32 {
        (place as u32 + u32::from(self.index == 0)) * self.peers + self.index
    }

    /// Adds a customer who has just signed up: at the opening, or at a demand time and so many days of
    /// lift since then.
    pub(super) fn sign_up(
        &mut self,
        id: u32,
        person: Person,
        signed_up_at: Millis,
        demand: Option<(i64, f64)>,
    ) {
        let ready = ready_in(&self.rules.customers, self.seed, id, &person, demand.is_none());
        let (time, lifted) = demand.unwrap_or_default();
        let stage = match (self.rules.working_set.selection, ready) {
            (Selection::All, _) => Stage::Ready,
            (Selection::Due, Some(wait)) => Stage::Waiting(time + wait),
            (Selection::Due, None) => {
                let random = &mut draw(self.seed, Purpose::Sale, u64::from(id), u64::MAX);
                let impulse: f64 = Exp1.sample(random);
                Stage::Visitor(Lift(lifted + impulse / self.rules.demand.awakened))
            }
        };
        let customer = Customer {
            person,
            signed_up_at,
            status: Status::Active,
            stage,
            orders: 0,
            last_order_at: 0,
            due_grade: Grade::default(),
            timeline: GradeTimeline::default(),
            remembered: Vec::new(),
        };
        self.enter(id, customer);
        self.may_be_moved(id);
    }

    fn enter(&mut self, id: u32, customer: Customer) {
        match customer.stage {
            Stage::Visitor(lift) => self.visitors.push(Reverse((lift, id))),
            Stage::Ready => self.ready.insert(Reverse(id)),
            Stage::Due => self.due.insert((customer.last_order_at, id)),
            Stage::Waiting(at) | Stage::Resting(at) => self.waking.push(at, id),
            Stage::Gone => {}
        }
        debug_assert_eq!(self.place(id), self.all.len());
        if customer.status == Status::Active {
            self.quiet.push_back((customer.last_active_at(), id));
        }
        self.all.push(customer);
    }

    /// Moves on to the start of a refresh: who has rested enough is due now, who has waited enough is
    /// ready.
    pub(super) fn wake(&mut self, now: Millis, demand_time: i64) {
        while let Some((at, id)) = self.waking.pop(demand_time) {
            let place = self.place(id);
            let customer = &mut self.all[place];
            match customer.stage {
                Stage::Resting(awaited) if awaited == at => {
                    customer.stage = Stage::Due;
                    customer.timeline.advance(tick_until(now));
                    customer.due_grade = customer.timeline.standing().grade;
                    self.due.insert((customer.last_order_at, id));
                    self.arrived[0] += 1;
                }
                Stage::Waiting(awaited) if awaited == at => {
                    customer.stage = Stage::Ready;
                    self.ready.insert(Reverse(id));
                    self.arrived[1] += 1;
                }
                // A sale has moved them, or they have left.
                _ => continue,
            }
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.push(id);
            }
        }
    }

    /// Opens a day: who has done nothing for long becomes DORMANT, or leaves for good.
    pub(super) fn open_day(&mut self, now: Millis) {
        self.moved = None;
        let rules = Arc::clone(&self.rules);
        let rules = &rules.customers;
        while let Some((at, id)) =
            self.quiet.pop_front_if(|(at, _)| *at + rules.dormant_after.0 <= now)
        {
            let place = self.place(id);
            let customer = &mut self.all[place];
            if customer.last_active_at() != at {
                continue;
            }
            let random = &mut draw(self.seed, Purpose::Leave, u64::from(id), at as u64);
            customer.status = Status::Dormant;
            if random.random::<f64>() < rules.withdrawn {
                customer.status = Status::Withdrawn;
                self.leave_group(id);
                self.all[place].stage = Stage::Gone;
            }
            self.changed.push((id, self.all[place].status));
        }
    }

    /// Lives through an hour of a sale whose lift of the day, up to then and with this hour, is that
    /// of `sale`: who would wake within the horizon may do so within this hour, which lasts for
    /// `length` of demand time, and a visitor may be ready after all.
    pub(super) fn sell(&mut self, now: Millis, sale: &Sale) {
        let day = day_of(now);
        if self.moved.is_none() {
            let until = sale.opened_at + self.rules.demand.horizon.0;
            self.moved = Some(Moved { day, until, lift: sale.before, whom: BinaryHeap::new() });
            let near: Vec<u32> = self.waking.until(until).collect();
            for id in near {
                self.may_be_moved(id);
            }
        }
        let Some(moved) = &mut self.moved else { return };
        moved.lift = sale.after;
        let until = moved.until;
        let mut woken = Vec::new();
        for (impulses, lift) in [(&mut moved.whom, sale.after), (&mut self.visitors, sale.in_all)] {
            while let Some(next) = impulses.peek_mut().filter(|next| next.0.0 <= Lift(lift)) {
                let Reverse((_, id)) = PeekMut::pop(next);
                woken.push(id);
            }
        }
        for id in woken {
            let place = self.place(id);
            let random = &mut draw(self.seed, Purpose::Sale, u64::from(id), day as u64 + (1 << 32));
            let at = sale.now + (random.random::<f64>() * sale.length as f64) as i64;
            let stage = &mut self.all[place].stage;
            match stage {
                Stage::Visitor(_) => *stage = Stage::Waiting(at),
                // Who has ordered since may rest for longer now than a sale reaches.
                Stage::Waiting(awaited) | Stage::Resting(awaited)
                    if *awaited > at && *awaited <= until =>
                {
                    *awaited = at;
                }
                _ => continue,
            }
            self.waking.push(at, id);
        }
    }

    /// Has a customer moved when the lift of today's sale has come so far.
    fn may_be_moved(&mut self, id: u32) {
        let Some(moved) = &mut self.moved else { return };
        let demand = &self.rules.demand;
        // In days of lift, between two impulses.
        let mean = demand.horizon.0 as f64 / DAY as f64 / demand.pull;
        let random = &mut draw(self.seed, Purpose::Sale, u64::from(id), moved.day as u64);
        let uniform: f64 = random.random();
        // Exponential with that mean; for most it is far beyond any sale.
        if uniform * mean > LIFT_MAX {
            return;
        }
        let place = (id / self.peers - u32::from(self.index == 0)) as usize;
        let (Stage::Waiting(at) | Stage::Resting(at)) = self.all[place].stage else { return };
        if at > moved.until {
            return;
        }
        let lift = -(1.0 - uniform).ln() * mean;
        if lift > moved.lift && lift < LIFT_MAX {
            moved.whom.push(Reverse((Lift(lift), id)));
        }
    }

    /// Takes a customer out of the group of candidates they stand in, if any.
    fn leave_group(&mut self, id: u32) {
        let customer = &self.all[self.place(id)];
        match customer.stage {
            Stage::Ready => self.ready.remove(Reverse(id)),
            Stage::Due => self.due.remove((customer.last_order_at, id)),
            _ => {}
        }
    }

    /// The record that the shop has of a customer.
    pub(super) fn record(&self, id: u32, status: Status) -> User {
        let (_, user) = person(&self.rules, self.seed, id, self.get(id).signed_up_at);
        User { status, ..user }
    }

    /// Numbers of customers who are due, and ready.
    pub(super) fn counts(&self) -> [u32; 2] {
        [self.due.len() as u32, self.ready.len() as u32]
    }

    /// How many have become due, and ready, since the last call.
    pub(super) fn take_arrived(&mut self) -> [u32; 2] {
        std::mem::take(&mut self.arrived)
    }

    /// The changes among the leading candidates since the last call: the places that became
    /// empty, and the faces that came. With `all`, every leading candidate is among the latter.
    pub(super) fn changes(
        &mut self,
        now: Millis,
        all: bool,
    ) -> (Vec<(Option<Millis>, u32)>, Vec<Candidate>) {
        let (due_left, mut due_came) = self.due.take_changes();
        let (ready_left, mut ready_came) = self.ready.take_changes();
        if all {
            due_came = self.due.leaders().collect();
            ready_came = self.ready.leaders().collect();
        }
        let left = due_left.into_iter().map(|(at, id)| (Some(at), id));
        let left = left.chain(ready_left.into_iter().map(|Reverse(id)| (None, id))).collect();
        let due = due_came.into_iter().map(|(at, id)| (Some(at), id));
        let faces = due.chain(ready_came.into_iter().map(|Reverse(id)| (None, id)));
        (left, faces.map(|(last_order_at, id)| self.face(last_order_at, id, now)).collect())
    }

    fn face(&mut self, last_order_at: Option<Millis>, id: u32, now: Millis) -> Candidate {
        let (place, day) = (self.place(id), day_of(now));
        let Customer { person, signed_up_at, status, due_grade, timeline, .. } =
            &mut self.all[place];
        timeline.advance(tick_until(now));
        let never_bought = last_order_at.is_none();
        let score = person.score(&self.rules.score, *status, *due_grade, never_bought, day);
        Candidate {
            last_order_at,
            id,
            band: person.band(day),
            consent: person.consent,
            score: score.product(),
            signed_up_at: *signed_up_at,
            status: *status,
            grade: timeline.standing().grade,
            due_grade: *due_grade,
        }
    }

    /// Records an order and decides what follows from it. Returns whether the customer drops out.
    pub(super) fn ordered(
        &mut self,
        random: &mut impl Rng,
        order: &Order,
        day: Day,
        demand_time: i64,
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let id = order.user_id.0 as u32;
        self.leave_group(id);
        let place = self.place(id);
        let customer = &mut self.all[place];
        debug_assert!(matches!(customer.stage, Stage::Ready | Stage::Due), "only members order");
        let first = customer.orders == 0;
        customer.orders += 1;
        customer.last_order_at = order.at;
        customer.timeline.add(order.at, order.at, 1, order.amount());
        for line in order.lines.iter() {
            let product = line.product_id.0 as u32;
            self.sold.push((product, line.quantity as u32));
            customer.remembered.retain(|known| *known != product);
            customer.remembered.push(product);
        }
        let surplus = customer.remembered.len().saturating_sub(rules.basket.remembered);
        customer.remembered.drain(..surplus);
        self.quiet.push_back((order.at, id));
        if customer.status == Status::Dormant {
            customer.status = Status::Active;
            self.changed.push((id, Status::Active));
        }

        let rhythm = &rules.rhythm;
        let person = &customer.person;
        let chance = f64::from(person.drop_out);
        let chance = match (person.regular, first) {
            (true, _) => chance * rhythm.regulars.drop_out,
            (false, true) => rhythm.only_one + (1.0 - rhythm.only_one) * chance,
            (false, false) => chance,
        };
        let (drops_out, soon) = (random.random::<f64>() < chance, random.random::<f64>());
        let gap: f64 = Exp1.sample(random);
        let (share, soon_mean) = rhythm.soon;
        let rest = if drops_out {
            gap * rhythm.back.0 as f64
        } else if first && soon < share {
            rhythm.rest.0 as f64 + gap * soon_mean.0 as f64
        } else {
            rhythm.rest.0 as f64 + gap * 30.0 * DAY as f64 / person.orders_a_month(&rules, day)
        };
        let again = match rules.working_set.selection {
            // Whoever is never ready by age and sex rests for ever.
            Selection::Due => demand_time.saturating_add(rest as i64),
            Selection::All => demand_time,
        };
        customer.stage = Stage::Resting(again);
        self.waking.push(again, id);
        self.may_be_moved(id);

        if let Some(taking_back) = taking_back(&rules.basket, random, order) {
            self.planned.insert((taking_back.at, taking_back.order_id), taking_back);
        }
        drops_out
    }

    /// The takings-back after `from` up to `until`, as (at, order).
    pub(super) fn reversals(&self, from: Millis, until: Millis) -> Vec<(Millis, OrderId)> {
        self.planned
            .range((from, OrderId(i64::MAX))..=(until, OrderId(i64::MAX)))
            .map(|(key, _)| *key)
            .collect()
    }

    /// Carries out a taking-back, if the customer is one of these.
    pub(super) fn take_back(&mut self, key: (Millis, OrderId)) -> Option<Order> {
        let order = self.planned.remove(&key)?;
        let place = self.place(order.user_id.0 as u32);
        let customer = &mut self.all[place];
        customer.timeline.add(order.at, order.ordered_at, order.event.orders(), -order.amount());
        Some(order)
    }
}

/// An hour of a sale.
pub(super) struct Sale {
    /// Demand time at which the day opened, and of now.
    pub(super) opened_at: i64,
    pub(super) now: i64,
    /// Demand time that the hour will last for.
    pub(super) length: i64,
    /// The lift of the day's demand before this hour, and with it, in days of usual demand.
    pub(super) before: f64,
    pub(super) after: f64,
    /// The lift of all days, with this hour.
    pub(super) in_all: f64,
}

/// No day of a sale lifts demand by more days than this.
const LIFT_MAX: f64 = 12.0;

/// Whom the sale of a day moves, by the lift at which it does.
///
/// Invariant: these are the customers who may be moved now and whose lift is not reached yet, whenever
/// it was drawn up; so a market that was cut has the same.
struct Moved {
    day: Day,
    /// Who wakes up to this demand time may wake today.
    until: i64,
    /// The lift so far.
    lift: f64,
    whom: BinaryHeap<Reverse<(Lift, u32)>>,
}

/// Days of usual demand by which sales have lifted it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Lift(f64);

impl Eq for Lift {}

impl PartialOrd for Lift {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Lift {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Who wakes when, in demand time; what has changed since stays in it and is passed over.
#[derive(Default)]
struct Waking {
    /// Those of the days up to `opened`, the last first: a day is sorted once, for a heap of all of it
    /// would not fit into the processor's caches.
    today: Vec<(i64, u32)>,
    /// And who was added to these days since they were opened.
    soon: BinaryHeap<Reverse<(i64, u32)>>,
    opened: i64,
    /// Those of later days, by day.
    later: BTreeMap<i64, Vec<(i64, u32)>>,
}

impl Waking {
    fn push(&mut self, at: i64, id: u32) {
        let day = at.div_euclid(DAY);
        if day <= self.opened {
            self.soon.push(Reverse((at, id)));
        } else {
            self.later.entry(day).or_default().push((at, id));
        }
    }

    /// The next one up to a time.
    fn pop(&mut self, until: i64) -> Option<(i64, u32)> {
        let day = until.div_euclid(DAY);
        while let Some(next) = self.later.first_entry().filter(|next| *next.key() <= day) {
            self.opened = *next.key();
            self.today.append(&mut next.remove());
            self.today.sort_unstable_by(|one, other| other.cmp(one));
        }
        let (today, soon) = (self.today.last(), self.soon.peek().map(|Reverse(next)| next));
        let is_new = match (today, soon) {
            (Some(today), Some(soon)) => soon < today,
            (today, _) => today.is_none(),
        };
        let (at, _) = *if is_new { soon } else { today }?;
        if at > until {
            return None;
        }
        if is_new { self.soon.pop().map(|Reverse(next)| next) } else { self.today.pop() }
    }

    /// Those up to about a time, some of them twice and some who have changed since.
    fn until(&self, until: i64) -> impl Iterator<Item = u32> {
        let soon = self.soon.iter().map(|Reverse(one)| one);
        let later = self.later.range(..=until.div_euclid(DAY)).flat_map(|(_, day)| day);
        self.today.iter().chain(soon).chain(later).map(|(_, id)| *id)
    }
}

/// What the customer will take back of an order, if anything: never within its refresh, so that
/// everybody knows of it before it happens.
fn taking_back(rules: &Basket, random: &mut impl Rng, order: &Order) -> Option<Order> {
    let fate = random.random::<f64>();
    let wait: f64 = Exp1.sample(random);
    let (kind, delay, lines) = if fate < rules.cancelled {
        (OrderKind::Cancelled, 2 * MINUTE + (wait * HOUR as f64) as Millis, order.lines.clone())
    } else if fate < rules.cancelled + rules.refunded {
        let all = order.lines.len() == 1 || random.random::<f64>() < 0.4;
        let some: Vec<Line> =
            order.lines.iter().filter(|_| all || random.random::<f64>() < 0.5).copied().collect();
        let lines = if some.is_empty() { order.lines.clone() } else { Arc::from(some) };
        (OrderKind::Refunded, DAY + (wait * 3.0 * DAY as f64) as Millis, lines)
    } else {
        return None;
    };
    Some(Order { event: kind, at: order.at + delay, lines, ..order.clone() })
}
