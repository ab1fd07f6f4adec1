//! The flags that commands share, and the log and the store that they name.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
use clap::Args;
use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use dataflows::QUERIES;
use dataflows::analytics::Tables;
use dataflows::market::{Faults, Profile};
use dataflows::model::Millis;
use dataflows::model::time::{TIME_END, TIME_MIN, ZONE, day_of_date, start_of_day};

use crate::engine::checkpoint;
use crate::log::{self, Log};
use crate::market::cache::Link;
use crate::market::{self, Speed};
use crate::page;
use crate::platform::private_postgres::PrivatePostgres;
use crate::platform::retry::{self, Patience, Stopped};
use crate::platform::secret::{self, Secret};
use crate::store::{self, migrate};

/// Where the log is.
#[derive(Args, Clone)]
pub(crate) struct LogPlace {
    /// Directory of the embedded log, the private `PostgreSQL` and the market's state.
    #[arg(long, default_value = "marketday-data")]
    pub(crate) dir: PathBuf,
    /// Brokers of Kafka, as host:port,host:port: the log is there instead of in the directory.
    #[arg(long, env = "KAFKA_BROKERS", hide_env_values = true)]
    pub(crate) brokers: Option<String>,
    /// What stands before the topics' names on the cluster: they are NAME.users and so on [default:
    /// nothing, and they are users and so on].
    #[arg(
        long,
        value_name = "NAME",
        env = "MARKETDAY_TOPIC_PREFIX",
        alias = "name",
        requires = "brokers"
    )]
    topic_prefix: Option<String>,
}

/// Where the embedded parts live, or the real ones.
#[derive(Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) log: LogPlace,
    /// A `PostgreSQL` to use instead of a private one, as a URL; better given as `DATABASE_URL`,
    /// since arguments can be seen by others.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database: Option<Secret>,
}

