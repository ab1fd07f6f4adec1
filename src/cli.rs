//! The command line: what each command takes, and how it ends.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};
use dataflows::model::time::{day_of_date, start_of_day};

use crate::cache::{Cache, Link, market_name};
use crate::engine;
use crate::import;
use crate::log::{self, Log};
use crate::market::{self, Speed};
use crate::migrate;
use crate::private_postgres::PrivatePostgres;
use crate::status;
use crate::up;

/// A living online market in one program, and its exact, incremental analytics.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything on this machine: the market, the log, the analytics and the store.
    Up(Up),
    /// Runs the market alone: events go into a log directory, or as lines of JSON to standard output.
    Market(Market),
    /// Runs the analytics alone, over a log directory.
    Analytics(Analytics),
    /// Puts events from a file into the log: a JSON line an event, as `market --to -` prints them.
    Import(Import),
    /// Compares every table with its batch twin, and the ledgers with the log; exit 1 on any difference.
    Verify(Look),
    /// Shows partitions, lag, the commit point, rates and memory.
    Status(Look),
}

#[derive(Args)]
struct Import {
    /// The file; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// A command that looks and changes nothing.
#[derive(Args)]
struct Look {
    #[command(flatten)]
    place: Place,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Where the embedded parts live, or the real ones.
#[derive(Args)]
struct Place {
    /// Directory of the log, the private `PostgreSQL` and the market's state.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
    /// A `PostgreSQL` to use instead of a private one, as a URL; better given as `DATABASE_URL`,
    /// since arguments can be seen by others.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
}

/// Where the market's working set is cached.
#[derive(Args)]
struct Cached {
    /// A Redis for the market's working set, as a URL; better given as `REDIS_URL`, since arguments
    /// can be seen by others [default: memory].
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis: Option<String>,
}

impl Cached {
    fn link(&self) -> Result<Option<Arc<Link>>> {
        self.redis.as_deref().map(Link::open).transpose()
    }
}

/// Which market it is; what is left out stays as it is, or takes its default in a new market.
#[derive(Args)]
struct Which {
    /// Names the random numbers: the same seed, the same market [default: 1].
    #[arg(long)]
    seed: Option<u64>,
    /// How long the market lives through before it goes live: 12mo, 30d or 0 [default: 12mo].
    #[arg(long)]
    history: Option<market::History>,
    /// Market date at which live running starts, as 2026-11-27 [default: today].
    #[arg(long)]
    start: Option<NaiveDate>,
    /// How fast the live market's clock goes: 1 is real time, or 60, or max.
    #[arg(long, default_value = "1", value_parser = speed)]
    speed: Speed,
}

impl Which {
    fn wish(&self) -> market::Wish {
        market::Wish {
            seed: self.seed,
            history: self.history,
            start: self.start.map(|date| start_of_day(day_of_date(date))),
        }
    }
}

fn speed(text: &str) -> Result<Speed, String> {
    match (text, text.parse()) {
        ("max", _) => Ok(Speed::Max),
        (_, Ok(times)) if times > 0.0 && times <= 100_000.0 => Ok(Speed::Times(times)),
        _ => Err("a speed is a number above 0, or max".into()),
    }
}

/// How many workers or processes: a thousand is far more than any machine can use.
fn count() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..=1000)
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    cached: Cached,
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

#[derive(Args)]
struct Market {
    /// Where the events go: a directory, which then holds the log and the market's state, or `-`.
    #[arg(long, default_value = "marketday-data")]
    to: PathBuf,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    cached: Cached,
    /// Worker threads.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Live through the history only.
    #[arg(long)]
    exit_when_caught_up: bool,
}

#[derive(Args)]
#[command(disable_help_flag = true)] // `-h` is timely's: the hosts
struct Analytics {
    #[command(flatten)]
    place: Place,
    /// End when everything in the log is committed.
    #[arg(long)]
    exit_when_caught_up: bool,
    #[command(flatten)]
    workers: Workers,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Timely's workers.
#[derive(Args)]
struct Workers {
    /// Worker threads in each process.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Number of processes.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = count())]
    processes: usize,
    /// Which of the processes this one is, from 0.
    #[arg(short = 'p', long, default_value_t = 0)]
    process: usize,
    /// File with a line `host:port` for each process; default localhost, ports from 2101 on.
    #[arg(short = 'h', long)]
    hosts: Option<PathBuf>,
}

/// Runs a command; an error is printed once, with its causes.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Up(command) => run_up(&command),
        Command::Market(command) => run_market(&command),
        Command::Analytics(command) => analytics(&command),
        Command::Import(command) => import(&command),
        Command::Verify(look) => verify(&look),
        Command::Status(look) => show_status(&look),
    };
    result.unwrap_or_else(|error| {
        _ = writeln!(std::io::stderr(), "marketday: {error:#}");
        ExitCode::FAILURE
    })
}

/// The store of a place, migrated: the one named, or the private one, started.
pub(crate) struct Database {
    pub(crate) config: postgres::Config,
    private: Option<PrivatePostgres>,
}

impl Place {
    fn database(&self) -> Result<Database> {
        let database = if let Some(url) = &self.database {
            let config = url.parse().context("reading the database's URL")?;
            Database { config, private: None }
        } else {
            let private = PrivatePostgres::start(&self.dir)?;
            Database { config: private.config(), private: Some(private) }
        };
        migrate::run(&database.config)?;
        Ok(database)
    }

    /// Keeps a command that only looks from making what it does not find.
    fn must_exist(&self) -> Result<()> {
        let dir = self.dir.display();
        anyhow::ensure!(
            self.dir.join("log").exists(),
            "there is no log in {dir}: run `marketday up --dir {dir}` first, or name another --dir"
        );
        Ok(())
    }

