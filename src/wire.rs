//! The events of the topics as JSON: the only place that knows the encoding.
//!
//! [`decode`] is the border: what passes it keeps every rule of the contract, so nothing behind it
//! checks again, and what does not pass becomes a dead letter with a [`Reason`]. It looks at one
//! record alone. Fields are read by visitors of their own, not by derived ones, because a derived
//! struct also takes an array, a derived enum also takes an object, and neither says which field
//! was wrong.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use chrono::NaiveDate;
use dataflows::model::time::{TIME_END, TIME_MIN, date_of, day_of_date};
use dataflows::model::{
    Day, Event, Line, Millis, Order, OrderEvent, OrderKind, Product, ProductEvent, ScenarioAction,
    ScenarioEvent, Sex, Status, Strength, Topic, User, UserEvent, Word,
};
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The largest value that can be an event, in bytes.
pub const VALUE_MAX: usize = 1 << 20;

/// The longest word that is a key of a table, in bytes: an index row of PostgreSQL holds several.
const KEY_BYTES_MAX: usize = 200;

/// The most lines of an order event.
const LINES_MAX: usize = 10_000;

/// The most categories of an order event: a table has a row for each pair of them.
const CATEGORIES_MAX: usize = 100;

/// The greatest amount of an order event: millions of them can be added up.
const AMOUNT_MAX: i64 = 1_000_000_000_000;

/// How many different short texts [`Words`] shares; later ones are valid, but stand alone.
const WORDS_MAX: usize = 4096;

/// Reasons quote the record, and a record may be long.
const REASON_CHARS_MAX: usize = 300;

/// Why a record is a dead letter, for people; it names the field where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    fn new(text: &str) -> Reason {
        Reason(text.chars().take(REASON_CHARS_MAX).collect())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Short texts seen before (categories, regions), so that equal ones share their memory.
#[derive(Default)]
pub struct Words(HashSet<Word>);

impl Words {
    /// The shared form of a text.
    pub fn get(&mut self, text: &str) -> Word {
        if let Some(word) = self.0.get(text) {
            return word.clone();
        }
        let word = Word::from(text);
        if self.0.len() < WORDS_MAX {
            self.0.insert(word.clone());
        }
        word
    }
}

/// Reads a record's value, or says why it is a dead letter.
pub fn decode(topic: Topic, value: Option<&[u8]>, words: &mut Words) -> Result<Event, Reason> {
    let value = value.ok_or_else(|| Reason::new("the record has no value"))?;
    if value.len() > VALUE_MAX {
        return Err(Reason(format!("the value has {} bytes, more than {VALUE_MAX}", value.len())));
    }
    // Checked once as a whole, also in fields that are ignored.
    let value =
        str::from_utf8(value).map_err(|e| Reason(format!("not a JSON object: not UTF-8, {e}")))?;
    match topic {
        Topic::Users => parse::<UserFields>(value).map(|user| Event::User(user.event(words))),
        Topic::Products => parse::<ProductFields>(value)?.event(words).map(Event::Product),
        Topic::Scenarios => parse::<ScenarioFields>(value)?.event(words).map(Event::Scenario),
        Topic::Orders => match parse::<OrderFields>(value) {
            Ok(order) => order.event(words),
            // To a heartbeat all fields of an order are unknown ones, whatever they hold.
            Err(reason) => match parse::<EventField>(value) {
                Ok(EventField { event: OneOf(EventWord::Heartbeat), .. }) => {
                    parse::<HeartbeatFields>(value).map(|beat| Event::Heartbeat(beat.at.0))
                }
                _ => Err(reason),
            },
        },
    }
}

/// Appends an event as JSON.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::User(event) => encode_user(event, out),
        Event::Product(event) => encode_product(event, out),
        Event::Order(event) => encode_order(event, out),
        Event::Scenario(event) => encode_scenario(event, out),
        Event::Heartbeat(at) => encode_heartbeat(*at, out),
    }
}

fn encode_user(event: &UserEvent, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Fields<'a> {
        event_id: u64,
        at: Millis,
        user_id: i64,
        name: &'a str,
        birth_date: fmt::Arguments<'a>,
        sex: Sex,
        region: &'a str,
        status: Status,
        marketing_consent: bool,
        signed_up_at: Millis,
    }
    let user = &event.user;
    let fields = Fields {
        event_id: event.event_id,
        at: event.at,
        user_id: user.user_id,
        name: &user.name,
        birth_date: format_args!("{}", date_of(user.birth_date)),
        sex: user.sex,
        region: &user.region,
        status: user.status,
        marketing_consent: user.marketing_consent,
        signed_up_at: user.signed_up_at,
    };
    to_json(&fields, out);
}

fn encode_product(event: &ProductEvent, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Fields<'a> {
        event_id: u64,
        at: Millis,
        product_id: i64,
        name: &'a str,
        category: &'a str,
        price: i64,
        stock: i64,
        listed_at: Millis,
    }
    let product = &event.product;
    let fields = Fields {
        event_id: event.event_id,
        at: event.at,
        product_id: product.product_id,
        name: &product.name,
        category: &product.category,
        price: product.price,
        stock: product.stock,
        listed_at: product.listed_at,
    };
    to_json(&fields, out);
}

