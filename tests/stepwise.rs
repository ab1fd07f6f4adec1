//! What the tables say is a function of the log: when it was read, by how many workers, and how often
//! they ended in between changes nothing.

use std::path::Path;

use dataflows::model::Topic;
use marketday::log::embedded;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::{
    analytics, case, connect, fresh_database, marketday, scratch, tables, with_database,
};

const STORIES: usize = 1_000;
const PARTITIONS: u32 = 3;
const HOUR: i64 = 3_600_000;
const AT: i64 = 1_790_000_000_000;

/// A record: topic, partition and value.
type Told = (Topic, u32, Value);

/// What else comes under an event's id.
#[derive(Clone, Debug)]
enum More {
    Nothing,
    /// The same event once more, in any partition.
    Copy(u32),
    /// Another event, in the same partition: of several, the one committed first would count.
    Conflict,
}

/// An event of an order of a story, without its id.
#[derive(Clone, Debug)]
struct Event {
    kind: usize,
    user: i64,
    order: i64,
    ordered_at: i64,
    after: i64,
    quantity: i64,
    partition: u32,
    more: More,
}

/// Events of two orders by each of two customers, with ties in time; an order is told in several
/// partitions, placed and cancelled more than once, by both customers under one number.
fn story(random: &mut ChaCha8Rng) -> Vec<Event> {
    let count = random.random_range(1..9);
    let event = |_| Event {
        kind: random.random_range(0..3),
        user: random.random_range(0..2),
        order: random.random_range(0..2),
        ordered_at: AT + random.random_range(0..200) * 7 * HOUR,
        after: random.random_range(0..4) * 5 * HOUR,
        quantity: random.random_range(1..4),
        partition: random.random_range(0..PARTITIONS),
        more: match random.random_range(0..9) {
            0..6 => More::Nothing,
            6..8 => More::Copy(random.random_range(0..PARTITIONS)),
            _ => More::Conflict,
        },
    };
    (0..count).map(event).collect()
}

fn order_event(event_id: usize, story: usize, event: &Event, quantity: i64) -> Value {
    let kind = ["placed", "cancelled", "refunded"][event.kind];
    let after = if event.kind == 0 { 0 } else { event.after };
    json!({"event_id": event_id, "at": event.ordered_at + after, "event": kind,
           "order_id": event.order, "user_id": 2 * story as i64 + event.user,
           "ordered_at": event.ordered_at,
           "lines": [{"product_id": event.quantity, "category": "책", "quantity": quantity,
                      "unit_price": 250_000},
                     {"product_id": 9, "category": "식품", "quantity": 1, "unit_price": 100_000}]})
}

/// The records of all stories, in an order of their own.
fn records(stories: &[Vec<Event>]) -> Vec<Told> {
    let mut records = Vec::new();
    let mut event_id = 0;
    for (story, events) in stories.iter().enumerate() {
        if story % 2 == 0 {
            let user = json!({"event_id": story, "at": AT, "user_id": 2 * story, "name": "이름",
                "birth_date": "1990-05-05", "sex": "F", "region": "서울", "status": "ACTIVE",
                "marketing_consent": true, "signed_up_at": AT});
            records.push((Topic::Users, 0, user));
        }
        for event in events {
            let mut tell = |partition, quantity| {
                let value = order_event(event_id, story, event, quantity);
                records.push((Topic::Orders, partition, value));
            };
            tell(event.partition, event.quantity);
            match event.more {
                More::Nothing => {}
                More::Copy(partition) => tell(partition, event.quantity),
                More::Conflict => tell(event.partition, event.quantity + 5),
            }
            event_id += 1;
        }
    }
    for product_id in [1, 2, 9] {
        let product = json!({"event_id": product_id, "at": AT, "product_id": product_id,
            "name": "쌀", "category": "식품", "price": 900, "stock": 5, "listed_at": AT});
        records.push((Topic::Products, 0, product));
    }
    records
}

