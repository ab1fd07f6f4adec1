//! `marketday verify`: every table against its batch twin.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::options::Look;
use crate::platform::output::Output;

/// Compares every table with its batch twin, and the ledgers with the log; exit 1 on any difference.
#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    look: Look,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let log = self.look.place.log.look()?;
        let database = self.look.place.look()?;
        let out = &mut Output::lock();
        let equal = crate::verify::verify(&database.config, Some(&*log), out, self.look.json)?;
        database.stop()?;
        Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
