//! `marketday tail`: follows a result table.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::Args;

use super::options::Place;
use crate::platform::retry::Patience;
use crate::platform::{output, signals};
use crate::store::changes::{self, Begin};

/// Follows a result table: a line of JSON for each row that comes, changes or goes.
#[derive(Args)]
pub(crate) struct Tail {
    /// The table: one of the queries' results, as `orders_by_minute`.
    table: String,
    /// Only what came after that commit point, as an earlier run printed it last.
    #[arg(long, value_name = "COMMIT_POINT", conflicts_with = "snapshot")]
    from: Option<i64>,
    /// First the whole table, each row as an insert.
    #[arg(long, alias = "whole")]
    snapshot: bool,
    #[command(flatten)]
    place: Place,
}

impl Tail {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let Tail { table, from, snapshot, place } = self;
        let stop = signals::stop();
        // Whose reader is gone has nobody to follow the table for, also where nothing changes.
        let stopped = || stop.load(Ordering::Relaxed) || output::reader_is_gone();
        let database = place.look_for(Patience::Start, &stopped)?;
        let begin = match from {
            Some(commit_point) => Begin::After(*commit_point),
            None if *snapshot => Begin::Snapshot,
            None => Begin::Now,
        };
        let out = &mut output::Output::lock();
        changes::tail(&database.config, table, begin, &stopped, out)?;
        database.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}
