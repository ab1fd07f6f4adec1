//! Events as JSON: the contract of the topics, in both directions.
//!
//! Decoding is strict and total: every value is an event, a heartbeat, or a [`Reason`] why not.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use dataflows::model::time::{TIME_END, TIME_MIN, date_of, day_of_date};
use dataflows::model::{
    Day, Line, Millis, Order, OrderEvent, OrderKind, Product, ProductEvent, ScenarioAction,
    ScenarioEvent, Sex, Status, Strength, Topic, User, UserEvent, Word, named,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A record that is what its topic promises.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// Of topic `users`.
    User(UserEvent),
    /// Of topic `products`.
    Product(ProductEvent),
    /// Of topic `orders`.
    Order(OrderEvent),
    /// Of topic `scenarios`.
    Scenario(ScenarioEvent),
    /// Of topic `orders`: nothing happened in this partition up to then.
    Heartbeat(Millis),
}

impl Decoded {
    /// When it happened.
    pub fn at(&self) -> Millis {
        match self {
            Decoded::User(event) => event.at,
            Decoded::Product(event) => event.at,
            Decoded::Order(event) => event.order.at,
            Decoded::Scenario(event) => event.at,
            Decoded::Heartbeat(at) => *at,
        }
    }
}

/// Why a value is not an event, in a sentence for the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Short texts that many records share; an equal text is the same allocation.
#[derive(Default)]
pub struct Words(HashSet<Word>);

/// Beyond so many different words a topic's texts are not shared any more: they are not words.
const WORDS_MAX: usize = 10_000;

impl Words {
    /// The word of that text.
    pub fn intern(&mut self, text: &str) -> Word {
        if let Some(word) = self.0.get(text) {
            return Word::clone(word);
        }
        let word = Word::from(text);
        if self.0.len() < WORDS_MAX {
            self.0.insert(Word::clone(&word));
        }
        word
    }
}

/// A value of more bytes than this is no event.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// What a heartbeat's `event` says.
const HEARTBEAT: &str = "heartbeat";

const MONEY: RangeInclusive<i64> = 0..=1_000_000_000;
const QUANTITY: RangeInclusive<i64> = 1..=1_000_000;
const NATURAL: RangeInclusive<i64> = 0..=i64::MAX;
const TIMES: RangeInclusive<i64> = TIME_MIN..=TIME_END - 1;

#[derive(Serialize, Deserialize)]
struct UserWire<'a> {
    event_id: u64,
    at: Millis,
    user_id: i64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    birth_date: Cow<'a, str>,
    #[serde(borrow)]
    sex: Cow<'a, str>,
    #[serde(borrow)]
    region: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    marketing_consent: bool,
    signed_up_at: Millis,
}

#[derive(Serialize, Deserialize)]
struct ProductWire<'a> {
    event_id: u64,
    at: Millis,
    product_id: i64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    category: Cow<'a, str>,
    price: i64,
    stock: i64,
    listed_at: Millis,
}

#[derive(Serialize, Deserialize)]
struct OrderWire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<u64>,
    at: Millis,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordered_at: Option<Millis>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<Object<LineWire<'a>>>>,
}

#[derive(Serialize, Deserialize)]
struct LineWire<'a> {
    product_id: i64,
    #[serde(borrow)]
    category: Cow<'a, str>,
    quantity: i64,
    unit_price: i64,
}