fn encode_order(event: &OrderEvent, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Fields<'a> {
        event_id: u64,
        at: Millis,
        event: OrderKind,
        order_id: i64,
        user_id: i64,
        ordered_at: Millis,
        lines: &'a [Line],
    }
    let order = &event.order;
    let fields = Fields {
        event_id: event.event_id,
        at: order.at,
        event: order.kind,
        order_id: order.order_id,
        user_id: order.user_id,
        ordered_at: order.ordered_at,
        lines: &order.lines,
    };
    to_json(&fields, out);
}

fn encode_scenario(event: &ScenarioEvent, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Fields<'a> {
        event_id: u64,
        at: Millis,
        occurrence: &'a str,
        name: &'a str,
        action: ScenarioAction,
        strength: f64,
        categories: &'a [Word],
    }
    let fields = Fields {
        event_id: event.event_id,
        at: event.at,
        occurrence: &event.occurrence,
        name: &event.name,
        action: event.action,
        strength: event.strength.get(),
        categories: &event.categories,
    };
    to_json(&fields, out);
}

fn encode_heartbeat(at: Millis, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Fields {
        event: &'static str,
        at: Millis,
    }
    to_json(&Fields { event: "heartbeat", at }, out);
}

/// Appends a record as the line of text that `marketday import` takes; the value must be JSON.
pub fn ndjson_line(topic: Topic, key: Option<&[u8]>, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":\"");
    out.extend_from_slice(topic.name().as_bytes());
    out.extend_from_slice(b"\",\"key\":");
    to_json(&key.map(String::from_utf8_lossy), out);
    out.extend_from_slice(b",\"value\":");
    out.extend_from_slice(value);
    out.extend_from_slice(b"}\n");
}

fn to_json(fields: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, fields).expect("memory takes every write, and every key is a text");
}

fn parse<'de, T: Deserialize<'de>>(value: &'de str) -> Result<T, Reason> {
    serde_json::from_str(value).map_err(|e| {
        let text = e.to_string();
        // A record is one line: the place would only be noise behind the field's name.
        let place = format!(" at line {} column {}", e.line(), e.column());
        match text.strip_suffix(&place) {
            Some(field) if field.starts_with('`') => Reason::new(field),
            _ => Reason::new(&format!("not a JSON object: {text}")),
        }
    })
}

/// Declares a JSON object of which the named fields are needed, once each, and others ignored.
macro_rules! object {
    ($object:ident<'de> { $($field:ident: $type:ty,)* }) => {
        struct $object<'de> {
            $($field: $type,)*
            text: PhantomData<&'de str>,
        }

        impl<'de> Deserialize<'de> for $object<'de> {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(field_identifier)]
                #[expect(non_camel_case_types, reason = "a variant is the field's name")]
                enum Name {
                    $($field,)*
                    #[serde(other)]
                    unknown,
                }

                struct Fields<'de>(PhantomData<&'de str>);

                impl<'de> Visitor<'de> for Fields<'de> {
                    type Value = $object<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<M: MapAccess<'de>>(
                        self,
                        mut map: M,
                    ) -> Result<Self::Value, M::Error> {
                        $(let mut $field: Option<$type> = None;)*
                        while let Some(key) = map.next_key()? {
                            match key {
                                $(Name::$field => {
                                    read(&mut map, &mut $field, stringify!($field))?;
                                })*
                                Name::unknown => {
                                    map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok($object {
                            $($field: $field.ok_or_else(|| missing(stringify!($field)))?,)*
                            text: PhantomData,
                        })
                    }
                }

                from.deserialize_map(Fields(PhantomData))
            }
        }
    };
}

/// Reads the value of a field that was not there before.
fn read<'de, M: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut M,
    field: &mut Option<T>,
    name: &str,
) -> Result<(), M::Error> {
    if field.is_some() {
        return Err(M::Error::custom(format_args!("`{name}` is given twice")));
    }
    let value = map.next_value().map_err(|e| M::Error::custom(format_args!("`{name}`: {e}")))?;
    *field = Some(value);
    Ok(())
}

#[cold]
fn missing<E: Error>(name: &str) -> E {
    E::custom(format_args!("`{name}` is missing"))
}

object!(UserFields<'de> {
    event_id: u64,
    at: Time,
    user_id: Id,
    name: Text<'de>,
    birth_date: Date,
    sex: OneOf<Sex>,
    region: Text<'de>,
    status: OneOf<Status>,
    marketing_consent: bool,
    signed_up_at: Time,
});

impl UserFields<'_> {
    fn event(self, words: &mut Words) -> UserEvent {
        UserEvent {
            event_id: self.event_id,
            at: self.at.0,
            user: User {
                user_id: self.user_id.0,
                name: Word::from(&*self.name.0),
                birth_date: self.birth_date.0,
                sex: self.sex.0,
                region: words.get(&self.region.0),
                status: self.status.0,
                marketing_consent: self.marketing_consent,
                signed_up_at: self.signed_up_at.0,
            },
        }
    }
}

