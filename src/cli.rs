//! The command line: what each command takes, and how it ends.

use std::fs;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};
use dataflows::market::Profile;
use dataflows::model::time::{Span, day_of_date, start_of_day, wall_clock};

use crate::cache::{Cache, Link, market_name};
use crate::changes::{self, Begin};
use crate::engine;
use crate::explain;
use crate::import;
use crate::log::{self, Log};
use crate::market::control::{self, Ask};
use crate::market::{self, Dirt, Request, ScenarioWish, Speed};
use crate::migrate;
use crate::page;
use crate::private_postgres::PrivatePostgres;
use crate::realism::{self, Form};
use crate::retry::{self, Patience};
use crate::say::say;
use crate::scenario;
use crate::status;
use crate::store;
use crate::supervise;
use crate::truth;
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
    /// Runs the market alone: events go into the log, or as lines of JSON to standard output.
    Market(Market),
    /// Runs the analytics alone, over the log.
    Analytics(Analytics),
    /// Puts events from a file into the log: a JSON line an event, as `market --to -` prints them.
    Import(Import),
    /// Compares every table with its batch twin, and the ledgers with the log; exit 1 on any difference.
    Verify(Look),
    /// Shows partitions, lag, the commit point, rates and memory.
    Status(Look),
    /// Lists the scenarios of the next twelve months, or starts and stops one in a running market.
    #[command(subcommand)]
    Scenario(Scenario),
    /// Puts what no shop knows (rhythms, tastes, drop-outs, true demand) into the tables `truth_*`.
    Truth(Place),
    /// Tells how like a real shop the market is: 18 statistics beside those of real shops.
    Realism(Realism),
    /// Follows a result table: a line of JSON for each row that comes, changes or goes.
    Tail(Tail),
    /// Serves the web page alone, over the store of a running market; `up` has it too.
    Page(Page),
    /// Shows what a query costs: the operators of its dataflow, the time of each and the records held.
    Explain(Explain),
}

