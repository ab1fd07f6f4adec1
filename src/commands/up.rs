//! `marketday up`: the market and the analytics side by side, joined by nothing but the log, and the
//! web page over both. What a market of other rules has made is analysed and shown without it.

use std::fmt;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use dataflows::analytics::Tables;
use dataflows::model::time::{DAY, wall_clock};
use dataflows::model::{Millis, Topic};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing::info;

use super::market::{GO_ON, stopped_at};
use super::options::{Cached, Kept, Listen, Place, TableList, Which, count};
use crate::engine;
use crate::log::{Log, newest_record};
use crate::market::cache::{Cache, Counts, Link, market_name};
use crate::market::{self, Ended, Handle, Options, OtherRules, Speed, control};
use crate::page;
use crate::platform::clock::Stopwatch;
use crate::platform::output::{self, Output};
use crate::platform::retry::{self, Patience, Stopped};
use crate::platform::signals::{self, Interrupted};
use crate::platform::{files, logging, process};
use crate::verify;

/// Runs everything on this machine: the market, the log, the analytics and the store.
#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    cached: Cached,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    tables: TableList,
    #[command(flatten)]
    kept: Kept,
    /// Worker threads of the market, and as many of the analytics.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Live through the history only; end when all of it is committed.
    #[arg(long)]
    exit_when_caught_up: bool,
    /// Print the summary in JSON.
    #[arg(long)]
    json: bool,
}

