//! Which market it is: what the flags of a start say, and what its directory has said since the first.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use chrono::Months;
use dataflows::market::{Faults, Profile, Scenario, Settings};
use dataflows::model::time::{DAY, Span, date_of, day_of, day_of_date, start_of_day, wall_clock};
use dataflows::model::{Event, Millis, Topic};
use serde::{Deserialize, Serialize};

use crate::log::{self, Batch, Log, Owner};
use crate::platform::clock;
use crate::platform::files::{PRIVATE, replace};
use dataflows::model::codec;

/// The version of the market's rules. Raise it whenever the same settings make other events: a market
/// that older rules have begun would not make the same again, so it does not go on.
const RULES: u32 = 2;

/// What the flags of a start say about the market; what they leave out stays as it is, or takes
/// its default in a new market.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names the random numbers; default 1.
    pub seed: Option<u64>,
    /// Length of the history; default twelve months.
    pub history: Option<History>,
    /// Market time at which the market goes live; default now.
    pub start: Option<Millis>,
    /// The numbers of the rules; default the profile `year`.
    pub profile: Option<Profile>,
    /// The text of the scenarios' file; default the one that ships.
    pub scenarios: Option<String>,
    /// What is done to its records on their way to the log; default nothing.
    pub faults: Option<Faults>,
}

/// The length of a history, counted back from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Calendar months.
    Months(u32),
    /// Days.
    Days(u32),
}

impl History {
    /// The market time at which it begins, before a market goes live at `start`: the start of a day,
    /// and without a history that very moment.
    fn begins(self, start: Millis) -> Millis {
        let today = day_of(start);
        match self {
            History::Days(0) | History::Months(0) => start,
            History::Days(days) => start_of_day(today) - Millis::from(days) * DAY,
            History::Months(months) => {
                start_of_day(day_of_date(date_of(today) - Months::new(months)))
            }
        }
    }
}

impl FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<History, String> {
        let days = |Span(span)| (span % DAY == 0).then_some(History::Days((span / DAY) as u32));
        let history = match text.strip_suffix("mo") {
            Some(months) => months.parse().ok().filter(|n| *n <= 120).map(History::Months),
            None if text == "0" => Some(History::Days(0)),
            None => text.parse().ok().and_then(days),
        };
        history.ok_or_else(|| "a history is 12mo, 30d or 0, and ten years at the most".into())
    }
}

impl Options {
    /// The settings of a new market.
    pub fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::new(self.seed.unwrap_or(1), 0, 0);
        if let Some(profile) = &self.profile {
            settings.profile = profile.clone();
        }
        let history = settings.profile.history.parse();
        let history = history.map_err(|what: String| anyhow!("`history` of the profile: {what}"));
        let now = clock::wall();
        settings.start = self.start.unwrap_or(now - now.rem_euclid(settings.refresh()));
        settings.origin = self.history.map_or(history, Ok)?.begins(settings.start);
        settings.scenarios = match &self.scenarios {
            Some(text) => read_scenarios(text, &settings.profile)?,
            None => Scenario::shipped(&settings.profile.words()).map_err(|what| {
                anyhow!(
                    "the profile has other categories than the scenarios that ship ({what}): name a \
                     file of your own with --scenarios"
                )
            })?,
        };
        settings.check().map_err(|what| anyhow!(what))?;
        Ok(settings)
    }
}

fn read_scenarios(text: &str, profile: &Profile) -> Result<Vec<Scenario>> {
    let words = profile.words();
    Scenario::read(text, &words).map_err(|what| anyhow!("reading the scenarios: {what}"))
}

/// A market that rules of another version have begun: what it has made can be looked at.
#[derive(Debug, thiserror::Error)]
#[error(
    "the market in {} was made by rules of version {version}; it is shown and does not go on; a new \
     market needs a new --dir",
    .dir.display()
)]
pub struct OtherRules {
    dir: PathBuf,
    version: u32,
}

/// What the file of any version says about its market.
#[derive(Deserialize)]
struct Origin {
    /// The log that the market writes to.
    log: String,
    /// The version of the rules that made it; the first ones did not say theirs.
    #[serde(default = "first")]
    rules: u32,
}

fn first() -> u32 {
    1
}

