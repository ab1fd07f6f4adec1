//! A shop's events for measurements: made fast, from nothing, and the same each time.
//!
//! Customers' activity has a heavy tail (density 1/sqrt), so has the products' popularity. Orders
//! spread evenly over the days of a year and rise and fall within each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use clap::ValueEnum;
use dataflows::ledger::{Origin, Sourced};
use dataflows::model::time::{DAY, HOUR};
use dataflows::model::{
    Category, Event, Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, Product,
    ProductEvent, ProductId, ScenarioAction, ScenarioEvent, Sex, Status, Strength, User, UserEvent,
    UserId, Word,
};
use serde::{Deserialize, Serialize};

pub(crate) const CUSTOMERS: u64 = 100_000;
pub(crate) const PRODUCTS: u64 = 20_000;
pub(crate) const DAYS: u64 = 365;
pub(crate) const PARTITIONS: u64 = 3;
const CATEGORIES: u64 = 15;
const START: Millis = 1_767_193_200_000; // 2026-01-01 in Seoul
/// How many lines orders have: 2.2 in the mean.
const LINES: [u64; 16] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 4, 4, 5];

/// Whose orders there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// A shop's.
    #[default]
    Shop,
    /// All of one customer.
    OneCustomer,
    /// A shop's, whose numbers do not ascend.
    RandomNumbers,
    /// Each of another customer, of whom there is no record but for the first.
    OnceEach,
}

/// One worker's events: those of each `peers`-th order, by time.
pub(crate) struct Events {
    /// The next placed order, of whichever worker.
    pub(crate) next: u64,
    orders_a_day: u64,
    index: u64,
    peers: u64,
    categories: Vec<Category>,
    region: Word,
    due: BinaryHeap<Reverse<(Millis, u64, bool)>>,
    sent: u64,
    /// When no order is placed.
    pub(crate) outage: Range<Millis>,
    pub(crate) shape: Shape,
}

impl Events {
    pub(crate) fn new(orders: u64, index: u64, peers: u64) -> Events {
        let categories =
            (0..CATEGORIES).map(|n| Category::from(&*format!("category {n}"))).collect();
        let orders_a_day = orders.div_ceil(DAYS);
        let (region, due) = ("Seoul".into(), BinaryHeap::new());
        let (next, sent, outage, shape) = (0, 0, 0..0, Shape::Shop);
        Events { next, orders_a_day, index, peers, categories, region, due, sent, outage, shape }
    }

    /// A record of each customer and each product, and a sale of five days in each month.
    pub(crate) fn send_records(&mut self, mut send: impl FnMut(Origin, Event)) {
        let (first, each) = (self.index, self.peers as usize);
        for n in (first..CUSTOMERS).step_by(each) {
            let user = User {
                user_id: UserId(n as i64),
                name: format!("customer {n}").into(),
                birth_date: (n % 20_000) as i32,
                sex: Sex::ALL[n as usize % 2],
                region: self.region.clone(),
                status: Status::Active,
                marketing_consent: true,
                signed_up_at: START - DAY,
            };
            let event = UserEvent { event_id: n, at: START - DAY, user };
            send(self.origin(n), Event::User(event));
        }
        for n in (first..PRODUCTS).step_by(each) {
            let product = Product {
                product_id: ProductId(n as i64),
                name: format!("product {n}").into(),
                category: self.category(n),
                price: Krw(price(n)),
                stock: 100,
                listed_at: START - DAY,
            };
            let event = ProductEvent { event_id: n, at: START - DAY, product };
            send(self.origin(n), Event::Product(event));
        }
        for n in (0..24).filter(|_| self.index == 0) {
            let (month, stops) = (n / 2, n % 2);
            let at = START + (30 * month + 10 + 5 * stops) as Millis * DAY;
            let event = ScenarioEvent {
                event_id: n,
                at,
                occurrence: format!("sale-{month}").into(),
                name: "sale".into(),
                action: [ScenarioAction::Start, ScenarioAction::Stop][stops as usize],
                strength: Strength::new(1.5).expect("a positive number"),
                categories: Vec::new(),
            };
            send(self.origin(n), Event::Scenario(event));
        }
    }

