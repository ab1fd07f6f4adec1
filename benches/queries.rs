//! What the queries cost: a year of orders from memory, without a log and without PostgreSQL.
//!
//! `cargo bench --bench queries` runs the whole protocol, `-- --orders 2000000 --workers 2` one
//! measurement, which `--profile` takes apart by query.
//!
//! Each measurement is a process of its own, so that memory is what one run takes. CPU time is the
//! workers' own, of which the making of the events is taken out; wall time has it in.

mod engine;
mod events;

use std::collections::{BTreeMap, VecDeque};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use dataflows::analytics::Closed;
use dataflows::row::RowBatch;
use engine::{Engine, cpu, early, say};
use events::{CUSTOMERS, DAYS, PRODUCTS, Shape};
use marketday::engine::{config, profile};
use marketday::platform::clock::Stopwatch;
use marketday::platform::process;
use serde::{Deserialize, Serialize};
use timely::worker::Worker;

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Parser, Serialize, Deserialize)]
struct Args {
    /// Placed orders; cancellations and refunds come on top.
    #[arg(long, default_value_t = 2_000_000)]
    orders: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Placed orders an epoch.
    #[arg(long, default_value_t = 10_000)]
    epoch: u64,
    /// Placed orders between two cuts, each of which makes the rows of what has changed: some 100,000 are
    /// a commit's while it catches up.
    #[arg(long, default_value_t = 100_000)]
    cut: u64,
    /// Whose orders.
    #[arg(long, value_enum, default_value_t)]
    shape: Shape,
    /// Takes the time and the records apart by query; the logging of it is then in the CPU time.
    #[arg(long)]
    profile: bool,
    /// Measures in this process and gives the figures as JSON.
    #[arg(long, hide = true)]
    here: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a measurement finds.
#[derive(Default, Serialize, Deserialize)]
struct Measured {
    /// CPU seconds of each worker, and those that making the events took.
    cpu: Vec<f64>,
    made: f64,
    wall: f64,
    /// Rows that changed, ledgers' included.
    rows: u64,
    /// Bytes after the first million orders (or half of them), at the end, and at the most.
    early: u64,
    resident: u64,
    peak: u64,
    /// CPU milliseconds an epoch of worker 0, in the fifty epochs up to so many orders.
    slices: Vec<(u64, f64)>,
    /// Milliseconds of wall and of worker 0's CPU of epochs of 1,000 orders after the run, sorted.
    steady: [Vec<f64>; 2],
    /// Seconds and records held of each query's own operators at all workers.
    parts: BTreeMap<String, (f64, i64)>,
}

/// Epochs of the steady state, and their orders.
const STEADY: (usize, u64) = (500, 1_000);

fn main() -> Result<()> {
    let args = Args::parse();
    if args.here {
        serde_json::to_writer(std::io::stdout(), &measure(&args)?)?;
        return Ok(());
    }
    let machine = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = machine.lines().find_map(|line| line.strip_prefix("model name\t: "));
    say(format_args!(
        "{} cores, {}; {CUSTOMERS} customers, {PRODUCTS} products, {DAYS} days",
        std::thread::available_parallelism()?,
        model.unwrap_or("unknown"),
    ))?;
    if std::env::args().skip(1).any(|word| word != "--bench") {
        head()?;
        let measured = row(&args)?;
        return if args.profile { parts(&args, &measured) } else { details(&args, &measured) };
    }
    protocol(&args)
}

/// Everything, in tables.
fn protocol(args: &Args) -> Result<()> {
    head()?;
    let mut longest = Vec::new();
    for orders in [2_000_000, 10_000_000] {
        for epoch in [10_000, 50_000] {
            let mut ones = [0.0; 2];
            for workers in [1, 2] {
                let args = Args { orders, workers, epoch, ..args.clone() };
                let measured = row(&args)?;
                let both = [measured.cpu.iter().sum(), measured.wall];
                if workers == 1 {
                    ones = both;
                } else {
                    let [cpu, wall] = [both[0] / ones[0], both[1] / ones[1]];
                    say(format_args!(
                        "{:>18}2 workers against 1: {cpu:.2} of the CPU, {wall:.2} of the wall",
                        ""
                    ))?;
                }
                longest.push((args, measured));
            }
        }
    }
    for (args, measured) in longest.iter().filter(|(args, _)| args.orders == 10_000_000) {
        details(args, measured)?;
    }

    // What might cost more the more there is: its slices say whether it does.
    for (shape, orders) in [
        (Shape::OneCustomer, 1_000_000),
        (Shape::RandomNumbers, 2_000_000),
        (Shape::OnceEach, 10_000_000),
    ] {
        say(format_args!("\n{shape:?}"))?;
        head()?;
        let args = Args { orders, shape, ..args.clone() };
        details(&args, &row(&args)?)?;
    }

    let args = Args { profile: true, ..args.clone() };
    parts(&args, &child(&args)?)
}

/// Which query takes what.
fn parts(args: &Args, measured: &Measured) -> Result<()> {
    let all: f64 = measured.parts.values().map(|(seconds, _)| seconds).sum();
    let orders = args.orders as f64;
    say(format_args!("\n{:<24}{:>10}{:>7}{:>15}", "", "us/order", "%", "records/order"))?;
    let mut parts: Vec<_> = measured.parts.iter().collect();
    parts.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
    for (part, (seconds, records)) in parts {
        say(format_args!(
            "{part:<24}{:>10.3}{:>7.1}{:>15.2}",
            seconds * 1e6 / orders,
            seconds / all * 1e2,
            *records as f64 / orders,
        ))?;
    }
    Ok(())
}

fn head() -> Result<()> {
    say(format_args!(
        "{:>8}{:>10}{:>8}{:>8}{:>9}{:>10}{:>7}{:>7}{:>8}{:>8}{:>8}{:>9}{:>13}",
        "workers",
        "orders",
        "epoch",
        "CPU s",
        "us/order",
        "k/CPU s",
        "wall",
        "making",
        "rows",
        "MiB",
        "peak",
        "B/order",
        "CPU share"
    ))
}

/// Measures, and prints a row of the first table.
fn row(args: &Args) -> Result<Measured> {
    let measured = child(args)?;
    let (cpu, orders) = (measured.cpu.iter().sum::<f64>(), args.orders as f64);
    let mebibytes = |bytes: u64| bytes >> 20;
    let beyond = measured.resident as f64 - measured.early as f64;
    let shares: Vec<_> = measured.cpu.iter().map(|own| format!("{:.2}", own / cpu)).collect();
    say(format_args!(
        "{:>8}{:>10}{:>8}{cpu:>8.2}{:>9.2}{:>10.0}{:>7.1}{:>7.1}{:>8.2}{:>8}{:>8}{:>9.0}{:>13}",
        args.workers,
        args.orders,
        args.epoch,
        cpu * 1e6 / orders,
        orders / cpu / 1e3,
        measured.wall,
        measured.made,
        measured.rows as f64 / orders,
        mebibytes(measured.resident),
        mebibytes(measured.peak),
        beyond / (args.orders - early(args.orders)) as f64,
        shares.join(" "),
    ))?;
    Ok(measured)
}

/// The cost of an epoch as the state grows, and of a small one at the end.
fn details(args: &Args, measured: &Measured) -> Result<()> {
    let (workers, epoch) = (args.workers, args.epoch);
    say(format_args!("\n{workers} workers, {epoch} orders an epoch: worker 0's CPU ms an epoch"))?;
    for (orders, millis) in &measured.slices {
        say(format_args!("{orders:>10} orders{millis:>9.2}"))?;
    }
    for (what, millis) in ["wall", "CPU"].iter().zip(&measured.steady) {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| millis[millis.len() * percent / 100]);
        say(format_args!(
            "then {} orders, {what} ms: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}",
            STEADY.1
        ))?;
    }
    Ok(())
}

