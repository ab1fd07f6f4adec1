//! The events of the topics, as docs/tables.md tells them: the one place that has their fields, what is in range
//! and in which ledger they stand.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::category::unlearned;
use super::kind::{
    CategoryOf, Date, Flag, Id, Instant, Key, Label, ListOf, Numbered, OneOf, Positive, Price,
    Quantity, Rows, Stock, Text,
};
use super::record::{Columns, Number, element, fields, from_json, record, to_json};
use super::{Category, Day, Krw, Millis, OrderId, ProductId, UserId, Word};
use crate::row;

/// The most lines of an order event.
const LINES_MAX: usize = 10_000;

/// The most categories of an order event: a table has a row for each pair of them.
const CATEGORIES_MAX: usize = 100;

/// The greatest amount of an order event: millions of them can be added up.
pub const AMOUNT_MAX: Krw = Krw(1_000_000_000_000);

/// A topic of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Customers: the newest record of each holds.
    Users,
    /// Products: the newest record of each holds.
    Products,
    /// Order events, and heartbeats.
    Orders,
    /// What the scenario producer decided.
    Scenarios,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 4] = [Topic::Users, Topic::Products, Topic::Orders, Topic::Scenarios];

    /// Partitions of each in a log that we make.
    pub const PARTITIONS: [u32; Topic::ALL.len()] = [3, 3, 3, 1];

    /// The topic's name in the log and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Users => "users",
            Topic::Products => "products",
            Topic::Orders => "orders",
            Topic::Scenarios => "scenarios",
        }
    }

    /// The table of the topic's events; that of orders is a view of a narrower one.
    pub const fn ledger(self) -> &'static str {
        match self {
            Topic::Users => "user_events",
            Topic::Products => "product_events",
            Topic::Orders => "order_events",
            Topic::Scenarios => "scenario_events",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// What has a fixed list of words.
pub trait Choice: Copy + 'static {
    /// The words, for people.
    const EXPECTED: &'static str;

    /// The choice of that word.
    fn of_word(word: &str) -> Option<Self>;

    /// The word in events and tables.
    fn word(self) -> &'static str;

    /// The choice of that number.
    fn of_number(number: i16) -> Option<Self>;

    /// The number in narrow tables: 1 for the first.
    fn number(self) -> i16;
}