fn append(dir: &Path, records: &[Told]) {
    let log = embedded::open(&dir.join("log")).unwrap();
    assert_eq!(log.partitions(Topic::Orders), PARTITIONS);
    let mut writer = log.writer().unwrap();
    for (topic, partition, value) in records {
        let at = value["at"].as_i64().unwrap();
        writer.append(*topic, *partition, at, None, value.to_string().as_bytes()).unwrap();
    }
    writer.flush().unwrap();
}

#[test]
fn stories_read_in_steps_give_what_they_give_at_once() {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    let stories: Vec<Vec<Event>> = (0..STORIES).map(|_| story(random)).collect();
    let mut records = records(&stories);
    records.shuffle(random);
    // Then all have reached one time: it is what `now` is, whatever it was in between.
    let heartbeats: Vec<Told> = (0..PARTITIONS)
        .map(|partition| {
            let end = AT + 2_000 * HOUR;
            (Topic::Orders, partition, json!({"event": "heartbeat", "at": end}))
        })
        .collect();

    let (at_once, database) = (scratch().join("at-once"), fresh_database());
    append(&at_once, &records);
    append(&at_once, &heartbeats);
    analytics(&at_once, &database, "1");

    let (in_steps, stepwise) = (scratch().join("in-steps"), fresh_database());
    let mut cuts: Vec<usize> = (0..9).map(|_| random.random_range(0..records.len())).collect();
    cuts.push(records.len());
    cuts.sort_unstable();
    let mut from = 0;
    for (step, to) in cuts.into_iter().enumerate() {
        append(&in_steps, &records[from..to]);
        from = to;
        analytics(&in_steps, &stepwise, ["1", "3", "2"][step % 3]);
    }
    append(&in_steps, &heartbeats);
    analytics(&in_steps, &stepwise, "2");
    assert_eq!(tables(&stepwise), tables(&database));

    let superseded = "SELECT (SELECT count(*) FROM order_events)
                             - (SELECT count(*) FROM counted_order_events)";
    let superseded: i64 = connect(&database).query_one(superseded, &[]).unwrap().get(0);
    assert!(superseded > 400, "{superseded} of {}", records.len());
}

/// A file is imported whole, its later half before its earlier one, and who and what is sold before or
/// after all that is bought.
#[test]
fn the_parts_of_a_file_may_come_in_any_order() {
    let customers = (0..20).map(|user| {
        let value = json!({"event_id": user, "at": AT, "user_id": user, "name": "이름",
            "birth_date": "1990-05-05", "sex": "F", "region": "서울", "status": "ACTIVE",
            "marketing_consent": true, "signed_up_at": AT});
        json!({"topic": "users", "key": user.to_string(), "value": value})
    });
    let product = json!({"event_id": 1, "at": AT, "product_id": 1, "name": "쌀", "category": "식품",
        "price": 900, "stock": 5, "listed_at": AT});
    let product = json!({"topic": "products", "key": "1", "value": product});
    let known: Vec<Value> = customers.chain([product]).collect();
    // A month of orders, of which each third is taken back a week later.
    let mut orders: Vec<Value> = (0..240)
        .flat_map(|order| {
            let (user, at) = (order * 7 % 20, AT + order * 3 * HOUR);
            let tell = |event_id: i64, event: &str, at: i64| {
                let value = json!({"event_id": event_id, "at": at, "event": event,
                    "order_id": order, "user_id": user, "ordered_at": AT + order * 3 * HOUR,
                    "lines": [{"product_id": 1, "category": "식품", "quantity": 1 + order % 4,
                               "unit_price": 300_000}]});
                json!({"topic": "orders", "key": user.to_string(), "value": value})
            };
            let placed = tell(2 * order, "placed", at);
            let taken_back = tell(2 * order + 1, "cancelled", at + 7 * 24 * HOUR);
            [placed, taken_back].into_iter().take(if order % 3 == 0 { 2 } else { 1 })
        })
        .collect();
    orders.sort_by_key(|line| line["value"]["at"].as_i64());
    let (earlier, later) = orders.split_at(orders.len() / 2);
    let scratch = scratch();
    let outcome = |name: &str, parts: &[&[Value]]| {
        let (dir, database) = (scratch.join(name), fresh_database());
        for (n, part) in parts.iter().enumerate() {
            let file = scratch.join(format!("{name}{n}.ndjson"));
            let lines: Vec<String> = part.iter().map(Value::to_string).collect();
            std::fs::write(&file, lines.join("\n")).unwrap();
            import(&dir, &file);
            analytics(&dir, &database, ["1", "2"][n % 2]);
        }
        let now = "SELECT now::text FROM progress";
        let now: Option<String> = connect(&database).query_one(now, &[]).unwrap().get(0);
        (now, tables(&database))
    };
    let whole = outcome("whole", &[&[&known[..], &orders].concat()]);
    assert!(whole.0.is_some());
    for (name, parts) in [
        ("later-first", [&known, later, earlier]),
        ("customers-last", [earlier, later, &known]),
        ("customers-between", [later, &known, earlier]),
    ] {
        assert_eq!(outcome(name, &parts), whole, "{name}");
    }
}

