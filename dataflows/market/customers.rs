//! The customers of one worker: who is due, what they did, and what they will take back.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::Arc,
};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Serialize};

use super::{
    draw::{Purpose, draw},
    leading::Leading,
    people::{Person, person},
    profile::BANDS,
    profile::{Basket, Profile, Selection},
    working_set::Candidate,
};
use crate::model::{
    Day, Line, Millis, Order, OrderId, OrderKind, Status, User,
    time::{DAY, HOUR, MINUTE},
};
use crate::operators::{Grade, GradeTimeline, tick_until};

/// Where a customer stands.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Stage {
    /// Has never bought.
    Fresh,
    /// Has bought and would buy again.
    Due,
    /// Will be due when the demand time of the age band reaches the number.
    Resting(u8, i64),
    /// Has left for good.
    Gone,
}

/// A customer.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Customer {
    pub(super) person: Person,
    signed_up_at: Millis,
    pub(super) status: Status,
    stage: Stage,
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
    /// Those who never bought, newest sign-up first.
    fresh: Leading<Reverse<u32>>,
    /// By age band: when whom is due again.
    resting: [BinaryHeap<Reverse<(i64, u32)>>; BANDS],
    /// The customers before this one signed up too long ago to be newcomers.
    aged: usize,
    newcomers: u32,
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
            fresh: Leading::new(places),
            resting: Default::default(),
            aged: 0,
            newcomers: 0,
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
            self.sold = shards.iter().flat_map(|shard| &shard.sold).copied().collect();
            self.changed = shards.iter().flat_map(|shard| &shard.changed).copied().collect();
        }
    }

    /// What a snapshot keeps of them.
    pub(super) fn shard(&self) -> Shard {
        let customers = self.all.iter().enumerate();
        Shard {
            customers: customers.map(|(place, one)| (self.id(place), one.clone())).collect(),
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

    /// Adds a customer who has just signed up.
    pub(super) fn sign_up(&mut self, id: u32, person: Person, signed_up_at: Millis) {
        let customer = Customer {
            person,
            signed_up_at,
            status: Status::Active,
            stage: Stage::Fresh,
            last_order_at: 0,
            due_grade: Grade::default(),
            timeline: GradeTimeline::default(),
            remembered: Vec::new(),
        };
        self.enter(id, customer);
    }

    fn enter(&mut self, id: u32, customer: Customer) {
        match customer.stage {
            Stage::Fresh => {
                self.fresh.insert(Reverse(id));
                self.newcomers += 1;
            }
            Stage::Due => self.due.insert((customer.last_order_at, id)),
            Stage::Resting(band, at) => self.resting[usize::from(band)].push(Reverse((at, id))),
            Stage::Gone => {}
        }
        debug_assert_eq!(self.place(id), self.all.len());
        if customer.status == Status::Active {
            self.quiet.push_back((customer.last_active_at(), id));
        }
        self.all.push(customer);
    }

    /// Moves on to the start of a refresh: who has rested enough is due now.
    pub(super) fn wake(&mut self, now: Millis, demand_time: &[i64; BANDS]) {
        for (band, now_there) in demand_time.iter().enumerate() {
            while let Some(Reverse((at, id))) = self.resting[band].peek().copied()
                && at <= *now_there
            {
                self.resting[band].pop();
                let place = self.place(id);
                let customer = &mut self.all[place];
                if customer.stage == Stage::Gone {
                    continue;
                }
                customer.stage = Stage::Due;
                customer.timeline.advance(tick_until(now));
                customer.due_grade = customer.timeline.standing().grade;
                self.due.insert((customer.last_order_at, id));
            }
        }
        while let Some(customer) = self.all.get(self.aged)
            && customer.signed_up_at + self.rules.demand.newcomer.0 <= now
        {
            self.newcomers -= u32::from(customer.stage == Stage::Fresh);
            self.aged += 1;
        }
    }

    /// Opens a day: who has done nothing for long becomes DORMANT, or leaves for good.
    pub(super) fn open_day(&mut self, now: Millis) {
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

    /// Takes a customer out of the group of candidates they stand in, if any.
    fn leave_group(&mut self, id: u32) {
        let place = self.place(id);
        let customer = &self.all[place];
        match customer.stage {
            Stage::Fresh => {
                self.fresh.remove(Reverse(id));
                self.newcomers -= u32::from(place >= self.aged);
            }
            Stage::Due => self.due.remove((customer.last_order_at, id)),
            Stage::Resting(..) | Stage::Gone => {}
        }
    }

    /// The record that the shop has of a customer.
    pub(super) fn record(&self, id: u32, status: Status) -> User {
        let (_, user) = person(&self.rules, self.seed, id, self.get(id).signed_up_at);
        User { status, ..user }
    }

    /// Numbers of customers who are due, and of newcomers.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.due.len() as u32, self.newcomers)
    }

    /// The changes among the leading candidates since the last call: the places that became
    /// empty, and the faces that came. With `all`, every leading candidate is among the latter.
    pub(super) fn changes(
        &mut self,
        day: Day,
        all: bool,
    ) -> (Vec<(Option<Millis>, u32)>, Vec<Candidate>) {
        let (due_left, mut due_came) = self.due.take_changes();
        let (fresh_left, mut fresh_came) = self.fresh.take_changes();
        if all {
            due_came = self.due.leaders().collect();
            fresh_came = self.fresh.leaders().collect();
        }
        let left = due_left.into_iter().map(|(at, id)| (Some(at), id));
        let left = left.chain(fresh_left.into_iter().map(|Reverse(id)| (None, id))).collect();
        let due = due_came.into_iter().map(|(at, id)| self.face(Some(at), id, day));
        let fresh = fresh_came.into_iter().map(|Reverse(id)| self.face(None, id, day));
        (left, due.chain(fresh).collect())
    }

    fn face(&self, last_order_at: Option<Millis>, id: u32, day: Day) -> Candidate {
        let customer = self.get(id);
        let Customer { person, status, due_grade, .. } = customer;
        let score = person.score(&self.rules.score, self.seed, id, *status, *due_grade, day);
        Candidate { last_order_at, id, band: customer.person.band(day), score }
    }

    /// Records an order and decides what follows from it. Returns whether the customer drops out.
    pub(super) fn ordered(
        &mut self,
        random: &mut ChaCha8Rng,
        order: &Order,
        day: Day,
        demand_time: &[i64; BANDS],
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let id = order.user_id.0 as u32;
        self.leave_group(id);
        let place = self.place(id);
        let customer = &mut self.all[place];
        debug_assert!(matches!(customer.stage, Stage::Fresh | Stage::Due), "only members order");
        let first = customer.last_order_at == 0;
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

        let only_one = if first { rules.rhythm.only_one } else { 0.0 };
        // Who buys often is lost less easily.
        let person = &customer.person;
        let chance = (f64::from(person.drop_out) + only_one) / f64::from(1.0 + person.factor);
        let drops_out = random.random::<f64>() < chance;
        let mean = if drops_out {
            rules.rhythm.back.0 as f64
        } else {
            customer.person.rhythm(&rules, day)
        };
        let gap: f64 = Exp1.sample(random);
        let wait = match rules.working_set.selection {
            Selection::Due => (gap * mean) as i64,
            Selection::All => 0,
        };
        let band = customer.person.band(day);
        // Whose factors are 0 has no rhythm, and rests for ever.
        let again = demand_time[usize::from(band)].saturating_add(wait);
        customer.stage = Stage::Resting(band, again);
        self.resting[usize::from(band)].push(Reverse((again, id)));

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

/// What the customer will take back of an order, if anything: never within its refresh, so that
/// everybody knows of it before it happens.
fn taking_back(rules: &Basket, random: &mut ChaCha8Rng, order: &Order) -> Option<Order> {
    let fate = random.random::<f64>();
    let wait: f64 = Exp1.sample(random);
    let (kind, delay, lines) = if fate < rules.cancelled {
        (OrderKind::Cancelled, 2 * MINUTE + (wait * HOUR as f64) as Millis, order.lines.clone())
    } else if fate < rules.cancelled + rules.refunded {
        let all = order.lines.len() == 1 || random.random::<f64>() < 0.4;
        let some: Vec<Line> =
            order.lines.iter().filter(|_| all || random.random::<f64>() < 0.5).cloned().collect();
        let lines = if some.is_empty() { order.lines.clone() } else { Arc::from(some) };
        (OrderKind::Refunded, DAY + (wait * 3.0 * DAY as f64) as Millis, lines)
    } else {
        return None;
    };
    Some(Order { event: kind, at: order.at + delay, lines, ..order.clone() })
}
