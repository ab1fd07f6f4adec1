//! The working set that the market draws from is the one that SQL over the store selects.

use std::collections::BTreeSet;

use chrono::DateTime;
use dataflows::market::{CachedSet, Group};
use redis::cmd;

use crate::support::{Redis, command, connect, database_url, fresh_database, scratch};

/// A member: kind and id.
type Members = BTreeSet<(String, i64)>;

/// Lives through some days by a profile, and gives the last set that was cached and what SQL over
/// the store selects for the same market time.
fn sets(profile: &str) -> (Members, Members) {
    let (dir, redis, database) = (scratch(), Redis::start(), fresh_database());
    let file = dir.join("profile.toml");
    std::fs::write(&file, format!("base = \"year\"\n{profile}")).unwrap();
    let mut up = command(&["up", "--history", "40d", "--start", "2026-11-30"]);
    up.arg("--exit-when-caught-up").arg("--dir").arg(&dir).arg("--profile").arg(&file);
    up.env("DATABASE_URL", database_url(&database)).env("REDIS_URL", redis.url());
    assert!(up.status().unwrap().success());

    let connection = &mut redis.connect();
    let keys: Vec<String> = cmd("KEYS").arg("*:working_set:*").query(connection).unwrap();
    let set: String = cmd("GET").arg(keys.iter().max()).query(connection).unwrap();
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
    let sql = sql.replace("$1", &format!("timestamptz '{at}'"));
    let rows = connect(&database).query(&sql, &[]).unwrap();
    (customers.chain(products).collect(), rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn of<'m>(members: &'m Members, kinds: &[&str]) -> Vec<&'m (String, i64)> {
    members.iter().filter(|(kind, _)| kinds.contains(&kind.as_str())).collect()
}

/// Over all past buyers, as the brief has it: every member.
#[test]
fn the_set_is_what_sql_selects() {
    let (set, selected) = sets(
        "[working_set]\nselection = \"all\"\n[demand]\nwait = \"10d\"\n\
         [customers]\ndormant_after = \"15d\"\n[products]\nstock = [5, 200]",
    );
    assert_eq!((of(&set, &["buyer"]).len(), of(&set, &["newcomer"]).len()), (600, 400));
    assert_eq!((of(&set, &["best seller"]).len(), of(&set, &["newest"]).len()), (700, 300));
    assert_eq!(set, selected);
}

/// Over those who are due, which no shop can know: every product; past buyers only; and where less
/// than 600 of them are due, more newcomers than SQL selects.
#[test]
fn who_is_due_is_among_past_buyers() {
    let (set, selected) = sets("[products]\nstock = [5, 200]");
    let products = ["best seller", "newest"];
    assert_eq!(of(&set, &products), of(&selected, &products));
    let (due, newcomers) = (of(&set, &["buyer"]), of(&set, &["newcomer"]));
    assert_eq!(due.len() + newcomers.len(), 1_000);
    assert!(!due.is_empty() && newcomers.len() >= 400, "{} are due", due.len());
    assert!(of(&selected, &["newcomer"]).iter().all(|one| newcomers.contains(one)));
    assert_ne!(due, of(&selected, &["buyer"]));
}
