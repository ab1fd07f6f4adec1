//! Reads a record of the log as docs/tables.md words it, in code that the analytics do not share.
//!
//! An event becomes what the comparison needs: its ids, its amount, and one hash over every field
//! that the base tables keep.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use chrono::NaiveDate;
use dataflows::model::Topic;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

/// 1 MiB: a longer value is dead.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// A word that is a key of some table has no more bytes.
const KEY_BYTES_MAX: usize = 200;

/// An order event has no more lines, categories and won.
const ORDER_MAX: (usize, usize, i64) = (10_000, 100, 1_000_000_000_000);

/// 1990-01-01 and 2100-01-01 UTC, in milliseconds since 1970.
const TIMES: std::ops::Range<i64> = 631_152_000_000..4_102_444_800_000;

/// 2000-01-01 UTC in milliseconds since 1970: where PostgreSQL counts from.
const POSTGRES_EPOCH: i64 = 946_684_800_000;

/// What one record says.
#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    /// No event: it belongs into `dead_letters`.
    Dead,
    /// Nothing happened up to that time (microseconds since 2000).
    Heartbeat { at: i64 },
    /// An event.
    Event(Event),
}

/// An event, as far as the comparison looks at it.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_field_names, reason = "these are the words of the tables")]
pub(super) struct Event {
    pub(super) event_id: u64,
    /// Microseconds since 2000, as PostgreSQL has it.
    pub(super) at: i64,
    /// Of an order event: whose clock says `at`.
    pub(super) user_id: Option<i64>,
    /// Sum of the lines' amounts.
    pub(super) amount: i64,
    /// Over every field.
    pub(super) hash: u64,
}

/// The fields of an event in the order of its base table, written so that only equal ones hash alike.
#[derive(Default)]
pub(super) struct Canon(Vec<u8>);

impl Canon {
    pub(super) fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, value: &str) {
        self.int(value.len() as i64);
        self.0.extend_from_slice(value.as_bytes());
    }

    /// The hash of what was written; starts anew.
    pub(super) fn take(&mut self) -> u64 {
        let hash = xxh3_64(&self.0);
        self.0.clear();
        hash
    }
}

