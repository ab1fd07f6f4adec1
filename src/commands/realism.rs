//! `marketday realism`: how like a real shop the market is, and how like its brief.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use dataflows::market::{Settings, Truth};
use dataflows::model::time::{Day, day_of, start_of_day};

use super::options::Look;
use crate::market;
use crate::platform::output::Output;
use crate::realism::{self, Days, Form, Lived};

/// Tells how like a real shop the market is: 22 statistics beside those of real shops.
#[derive(Args)]
pub(crate) struct Realism {
    #[command(flatten)]
    look: Look,
    /// Write the report as a page with plots, too, into this file.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Tell how like its brief the market is instead: each number of the brief beside what is measured.
    #[arg(long, conflicts_with = "html")]
    brief: bool,
}

impl Realism {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let Realism { look, html, brief } = self;
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
        let out = &mut Output::lock();
        if *brief {
            let dir = &look.place.log.dir;
            let settings = market::settings_in(dir)?;
            let lived = settings.as_ref().map(|settings| {
                let mood = move |id: i64, consent, at| settings.mood(id as u32, consent, at);
                (settings, mood, move |scenario: &str, last| without(dir, settings, scenario, last))
            });
            let lived = lived.as_ref().map(|(settings, mood, without)| Lived {
                start: settings.start,
                to_the_letter: settings.is_to_the_letter(),
                mood,
                without,
            });
            realism::brief(&database.config, out, form, lived.as_ref())?;
        } else {
            let page = page.as_mut().map(|page| page as &mut dyn Write);
            realism::realism(&database.config, out, form, page)?;
        }
        if let Some(mut page) = page {
            page.flush().context("writing the page")?;
        }
        database.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Orders by day, up to a day, of the market in a directory if it had not had a scenario of the calendar.
fn without(dir: &Path, settings: &Settings, scenario: &str, last: Day) -> Result<Days> {
    let mut settings = settings.clone();
    settings.scenarios.retain(|of| of.name != scenario);
    let until = settings.border(settings.refresh_of(start_of_day(last + 1)) + 1);
    let orders = std::cell::RefCell::new(Days::new());
    market::truth(dir, &settings, until, &|truth| {
        for of in truth {
            if let Truth::Demand { at, orders: placed, .. } = of {
                // A tick's orders are placed before it, or at its end.
                *orders.borrow_mut().entry(day_of(at - 1)).or_default() += i64::from(placed);
            }
        }
        Ok(())
    })?;
    Ok(orders.into_inner())
}