/// Measures in a process of its own.
fn child(args: &Args) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--here");
    let numbers = [args.orders, args.workers as u64, args.epoch, args.cut];
    for (option, number) in ["--orders", "--workers", "--epoch", "--cut"].iter().zip(numbers) {
        command.args([option, &*number.to_string()]);
    }
    let shape = args.shape.to_possible_value().context("each has a name")?;
    command.args(["--shape", shape.get_name()]);
    command.args(args.profile.then_some("--profile"));
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading a measurement")
}

/// One run.
fn measure(args: &Args) -> Result<Measured> {
    let config = config(timely::CommunicationConfig::Process(args.workers));
    let (args, measured) = (args.clone(), Arc::new(Mutex::new(Measured::default())));
    let found = Arc::clone(&measured);
    let workers = timely::execute(config, move |worker| run(worker, &args, &found))
        .map_err(|message| anyhow!("starting the workers: {message}"))?;
    for result in workers.join() {
        result.map_err(|message| anyhow!("a worker ended: {message}"))?;
    }
    let mut measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *measured))
}

/// What one worker does.
fn run(worker: &mut Worker, args: &Args, found: &Mutex<Measured>) {
    let profile = args.profile.then(|| profile::register(worker));
    let dataflow = worker.next_dataflow_index();
    let rows = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&rows);
    let mut engine = Engine::new(worker, args.orders, move |closed: Closed| {
        let changed: usize = closed.rows.iter().map(RowBatch::len).sum();
        count.fetch_add(changed as u64, Relaxed);
    });
    engine.events.shape = args.shape;
    let mut measured = Measured::default();
    rows.store(0, Relaxed);

    let since = Stopwatch::start();
    let mut recent = VecDeque::new();
    while engine.is_open() {
        engine.go_on(args.epoch, args.cut);
        recent.push_back(engine.own);
        if recent.len() > 51 {
            recent.pop_front();
        }
        let placed = engine.events.next;
        if [1, 2, 5, 10].contains(&(placed * 10 / args.orders))
            && placed * 10 % args.orders < args.epoch * 10
        {
            let spent = engine.own - recent[0];
            measured.slices.push((placed, spent * 1e3 / (recent.len() - 1) as f64));
        }
        if measured.early == 0 && placed >= early(args.orders) {
            measured.early = process::resident_bytes().unwrap_or(0);
        }
    }
    measured.wall = since.elapsed().as_secs_f64();
    measured.rows = rows.load(Relaxed);
    measured.resident = process::resident_bytes().unwrap_or(0);
    measured.peak = process::peak_resident_bytes().unwrap_or(0);
    measured.made = engine.made;
    let own = engine.own;

    let (at, queries) = (&*engine.worker, &engine.handles.queries);
    for operator in profile.iter().flat_map(|it| it.operators(at, dataflow, queries)) {
        // What queries share is told operator by operator.
        let shared = || format!("({})", operator.name);
        let name = operator.query.map_or_else(shared, str::to_owned);
        let part = measured.parts.entry(name).or_default();
        part.0 += operator.time.as_secs_f64();
        part.1 += operator.records;
    }

    for _ in 0..STEADY.0 {
        let made = engine.make(engine.events.next + STEADY.1);
        let (since, begun) = (Stopwatch::start(), cpu());
        engine.feed(made, true, 0);
        measured.steady[0].push(since.elapsed().as_secs_f64() * 1e3);
        measured.steady[1].push((cpu() - begun) * 1e3);
    }
    for millis in &mut measured.steady {
        millis.sort_by(f64::total_cmp);
    }

    let mut all = found.lock().unwrap_or_else(PoisonError::into_inner);
    let shares = std::mem::take(&mut all.cpu);
    let made = all.made + measured.made;
    for (name, (seconds, records)) in std::mem::take(&mut all.parts) {
        let part = measured.parts.entry(name).or_default();
        *part = (part.0 + seconds, part.1 + records);
    }
    if engine.worker.index() == 0 {
        *all = measured;
    } else {
        all.parts = measured.parts;
    }
    all.made = made;
    all.cpu = shares;
    all.cpu.resize(engine.worker.peers(), 0.0);
    all.cpu[engine.worker.index()] = own;
}
