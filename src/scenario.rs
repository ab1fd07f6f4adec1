//! `marketday scenario`: the calendar of the next twelve months, and scenarios by hand.

use std::io::Write;

use anyhow::Result;
use chrono::Datelike;
use dataflows::market::{Settings, occurrences};
use dataflows::model::Millis;
use dataflows::model::time::{DAY, date_of, day_of, wall_clock};
use serde::Serialize;

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
pub fn list(settings: &Settings, now: Millis, out: &mut dyn Write, json: bool) -> Result<()> {
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
