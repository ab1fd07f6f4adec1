//! `marketday truth`: what no shop knows, put into the `truth_*` tables on request.
//!
//! Nothing of it is kept while the market lives. As the same settings and commands give the same
//! market, it is lived through once more, without its log.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use chrono::DateTime;
use clap::Args;
use dataflows::market::{self as core, Settings};
use dataflows::model::Millis;
use postgres::Transaction;

use super::options::Place;
use crate::market;
use crate::platform::output::Output;
use crate::store;

/// Puts what no shop knows (rhythms, tastes, drop-outs, true demand) into the tables `truth_*`.
#[derive(Args)]
pub(crate) struct Truth {
    #[command(flatten)]
    place: Place,
}

impl Truth {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let dir = &self.place.log.dir;
        let settings = market::settings_in(dir)?.with_context(|| {
            format!(
                "there is no market in {}: name the --dir of the one to be told of",
                dir.display()
            )
        })?;
        let database = self.place.look()?;
        truth(dir, &settings, &database.config, &mut Output::lock())?;
        database.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The tables, as [`Rows`] has them.
const TABLES: [&str; 5] =
    ["truth_customers", "truth_taste", "truth_drop_outs", "truth_demand", "truth_arrivals"];
/// Text of a table that is sent at once.
const CHUNK: usize = 1 << 20;

/// Rows on their way to the tables, as COPY has them.
struct Rows<'c, 't> {
    tx: &'t mut Transaction<'c>,
    texts: [String; TABLES.len()],
    counts: [u64; TABLES.len()],
}

/// Fills the tables of a store from the market in a directory, up to the store's `now`.
fn truth(
    dir: &Path,
    settings: &Settings,
    database: &postgres::Config,
    out: &mut dyn Write,
) -> Result<()> {
    let mut client = store::connect(database)?;
    let now: Option<Millis> = client
        .query_one("SELECT (extract(epoch FROM now) * 1000)::bigint FROM progress", &[])?
        .get(0);
    let now = now.context("the store has no results yet: run `marketday up` first")?;
    let until = settings.border(settings.refresh_of(now));
    let mut tx = client.transaction()?;
    tx.batch_execute(&format!("TRUNCATE {}", TABLES.join(", ")))
        .context("emptying the tables of the truth, which their owner may")?;
    let words = settings.profile.words();
    let rows = Rows { tx: &mut tx, texts: Default::default(), counts: Default::default() };
    let rows = RefCell::new(rows);
    market::truth(dir, settings, until, &|truth| rows.borrow_mut().add(truth, &words))?;
    let mut rows = rows.into_inner();
    rows.send(0)?;
    let counts = rows.counts;
    tx.commit()?;
    for (table, rows) in TABLES.iter().zip(counts) {
        writeln!(out, "{table:16} {rows:10} rows")?;
    }
    Ok(())
}

impl Rows<'_, '_> {
    fn add(&mut self, truth: Vec<core::Truth>, words: &[&str]) -> Result<()> {
        let [customers, tastes, drop_outs, demand, arrivals] = &mut self.texts;
        for truth in truth {
            match truth {
                core::Truth::Customer { user_id, factor, orders_a_month, drop_out, taste } => {
                    writeln!(customers, "{user_id}\t{factor}\t{orders_a_month}\t{drop_out}")?;
                    self.counts[0] += 1;
                    for (word, liking) in words.iter().zip(taste) {
                        writeln!(tastes, "{user_id}\t{word}\t{liking}")?;
                        self.counts[1] += 1;
                    }
                }
                core::Truth::DropOut { user_id, at } => {
                    writeln!(drop_outs, "{user_id}\t{}", instant(at)?)?;
                    self.counts[2] += 1;
                }
                core::Truth::Arrival { user_id, at } => {
                    writeln!(arrivals, "{user_id}\t{}", instant(at)?)?;
                    self.counts[4] += 1;
                }
                core::Truth::Demand { at, due, ready, expected, orders } => {
                    let at = instant(at)?;
                    writeln!(demand, "{at}\t{due}\t{ready}\t{expected}\t{orders}")?;
                    self.counts[3] += 1;
                }
            }
        }
        self.send(CHUNK)
    }

    /// Sends the texts that are longer than `least`.
    fn send(&mut self, least: usize) -> Result<()> {
        for (table, text) in TABLES.iter().zip(&mut self.texts) {
            if text.len() > least {
                let mut writer = self.tx.copy_in(&format!("COPY {table} FROM STDIN"))?;
                writer.write_all(text.as_bytes())?;
                writer.finish().with_context(|| format!("filling {table}"))?;
                text.clear();
            }
        }
        Ok(())
    }
}

fn instant(at: Millis) -> Result<String> {
    Ok(DateTime::from_timestamp_millis(at).context("a market time")?.to_rfc3339())
}