/// A command that looks and changes nothing.
#[derive(Args)]
pub(crate) struct Look {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Listen {
    /// Where the web page is served; whoever reaches the address can start scenarios and add views.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8020")]
    pub(crate) page: SocketAddr,
    /// Names by which the page may be asked for, besides `localhost` and numbers, as
    /// `market.example,page`; with any name, a page of another site could.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = word())]
    page_name: Vec<String>,
    /// The login by which the page reads, as a URL; better given as `PAGE_DATABASE_URL` [default: in a
    /// private `PostgreSQL` a login of its own, else that of --database].
    #[arg(long, value_name = "DATABASE", env = "PAGE_DATABASE_URL", hide_env_values = true)]
    page_database: Option<Secret>,
}

impl Listen {
    /// What the page is served with.
    pub(crate) fn settings(&self, database: &Database, dir: &Path) -> Result<page::Settings> {
        let reader = match (&self.page_database, &database.private) {
            (Some(url), _) => store::config(url).context("reading the URL of the page's login")?,
            (None, Some(private)) => private.login("marketday_page", "marketday_reader")?,
            (None, None) => database.config.clone(),
        };
        // Said at once, not to each visitor.
        store::can_act_as(&reader, page::ROLE, "the web page")?;
        Ok(page::Settings {
            listen: self.page,
            names: self.page_name.clone(),
            database: database.config.clone(),
            reader,
            dir: dir.to_owned(),
            stalled: page::STALLED,
        })
    }
}

/// Where the market's working set is cached.
#[derive(Args)]
pub(crate) struct Cached {
    /// A Redis for the market's working set, as a URL; better given as `REDIS_URL`, since arguments
    /// can be seen by others [default: memory].
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis: Option<Secret>,
}

impl Cached {
    pub(crate) fn link(&self) -> Result<Option<Arc<Link>>> {
        self.redis.as_ref().map(Link::open).transpose()
    }
}

/// The rules of the market.
#[derive(Args)]
pub(crate) struct Rules {
    /// The numbers of the rules: `year`, `brief`, or a TOML file [default: year].
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// The scenarios by rule: a TOML file [default: those that ship].
    #[arg(long, value_name = "FILE")]
    pub(crate) scenarios: Option<PathBuf>,
}

impl Rules {
    pub(crate) fn market_options(&self) -> Result<market::Options> {
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
        Ok(market::Options { profile, scenarios, ..market::Options::default() })
    }
}

/// Which market it is; what is left out stays as it is, or takes its default in a new market.
#[derive(Args)]
pub(crate) struct Which {
    /// Names the random numbers: the same seed, the same market [default: 1].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How long the market lives through before it goes live: 12mo, 30d or 0 [default: 12mo].
    #[arg(long)]
    pub(crate) history: Option<market::History>,
    /// Market date at which live running starts, as 2026-11-27 [default: now].
    #[arg(long, value_parser = date)]
    pub(crate) start: Option<NaiveDate>,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// How fast the live market's clock goes: 1 is real time, or 60, or max.
    #[arg(long, default_value = "1")]
    pub(crate) speed: Speed,
    /// Dirt on the way to the log: late=2%:30d,duplicate=5%,shuffle=60s,corrupt=0.5% or some of
    /// it. No answer changes by it; what it touches is listed in DIR/market/dirt.ndjson.
    #[arg(long)]
    pub(crate) dirt: Option<Faults>,
}

impl Which {
    pub(crate) fn market_options(&self) -> Result<market::Options> {
        Ok(market::Options {
            seed: self.seed,
            history: self.history,
            start: self.start.map(|date| start_of_day(day_of_date(date))),
            faults: self.dirt,
            ..self.rules.market_options()?
        })
    }
}

/// What the analytics keep beside the store.
#[derive(Args, Clone, Copy)]
pub(crate) struct Kept {
    /// How often the analytics keep their state in the directory, as 15s or 5m: a start goes on from
    /// there. `off`: never, and a start reads all that was counted back from the database.
    #[arg(long, value_name = "EVERY", default_value = "15s")]
    pub(crate) checkpoint: Every,
}

impl Kept {
    /// For the analytics of a directory.
    pub(crate) fn settings(self, dir: &Path) -> Option<checkpoint::Settings> {
        let settings = |every| checkpoint::Settings { dir: dir.join("checkpoint"), every };
        self.checkpoint.0.map(settings)
    }
}

/// A span of the wall clock between two things that are done again and again; or none, if they are not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Every(Option<Duration>);

impl FromStr for Every {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Every(None));
        }
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let mut spans = units.iter().filter_map(|(unit, ms)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(Duration::from_millis(number.checked_mul(*ms)?))
        });
        let span = spans.next().filter(|span| !span.is_zero());
        span.map(|span| Every(Some(span))).ok_or("expected a span, as 15s, 5m or 1h, or `off`")
    }
}

impl Display for Every {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => write!(f, "{}ms", span.as_millis()),
            None => f.write_str("off"),
        }
    }
}

/// An instant as people write it: milliseconds since the epoch, RFC 3339, or a date, or date and
/// time, of the market's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Millis);

impl FromStr for Instant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let local = |at: NaiveDateTime| at.and_utc().timestamp_millis() - ZONE;
        let at = text
            .parse()
            .ok()
            .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis()))
            .or_else(|| text.parse().ok().map(local))
            .or_else(|| text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0).map(local));
        at.map(Instant).filter(|at| (TIME_MIN..TIME_END).contains(&at.0)).ok_or(
            "an instant is milliseconds since 1970, 2026-11-27, 2026-11-27T14:00:00 (of the \
             market's zone) or 2026-11-27T05:00:00Z, from 1990 to 2099",
        )
    }
}

/// A date of the market's calendar.
pub(crate) fn date(text: &str) -> Result<NaiveDate, String> {
    let date = text.parse().ok().filter(|date: &NaiveDate| (1990..2100).contains(&date.year()));
    date.ok_or_else(|| "a date is written as 2026-11-27, from 1990 to 2099".into())
}

/// Which result tables are kept.
#[derive(Args)]
pub(crate) struct TableList {
    /// The result tables to keep, as `orders_by_minute,best_sellers` [default: all]. The ledgers, users
    /// and products are kept always; a table that is left out keeps the content that it has (none, after
    /// --rebuild).
    #[arg(long, value_name = "TABLES", value_delimiter = ',', value_parser = word())]
    tables: Vec<String>,
}

impl TableList {
    /// The tables that are always kept.
    const ALWAYS: [&str; 2] = ["users", "products"];