impl Up {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let settings = Settings {
            options: self.which.market_options()?,
            speed: self.which.speed,
            tables: self.tables.tables()?,
            checkpoints: self.kept.settings(&self.place.log.dir),
            workers: self.workers,
            redis: self.cached.link()?,
            exit_when_caught_up: self.exit_when_caught_up,
        };
        let stop = signals::stop();
        let dir = &self.place.log.dir;
        let _only_one = lock(dir)?;
        let stopped = || stop.load(Ordering::SeqCst);
        let log = self.place.log.open(&stopped).map_err(|error| {
            if error.is::<Stopped>() {
                Interrupted("stopped before the log was there; run again to go on".into()).into()
            } else {
                error
            }
        })?;
        let database = self.place.database(Patience::Start, &stopped);
        let database = database.map_err(|error| match self.in_history(&*log) {
            Ok(Some(at)) if error.is::<Stopped>() => stopped_at(at, GO_ON).into(),
            _ => error,
        })?;
        let look = match &database.private {
            Some(private) => format!(
                "PGPASSWORD=$(cat {}) psql -h 127.0.0.1 -p {} -U marketday marketday",
                private.password_file().display(),
                private.port()
            ),
            None => "psql, on the database that you named".into(),
        };
        let revive = || database.revive();
        let page = self.listen.settings(&database, dir)?;
        let (summary, ended) = run(dir, &log, page, &look, &settings, &stop, &revive)?;
        database.stop()?;
        output::heard_or_unread(summary.tell(self.json, &mut Output::lock()))?;
        if let Ended::InHistory(at) = ended {
            bail!(stopped_at(at, GO_ON));
        }
        if self.exit_when_caught_up && stopped() {
            let how = "stopped before all of the history was committed; run again to go on";
            bail!(Interrupted(how.into()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The market time of the newest order in the log, if the history goes on behind it.
    fn in_history(&self, log: &dyn Log) -> Result<Option<Millis>> {
        let market = match market::settings_in(&self.place.log.dir)? {
            Some(settings) => settings,
            None => self.which.market_options()?.settings()?,
        };
        let mut at = market.origin;
        for partition in 0..log.partitions(Topic::Orders) {
            let newest = newest_record(log, Topic::Orders, partition)?;
            at = newest.iter().map(|record| record.timestamp).fold(at, Millis::max);
        }
        Ok((at < market.start).then_some(at))
    }
}

/// How soon it is looked again how things stand.
const LOOK: Duration = Duration::from_millis(50);

/// How everything is run.
struct Settings {
    /// Which market.
    options: Options,
    /// How fast its clock goes when it is live.
    speed: Speed,
    /// Which tables are kept.
    tables: Tables,
    /// Where the analytics keep their state.
    checkpoints: Option<engine::checkpoint::Settings>,
    /// Workers of the market, and of the analytics.
    workers: usize,
    /// The Redis that has the working set; none keeps it in memory.
    redis: Option<Arc<Link>>,
    /// Live through the history only.
    exit_when_caught_up: bool,
}

/// What a run did.
#[derive(Serialize)]
struct Summary {
    /// Market time reached, by the clock of its zone; none where nothing was left to live through.
    market_time: Option<String>,
    /// Orders of the whole market so far.
    orders: u64,
    /// Orders that the demand let expect: the sum of the means that their numbers were drawn from.
    expected_orders: f64,
    customers: u64,
    products: u64,
    /// Seconds until the last event was in the log; it runs beside the analytics.
    market_seconds: f64,
    /// Seconds until everything was committed.
    committed_seconds: f64,
    /// CPU seconds of this process, without the database's.
    cpu_seconds: f64,
    /// Most memory that this process had at a time.
    peak_memory_bytes: u64,
    /// The cache of the working set.
    cache: Counts,
}

impl Summary {
    fn tell(&self, json: bool, out: &mut dyn Write) -> Result<()> {
        if json {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)?;
        } else {
            write!(out, "{self}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.market_time {
            Some(market_time) => writeln!(
                f,
                "market time {market_time}: {} orders so far ({:.0} expected), {} customers, {} products",
                self.orders, self.expected_orders, self.customers, self.products
            )?,
            None => writeln!(f, "all of the history was in the log before")?,
        }
        writeln!(
            f,
            "in the log after {:.1} s, committed after {:.1} s; {:.1} CPU s, at most {} MiB",
            self.market_seconds,
            self.committed_seconds,
            self.cpu_seconds,
            self.peak_memory_bytes >> 20
        )?;
        if self.cache.home == "redis" {
            writeln!(f, "the working set in Redis: {}", self.cache)?;
        }
        Ok(())
    }
}

/// Makes sure that no other `up` runs in a directory, for as long as the lock lives.
pub fn lock(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir).with_context(|| format!("making the directory {}", dir.display()))?;
    let path = dir.join("up.lock");
    let lock = files::private()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if lock.try_lock().is_err() {
        bail!(
            "another `marketday up` is running in {}; stop it, or name another --dir",
            dir.display()
        );
    }
    Ok(lock)
}

/// Runs until told to stop, or until the history is committed. `look` says how to see the tables.
/// Where the store goes away the analytics begin again from the last commit, each time after `revive`.
fn run(
    dir: &Path,
    log: &Arc<dyn Log>,
    page: page::Settings,
    look: &str,
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    revive: &(dyn Fn() + Sync),
) -> Result<(Summary, Ended)> {
    let stopwatch = Stopwatch::start();
    let (going_on, ended) = match market::load_or_create(dir, &settings.options, &**log) {
        Err(error) if error.is::<OtherRules>() => (None, Some(error)),
        begun => (Some(begun?), None),
    };
    let cache = going_on.as_ref().map(|market| {
        let name = market_name(market);
        Cache::new(settings.redis.clone(), &name)
    });
    let handle = Arc::new(Handle::new(cache.unwrap_or_default(), settings.speed));
    let listening = going_on.as_ref().map(|market| control::listen(dir, market, &handle));
    let _listening = listening.transpose()?;
    let database = page.database.clone();
    let page = page::serve(page)?;
    let producer_done = Arc::new(AtomicBool::new(false));
    let now = Arc::new(AtomicI64::new(Millis::MIN));
    let engine_settings = engine::Settings {
        database: database.clone(),
        tables: settings.tables.clone(),
        timely: match settings.workers {
            1 => timely::CommunicationConfig::Thread,
            workers => timely::CommunicationConfig::Process(workers),
        },
        exit_when_caught_up: true,
        producer_done: Arc::clone(&producer_done),
        now: Arc::clone(&now),
        stop: Arc::new(AtomicBool::new(false)),
        checkpoints: settings.checkpoints.clone(),
        differing: verify::differing,
    };
    let engine_stop = Arc::clone(&engine_settings.stop);

    let (origin, start) = going_on.as_ref().map_or((0, 0), |market| (market.origin, market.start));
    let mut view = View::new(origin, start, look);
    if let Some(why) = ended {
        view.say(&format!("{why}; the tables: {look}"));
    }
    view.say(&format!("look at http://{}", page.address));
    let (market_seconds, ended) = thread::scope(|scope| -> Result<_> {
        let market = scope.spawn(|| {
            let history_only = settings.exit_when_caught_up;
            let ended = match &going_on {
                Some(market) => {
                    market::run(dir, &**log, market, settings.workers, history_only, &handle)
                }
                None => Ok(nothing_more(history_only, &handle.stop)),
            };
            producer_done.store(true, Ordering::SeqCst);
            ended
        });
        let analytics = scope.spawn(|| {
            retry::again(Patience::Ever, &|| stop.load(Ordering::Relaxed), || {
                revive();
                engine::run(log, engine_settings.clone())
            })
        });
        let mut market_seconds = None;
        while !(market.is_finished() && analytics.is_finished()) {
            let figures = handle.figures();
            view.show(&figures, now.load(Ordering::Relaxed));
            if stop.load(Ordering::Relaxed) || analytics.is_finished() {
                handle.stop.store(true, Ordering::Relaxed);
            }
            if market.is_finished() && market_seconds.is_none() {
                market_seconds = Some(stopwatch.elapsed().as_secs_f64());
            }
            thread::sleep(LOOK);
        }
        view.finish();
        engine_stop.store(true, Ordering::Relaxed);
        let joined = |panicked| anyhow::anyhow!("a thread died: {panicked:?}");
        match analytics.join().map_err(joined)? {
            // While the store was away: it goes on from the last commit.
            Err(error) if error.is::<Stopped>() => {}
            ended => ended.context("running the analytics")?,
        }
        let ended = market.join().map_err(joined)?.context("running the market")?;
        Ok((market_seconds, ended))
    })?;

    let figures = handle.figures();
    let committed_seconds = stopwatch.elapsed().as_secs_f64();
    let summary = Summary {
        market_time: (figures.at > 0).then(|| wall_clock(figures.at).to_string()),
        orders: figures.orders,
        expected_orders: figures.demand,
        customers: figures.customers,
        products: figures.products,
        market_seconds: market_seconds.unwrap_or(committed_seconds),
        committed_seconds,
        cpu_seconds: process::cpu_seconds().unwrap_or(0.0),
        peak_memory_bytes: process::peak_resident_bytes().unwrap_or(0),
        cache: handle.cache.counts(),
    };
    Ok((summary, ended))
}

/// Stands for a market that does not go on: it has ended, or keeps the page there until it is told to
/// stop.
fn nothing_more(history_only: bool, stop: &AtomicBool) -> Ended {
    while !history_only && !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
    }
    if history_only { Ended::HistoryOver } else { Ended::Stopped }
}

/// What a person sees while it runs: a bar through the history, then a line that moves.
struct View {
    bar: ProgressBar,
    origin: Millis,
    start: Millis,
    look: String,
    live: bool,
    orders_before: Option<u64>,
    since: Stopwatch,
}

impl View {
    fn new(origin: Millis, start: Millis, look: &str) -> View {
        let bar = ProgressBar::new(((start - origin) / DAY).max(0) as u64);
        let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left");
        bar.set_style(style.expect("the template is valid"));
        let (orders_before, since) = (None, Stopwatch::start());
        View { bar, origin, start, look: look.into(), live: false, orders_before, since }
    }

