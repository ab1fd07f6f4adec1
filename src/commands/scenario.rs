//! `marketday scenario`: the calendar of the next twelve months, and scenarios by hand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use chrono::{Datelike, NaiveDate};
use clap::{Args, Subcommand};
use dataflows::market::{Settings, occurrences};
use dataflows::model::Millis;
use dataflows::model::time::{DAY, Span, date_of, day_of, day_of_date, start_of_day, wall_clock};
use serde::Serialize;

use super::options::{Rules, date};
use crate::market::control::{self, ControlRequest};
use crate::market::{self, ScenarioCommand, ScenarioRequest};
use crate::platform::output::Output;

/// Lists the scenarios of the next twelve months, or starts and stops one in a running market.
#[derive(Subcommand)]
pub(crate) enum Scenario {
    /// Lists when each scenario is active next, within twelve months.
    List(ScenarioList),
    /// Starts a scenario at once, or gives one that is active another strength.
    Start(ScenarioStart),
    /// Stops a scenario that is active.
    Stop(ScenarioStop),
}

#[derive(Args)]
pub(crate) struct ScenarioList {
    /// Directory of the market; without one the calendar is that of a new market.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
    #[command(flatten)]
    rules: Rules,
    /// The first day of the list [default: the day on which the market goes live].
    #[arg(long, value_parser = date)]
    from: Option<NaiveDate>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ScenarioStart {
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
pub(crate) struct ScenarioStop {
    /// The scenario.
    name: String,
    /// Directory of the running market.
    #[arg(long, default_value = "marketday-data")]
    dir: PathBuf,
}

impl Scenario {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let out = &mut Output::lock();
        match self {
            Scenario::List(list) => {
                let settings = match market::settings_in(&list.dir)? {
                    Some(settings) => settings,
                    None => list.rules.market_options()?.settings()?,
                };
                let from = list.from.map_or(day_of(settings.start), day_of_date);
                let from = start_of_day(from);
                self::list(&settings, from, out, list.json)?;
            }
            Scenario::Start(ScenarioStart { name, lasts, strength, categories, dir }) => {
                let command = ScenarioCommand::Start {
                    strength: *strength,
                    categories: categories.clone(),
                    lasts: lasts.map(|span| span.0),
                };
                let request = ScenarioRequest { name: name.clone(), command };
                let at = ask(dir, request)?;
                write!(out, "{name} from {} on", wall_clock(at).format("%Y-%m-%d %H:%M:%S"))?;
                match lasts {
                    Some(lasts) => writeln!(out, ", for {lasts} of market time")?,
                    None => writeln!(out, ", until `marketday scenario stop {name}`")?,
                }
            }
            Scenario::Stop(ScenarioStop { name, dir }) => {
                let request =
                    ScenarioRequest { name: name.clone(), command: ScenarioCommand::Stop };
                let at = ask(dir, request)?;
                writeln!(out, "{name} until {}", wall_clock(at).format("%Y-%m-%d %H:%M:%S"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks for a scenario. Returns the market time from which it is in effect.
fn ask(dir: &Path, request: ScenarioRequest) -> Result<Millis> {
    // A market that does not go on says so.
    market::settings_in(dir)?;
    Ok(control::ask(dir, &ControlRequest::Scenario(request))?.from)
}

/// A scenario's next occurrence.
#[derive(Serialize)]
struct Next<'s> {
    name: &'s str,
    /// The days that it goes by.
    day: String,
    /// The first and the last day on which it is active.
    from: String,
    until: String,
    /// The factor on all orders at its peak.
    strength: f64,
    categories: &'s [String],
    about: &'s str,
}

/// Writes when each scenario is active next, within twelve months from a market time.
fn list(settings: &Settings, now: Millis, out: &mut dyn Write, json: bool) -> Result<()> {
    let year = date_of(day_of(now)).year();
    let all = occurrences(&settings.scenarios, settings.seed, year - 1..=year + 2);
    let coming = all.iter().filter(|one| now < one.until && one.from < now + 365 * DAY);
    let mut listed = vec![false; settings.scenarios.len()];
    let mut next = Vec::new();
    for one in coming {
        // What comes each month or week is told of once.
        if std::mem::replace(&mut listed[one.scenario], true) {
            continue;
        }
        let scenario = &settings.scenarios[one.scenario];
        next.push(Next {
            name: &scenario.name,
            day: scenario.day.to_string(),
            from: wall_clock(one.from).date().to_string(),
            until: wall_clock(one.until - 1).date().to_string(),
            strength: scenario.peak(),
            categories: &scenario.categories,
            about: &scenario.about,
        });
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &next)?;
        return Ok(writeln!(out)?);
    }
    let width = |of: fn(&Next<'_>) -> usize| next.iter().map(of).max().unwrap_or(0);
    let (names, days) = (width(|it| it.name.len()), width(|it| it.day.len()));
    for Next { name, day, from, until, strength, categories, about } in &next {
        writeln!(out, "{from} to {until}  {name:names$}  {day:days$}  x{strength:.2}  {about}")?;
        if !categories.is_empty() {
            writeln!(out, "{:26}for {}", "", categories.join(", "))?;
        }
    }
    Ok(())
}