impl<'a> LineWire<'a> {
    fn of(line: &'a Line) -> Object<LineWire<'a>> {
        Object(LineWire {
            product_id: line.product_id,
            category: Cow::Borrowed(&line.category),
            quantity: line.quantity,
            unit_price: line.unit_price,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct ScenarioWire<'a> {
    event_id: u64,
    at: Millis,
    #[serde(borrow)]
    occurrence: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    strength: f64,
    #[serde(borrow)]
    categories: Vec<Cow<'a, str>>,
}

/// A JSON object. (What derive makes would take an array of the fields' values as well.)
#[derive(Serialize)]
#[serde(transparent)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads a record's value as an event of its topic.
pub fn decode(topic: Topic, value: Option<&[u8]>, words: &mut Words) -> Result<Decoded, Reason> {
    let value = value.ok_or_else(|| Reason("the record has no value".into()))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Reason(format!("the value has {} bytes, more than 1 MiB", value.len())));
    }
    match topic {
        Topic::Users => user(parse(value)?, words).map(Decoded::User),
        Topic::Products => product(parse(value)?, words).map(Decoded::Product),
        Topic::Orders => order(parse(value)?, words),
        Topic::Scenarios => scenario(parse(value)?, words).map(Decoded::Scenario),
    }
}

fn parse<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, Reason> {
    // As a whole, because the parser does not look into the fields that it skips.
    let value = str::from_utf8(value).map_err(|error| Reason(format!("the value is {error}")))?;
    // What the parser quotes may hold a NUL, which the store's text cannot.
    let parsed = serde_json::from_str::<Object<T>>(value);
    parsed.map(|object| object.0).map_err(|error| Reason(error.to_string().replace('\0', "?")))
}

fn user(wire: UserWire<'_>, words: &mut Words) -> Result<UserEvent, Reason> {
    let birth_date = NaiveDate::parse_from_str(&wire.birth_date, "%Y-%m-%d")
        .ok()
        // chrono would also take blanks and missing zeros.
        .filter(|date| date.to_string() == wire.birth_date)
        .filter(|date| (1900..=2099).contains(&date.year()))
        .ok_or_else(|| Reason("birth_date is no date from 1900-01-01 to 2099-12-31".into()))?;
    Ok(UserEvent {
        event_id: wire.event_id,
        at: within("at", wire.at, TIMES)?,
        user: User {
            user_id: within("user_id", wire.user_id, NATURAL)?,
            name: text("name", &wire.name)?.into(),
            birth_date: day_of_date(birth_date),
            sex: word("sex", &wire.sex, &Sex::ALL, Sex::word)?,
            region: words.intern(text("region", &wire.region)?),
            status: word("status", &wire.status, &Status::ALL, Status::word)?,
            marketing_consent: wire.marketing_consent,
            signed_up_at: within("signed_up_at", wire.signed_up_at, TIMES)?,
        },
    })
}

fn product(wire: ProductWire<'_>, words: &mut Words) -> Result<ProductEvent, Reason> {
    Ok(ProductEvent {
        event_id: wire.event_id,
        at: within("at", wire.at, TIMES)?,
        product: Product {
            product_id: within("product_id", wire.product_id, NATURAL)?,
            name: text("name", &wire.name)?.into(),
            category: words.intern(text("category", &wire.category)?),
            price: within("price", wire.price, MONEY)?,
            stock: within("stock", wire.stock, NATURAL)?,
            listed_at: within("listed_at", wire.listed_at, TIMES)?,
        },
    })
}

fn order(wire: OrderWire<'_>, words: &mut Words) -> Result<Decoded, Reason> {
    let at = within("at", wire.at, TIMES)?;
    if wire.event == HEARTBEAT {
        return Ok(Decoded::Heartbeat(at));
    }
    let kind = word("event", &wire.event, &OrderKind::ALL, OrderKind::word)?;
    let event_id = present("event_id", wire.event_id)?;
    let ordered_at = within("ordered_at", present("ordered_at", wire.ordered_at)?, TIMES)?;
    if kind == OrderKind::Placed && at != ordered_at {
        return Err(Reason("at is not ordered_at, though the order is placed".into()));
    }
    if at < ordered_at {
        return Err(Reason("at is before ordered_at".into()));
    }
    let lines = present("lines", wire.lines)?;
    if lines.is_empty() {
        return Err(Reason("lines is empty".into()));
    }
    let line = |Object(line): Object<LineWire<'_>>| {
        Ok(Line {
            product_id: within("product_id", line.product_id, NATURAL)?,
            category: words.intern(text("category", &line.category)?),
            quantity: within("quantity", line.quantity, QUANTITY)?,
            unit_price: within("unit_price", line.unit_price, MONEY)?,
        })
    };
    let lines: Arc<[Line]> = lines.into_iter().map(line).collect::<Result<_, Reason>>()?;
    let order_id = within("order_id", present("order_id", wire.order_id)?, NATURAL)?;
    let user_id = within("user_id", present("user_id", wire.user_id)?, NATURAL)?;
    let order = Order { kind, order_id, user_id, at, ordered_at, lines };
    Ok(Decoded::Order(OrderEvent { event_id, order }))
}

fn scenario(wire: ScenarioWire<'_>, words: &mut Words) -> Result<ScenarioEvent, Reason> {
    let categories = wire.categories.iter();
    let categories = categories.map(|category| Ok(words.intern(text("categories", category)?)));
    Ok(ScenarioEvent {
        event_id: wire.event_id,
        at: within("at", wire.at, TIMES)?,
        categories: categories.collect::<Result<_, Reason>>()?,
        occurrence: text("occurrence", &wire.occurrence)?.into(),
        name: text("name", &wire.name)?.into(),
        action: word("action", &wire.action, &ScenarioAction::ALL, ScenarioAction::word)?,
        strength: Strength::new(wire.strength)
            .ok_or_else(|| Reason("strength is not above 0".into()))?,
    })
}

fn present<T>(field: &str, value: Option<T>) -> Result<T, Reason> {
    value.ok_or_else(|| Reason(format!("missing field `{field}`")))
}

fn word<T: Copy>(
    field: &str,
    text: &str,
    values: &[T],
    word: fn(T) -> &'static str,
) -> Result<T, Reason> {
    named(text, values, word).ok_or_else(|| {
        let words: Vec<&str> = values.iter().map(|value| word(*value)).collect();
        Reason(format!("{field} is none of {}", words.join(", ")))
    })
}

fn within(field: &str, value: i64, range: RangeInclusive<i64>) -> Result<i64, Reason> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Reason(format!("{field} is {value}, not from {} to {}", range.start(), range.end())))
    }
}