object!(ProductFields<'de> {
    event_id: u64,
    at: Time,
    product_id: Id,
    name: Text<'de>,
    category: Text<'de>,
    price: Price,
    stock: Whole<0, { i64::MAX }>,
    listed_at: Time,
});

impl ProductFields<'_> {
    fn event(self, words: &mut Words) -> Result<ProductEvent, Reason> {
        let category = key("category", &self.category)?;
        Ok(ProductEvent {
            event_id: self.event_id,
            at: self.at.0,
            product: Product {
                product_id: self.product_id.0,
                name: Word::from(&*self.name.0),
                category: words.get(category),
                price: self.price.0,
                stock: self.stock.0,
                listed_at: self.listed_at.0,
            },
        })
    }
}

object!(OrderFields<'de> {
    event_id: u64,
    at: Time,
    event: OneOf<EventWord>,
    order_id: Id,
    user_id: Id,
    ordered_at: Time,
    lines: List<LineFields<'de>>,
});

object!(LineFields<'de> {
    product_id: Id,
    category: Text<'de>,
    quantity: Whole<1, 1_000_000>,
    unit_price: Price,
});

impl OrderFields<'_> {
    fn event(self, words: &mut Words) -> Result<Event, Reason> {
        let (at, ordered_at) = (self.at.0, self.ordered_at.0);
        let kind = match self.event.0 {
            EventWord::Heartbeat => return Ok(Event::Heartbeat(at)),
            EventWord::Entry(kind) => kind,
        };
        if kind == OrderKind::Placed && at != ordered_at {
            return Err(Reason::new("`at` differs from `ordered_at` in a placed event"));
        }
        if at < ordered_at {
            return Err(Reason(format!("`at` is before `ordered_at` in a {} event", kind.word())));
        }
        if self.lines.0.is_empty() {
            return Err(Reason::new("`lines` is empty"));
        }
        within_limits(&self.lines.0)?;
        let lines = self.lines.0.iter().map(|line| Line {
            product_id: line.product_id.0,
            category: words.get(&line.category.0),
            quantity: line.quantity.0,
            unit_price: line.unit_price.0,
        });
        Ok(Event::Order(OrderEvent {
            event_id: self.event_id,
            order: Order {
                kind,
                order_id: self.order_id.0,
                user_id: self.user_id.0,
                at,
                ordered_at,
                lines: lines.collect(),
            },
        }))
    }
}

/// That a table's rows and sums can take what the lines of an event say.
fn within_limits(lines: &[LineFields<'_>]) -> Result<(), Reason> {
    if lines.len() > LINES_MAX {
        return Err(Reason(format!("`lines` has {} lines, more than {LINES_MAX}", lines.len())));
    }
    let mut amount = 0;
    for (number, line) in (1..).zip(lines) {
        key("category", &line.category)
            .map_err(|reason| Reason(format!("`lines`: number {number}: {reason}")))?;
        amount += line.quantity.0 * line.unit_price.0;
        // A line's amount is far from the end of an i64, and so is a sum up to here.
        if amount > AMOUNT_MAX {
            return Err(Reason(format!("the amount of `lines` is more than {AMOUNT_MAX}")));
        }
    }
    // Few lines have few categories.
    if lines.len() > CATEGORIES_MAX {
        let categories: HashSet<&str> = lines.iter().map(|line| &*line.category.0).collect();
        if categories.len() > CATEGORIES_MAX {
            let number = categories.len();
            return Err(Reason(format!(
                "`lines` has {number} different `category`, more than {CATEGORIES_MAX}"
            )));
        }
    }
    Ok(())
}

/// The text of a field that is a key, unless it is too long for one.
fn key<'t>(name: &str, text: &'t Text<'_>) -> Result<&'t str, Reason> {
    if text.0.len() > KEY_BYTES_MAX {
        return Err(Reason(format!("`{name}` is longer than {KEY_BYTES_MAX} bytes")));
    }
    Ok(&text.0)
}

object!(EventField<'de> {
    event: OneOf<EventWord>,
});

object!(HeartbeatFields<'de> {
    at: Time,
});

object!(ScenarioFields<'de> {
    event_id: u64,
    at: Time,
    occurrence: Text<'de>,
    name: Text<'de>,
    action: OneOf<ScenarioAction>,
    strength: Positive,
    categories: List<Text<'de>>,
});

impl ScenarioFields<'_> {
    fn event(self, words: &mut Words) -> Result<ScenarioEvent, Reason> {
        let occurrence = Word::from(key("occurrence", &self.occurrence)?);
        let name = words.get(key("name", &self.name)?);
        let categories = self.categories.0.iter();
        let categories = categories.map(|category| Ok(words.get(key("categories", category)?)));
        Ok(ScenarioEvent {
            event_id: self.event_id,
            at: self.at.0,
            occurrence,
            name,
            action: self.action.0,
            strength: self.strength.0,
            categories: categories.collect::<Result<_, Reason>>()?,
        })
    }
}

