//! What making events costs: the market alone, to memory, at different sizes.
//!
//! `cargo bench --bench generation` runs the whole protocol, `-- --days 30 --customers 100000` one
//! measurement. CPU time is that of the whole process; nothing is encoded and nothing is written.

use std::fmt::Write as _;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use dataflows::market::{
    ById, Cache, CachedSet, Control, Figures, Output, Profile, Reading, Settings, market,
};
use dataflows::model::time::DAY;
use marketday::platform::clock::Stopwatch;
use marketday::platform::process;
use timely::dataflow::operators::vec::Input as _;

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Days to live through; without them the whole protocol runs.
    #[arg(long)]
    days: Option<u32>,
    /// Customers from the beginning.
    #[arg(long, default_value_t = 10_000)]
    customers: u32,
    /// Orders a refresh that are aimed at; none leaves the rules as they are.
    #[arg(long)]
    orders: Option<u32>,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A cache that keeps nothing.
struct Nowhere;

impl Cache for Nowhere {
    fn put(&self, _: bool, _: &dyn Fn() -> CachedSet, _: &dyn Fn(&CachedSet) -> ById) {}

    fn get(&self, _version: u64) -> Option<CachedSet> {
        None
    }

    fn count(&self, _reading: Reading) {}
}

fn main() -> Result<()> {
    let args = Args::parse();
    let out = &mut std::io::stdout().lock();
    if args.days.is_some() {
        return measure(&args, out);
    }
    writeln!(
        out,
        "workers  customers  days      events      orders  orders/refresh   CPU s  us/refresh  us/order  orders/CPU s   wall s"
    )?;
    let program = std::env::current_exe()?;
    for (days, customers, orders, workers) in [
        (365, 10_000, None, 1),
        (365, 10_000, None, 2),
        (60, 10_000, None, 1),
        (60, 100_000, None, 1),
        (60, 1_000_000, None, 1),
        (60, 100_000, Some(5), 1),
        (60, 1_000_000, Some(5), 1),
        (30, 1_000_000, Some(100), 1),
        (30, 1_000_000, Some(100), 2),
        (10, 1_000_000, Some(300), 1),
    ] {
        let mut child = std::process::Command::new(&program);
        child.args(["--days", &days.to_string(), "--customers", &customers.to_string()]);
        child.args(["--workers", &workers.to_string()]);
        if let Some(orders) = orders {
            child.args(["--orders", &u32::to_string(&orders)]);
        }
        let said = child.output().context("starting a measurement")?;
        out.write_all(&said.stdout)?;
        out.flush()?;
    }
    Ok(())
}

/// One measurement, as a line of the table.
fn measure(args: &Args, out: &mut dyn Write) -> Result<()> {
    let history = i64::from(args.days.unwrap_or(1)) * DAY;
    let mut settings = Settings::new(1, 1_780_239_600_000, history); // goes live on 2026-06-01
    settings.profile = profile(args)?;
    let end = settings.refresh_of(settings.start);
    let (events, figures) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Figures::default())));
    let clock = Stopwatch::start();
    let (before, (counted, newest)) =
        (process::cpu_seconds().unwrap_or(0.0), (events.clone(), figures.clone()));
    let shared = settings.clone();
    let guards = timely::execute(timely::Config::process(args.workers), move |worker| {
        let (counted, newest) = (counted.clone(), newest.clone());
        let done = Rc::new(std::cell::Cell::new(false));
        let (is_done, start) = (done.clone(), shared.start);
        let out = Rc::new(move |output| match output {
            Output::Release(release) => {
                counted.fetch_add(release.records.len() as u64, Relaxed);
                is_done.set(release.until >= start);
            }
            Output::Figures(figures) => *newest.lock().expect("no panic while held") = figures,
            Output::Part(..) | Output::Truth(_) => {}
        });
        let mut control = worker.dataflow(|scope| {
            let (control, stream) = scope.new_input();
            market(scope, &shared, None, &[], stream, out, Arc::new(Nowhere), false);
            control
        });
        control.send(Control::Run(shared.start));
        control.flush();
        while !done.get() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        control.send(Control::Stop);
    })
    .map_err(|error| anyhow!(error))?;
    drop(guards);
    let cpu = process::cpu_seconds().unwrap_or(0.0) - before;
    let orders = figures.lock().expect("no panic while held").orders;
    writeln!(
        out,
        "{:7}  {:9}  {:4}  {:10}  {orders:10}  {:14.2}  {cpu:6.2}  {:10.2}  {:8.2}  {:12.0}  {:7.2}",
        args.workers,
        args.customers,
        args.days.unwrap_or(1),
        events.load(Relaxed),
        orders as f64 / end as f64,
        cpu * 1e6 / end as f64,
        cpu * 1e6 / orders as f64,
        orders as f64 / cpu,
        clock.elapsed().as_secs_f64(),
    )?;
    Ok(())
}

/// The profile `year`, with as many customers from the beginning; more than the default's are all
/// that it can win, so that their orders are what is measured. With orders that are aimed at, all
/// buy, nobody drops out, and demand is the same at every hour, so that each refresh has about as many.
fn profile(args: &Args) -> Result<Profile> {
    let mut text = format!("base = \"year\"\n[customers]\ninitial = {}\n", args.customers);
    if args.customers > 10_000 {
        writeln!(text, "reach = {}", args.customers.max(150_000))?;
    }
    if let Some(orders) = args.orders {
        // Each customer buys once in so many days.
        let days = f64::from(args.customers) / (f64::from(orders) * 1_728.0);
        write!(
            text,
            "growth = 0.0\nready = 1.0\nopening_delay = \"{}s\"\n[rhythm]\norders_a_month = {}\n\
             spread = 0.05\nrest = \"0s\"\nsoon = [0.0, \"0s\"]\ndrop_out = [0.01, 100.0]\nonly_one = 0.0\n\
             [rhythm.regulars]\nshare = 0.0\n[demand]\nnoise = 0.0\nhours = [[], [], [], [], [], []]\n\
             [score]\nwomen = 1.0\nmen = 1.0\nages = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]\n",
            (days * 86_400.0) as i64,
            30.0 / days,
        )?;
    }
    Profile::read(&text).map_err(|what| anyhow!(what))
}