/// Reads the value of a record.
pub(super) fn read(topic: Topic, value: Option<&[u8]>, canon: &mut Canon) -> Reading {
    canon.0.clear();
    let fields = value
        .filter(|value| value.len() <= VALUE_BYTES_MAX)
        .and_then(|value| str::from_utf8(value).ok())
        .and_then(|value| serde_json::from_str::<Fields<'_>>(value).ok());
    let Some(fields) = fields else { return Reading::Dead };
    let reading = match topic {
        Topic::Users => user(&fields, canon),
        Topic::Products => product(&fields, canon),
        Topic::Orders => order(&fields, canon),
        Topic::Scenarios => scenario(&fields, canon),
    };
    reading.unwrap_or(Reading::Dead)
}

fn user(fields: &Fields<'_>, canon: &mut Canon) -> Option<Reading> {
    let (event_id, at) = (fields.event_id()?, fields.time("at")?);
    canon.text(&event_id.to_string());
    canon.int(at);
    canon.int(fields.id("user_id")?);
    canon.text(&fields.text("name")?);
    canon.int(fields.date("birth_date")?);
    canon.text(&fields.word("sex", &["F", "M"])?);
    canon.text(&fields.text("region")?);
    canon.text(&fields.word("status", &["ACTIVE", "DORMANT", "WITHDRAWN"])?);
    canon.int(i64::from(fields.parse::<bool>("marketing_consent")?));
    canon.int(fields.time("signed_up_at")?);
    Some(Reading::Event(Event { event_id, at, user_id: None, amount: 0, hash: canon.take() }))
}

fn product(fields: &Fields<'_>, canon: &mut Canon) -> Option<Reading> {
    let (event_id, at) = (fields.event_id()?, fields.time("at")?);
    canon.text(&event_id.to_string());
    canon.int(at);
    canon.int(fields.id("product_id")?);
    canon.text(&fields.text("name")?);
    canon.text(&fields.key("category")?);
    canon.int(fields.int("price", 0, 1_000_000_000)?);
    canon.int(fields.int("stock", 0, i64::MAX)?);
    canon.int(fields.time("listed_at")?);
    Some(Reading::Event(Event { event_id, at, user_id: None, amount: 0, hash: canon.take() }))
}

fn order(fields: &Fields<'_>, canon: &mut Canon) -> Option<Reading> {
    let at = fields.time("at")?;
    let event = fields.word("event", &["heartbeat", "placed", "cancelled", "refunded"])?;
    if event == "heartbeat" {
        return Some(Reading::Heartbeat { at });
    }
    let event_id = fields.event_id()?;
    let order_id = fields.id("order_id")?;
    let ordered_at = fields.time("ordered_at")?;
    if at < ordered_at || (event == "placed" && at != ordered_at) {
        return None;
    }
    canon.text(&event_id.to_string());
    canon.int(at);
    canon.text(&event);
    canon.int(order_id);
    let user_id = fields.id("user_id")?;
    canon.int(user_id);
    canon.int(ordered_at);
    let (lines_max, categories_max, amount_max) = ORDER_MAX;
    // Counted before they are looked into: a line's fields take more memory than its text.
    let lines = fields.parse::<Vec<&RawValue>>("lines")?;
    if !(1..=lines_max).contains(&lines.len()) {
        return None;
    }
    let mut amount = 0i64;
    let mut categories = BTreeSet::new();
    for line in lines {
        let line: Fields<'_> = serde_json::from_str(line.get()).ok()?;
        canon.int(line.id("product_id")?);
        let category = line.key("category")?;
        canon.text(&category);
        let quantity = line.int("quantity", 1, 1_000_000)?;
        let unit_price = line.int("unit_price", 0, 1_000_000_000)?;
        canon.int(quantity);
        canon.int(unit_price);
        amount = amount.checked_add(quantity.checked_mul(unit_price)?)?;
        categories.insert(category);
    }
    if amount > amount_max || categories.len() > categories_max {
        return None;
    }
    let (user_id, hash) = (Some(user_id), canon.take());
    Some(Reading::Event(Event { event_id, at, user_id, amount, hash }))
}

fn scenario(fields: &Fields<'_>, canon: &mut Canon) -> Option<Reading> {
    let (event_id, at) = (fields.event_id()?, fields.time("at")?);
    canon.text(&event_id.to_string());
    canon.int(at);
    canon.text(&fields.key("occurrence")?);
    canon.text(&fields.key("name")?);
    canon.text(&fields.word("action", &["start", "change", "stop"])?);
    let strength = fields.parse::<f64>("strength").filter(|it| *it > 0.0 && it.is_finite())?;
    canon.int(strength.to_bits() as i64);
    for category in fields.parse::<Vec<String>>("categories")? {
        canon.text(&no_longer_than_a_key(without_nul(category)?)?);
    }
    Some(Reading::Event(Event { event_id, at, user_id: None, amount: 0, hash: canon.take() }))
}

/// A JSON object, its values not looked into yet: a field that nobody asks for may hold anything.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Fields<'_> {
    /// The field's value, if it is given exactly once and is of that type.
    fn parse<'s, T: Deserialize<'s>>(&'s self, name: &str) -> Option<T> {
        let mut given = self.0.iter().filter(|(key, _)| key == name);
        let (_, value) = given.next()?;
        if given.next().is_some() {
            return None;
        }
        serde_json::from_str(value.get()).ok()
    }

    fn event_id(&self) -> Option<u64> {
        self.parse("event_id")
    }

    fn int(&self, name: &str, min: i64, max: i64) -> Option<i64> {
        self.parse(name).filter(|value| (min..=max).contains(value))
    }

    fn id(&self, name: &str) -> Option<i64> {
        self.int(name, 0, i64::MAX)
    }

    /// An instant, in microseconds since 2000.
    fn time(&self, name: &str) -> Option<i64> {
        let millis = self.parse(name).filter(|millis| TIMES.contains(millis))?;
        Some((millis - POSTGRES_EPOCH) * 1000)
    }

    /// A date, in days since 2000.
    fn date(&self, name: &str) -> Option<i64> {
        let text = self.text(name)?;
        let digits = text.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if text.len() != 10 || !digits {
            return None;
        }
        let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?;
        let day = i64::from(date.to_epoch_days()) - POSTGRES_EPOCH / 86_400_000;
        ("1900".."2100").contains(&&text[..4]).then_some(day)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.parse(name).and_then(without_nul)
    }

    fn key(&self, name: &str) -> Option<String> {
        self.text(name).and_then(no_longer_than_a_key)
    }

    fn word(&self, name: &str, words: &[&str]) -> Option<String> {
        self.text(name).filter(|text| words.contains(&text.as_str()))
    }
}

/// The text, unless it has the one character that PostgreSQL cannot keep.
fn without_nul(text: String) -> Option<String> {
    (!text.contains('\0')).then_some(text)
}