fn text<'a>(field: &str, text: &'a str) -> Result<&'a str, Reason> {
    if text.contains('\0') { Err(Reason(format!("{field} holds U+0000"))) } else { Ok(text) }
}

/// Appends a customer's record.
pub fn encode_user(event: &UserEvent, bytes: &mut Vec<u8>) {
    let user = &event.user;
    write(bytes, &UserWire {
        event_id: event.event_id,
        at: event.at,
        user_id: user.user_id,
        name: Cow::Borrowed(&user.name),
        birth_date: Cow::Owned(date(user.birth_date)),
        sex: user.sex.word().into(),
        region: Cow::Borrowed(&user.region),
        status: user.status.word().into(),
        marketing_consent: user.marketing_consent,
        signed_up_at: user.signed_up_at,
    });
}

/// Appends a product's record.
pub fn encode_product(event: &ProductEvent, bytes: &mut Vec<u8>) {
    let product = &event.product;
    write(bytes, &ProductWire {
        event_id: event.event_id,
        at: event.at,
        product_id: product.product_id,
        name: Cow::Borrowed(&product.name),
        category: Cow::Borrowed(&product.category),
        price: product.price,
        stock: product.stock,
        listed_at: product.listed_at,
    });
}

/// Appends an order event.
pub fn encode_order(event: &OrderEvent, bytes: &mut Vec<u8>) {
    let order = &event.order;
    write(bytes, &OrderWire {
        event_id: Some(event.event_id),
        at: order.at,
        event: order.kind.word().into(),
        order_id: Some(order.order_id),
        user_id: Some(order.user_id),
        ordered_at: Some(order.ordered_at),
        lines: Some(order.lines.iter().map(LineWire::of).collect()),
    });
}

/// Appends a scenario event.
pub fn encode_scenario(event: &ScenarioEvent, bytes: &mut Vec<u8>) {
    write(bytes, &ScenarioWire {
        event_id: event.event_id,
        at: event.at,
        occurrence: Cow::Borrowed(&event.occurrence),
        name: Cow::Borrowed(&event.name),
        action: event.action.word().into(),
        strength: event.strength.get(),
        categories: event.categories.iter().map(|word| Cow::Borrowed(&**word)).collect(),
    });
}

/// Appends a heartbeat.
pub fn encode_heartbeat(at: Millis, bytes: &mut Vec<u8>) {
    write(bytes, &OrderWire {
        event_id: None,
        at,
        event: HEARTBEAT.into(),
        order_id: None,
        user_id: None,
        ordered_at: None,
        lines: None,
    });
}

fn date(day: Day) -> String {
    date_of(day).format("%Y-%m-%d").to_string()
}

fn write(bytes: &mut Vec<u8>, wire: &impl Serialize) {
    serde_json::to_writer(bytes, wire).expect("a vector takes every byte, and wire types are plain");
}