impl Origin {
    /// Reads it, if there is one, with the text that it stands in.
    fn read(path: &Path) -> Result<Option<(Origin, Vec<u8>)>> {
        match fs::read(path) {
            Ok(text) => {
                let origin = serde_json::from_slice(&text).with_context(|| of(path))?;
                Ok(Some((origin, text)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// What the text says about a market that goes on.
    fn about(&self, path: &Path, text: &[u8]) -> Result<About> {
        let dir = path.parent().unwrap_or(path).to_owned();
        ensure!(self.rules == RULES, OtherRules { dir, version: self.rules });
        About::of_json(text).with_context(|| of(path))
    }
}

fn of(path: &Path) -> String {
    format!("reading {}: was it written by another version?", path.display())
}

/// What a directory says about its market.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    /// The log that the market writes to.
    log: String,
    /// The version of the rules that make it.
    rules: u32,
    settings: Settings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "dirt")]
    pub(super) faults: Option<Faults>,
    /// What faults delayed at the end of the history was appended there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) delivered: bool,
}

impl About {
    /// Reads it, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<About>> {
        let found = Origin::read(path)?;
        found.map(|(origin, text)| origin.about(path, &text)).transpose()
    }

    /// Reads what the file says, and refuses what no market could live by.
    fn of_json(text: &[u8]) -> Result<About> {
        let about: About = serde_json::from_slice(text)?;
        about.settings.check().map_err(|what| anyhow!(what))?;
        Ok(about)
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        replace(path, PRIVATE, &serde_json::to_vec_pretty(self)?)
    }
}

/// The settings of the market in a directory: those that it has, or new ones, which it then keeps
/// for this log. An option that contradicts what it has is an error, since the events so far come from
/// that; so is another log, and for a new market one that holds records already. What other rules have
/// begun is [`OtherRules`].
pub fn load_or_create(dir: &Path, options: &Options, log: &dyn Log) -> Result<Settings> {
    ensure!(log.owner()? != Some(Owner::Import), belongs_to_import(log));
    let path = dir.join("market.json");
    let partitions = Topic::ALL.map(|topic| log.partitions(topic));
    let Some((origin, text)) = Origin::read(&path)? else {
        ensure!(
            log::is_empty(log)?,
            "the log holds records, but {} has no market that wrote them: name the directory of \
             that market, or another log with {}",
            dir.display(),
            log.another()
        );
        let settings = Settings { partitions, ..options.settings()? };
        settings.check().map_err(|what| anyhow!(what))?;
        claim(log)?;
        let log = log.identity().to_owned();
        let about = About { log, rules: RULES, settings, faults: options.faults, delivered: false };
        fs::create_dir_all(dir)?;
        about.write(&path)?;
        return Ok(about.settings);
    };
    ensure!(
        origin.log == log.identity(),
        "the market in {} writes to log {}, not to {}: name that log, or another directory for a \
         new market",
        dir.display(),
        origin.log,
        log.identity()
    );
    let about = origin.about(&path, &text)?;
    let settings = about.settings;
    // Where there are more by now it goes on in those that it has: keys keep their partitions.
    for ((topic, begun), held) in Topic::ALL.into_iter().zip(settings.partitions).zip(partitions) {
        ensure!(
            begun <= held,
            "the market in {} began with {begun} partitions of topic {}, which now has {held}: was the \
             topic deleted and made again? A new market begins in another directory, with {}",
            dir.display(),
            topic.name(),
            log.another()
        );
    }
    let has = |what: &str, has: String, wanted: String| {
        bail!(
            "the market in {} has {what} {has}, not {wanted}: leave the flag out, or begin a new \
             market in another directory",
            dir.display()
        )
    };
    if let Some(seed) = options.seed.filter(|seed| *seed != settings.seed) {
        has("seed", settings.seed.to_string(), seed.to_string())?;
    }
    if let Some(start) = options.start.filter(|start| *start != settings.start) {
        let clock = |at| match wall_clock(at) {
            clock if start_of_day(day_of(at)) == at => clock.date().to_string(),
            clock => clock.to_string(),
        };
        has("start", clock(settings.start), clock(start))?;
    }
    let wanted = options.history.map(|wanted| wanted.begins(settings.start));
    if let Some(wanted) = wanted.filter(|wanted| *wanted != settings.origin) {
        let days = |begun| format!("{} d", (settings.start - begun) / DAY);
        has("a history of", days(settings.origin), days(wanted))?;
    }
    if options.profile.as_ref().is_some_and(|profile| *profile != settings.profile) {
        has("the profile", "it began with".into(), "this one".into())?;
    }
    if let Some(text) = &options.scenarios
        && read_scenarios(text, &settings.profile)? != settings.scenarios
    {
        has("the scenarios", "it began with".into(), "these".into())?;
    }
    if let Some(faults) = options.faults.filter(|faults| about.faults != Some(*faults)) {
        match about.faults {
            Some(has_faults) => has("dirt", has_faults.to_string(), faults.to_string())?,
            None => has("no", "dirt".into(), faults.to_string())?,
        }
    }
    // A version before this one did not say it.
    claim(log)?;
    Ok(settings)
}

/// Makes the log a market's.
fn claim(log: &dyn Log) -> Result<()> {
    ensure!(log.claim(Owner::Market)? == Owner::Market, belongs_to_import(log));
    Ok(())
}

/// Why no market lives in a log that an import has written to.
fn belongs_to_import(log: &dyn Log) -> String {
    format!(
        "an import has written to the log, and a market writes to a log alone: name another with {}",
        log.another()
    )
}

/// Whether a market writes a log: as the log says, or the market in `dir`, or for a log of a version
/// that said nothing and whose market is elsewhere, its records.
pub fn writes(dir: &Path, log: &dyn Log) -> Result<bool> {
    if let Some(owner) = log.owner()? {
        return Ok(owner == Owner::Market);
    }
    let here = Origin::read(&dir.join("market.json"))?;
    Ok(here.is_some_and(|(origin, _)| origin.log == log.identity()) || looks_made(log)?)
}

/// Whether a log's records are a market's: each partition of `users` begins with customers of the
/// seeding, and some heartbeat is not in all partitions of `orders` at once, as an import's are.
fn looks_made(log: &dyn Log) -> Result<bool> {
    for partition in 0..log.partitions(Topic::Users) {
        let mut seeded = false;
        each_record(log, Topic::Users, partition, |event| {
            if let Event::User(event) = event {
                seeded =
                    i64::try_from(event.event_id).is_ok_and(|id| id + 1 == event.user.user_id.0);
            }
            false
        })?;
        if !seeded {
            return Ok(false);
        }
    }
    let (mut beats, partitions) = (BTreeMap::new(), log.partitions(Topic::Orders));
    for partition in 0..partitions {
        each_record(log, Topic::Orders, partition, |event| {
            if let Event::Heartbeat(at) = event {
                *beats.entry(at).or_insert(0) += 1;
            }
            true
        })?;
    }
    Ok(beats.values().any(|count| count % partitions > 0))
}

/// Hands on the valid records of a partition, for as long as more are wanted.
fn each_record(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    mut more: impl FnMut(Event) -> bool,
) -> Result<()> {
    let (start, end) = (log.start(topic, partition)?, log.end(topic, partition)?);
    let mut batch = Batch::default();
    let mut reader = log.reader(topic, partition, start)?;
    while reader.position() < end {
        batch.clear();
        reader.wait(&mut batch, 1_000)?;
        for record in batch.iter() {
            if codec::decode(topic, record.value).is_ok_and(|event| !more(event)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The settings of the market in a directory, if there is one; what other rules have begun is
/// [`OtherRules`].
pub fn settings_in(dir: &Path) -> Result<Option<Settings>> {
    Ok(About::read(&dir.join("market.json"))?.map(|about| about.settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::fuzz::{SMALL, fuzz};
    use crate::market::{Handle, Speed, cache::Cache, write_lines};

    /// Reads a file of scenarios for the profile that ships.
    fn scenarios(text: &str) -> Result<Vec<Scenario>> {
        read_scenarios(text, &Profile::named("year").unwrap())
    }

    /// Lives through a history; what comes of it is valid.
    fn live(settings: &Settings) {
        settings.check().unwrap();
        let (mut lines, handle) = (Vec::new(), Handle::new(Cache::default(), Speed::Max));
        write_lines(settings, 1, true, &handle, &mut lines).unwrap();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            let topic = Topic::from_name(line["topic"].as_str().unwrap()).unwrap();
            let value = line["value"].to_string();
            codec::decode(topic, Some(value.as_bytes())).expect(&value);
        }
    }

    /// Whatever a profile is: it is refused, or a market can live by it, and what it makes is valid.
    #[test]
    fn fuzz_profiles() {
        let year = include_str!("../../dataflows/market/year.toml");
        // Comments would take most of the damage.
        let year = year.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
        let year = year.collect::<Vec<_>>().join("\n");
        let brief = include_str!("../../dataflows/market/brief.toml");
        let small = [
            ("10_000\n", "60\n"),
            ("20_000\n", "40\n"),
            ("2_400_000\n", "300\n"),
            ("\"16d\"", "\"10m\""),
            ("\"14d\"", "\"5m\""),
        ];
        let small = small.iter().fold(format!("{year}\n"), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        fuzz!(10_000, [SMALL, &small, &small, &year, brief], |input| {
            let Ok(text) = str::from_utf8(&input.0) else { return false };
            let Ok(profile) = Profile::read(text) else { return false };
            let said = serde_json::to_value(&profile).unwrap();
            let again: Profile = serde_json::from_value(said.clone()).unwrap();
            assert_eq!(again, profile);
            let number = |of: [&str; 2]| said[of[0]][of[1]].as_f64().unwrap();
            // What takes long is not lived by here.
            if number(["customers", "initial"]) > 1e3 || number(["products", "initial"]) > 1e3 {
                return false;
            }
            if number(["customers", "growth"]) * number(["customers", "reach"]) > 1e4 {
                return false;
            }
            let mut settings = crate::fuzz::settings();
            settings.profile = profile;
            settings.scenarios.clear();
            settings.start = settings.border(6);
            live(&settings);
            true
        });
    }

    /// Whatever a file of scenarios is: it is refused, or some years have their occurrences, and a market
    /// lives through the beginning of the first.
    #[test]
    fn fuzz_scenarios() {
        let shipped = include_str!("../../dataflows/market/scenarios.toml");
        let parts: Vec<&str> = shipped.split("[[scenario]]").skip(1).collect();
        let seeds = parts.iter().map(|part| format!("[[scenario]]{part}"));
        let settings = crate::fuzz::settings();
        fuzz!(1_000, seeds, |input| {
            let Ok(text) = str::from_utf8(&input.0) else { return false };
            let Ok(scenarios) = scenarios(text) else { return false };
            let all = dataflows::market::occurrences(&scenarios, 1, 2010..=2012);
            assert!(all.iter().all(|one| one.from < one.until && one.scenario < scenarios.len()));
            let peaks = scenarios.iter().map(|it| dataflows::model::Strength::new(it.peak()));
            assert!(peaks.flatten().count() == scenarios.len());
            let said = serde_json::to_vec(&scenarios).unwrap();
            let again: Vec<Scenario> = serde_json::from_slice(&said).unwrap();
            assert_eq!(again, scenarios);
            if let Some(first) = all.first() {
                let (origin, start) = (first.from, first.from + 2 * settings.refresh());
                live(&Settings { origin, start, scenarios, ..settings.clone() });
            }
            true
        });
    }

    /// Whatever `market.json` is: it is refused, or names a market that can be.
    #[test]
    fn fuzz_market_files() {
        let mut settings = crate::fuzz::settings();
        settings.scenarios.truncate(2);
        settings.profile = Profile::read("base = \"brief\"").unwrap();
        let faults = "late=2%:30d,duplicate=5%,shuffle=60s,corrupt=0.5%".parse().ok();
        let about = About { log: "abc".into(), rules: RULES, settings, faults, delivered: true };
        let seeds =
            [serde_json::to_vec(&about).unwrap(), serde_json::to_vec_pretty(&about).unwrap()];
        fuzz!(50_000, seeds, |input| {
            let Ok(about) = About::of_json(&input.0) else { return false };
            let settings = &about.settings;
            settings.check().unwrap();
            assert!(settings.border(settings.refresh_of(settings.start)) <= settings.start);
            let said = serde_json::to_vec(&about).unwrap();
            let again = About::of_json(&said).unwrap();
            assert_eq!((again.settings == about.settings, again.faults), (true, about.faults));
            true
        });
    }

    #[test]
    fn a_market_lives_when_its_events_are_valid() {
        let at = |date: &str| Some(start_of_day(day_of_date(date.parse().unwrap())));
        let of = |start: &str| {
            let history = Some(History::Days(30));
            Options { start: at(start), history, ..Options::default() }.settings()
        };
        for start in ["2001-02-01", "2026-11-30", "2098-12-30"] {
            of(start).unwrap();
        }
        for start in ["1990-01-01", "2001-01-15", "2099-06-01"] {
            let said = of(start).unwrap_err().to_string();
            assert!(said.contains("2001 at the earliest"), "{said}");
        }
        let mut settings = crate::fuzz::settings();
        settings.partitions[2] = 0;
        assert!(settings.check().unwrap_err().contains("without partitions"));
    }
}