    pub(crate) fn tables(&self) -> Result<Tables> {
        self.tables.iter().try_for_each(|name| store::is_result_table(name))?;
        let kept = |name: &str| {
            self.tables.is_empty()
                || Self::ALWAYS.contains(&name)
                || self.tables.iter().any(|it| it == name)
        };
        Ok(Tables::of(&QUERIES.iter().filter(|it| kept(it.name)).copied().collect::<Vec<_>>()))
    }

    /// The arguments that say the same to another process.
    pub(crate) fn arguments(&self) -> Vec<String> {
        if self.tables.is_empty() {
            Vec::new()
        } else {
            vec!["--tables".into(), self.tables.join(",")]
        }
    }
}

/// A word, without blanks around it.
fn word() -> impl TypedValueParser<Value = String> {
    NonEmptyStringValueParser::new().map(|text| text.trim().to_owned())
}

/// How many workers or processes: a thousand is far more than any machine can use.
pub(crate) fn count() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..=1000)
}

/// The store of a place: the one named, or the private one, started.
pub(crate) struct Database {
    pub(crate) config: postgres::Config,
    pub(crate) private: Option<PrivatePostgres>,
}

impl Place {
    /// The store, migrated; where it is away it is waited for with that patience.
    pub(crate) fn database(&self, patience: Patience, stop: &dyn Fn() -> bool) -> Result<Database> {
        self.open(patience, stop, migrate::run)
    }

    fn open(
        &self,
        patience: Patience,
        stop: &dyn Fn() -> bool,
        ready: fn(&postgres::Config) -> Result<()>,
    ) -> Result<Database> {
        let mut database = if let Some(address) = &self.database {
            Database { config: store::config(address)?, private: None }
        } else {
            let private = PrivatePostgres::start(&self.log.dir);
            // Ctrl-C in a terminal ends `initdb` as well.
            let private = private.map_err(|error| if stop() { Stopped.into() } else { error })?;
            Database { config: private.config(), private: Some(private) }
        };
        store::notice_silence(&mut database.config);
        retry::again(patience, stop, || ready(&database.config))?;
        Ok(database)
    }

    /// The store, which must be there: for a command that only looks.
    pub(crate) fn look(&self) -> Result<Database> {
        self.look_for(Patience::Look, &|| false)
    }

    pub(crate) fn look_for(&self, patience: Patience, stop: &dyn Fn() -> bool) -> Result<Database> {
        let dir = self.log.dir.display();
        ensure!(
            self.database.is_some() || self.log.dir.join("postgres").exists(),
            "there is no PostgreSQL in {dir}: run `marketday up --dir {dir}` first (over what was \
             imported, `marketday analytics --dir {dir}`), or name another --dir, or a database"
        );
        self.open(patience, stop, migrate::check)
    }
}

impl LogPlace {
    /// The log, made if it is not there; brokers that are away are waited for, for a minute.
    pub(crate) fn open(&self, stop: &dyn Fn() -> bool) -> Result<Arc<dyn Log>> {
        match self.kafka()? {
            Some(place) => {
                retry::again(Patience::Start, stop, || log::kafka::open(place.clone(), true))
            }
            None => log::embedded::open(&self.dir.join("log")),
        }
    }

