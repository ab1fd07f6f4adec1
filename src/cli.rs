//! The command line: parse, run the command, and tell the error that it ends with.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing::{error, info};

use crate::commands::Command;
use crate::engine::supervise;
use crate::platform::logging::{self, LAST_WORD};
use crate::platform::{output, retry, secret, signals};

/// A living online market in one program, and its exact, incremental analytics.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is said of the work on standard error: error, warn, info, debug or trace, also for a
    /// target, as in info,librdkafka=debug; `json` writes a JSON object an event [default: errors and
    /// warnings, as sentences].
    #[arg(long, global = true, value_name = "LEVEL", env = logging::VARIABLE, value_parser = logging::read)]
    log: Option<logging::Asked>,
}

impl Cli {
    /// Reads the command line. What is wrong with it is told without its values where one of them may be
    /// a password.
    pub fn read() -> Cli {
        Cli::try_parse().unwrap_or_else(|error| {
            let words = std::env::args_os().skip(1);
            let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
            let said = error.render().to_string();
            let told = secret::without_values(said.clone(), &words);
            if told == said {
                error.exit();
            }
            _ = write!(std::io::stderr(), "{told}");
            std::process::exit(error.exit_code())
        })
    }
}

/// Runs a command; an error is printed once, with its causes. That nobody reads what it prints is none.
pub fn run(cli: Cli) -> ExitCode {
    logging::begin(cli.log.flatten());
    info!(version = env!("CARGO_PKG_VERSION"), process = std::process::id(), "starting");
    // Of one process among several its supervisor hears whether the error passes.
    let supervised = matches!(&cli.command, Command::Analytics(it) if it.is_supervised());
    let ended = signals::listen().and_then(|()| cli.command.run());
    while signals::at_once() {
        // The one that listens ends the process, when no server is left.
        std::thread::park();
    }
    ended.unwrap_or_else(|error| {
        let is_cut_off = error.is::<signals::Interrupted>();
        let is_stopped = error.chain().any(<dyn std::error::Error>::is::<retry::Stopped>);
        if !is_cut_off && (is_stopped || output::is_unread()) {
            return ExitCode::SUCCESS;
        }
        error!(target: LAST_WORD, "{error:#}");
        if is_cut_off {
            return signals::exit_code();
        }
        if supervised && retry::lost(&error) {
            return ExitCode::from(supervise::LOST);
        }
        ExitCode::FAILURE
    })
}
