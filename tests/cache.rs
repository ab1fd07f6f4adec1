//! The working set in a real Redis: read from there at every refresh, and the market goes on without;
//! its members by id, for those who look.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use chrono::DateTime;
use dataflows::market::{CachedSet, Profile};
use dataflows::operators::Grade;
use marketday::log::embedded;
use marketday::platform::clock::Stopwatch;
use redis::cmd;
use serde_json::Value;

use crate::support::{
    Redis, Running, command, connect, database_url, first_records, fresh_database, log_end,
    marketday, partitions, scratch,
};

const DAY_REFRESHES: u64 = 24 * 3_600 / 50;
/// See `marketday::market::cache::market_name`.
const KEY: &str = "marketday:1-2026-11-28-2026-11-30:working_set";

/// A market that goes live after two days.
fn market(dir: &Path) -> [&str; 7] {
    ["market", "--to", dir.to_str().unwrap(), "--history", "2d", "--start", "2026-11-30"]
}

#[test]
fn every_worker_reads_the_set_of_every_live_refresh_from_redis() {
    let (dir, redis) = (scratch(), Redis::start());
    let mut up = command(&["up", "--dir", dir.to_str().unwrap(), "--history", "2d"]);
    up.args(["--start", "2026-11-30", "--speed", "600", "-w", "2", "--json"]);
    up.env("DATABASE_URL", database_url(&fresh_database())).env("REDIS_URL", redis.url());
    let mut running = Running::start(&mut up, dir.join("said"));
    running.wait_until("forty live refreshes are over", || redis.calls("get") >= 80);

    // Both keys are one version, or the newest set has just been replaced.
    let connection = &mut redis.connect();
    let (set, version) = loop {
        let version: u64 = cmd("GET").arg(KEY).query(connection).unwrap();
        let set: Option<String> =
            cmd("GET").arg(format!("{KEY}:{version}")).query(connection).unwrap();
        if let Some(set) = set {
            break (set, version);
        }
    };
    let looked = redis.calls("get");
    let seconds: i64 = cmd("TTL").arg(format!("{KEY}:{version}")).query(connection).unwrap();
    assert!((1..=3_600).contains(&seconds), "{seconds} s to live");
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());

    let set: CachedSet = serde_json::from_str(&set).unwrap();
    assert_eq!(set.version, version);
    // After two days not every place of a customer is taken yet.
    assert!((300..=1_000).contains(&set.customers.len()) && set.products.len() == 1_000);
    let words = serde_json::to_string(&set).unwrap();
    for word in [r#""age_band":"20s""#, r#""bought_before":false"#, r#""group":"best seller""#] {
        assert!(words.contains(word), "{word}");
    }

    // Redis counted a GET a worker and refresh, and two SETs a put; the test itself looked a little.
    let newest: u64 = cmd("GET").arg(KEY).query(connection).unwrap();
    let live = newest - 2 * DAY_REFRESHES + 1;
    let (gets, sets) = (redis.calls("get"), redis.calls("set"));
    assert!(live >= 40 && gets >= looked);
    assert!((2 * live - 4..=2 * live + 10).contains(&gets), "{gets} GETs in {live} refreshes");
    let said = running.said();
    let summary: Value = serde_json::from_str(&said[said.find("\n{").unwrap()..]).unwrap();
    let count = |name: &str| summary["cache"][name].as_u64().unwrap();
    assert_eq!(summary["cache"]["home"], "redis");
    assert!((2 * live - 4..=2 * live).contains(&count("hits")), "{summary}");
    assert_eq!((count("misses"), count("differing"), count("failures")), (0, 0, 0), "{summary}");
    assert!(count("puts") >= live && sets == 2 * count("puts"), "{sets} SETs: {summary}");

    // What was replaced is taken away.
    let keys: BTreeSet<String> = cmd("KEYS").arg("*").query(connection).unwrap();
    let of = |name: &str| KEY.replace("working_set", name);
    let mut expected = BTreeSet::from([of("customers"), of("products"), KEY.to_owned()]);
    expected.extend([newest - 1, newest].map(|version| format!("{KEY}:{version}")));
    assert_eq!(keys, expected);
    for key in keys {
        let seconds: i64 = cmd("TTL").arg(&key).query(connection).unwrap();
        assert!((1..=3_600).contains(&seconds), "{key}: {seconds} s to live");
    }
}