    fn log(&self) -> Result<Arc<dyn Log>> {
        log::embedded::open(&self.dir.join("log"))
    }
}

impl Database {
    /// Stops the private server, unless somebody else uses it.
    fn stop(self) -> Result<()> {
        self.private.map_or(Ok(()), PrivatePostgres::stop)
    }
}

impl Workers {
    fn communication(&self) -> Result<timely::CommunicationConfig> {
        use timely::CommunicationConfig as To;
        ensure!(
            self.process < self.processes,
            "process {} of {}: it needs an index below their number",
            self.process,
            self.processes
        );
        if self.processes == 1 {
            return Ok(match self.workers {
                1 => To::Thread,
                workers => To::Process(workers),
            });
        }
        let addresses = match &self.hosts {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("reading the hosts from {}", file.display()))?;
                text.lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
            None => (0..self.processes)
                .map(|process| format!("localhost:{}", 2101 + process))
                .collect::<Vec<_>>(),
        };
        ensure!(
            addresses.len() == self.processes,
            "{} processes need as many addresses (there are {})",
            self.processes,
            addresses.len()
        );
        Ok(To::Cluster {
            threads: self.workers,
            process: self.process,
            addresses,
            report: false,
            zerocopy: false,
        })
    }
}

fn run_up(command: &Up) -> Result<ExitCode> {
    let settings = up::Settings {
        wish: command.which.wish(),
        speed: command.which.speed,
        workers: command.workers,
        redis: command.cached.link()?,
        exit_when_caught_up: command.exit_when_caught_up,
    };
    let stop = stop_on_signal()?;
    let _only_one = up::lock(&command.place.dir)?;
    let log = command.place.log()?;
    let database = command.place.database()?;
    let look = match &database.private {
        Some(private) => format!(
            "PGPASSWORD=$(cat {}) psql -h 127.0.0.1 -p {} -U marketday marketday",
            private.password_file().display(),
            private.port()
        ),
        None => "psql, on the database that you named".into(),
    };
    let summary = up::run(&command.place.dir, &log, &database.config, &look, &settings, &stop)?;
    database.stop()?;
    let out = &mut std::io::stdout().lock();
    if command.json {
        serde_json::to_writer_pretty(&mut *out, &summary)?;
        writeln!(out)?;
    } else {
        write!(out, "{summary}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_market(command: &Market) -> Result<ExitCode> {
    let redis = command.cached.link()?;
    let (wish, speed) = (command.which.wish(), command.which.speed);
    let (workers, history_only) = (command.workers, command.exit_when_caught_up);
    let dir = (command.to.as_os_str() != "-").then_some(&command.to);
    let log = dir.map(|dir| log::embedded::open(&dir.join("log"))).transpose()?;
    let settings = dir.map_or_else(|| Ok(wish.settings()), |dir| market::settle(dir, &wish))?;
    let cache = Cache::new(redis, &market_name(&settings));
    let remote = Arc::new(market::Remote::new(cache));
    let stop = Arc::clone(&remote);
    on_signal(move || stop.stop.swap(true, Ordering::SeqCst))?;
    if let (Some(dir), Some(log)) = (dir, log) {
        market::run(dir, &*log, &settings, workers, speed, history_only, &remote)?;
    } else {
        let out = &mut std::io::BufWriter::new(std::io::stdout().lock());
        market::write_lines(&settings, workers, speed, history_only, &remote, out)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn analytics(command: &Analytics) -> Result<ExitCode> {
    let database = command.place.database()?;
    let log = command.place.log()?;
    let stop = stop_on_signal()?;
    engine::run(
        &log,
        engine::Settings {
            database: database.config.clone(),
            timely: command.workers.communication()?,
            exit_when_caught_up: command.exit_when_caught_up,
            producer_done: Arc::new(AtomicBool::new(true)),
            now: Arc::default(),
            stop,
        },
    )?;
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// A flag that the first Ctrl-C, or a request to terminate, sets; a second one ends at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    on_signal(move || set.swap(true, Ordering::SeqCst))?;
    Ok(stop)
}

/// Calls `set` at a signal to end, and ends at once where it says that it was called before.
fn on_signal(set: impl Fn() -> bool + Send + 'static) -> Result<()> {
    ctrlc::set_handler(move || {
        if set() {
            std::process::exit(130);
        }
    })
    .context("listening for Ctrl-C")
}

fn verify(look: &Look) -> Result<ExitCode> {
    look.place.must_exist()?;
    let database = look.place.database()?;
    let log = look.place.log()?;
    let out = &mut std::io::stdout().lock();
    let equal = crate::verify::verify(&database.config, Some(&*log), out, look.json)?;
    database.stop()?;
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_status(look: &Look) -> Result<ExitCode> {
    look.place.must_exist()?;
    let database = look.place.database()?;
    status::status(&database.config, &mut std::io::stdout().lock(), look.json)?;
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn import(command: &Import) -> Result<ExitCode> {
    let input: Box<dyn std::io::Read> = if command.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(&command.file);
        Box::new(file.with_context(|| format!("opening {}", command.file.display()))?)
    };
    let log = command.place.log()?;
    let imported = import::import(&*log, std::io::BufReader::new(input), |_| {})?;
    let out = &mut std::io::stdout().lock();
    writeln!(out, "{} records imported, {} lines refused", imported.records, imported.refused)?;
    for (line, reason) in imported.refused_first {
        writeln!(out, "line {line}: {reason}")?;
    }
    Ok(ExitCode::SUCCESS)
}
