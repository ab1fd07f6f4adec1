//! The events of the topics, as SPEC fixes them.

use serde::{Deserialize, Serialize};

use super::{Day, Krw, Millis, OrderId, ProductId, UserId, Word};

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

    /// The topic's name in the log and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Users => "users",
            Topic::Products => "products",
            Topic::Orders => "orders",
            Topic::Scenarios => "scenarios",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Topic> {
        named(name, &Topic::ALL, Topic::name)
    }
}

/// A customer's sex, as the brief has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sex {
    /// Female.
    F,
    /// Male.
    M,
}

impl Sex {
    /// Every one of them.
    pub const ALL: [Sex; 2] = [Sex::F, Sex::M];

    /// The word in events and tables.
    pub fn word(self) -> &'static str {
        match self {
            Sex::F => "F",
            Sex::M => "M",
        }
    }
}

/// Where a customer stands with the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Buys in their own rhythm.
    Active,
    /// Has not been seen for long.
    Dormant,
    /// Has left.
    Withdrawn,
}

impl Status {
    /// Every one of them.
    pub const ALL: [Status; 3] = [Status::Active, Status::Dormant, Status::Withdrawn];

    /// The word in events and tables.
    pub fn word(self) -> &'static str {
        match self {
            Status::Active => "ACTIVE",
            Status::Dormant => "DORMANT",
            Status::Withdrawn => "WITHDRAWN",
        }
    }
}

/// A customer's record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub user_id: UserId,
    /// The customer's name.
    pub name: Word,
    /// Date of birth.
    pub birth_date: Day,
    /// F or M.
    pub sex: Sex,
    /// Where the customer lives.
    pub region: Word,
    /// ACTIVE, DORMANT or WITHDRAWN.
    pub status: Status,
    /// Whether the customer agreed to be sent promotions.
    pub marketing_consent: bool,
    /// When the customer signed up.
    pub signed_up_at: Millis,
}

/// A record of topic `users`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserEvent {
    /// Unique in the topic.
    pub event_id: u64,
    /// When it happened.
    pub at: Millis,
    /// The record that holds from then on.
    pub user: User,
}

/// A product's record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Product {
    /// Which.
    pub product_id: ProductId,
    /// The product's name.
    pub name: Word,
    /// Its category.
    pub category: Word,
    /// Its list price.
    pub price: Krw,
    /// Pieces in stock.
    pub stock: i64,
    /// When it was listed.
    pub listed_at: Millis,
}

/// A record of topic `products`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProductEvent {
    /// Unique in the topic.
    pub event_id: u64,
    /// When it happened.
    pub at: Millis,
    /// The record that holds from then on.
    pub product: Product,
}

/// What an order event does to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderKind {
    /// Adds its lines.
    Placed,
    /// Takes back all of the order.
    Cancelled,
    /// Takes back the lines it names.
    Refunded,
}

impl OrderKind {
    /// Every one of them.
    pub const ALL: [OrderKind; 3] = [OrderKind::Placed, OrderKind::Cancelled, OrderKind::Refunded];

    /// The word in events and tables.
    pub fn word(self) -> &'static str {
        match self {
            OrderKind::Placed => "placed",
            OrderKind::Cancelled => "cancelled",
            OrderKind::Refunded => "refunded",
        }
    }

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

/// One line of an order event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Line {
    /// What was bought or taken back.
    pub product_id: ProductId,
    /// The product's category at that time.
    pub category: Word,
    /// Pieces.
    pub quantity: i64,
    /// Price of a piece.
    pub unit_price: Krw,
}

impl Line {
    /// quantity x `unit_price`.
    pub fn amount(&self) -> Krw {
        self.quantity * self.unit_price
    }
}

/// An entry of the ledger, complete in itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// What it does.
    pub kind: OrderKind,
    /// The order it speaks of.
    pub order_id: OrderId,
    /// Who placed the order.
    pub user_id: UserId,
    /// When it happened; for `placed` equal to `ordered_at`.
    pub at: Millis,
    /// When the order was placed.
    pub ordered_at: Millis,
    /// At least one.
    pub lines: std::sync::Arc<[Line]>,
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

    /// The categories of its lines, each once, by their words.
    pub fn categories(&self) -> Vec<&Word> {
        let mut words: Vec<&Word> = self.lines.iter().map(|line| &line.category).collect();
        words.sort_unstable();
        words.dedup();
        words
    }
}

/// A record of topic `orders` that is not a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderEvent {
    /// Unique in the topic.
    pub event_id: u64,
    /// The ledger entry.
    pub order: Order,
}

/// What happens to a scenario's occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScenarioAction {
    /// Begins.
    Start,
    /// Goes on with another strength.
    Change,
    /// Ends.
    Stop,
}

impl ScenarioAction {
    /// Every one of them.
    pub const ALL: [ScenarioAction; 3] =
        [ScenarioAction::Start, ScenarioAction::Change, ScenarioAction::Stop];

    /// The word in events and tables.
    pub fn word(self) -> &'static str {
        match self {
            ScenarioAction::Start => "start",
            ScenarioAction::Change => "change",
            ScenarioAction::Stop => "stop",
        }
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

/// A record of topic `scenarios`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScenarioEvent {
    /// Unique in the topic.
    pub event_id: u64,
    /// When it takes effect.
    pub at: Millis,
    /// Which occurrence of the scenario; also the record key.
    pub occurrence: Word,
    /// The scenario's name.
    pub name: Word,
    /// Start, change or stop.
    pub action: ScenarioAction,
    /// The factor on demand at its peak.
    pub strength: Strength,
    /// The categories it favours; empty means all.
    pub categories: Vec<Word>,
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
}

/// The value whose word is that text.
pub fn named<T: Copy>(text: &str, values: &[T], word: fn(T) -> &'static str) -> Option<T> {
    values.iter().copied().find(|value| word(*value) == text)
}
