//! `marketday analytics`: the analytics alone, in one process or several.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::options::{Database, Instant, Kept, Place, TableList, count};
use crate::engine::{self, supervise};
use crate::platform::logging;
use crate::platform::retry::{self, Patience, Stopped};
use crate::platform::signals::{self, Interrupted};
use crate::store;
use crate::verify;

/// Runs the analytics alone, over the log.
#[derive(Args)]
#[command(disable_help_flag = true)] // `-h` is timely's: the hosts
pub(crate) struct Analytics {
    #[command(flatten)]
    place: Place,
    /// End when everything in the log is committed.
    #[arg(long)]
    exit_when_caught_up: bool,
    /// Empty the ledgers and the results first, and read the log from its start.
    #[arg(long)]
    rebuild: bool,
    /// With --rebuild: no record beyond this time moves the results' time, though it counts; kept
    /// with the database. 2026-11-27, 2026-11-27T14:00:00 (of the market's zone),
    /// 2026-11-27T05:00:00Z or milliseconds since 1970.
    #[arg(long, value_name = "INSTANT", requires = "rebuild")]
    latest: Option<Instant>,
    #[command(flatten)]
    tables: TableList,
    #[command(flatten)]
    kept: Kept,
    #[command(flatten)]
    workers: Workers,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Timely's workers.
#[derive(Args)]
pub(crate) struct Workers {
    /// Worker threads in each process.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Number of processes.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = count())]
    processes: usize,
    /// Which of the processes this one is, from 0 [default: all of them run on this machine].
    #[arg(short = 'p', long)]
    process: Option<usize>,
    /// File with a line `host:port` for each process [default: localhost, ports from 2101 on].
    #[arg(short = 'h', long, requires = "process")]
    hosts: Option<PathBuf>,
    /// End when another process is lost, instead of starting again from the last commit.
    #[arg(long)]
    once: bool,
}

impl Analytics {
    /// Whether it is one of several processes, whose supervisor hears how it ends.
    pub(crate) fn is_supervised(&self) -> bool {
        self.workers.once
    }

    pub(crate) fn run(&self) -> Result<ExitCode> {
        supervise::end_with_supervisor()?;
        let stop = signals::stop();
        let ended = self.analyse(&stop);
        let is_stopped = match &ended {
            Ok(code) => *code == ExitCode::SUCCESS,
            Err(error) => error.is::<Stopped>(),
        };
        // What a supervisor stops, it knows; what runs on for good has come to its end.
        let has_end = self.exit_when_caught_up && !self.is_supervised();
        if has_end && is_stopped && stop.load(Ordering::SeqCst) {
            let how = "stopped before all of the log was committed; run again to go on";
            return Err(Interrupted(how.into()).into());
        }
        ended
    }

    fn analyse(&self, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
        let stopped = || stop.load(Ordering::SeqCst);
        let communication = self.workers.communication()?;
        let tables = self.tables.tables()?;
        let database = self.place.database(Patience::Start, &stopped)?;
        let log = self.place.log.open(&stopped)?;
        // Once: whoever starts again goes on.
        if self.rebuild && self.workers.process.is_none_or(|process| process == 0) {
            let latest = self.latest.map(|latest| latest.0);
            store::rebuild(&mut store::connect(&database.config)?, log.identity(), latest)?;
        }
        if self.workers.processes > 1 && !self.workers.once {
            drop(log); // it is there, and so are its topics
            let well = run_processes(self, &database, stop)?;
            database.stop()?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let settings = engine::Settings {
            database: database.config.clone(),
            tables,
            timely: communication,
            exit_when_caught_up: self.exit_when_caught_up,
            producer_done: Arc::new(AtomicBool::new(true)),
            now: Arc::default(),
            stop: Arc::clone(stop),
            checkpoints: self.kept.settings(&self.place.log.dir),
            differing: verify::differing,
        };
        if self.workers.processes > 1 {
            engine::run(&log, settings)?;
        } else {
            retry::again(Patience::Ever, &stopped, || {
                database.revive();
                engine::run(&log, settings.clone())
            })?;
        }
        database.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The processes of the analytics, or the one of them that this is, started again when one is lost.
fn run_processes(command: &Analytics, database: &Database, stop: &AtomicBool) -> Result<bool> {
    let Analytics { place, exit_when_caught_up, tables, kept, workers, .. } = command;
    let program = std::env::current_exe().context("finding this program")?;
    let ready = || {
        retry::again(Patience::Ever, &|| stop.load(Ordering::SeqCst), || {
            database.revive();
            store::connect(&database.config).map(drop)
        })
    };
    supervise::supervise(workers.processes, workers.process, stop, ready, |process| {
        let mut child = std::process::Command::new(&program);
        child.args(["analytics", "--once"]).arg("--dir").arg(&place.log.dir);
        child.arg("--checkpoint").arg(kept.checkpoint.to_string());
        for (flag, number) in [("-w", workers.workers), ("-n", workers.processes), ("-p", process)]
        {
            child.arg(flag).arg(number.to_string());
        }
        if let Some(hosts) = &workers.hosts {
            child.arg("-h").arg(hosts);
        }
        let prefix = place.log.topic_prefix();
        for (flag, text) in [("--brokers", &place.log.brokers), ("--topic-prefix", &prefix)] {
            child.args(text.iter().flat_map(|text| [flag, text]));
        }
        child.args(tables.arguments());
        if let Some(log) = logging::asked() {
            child.env(logging::VARIABLE, log);
        }
        if *exit_when_caught_up {
            child.arg("--exit-when-caught-up");
        }
        if let Some(database) = &place.database {
            child.env("DATABASE_URL", database.expose());
        }
        child
    })
}

/// The addresses in a file of hosts.
pub(crate) fn addresses(text: &str) -> Result<Vec<String>> {
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty());
    lines
        .map(|(line, number)| {
            let port = line.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            let port = port.and_then(|(_, port)| port.parse::<u16>().ok());
            ensure!(
                port.is_some_and(|port| port > 0),
                "line {number} is no address such as host:2101: {line:?}"
            );
            Ok(line.to_owned())
        })
        .collect()
}

impl Workers {
    fn communication(&self) -> Result<timely::CommunicationConfig> {
        use timely::CommunicationConfig as To;
        let process = self.process.unwrap_or(0);
        ensure!(
            process < self.processes,
            "process {process} of {}: it needs an index below their number",
            self.processes
        );
        if self.processes == 1 {
            return Ok(match self.workers {
                1 => To::Thread,
                workers => To::Process(workers),
            });
        }
        let addresses = match &self.hosts {
            Some(file) => {
                let reading = || format!("reading the hosts from {}", file.display());
                addresses(&std::fs::read_to_string(file).with_context(reading)?)
                    .with_context(reading)?
            }
            None => supervise::addresses().unwrap_or_else(|| {
                (0..self.processes).map(|process| format!("localhost:{}", 2101 + process)).collect()
            }),
        };
        ensure!(
            addresses.len() == self.processes,
            "{} processes need as many addresses (there are {})",
            self.processes,
            addresses.len()
        );
        Ok(To::Cluster {
            threads: self.workers,
            process,
            addresses,
            report: false,
            zerocopy: false,
        })
    }
}
