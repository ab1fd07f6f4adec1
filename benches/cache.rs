//! What a look-up costs with the working set in memory, in Redis, and with a query to the database
//! for each, and how many queries the database gets.
//!
//! `cargo bench --bench cache` lives through 30 days into a private PostgreSQL and a Redis of its own
//! (`redis-server`). A look-up is what an order needs of its customer (who, age, grade) or what a
//! line needs of its product (category, price). An hour's look-ups are those of the market's busiest
//! hour, and of its order ticks, each of which scores 1,000 customers.

mod running;

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataflows::market::CachedSet;
use marketday::platform::clock::Stopwatch;
use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store;
use redis::cmd;
use running::Running;

/// How often each way is measured.
const TIMES: usize = 5_000;
/// Refreshes and order ticks in an hour: every 50 s, and every 4 s on average.
const REFRESHES: f64 = 72.0;
const TICKS: f64 = 900.0;

/// Starts a Redis; gives its URL.
fn redis(dir: &Path) -> Result<(Running, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--save", ""]).stdout(Stdio::null());
    redis.arg("--port").arg(port.to_string()).arg("--dir").arg(dir);
    let redis = Running(redis.spawn().context("starting redis-server (package redis-server)")?);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        sleep(Duration::from_millis(20));
    }
    Ok((redis, format!("redis://127.0.0.1:{port}")))
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_redis, url) = redis(dir.path())?;
    let market = dir.path().join("market");
    let mut up = Command::new(env!("CARGO_BIN_EXE_marketday"));
    up.args(["up", "--history", "30d", "--exit-when-caught-up", "--dir"]).arg(&market);
    let filled = up.env("REDIS_URL", &url).env_remove("DATABASE_URL").output()?;
    ensure!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let postgres = PrivatePostgres::start(&market)?;
    let mut database = store::connect(&postgres.config())?;
    let connection = &mut redis::Client::open(url)?.get_connection()?;

    // Redis: the whole set once a refresh, then from memory.
    let keys: Vec<String> = cmd("KEYS").arg("*:working_set:*").query(connection)?;
    let key = keys.into_iter().max().context("the market has put its working set into Redis")?;
    let clock = Stopwatch::start();
    let mut set = None;
    for _ in 0..TIMES / 50 {
        let json: Vec<u8> = cmd("GET").arg(&key).query(connection)?;
        set = Some(serde_json::from_slice::<CachedSet>(&json)?);
    }
    let refresh = clock.elapsed().as_secs_f64() * 1e6 / (TIMES / 50) as f64;
    let set = set.context("at least one reading")?;

    // Memory: a member of the set.
    let customers: HashMap<u32, _> = set.customers.iter().map(|one| (one.user_id, one)).collect();
    let products: HashMap<u32, _> = set.products.iter().map(|one| (one.product_id, one)).collect();
    let clock = Stopwatch::start();
    for place in 0..TIMES * 100 {
        black_box(customers[&set.customers[place % set.customers.len()].user_id].weight);
        black_box(products[&set.products[place % set.products.len()].product_id].weight);
    }
    let memory = clock.elapsed().as_secs_f64() * 1e6 / (TIMES * 200) as f64;

    // The database: a prepared query by key for each, and the whole set once a refresh or tick.
    let customer = database.prepare(
        "SELECT birth_date, sex, status, marketing_consent, grade FROM users WHERE user_id = $1",
    )?;
    let product = database.prepare("SELECT category, price FROM products WHERE product_id = $1")?;
    let clock = Stopwatch::start();
    for place in 0..TIMES {
        let user_id = i64::from(set.customers[place % set.customers.len()].user_id);
        let product_id = i64::from(set.products[place % set.products.len()].product_id);
        black_box(database.query_one(&customer, &[&user_id])?);
        black_box(database.query_one(&product, &[&product_id])?);
    }
    let query = clock.elapsed().as_secs_f64() * 1e6 / (TIMES * 2) as f64;
    let sql = include_str!("../dataflows/market/working_set.sql")
        .replace("$1", "(SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1)");
    let clock = Stopwatch::start();
    for _ in 0..3 {
        black_box(database.query(&sql, &[])?);
    }
    let select = clock.elapsed().as_secs_f64() * 1e6 / 3.0;

    // What the busiest hour looked up: a customer an order, a product a line.
    let row = database.query_one(
        "SELECT count(*), sum(cardinality(product_ids))::bigint FROM order_events
         WHERE event = 'placed' GROUP BY date_trunc('hour', at) ORDER BY 1 DESC LIMIT 1",
        &[],
    )?;
    let look_ups = (row.get::<_, i64>(0) + row.get::<_, i64>(1)) as f64;
    drop(database);
    postgres.stop()?;

    let out = &mut std::io::stdout().lock();
    writeln!(
        out,
        "look-up of a member, microseconds: memory {memory:.3}, Redis {:.3} (one reading of \
                   {refresh:.0} a refresh over {:.0} look-ups), query {query:.0}",
        memory + refresh * REFRESHES / look_ups,
        look_ups / REFRESHES
    )?;
    writeln!(out, "the whole set by SQL: {:.0} ms", select / 1e3)?;
    writeln!(out)?;
    writeln!(out, "the busiest hour: {look_ups:.0} look-ups, {TICKS:.0} order ticks")?;
    writeln!(out, "working set                                   queries   seconds of look-ups")?;
    let mut line = |name: &str, queries: f64, micros: f64| {
        writeln!(out, "{name:44} {queries:8.0}   {:10.3}", micros / 1e6)
    };
    let each = look_ups + 2.0 * TICKS;
    line(
        "a query for each look-up, and for each tick's set",
        each,
        look_ups * query + TICKS * select,
    )?;
    line(
        "by SQL into Redis once a refresh",
        REFRESHES,
        look_ups * memory + REFRESHES * (refresh + select),
    )?;
    line(
        "from the market's own state, through Redis",
        0.0,
        look_ups * memory + REFRESHES * refresh,
    )?;
    line("from the market's own state, in memory", 0.0, look_ups * memory)?;
    writeln!(
        out,
        "\nqueries saved by the cache: {:.1} %; a look-up is {:.0} times faster in memory",
        100.0 * (1.0 - REFRESHES / each),
        query / memory
    )?;
    Ok(())
}
