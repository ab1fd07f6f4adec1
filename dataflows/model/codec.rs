//! The log's encoding: what a record may be to be read as an event, and what is said of one that is none.
//!
//! [`decode`] is the border: what passes it keeps every rule of the contract, so nothing behind it
//! checks again, and what does not pass becomes a dead letter with a [`Reason`]. It looks at one
//! record alone. What an event's fields are, the model says.

use std::fmt;

use super::{Event, Topic};

/// The largest value that can be an event, in bytes.
pub const VALUE_MAX: usize = 1 << 20;

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

/// Reads a record's value, or says why it is a dead letter.
pub fn decode(topic: Topic, value: Option<&[u8]>) -> Result<Event, Reason> {
    let value = value.ok_or_else(|| Reason::new("the record has no value"))?;
    if value.len() > VALUE_MAX {
        return Err(Reason(format!("the value has {} bytes, more than {VALUE_MAX}", value.len())));
    }
    // Checked once as a whole, also in fields that are ignored.
    let value =
        str::from_utf8(value).map_err(|e| Reason(format!("not a JSON object: not UTF-8, {e}")))?;
    Event::read(topic, value).map_err(|why| Reason::new(&why))
}

/// Appends a record as the line of text that `marketday import` takes; the value must be JSON.
pub fn ndjson_line(topic: Topic, key: Option<&[u8]>, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":\"");
    out.extend_from_slice(topic.name().as_bytes());
    out.extend_from_slice(b"\",\"key\":");
    let key = key.map(String::from_utf8_lossy);
    serde_json::to_writer(&mut *out, &key).expect("memory takes it, and it is a text");
    out.extend_from_slice(b",\"value\":");
    out.extend_from_slice(value);
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use crate::model::time::{TIME_END, TIME_MIN, day_of_date};
    use crate::model::{
        AMOUNT_MAX, Category, Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, Product,
        ProductEvent, ProductId, ScenarioAction, ScenarioEvent, Sex, Status, Strength, User,
        UserEvent, UserId, Word,
    };
    use chrono::NaiveDate;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn decoded(topic: Topic, text: &str) -> Result<Event, String> {
        decode(topic, Some(text.as_bytes())).map_err(|e| e.to_string())
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
                let place = if name == "categories" { "number 2: " } else { "" };
                if valid {
                    read.unwrap();
                } else {
                    assert_eq!(read, Err(format!("`{name}`: {place}longer than 200 bytes")));
                }
            }
        }
        let line = |text: &str| order_of(["a".to_owned(), text.to_owned()].into_iter(), 1, 1);
        decoded(Topic::Orders, &line(&longest)).unwrap();
        let escaped = line(&longest).replace("가", "\\uac00");
        assert_eq!(decoded(Topic::Orders, &escaped), decoded(Topic::Orders, &line(&longest)));
        let reason = decoded(Topic::Orders, &line(&long)).unwrap_err();
        assert_eq!(reason, "`lines`: number 2: `category`: longer than 200 bytes");
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
            decode(topic, None).expect_err("no value");
            decode(topic, Some(b"{\"more\":\"\xff\"}")).expect_err("not UTF-8");
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

    fn encoded(event: &Event) -> Vec<u8> {
        let mut out = Vec::new();
        event.write(&mut out);
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
        let day = |y, m, d| day_of_date(NaiveDate::from_ymd_opt(y, m, d).unwrap());
        let days = || day(1900, 1, 1)..=day(2099, 12, 31);
        let status = prop::sample::select(vec![Status::Active, Status::Dormant, Status::Withdrawn]);
        let user = (
            (any::<u64>(), time(), id(), word(), days()),
            (any::<bool>(), word(), status, any::<bool>(), time()),
        )
            .prop_map(|((event_id, at, user_id, name, birth_date), rest)| {
                let (female, region, status, marketing_consent, signed_up_at) = rest;
                let sex = if female { Sex::F } else { Sex::M };
                let user = User {
                    user_id: UserId(user_id),
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
                    let category = Category::from(&*category);
                    let (product_id, price) = (ProductId(product_id), Krw(price));
                    let product = Product { product_id, name, category, price, stock, listed_at };
                    (Topic::Products, Event::Product(ProductEvent { event_id, at, product }))
                });
        let line = (id(), word(), 1..=1_000_000_i64, 0..=1_000_000_000_i64).prop_map(
            |(product_id, category, quantity, unit_price)| {
                let category = Category::from(&*category);
                // A fourth of the greatest amount.
                let unit_price = Krw(unit_price.min(AMOUNT_MAX.0 / 4 / quantity));
                Line { product_id: ProductId(product_id), category, quantity, unit_price }
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
                let (order_id, user_id) = (OrderId(order_id), UserId(user_id));
                let lines = lines.into();
                let order = Order { event: kind, order_id, user_id, at, ordered_at, lines };
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
            prop_assert_eq!(decode(topic, Some(&value)), Ok(event));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for topic in Topic::ALL {
                let _ = decode(topic, Some(&bytes));
            }
        }

        #[test]
        fn no_damage_does_harm((topic, event) in events(), cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let mut value = encoded(&event);
            for (place, byte) in cuts {
                let place = place.index(value.len());
                value[place] = byte;
            }
            if let Err(reason) = decode(topic, Some(&value)) {
                prop_assert!(!reason.to_string().contains('\0'));
            }
        }
    }
}