/// Without heartbeats `now` waits for a partition or goes on without it, as they were read; `status` says
/// which. Heartbeats in all partitions make it a function of the offsets again.
#[test]
fn partitions_that_hold_now_back_or_are_left_out_of_it_are_named() {
    let (scratch, mut event_id) = (scratch(), 0);
    // Orders of two customers that end at an hour.
    let mut orders = |partition: u32, hour: i64| -> Vec<Told> {
        let two = [0, 1].map(|user| {
            let order = Event {
                kind: 0,
                user,
                order: 0,
                ordered_at: AT + hour * HOUR,
                after: 0,
                quantity: 1,
                partition,
                more: More::Nothing,
            };
            event_id += 1;
            (Topic::Orders, partition, order_event(event_id, event_id, &order, 1))
        });
        two.into()
    };
    let (ten, two, more) = (orders(0, 10), orders(1, 2), [orders(0, 60), orders(1, 59)]);
    let one = orders(2, 1).into_iter().take(1).collect::<Vec<_>>();
    let heartbeats: Vec<Told> = (0..PARTITIONS)
        .map(|it| (Topic::Orders, it, json!({"event": "heartbeat", "at": AT + 61 * HOUR})))
        .collect();
    let (in_steps, stepwise) = (scratch.join("in-steps"), fresh_database());
    // The lines of `status` about them, and the hours from the first one to `now`.
    let step = |records: &[&[Told]], dir: &Path, database: &postgres::Config| {
        append(dir, &records.concat());
        analytics(dir, database, "1");
        let said = with_database(&["status", "--dir", dir.to_str().unwrap()], database);
        let lines =
            said.lines().filter(|it| it.starts_with("held back") || it.starts_with("left out"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        let sql = "SELECT extract(epoch FROM now - to_timestamp($1))::bigint / 3600 FROM progress";
        let now = connect(database).query_one(sql, &[&(AT as f64 / 1000.0)]).unwrap().get(0);
        (lines, now)
    };
    let none = "left out      orders-2, where no two customers and no heartbeat have spoken: the \
                market time goes on without it";
    let held = "held back     orders-1, read up to 2026-09-22 01:13:20, 8 h 0 min behind the \
                furthest: the market time waits for it";
    let left = "left out      orders-1, read up to 2026-09-22 01:13:20, 2 d 10 h behind the \
                furthest: the market time goes on without it";
    let told =
        |lines: &[&str], now: i64| (lines.iter().map(|it| (*it).to_owned()).collect(), Some(now));
    assert_eq!(step(&[&ten, &two, &one], &in_steps, &stepwise), told(&[held, none], 2));
    assert_eq!(step(&[&more[0]], &in_steps, &stepwise), told(&[left, none], 60));
    // It was a day behind: `now` has gone on, and does not go back.
    let (_, now) = step(&[&more[1]], &in_steps, &stepwise);
    let (at_once, database) = (scratch.join("at-once"), fresh_database());
    let (_, now_at_once) = step(&[&ten, &two, &one, &more[0], &more[1]], &at_once, &database);
    assert_eq!((now, now_at_once), (Some(60), Some(59)));
    // The first after more than a day of silence stands alone.
    for (dir, database) in [(&in_steps, &stepwise), (&at_once, &database)] {
        assert_eq!(step(&[&heartbeats, &heartbeats], dir, database), told(&[], 61));
    }
}

fn import(dir: &Path, file: &Path) {
    marketday(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
}

/// An order placed by one customer, and told again for another, in two partitions.
#[test]
fn one_number_of_two_customers_is_two_orders() {
    let files = ["moved_first", "moved_second"]
        .map(|file| case(&format!("08-one-order-two-customers/{file}.ndjson")));
    let (in_steps, stepwise) = (scratch().join("in-steps"), fresh_database());
    let (at_once, database) = (scratch().join("at-once"), fresh_database());
    for file in &files {
        import(&in_steps, file);
        analytics(&in_steps, &stepwise, "2");
        import(&at_once, file);
    }
    analytics(&at_once, &database, "1");
    assert_eq!(tables(&stepwise), tables(&database));
    let orders = "SELECT user_id, count(*) FROM orders GROUP BY user_id ORDER BY user_id";
    let orders = connect(&stepwise).query(orders, &[]).unwrap();
    let orders: Vec<(i64, i64)> = orders.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(orders, [(1, 5), (2, 1)]);
}

/// One order of 2099 among those of today counts, and moves nobody's time; those of two customers do,
/// until whoever knows better says so.
#[test]
fn one_wrong_clock_does_not_move_now_and_there_is_a_way_back_from_two() {
    let (dir, database) = (scratch().join("market"), fresh_database());
    let said = |args: &[&str]| {
        with_database(&[args, &["--dir", dir.to_str().unwrap()]].concat(), &database)
    };
    let stands = || -> (String, i64, i64) {
        let sql = "SELECT (SELECT (now AT TIME ZONE 'Asia/Seoul')::text FROM progress),
                          (SELECT count(*) FROM users WHERE grade = 'GOLD'),
                          (SELECT count(*) FROM order_events)";
        let row = connect(&database).query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    let read = |file: &str| {
        import(&dir, &case(&format!("03-one-future-record/{file}.ndjson")));
        analytics(&dir, &database, "2");
        stands()
    };
    assert_eq!(read("good"), ("2026-09-21 22:13:20".to_owned(), 2, 40));
    assert!(!said(&["status"]).contains("alone"));
    assert_eq!(read("bad_clock"), ("2026-09-21 22:13:20".to_owned(), 2, 41));
    let alone = said(&["status"]);
    let line = alone.lines().find(|line| line.starts_with("alone")).unwrap();
    assert!(line.contains("offset ") && line.contains("2099-01-01 09:00:00"), "{line}");
    let later = read("later");
    assert_eq!(later, ("2026-09-21 23:23:20".to_owned(), 2, 51));

    let wrong = dir.with_extension("ndjson");
    let good = std::fs::read_to_string(case("03-one-future-record/bad_clock.ndjson")).unwrap();
    let again = |user: i64, event_id: i64| {
        let mut line: Value = serde_json::from_str(good.lines().last().unwrap()).unwrap();
        line["value"]["event_id"] = json!(event_id);
        line["value"]["user_id"] = json!(user);
        line["key"] = json!("1");
        line.to_string()
    };
    std::fs::write(&wrong, [again(7, 9_001), again(8, 9_002)].join("\n")).unwrap();
    said(&["import", wrong.to_str().unwrap(), "--until", "2026-09-21T23:23:20"]);
    analytics(&dir, &database, "2");
    assert_eq!(stands().0, "2099-01-01 09:00:00");
    let rebuild = ["analytics", "--exit-when-caught-up", "--rebuild", "--latest", "2026-10-01"];
    said(&rebuild);
    assert_eq!(stands(), (later.0.clone(), 2, 53));
    let status = said(&["status"]);
    assert!(status.contains("latest        2026-10-01 00:00:00: no record beyond"), "{status}");
    // It is kept with the store.
    analytics(&dir, &database, "1");
    assert_eq!(stands(), (later.0, 2, 53));
}