/// Declares an enum of which each variant has a word.
macro_rules! choice {
    (
        $(#[$about:meta])*
        $name:ident, $expected:literal {
            $($(#[$about_variant:meta])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$about_variant])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: [$name; [$($word),*].len()] = [$($name::$variant),*];

            /// The word in events and tables.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl Choice for $name {
            const EXPECTED: &'static str = $expected;

            fn of_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }

            fn word(self) -> &'static str {
                $name::word(self)
            }

            fn of_number(number: i16) -> Option<$name> {
                $name::ALL.into_iter().find(|it| Choice::number(*it) == number)
            }

            fn number(self) -> i16 {
                self as i16 + 1
            }
        }
    };
}

choice! {
    /// A customer's sex, as the brief has it.
    Sex, "F or M" {
        /// Female.
        F = "F",
        /// Male.
        M = "M",
    }
}

choice! {
    /// Where a customer stands with the shop.
    Status, "ACTIVE, DORMANT or WITHDRAWN" {
        /// Buys in their own rhythm.
        Active = "ACTIVE",
        /// Has not been seen for long.
        Dormant = "DORMANT",
        /// Has left.
        Withdrawn = "WITHDRAWN",
    }
}

record! {
    /// A record of topic `users`.
    UserEvent {
        /// When it happened.
        at: Millis as Instant,
    }
    /// The record that holds from then on.
    user:
    /// A customer's record.
    User {
        /// Who.
        user_id: UserId as Id<UserId>,
        /// The customer's name.
        name: Word as Text,
        /// Date of birth.
        birth_date: Day as Date,
        /// F or M.
        sex: Sex as OneOf<Sex>,
        /// Where the customer lives.
        region: Word as Label,
        /// ACTIVE, DORMANT or WITHDRAWN.
        status: Status as OneOf<Status>,
        /// Whether the customer agreed to be sent promotions.
        marketing_consent: bool as Flag,
        /// When the customer signed up.
        signed_up_at: Millis as Instant,
    }
}

record! {
    /// A record of topic `products`.
    ProductEvent {
        /// When it happened.
        at: Millis as Instant,
    }
    /// The record that holds from then on.
    product:
    /// A product's record.
    Product {
        /// Which.
        product_id: ProductId as Id<ProductId>,
        /// The product's name.
        name: Word as Text,
        /// Its category.
        category: Category as CategoryOf,
        /// Its list price.
        price: Krw as Price,
        /// Pieces in stock.
        stock: i64 as Stock,
        /// When it was listed.
        listed_at: Millis as Instant,
    }
}

choice! {
    /// What an order event does to the ledger.
    OrderKind, "placed, cancelled, refunded or heartbeat" {
        /// Adds its lines.
        Placed = "placed",
        /// Takes back all of the order.
        Cancelled = "cancelled",
        /// Takes back the lines it names.
        Refunded = "refunded",
    }
}

impl OrderKind {
    /// What the event adds to the number of orders: 1, -1 or 0.
    pub fn orders(self) -> i64 {
        match self {
            OrderKind::Placed => 1,
            OrderKind::Cancelled => -1,
            OrderKind::Refunded => 0,
        }
    }

    /// What a won of the event's lines adds to the net amount: 1 or -1.
    pub fn sign(self) -> i64 {
        if self == OrderKind::Placed { 1 } else { -1 }
    }
}

element! {
    /// One line of an order event.
    Line {
        /// What was bought or taken back.
        product_id: ProductId as Id<ProductId>,
        /// The product's category at that time.
        category: Category as CategoryOf,
        /// Pieces.
        quantity: i64 as Quantity,
        /// Price of a piece.
        unit_price: Krw as Price,
    }
}

impl Line {
    /// quantity x `unit_price`.
    pub fn amount(&self) -> Krw {
        self.unit_price * self.quantity
    }
}

record! {
    /// A record of topic `orders` that is not a heartbeat.
    OrderEvent {}
    /// The ledger entry.
    order:
    /// An entry of the ledger, complete in itself.
    Order {
        /// When it happened; for `placed` equal to `ordered_at`.
        at: Millis as Instant,
        /// What it does.
        event: OrderKind as Numbered<OrderKind>,
        /// The order it speaks of.
        order_id: OrderId as Id<OrderId>,
        /// Who placed the order.
        user_id: UserId as Id<UserId>,
        /// When the order was placed.
        ordered_at: Millis as Instant,
        /// At least one.
        lines: Arc<[Line]> as Rows<Line>,
    }
}

impl Order {
    /// Sum of the lines' amounts.
    pub fn amount(&self) -> Krw {
        self.lines.iter().map(Line::amount).sum()
    }

    /// Sum of the lines' quantities.
    pub fn units(&self) -> i64 {
        self.lines.iter().map(|line| line.quantity).sum()
    }

    /// That its fields agree, and that a table's rows and sums can take what its lines say; else why not.
    fn check(&self) -> Result<(), String> {
        if self.event == OrderKind::Placed && self.at != self.ordered_at {
            return Err("`at` differs from `ordered_at` in a placed event".into());
        }
        if self.at < self.ordered_at {
            return Err(format!("`at` is before `ordered_at` in a {} event", self.event.word()));
        }
        if self.lines.is_empty() {
            return Err("`lines` is empty".into());
        }
        if self.lines.len() > LINES_MAX {
            return Err(format!("`lines` has {} lines, more than {LINES_MAX}", self.lines.len()));
        }
        let mut amount = Krw(0);
        for line in &*self.lines {
            amount += line.amount();
            // A line's amount is far from the end of an i64, and so is a sum up to here.
            if amount > AMOUNT_MAX {
                return Err(format!("the amount of `lines` is more than {AMOUNT_MAX}"));
            }
        }
        // Few lines have few categories.
        if self.lines.len() > CATEGORIES_MAX {
            let categories: HashSet<Category> = self.lines.iter().map(|it| it.category).collect();
            let number = categories.len();
            if number > CATEGORIES_MAX {
                let what = format!("`lines` has {number} different `category`");
                return Err(format!("{what}, more than {CATEGORIES_MAX}"));
            }
        }
        Ok(())
    }
}

choice! {
    /// What happens to a scenario's occurrence.
    ScenarioAction, "start, change or stop" {
        /// Begins.
        Start = "start",
        /// Goes on with another strength.
        Change = "change",
        /// Ends.
        Stop = "stop",
    }
}

/// A positive, finite number that can be compared and hashed: its bits order as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Strength(u64);

impl Strength {
    /// The strength of that size, if it is positive and finite.
    pub fn new(strength: f64) -> Option<Strength> {
        (strength > 0.0 && strength.is_finite()).then(|| Strength(strength.to_bits()))
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

record! {
    /// A record of topic `scenarios`.
    ScenarioEvent {
        /// When it takes effect.
        at: Millis as Instant,
        /// Which occurrence of the scenario; also the record key.
        occurrence: Word as Key,
        /// The scenario's name.
        name: Word as Key,
        /// Start, change or stop.
        action: ScenarioAction as OneOf<ScenarioAction>,
        /// The factor on demand at its peak.
        strength: Strength as Positive,
        /// The categories it favours; empty means all.
        categories: Vec<Word> as ListOf<Key>,
    }
}

choice! {
    /// The word of a record of `orders` that says nothing but the time.
    Beat, "heartbeat" {
        /// Nothing happened in this partition up to then.
        Beat = "heartbeat",
    }
}

/// A record of topic `orders` that is a heartbeat.
pub struct Heartbeat {
    /// What tells it from an order event.
    pub event: Beat,
    /// Nothing happened in this partition up to then.
    pub at: Millis,
}

fields! { Heartbeat { event as OneOf<Beat>, at as Instant, } }

/// An event that stands in a ledger.
pub trait Record: Columns + timely::ExchangeData + Clone + Hash {
    /// The topic it comes from.
    const TOPIC: Topic;

    /// Unique in the topic.
    fn event_id(&self) -> u64;

    /// When it happened.
    fn at(&self) -> Millis;

    /// What it adds to the checksum of amounts.
    fn amount(&self) -> Krw {
        Krw(0)
    }

    /// That its fields agree with each other; else why not.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Record for UserEvent {
    const TOPIC: Topic = Topic::Users;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.at
    }
}

impl Record for ProductEvent {
    const TOPIC: Topic = Topic::Products;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.at
    }
}

impl Record for OrderEvent {
    const TOPIC: Topic = Topic::Orders;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.order.at
    }

    fn amount(&self) -> Krw {
        self.order.amount()
    }

    fn check(&self) -> Result<(), String> {
        self.order.check()
    }
}

