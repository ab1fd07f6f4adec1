//! The commands: a file each, with what it takes and what it does.

pub(crate) mod analytics;
mod explain;
mod import;
mod market;
mod options;
mod page;
mod realism;
mod scenario;
mod status;
mod tail;
mod truth;
pub mod up;
mod verify;
mod view;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// A command; `--help` takes its sentence from the struct's.
#[derive(Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Market(market::Market),
    Analytics(analytics::Analytics),
    Import(import::Import),
    Verify(verify::Verify),
    Status(status::Status),
    #[command(subcommand)]
    Scenario(scenario::Scenario),
    Truth(truth::Truth),
    Realism(realism::Realism),
    Tail(tail::Tail),
    Page(page::Page),
    Explain(explain::Explain),
    #[command(subcommand)]
    View(view::View),
}

impl Command {
    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match self {
            Command::Up(it) => it.run(),
            Command::Market(it) => it.run(),
            Command::Analytics(it) => it.run(),
            Command::Import(it) => it.run(),
            Command::Verify(it) => it.run(),
            Command::Status(it) => it.run(),
            Command::Scenario(it) => it.run(),
            Command::Truth(it) => it.run(),
            Command::Realism(it) => it.run(),
            Command::Tail(it) => it.run(),
            Command::Page(it) => it.run(),
            Command::Explain(it) => it.run(),
            Command::View(it) => it.run(),
        }
    }
}