#[derive(Args)]
struct Import {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// Exit 0 with so many lines refused and records dead, together.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_rejects: u64,
    /// Time of the heartbeats behind the records: 2026-11-27, 2026-11-27T14:00:00 (of the market's
    /// zone), 2026-11-27T05:00:00Z or milliseconds since 1970 [default: that of the newest order
    /// event, unless it stands alone, more than a day beyond all others].
    #[arg(long, value_name = "INSTANT")]
    until: Option<import::Instant>,
    #[command(flatten)]
    log: LogPlace,
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

#[derive(Args)]
struct Tail {
    /// The table: one of the queries' results, as `orders_by_minute`.
    table: String,
    /// Only what came after that commit point, as an earlier run printed it last.
    #[arg(long, value_name = "COMMIT_POINT", conflicts_with = "whole")]
    from: Option<i64>,
    /// First the whole table, each row as an insert.
    #[arg(long)]
    whole: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Page {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Listen {
    /// Where the web page is served; whoever reaches the address can start scenarios.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8020")]
    page: SocketAddr,
}

#[derive(Subcommand)]
enum Scenario {
    /// Lists when each scenario is active next, within twelve months.
    List(ScenarioList),
    /// Starts a scenario at once, or gives one that is active another strength.
    Start(ScenarioStart),
    /// Stops a scenario that is active.
    Stop(ScenarioStop),
}

#[derive(Args)]
struct ScenarioList {
    /// Directory of the market; without one the calendar is that of a new market.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
    #[command(flatten)]
    rules: Rules,
    /// The first day of the list [default: the day on which the market goes live].
    #[arg(long)]
    from: Option<NaiveDate>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ScenarioStart {
    /// The scenario: one of the list, or any other word.
    name: String,
    /// How long it lasts, in market time: 30m, 2h or 3d [default: until it is stopped].
    #[arg(long = "for", value_name = "SPAN")]
    lasts: Option<Span>,
    /// The factor on all orders [default: the scenario's own].
    #[arg(long)]
    strength: Option<f64>,
    /// Categories that it favours, as food,toys [default: the scenario's own].
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Directory of the running market.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
}

#[derive(Args)]
struct ScenarioStop {
    /// The scenario.
    name: String,
    /// Directory of the running market.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
}

/// The rules of the market.
#[derive(Args)]
struct Rules {
    /// The numbers of the rules: `year`, `brief`, or a TOML file [default: year].
    #[arg(long)]
    profile: Option<String>,
    /// The scenarios by rule: a TOML file [default: those that ship].
    #[arg(long, value_name = "FILE")]
    scenarios: Option<PathBuf>,
}

#[derive(Args)]
struct Realism {
    #[command(flatten)]
    look: Look,
    /// Write the report as a page with plots, too, into this file.
    #[arg(long)]
    html: Option<PathBuf>,
}

#[derive(Args)]
struct Explain {
    /// The query: the name of its table.
    query: String,
    #[command(flatten)]
    log: LogPlace,
    /// Worker threads.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Where the log is.
#[derive(Args, Clone)]
struct LogPlace {
    /// Directory of the embedded log, the private `PostgreSQL` and the market's state.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
    /// Brokers of Kafka, as host:port,host:port: the log is there instead of in the directory.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: Option<String>,
    /// The market's name on the cluster: its topics are NAME.users and so on [default: none, and
    /// the topics are users and so on].
    #[arg(long, env = "MARKETDAY_NAME", requires = "brokers")]
    name: Option<String>,
}

/// Where the embedded parts live, or the real ones.
#[derive(Args)]
struct Place {
    #[command(flatten)]
    log: LogPlace,
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
    #[command(flatten)]
    rules: Rules,
    /// How fast the live market's clock goes: 1 is real time, or 60, or max.
    #[arg(long, default_value = "1")]
    speed: Speed,
    /// Dirt on the way to the log: late=2%:30d,duplicate=5%,shuffle=60s,corrupt=0.5% or some of
    /// it. No answer changes by it; what it touches is listed in DIR/market/dirt.ndjson.
    #[arg(long)]
    dirt: Option<Dirt>,
}

impl Which {
    fn wish(&self) -> Result<market::Wish> {
        Ok(market::Wish {
            seed: self.seed,
            history: self.history,
            start: self.start.map(|date| start_of_day(day_of_date(date))),
            dirt: self.dirt,
            ..self.rules.wish()?
        })
    }
}

impl Rules {
    fn wish(&self) -> Result<market::Wish> {
        let text = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let profile = match self.profile.as_deref() {
            None => None,
            Some(name) => Some(match Profile::named(name) {
                Some(profile) => profile,
                None => Profile::read(&text(Path::new(name))?)
                    .map_err(|what| anyhow!("the profile {name}: {what}"))?,
            }),
        };
        let scenarios = self.scenarios.as_deref().map(text).transpose()?;
        Ok(market::Wish { profile, scenarios, ..market::Wish::default() })
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
    #[command(flatten)]
    listen: Listen,
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
    /// Where the events go: `-` for lines of JSON, brokers of Kafka as with --brokers, or a
    /// directory as with --dir.
    #[arg(long, conflicts_with = "brokers")]
    to: Option<String>,
    #[command(flatten)]
    log: LogPlace,
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
    /// Empty the ledgers and the results first, and read the log from its start.
    #[arg(long)]
    rebuild: bool,
    /// With --rebuild: no record beyond this time moves the results' time, though it counts; kept
    /// with the database. 2026-11-27, 2026-11-27T14:00:00 (of the market's zone),
    /// 2026-11-27T05:00:00Z or milliseconds since 1970.
    #[arg(long, value_name = "INSTANT", requires = "rebuild")]
    latest: Option<import::Instant>,
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
    /// Which of the processes this one is, from 0 [default: all of them run on this machine].
    #[arg(short = 'p', long)]
    process: Option<usize>,
    /// File with a line `host:port` for each process [default: localhost, ports from 2101 on].
    #[arg(short = 'h', long, requires = "process")]
    hosts: Option<PathBuf>,
    /// End when another process is lost, instead of starting again from the last commit.
    #[arg(long)]
    once: bool,
}

/// Runs a command; an error is printed once, with its causes.
pub fn run(cli: Cli) -> ExitCode {
    // Of one process among several its supervisor hears whether the error passes.
    let supervised = matches!(&cli.command, Command::Analytics(it) if it.workers.once);
    let result = match cli.command {
        Command::Up(command) => run_up(&command),
        Command::Market(command) => run_market(&command),
        Command::Analytics(command) => analytics(&command),
        Command::Import(command) => import(&command),
        Command::Verify(look) => verify(&look),
        Command::Status(look) => show_status(&look),
        Command::Scenario(command) => scenario(&command),
        Command::Truth(place) => show_truth(&place),
        Command::Tail(command) => tail(&command),
        Command::Page(command) => serve_page(&command),
        Command::Realism(command) => realism(&command),
        Command::Explain(command) => explain(&command),
    };
    result.unwrap_or_else(|error| {
        if error.chain().any(<dyn std::error::Error>::is::<retry::Stopped>) {
            return ExitCode::SUCCESS;
        }
        say(format_args!("{error:#}"));
        if supervised && retry::lost(&error) {
            return ExitCode::from(supervise::LOST);
        }
        ExitCode::FAILURE
    })
}

/// The store of a place, migrated: the one named, or the private one, started.
pub(crate) struct Database {
    pub(crate) config: postgres::Config,
    private: Option<PrivatePostgres>,
}

impl Place {
    /// The store; where it is away it is waited for with that patience.
    fn database(&self, patience: Patience, stop: &dyn Fn() -> bool) -> Result<Database> {
        let mut database = if let Some(url) = &self.database {
            let config = url.parse().context("reading the database's URL")?;
            Database { config, private: None }
        } else {
            let private = PrivatePostgres::start(&self.log.dir)?;
            Database { config: private.config(), private: Some(private) }
        };
        store::notice_silence(&mut database.config);
        retry::again(patience, stop, || migrate::run(&database.config))?;
        Ok(database)
    }

    /// The store, which must be there: for a command that only looks.
    fn look(&self) -> Result<Database> {
        self.look_for(Patience::Look, &|| false)
    }

    fn look_for(&self, patience: Patience, stop: &dyn Fn() -> bool) -> Result<Database> {
        let dir = self.log.dir.display();
        ensure!(
            self.database.is_some() || self.log.dir.join("postgres").exists(),
            "there is no PostgreSQL in {dir}: run `marketday up --dir {dir}` first (over what was \
             imported, `marketday analytics --dir {dir}`), or name another --dir, or a database"
        );
        self.database(patience, stop)
    }
}

impl LogPlace {
    /// The log, made if it is not there; brokers that are away are waited for, for a minute.
    fn open(&self, stop: &dyn Fn() -> bool) -> Result<Arc<dyn Log>> {
        match self.kafka() {
            Some(place) => {
                retry::again(Patience::Start, stop, || log::kafka::open(place.clone(), true))
            }
            None => log::embedded::open(&self.dir.join("log")),
        }
    }

    /// The log, which must be there: for a command that only looks.
    fn look(&self) -> Result<Arc<dyn Log>> {
        if let Some(place) = self.kafka() {
            return log::kafka::open(place, false);
        }
        let dir = self.dir.display();
        ensure!(
            self.is_there(),
            "there is no log in {dir}: run `marketday up --dir {dir}` or `marketday import` first, or \
             name another --dir"
        );
        self.open(&|| false)
    }

    /// Whether there is a log to look at; of brokers it is taken to be so.
    fn is_there(&self) -> bool {
        self.brokers.is_some() || self.dir.join("log").exists()
    }

    fn kafka(&self) -> Option<log::kafka::Place> {
        let brokers = self.brokers.clone()?;
        Some(log::kafka::Place { brokers, name: self.name.clone() })
    }
}

impl Database {
    /// Starts the private server again if it has ended. Why it does not start shows when one connects,
    /// and in the server's own log.
    fn revive(&self) {
        _ = self.private.as_ref().map(PrivatePostgres::revive);
    }

    /// Stops the private server, unless somebody else uses it.
    fn stop(mut self) -> Result<()> {
        self.private.take().map_or(Ok(()), PrivatePostgres::stop)
    }
}

impl Drop for Database {
    /// A command that ends with an error leaves no server behind either; that error is the one to tell.
    fn drop(&mut self) {
        _ = self.private.take().map(PrivatePostgres::stop);
    }
}

impl Workers {
    fn communication(&self) -> Result<timely::CommunicationConfig> {
        use timely::CommunicationConfig as To;
        let process = self.process.unwrap_or(0);
        ensure!(
            process < self.processes,
            "process {process} of {}: it needs an index below their number",
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
            process,
            addresses,
            report: false,
            zerocopy: false,
        })
    }
}

fn run_up(command: &Up) -> Result<ExitCode> {
    let settings = up::Settings {
        wish: command.which.wish()?,
        speed: command.which.speed,
        workers: command.workers,
        redis: command.cached.link()?,
        page: command.listen.page,
        exit_when_caught_up: command.exit_when_caught_up,
    };
    let stop = stop_on_signal()?;
    let dir = &command.place.log.dir;
    let _only_one = up::lock(dir)?;
    let stopped = || stop.load(Ordering::SeqCst);
    let log = command.place.log.open(&stopped)?;
    let database = command.place.database(Patience::Start, &stopped)?;
    let look = match &database.private {
        Some(private) => format!(
            "PGPASSWORD=$(cat {}) psql -h 127.0.0.1 -p {} -U marketday marketday",
            private.password_file().display(),
            private.port()
        ),
        None => "psql, on the database that you named".into(),
    };
    let revive = || database.revive();
    let summary = up::run(dir, &log, &database.config, &look, &settings, &stop, &revive)?;
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
    ensure!(
        command.to.as_deref() != Some("-") || command.which.dirt.is_none(),
        "--dirt does not go with --to -, where nobody keeps its labels: name a directory or brokers"
    );
    let redis = command.cached.link()?;
    let wish = command.which.wish()?;
    let (workers, history_only) = (command.workers, command.exit_when_caught_up);
    let remote = |settings: &_| -> Result<Arc<market::Remote>> {
        let cache = Cache::new(redis, &market_name(settings));
        let remote = Arc::new(market::Remote::new(cache, command.which.speed));
        let stop = Arc::clone(&remote);
        on_signal(move || stop.stop.swap(true, Ordering::SeqCst))?;
        Ok(remote)
    };
    if command.to.as_deref() == Some("-") {
        let settings = wish.settings()?;
        let (remote, out) =
            (remote(&settings)?, &mut std::io::BufWriter::new(std::io::stdout().lock()));
        market::write_lines(&settings, workers, history_only, &remote, out)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut place = command.log.clone();
    match &command.to {
        Some(to) if is_brokers(to) => place.brokers = Some(to.clone()),
        Some(to) => place.dir = to.into(),
        None => {}
    }
    let log = place.open(&|| false)?;
    let settings = market::settle(&place.dir, &wish, &*log)?;
    let remote = remote(&settings)?;
    let _listening = control::listen(&place.dir, &settings, &remote)?;
    market::run(&place.dir, &*log, &settings, workers, history_only, &remote)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a text is host:port,host:port.
fn is_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        let parts = broker.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.contains('/') && port.parse::<u16>().is_ok())
    })
}

fn analytics(command: &Analytics) -> Result<ExitCode> {
    supervise::end_with_supervisor()?;
    let stop = stop_on_signal()?;
    let stopped = || stop.load(Ordering::SeqCst);
    let communication = command.workers.communication()?;
    let database = command.place.database(Patience::Start, &stopped)?;
    let log = command.place.log.open(&stopped)?;
    // Once: whoever starts again goes on.
    if command.rebuild && command.workers.process.is_none_or(|process| process == 0) {
        let latest = command.latest.map(|latest| latest.0);
        store::rebuild(&mut store::connect(&database.config)?, log.identity(), latest)?;
    }
    if command.workers.processes > 1 && !command.workers.once {
        drop(log); // it is there, and so are its topics
        let well = run_processes(command, &database, &stop)?;
        database.stop()?;
        return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let settings = engine::Settings {
        database: database.config.clone(),
        timely: communication,
        exit_when_caught_up: command.exit_when_caught_up,
        producer_done: Arc::new(AtomicBool::new(true)),
        now: Arc::default(),
        stop: Arc::clone(&stop),
    };
    if command.workers.processes > 1 {
        engine::run(&log, settings)?;
    } else {
        retry::again(Patience::Ever, &stopped, || {
            database.revive();
            engine::run(&log, settings.clone())
        })?;
    }
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// The processes of the analytics, or the one of them that this is, started again when one is lost.
fn run_processes(command: &Analytics, database: &Database, stop: &AtomicBool) -> Result<bool> {
    let Analytics { place, exit_when_caught_up, workers, .. } = command;
    let program = std::env::current_exe().context("finding this program")?;
    let ready = || {
        retry::again(Patience::Ever, &|| stop.load(Ordering::SeqCst), || {
            database.revive();
            store::connect(&database.config).map(drop)
        })
    };
    supervise::supervise(workers.processes, workers.process, stop, ready, |process, hosts| {
        let mut child = std::process::Command::new(&program);
        child.args(["analytics", "--once"]).arg("--dir").arg(&place.log.dir);
        for (flag, number) in [("-w", workers.workers), ("-n", workers.processes), ("-p", process)]
        {
            child.arg(flag).arg(number.to_string());
        }
        if let Some(hosts) = hosts.or(workers.hosts.as_deref()) {
            child.arg("-h").arg(hosts);
        }
        for (flag, text) in [("--brokers", &place.log.brokers), ("--name", &place.log.name)] {
            child.args(text.iter().flat_map(|text| [flag, text]));
        }
        if *exit_when_caught_up {
            child.arg("--exit-when-caught-up");
        }
        if let Some(database) = &place.database {
            child.env("DATABASE_URL", database);
        }
        child
    })
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

fn tail(command: &Tail) -> Result<ExitCode> {
    let Tail { table, from, whole, place } = command;
    let stop = stop_on_signal()?;
    let stopped = || stop.load(Ordering::Relaxed);
    let database = place.look_for(Patience::Start, &stopped)?;
    let begin = match from {
        Some(commit_point) => Begin::After(*commit_point),
        None if *whole => Begin::Whole,
        None => Begin::Now,
    };
    let out = &mut std::io::stdout().lock();
    changes::tail(&database.config, table, begin, &stopped, out)?;
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn serve_page(command: &Page) -> Result<ExitCode> {
    let stop = stop_on_signal()?;
    let Page { listen, place } = command;
    let database = place.look_for(Patience::Start, &|| stop.load(Ordering::Relaxed))?;
    let page = page::serve(listen.page, &database.config, &place.log.dir)?;
    writeln!(std::io::stdout(), "look at http://{}", page.address)?;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(page);
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn verify(look: &Look) -> Result<ExitCode> {
    let log = look.place.log.look()?;
    let database = look.place.look()?;
    let out = &mut std::io::stdout().lock();
    let equal = crate::verify::verify(&database.config, Some(&*log), out, look.json)?;
    database.stop()?;
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_status(look: &Look) -> Result<ExitCode> {
    let database = look.place.look()?;
    // A store can be looked at from where its log is not.
    let place = &look.place.log;
    let log = place.is_there().then(|| place.look()).transpose();
    status::status(&database.config, log, &mut std::io::stdout().lock(), look.json)?;
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn scenario(command: &Scenario) -> Result<ExitCode> {
    let out = &mut std::io::stdout().lock();
    match command {
        Scenario::List(list) => {
            let settings = match market::settings_in(&list.dir)? {
                Some(settings) => settings,
                None => list.rules.wish()?.settings()?,
            };
            let from = list.from.map_or(settings.start, |date| start_of_day(day_of_date(date)));
            scenario::list(&settings, from, out, list.json)?;
        }
        Scenario::Start(ScenarioStart { name, lasts, strength, categories, dir }) => {
            let wish = ScenarioWish::Start {
                strength: *strength,
                categories: categories.clone(),
                lasts: lasts.map(|span| span.0),
            };
            let request = Request { name: name.clone(), wish };
            let at = control::ask(dir, &Ask::Scenario(request))?.from;
            write!(out, "{name} from {} on", wall_clock(at).format("%Y-%m-%d %H:%M:%S"))?;
            match lasts {
                Some(lasts) => writeln!(out, ", for {lasts} of market time")?,
                None => writeln!(out, ", until `marketday scenario stop {name}`")?,
            }
        }
        Scenario::Stop(ScenarioStop { name, dir }) => {
            let request = Request { name: name.clone(), wish: ScenarioWish::Stop };
            let at = control::ask(dir, &Ask::Scenario(request))?.from;
            writeln!(out, "{name} until {}", wall_clock(at).format("%Y-%m-%d %H:%M:%S"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_truth(place: &Place) -> Result<ExitCode> {
    let dir = &place.log.dir;
    let settings = market::settings_in(dir)?.with_context(|| {
        format!("there is no market in {}: name the --dir of the one to be told of", dir.display())
    })?;
    let database = place.look()?;
    truth::truth(dir, &settings, &database.config, &mut std::io::stdout().lock())?;
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn realism(command: &Realism) -> Result<ExitCode> {
    let Realism { look, html } = command;
    let database = look.place.look()?;
    let form = if look.json {
        Form::Json
    } else {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Form::Text { colour: std::io::stdout().is_terminal() && !plain }
    };
    // Before the work: a file that cannot be written should not cost a minute.
    let mut page = match html {
        None => None,
        Some(file) => {
            let creating = || format!("creating {} for the page", file.display());
            Some(std::io::BufWriter::new(std::fs::File::create(file).with_context(creating)?))
        }
    };
    let out = &mut std::io::stdout().lock();
    realism::realism(
        &database.config,
        out,
        form,
        page.as_mut().map(|page| page as &mut dyn Write),
    )?;
    if let Some(mut page) = page {
        page.flush().context("writing the page")?;
    }
    database.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn explain(command: &Explain) -> Result<ExitCode> {
    let query = explain::query(&command.query)?;
    let (log, out) = (command.log.look()?, &mut std::io::stdout().lock());
    explain::explain(&log, query, command.workers, out, command.json)?;
    Ok(ExitCode::SUCCESS)
}

fn import(command: &Import) -> Result<ExitCode> {
    let input: Box<dyn std::io::Read> = if command.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(&command.file);
        Box::new(file.with_context(|| format!("opening {}", command.file.display()))?)
    };
    let log = command.log.open(&|| false)?;
    // Before it writes: on Kafka a new writer ends the one that is there.
    ensure!(!market::writes(&command.log.dir, &*log)?, import::belongs_to_market(&*log));
    let until = command.until.map(|until| until.0);
    let imported = import::import(&*log, std::io::BufReader::new(input), until, |_| {})?;
    let out = &mut std::io::stdout().lock();
    let import::Imported { records, valid, duplicate, dead, refused, .. } = imported;
    writeln!(
        out,
        "{records} records imported ({valid} valid, {duplicate} duplicate, {dead} dead), {refused} \
         lines refused"
    )?;
    let clock = |at| wall_clock(at).format("%Y-%m-%d %H:%M:%S");
    if let (Some(alone), Some(until)) = (imported.alone, imported.until) {
        writeln!(
            out,
            "the newest order event, of {}, stands alone, more than a day beyond all others: the \
             heartbeats say {}; --until INSTANT says otherwise",
            clock(alone),
            clock(until)
        )?;
    }
    for (line, reason) in imported.refused_first {
        writeln!(out, "line {line}: {reason}")?;
    }
    let mut lead = format!("{dead} of {records} records are no events; the first: ");
    for (line, reason) in imported.dead_first {
        writeln!(out, "{}line {line}: {reason}", std::mem::take(&mut lead))?;
    }
    let well = refused + dead <= command.max_rejects;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
