//! The working set that the market draws from is the one that SQL over the store selects.

use std::collections::BTreeSet;

use chrono::DateTime;
use dataflows::market::{CachedSet, Group};
use dataflows::model::time::MINUTE;
use redis::cmd;

use crate::support::{Redis, Running, command, connect, database_url, fresh_database, scratch};

const DAY_REFRESHES: u64 = 24 * 3_600 / 50;

/// A member: kind and id.
type Members = BTreeSet<(String, i64)>;

/// What a market has come to by a profile.
struct Lived {
    /// A set that was cached, and what SQL over the store selects for the same market time.
    set: Members,
    selected: Members,
    /// Of the refreshes of the last ten days: in how many both groups were full, and chosen from more.
    chosen: f64,
}

/// Lives through some days by a profile.
fn live(profile: &str, all: bool) -> Lived {
    let (dir, redis, database) = (scratch(), Redis::start(), fresh_database());
    let file = dir.join("profile.toml");
    std::fs::write(&file, profile).unwrap();
    let with_database = |args: &[&str]| {
        let mut command = command(args);
        command.arg("--dir").arg(&dir).env("DATABASE_URL", database_url(&database));
        command
    };
    let up = ["up", "--history", "40d", "--start", "2026-11-30", "--speed", "600"];
    let mut up = with_database(&up);
    up.arg("--profile").arg(&file).env("REDIS_URL", redis.url());
    let mut up = Running::start(&mut up, dir.join("said"));
    let (connection, mut db) = (&mut redis.connect(), connect(&database));
    up.wait_for_history();
    let mut set: Option<CachedSet> = None;
    up.wait_until("the set of a live refresh is there", || {
        let keys: Vec<String> = cmd("KEYS").arg("*:working_set:*").query(connection).unwrap();
        let version = |key: &String| key.rsplit(':').next().unwrap().parse::<u64>().unwrap();
        let live = keys.iter().filter(|key| version(key) > 40 * DAY_REFRESHES);
        // It may just have been replaced.
        let text: Option<String> = live
            .max_by_key(|key| version(key))
            .and_then(|key| cmd("GET").arg(key).query(connection).unwrap());
        set = text.map(|text| serde_json::from_str(&text).unwrap());
        set.is_some()
    });
    let set = set.unwrap();
    // The truth is told as far as the results go.
    up.wait_until("the results go beyond it", || {
        let now = "SELECT (extract(epoch FROM now) * 1000)::bigint FROM progress";
        let now: Option<i64> = db.query_one(now, &[]).unwrap().get(0);
        now > Some(set.at + 2 * MINUTE)
    });
    assert_eq!(up.interrupt().code(), Some(0), "{}", up.said());
    assert!(with_database(&["truth"]).status().unwrap().success());

    let customers = set.customers.iter().map(|one| {
        (if one.bought_before { "buyer" } else { "newcomer" }.to_owned(), one.user_id.into())
    });
    let products = set.products.iter().map(|one| {
        let best = one.group == Group::BestSeller;
        (if best { "best seller" } else { "newest" }.to_owned(), one.product_id.into())
    });

    let at = DateTime::from_timestamp_millis(set.at).unwrap().to_rfc3339();
    let sql = include_str!("../dataflows/market/working_set.sql");
    let sql = sql.replace("$1", &format!("timestamptz '{at}'")).replace("$2", &all.to_string());
    let rows = db.query(&sql, &[]).unwrap();
    let chosen = "SELECT avg((due > 600 AND ready > 400)::int)::float FROM truth_demand
                  WHERE at > (SELECT max(at) FROM truth_demand) - interval '10 days'";
    Lived {
        set: customers.chain(products).collect(),
        selected: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        chosen: db.query_one(chosen, &[]).unwrap().get(0),
    }
}

/// In all groups the set is what SQL selects, and none is short.
fn is_selected(lived: &Lived) {
    let size = |kind: &str| lived.set.iter().filter(|(of, _)| of == kind).count();
    let sizes = ["buyer", "newcomer", "best seller", "newest"].map(size);
    assert_eq!(sizes, [600, 400, 700, 300]);
    assert_eq!(lived.set, lived.selected);
}

/// Over all past buyers, as the brief has it; with a tenth of its products, of which most say nothing here.
#[test]
fn the_set_is_what_sql_selects() {
    is_selected(&live(
        "base = \"brief\"\n[working_set]\nbest_sellers_days = 30\n\
         [demand]\ntick = [\"20s\", \"30s\"]\n\
         [customers]\ndormant_after = \"15d\"\n\
         [products]\nstock = [5, 200]\nlisting = [\"60s\", \"80s\"]",
        true,
    ));
}

/// Over those who are due, and ready to buy for the first time, as the truth tells: in `year` each group
/// is full, and there are more who might be in it.
#[test]
fn oldest_orders_and_newest_sign_ups_are_chosen_from_more_than_there_is_room_for() {
    let year = live("base = \"year\"", false);
    is_selected(&year);
    assert!(year.chosen >= 0.95, "{}", year.chosen);
}