/// The members of the newest set by id, and the set: one transaction, one version.
struct Seen {
    set: CachedSet,
    customers: BTreeMap<u32, Value>,
    products: BTreeMap<u32, Value>,
}

/// Nothing where there is nothing yet, or the set has been replaced twice since.
fn look(connection: &mut redis::Connection, market: &str) -> Option<Seen> {
    type Hash = BTreeMap<u32, String>;
    let key = |name: &str| format!("marketday:{market}:{name}");
    let (version, customers, products): (Option<u64>, Hash, Hash) = redis::pipe()
        .atomic()
        .cmd("GET")
        .arg(key("working_set"))
        .cmd("HGETALL")
        .arg(key("customers"))
        .cmd("HGETALL")
        .arg(key("products"))
        .query(connection)
        .unwrap();
    let set = key(&format!("working_set:{}", version?));
    let set: Option<String> = cmd("GET").arg(set).query(connection).unwrap();
    let set = serde_json::from_str(&set?).unwrap();
    let read = |members: Hash| {
        members.into_iter().map(|(id, json)| (id, serde_json::from_str(&json).unwrap())).collect()
    };
    Some(Seen { set, customers: read(customers), products: read(products) })
}

impl Seen {
    /// Each hash has the set's members, with the set's version and weights.
    fn is_whole(&self) {
        let CachedSet { version, customers, products, .. } = &self.set;
        let of = |members: &BTreeMap<u32, Value>, id: &str| -> Vec<(u64, u64, u64)> {
            let number = |one: &Value, field: &str| one[field].as_u64().unwrap();
            let members = members.iter().map(|(key, one)| {
                assert_eq!(u64::from(*key), number(one, id));
                (number(one, "version"), number(one, id), number(one, "weight"))
            });
            members.collect()
        };
        let set = customers.iter().map(|one| (*version, one.user_id.into(), one.weight));
        assert!(set.eq(of(&self.customers, "user_id")), "customers of version {version}");
        let set = products.iter().map(|one| (*version, one.product_id.into(), one.weight.into()));
        assert!(set.eq(of(&self.products, "product_id")), "products of version {version}");
    }
}

#[test]
fn who_looks_sees_one_version_while_refreshes_go_on() {
    let (dir, redis) = (scratch(), Redis::start());
    let url = redis.url();
    let live = ["--speed", "1000", "-w", "3", "--redis", &url];
    let mut running = Running::start(command(&market(&dir)).args(live), dir.join("said"));
    let (connection, name) = (&mut redis.connect(), KEY.split(':').nth(1).unwrap());
    let mut versions = BTreeSet::new();
    running.wait_until("many versions were seen", || {
        // Without a pause: most looks fall close to a put, if not into it.
        for seen in (0..20).filter_map(|_| look(connection, name)) {
            seen.is_whole();
            versions.insert(seen.set.version);
        }
        versions.len() >= 60 && versions.last() >= Some(&(2 * DAY_REFRESHES + 60))
    });
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
}

/// What SQL over the ledgers says of each customer at market time $1, and the grades they had today.
const CUSTOMERS: &str = "
WITH newest AS (
    SELECT DISTINCT ON (user_id) *
    FROM user_events WHERE at <= $1
    ORDER BY user_id, at DESC, event_id DESC
),
bought AS (
    SELECT user_id, max(at) AS last_order_at
    FROM order_events WHERE event = 'placed' AND at <= $1
    GROUP BY user_id
),
today AS (SELECT date_trunc('day', $1, 'Asia/Seoul') AS begins)
SELECT user_id, jsonb_build_object(
           'name', name, 'sex', sex, 'status', status, 'marketing_consent', marketing_consent,
           'age', extract(year FROM age(($1 AT TIME ZONE 'Asia/Seoul')::date, birth_date))::int,
           'last_order_at', (extract(epoch FROM last_order_at) * 1000)::bigint)::text,
       ARRAY(SELECT to_grade FROM grade_changes AS c
             WHERE c.user_id = newest.user_id AND tick > begins AND tick <= $1)
       || coalesce((SELECT to_grade FROM grade_changes AS c
                    WHERE c.user_id = newest.user_id AND tick <= begins
                    ORDER BY tick DESC LIMIT 1), 'BRONZE')
FROM newest LEFT JOIN bought USING (user_id), today";

