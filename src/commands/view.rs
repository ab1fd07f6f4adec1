//! `marketday view`: standing views, which keep the answer to a SELECT.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use postgres::Client;

use super::options::{Look, Place};
use crate::platform::clock::Stopwatch;
use crate::platform::output::Output;
use crate::platform::{retry, signals};
use crate::store;
use crate::store::views::{self, New, State, Told};

/// Adds, lists, shows and drops standing views: a SELECT whose answer is kept, exact at every commit.
#[derive(Subcommand)]
pub(crate) enum View {
    /// Adds the SELECT of a file, to analytics that run or for their next start.
    Add(Add),
    /// Lists the views, whether each holds, and how many rows it has.
    List(List),
    /// Shows a view's columns and its text as PostgreSQL understood it.
    Show(Show),
    /// Drops a view and its rows.
    Drop(Drop),
}

#[derive(Args)]
pub(crate) struct Add {
    /// A file with one SELECT; `-` is standard input.
    file: PathBuf,
    /// The view's name [default: the file's, without its ending].
    #[arg(long)]
    name: Option<String>,
    /// In the place of the view that has this name.
    #[arg(long)]
    replace: bool,
    /// Also where it joins each row of one relation with each of another.
    #[arg(long)]
    yes: bool,
    /// Each of its rows is an alert, on the page, in the metrics and in Grafana.
    #[arg(long)]
    alert: bool,
    /// So many records it may hold in memory; beyond them it is given up [default: 20000000].
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    most: Option<u64>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
pub(crate) struct Show {
    /// The view's name.
    name: String,
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
pub(crate) struct Drop {
    /// The view's name.
    name: String,
    #[command(flatten)]
    place: Place,
}

/// How long analytics may take to begin, where a program of ours is connected.
const BEGINNING: Duration = Duration::from_secs(20);

/// How often one looks whether the engine has done what it was asked for.
const LOOK: Duration = Duration::from_millis(50);

impl View {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (place, json) = match self {
            View::Add(it) => (&it.place, false),
            View::Drop(it) => (&it.place, false),
            View::List(List { look }) | View::Show(Show { look, .. }) => (&look.place, look.json),
        };
        let database = place.look()?;
        let mut client = store::connect(&database.config)?;
        let out = &mut Output::lock();
        let code = match self {
            View::Add(it) => it.run(&mut client, out)?,
            View::Drop(Drop { name, .. }) => {
                drop_and_wait(&mut client, name)?;
                writeln!(out, "{name} is dropped")?;
                ExitCode::SUCCESS
            }
            View::List(_) => list(&mut client, out, json)?,
            View::Show(it) => show(&mut client, &it.name, out, json)?,
        };
        database.stop()?;
        Ok(code)
    }
}

impl Add {
    fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<ExitCode> {
        let (text, name) = (read(&self.file)?, self.name()?);
        let (all_pairs, most, alert) = (self.yes, self.most, self.alert);
        let mut new = New { name: &name, text: &text, all_pairs, most, alert };
        let old = views::list(client)?.into_iter().find(|view| view.name == name);
        if let Some(old) = old.filter(|_| self.replace) {
            // What is refused leaves the old one as it is, and what is an alert stays one.
            views::check(client, &new)?;
            new.alert |= old.alert;
            drop_and_wait(client, &name)?;
        }
        views::add(client, &new)?;
        let mut analytics = Analytics::default();
        let what = format!("{name}: looking for the analytics");
        if wait(&what, |_| analytics.run(client))? != Some(true) {
            writeln!(
                out,
                "{name} is kept, and stands from the next start of the analytics on: they do not run"
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        let state = wait(&format!("{name}: reading the past"), |bar| {
            let state = views::state(client, &name)?;
            if let Some(held) = views::held(client, &name)? {
                bar.set_message(format!("{name}: reading the past, {held} records held"));
            }
            let ended = state.state == "adding" && analytics.run(client)? == Some(false);
            ensure!(
                !ended,
                "the analytics have ended meanwhile; {name} stands from their next start on"
            );
            Ok((state.state != "adding").then_some(state))
        })?;
        let Some(State { state, reason, .. }) = state else {
            bail!(signals::Interrupted(format!(
                "{name} is being added; `marketday view list` says when it stands"
            )));
        };
        let rows: i64 = client.query_one(&format!("SELECT count(*) FROM {name}"), &[])?.get(0);
        let now: Option<String> =
            client.query_one("SELECT (market_now() AT TIME ZONE 'Asia/Seoul')::text", &[])?.get(0);
        if state == "failed" || state == "ended" {
            let healed = match state.as_str() {
                "failed" => "; it will when what raises that is gone",
                _ => "",
            };
            writeln!(out, "{name} does not hold: {reason}{healed}")?;
            return Ok(ExitCode::FAILURE);
        }
        let as_of = now.map(|now| format!(" as of {now}")).unwrap_or_default();
        writeln!(out, "{name}: {rows} rows{as_of}, from then on in every commit")?;
        Ok(ExitCode::SUCCESS)
    }

    fn name(&self) -> Result<String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let stem = self.file.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.filter(|_| self.file != Path::new("-"));
        stem.map(str::to_owned).context("a view has a name: give it one by --name")
    }
}

/// Finds whether analytics look after the views.
#[derive(Default)]
struct Analytics {
    missed: Option<Stopwatch>,
}

impl Analytics {
    /// Whether they do; nothing while they may be starting, or starting again, since another program of ours
    /// is connected.
    fn run(&mut self, client: &mut Client) -> Result<Option<bool>> {
        if views::is_looked_after(client)? {
            self.missed = None;
            return Ok(Some(true));
        }
        let missed = *self.missed.get_or_insert_with(Stopwatch::start);
        let given_up = missed.elapsed() > BEGINNING || !store::is_shared(client)?;
        Ok(given_up.then_some(false))
    }
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading a SELECT from standard input")?;
    } else {
        text = fs::read_to_string(file)
            .with_context(|| format!("reading a SELECT from {}", file.display()))?;
    }
    Ok(text)
}

/// Drops a view: an engine that looks after it does that when it has let go of it.
fn drop_and_wait(client: &mut Client, name: &str) -> Result<()> {
    views::ask_to_drop(client, name)?;
    let mut analytics = Analytics::default();
    let done = wait(&format!("{name}: letting go of it"), |_| {
        if analytics.run(client)? == Some(false) {
            views::remove(client, name)?;
        }
        Ok(views::list(client)?.iter().all(|view| view.name != name).then_some(()))
    })?;
    done.with_context(|| signals::Interrupted(format!("{name} goes as soon as it can")))
}

/// Waits until there is an answer; nothing where one is told to stop.
fn wait<T>(
    what: &str,
    mut look: impl FnMut(&ProgressBar) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let stop = signals::stop();
    let stopped = |stop: &AtomicBool| stop.load(Ordering::Relaxed);
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    bar.enable_steady_tick(5 * LOOK);
    let answer = loop {
        if let Some(answer) = look(&bar)? {
            break Some(answer);
        }
        if stopped(&stop) || retry::rest(LOOK, &|| stopped(&stop)).is_err() {
            break None;
        }
    };
    bar.finish_and_clear();
    Ok(answer)
}

fn list(client: &mut Client, out: &mut dyn Write, json: bool) -> Result<ExitCode> {
    let told = views::told(client, None)?;
    if json {
        serde_json::to_writer(&mut *out, &told)?;
        writeln!(out)?;
    } else if told.is_empty() {
        writeln!(out, "there is no standing view; `marketday view add FILE` adds one")?;
    } else {
        writeln!(out, "{:<32}{:<10}{:>12}{:>12}", "view", "state", "rows", "held")?;
        for Told { state: State { name, state, reason }, rows, held, .. } in told {
            let held = held.map_or_else(|| "-".to_owned(), |held| held.to_string());
            let reason = if reason.is_empty() { reason } else { format!("  {reason}") };
            writeln!(out, "{name:<32}{state:<10}{rows:>12}{held:>12}{reason}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(client: &mut Client, name: &str, out: &mut dyn Write, json: bool) -> Result<ExitCode> {
    views::find(client, name)?;
    let told = views::told(client, Some(name))?.pop();
    let told = told.with_context(|| format!("{name} has just been dropped"))?;
    let columns = client.query(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = to_regclass($1) AND attnum > 0 ORDER BY attnum",
        &[&name],
    )?;
    let columns: Vec<(String, String)> =
        columns.iter().map(|row| (row.get(0), row.get(1))).collect();
    if json {
        let told = serde_json::json!({ "view": told, "columns": columns });
        serde_json::to_writer(&mut *out, &told)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let State { state, reason, .. } = told.state;
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    let alert = if told.alert { ", each an alert" } else { "" };
    writeln!(out, "{name}: {state}{reason}, {} rows{alert}, of", told.rows)?;
    for (column, of) in columns {
        writeln!(out, "    {column:<30}{of}")?;
    }
    writeln!(out, "\n{}", told.text)?;
    Ok(ExitCode::SUCCESS)
}
