//! `marketday page`: the web page alone.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tracing::warn;

use super::options::{Listen, Place};
use crate::page::{self, dashboards};
use crate::platform::output::Output;
use crate::platform::retry::Patience;
use crate::platform::signals;

/// Serves the web page alone, over the store of a running market; `up` has it too.
#[derive(Args)]
pub(crate) struct Page {
    #[command(flatten)]
    listen: Listen,
    /// Write the dashboards in Korean, too, as files for a Grafana, into this directory.
    #[arg(long, value_name = "DIR")]
    korean_dashboards: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Page {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let stop = signals::stop();
        if let Some(dir) = &self.korean_dashboards
            && let Err(error) = dashboards::write_korean(dir)
        {
            // The page is of use without them.
            warn!("{error:#}");
        }
        let Page { listen, place, .. } = self;
        let database = place.look_for(Patience::Start, &|| stop.load(Ordering::Relaxed))?;
        let page = page::serve(listen.settings(&database, &place.log.dir)?)?;
        writeln!(Output::lock(), "look at http://{}", page.address)?;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(page);
        database.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}