/// The same of each product: its newest record, and what was sold since.
const PRODUCTS: &str = "
WITH newest AS (
    SELECT DISTINCT ON (product_id) *
    FROM product_events WHERE at <= $1
    ORDER BY product_id, at DESC, event_id DESC
),
sold AS (
    SELECT product_id, sum(quantity)::bigint AS units
    FROM order_lines AS line JOIN newest USING (product_id)
    WHERE event = 'placed' AND line.at > newest.at AND line.at <= $1
    GROUP BY product_id
)
SELECT product_id, jsonb_build_object('name', name, 'category', category, 'price', price,
                                      'stock', stock - coalesce(units, 0))::text
FROM newest LEFT JOIN sold USING (product_id)
WHERE product_id = ANY ($2)";

#[test]
fn each_member_stands_by_id_as_the_store_has_it() {
    // Orders so close that there are grades.
    let file = scratch().join("profile.toml");
    let often = "[rhythm]\norders_a_month = 30.0\nrest = \"1h\"";
    let soon = "[customers]\nopening_delay = \"2d\"";
    std::fs::write(&file, format!("base = \"year\"\n{often}\n{soon}")).unwrap();
    for workers in ["1", "3"] {
        let (dir, redis, database) = (scratch(), Redis::start(), fresh_database());
        let mut up = command(&["up", "--history", "20d", "--start", "2026-11-30", "-w", workers]);
        up.args(["--speed", "7200", "--dir"]).arg(&dir).arg("--profile").arg(&file);
        up.env("DATABASE_URL", database_url(&database)).env("REDIS_URL", redis.url());
        let mut running = Running::start(&mut up, dir.join("said"));
        let (market, connection) = ("1-2026-11-10-2026-11-30", &mut redis.connect());
        let mut seen = None;
        running.wait_until("some hours were lived through live", || {
            seen = look(connection, market);
            seen.as_ref().is_some_and(|seen| seen.set.version >= 20 * DAY_REFRESHES + 500)
        });
        let (seen, mut database) = (seen.unwrap(), connect(&database));
        let at = DateTime::from_timestamp_millis(seen.set.at).unwrap().to_rfc3339();
        let now = format!("timestamptz '{at}'");
        let committed = format!("SELECT max(now) > {now} FROM commit_points");
        running.wait_until("the store is as far", || {
            database.query_one(&committed, &[]).unwrap().get::<_, Option<bool>>(0) == Some(true)
        });
        assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
        seen.is_whole();
        assert_eq!(seen.products.len(), 1_000);
        assert!(seen.customers.len() > 600, "{} customers", seen.customers.len());

        let mut graded = BTreeSet::new();
        let mut customers = seen.customers.clone();
        for row in database.query(&CUSTOMERS.replace("$1", &now), &[]).unwrap() {
            let Some(one) = customers.remove(&(row.get::<_, i64>(0) as u32)) else { continue };
            let record: Value = serde_json::from_str(row.get(1)).unwrap();
            for (field, value) in record.as_object().unwrap() {
                assert_eq!(one[field], *value, "{field} of {one}");
            }
            let today: Vec<String> = row.get(2);
            assert!(today.iter().any(|grade| one["grade"] == **grade), "{today:?}: {one}");
            graded.insert(one["grade"].to_string());
        }
        assert!(customers.is_empty(), "not in the store: {customers:?}");
        assert!(graded.len() >= 3, "few grades: {graded:?}");

        let ids: Vec<i64> = seen.products.keys().map(|id| i64::from(*id)).collect();
        let sql = PRODUCTS.replace("$1", &now).replace("$2", "$1");
        let rows = database.query(&sql, &[&ids]).unwrap();
        assert_eq!(rows.len(), ids.len());
        for row in rows {
            let one = &seen.products[&(row.get::<_, i64>(0) as u32)];
            let record: Value = serde_json::from_str(row.get(1)).unwrap();
            for (field, value) in record.as_object().unwrap() {
                assert_eq!(one[field], *value, "{field} of {one}");
            }
        }
        is_scored(&seen);

        // As one would look.
        let newest = look(connection, market).unwrap();
        let (id, one) = newest.customers.first_key_value().unwrap();
        let mut hget = Command::new("redis-cli");
        hget.args(["-p", &redis.port.to_string(), "HGET"]);
        hget.args([format!("marketday:{market}:customers"), id.to_string()]);
        let answer = hget.output().expect("redis-cli can be run (Debian's package redis-tools)");
        assert_eq!(serde_json::from_slice::<Value>(&answer.stdout).unwrap(), *one);
    }
}