    /// The events up to the placed order `end`, those that cancel and refund in between included.
    pub(crate) fn until(&mut self, end: u64) -> Vec<Sourced<OrderEvent>> {
        let mut events = Vec::with_capacity((end - self.next) as usize);
        for n in self.next..end {
            if n % self.peers != self.index {
                continue;
            }
            let at = self.at(n);
            while let Some(Reverse((later, of, all))) = self.due.peek().copied()
                && later <= at
            {
                self.due.pop();
                let kind = if all { OrderKind::Cancelled } else { OrderKind::Refunded };
                events.push(self.event(of, kind, later));
            }
            if self.outage.contains(&at) {
                continue;
            }
            events.push(self.event(n, OrderKind::Placed, at));
            let luck = mix(!n);
            let delay = (luck >> 16) as Millis % DAY;
            match luck % 100 {
                0..4 => self.due.push(Reverse((at + delay, n, true))),
                4..9 => self.due.push(Reverse((at + 2 * DAY + 7 * delay, n, false))),
                _ => {}
            }
        }
        self.next = end;
        events
    }

    /// When the last placed order of all workers was placed.
    pub(crate) fn newest(&self) -> Millis {
        self.at(self.next - 1)
    }

    /// When an order is placed: four times as often in the afternoon as in the night.
    fn at(&self, n: u64) -> Millis {
        let (day, rest) = (n / self.orders_a_day, n % self.orders_a_day);
        let even = rest as f64 / self.orders_a_day as f64;
        let of_day = even + 0.1 * (std::f64::consts::TAU * even).sin();
        START + day as Millis * DAY + 2 * HOUR + (of_day * DAY as f64) as Millis
    }

    /// An event of an order. A refund takes back the first line.
    fn event(&mut self, n: u64, kind: OrderKind, at: Millis) -> Sourced<OrderEvent> {
        let luck = mix(n);
        let active = share(luck);
        let lines = match kind {
            OrderKind::Refunded => 1,
            _ => LINES[(luck % 16) as usize],
        };
        let lines = (0..lines as usize).map(|place| {
            let luck = mix(luck.wrapping_add(place as u64));
            let popular = share(luck);
            let product = (popular * popular * popular * PRODUCTS as f64) as u64;
            Line {
                product_id: ProductId(product as i64),
                category: self.category(product),
                quantity: if luck.is_multiple_of(8) { 2 } else { 1 },
                unit_price: Krw(price(product)),
            }
        });
        let user_id = match self.shape {
            Shape::Shop | Shape::RandomNumbers => (active * active * CUSTOMERS as f64) as i64,
            Shape::OneCustomer => 0,
            Shape::OnceEach => n as i64,
        };
        let order_id = if self.shape == Shape::RandomNumbers { mix(n) >> 1 } else { n };
        let order = Order {
            event: kind,
            order_id: OrderId(order_id as i64),
            user_id: UserId(user_id),
            at,
            ordered_at: self.at(n),
            lines: lines.collect(),
        };
        let event_id = 3 * n + kind as u64;
        self.sent += 1;
        Sourced { origin: self.origin(event_id), event: OrderEvent { event_id, order } }
    }

    fn category(&self, product: u64) -> Category {
        self.categories[(product % CATEGORIES) as usize]
    }

    fn origin(&self, id: u64) -> Origin {
        Origin { partition: (id % PARTITIONS) as u32, offset: self.sent, hash: mix(id) }
    }
}

/// A product's price: 3,000 to 100,000 won, cheap ones more often.
fn price(product: u64) -> i64 {
    let dear = share(mix(product));
    3_000 + 100 * (dear * dear * dear * 970.0) as i64
}

/// A number from 0 to 1 made of upper bits.
fn share(luck: u64) -> f64 {
    (luck >> 32) as f64 / (1u64 << 32) as f64
}

/// Splitmix64.
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
