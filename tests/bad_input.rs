//! A bad record becomes a dead letter and nothing else: whatever is in the log, the tables are
//! those of its good events alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dataflows::model::Topic;
use marketday::log::{Log, embedded};
use postgres::Client;
use serde_json::{Value, json};

use crate::support::{
    analytics, case, command, connect, database_url, fresh_database, marketday, records, refused,
    scratch, tables, with_database,
};

const DAY: i64 = 86_400_000;
const AT: i64 = 1_790_000_000_000;

/// A record of an import: topic, key and value.
type Line = (Topic, String, String);

/// A bad record's value, and words of the reason why it is dead.
type Bad = (Topic, Vec<u8>, &'static str);

fn user(event_id: u64, user_id: i64, name: &str) -> Value {
    json!({"event_id": event_id, "at": AT, "user_id": user_id, "name": name,
           "birth_date": "1990-05-05", "sex": "F", "region": "서울", "status": "ACTIVE",
           "marketing_consent": true, "signed_up_at": AT})
}

fn product(event_id: u64, product_id: i64) -> Value {
    json!({"event_id": event_id, "at": AT, "product_id": product_id, "name": "쌀",
           "category": "식품", "price": 900, "stock": 5, "listed_at": AT})
}

fn order(event_id: u64, event: &str, order_id: i64, user_id: i64, after: i64) -> Value {
    let ordered_at = AT + order_id * 60_000;
    json!({"event_id": event_id, "at": ordered_at + after, "event": event, "order_id": order_id,
           "user_id": user_id, "ordered_at": ordered_at,
           "lines": [{"product_id": 1, "category": "식품", "quantity": 2, "unit_price": 900_000},
                     {"product_id": 99, "category": "책", "quantity": 1, "unit_price": order_id}]})
}

/// A line of an order, of one won.
fn short_line(category: &str) -> Value {
    json!({"product_id": 1, "category": category, "quantity": 1, "unit_price": 1})
}

fn scenario(event_id: u64) -> Value {
    json!({"event_id": event_id, "at": AT, "occurrence": "sale-2026", "name": "sale",
           "action": "start", "strength": 1.5, "categories": ["식품"]})
}

fn line(topic: Topic, key: i64, value: &Value) -> Line {
    (topic, key.to_string(), value.to_string())
}

/// Good events, those that must be counted, in two parts: before and after a restart.
fn good() -> [Vec<Line>; 2] {
    let mut late = order(8, "placed", 8, 2, 0);
    late["at"] = json!(AT - 30 * DAY);
    late["ordered_at"] = late["at"].clone();
    let mut long = order(u64::MAX, "placed", 10, 2, 0);
    long["lines"] = vec![long["lines"][0].clone(); 160].into();
    // As many lines, categories and won as may be, and words as long as may be.
    let mut most = order(14, "placed", 14, 1, 0);
    let key = |number: usize| format!("{number:02}{}", "가".repeat(66));
    most["lines"] = (0..10_000).map(|number| short_line(&format!("{}", number % 100))).collect();
    let mut longest = order(15, "placed", 15, 2, 0);
    longest["lines"] = (0..100).map(|number| short_line(&key(number))).collect();
    longest["lines"][0]["quantity"] = json!(1_000);
    longest["lines"][0]["unit_price"] = json!(1_000_000_000 - 1);
    let mut sale = scenario(1);
    (sale["name"], sale["occurrence"]) = (json!(key(1)), json!(key(2)));
    sale["categories"] = json!([key(3), ""]);
    let mut padded = user(3, 3, "padded");
    padded["more"] = json!({"at": "ignored", "deep": [[[1.5]]]});
    [
        vec![
            line(Topic::Users, 1, &user(0, 1, "김서연")),
            line(Topic::Users, 2, &user(1, 2, "둘")),
            line(Topic::Users, 2, &user(2, 2, "둘째")),
            line(Topic::Users, 3, &padded),
            line(Topic::Products, 1, &product(0, 1)),
            line(Topic::Products, 0, &product(1, 0)),
            line(Topic::Scenarios, 1, &scenario(0)),
            line(Topic::Orders, 1, &order(0, "placed", 0, 1, 0)),
            line(Topic::Orders, 1, &order(1, "placed", 1, 1, 0)),
            line(Topic::Orders, 2, &order(3, "refunded", 3, 2, 2 * DAY)), // before its order
            line(Topic::Orders, 2, &order(4, "placed", 3, 2, 0)),
            line(Topic::Orders, 77, &order(5, "placed", 5, 77, 0)), // of a customer nobody knows
            line(Topic::Orders, 1, &order(6, "cancelled", 1, 1, 5000)),
            line(Topic::Orders, 1, &order(7, "placed", 7, 1, 0)),
            line(Topic::Orders, 3, &order(20, "placed", 40 * 1440, 3, 0)), // 40 days on
            line(Topic::Orders, 2, &late),
        ],
        vec![
            line(Topic::Orders, 1, &order(9, "placed", 9, 1, 0)),
            line(Topic::Orders, 2, &long),
            line(Topic::Orders, 1, &most),
            line(Topic::Orders, 2, &longest),
            line(Topic::Scenarios, 2, &sale),
            line(Topic::Orders, 1, &order(11, "refunded", 0, 1, DAY)),
            line(Topic::Users, 77, &user(9, 77, "late to be known")),
            line(Topic::Orders, 1, &order(12, "cancelled", 7, 1, DAY)),
        ],
    ]
}

/// Copies: they change nothing. They follow what they copy.
fn copies() -> [Vec<Line>; 2] {
    let first = vec![
        line(Topic::Users, 1, &user(0, 1, "김서연")),
        line(Topic::Users, 9, &user(0, 1, "김서연")), // the same event with another key
        line(Topic::Products, 1, &product(0, 1)),
        line(Topic::Scenarios, 1, &scenario(0)),
        line(Topic::Orders, 1, &order(0, "placed", 0, 1, 0)),
        line(Topic::Orders, 5, &order(1, "placed", 1, 1, 0)),
    ];
    let again = vec![
        line(Topic::Users, 2, &user(2, 2, "둘째")),
        line(Topic::Orders, 1, &order(6, "cancelled", 1, 1, 5000)),
    ];
    [first, again]
}

/// Orders placed or cancelled once more, later or with a greater id: in the ledger, and nowhere else.
fn superseded() -> [Vec<Line>; 2] {
    let first = vec![
        line(Topic::Orders, 2, &order(100, "placed", 3, 2, 0)),
        line(Topic::Orders, 1, &order(101, "cancelled", 1, 1, 9000)),
    ];
    let again = vec![
        line(Topic::Orders, 1, &order(102, "cancelled", 1, 1, 5000)),
        line(Topic::Orders, 1, &order(103, "placed", 0, 1, 0)),
    ];
    [first, again]
}

/// Other events under ids that are used up, one of them by an event that counts nowhere.
fn conflicts() -> [Vec<Line>; 2] {
    [
        vec![line(Topic::Orders, 1, &order(0, "placed", 900, 1, 0))],
        vec![line(Topic::Orders, 2, &order(100, "placed", 0, 2, 0))],
    ]
}

/// A value with one field replaced by the given text.
fn with(value: &Value, field: &str, text: &str) -> String {
    let mut value = value.clone();
    value[field] = json!("HERE");
    value.to_string().replace("\"HERE\"", text)
}

/// What is longer, more or dearer than a table can take: a field and its value.
fn beyond_limits() -> Vec<(Topic, &'static str, String, &'static str)> {
    let long = "가".repeat(67);
    let text = json!(long).to_string();
    let lines = |lines: usize, words: usize, quantity: i64| -> String {
        let line = |place: usize| {
            let mut line = short_line(&(place % words).to_string());
            line["quantity"] = json!(quantity);
            line["unit_price"] = json!(1_000_000_000);
            line
        };
        json!((0..lines).map(line).collect::<Vec<_>>()).to_string()
    };
    let unlike = json!([short_line("a"), short_line(&long)]).to_string();
    let motley = lines(101, 101, 1);
    let dear = "amount of `lines` is more than 1000000000000";
    vec![
        (Topic::Products, "category", text.clone(), "`category`: longer than 200 bytes"),
        (Topic::Scenarios, "name", text.clone(), "`name`: longer than 200 bytes"),
        (Topic::Scenarios, "occurrence", text, "`occurrence`: longer than 200 bytes"),
        (
            Topic::Scenarios,
            "categories",
            json!(["a", long]).to_string(),
            "`categories`: number 2: longer than 200 bytes",
        ),
        (Topic::Orders, "lines", unlike, "number 2: `category`: longer than 200 bytes"),
        (Topic::Orders, "lines", lines(10_001, 1, 1), "`lines` has 10001 lines, more than 10000"),
        (Topic::Orders, "lines", motley, "101 different `category`, more than 100"),
        (Topic::Orders, "lines", lines(1_001, 1, 1), dear),
        // Together they would leave an i64.
        (Topic::Orders, "lines", lines(9_999, 1, 1_000_000), dear),
    ]
}

/// What no event can be. The times that can be read are of the year 2099: `now` must not see them.
/// The ids are those of good events that come later.
fn bad() -> Vec<Bad> {
    let far = 4_090_000_000_000_i64;
    let mut order = order(9, "placed", 9, 1, 0);
    order["at"] = json!(far);
    order["ordered_at"] = json!(far);
    let (user, product, scenario) = (user(9, 77, "n"), product(9, 9), scenario(9));
    let mut bad: Vec<Bad> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut add = |topic, value: &[u8], reason| {
        assert!(seen.insert((topic, value.to_vec())), "a value is found again by its bytes");
        bad.push((topic, value.to_vec(), reason));
    };
    for (topic, value) in [
        (Topic::Users, &user),
        (Topic::Products, &product),
        (Topic::Orders, &order),
        (Topic::Scenarios, &scenario),
    ] {
        for text in ["[]", "1", "null", "\"at\"", "", "{", "[[1],[2]]"] {
            add(topic, text.as_bytes(), "not a JSON object");
        }
        for text in ["{}", "{} {}", "{\"more\":[[1],[2]]}"] {
            add(topic, text.as_bytes(), "`event_id` is missing");
        }
        add(topic, "[".repeat(100_000).as_bytes(), "not a JSON object");
        let whole = value.to_string();
        add(topic, &[whole.as_bytes(), b" \xff"].concat(), "not UTF-8");
        add(topic, format!("{whole}{}", " ".repeat(1 << 20)).as_bytes(), "more than 1048576");
        add(topic, format!("[{whole}]").as_bytes(), "not a JSON object");
        for (text, reason) in [
            ("9.0", "`event_id`"),
            ("-1", "`event_id`: "),
            ("\"9\"", "`event_id`"),
            ("true", "`event_id`"),
            ("18446744073709551616", "`event_id`"),
        ] {
            add(topic, with(value, "event_id", text).as_bytes(), reason);
        }
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        for text in ["0", "631151999999", "4102444800000", "null", &deep] {
            add(topic, with(value, "at", text).as_bytes(), "`at`");
        }
        let mut without = value.clone();
        without.as_object_mut().unwrap().remove("event_id");
        add(topic, without.to_string().as_bytes(), "`event_id` is missing");
    }
    for (topic, value, field, text, reason) in [
        (Topic::Users, &user, "user_id", "9223372036854775808", "`user_id`"),
        (Topic::Users, &user, "name", "\"a\\u0000b\"", "`name`"),
        (Topic::Users, &user, "birth_date", "\"2023-02-29\"", "`birth_date`"),
        (Topic::Users, &user, "sex", "\"X\"", "`sex`"),
        (Topic::Users, &user, "status", "\"GONE\"", "`status`"),
        (Topic::Users, &user, "marketing_consent", "1", "`marketing_consent`"),
        (Topic::Products, &product, "price", "1000000001", "`price`"),
        (Topic::Products, &product, "price", "9.5", "`price`"),
        (Topic::Products, &product, "stock", "-1", "`stock`"),
        (Topic::Products, &product, "category", "\"\\u0000\"", "`category`"),
        (Topic::Orders, &order, "order_id", "1.0", "`order_id`"),
        (Topic::Orders, &order, "user_id", "-1", "`user_id`"),
        (Topic::Orders, &order, "event", "\"paid\"", "`event`"),
        (Topic::Orders, &order, "ordered_at", "4089999999999", "ordered_at"),
        (Topic::Orders, &order, "lines", "[]", "`lines`"),
        (Topic::Orders, &order, "lines", "[[1,\"c\",1,1]]", "`lines`"),
        (
            Topic::Orders,
            &order,
            "lines",
            r#"[{"product_id":1,"category":"c","quantity":0,"unit_price":1}]"#,
            "`quantity`",
        ),
        (
            Topic::Orders,
            &order,
            "lines",
            r#"[{"product_id":1,"category":"c","quantity":1,"unit_price":1000000001}]"#,
            "`unit_price`",
        ),
        (Topic::Scenarios, &scenario, "strength", "0", "`strength`"),
        (Topic::Scenarios, &scenario, "strength", "1e999", "`strength`"),
        (Topic::Scenarios, &scenario, "action", "\"begin\"", "`action`"),
        (Topic::Scenarios, &scenario, "categories", "[1]", "`categories`"),
    ] {
        add(topic, with(value, field, text).as_bytes(), reason);
    }
    for (topic, field, text, reason) in beyond_limits() {
        let values = [(Topic::Products, &product), (Topic::Scenarios, &scenario)];
        let value = values.into_iter().find(|(it, _)| *it == topic).map_or(&order, |it| it.1);
        add(topic, with(value, field, &text).as_bytes(), reason);
    }
    add(Topic::Orders, br#"{"event":"heartbeat"}"#, "`at` is missing");
    add(Topic::Orders, br#"{"event":"heartbeat","at":4102444800000}"#, "`at`");
    let back = order.to_string().replace("placed", "cancelled");
    let back = back.replace("\"at\":4090000000000", "\"at\":4089999999999");
    add(Topic::Orders, back.as_bytes(), "at");
    bad
}

fn import(dir: &Path, lines: &[Line]) -> String {
    let text: Vec<String> = lines
        .iter()
        .map(|(topic, key, value)| {
            format!(r#"{{"topic":"{}","key":"{key}","value":{value}}}"#, topic.name())
        })
        .collect();
    let file = dir.with_extension("ndjson");
    fs::write(&file, text.join("\n")).unwrap();
    let import = ["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()];
    // Conflicts among them are meant.
    marketday(&[&import[..], &["--max-rejects", "100"]].concat())
}

/// Puts values into the log as any producer might, spread over the partitions.
fn append(dir: &Path, bad: &[Bad]) {
    let log = embedded::open(&dir.join("log")).unwrap();
    let mut writer = log.writer().unwrap();
    for (place, (topic, value, _)) in bad.iter().enumerate() {
        let partition = place as u32 % log.partitions(*topic);
        let key = [None, Some(&b"\xff\0"[..])][place % 2];
        writer.append(*topic, partition, i64::MAX - place as i64, key, value).unwrap();
    }
    writer.flush().unwrap();
}

/// Where the log holds each bad value, and why it is dead.
fn where_bad(log: &dyn Log, bad: &[Bad]) -> BTreeMap<(String, i64, i64), &'static str> {
    let reasons: BTreeMap<_, _> =
        bad.iter().map(|(topic, value, reason)| ((*topic, &value[..]), *reason)).collect();
    let mut places = BTreeMap::new();
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            for record in records(log, topic, partition).iter() {
                if let Some(reason) = reasons.get(&(topic, record.value.unwrap())) {
                    let place =
                        (topic.name().to_owned(), i64::from(partition), record.offset as i64);
                    places.insert(place, *reason);
                }
            }
        }
    }
    places
}

#[test]
fn bad_records_become_dead_letters_and_nothing_else() {
    let bad = bad();
    let (before, after) = bad.split_at(bad.len() / 2);
    let scratch = scratch();
    let (dirty, clean) = (scratch.join("dirty"), scratch.join("clean"));
    let [good_first, good_then] = good();
    let conflicting = conflicts().concat();
    let more =
        |part: usize| [&copies()[part][..], &superseded()[part], &conflicts()[part]].concat();

    // The bad ones come before the good ones whose ids they carry.
    let database = fresh_database();
    append(&dirty, before);
    import(&dirty, &good_first);
    import(&dirty, &more(0));
    analytics(&dirty, &database, "2");
    append(&dirty, after);
    import(&dirty, &good_then);
    import(&dirty, &more(1));
    analytics(&dirty, &database, "3");

    let db = &mut connect(&database);
    let sums = db
        .query_one(
            "SELECT sum(counted)::bigint, sum(duplicate)::bigint, sum(dead)::bigint
             FROM commit_offsets",
            &[],
        )
        .unwrap();
    let counted = good_first.len() + good_then.len() + superseded().concat().len();
    assert_eq!(sums.get::<_, i64>(0) as usize, counted, "counted");
    assert_eq!(sums.get::<_, i64>(1) as usize, copies().concat().len(), "duplicates");
    assert_eq!(sums.get::<_, i64>(2) as usize, bad.len() + conflicting.len(), "dead");

    let log = embedded::open(&dirty.join("log")).unwrap();
    let conflicting = conflicting
        .into_iter()
        .map(|(topic, _key, value)| (topic, value.into_bytes(), "is that of another event"));
    let dead: Vec<Bad> = bad.iter().cloned().chain(conflicting).collect();
    let mut expected = where_bad(&*log, &dead);
    assert_eq!(expected.len(), dead.len());
    for row in
        db.query("SELECT topic, partition, \"offset\", reason FROM dead_letters", &[]).unwrap()
    {
        let place = (row.get(0), row.get(1), row.get(2));
        let reason: String = row.get(3);
        let words = expected.remove(&place);
        assert!(words.is_some_and(|words| reason.contains(words)), "{place:?} {words:?}: {reason}");
    }
    assert_eq!(expected, BTreeMap::new(), "these are no dead letters");

    let only_good = fresh_database();
    import(&clean, &good_first);
    import(&clean, &good_then);
    analytics(&clean, &only_good, "1");
    assert_eq!(tables(&database), tables(&only_good));
}

#[test]
fn lines_that_are_no_records_are_listed_and_do_not_reach_the_log() {
    let dir = scratch().join("market");
    let good = line(Topic::Users, 1, &user(0, 1, "n"));
    import(&dir, std::slice::from_ref(&good));
    let file = dir.with_extension("txt");
    fs::write(&file, "\n[1]\n{\"topic\":\"carts\",\"key\":\"1\",\"value\":{}}\nnot json\n")
        .unwrap();
    let args = ["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()];
    let output = command(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = said.lines().collect();
    let none = "0 records imported (0 valid, 0 duplicate, 0 conflict, 0 dead), 4 lines refused";
    assert_eq!(said[0], none);
    for (place, number) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        assert!(said[place].starts_with(&format!("line {number}: ")), "{said:?}");
    }
    assert!(said[3].contains("carts"), "{said:?}");
    let database = fresh_database();
    analytics(&dir, &database, "1");
    assert_eq!(tables(&database)["users"].len(), 1);
}

/// As after a topic was deleted and made again, or a log restored from a copy of somebody else's.
#[test]
fn a_log_that_holds_other_records_than_were_read_is_told() {
    let dir = scratch().join("market");
    let put = |topic: Topic, values: &[String]| {
        let log = embedded::open(&dir.join("log")).unwrap();
        let mut writer = log.writer().unwrap();
        for value in values {
            writer.append(topic, 0, AT, None, value.as_bytes()).unwrap();
        }
        writer.flush().unwrap();
    };
    let orders = |ids: std::ops::Range<i64>| -> Vec<String> {
        ids.map(|id| order(id as u64, "placed", id, id, 0).to_string()).collect()
    };
    let dead = |ids: std::ops::Range<i64>| ids.map(|id| format!("no event {id}")).collect();
    let arguments = ["analytics", "--exit-when-caught-up", "--dir", dir.to_str().unwrap()];
    for (topic, read, now) in [
        (Topic::Orders, orders(0..20), orders(100..130)),
        (Topic::Orders, orders(0..20), [orders(0..19), orders(100..130)].concat()),
        // As if some of it had been counted before it was noticed.
        (Topic::Orders, orders(0..20), [orders(100..112), orders(12..30)].concat()),
        (Topic::Users, dead(0..20), dead(100..130)),
    ] {
        let database = fresh_database();
        put(topic, &read);
        with_database(&arguments, &database);
        let identity = fs::read(dir.join("log/log.json")).unwrap();
        fs::remove_dir_all(dir.join("log")).unwrap();
        put(topic, &now);
        fs::write(dir.join("log/log.json"), identity).unwrap();
        let mut again = command(&arguments);
        let name = format!("{}-0 is not the one that was read", topic.name());
        refused(again.env("DATABASE_URL", database_url(&database)), &name);
        fs::remove_dir_all(dir.join("log")).unwrap();
    }
}

/// Imports a file of `tests/cases`: the reasons of its dead letters, and the store, which `verify`
/// finds right.
fn read_case(file: &str) -> (Vec<String>, Client) {
    let (dir, database) = (scratch().join("market"), fresh_database());
    // Whether it tells of dead ones by its exit is not looked at here.
    let mut import =
        command(&["import", case(file).to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
    import.output().unwrap();
    // The second run finds nothing new, and nothing that stops it.
    analytics(&dir, &database, "2");
    analytics(&dir, &database, "1");
    let mut db = connect(&database);
    let sql = "SELECT reason FROM dead_letters ORDER BY topic, partition, \"offset\"";
    let reasons = db.query(sql, &[]).unwrap();
    (reasons.iter().map(|row| row.get(0)).collect(), db)
}

fn rows<const N: usize>(db: &mut Client, tables: [&str; N]) -> [i64; N] {
    let count = |table| format!("SELECT count(*) FROM {table}");
    tables.map(|table| db.query_one(&count(table), &[]).unwrap().get(0))
}

#[test]
fn a_word_that_no_index_can_hold_is_a_dead_letter() {
    let (dead, mut db) = read_case("02-long-category/category_2800.ndjson");
    assert_eq!(dead, ["`lines`: number 1: `category`: longer than 200 bytes"]);
    let held = rows(&mut db, ["users", "products", "order_events", "basket_pairs"]);
    assert_eq!(held, [2, 1, 1, 0]);

    // Names and regions are no keys.
    let (dead, mut db) = read_case("02-long-category/names_20000.ndjson");
    assert_eq!(dead, ["`category`: longer than 200 bytes"]);
    assert_eq!(rows(&mut db, ["users", "products", "order_events"]), [3, 1, 2]);
    let long = "users WHERE length(name) = 20000 AND length(region) = 20000";
    assert_eq!(rows(&mut db, [long]), [1]);
}

#[test]
fn what_other_tools_write_is_dead_and_the_reason_names_the_field() {
    let (dead, mut db) = read_case("06-other-tools-forms/input.ndjson");
    let fields = [
        "`at`: ",
        "`at`: ",
        "`at`: ",
        "`at`: ",
        "`user_id`: ",
        "`event_id`: ",
        "`order_id`: ",
        "`lines`: number 1: `unit_price`: ",
        "`lines`: number 1: `unit_price` is missing",
        "`lines`: number 1: `quantity`: ",
        "`user_id`: ",
        "`event_id` is missing",
        "`event_id` is missing",
        "`at`: ",
        "`user_id` is given twice",
    ];
    assert_eq!(dead.len(), fields.len(), "{dead:#?}");
    for (reason, field) in dead.iter().zip(fields) {
        assert!(reason.starts_with(field), "{field} {reason}");
    }
    assert_eq!(rows(&mut db, ["users", "products", "order_events"]), [2, 1, 0]);
}
