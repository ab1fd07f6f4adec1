//! `marketday realism`: how like a real shop the market is.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::options::Look;
use crate::platform::output::Output;
use crate::realism::{self, Form};

/// Tells how like a real shop the market is: 18 statistics beside those of real shops.
#[derive(Args)]
pub(crate) struct Realism {
    #[command(flatten)]
    look: Look,
    /// Write the report as a page with plots, too, into this file.
    #[arg(long)]
    html: Option<PathBuf>,
}

impl Realism {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let Realism { look, html } = self;
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
}
