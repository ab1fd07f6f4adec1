//! The command line: parse, run the command, and tell the error that it ends with.

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::engine::supervise;
use crate::platform::retry;
use crate::platform::say::say;

/// A living online market in one program, and its exact, incremental analytics.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Runs a command; an error is printed once, with its causes.
pub fn run(cli: &Cli) -> ExitCode {
    // Of one process among several its supervisor hears whether the error passes.
    let supervised = matches!(&cli.command, Command::Analytics(it) if it.is_supervised());
    cli.command.run().unwrap_or_else(|error| {
        if error.chain().any(<dyn std::error::Error>::is::<retry::Stopped>) {
            return ExitCode::SUCCESS;
        }
        say(format_args!("{error:#}"));
        if supervised && retry::lost(&error) {
            return ExitCode::from(supervise::LOST);
        }
        ExitCode::FAILURE
    })
}
