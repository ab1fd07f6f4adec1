//! What one customer's record costs from PostgreSQL, from Redis and from memory, and how many queries
//! the working set spares the database.
//!
//! `cargo bench --bench cache` lives through 30 days into a private PostgreSQL and a Redis of its own
//! (`redis-server`), then asks each for the same customers by id, one after the other, by a query that
//! is prepared. CPU is that of this thread and of the server's that answers. What stands behind `--`
//! goes to `up`: `cargo bench --bench cache -- --profile brief`.

mod running;

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use dataflows::market::CachedSet;
use marketday::platform::clock::Stopwatch;
use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store;
use postgres::Client;
use redis::cmd;
use running::Running;
use serde::Deserialize;

/// Look-ups of a round, and rounds; the quietest one counts.
const TIMES: usize = 4_000;
const ROUNDS: usize = 7;
/// Refreshes and order ticks in an hour: every 50 s, and every 4 s on average.
const REFRESHES: f64 = 72.0;
const TICKS: f64 = 900.0;

/// A customer, as each way gives them.
#[derive(Deserialize)]
struct Customer {
    name: String,
    sex: String,
    status: String,
    marketing_consent: bool,
    grade: String,
    last_order_at: Option<i64>,
}

/// By the store's keys; its last order is the last one that stands.
const BY_SQL: &str = "
SELECT name, sex, status, marketing_consent, grade, last_order_at
FROM users LEFT JOIN customer_value USING (user_id)
WHERE user_id = $1";

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

/// Microseconds of a look-up: of time, and of CPU here and at the server.
#[derive(Clone, Copy)]
struct Cost {
    time: f64,
    cpu: f64,
}

impl Cost {
    fn least(self, other: Cost) -> Cost {
        Cost { time: self.time.min(other.time), cpu: self.cpu.min(other.cpu) }
    }
}