    fn show(&mut self, figures: &dataflows::market::Figures, now: Millis) {
        if figures.at == 0 {
            return;
        }
        let orders_before = *self.orders_before.get_or_insert(figures.orders);
        let clock = wall_clock(figures.at).format("%Y-%m-%d %H:%M:%S");
        if figures.at < self.start {
            self.bar.set_position(((figures.at - self.origin) / DAY).max(0) as u64);
            let seconds = self.since.elapsed().as_secs_f64().max(0.001);
            let rate = (figures.orders - orders_before) as f64 / seconds;
            let date = wall_clock(figures.at).date();
            self.bar.set_message(format!("{date}  {} orders, {rate:.0} a second", figures.orders));
            return;
        }
        if !self.live {
            self.live = true;
            self.bar.finish_and_clear();
            self.bar = ProgressBar::new_spinner();
            self.say(&format!("the history is over at {clock}; the tables: {}", self.look));
        }
        let results = match now {
            Millis::MIN => "no results yet".into(),
            now => format!("results up to {}", wall_clock(now).format("%H:%M:%S")),
        };
        self.bar.set_message(format!(
            "{clock}  {} orders, {} customers, {} products, {results}  (Ctrl-C stops)",
            figures.orders, figures.customers, figures.products
        ));
        self.bar.tick();
    }

    fn say(&self, line: &str) {
        if logging::asked().is_some() {
            info!("{line}");
        } else if std::io::stderr().is_terminal() {
            self.bar.println(line);
        } else {
            _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