/// Each score is the product of its parts, the parts are those of the rules, and the weight in the set
/// is the score's.
fn is_scored(seen: &Seen) {
    let rules = serde_json::to_value(Profile::named("year").unwrap()).unwrap();
    let rules = &rules["score"];
    let mut same_grade = 0;
    for one in seen.customers.values() {
        let parts = one["parts"].as_object().unwrap();
        let product: f64 = parts.values().map(|part| part.as_f64().unwrap()).product();
        let score = one["score"].as_f64().unwrap();
        assert!((product / score - 1.0).abs() < 1e-12, "{product}: {one}");
        // `year` draws at a temperature of 1.
        assert_eq!(one["weight"], (score * 65_536.0) as u64, "{one}");

        let band = (one["age"].as_u64().unwrap() / 10).clamp(1, 6) - 1;
        assert_eq!(parts["age"], rules["ages"][band as usize], "{one}");
        let sex = if one["sex"] == "F" { "women" } else { "men" };
        assert_eq!(parts["sex"], rules[sex], "{one}");
        let status = one["status"] == "DORMANT";
        assert_eq!(parts["status"], if status { rules["dormant"].clone() } else { 1.0.into() });
        let consent = usize::from(one["marketing_consent"] == true);
        assert_eq!(parts["consent"], rules["consent"][consent], "{one}");
        let grade = Grade::ALL.iter().position(|grade| one["grade"] == grade.word()).unwrap();
        same_grade += usize::from(parts["grade"] == rules["grades"][grade]);
    }
    // Few grades change while one is due.
    assert!(same_grade * 100 >= seen.customers.len() * 95, "{same_grade}");
}

#[test]
fn history_writes_once_a_second_at_most_and_reads_nothing() {
    let (dir, redis) = (scratch(), Redis::start());
    let clock = Stopwatch::start();
    let (dir, url) = (dir.to_str().unwrap(), redis.url());
    let history = ["--history", "60d", "--start", "2026-11-30", "--exit-when-caught-up"];
    marketday(&[&["market", "--to", dir, "--redis", &url][..], &history].concat());
    let seconds = clock.elapsed().as_secs();
    let puts = redis.calls("set") / 2;
    // One when it begins, and perhaps one for the live refresh that is drawn up when it ends.
    assert!((1..=seconds + 2).contains(&puts), "{puts} puts in {seconds} s");
    assert_eq!(redis.calls("get"), 0);
}

#[test]
fn the_market_goes_on_without_redis_and_takes_it_up_again() {
    let (dir, mut redis) = (scratch(), Redis::start());
    let url = redis.url();
    let live = ["--speed", "600", "-w", "2", "--redis", &url];
    let mut running = Running::start(command(&market(&dir)).args(live), dir.join("said"));
    running.wait_until("the market reads from Redis", || redis.calls("get") >= 20);

    redis.kill();
    // Past what was under way.
    running.wait_until("the market has seen it", || running_said(&dir).contains("is lost"));
    let before = log_end(&dir);
    running.wait_until("the log grows without Redis", || log_end(&dir) >= before + 500);
    redis.restart();
    running.wait_until("the market is at Redis again", || {
        redis.calls("get") >= 20 && redis.calls("set") >= 20
    });
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
    let said = running.said();
    assert_eq!(
        (said.matches("is lost").count(), said.matches("is back").count()),
        (1, 1),
        "{said}"
    );

    let log = embedded::open(&dir.join("log")).unwrap();
    let end = |topic, partition| log.end(topic, partition).unwrap();
    let alone = scratch();
    let mut running =
        Running::start(command(&market(&alone)).args(["--speed", "max"]), alone.join("said"));
    let held = partitions(&dir);
    running.wait_until("the market without Redis is as far", || {
        let log = embedded::open(&alone.join("log")).unwrap();
        held.keys().all(|(topic, partition)| {
            log.end(*topic, *partition).unwrap() >= end(*topic, *partition)
        })
    });
    running.interrupt();
    assert_eq!(first_records(&alone, end), held);
}

fn running_said(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("said")).unwrap()
}