/// A JSON integer from `MIN` to `MAX`.
struct Whole<const MIN: i64, const MAX: i64>(i64);

type Id = Whole<0, { i64::MAX }>;
type Time = Whole<TIME_MIN, { TIME_END - 1 }>;
type Price = Whole<0, 1_000_000_000>;

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number<const MIN: i64, const MAX: i64>;

        impl<const MIN: i64, const MAX: i64> Visitor<'_> for Number<MIN, MAX> {
            type Value = i64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
                if (MIN..=MAX).contains(&number) {
                    Ok(number)
                } else {
                    Err(E::invalid_value(Unexpected::Signed(number), &self))
                }
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
                match i64::try_from(number) {
                    Ok(number) => self.visit_i64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }
        }

        from.deserialize_i64(Number::<MIN, MAX>).map(Whole)
    }
}

/// Asks for a text and makes something of it.
struct TextVisitor<T, F: FnOnce(&str) -> Option<T>> {
    expecting: &'static str,
    make: F,
}

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for TextVisitor<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let Self { expecting, make } = self;
        make(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &expecting))
    }
}

/// A text without U+0000, which PostgreSQL cannot store.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Borrowed;

        impl<'de> Visitor<'de> for Borrowed {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text without U+0000")
            }

            // What needed no unescaping holds no control character.
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                if text.contains('\0') {
                    return Err(E::invalid_value(Unexpected::Str(text), &self));
                }
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        from.deserialize_str(Borrowed)
    }
}

/// A date "YYYY-MM-DD" that exists, 1900 to 2099.
struct Date(Day);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expecting = "a date \"YYYY-MM-DD\" that exists, 1900 to 2099";
        from.deserialize_str(TextVisitor { expecting, make: day_of_text }).map(Date)
    }
}

fn day_of_text(text: &str) -> Option<Day> {
    // chrono alone would also take signs, blanks and missing zeros.
    let form = text.bytes().enumerate().all(|(place, byte)| match place {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if text.len() != 10 || !form {
        return None;
    }
    let year = text[..4].parse().ok().filter(|year| (1900..2100).contains(year))?;
    NaiveDate::from_ymd_opt(year, text[5..7].parse().ok()?, text[8..].parse().ok()?)
        .map(day_of_date)
}

/// A word of a fixed list.
struct OneOf<T>(T);

/// What has a fixed list of words.
trait Choice: Copy + 'static {
    const EXPECTING: &'static str;
    const WORDS: &'static [(&'static str, Self)];
}

impl<'de, T: Choice> Deserialize<'de> for OneOf<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let make = |text: &str| {
            T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| OneOf(*choice))
        };
        from.deserialize_str(TextVisitor { expecting: T::EXPECTING, make })
    }
}

impl Choice for Sex {
    const EXPECTING: &'static str = "F or M";
    const WORDS: &'static [(&'static str, Self)] = &[("F", Sex::F), ("M", Sex::M)];
}

impl Choice for Status {
    const EXPECTING: &'static str = "ACTIVE, DORMANT or WITHDRAWN";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("ACTIVE", Status::Active),
        ("DORMANT", Status::Dormant),
        ("WITHDRAWN", Status::Withdrawn),
    ];
}

impl Choice for ScenarioAction {
    const EXPECTING: &'static str = "start, change or stop";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("start", ScenarioAction::Start),
        ("change", ScenarioAction::Change),
        ("stop", ScenarioAction::Stop),
    ];
}

/// What a record of `orders` is.
#[derive(Clone, Copy)]
enum EventWord {
    Entry(OrderKind),
    Heartbeat,
}

impl Choice for EventWord {
    const EXPECTING: &'static str = "placed, cancelled, refunded or heartbeat";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("placed", EventWord::Entry(OrderKind::Placed)),
        ("cancelled", EventWord::Entry(OrderKind::Cancelled)),
        ("refunded", EventWord::Entry(OrderKind::Refunded)),
        ("heartbeat", EventWord::Heartbeat),
    ];
}

/// A number above zero.
struct Positive(Strength);

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?;
        Strength::new(number).map(Positive).ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Float(number), &"a finite number above 0")
        })
    }
}