/// The first thread of a process has run for so many nanoseconds.
fn ran(process: &str) -> Result<f64> {
    let path = format!("/proc/{process}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(text.split(' ').next().context("it begins with a number")?.parse()?)
}

/// Looks up so many times, by the number of the time.
fn cost(
    times: usize,
    server: Option<&str>,
    mut look_up: impl FnMut(usize) -> Result<()>,
) -> Result<Cost> {
    let cpu = || anyhow::Ok(ran("self")? + server.map_or(Ok(0.0), ran)?);
    let (clock, before) = (Stopwatch::start(), cpu()?);
    for time in 0..times {
        look_up(time)?;
    }
    let (time, cpu) = (clock.elapsed().as_secs_f64() * 1e6, (cpu()? - before) / 1e3);
    Ok(Cost { time: time / times as f64, cpu: cpu / times as f64 })
}

/// Lives through a history, into a database in its directory and a Redis.
fn fill(market: &Path, url: &str) -> Result<()> {
    let mut up = Command::new(env!("CARGO_BIN_EXE_marketday"));
    up.args(["up", "--exit-when-caught-up", "--dir"]).arg(market);
    // Cargo adds a flag of its own.
    let more: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if !more.iter().any(|word| word.starts_with("--history")) {
        up.args(["--history", "30d"]);
    }
    let filled = up.args(more).env("REDIS_URL", url).env_remove("DATABASE_URL").output()?;
    ensure!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    Ok(())
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (server, url) = redis(dir.path())?;
    let redis_server = server.0.id().to_string();
    let market = dir.path().join("market");
    fill(&market, &url)?;
    let postgres = PrivatePostgres::start(&market)?;
    let mut database = store::connect(&postgres.config())?;
    let backend: i32 = database.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let (backend, by_sql) = (backend.to_string(), database.prepare(BY_SQL)?);
    let connection = &mut redis::Client::open(url)?.get_connection()?;

    let keys: Vec<String> = cmd("KEYS").arg("*:customers").query(connection)?;
    let key = keys.into_iter().next().context("the market has put its customers into Redis")?;
    let customers: HashMap<u32, String> = cmd("HGETALL").arg(&key).query(connection)?;
    let customers: HashMap<u32, Customer> = customers
        .into_iter()
        .map(|(id, json)| Ok((id, serde_json::from_str(&json)?)))
        .collect::<Result<_>>()?;
    let ids: Vec<u32> = customers.keys().copied().collect();
    let id = |time: usize| ids[time.wrapping_mul(7_919) % ids.len()];

    let none = Cost { time: f64::INFINITY, cpu: f64::INFINITY };
    let (mut sql, mut hget, mut memory) = (none, none, none);
    for _ in 0..ROUNDS {
        let round = cost(TIMES, Some(&backend), |time| {
            let row = database.query_one(&by_sql, &[&i64::from(id(time))])?;
            let at: Option<SystemTime> = row.get(5);
            let found = Customer {
                name: row.get(0),
                sex: row.get(1),
                status: row.get(2),
                marketing_consent: row.get(3),
                grade: row.get(4),
                last_order_at: at
                    .map(|at| anyhow::Ok(at.duration_since(UNIX_EPOCH)?.as_millis() as i64))
                    .transpose()?,
            };
            ensure!(found.name == customers[&id(time)].name, "another customer");
            black_box(found);
            Ok(())
        })?;
        sql = sql.least(round);
        let round = cost(TIMES, Some(&redis_server), |time| {
            let json: Vec<u8> = cmd("HGET").arg(&key).arg(id(time)).query(connection)?;
            let found: Customer = serde_json::from_slice(&json)?;
            ensure!(found.name == customers[&id(time)].name, "another customer");
            black_box(found);
            Ok(())
        })?;
        hget = hget.least(round);
        let round = cost(TIMES * 1_000, None, |time| {
            let Customer { name, sex, status, marketing_consent, grade, last_order_at } =
                &customers[&id(time)];
            black_box((name, sex, status, marketing_consent, grade, last_order_at));
            Ok(())
        })?;
        memory = memory.least(round);
    }

    // The whole set: read from Redis, and selected by SQL.
    let newest = key.replace(":customers", ":working_set");
    let version: u64 = cmd("GET").arg(&newest).query(connection)?;
    let set = format!("{newest}:{version}");
    let refresh = cost(TIMES / 40, Some(&redis_server), |_| {
        let json: Vec<u8> = cmd("GET").arg(&set).query(connection)?;
        black_box(serde_json::from_slice::<CachedSet>(&json)?);
        Ok(())
    })?;
    let statement = include_str!("../dataflows/market/working_set.sql")
        .replace("$1", "(SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1)");
    let select = cost(3, Some(&backend), |_| {
        black_box(database.query(&statement, &[])?);
        Ok(())
    })?;

    let out = &mut std::io::stdout().lock();
    writeln!(out, "one customer's record by id     microseconds    of CPU    times memory")?;
    for (name, Cost { time, cpu }) in
        [("PostgreSQL, prepared, by key", sql), ("Redis, HGET", hget), ("memory", memory)]
    {
        writeln!(out, "{name:30} {time:13.3} {cpu:9.3} {:15.0}", time / memory.time)?;
    }
    writeln!(
        out,
        "Redis answers {:.1} times as fast as PostgreSQL, for 1/{:.1} of the CPU\n",
        sql.time / hget.time,
        sql.cpu / hget.cpu
    )?;
    writeln!(
        out,
        "the whole set: {:.2} ms out of Redis, {:.0} ms by SQL\n",
        refresh.time / 1e3,
        select.time / 1e3
    )?;

    say_hours(out, &mut database, sql, memory, refresh, select)?;
    drop(database);
    postgres.stop()
}

/// Says what queries and time the look-ups of an hour take: of the busiest one, and of the mean one.
fn say_hours(
    out: &mut impl Write,
    database: &mut Client,
    sql: Cost,
    memory: Cost,
    refresh: Cost,
    select: Cost,
) -> Result<()> {
    // What an order needs: its customer, and the product of each line.
    let hours = database.query(
        "SELECT count(*)::float8, sum(cardinality(product_ids))::float8 FROM order_events
         WHERE event = 'placed' GROUP BY date_trunc('hour', at)",
        &[],
    )?;
    let hours: Vec<(f64, f64)> = hours.iter().map(|row| (row.get(0), row.get(1))).collect();
    let busiest = hours.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0));
    let mean = hours.iter().fold((0.0, 0.0), |sum, hour| (sum.0 + hour.0, sum.1 + hour.1));
    let mean = (mean.0 / hours.len() as f64, mean.1 / hours.len() as f64);
    for (which, (orders, lines)) in [("busiest", busiest.context("an order")?), ("mean", mean)] {
        let look_ups = orders + lines;
        writeln!(out, "the {which} hour: {orders:.0} orders of {lines:.0} lines")?;
        let rows = [
            ("a query for each record", look_ups, look_ups * sql.time),
            (
                "a query for each record and for each order tick's set",
                look_ups + TICKS,
                look_ups * sql.time + TICKS * select.time,
            ),
            (
                "the set by SQL into Redis once a refresh",
                REFRESHES,
                look_ups * memory.time + REFRESHES * (select.time + refresh.time),
            ),
            (
                "the market's own set, through Redis (as it is)",
                0.0,
                look_ups * memory.time + REFRESHES * refresh.time,
            ),
        ];
        writeln!(out, "{:54} {:>8} {:>8} {:>14}", "", "queries", "fewer", "s of waiting")?;
        for (name, queries, micros) in rows {
            let fewer = 100.0 * (1.0 - queries / look_ups);
            let fewer = if queries < look_ups { format!("{fewer:.1} %") } else { String::new() };
            writeln!(out, "{name:54} {queries:8.0} {fewer:>8} {:14.3}", micros / 1e6)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
