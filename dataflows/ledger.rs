//! From records to the ledger: what was read is deduplicated, and each accepted event becomes a
//! row of a base table and an entry for the queries.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::model::{Millis, OrderEvent, OrderKind, ProductEvent, ScenarioEvent, Topic, UserEvent};
use crate::row::{Cell, Row};

/// Where an event was read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Origin {
    /// The partition of the event's topic.
    pub partition: u32,
    /// The record's offset there.
    pub offset: u64,
    /// XXH3 (64 bit) of the record's value.
    pub hash: u64,
}

/// An event and where it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sourced<E> {
    /// Where it was read.
    pub origin: Origin,
    /// What it says.
    pub event: E,
}

/// What became of records of one partition; tallies of an epoch are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Events that count.
    pub counted: u64,
    /// Events whose id, or whose order's event, was there already.
    pub duplicate: u64,
    /// Records that are no events.
    pub dead: u64,
    /// Heartbeats.
    pub heartbeat: u64,
    /// Sum of the counted orders' amounts, mod 2^64.
    pub amount: i64,
    /// Sum of the counted values' hashes, mod 2^64.
    pub hash: u64,
    /// The offset behind the last record read; 0 where the tally does not speak of reading.
    pub next_offset: u64,
    /// Newest `at` read; `Millis::MIN` likewise.
    pub newest_at: Option<Millis>,
}

impl Tally {
    /// Adds what another tally of the same partition says.
    pub fn add(&mut self, other: &Tally) {
        self.counted += other.counted;
        self.duplicate += other.duplicate;
        self.dead += other.dead;
        self.heartbeat += other.heartbeat;
        self.amount = self.amount.wrapping_add(other.amount);
        self.hash = self.hash.wrapping_add(other.hash);
        self.next_offset = self.next_offset.max(other.next_offset);
        self.newest_at = self.newest_at.max(other.newest_at);
    }
}

/// An event that stands in a ledger.
pub trait LedgerEvent: timely::ExchangeData + Clone {
    /// The topic it comes from.
    const TOPIC: Topic;

    /// Unique in the topic.
    fn event_id(&self) -> u64;

    /// When it happened.
    fn at(&self) -> Millis;

    /// What it adds to the checksum of amounts.
    fn amount(&self) -> i64 {
        0
    }

    /// The columns of its base table after `event_id`, partition and offset.
    fn with_cells<R>(&self, row: impl FnOnce(&[Cell<'_>]) -> R) -> R;
}

/// The row of an accepted event in its base table.
pub fn ledger_row<E: LedgerEvent>(table: u16, sourced: &Sourced<E>) -> Row {
    sourced.event.with_cells(|cells| {
        let origin = [
            Cell::Unsigned(sourced.event.event_id()),
            Cell::Int(i64::from(sourced.origin.partition)),
            Cell::Int(sourced.origin.offset as i64),
        ];
        let cells: SmallVec<[Cell<'_>; 16]> = origin.iter().chain(cells).copied().collect();
        Row::new(table, &[], &cells)
    })
}

impl LedgerEvent for UserEvent {
    const TOPIC: Topic = Topic::Users;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.at
    }

    fn with_cells<R>(&self, row: impl FnOnce(&[Cell<'_>]) -> R) -> R {
        let user = &self.user;
        row(&[
            Cell::Instant(self.at()),
            Cell::Int(user.user_id),
            Cell::Text(&user.name),
            Cell::Date(user.birth_date),
            Cell::Text(user.sex.word()),
            Cell::Text(&user.region),
            Cell::Text(user.status.word()),
            Cell::Flag(user.marketing_consent),
            Cell::Instant(user.signed_up_at),
        ])
    }
}

impl LedgerEvent for ProductEvent {
    const TOPIC: Topic = Topic::Products;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.at
    }

    fn with_cells<R>(&self, row: impl FnOnce(&[Cell<'_>]) -> R) -> R {
        let product = &self.product;
        row(&[
            Cell::Instant(self.at()),
            Cell::Int(product.product_id),
            Cell::Text(&product.name),
            Cell::Text(&product.category),
            Cell::Int(product.price),
            Cell::Int(product.stock),
            Cell::Instant(product.listed_at),
        ])
    }
}

impl LedgerEvent for OrderEvent {
    const TOPIC: Topic = Topic::Orders;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.order.at
    }

    fn amount(&self) -> i64 {
        self.order.amount()
    }

    fn with_cells<R>(&self, row: impl FnOnce(&[Cell<'_>]) -> R) -> R {
        let order = &self.order;
        let ints = |column: fn(&crate::model::Line) -> i64| -> SmallVec<[i64; 8]> {
            order.lines.iter().map(column).collect()
        };
        let categories: SmallVec<[&str; 8]> =
            order.lines.iter().map(|line| &*line.category).collect();
        row(&[
            Cell::Instant(self.at()),
            Cell::Text(order.kind.word()),
            Cell::Int(order.order_id),
            Cell::Int(order.user_id),
            Cell::Instant(order.ordered_at),
            Cell::Ints(&ints(|line| line.product_id)),
            Cell::Texts(&categories),
            Cell::Ints(&ints(|line| line.quantity)),
            Cell::Ints(&ints(|line| line.unit_price)),
        ])
    }
}

impl LedgerEvent for ScenarioEvent {
    const TOPIC: Topic = Topic::Scenarios;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.at
    }

    fn with_cells<R>(&self, row: impl FnOnce(&[Cell<'_>]) -> R) -> R {
        let categories: Vec<&str> = self.categories.iter().map(|category| &**category).collect();
        row(&[
            Cell::Instant(self.at()),
            Cell::Text(&self.occurrence),
            Cell::Text(&self.name),
            Cell::Text(self.action.word()),
            Cell::Real(self.strength.get()),
            Cell::Texts(&categories),
        ])
    }
}

/// What may happen to an order but once: its placing and its cancellation.
pub fn once_an_order(event: &OrderEvent) -> Option<u64> {
    let order_id = event.order.order_id as u64;
    match event.order.kind {
        OrderKind::Placed => Some(order_id << 1),
        OrderKind::Cancelled => Some(order_id << 1 | 1),
        OrderKind::Refunded => None,
    }
}
