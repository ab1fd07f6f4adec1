//! The honest floor: what the result tables cost a loop that keeps them by hand, beside the engine, and
//! whether both have the same rows.
//!
//! `cargo bench --bench floor`, `-- --orders 10000000` for more. The loop corrects nothing and recovers
//! nothing (see `by_hand`); the engine is that of `queries`, at one worker, and also checks that no
//! event is doubled and makes the ledgers' rows. Each is measured in a process of its own; CPU time is
//! without the making of the events. The rows are compared first, on fewer orders of the same year, which
//! has an outage there, so that there are alerts.

mod by_hand;
mod engine;
mod events;

use std::collections::HashMap;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use by_hand::Shop;
use clap::{Parser, ValueEnum};
use dataflows::QUERIES;
use dataflows::analytics::{BASE_TABLES, Closed, Tables};
use dataflows::model::{Event, Millis};
use dataflows::row::{Fate, Fields, Row, RowBatch};
use engine::{Engine, cpu, early, say};
use events::{CUSTOMERS, DAYS, Events, PRODUCTS};
use marketday::engine::config;
use marketday::platform::process::{peak_resident_bytes, resident_bytes};
use serde::{Deserialize, Serialize};

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Placed orders; cancellations and refunds come on top.
    #[arg(long, default_value_t = 2_000_000)]
    orders: u64,
    /// Placed orders of the comparison; 0 for none.
    #[arg(long, default_value_t = 500_000)]
    compare: u64,
    /// Measures one of them in this process and gives the figures as JSON.
    #[arg(long, hide = true)]
    here: Option<Who>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    Floor,
    Engine,
}

/// Placed orders an epoch, and between two cuts of the engine: as in `queries`.
const EPOCH: u64 = 10_000;
const CUT: u64 = 100_000;
/// When no order is placed where rows are compared: 2026-04-11 in Seoul, from noon to four.
const OUTAGE: Range<Millis> = 1_775_876_400_000..1_775_890_800_000;

/// What a measurement finds.
#[derive(Default, Serialize, Deserialize)]
struct Measured {
    /// CPU seconds; of the floor without its rows, which it makes once, at the end.
    cpu: f64,
    rows: f64,
    /// Bytes after the first million orders (or half of them), at the end, and at the most.
    early: u64,
    resident: u64,
    peak: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let orders = args.orders;
    if let Some(who) = args.here {
        let measured = match who {
            Who::Floor => floor(orders, 0..0).0,
            Who::Engine => engine(orders, 0..0, |_| ())?,
        };
        serde_json::to_writer(std::io::stdout(), &measured)?;
        return Ok(());
    }
    say(format_args!("{CUSTOMERS} customers, {PRODUCTS} products, {DAYS} days"))?;
    let differ = if args.compare > 0 { compare(args.compare)? } else { 0 };
    say(format_args!(
        "\n{:<8}{:>10}{:>8}{:>10}{:>8}{:>8}{:>9}",
        "", "orders", "CPU s", "us/order", "MiB", "peak", "B/order"
    ))?;
    let floor = row("floor", orders)?;
    let engine = row("engine", orders)?;
    say(format_args!(
        "engine/floor: {:.1}; the floor's rows of all tables, made once: {:.2} s",
        engine.cpu / floor.cpu,
        floor.rows
    ))?;
    ensure!(differ == 0, "{differ} tables differ");
    Ok(())
}

/// Measures in a process of its own, and prints a row.
fn row(name: &str, orders: u64) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--here", name, "--orders", &orders.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let it: Measured = serde_json::from_slice(&output.stdout).context("reading a measurement")?;
    let beyond = it.resident as f64 - it.early as f64;
    say(format_args!(
        "{name:<8}{orders:>10}{:>8.2}{:>10.2}{:>8}{:>8}{:>9.0}",
        it.cpu,
        it.cpu * 1e6 / orders as f64,
        it.resident >> 20,
        it.peak >> 20,
        beyond / (orders - early(orders)) as f64,
    ))?;
    Ok(it)
}

/// A year by hand.
fn floor(orders: u64, outage: Range<Millis>) -> (Measured, Vec<Row>) {
    let mut events = Events::new(orders, 0, 1);
    events.outage = outage;
    let (mut shop, mut measured) = (Shop::default(), Measured::default());
    events.send_records(|_, event| shop.take(event));
    while events.next < orders {
        let made = events.until((events.next + EPOCH).min(orders));
        let begun = cpu();
        for sourced in made {
            shop.take(Event::Order(sourced.event));
        }
        shop.advance(events.newest());
        measured.cpu += cpu() - begun;
        if measured.early == 0 && events.next >= early(orders) {
            measured.early = resident_bytes().unwrap_or(0);
        }
    }
    measured.resident = resident_bytes().unwrap_or(0);
    measured.peak = peak_resident_bytes().unwrap_or(0);
    let begun = cpu();
    let rows = shop.rows();
    measured.rows = cpu() - begun;
    (measured, rows)
}

