//! Drives the market: gives it leave to live on, and puts what it does into the log.
//!
//! The workers encode; the thread that calls [`run`] appends, flushes and watches the clock. Its
//! queue is bounded, so workers wait when the log is slow. A restart loads the newest snapshot (or
//! none), simulates on from there, and compares what it makes with what each partition holds already:
//! a record of somebody else's ends it. Commands wait until all of that is made again.
//!
//! Invariant: what is in the log depends on the settings and the journal of commands alone
//! (`tests/market.rs`).

pub mod cache;
pub mod control;
mod driver;
mod handle;
mod labels;
mod output;
mod pace;
mod resume;
mod settings;
mod state;
mod workers;

pub use driver::Ended;
pub use handle::{Handle, ScenarioCommand, ScenarioRequest, Speed};
pub use settings::{History, Options, OtherRules, load_or_create, settings_in, writes};

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use dataflows::market::{Settings, Truth};
use dataflows::model::Millis;

use crate::log::Log;
use crate::platform::crash;
use cache::Cache;
use driver::Run;
use output::{Lines, LogOutput, Output};
use state::StateDir;

/// Runs a market and puts its events into the log, until it is told to stop, or with
/// `history_only` until it would go live. `dir` holds its snapshots and the journal of commands.
pub fn run(
    dir: &Path,
    log: &dyn Log,
    settings: &Settings,
    workers: usize,
    history_only: bool,
    market: &Handle,
) -> Result<Ended> {
    let state = StateDir::open(dir, log.identity())?;
    let checkpoint = state.newest()?;
    // First the writer: from then on nobody else moves the ends.
    let mut writer = log.writer()?;
    writer.end_when(&market.stop);
    let output = LogOutput::open(log, writer, settings, workers, &state, checkpoint.as_ref())?;
    if checkpoint.is_some() {
        crash::point("resume");
    }
    let until = history_only.then_some(settings.start);
    let run = Run { settings, workers, until, market, truth: None };
    run.run(Some(&state), &state.commands(settings)?, checkpoint, Output::Log(Box::new(output)))
}

/// Runs a market without a log: a JSON line for each event goes to `out`, in market-time order.
pub fn write_lines(
    settings: &Settings,
    workers: usize,
    history_only: bool,
    market: &Handle,
    out: &mut dyn Write,
) -> Result<Ended> {
    let until = history_only.then_some(settings.start);
    let run = Run { settings, workers, until, market, truth: None };
    run.run(None, &[], None, Output::Lines(Lines::new(settings, until, workers, out)))
}

/// Lives through the market of a directory again, up to a market time, and tells what no shop knows;
/// its events go nowhere.
pub fn truth(
    dir: &Path,
    settings: &Settings,
    until: Millis,
    tell: &dyn Fn(Vec<Truth>) -> Result<()>,
) -> Result<Ended> {
    let commands = StateDir::open(dir, "")?.commands(settings)?;
    let market = Handle::new(Cache::default(), Speed::Max);
    let (truth, until) = (Some(tell), Some(until));
    let run = Run { settings, workers: 1, until, market: &market, truth };
    run.run(None, &commands, None, Output::Nowhere)
}