/// The text, unless an index could not hold it.
fn no_longer_than_a_key(text: String) -> Option<String> {
    (text.len() <= KEY_BYTES_MAX).then_some(text)
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::with_capacity(12);
                while let Some((Key(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"event_id":18446744073709551615,"at":1700000000000,"event":"placed",
        "order_id":7,"user_id":8,"ordered_at":1700000000000,"extra":[1e999,"\ud800"],
        "lines":[{"product_id":1,"category":"c","quantity":2,"unit_price":300}]}"#;

    fn reading(topic: Topic, value: &str) -> Reading {
        read(topic, Some(value.as_bytes()), &mut Canon::default())
    }

    #[test]
    fn an_order_is_read_and_what_it_does_not_name_is_ignored() {
        let Reading::Event(event) = reading(Topic::Orders, ORDER) else { panic!("dead") };
        assert_eq!(event.event_id, u64::MAX);
        assert_eq!(event.at, (1_700_000_000_000 - POSTGRES_EPOCH) * 1000);
        assert_eq!(event.user_id, Some(8));
        assert_eq!(event.amount, 600);
    }

    #[test]
    fn whatever_is_missing_or_ill_typed_or_out_of_range_is_dead() {
        for (from, to) in [
            ("18446744073709551615", "18446744073709551616"),
            (r#""event_id":18446744073709551615,"#, ""),
            (r#""order_id":7"#, r#""order_id":7,"order_id":7"#),
            (r#""order_id":7"#, r#""order_id":7.0"#),
            (r#""order_id":7"#, r#""order_id":"7""#),
            (r#""order_id":7"#, r#""order_id":-1"#),
            (r#""at":1700000000000"#, r#""at":1700000000001"#),
            ("placed", "bought"),
            (r#""quantity":2"#, r#""quantity":0"#),
            (r#""quantity":2"#, r#""quantity":1000001"#),
            (r#""unit_price":300"#, r#""unit_price":-1"#),
            (r#""c""#, r#""\u0000""#),
            (r#""c""#, &format!("\"{}\"", "c".repeat(201))),
            (r#""quantity":2,"unit_price":300"#, r#""quantity":1001,"unit_price":1000000000"#),
            (r#"{"product_id":1,"category":"c","quantity":2,"unit_price":300}"#, ""),
            (
                r#"{"product_id":1,"category":"c","quantity":2,"unit_price":300}"#,
                r#"[1,"c",2,300]"#,
            ),
        ] {
            assert!(ORDER.contains(from), "{from}");
            assert_eq!(reading(Topic::Orders, &ORDER.replacen(from, to, 1)), Reading::Dead, "{to}");
        }
        assert_eq!(reading(Topic::Orders, "[]"), Reading::Dead);
        assert_eq!(reading(Topic::Orders, &ORDER.replace('8', "8\u{ff}")), Reading::Dead);
        let long = format!("{ORDER}{}", " ".repeat(VALUE_BYTES_MAX));
        assert_eq!(reading(Topic::Orders, &long), Reading::Dead);
        assert_eq!(read(Topic::Orders, None, &mut Canon::default()), Reading::Dead);
    }

    #[test]
    fn a_heartbeat_needs_nothing_but_its_time() {
        let heartbeat = r#"{"event":"heartbeat","at":1700000000000,"lines":0}"#;
        let at = (1_700_000_000_000 - POSTGRES_EPOCH) * 1000;
        assert_eq!(reading(Topic::Orders, heartbeat), Reading::Heartbeat { at });
        assert_eq!(reading(Topic::Orders, r#"{"event":"heartbeat"}"#), Reading::Dead);
    }

    #[test]
    fn dates_are_real_and_written_in_full() {
        let user = |date: &str| {
            let user = format!(
                r#"{{"event_id":1,"at":1700000000000,"user_id":1,"name":"n","birth_date":"{date}",
                "sex":"F","region":"r","status":"ACTIVE","marketing_consent":true,
                "signed_up_at":1700000000000}}"#
            );
            reading(Topic::Users, &user)
        };
        assert_ne!(user("2000-02-29"), Reading::Dead);
        for date in
            ["1999-02-29", "2000-2-29", "1899-12-31", "2100-01-01", "+200-01-01", "2000-02-291"]
        {
            assert_eq!(user(date), Reading::Dead, "{date}");
        }
    }

    /// An event of every kind.
    const EVENTS: &[(Topic, &str)] = &[
        (
            Topic::Users,
            r#"{"event_id":1,"at":1700000000000,"user_id":1,"name":"n","birth_date":"2000-01-01","sex":"F","region":"r","status":"ACTIVE","marketing_consent":true,"signed_up_at":1700000000000}"#,
        ),
        (
            Topic::Products,
            r#"{"event_id":1,"at":1700000000000,"product_id":1,"name":"n","category":"c","price":1,"stock":1,"listed_at":1700000000000}"#,
        ),
        (
            Topic::Orders,
            r#"{"event_id":1,"at":1700000000000,"event":"placed","order_id":1,"user_id":1,"ordered_at":1700000000000,"lines":[{"product_id":1,"category":"c","quantity":1,"unit_price":1}]}"#,
        ),
        (
            Topic::Orders,
            r#"{"event_id":1,"at":1700000000009,"event":"refunded","order_id":1,"user_id":1,"ordered_at":1700000000000,"lines":[{"product_id":1,"category":"c","quantity":1,"unit_price":1}]}"#,
        ),
        (Topic::Orders, r#"{"event":"heartbeat","at":1700000000000}"#),
        (
            Topic::Scenarios,
            r#"{"event_id":1,"at":1700000000000,"occurrence":"o","name":"n","action":"start","strength":1.5,"categories":["a","b"]}"#,
        ),
    ];
    /// What a field may be given instead.
    const VALUES: &[&str] = &[
        "0",
        "-0",
        "1",
        "-1",
        "1.0",
        "1e0",
        "1e999",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1000000",
        "1000001",
        "1000000000",
        "1000000001",
        "631151999999",
        "631152000000",
        "4102444799999",
        "4102444800000",
        "null",
        "true",
        "\"\"",
        "\"1\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\u0046\"",
        "\"F\"",
        "\"f\"",
        "\"DORMANT\"",
        "\"heartbeat\"",
        "\"cancelled\"",
        "\"change\"",
        "\"1899-12-31\"",
        "\"1900-01-01\"",
        "\"2099-12-31\"",
        "\"2100-01-01\"",
        "\"2001-02-29\"",
        "\" 2001-1-01\"",
        "\"2001-1- 01\"",
        "\"2001-01- 1\"",
        "\"+200-01-01\"",
        "\"02001-01-1\"",
        "[]",
        "[1]",
        "[\"a\"]",
        "[\"\\u0000\"]",
        "[[]]",
        "{}",
        "[{}]",
        "[1,\"c\",1,1]",
        "[[1,\"c\",1,1]]",
        "",
        "tru",
        "\"\u{1}\"",
    ];
    /// Two readers, written apart: whatever a value is, both must say the same.
    #[test]
    fn the_analytics_read_the_same() {
        use dataflows::model;

        use dataflows::model::codec::decode;
        let mut canon = Canon::default();
        let mut differing = Vec::new();
        for &(topic, sample) in EVENTS {
            let mut variants = vec![
                sample.to_owned(),
                format!(" {sample}\n"),
                format!("{sample}x"),
                format!("\u{feff}{sample}"),
                format!("[{sample}]"),
                sample.replace('{', "{\"more\":[{\"x\":1e999}],"),
                sample.replace("\"at\"", "\"\\u0061t\""),
                sample.replace(':', " : "),
            ];
            // Each field left out, given twice, or with each other value.
            for field in sample.split(['{', ',', '[', ']', '}']).filter(|field| field.contains(':'))
            {
                let Some((name, _)) = field.split_once(':') else { continue };
                variants.push(
                    sample.replace(&format!("{field},"), "").replace(&format!(",{field}"), ""),
                );
                variants.push(sample.replacen(field, &format!("{field},{field}"), 1));
                for value in VALUES {
                    variants.push(sample.replacen(field, &format!("{name}:{value}"), 1));
                    variants.push(sample.replacen('{', &format!("{{\"more\":{value},"), 1));
                }
            }
            // Keys, lines, categories and amounts at their limits and beyond.
            for bytes in [199, 200, 201] {
                for letter in ["a", "\\u0061"] {
                    let key = format!("\"{}가\"", letter.repeat(bytes - 3));
                    for short in ["\"a\"", "\"c\"", "\"n\"", "\"o\"", "\"r\""] {
                        variants.push(sample.replacen(short, &key, 1));
                    }
                }
            }
            if let Some((before, lines)) = sample.split_once("\"lines\":[") {
                let line = lines.trim_end_matches("]}");
                let of = |lines: &[String]| format!("{before}\"lines\":[{}]}}", lines.join(","));
                for (lines, words) in
                    [(10_000, 1), (10_001, 1), (100, 100), (101, 101), (999, 100), (999, 101)]
                {
                    let word = |place| line.replace("\"c\"", &format!("\"{}\"", place % words));
                    variants.push(of(&(0..lines).map(word).collect::<Vec<_>>()));
                }
                for (lines, price) in
                    [(1000, 1000), (1000, 1001), (1001, 1000), (9999, 1_000_000_000)]
                {
                    let dear = line.replace("\"quantity\":1", "\"quantity\":1000000");
                    let dear = dear.replace("\"unit_price\":1", &format!("\"unit_price\":{price}"));
                    variants.push(of(&vec![dear; lines]));
                }
            }
            for variant in variants {
                let ours = read(topic, Some(variant.as_bytes()), &mut canon);
                let same = match (&ours, decode(topic, Some(variant.as_bytes()))) {
                    (Reading::Dead, Err(_)) => true,
                    (Reading::Heartbeat { at }, Ok(model::Event::Heartbeat(other))) => {
                        *at == (other - POSTGRES_EPOCH) * 1000
                    }
                    (Reading::Event(event), Ok(decoded)) => {
                        event.at == (decoded.at() - POSTGRES_EPOCH) * 1000
                    }
                    _ => false,
                };
                if !same {
                    let variant: String = variant.chars().take(1_000).collect();
                    differing.push(format!("{variant} is {ours:?} here"));
                }
            }
        }
        for value in
            [&b"{\"event\":\"heartbeat\",\"at\":1700000000000,\"x\":\"\xff\"}"[..], b"", b"\xff"]
        {
            assert_eq!(read(Topic::Orders, Some(value), &mut canon), Reading::Dead);
            assert!(decode(Topic::Orders, Some(value)).is_err());
        }
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    }

    /// The row of an event in its ledger; a heartbeat has none.
    fn ledger_row(event: &dataflows::model::Event) -> Option<dataflows::row::Row> {
        use dataflows::ledger::{Origin, Sourced, ledger_row};
        use dataflows::model::{Event, Record};

        fn row<E: Record>(event: &E) -> dataflows::row::Row {
            ledger_row(0, &Sourced { origin: Origin::default(), event: event.clone() })
        }
        Some(match event {
            Event::User(event) => row(event),
            Event::Product(event) => row(event),
            Event::Order(event) => row(event),
            Event::Scenario(event) => row(event),
            Event::Heartbeat(_) => return None,
        })
    }

    /// Whatever a value is: both readers say the same of it, and what is an event is the same event
    /// after it was written again, and after it went through a row of the ledger.
    #[test]
    fn fuzz_records() {
        use dataflows::model::{self, codec::decode};
        use dataflows::row::Fields as Columns;

        let value = |line: &Vec<u8>| {
            let at = line.windows(9).position(|it| it == b",\"value\":").map(|at| at + 9);
            at.map(|at| line[at..line.len() - 2].to_vec())
        };
        let samples = EVENTS.iter().map(|(_, sample)| sample.as_bytes().to_vec());
        let seeds = samples.chain(crate::fuzz::lines().iter().filter_map(value));
        crate::fuzz::fuzz!(300_000, seeds, |input| {
            let (mut canon, mut is_past) = (Canon::default(), false);
            for topic in Topic::ALL {
                let ours = read(topic, Some(&input.0), &mut canon);
                let event = match (&ours, decode(topic, Some(&input.0))) {
                    (Reading::Dead, Err(reason)) => {
                        assert!(!reason.to_string().contains('\0'), "{reason}");
                        continue;
                    }
                    (Reading::Heartbeat { at }, Ok(model::Event::Heartbeat(other))) => {
                        assert_eq!(*at, (other - POSTGRES_EPOCH) * 1000);
                        model::Event::Heartbeat(other)
                    }
                    (Reading::Event(ours), Ok(event)) if event.event_id().is_some() => {
                        assert_eq!(Some(ours.event_id), event.event_id());
                        assert_eq!(ours.at, (event.at() - POSTGRES_EPOCH) * 1000);
                        event
                    }
                    (ours, theirs) => panic!("{topic:?}: {ours:?} here, {theirs:?} there"),
                };
                is_past = true;
                let mut again = Vec::new();
                event.write(&mut again);
                assert_eq!(decode(topic, Some(&again)).as_ref(), Ok(&event));
                assert_eq!(read(topic, Some(&again), &mut canon), ours);
                if let Some(row) = ledger_row(&event) {
                    let mut columns = Columns(row.value());
                    let (event_id, _, _) = dataflows::ledger::place(topic, &mut columns);
                    assert_eq!(
                        model::Event::take(topic, event_id, &mut columns).as_ref(),
                        Ok(&event)
                    );
                    assert!(columns.0.is_empty(), "more columns than fields");
                }
            }
            is_past
        });
    }
}