/// The same year at one worker; what is committed is delivered.
fn engine(
    orders: u64,
    outage: Range<Millis>,
    deliver: impl Fn(Closed) + Clone + Send + Sync + 'static,
) -> Result<Measured> {
    let config = config(timely::CommunicationConfig::Thread);
    let workers = timely::execute(config, move |worker| {
        let mut engine = Engine::new(worker, orders, deliver.clone());
        engine.events.outage = outage.clone();
        let mut measured = Measured::default();
        while engine.is_open() {
            engine.go_on(EPOCH, CUT);
            if measured.early == 0 && engine.events.next >= early(orders) {
                measured.early = resident_bytes().unwrap_or(0);
            }
        }
        measured.cpu = engine.own;
        measured.resident = resident_bytes().unwrap_or(0);
        measured.peak = peak_resident_bytes().unwrap_or(0);
        measured
    });
    let workers = workers.map_err(|message| anyhow!("starting the worker: {message}"))?;
    let ended = workers.join().into_iter().next().context("there is a worker")?;
    ended.map_err(|message| anyhow!("the worker ended: {message}"))
}

/// Rows of tables by key.
type Rows = HashMap<(u16, Box<[u8]>), Row>;

fn keyed(row: Row) -> ((u16, Box<[u8]>), Row) {
    ((row.table, row.key().into()), row)
}

/// Both on the same events, table by table; how many differ.
fn compare(orders: u64) -> Result<usize> {
    let committed = Arc::new(Mutex::new(Rows::new()));
    let kept = Arc::clone(&committed);
    engine(orders, OUTAGE, move |closed| {
        let mut rows = kept.lock().unwrap_or_else(PoisonError::into_inner);
        for row in closed.rows.iter().flat_map(RowBatch::iter) {
            let (row, fate) = (row.to_row(), row.fate);
            if usize::from(row.table) < BASE_TABLES.len() {
                continue;
            }
            let (key, row) = keyed(row);
            let before = if fate == Fate::Gone { rows.remove(&key) } else { rows.insert(key, row) };
            assert_eq!(before.is_some(), fate != Fate::New, "a row's fate is what it says");
        }
    })?;
    let engine = std::mem::take(&mut *committed.lock().unwrap_or_else(PoisonError::into_inner));
    let floor = floor(orders, OUTAGE).1;
    let number = floor.len();
    let floor: Rows = floor.into_iter().map(keyed).collect();
    ensure!(floor.len() == number, "the floor has rows of the same key");

    say(format_args!("{orders} orders:"))?;
    let mut differing = 0;
    for (table, name) in Tables::of(QUERIES).results() {
        let rows = engine.keys().filter(|(of, _)| *of == table).count();
        // What only one of them has.
        let only = |of: &Rows, other: &Rows| {
            let rows =
                of.iter().filter(|(key, row)| key.0 == table && other.get(*key) != Some(row));
            let mut rows: Vec<Row> = rows.map(|(_, row)| row.clone()).collect();
            rows.sort_unstable();
            rows
        };
        let differ = [("engine", only(&engine, &floor)), ("floor", only(&floor, &engine))];
        let are_equal = differ.iter().all(|(_, rows)| rows.is_empty());
        let word = if are_equal { "equal" } else { "DIFFERENT" };
        say(format_args!("{name:<20}{rows:>8} rows  {word}"))?;
        differing += usize::from(!are_equal);
        for (who, rows) in differ {
            for row in rows.iter().take(SHOWN) {
                say(format_args!("  {who:<8}{}", text(row)))?;
            }
            if rows.len() > SHOWN {
                say(format_args!("  {who:<8}and {} more", rows.len() - SHOWN))?;
            }
        }
    }
    Ok(differing)
}

/// Rows shown of a table that differs.
const SHOWN: usize = 5;

/// A row's fields for people: numbers as PostgreSQL has them, dates and instants from 2000 on.
fn text(row: &Row) -> String {
    let bytes = [row.key(), row.value()].concat();
    let mut fields = Fields(&bytes);
    let mut words = Vec::new();
    while !fields.0.is_empty() {
        let bytes = fields.bytes().unwrap_or(b"-");
        let wide = || bytes.try_into().map(i64::from_be_bytes);
        let number = wide().or_else(|_| bytes.try_into().map(i32::from_be_bytes).map(i64::from));
        words.push(match number {
            // A number's first byte is no letter.
            Ok(number) if bytes[0].is_ascii_control() || !bytes[0].is_ascii() => number.to_string(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        });
    }
    words.join(" | ")
}
