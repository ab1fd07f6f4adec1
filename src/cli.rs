//! The command line: parse, run the command, and tell the error that it ends with.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tracing::{error, info};

use crate::commands::Command;
use crate::engine::supervise;
use crate::platform::logging::{self, LAST_WORD, Logging};
use crate::platform::retry;

/// A living online market in one program, and its exact, incremental analytics.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is said of the work on standard error: error, warn, info, debug or trace, also for a
    /// target, as in info,librdkafka=debug; `json` writes a JSON object an event [default: errors and
    /// warnings, as sentences].
    #[arg(long, global = true, value_name = "LEVEL", env = logging::VARIABLE)]
    log: Option<String>,
}

/// Runs a command; an error is printed once, with its causes.
pub fn run(cli: Cli) -> ExitCode {
    // One that is empty says nothing, as `${NAME:-}` in a script may.
    let logging =
        cli.log.filter(|text| !text.trim().is_empty()).map(|text| text.parse::<Logging>());
    match logging.transpose() {
        Ok(logging) => logging::begin(logging),
        Err(what) => Cli::command().error(ErrorKind::InvalidValue, format!("--log: {what}")).exit(),
    }
    info!(version = env!("CARGO_PKG_VERSION"), process = std::process::id(), "starting");
    // Of one process among several its supervisor hears whether the error passes.
    let supervised = matches!(&cli.command, Command::Analytics(it) if it.is_supervised());
    cli.command.run().unwrap_or_else(|error| {
        if error.chain().any(<dyn std::error::Error>::is::<retry::Stopped>) {
            return ExitCode::SUCCESS;
        }
        error!(target: LAST_WORD, "{error:#}");
        if supervised && retry::lost(&error) {
            return ExitCode::from(supervise::LOST);
        }
        ExitCode::FAILURE
    })
}