impl Record for ScenarioEvent {
    const TOPIC: Topic = Topic::Scenarios;

    fn event_id(&self) -> u64 {
        self.event_id
    }

    fn at(&self) -> Millis {
        self.at
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

    /// When it happened; also the record's timestamp.
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

    /// Whose clock says when: a customer's; that of a heartbeat, a product or a scenario is nobody's.
    pub fn customer(&self) -> Option<UserId> {
        match self {
            Event::User(event) => Some(event.user.user_id),
            Event::Order(event) => Some(event.order.user_id),
            Event::Product(_) | Event::Scenario(_) | Event::Heartbeat(_) => None,
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

    /// Reads an event of a topic from JSON; an error says why it is none, with the field's name first
    /// where there is one.
    pub fn read(topic: Topic, text: &str) -> Result<Event, String> {
        match topic {
            Topic::Users => read(text).map(Event::User),
            Topic::Products => read(text).map(Event::Product),
            Topic::Scenarios => read(text).map(Event::Scenario),
            Topic::Orders => read(text).map(Event::Order).or_else(|reason| {
                // To a heartbeat all fields of an order are unknown ones, whatever they hold.
                match from_json::<Heartbeat>(text) {
                    Ok(Heartbeat { at, .. }) => Ok(Event::Heartbeat(at)),
                    Err(of_beat) if of_beat == "`event` is given twice" => Err(of_beat),
                    Err(of_beat) if of_beat.starts_with("`event`") => Err(reason),
                    Err(of_beat) => Err(of_beat),
                }
            }),
        }
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Event::User(event) => to_json(event, out),
            Event::Product(event) => to_json(event, out),
            Event::Order(event) => to_json(event, out),
            Event::Scenario(event) => to_json(event, out),
            Event::Heartbeat(at) => to_json(&Heartbeat { event: Beat::Beat, at: *at }, out),
        }
    }

    /// Reads a row of a ledger, behind `event_id`, partition and offset, back.
    pub fn take(topic: Topic, event_id: u64, row: &mut row::Fields<'_>) -> Result<Event, String> {
        match topic {
            Topic::Users => UserEvent::take(event_id, row).map(Event::User),
            Topic::Products => ProductEvent::take(event_id, row).map(Event::Product),
            Topic::Orders => OrderEvent::take(event_id, row).map(Event::Order),
            Topic::Scenarios => ScenarioEvent::take(event_id, row).map(Event::Scenario),
        }
    }
}

fn read<R: Record>(text: &str) -> Result<R, String> {
    let (event, has_strangers) = unlearned(|| from_json::<R>(text));
    let event = event?;
    event.check()?;
    if has_strangers { from_json(text) } else { Ok(event) }
}
