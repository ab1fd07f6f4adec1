//! The working set that the market draws from is the one that SQL over the store selects.

use std::collections::BTreeSet;

use chrono::DateTime;
use dataflows::market::{CachedSet, Group};
use redis::cmd;

use crate::support::{Redis, command, connect, database_url, fresh_database, scratch};

/// A member: kind and id.
type Members = BTreeSet<(String, i64)>;

/// What a market has come to by a profile.
struct Lived {
    /// A set that was cached in its history, and what SQL over the store selects for the same market time.
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
    let mut up = with_database(&["up", "--history", "40d", "--start", "2026-11-30"]);
    up.arg("--exit-when-caught-up").arg("--profile").arg(&file).env("REDIS_URL", redis.url());
    assert!(up.status().unwrap().success());
    assert!(with_database(&["truth"]).status().unwrap().success());

    // Redis keeps two; the newest may be of the moment at which the truth ends.
    let connection = &mut redis.connect();
    let keys: Vec<String> = cmd("KEYS").arg("*:working_set:*").query(connection).unwrap();
    let version = |key: &String| key.rsplit(':').next().unwrap().parse::<u64>().unwrap();
    let set: String =
        cmd("GET").arg(keys.iter().min_by_key(|key| version(key))).query(connection).unwrap();
    let set: CachedSet = serde_json::from_str(&set).unwrap();
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
    let mut db = connect(&database);
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

/// Over all past buyers, as the brief has it.
#[test]
fn the_set_is_what_sql_selects() {
    is_selected(&live(
        "base = \"brief\"\n[working_set]\nbest_sellers_days = 30\n\
         [demand]\ntick = [\"20s\", \"30s\"]\n\
         [customers]\ndormant_after = \"15d\"\n[products]\nstock = [5, 200]",
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