    /// The log, which must be there: for a command that only looks.
    pub(crate) fn look(&self) -> Result<Arc<dyn Log>> {
        if let Some(place) = self.kafka()? {
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
    pub(crate) fn is_there(&self) -> bool {
        self.brokers.is_some() || self.dir.join("log").exists()
    }

    /// What stands before the topics' names, by the flag or the environment.
    pub(crate) fn topic_prefix(&self) -> Option<String> {
        self.brokers.as_ref()?;
        let given = |name: &String| !name.is_empty();
        let older = || std::env::var("MARKETDAY_NAME").ok().filter(given);
        self.topic_prefix.clone().filter(given).or_else(older)
    }

    fn kafka(&self) -> Result<Option<log::kafka::Place>> {
        let Some(brokers) = self.brokers.clone() else { return Ok(None) };
        ensure!(
            secret::is_name(&brokers),
            "reading the brokers' addresses (--brokers or KAFKA_BROKERS): they are like \
             host:port,host:port, without a login"
        );
        Ok(Some(log::kafka::Place { brokers, topic_prefix: self.topic_prefix() }))
    }
}

impl Database {
    /// Starts the private server again if it has ended. Why it does not start shows when one connects,
    /// and in the server's own log.
    pub(crate) fn revive(&self) {
        _ = self.private.as_ref().map(PrivatePostgres::revive);
    }

    /// Stops the private server, unless somebody else uses it.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.private.take().map_or(Ok(()), PrivatePostgres::stop)
    }
}

impl Drop for Database {
    /// A command that ends with an error leaves no server behind either; that error is the one to tell.
    fn drop(&mut self) {
        _ = self.private.take().map(PrivatePostgres::stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        let at = Ok(Instant(1_795_755_600_000));
        let forms = [
            "1795755600000",
            "2026-11-27T05:00:00Z",
            "2026-11-27T14:00:00+09:00",
            "2026-11-27T14:00:00",
        ];
        assert!(forms.iter().all(|form| form.parse() == at), "{:?}", forms.map(Instant::from_str));
        assert_eq!("2026-11-27".parse(), Ok(Instant(1_795_755_600_000 - 14 * 3_600_000)));
        assert!(
            ["", "soon", "5", "2100-01-02"].iter().all(|form| Instant::from_str(form).is_err())
        );
    }

    /// Whatever is said on a command line, in an environment or in a file of hosts: it is refused, or
    /// lies where the program can go on with it. An input is a word a line.
    #[test]
    fn fuzz_words() {
        use clap::Parser;
        use dataflows::model::time::Span;

        use crate::cli::Cli;
        use crate::platform::logging;

        let seeds = [
            "up\n--history\n12mo\n--start\n2026-11-27\n--speed\n60\n--seed\n7\n--dirt\nlate=2%:30d,duplicate=5%",
            "up\n--history\n30d\n--speed\nmax\n--dirt\nshuffle=60s,corrupt=0.5%\n--page\n127.0.0.1:8020",
            "analytics\n--rebuild\n--latest\n2026-11-27T14:00:00+09:00\n-w\n2\n-n\n3\n-p\n0\n-h\nhosts",
            "analytics\n--tables\norders_by_minute,best_sellers\n--log\ninfo,librdkafka=debug,json",
            "import\n-\n--until\n1795755600000\n--max-rejects\n5",
            "scenario\nstart\nflash\n--for\n75min\n--strength\n2.5\n--categories\nfood,toys",
            "scenario\nlist\n--from\n2026-11-27\n--json",
            "host:2101\n[::1]:2102\n10.0.0.1:2103",
        ];
        crate::fuzz::fuzz!(2_000, seeds, |input| {
            let text = String::from_utf8_lossy(&input.0);
            let words = || text.lines().filter(|word| !word.contains('\0'));
            let is_past = Cli::try_parse_from(std::iter::once("marketday").chain(words())).is_ok();
            for word in words() {
                if let Ok(Instant(at)) = word.parse() {
                    assert!((TIME_MIN..TIME_END).contains(&at));
                }
                if let Ok(date) = date(word) {
                    let start = Some(start_of_day(day_of_date(date)));
                    for history in [None, Some(market::History::Months(120))] {
                        _ = market::Options { history, start, ..market::Options::default() }
                            .settings();
                    }
                }
                if let Ok(history) = word.parse::<market::History>() {
                    let start = Some(1_795_964_400_000);
                    let options = market::Options {
                        start,
                        history: Some(history),
                        ..market::Options::default()
                    };
                    options.settings().unwrap();
                }
                if let Ok(span) = word.parse::<Span>() {
                    assert_eq!(span.to_string().parse(), Ok(span));
                }
                if let Ok(faults) = word.parse::<Faults>() {
                    assert_eq!(faults.to_string().parse(), Ok(faults));
                }
                if let Ok(Speed::Times(times)) = word.parse() {
                    assert!(times > 0.0 && times <= 1e5);
                }
                _ = logging::read(word);
                let tables = TableList { tables: word.split(',').map(str::to_owned).collect() };
                if tables.tables().is_ok() {
                    assert!(
                        word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_,".contains(&byte))
                    );
                }
            }
            let hosts = crate::commands::analytics::addresses(&text);
            assert!(
                hosts.is_err() || words().all(|word| word.trim().is_empty() || word.contains(':'))
            );
            is_past
        });
    }
}
