//! A sale of one day, three times the orders, and the same market without it: what is lifted on the
//! day, and what is missing afterwards.
//!
//! `cargo bench --bench sale`, `-- --seeds 5` for fewer. The sale is a calendar of one phase; nothing
//! in it says what follows.

use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use clap::Parser;
use dataflows::market::{
    ById, Cache, CachedSet, Control, Output, Reading, Scenario, Settings, market,
};
use dataflows::model::time::DAY;
use dataflows::model::{Event, OrderKind};
use timely::dataflow::operators::vec::Input as _;

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// So many seeds, from 1 on.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A cache that keeps nothing.
struct Nowhere;

impl Cache for Nowhere {
    fn put(&self, _live: bool, _set: &dyn Fn() -> CachedSet, _by_id: &dyn Fn(&CachedSet) -> ById) {}

    fn get(&self, _version: u64) -> Option<CachedSet> {
        None
    }

    fn count(&self, _reading: Reading) {}
}

/// The market goes live in the night to Friday 2027-03-12, and the sale is seven weeks after its
/// beginning and 60 days before that.
const START: i64 = 1_804_777_200_000;
const BEFORE: usize = 49;
const AFTER: usize = 60;
const SALE: &str = "[[scenario]]\nname = \"sale\"\ncategories = []\nday = { date = \"01-10\" }\n\
                    phases = [{ from = 0, to = 0, demand = 3.0 }]";

fn main() -> Result<()> {
    let args = Args::parse();
    let out = &mut std::io::stdout().lock();
    writeln!(
        out,
        "seed  day of the sale  days 1 to 14  missing of the lift: in 14 days  in {AFTER}"
    )?;
    for seed in 1..=args.seeds {
        let (with, without) = (orders_by_day(seed, SALE)?, orders_by_day(seed, "")?);
        let sum = |orders: &[f64], days| orders[BEFORE + 1..=BEFORE + days].iter().sum::<f64>();
        let missing = |days| sum(&without, days) - sum(&with, days);
        let lift = with[BEFORE] - without[BEFORE];
        writeln!(
            out,
            "{seed:4}  {:14.2}x  {:+11.1}%  {:31.0}%  {:5.0}%",
            with[BEFORE] / without[BEFORE],
            -100.0 * missing(14) / sum(&without, 14),
            100.0 * missing(14) / lift,
            100.0 * missing(AFTER) / lift,
        )?;
        out.flush()?;
    }
    Ok(())
}

/// Orders of each day in the market of a seed with that calendar.
fn orders_by_day(seed: u64, scenarios: &str) -> Result<Vec<f64>> {
    let mut settings = Settings::new(seed, START, (BEFORE + 1 + AFTER) as i64 * DAY);
    settings.scenarios =
        Scenario::read(scenarios, &settings.profile.words()).map_err(|what| anyhow!(what))?;
    let by_day = Arc::new(Mutex::new(vec![0.0; BEFORE + 1 + AFTER]));
    let (counted, origin) = (by_day.clone(), settings.origin);
    let guards = timely::execute(timely::Config::thread(), move |worker| {
        let done = Rc::new(std::cell::Cell::new(false));
        let (counted, is_done) = (counted.clone(), done.clone());
        let out = Rc::new(move |output| {
            let Output::Release(release) = output else { return };
            let mut counted = counted.lock().expect("no panic while held");
            for (_, event) in release.records {
                if let Event::Order(event) = event
                    && event.order.event == OrderKind::Placed
                {
                    // An order may come at the very end.
                    counted[((event.order.at - 1 - origin) / DAY) as usize] += 1.0;
                }
            }
            is_done.set(release.until >= START);
        });
        let mut control = worker.dataflow(|scope| {
            let (control, stream) = scope.new_input();
            market(scope, &settings, None, &[], stream, out, Arc::new(Nowhere), false);
            control
        });
        control.send(Control::Run(START));
        control.flush();
        while !done.get() {
            worker.step();
        }
        control.send(Control::Stop);
    })
    .map_err(|error| anyhow!(error))?;
    drop(guards);
    let by_day = by_day.lock().expect("no panic while held").clone();
    Ok(by_day)
}