/// A list, of which an error names the element (counted from 1).
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<List<T>, S::Error> {
                let mut list = Vec::with_capacity(4);
                loop {
                    match seq.next_element() {
                        Ok(Some(element)) => list.push(element),
                        Ok(None) => return Ok(List(list)),
                        Err(e) => {
                            let number = list.len() + 1;
                            return Err(S::Error::custom(format_args!("number {number}: {e}")));
                        }
                    }
                }
            }
        }

        from.deserialize_seq(Elements(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn decoded(topic: Topic, text: &str) -> Result<Event, String> {
        decode(topic, Some(text.as_bytes()), &mut Words::default()).map_err(|e| e.to_string())
    }

    /// A valid value of each kind.
    fn samples() -> [(Topic, Value); 5] {
        let line = json!({"product_id": 7, "category": "식품", "quantity": 2, "unit_price": 900});
        [
            (
                Topic::Users,
                json!({"event_id": 1, "at": 1_700_000_000_000_i64, "user_id": 5, "name": "김서연",
                    "birth_date": "1992-02-29", "sex": "F", "region": "서울", "status": "ACTIVE",
                    "marketing_consent": true, "signed_up_at": 1_600_000_000_000_i64}),
            ),
            (
                Topic::Products,
                json!({"event_id": 1, "at": 1_700_000_000_000_i64, "product_id": 5, "name": "쌀",
                    "category": "식품", "price": 0, "stock": 0, "listed_at": 631_152_000_000_i64}),
            ),
            (
                Topic::Orders,
                json!({"event_id": u64::MAX, "at": 1_700_000_000_000_i64, "event": "placed",
                    "order_id": i64::MAX, "user_id": 5, "ordered_at": 1_700_000_000_000_i64,
                    "lines": [line.clone(), line]}),
            ),
            (
                Topic::Scenarios,
                json!({"event_id": 0, "at": 4_102_444_799_999_i64, "occurrence": "seollal-2026",
                    "name": "seollal", "action": "start", "strength": 2, "categories": []}),
            ),
            (Topic::Orders, json!({"event": "heartbeat", "at": 1_700_000_000_000_i64})),
        ]
    }

    #[test]
    fn valid_values_are_events() {
        for (topic, value) in samples() {
            decoded(topic, &value.to_string()).unwrap();
            let mut more = value.clone();
            more["more"] = json!([{"at": "x"}, 1.5, "\0"]);
            assert_eq!(decoded(topic, &more.to_string()), decoded(topic, &value.to_string()));
        }
        // To a heartbeat an order's fields are unknown ones.
        let beat = r#"{"order_id":"x","event":"heartbeat","order_id":1,"at":631152000000}"#;
        assert_eq!(decoded(Topic::Orders, beat), Ok(Event::Heartbeat(631_152_000_000)));
        let escaped = r#"{"\u0061t":631152000000,"event":"heart\u0062eat"}"#;
        assert_eq!(decoded(Topic::Orders, escaped), Ok(Event::Heartbeat(631_152_000_000)));
    }

    #[test]
    fn a_field_that_is_missing_null_twice_or_ill_typed_is_named() {
        for (topic, value) in samples() {
            let whole = value.to_string();
            for (name, right) in value.as_object().unwrap() {
                let mut variants = Vec::new();
                let mut without = value.clone();
                without.as_object_mut().unwrap().remove(name);
                variants.push(without.to_string());
                for wrong in [json!(null), json!({}), json!([1]), json!(["a", 1]), json!({"F": 1})]
                {
                    let mut with = value.clone();
                    with[name] = wrong;
                    variants.push(with.to_string());
                }
                let mut with = value.clone();
                with[name] = if right.is_string() { json!(1) } else { json!("1") };
                variants.push(with.to_string());
                variants.push(format!("{},\"{name}\":{right}}}", &whole[..whole.len() - 1]));
                for variant in variants {
                    // What is no heartbeat is an order, and lacks what an order needs.
                    let order = value["event"] == "heartbeat" && name == "event";
                    let reason = decoded(topic, &variant).expect_err(&variant);
                    assert!(order || reason.contains(&format!("`{name}`")), "{variant}: {reason}");
                }
            }
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let [(_, user), (_, product), (_, order), (_, scenario), (_, beat)] = samples();
        let numbers = ["1.0", "1e3", "-1", "99999999999999999999", "-99999999999999999999", "-0.5"];
        let times = ["631151999999", "4102444800000", "0", "1.7e12"];
        let texts = [r#""a\u0000b""#, r#""\ud800""#, "\"a\u{1}\"", "\"\u{0}\""];
        let wholes = [
            (Topic::Users, &user, &["event_id", "user_id"][..]),
            (Topic::Products, &product, &["event_id", "product_id", "price", "stock"]),
            (Topic::Orders, &order, &["event_id", "order_id", "user_id"]),
            (Topic::Scenarios, &scenario, &["event_id"]),
        ];
        let mut cases = Vec::new();
        for (topic, value, names) in wholes {
            cases.extend(names.iter().map(|name| (topic, value, *name, &numbers[..])));
        }
        let u64_max = ["18446744073709551616"];
        let i64_max = ["9223372036854775808"];
        cases.extend([
            (Topic::Users, &user, "event_id", &u64_max[..]),
            (Topic::Users, &user, "user_id", &i64_max),
            (Topic::Users, &user, "at", &times),
            (Topic::Users, &user, "signed_up_at", &times),
            (Topic::Users, &user, "name", &texts),
            (Topic::Users, &user, "region", &texts),
            (Topic::Users, &user, "sex", &["\"f\"", "\"\"", "\"FEMALE\""]),
            (Topic::Users, &user, "status", &["\"active\"", "\"GONE\""]),
            (
                Topic::Users,
                &user,
                "birth_date",
                &[
                    "\"1899-12-31\"",
                    "\"2100-01-01\"",
                    "\"2023-02-29\"",
                    "\"2023-2-28\"",
                    "\"+2023-2-8\"",
                    "\"2023-13-01\"",
                    "\"2023-00-10\"",
                    "\"2023-01-00\"",
                    "\"2023/01/01\"",
                    "\"2023-01-01T00\"",
                    "\"２０２３\"",
                ],
            ),
            (Topic::Products, &product, "product_id", &i64_max),
            (Topic::Products, &product, "price", &["1000000001"]),
            (Topic::Products, &product, "stock", &i64_max),
            (Topic::Products, &product, "listed_at", &times),
            (Topic::Products, &product, "name", &texts),
            (Topic::Products, &product, "category", &texts),
            (Topic::Orders, &order, "order_id", &i64_max),
            (Topic::Orders, &order, "ordered_at", &times),
            (Topic::Orders, &order, "at", &["1700000000001", "1699999999999"]),
            (Topic::Orders, &order, "event", &["\"Placed\"", "\"paid\""]),
            (Topic::Orders, &order, "lines", &["[]", "[[7,\"a\",1,1]]", "[null]"]),
            (Topic::Orders, &beat, "at", &times),
            (Topic::Scenarios, &scenario, "at", &times),
            (Topic::Scenarios, &scenario, "occurrence", &texts),
            (Topic::Scenarios, &scenario, "name", &texts),
            (Topic::Scenarios, &scenario, "action", &["\"begin\""]),
            (
                Topic::Scenarios,
                &scenario,
                "strength",
                &["0", "-1", "0.0", "1e-400", "1e999", "NaN"],
            ),
            (Topic::Scenarios, &scenario, "categories", &["[1]", r#"["a","\u0000"]"#]),
        ]);
        for (topic, value, name, wrongs) in cases {
            for wrong in wrongs {
                let mut with = value.clone();
                with[name] = json!("HERE");
                let text = with.to_string().replace("\"HERE\"", wrong);
                let reason = decoded(topic, &text).expect_err(&text);
                assert!(reason.contains(&format!("`{name}`")), "{text}: {reason}");
                assert!(!reason.contains('\0'), "{reason}");
            }
        }
        for (name, wrongs) in [
            ("product_id", &["-1", "9223372036854775808", "null"][..]),
            ("category", &texts),
            ("quantity", &["0", "1000001", "1.0"]),
            ("unit_price", &["-1", "1000000001"]),
        ] {
            for wrong in wrongs {
                let mut with = order.clone();
                with["lines"][1][name] = json!("HERE");
                let text = with.to_string().replace("\"HERE\"", wrong);
                let reason = decoded(Topic::Orders, &text).expect_err(&text);
                assert!(reason.starts_with("`lines`: number 2: "), "{text}: {reason}");
                assert!(reason.contains(&format!("`{name}`")), "{text}: {reason}");
            }
        }
    }

    /// An order event of lines with these categories, each of this quantity and price.
    fn order_of(
        categories: impl Iterator<Item = String>,
        quantity: i64,
        unit_price: i64,
    ) -> String {
        let [_, _, (_, mut order), ..] = samples();
        let line = |category| {
            json!({"product_id": 1, "category": category, "quantity": quantity,
                   "unit_price": unit_price})
        };
        order["lines"] = categories.map(line).collect();
        order.to_string()
    }

    #[test]
    fn keys_have_at_most_two_hundred_bytes() {
        // 66 characters of three bytes and two of one; escaped they are longer, and no longer so.
        let (longest, long) = ("가".repeat(66) + "ab", "가".repeat(66) + "abc");
        let [_, (_, product), _, (_, scenario), _] = samples();
        for (topic, sample, name) in [
            (Topic::Products, &product, "category"),
            (Topic::Scenarios, &scenario, "occurrence"),
            (Topic::Scenarios, &scenario, "name"),
            (Topic::Scenarios, &scenario, "categories"),
        ] {
            for (text, valid) in [("", true), (&longest, true), (&long, false)] {
                let mut with = sample.clone();
                let key = json!(text);
                with[name] = if name == "categories" { json!(["a", key]) } else { key };
                let read = decoded(topic, &with.to_string());
                if valid {
                    read.unwrap();
                } else {
                    assert_eq!(read, Err(format!("`{name}` is longer than 200 bytes")));
                }
            }
        }
        let line = |text: &str| order_of(["a".to_owned(), text.to_owned()].into_iter(), 1, 1);
        decoded(Topic::Orders, &line(&longest)).unwrap();
        let escaped = line(&longest).replace("가", "\\uac00");
        assert_eq!(decoded(Topic::Orders, &escaped), decoded(Topic::Orders, &line(&longest)));
        let reason = decoded(Topic::Orders, &line(&long)).unwrap_err();
        assert_eq!(reason, "`lines`: number 2: `category` is longer than 200 bytes");
        // What is no key may be as long as the record.
        let [(_, mut user), ..] = samples();
        (user["name"], user["region"]) = (json!("가".repeat(99_000)), json!("가".repeat(99_000)));
        decoded(Topic::Users, &user.to_string()).unwrap();
    }

    #[test]
    fn an_order_event_has_so_many_lines_categories_and_won() {
        let a = |lines| std::iter::repeat_n("a".to_owned(), lines);
        let words = |words: usize| (0..10 * words).map(move |place| (place % words).to_string());
        for (text, reason) in [
            (order_of(a(10_000), 1, 1), None),
            (order_of(a(10_001), 1, 1), Some("`lines` has 10001 lines, more than 10000")),
            (order_of(words(100), 1, 1), None),
            (
                order_of(words(101), 1, 1),
                Some("`lines` has 101 different `category`, more than 100"),
            ),
            (order_of(a(1), 1_000, 1_000_000_000), None),
            (order_of(a(1_000), 1_000, 1_000_000), None),
            (order_of(a(1_001), 1_000, 1_000_000), Some("more than 1000000000000")),
            // They would leave an i64 together.
            (
                order_of(a(9_999), 1_000_000, 1_000_000_000),
                Some("`lines` is more than 10000000000"),
            ),
        ] {
            match (decoded(Topic::Orders, &text), reason) {
                (Ok(_), None) => {}
                (Err(said), Some(words)) => assert!(said.contains(words), "{said}"),
                (read, _) => panic!("{read:?} instead of {reason:?}"),
            }
        }
        // What is taken back is counted, too; to a heartbeat lines are nothing.
        let long = order_of(a(10_001), 1, 1);
        decoded(Topic::Orders, &long.replace("placed", "refunded")).unwrap_err();
        decoded(Topic::Orders, &long.replace("placed", "heartbeat")).unwrap();
    }

    #[test]
    fn a_taking_back_is_not_before_its_order() {
        let [_, _, (_, mut order), ..] = samples();
        for event in ["cancelled", "refunded"] {
            order["event"] = json!(event);
            for (at, valid) in [(-1, false), (0, true), (1, true)] {
                order["at"] = json!(1_700_000_000_000_i64 + at);
                let result = decoded(Topic::Orders, &order.to_string());
                assert_eq!(result.is_ok(), valid, "{result:?}");
            }
        }
    }

    #[test]
    fn what_is_no_object_or_too_long_is_refused_without_harm() {
        let deep = "[".repeat(500_000);
        let texts =
            ["", " ", "null", "[]", "1", "\"at\"", "{", "{}", "{]", "{} {}", "{\"at\"}", &deep];
        for topic in Topic::ALL {
            for text in texts {
                decoded(topic, text).expect_err(text);
            }
            let words = &mut Words::default();
            decode(topic, None, words).expect_err("no value");
            decode(topic, Some(b"{\"more\":\"\xff\"}"), words).expect_err("not UTF-8");
        }
        let nested = format!("{{\"at\":{deep}");
        assert!(decoded(Topic::Users, &nested).unwrap_err().starts_with("`at`"));
        let deep = format!("{{\"more\":{deep}{}}}", "]".repeat(500_000));
        assert!(decoded(Topic::Users, &deep).unwrap_err().contains("`event_id` is missing"));

        let beat = r#"{"event":"heartbeat","at":631152000000}"#;
        let padded = format!("{beat}{}", " ".repeat(VALUE_MAX - beat.len()));
        decoded(Topic::Orders, &padded).unwrap();
        decoded(Topic::Orders, &format!("{padded} ")).expect_err("one byte too long");
        let long = format!(r#"{{"sex":"{}"}}"#, "é".repeat(100_000));
        assert!(decoded(Topic::Users, &long).unwrap_err().len() <= 4 * REASON_CHARS_MAX);
    }

    #[test]
    fn the_json_is_the_contracts() {
        let [(_, user), (_, product), (_, order), (_, scenario), (_, beat)] = samples();
        for (topic, value, text) in [
            (
                Topic::Users,
                user,
                r#"{"event_id":1,"at":1700000000000,"user_id":5,"name":"김서연","birth_date":"1992-02-29","sex":"F","region":"서울","status":"ACTIVE","marketing_consent":true,"signed_up_at":1600000000000}"#,
            ),
            (
                Topic::Products,
                product,
                r#"{"event_id":1,"at":1700000000000,"product_id":5,"name":"쌀","category":"식품","price":0,"stock":0,"listed_at":631152000000}"#,
            ),
            (
                Topic::Orders,
                order,
                r#"{"event_id":18446744073709551615,"at":1700000000000,"event":"placed","order_id":9223372036854775807,"user_id":5,"ordered_at":1700000000000,"lines":[{"product_id":7,"category":"식품","quantity":2,"unit_price":900},{"product_id":7,"category":"식품","quantity":2,"unit_price":900}]}"#,
            ),
            (
                Topic::Scenarios,
                scenario,
                r#"{"event_id":0,"at":4102444799999,"occurrence":"seollal-2026","name":"seollal","action":"start","strength":2.0,"categories":[]}"#,
            ),
            (Topic::Orders, beat, r#"{"event":"heartbeat","at":1700000000000}"#),
        ] {
            let event = decoded(topic, &value.to_string()).unwrap();
            assert_eq!(String::from_utf8(encoded(&event)).unwrap(), text);
        }
    }

    #[test]
    fn a_line_of_text_holds_the_value_as_it_is() {
        let mut line = Vec::new();
        ndjson_line(Topic::Scenarios, Some("a\"b".as_bytes()), b"{\"x\": 1}", &mut line);
        ndjson_line(Topic::Orders, None, b"{}", &mut line);
        let expected = "{\"topic\":\"scenarios\",\"key\":\"a\\\"b\",\"value\":{\"x\": 1}}\n\
                        {\"topic\":\"orders\",\"key\":null,\"value\":{}}\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn equal_words_share_memory_up_to_a_bound() {
        let mut words = Words::default();
        assert!(Word::ptr_eq(&words.get("식품"), &words.get("식품")));
        for n in 0..2 * WORDS_MAX {
            assert_eq!(&*words.get(&n.to_string()), n.to_string());
        }
        assert_eq!(words.0.len(), WORDS_MAX);
    }

    fn encoded(event: &Event) -> Vec<u8> {
        let mut out = Vec::new();
        encode(event, &mut out);
        out
    }

    fn word() -> impl Strategy<Value = Word> {
        "[^\0]{0,12}".prop_map(Word::from)
    }

    fn time() -> impl Strategy<Value = Millis> {
        TIME_MIN..TIME_END
    }

    fn id() -> impl Strategy<Value = i64> {
        0..=i64::MAX
    }

    fn events() -> impl Strategy<Value = (Topic, Event)> {
        let days = || day_of_text("1900-01-01").unwrap()..=day_of_text("2099-12-31").unwrap();
        let status = prop::sample::select(vec![Status::Active, Status::Dormant, Status::Withdrawn]);
        let user = (
            (any::<u64>(), time(), id(), word(), days()),
            (any::<bool>(), word(), status, any::<bool>(), time()),
        )
            .prop_map(|((event_id, at, user_id, name, birth_date), rest)| {
                let (female, region, status, marketing_consent, signed_up_at) = rest;
                let sex = if female { Sex::F } else { Sex::M };
                let user = User {
                    user_id,
                    name,
                    birth_date,
                    sex,
                    region,
                    status,
                    marketing_consent,
                    signed_up_at,
                };
                (Topic::Users, Event::User(UserEvent { event_id, at, user }))
            });
        let product =
            (any::<u64>(), time(), id(), word(), word(), 0..=1_000_000_000_i64, id(), time())
                .prop_map(|(event_id, at, product_id, name, category, price, stock, listed_at)| {
                    let product = Product { product_id, name, category, price, stock, listed_at };
                    (Topic::Products, Event::Product(ProductEvent { event_id, at, product }))
                });
        let line = (id(), word(), 1..=1_000_000_i64, 0..=1_000_000_000_i64).prop_map(
            |(product_id, category, quantity, unit_price)| {
                // A fourth of the greatest amount.
                let unit_price = unit_price.min(AMOUNT_MAX / 4 / quantity);
                Line { product_id, category, quantity, unit_price }
            },
        );
        let kinds = vec![OrderKind::Placed, OrderKind::Cancelled, OrderKind::Refunded];
        let order = (
            (any::<u64>(), prop::sample::select(kinds), id(), id()),
            (time(), time(), prop::collection::vec(line, 1..5)),
        )
            .prop_map(|((event_id, kind, order_id, user_id), (one, two, lines))| {
                let ordered_at = one.min(two);
                let at = if kind == OrderKind::Placed { ordered_at } else { one.max(two) };
                let lines = lines.into();
                let order = Order { kind, order_id, user_id, at, ordered_at, lines };
                (Topic::Orders, Event::Order(OrderEvent { event_id, order }))
            });
        let actions = vec![ScenarioAction::Start, ScenarioAction::Change, ScenarioAction::Stop];
        let strength =
            any::<u64>().prop_filter_map("above 0", |bits| Strength::new(f64::from_bits(bits)));
        let scenario = (
            (any::<u64>(), time(), word(), word(), prop::sample::select(actions)),
            (strength, prop::collection::vec(word(), 0..4)),
        )
            .prop_map(
                |((event_id, at, occurrence, name, action), (strength, categories))| {
                    let event = ScenarioEvent {
                        event_id,
                        at,
                        occurrence,
                        name,
                        action,
                        strength,
                        categories,
                    };
                    (Topic::Scenarios, Event::Scenario(event))
                },
            );
        let beat = time().prop_map(|at| (Topic::Orders, Event::Heartbeat(at)));
        prop_oneof![user, product, order, scenario, beat]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_event_read_back_is_the_event_written((topic, event) in events()) {
            let value = encoded(&event);
            prop_assert_eq!(decode(topic, Some(&value), &mut Words::default()), Ok(event));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for topic in Topic::ALL {
                let _ = decode(topic, Some(&bytes), &mut Words::default());
            }
        }

        #[test]
        fn no_damage_does_harm((topic, event) in events(), cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let mut value = encoded(&event);
            for (place, byte) in cuts {
                let place = place.index(value.len());
                value[place] = byte;
            }
            if let Err(reason) = decode(topic, Some(&value), &mut Words::default()) {
                prop_assert!(!reason.to_string().contains('\0'));
            }
        }
    }
}
