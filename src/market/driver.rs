//! The thread that appends: how far the workers may run, when the log is flushed, and snapshots.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use dataflows::market::{Command, Control, Part, Settings, Snapshot, Truth};
use dataflows::model::Millis;
use dataflows::model::time::{DAY, wall_clock};
use tracing::{debug, info};

use super::handle::{Handle, PendingRequest, Speed};
use super::output::{LogOutput, Output};
use super::pace::Pace;
use super::state::{Checkpoint, StateDir};
use super::workers::{FromWorker, Workers};
use crate::platform::clock::{self, Stopwatch};
use crate::platform::{crash, retry};

/// How soon the clock is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// How far ahead of the log the market may live in its past.
const AHEAD: Millis = 2 * DAY;

/// Appended bytes after which the log is made durable.
const FLUSH_BYTES: usize = 64 << 20;

/// So is it after this time at the earliest, and at the latest.
const FLUSH_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// In history, a flush may cost a tenth of the time between these.
const FLUSH_SHARE: u32 = 10;

/// Time between snapshots: of the wall in history, of the market live.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(20);

const SNAPSHOT_LIVE: Duration = Duration::from_mins(10);

/// A snapshot may cost a twentieth of the time.
const SNAPSHOT_SHARE: u32 = 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop while it was live.
    Stopped,
    /// It was told to stop in its history, which is in the log up to that market time.
    InHistory(Millis),
    /// History is over, and all of it is in the log.
    HistoryOver,
}

/// What is run, and how far.
pub(super) struct Run<'a> {
    pub(super) settings: &'a Settings,
    pub(super) workers: usize,
    /// Market time at which the run ends.
    pub(super) until: Option<Millis>,
    pub(super) market: &'a Handle,
    /// Who wants to hear what no shop knows.
    pub(super) truth: Option<&'a dyn Fn(Vec<Truth>) -> Result<()>>,
}

impl Run<'_> {
    pub(super) fn run(
        &self,
        state: Option<&StateDir>,
        commands: &[Command],
        checkpoint: Option<Checkpoint>,
        output: Output<'_>,
    ) -> Result<Ended> {
        let begun = checkpoint.as_ref().map_or(0, |it| it.snapshot.refresh());
        let begun = self.settings.border(begun);
        info!(from = %wall_clock(begun), workers = self.workers, "the market runs");
        let workers = Workers::start(
            self.settings,
            self.workers,
            checkpoint.map(|it| it.snapshot),
            commands,
            self.market.cache.clone(),
            self.truth.is_some(),
        );
        let mut driver = Driver {
            run: self,
            state,
            output,
            run_until: begun,
            done: vec![begun; self.workers],
            snapshot: None,
            snapshot_cost: Duration::ZERO,
            since_snapshot: Stopwatch::start(),
            since_flush: Stopwatch::start(),
            flush_cost: Duration::ZERO,
            unflushed: 0,
            pace: Pace::new(self.market.speed()),
            // A command that is not in effect yet keeps its time.
            commands_until: commands.last().map_or(begun, |command| command.at),
            started: BTreeMap::new(),
        };
        for command in commands {
            // One that was stopped although it was not active says nothing.
            _ = driver.starts_or_is_active(command);
        }
        let ended = driver.drive(&workers);
        workers.end();
        let logged = self.market.logged().max(begun);
        match ended {
            // What waited for a log that is away: its records are made again.
            Err(error) if !error.is::<retry::Stopped>() => Err(error),
            Ok(Ended::HistoryOver) => Ok(Ended::HistoryOver),
            _ if logged < self.settings.start => Ok(Ended::InHistory(logged)),
            _ => Ok(Ended::Stopped),
        }
    }
}

/// The thread that appends and gives leave.
struct Driver<'a, 'o> {
    run: &'a Run<'a>,
    state: Option<&'a StateDir>,
    output: Output<'o>,
    /// Market time up to which the workers may live.
    run_until: Millis,
    /// Market time up to which each worker's partitions are complete in the target.
    done: Vec<Millis>,
    /// The snapshot that is being made: its refresh, and the parts that have come.
    snapshot: Option<(u64, Vec<Part>)>,
    snapshot_cost: Duration,
    since_snapshot: Stopwatch,
    since_flush: Stopwatch,
    flush_cost: Duration,
    unflushed: usize,
    pace: Pace,
    commands_until: Millis,
    /// The scenarios that were started by hand in this run, and until when.
    started: BTreeMap<String, Millis>,
}

impl Driver<'_, '_> {
    fn drive(&mut self, workers: &Workers) -> Result<Ended> {
        let market = self.run.market;
        loop {
            if market.stop.load(Ordering::Relaxed) {
                self.flush()?;
                return Ok(Ended::Stopped);
            }
            self.extend_run(workers)?;
            match workers.messages.recv_timeout(LOOK) {
                Ok(FromWorker::Batch(batch)) => {
                    self.unflushed += batch.bytes.len();
                    self.done[batch.worker] = batch.until;
                    self.output.take(&batch)?;
                }
                Ok(FromWorker::Figures(figures)) => {
                    *market.figures.lock().expect("no panic while held") = figures;
                }
                Ok(FromWorker::Part(refresh, part)) => {
                    if let Some((of, parts)) = &mut self.snapshot
                        && *of == refresh
                    {
                        parts.push(part);
                    }
                }
                Ok(FromWorker::Truth(truth)) => {
                    if let Some(tell) = self.run.truth {
                        tell(truth)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("a worker of the market ended"),
            }
            let done = self.done();
            let waits = done >= self.run_until;
            let in_history = self.run_until < self.run.settings.start;
            let flush_after =
                if in_history { self.flush_cost * FLUSH_SHARE } else { FLUSH_AFTER.0 };
            if self.unflushed >= FLUSH_BYTES
                || self.since_flush.elapsed() >= flush_after.clamp(FLUSH_AFTER.0, FLUSH_AFTER.1)
                || (waits && self.unflushed > 0)
            {
                self.flush()?;
            }
            self.finish_snapshot()?;
            if self.run.until.is_some_and(|until| done >= until) && self.snapshot.is_none() {
                self.flush()?;
                return Ok(Ended::HistoryOver);
            }
        }
    }

    /// Whether the log holds more than has been made again.
    fn is_behind(&self) -> bool {
        self.output.log().is_some_and(LogOutput::is_behind)
    }

    fn done(&self) -> Millis {
        self.done.iter().copied().min().expect("at least one worker")
    }

    fn flush(&mut self) -> Result<()> {
        let began = Stopwatch::start();
        crash::point("seeding");
        self.output.flush()?;
        crash::point("seeded");
        self.unflushed = 0;
        self.flush_cost = began.elapsed();
        self.since_flush = Stopwatch::start();
        self.run.market.logged.store(self.done(), Ordering::Relaxed);
        Ok(())
    }

    /// Lets the workers live on as far as they may.
    fn extend_run(&mut self, workers: &Workers) -> Result<()> {
        let Run { settings, market, .. } = *self.run;
        // While the log holds more than has been made again, a command would change what is there.
        let mut requests = market.requests.lock().expect("no panic while held");
        let wait = requests.is_empty() || self.is_behind() || market.figures().at == 0;
        let taken = if wait { Vec::new() } else { std::mem::take(&mut *requests) };
        drop(requests);
        for PendingRequest { command, answer, open } in taken {
            if !open.swap(false, Ordering::Relaxed) {
                continue;
            }
            let at = self.commands_until.max(self.run_until);
            let until = command.until.map(|lasts| at + lasts);
            let command = Command { at, until, ..command };
            if let Err(error) = self.starts_or_is_active(&command) {
                _ = answer.send(Err(error));
                continue;
            }
            self.commands_until = at;
            if let Some(state) = self.state {
                state.journal(&command)?;
            }
            workers.tell(&Control::Command(command));
            // Who asked may have gone.
            _ = answer.send(Ok(at));
        }

        let border = settings.border(settings.refresh_of(self.run_until) + 1);
        let goes_live = self.run_until < settings.start && self.may_live() >= settings.start;
        let leave = if goes_live { settings.start } else { self.may_live() };
        if self.state.is_some() && self.snapshot.is_none() && (self.snapshot_due() || goes_live) {
            // A snapshot is made at a border that the workers have no leave yet to reach.
            let border = if goes_live { settings.start } else { border };
            let refresh = settings.refresh_of(border);
            workers.tell(&Control::Snapshot(refresh));
            self.snapshot = Some((refresh, Vec::new()));
        }
        let limit =
            self.snapshot.as_ref().map_or(Millis::MAX, |(refresh, _)| settings.border(*refresh));
        let leave = leave.min(limit);
        if leave > self.run_until {
            self.run_until = leave;
            workers.tell(&Control::Run(leave));
        }
        Ok(())
    }

    /// That a scenario which is to be stopped is active; else what is.
    fn starts_or_is_active(&mut self, command: &Command) -> Result<()> {
        let Command { at, name, strength, until, .. } = command;
        if strength.is_some() {
            self.started.insert(name.clone(), until.unwrap_or(Millis::MAX));
            return Ok(());
        }
        // What was started a moment ago is not among the figures yet.
        let started = self.started.remove(name).is_some_and(|until| until > *at);
        let figures = self.run.market.figures();
        let active: Vec<&str> = figures.scenarios.iter().map(|it| &*it.name).collect();
        ensure!(
            started || active.contains(&name.as_str()),
            "no scenario `{name}` is active: there is {}",
            if active.is_empty() { "none".into() } else { active.join(", ") }
        );
        Ok(())
    }

    /// Market time up to which the clock and the log allow to live.
    fn may_live(&mut self) -> Millis {
        let Run { settings, until, market, .. } = *self.run;
        let wall = clock::wall();
        if market.paused.load(Ordering::Relaxed) {
            self.pace.pause(wall);
            return self.run_until;
        }
        self.pace.resume(wall);
        // Half of what is ahead is used up before more is given, so that it is given in big steps.
        let ahead = if self.run_until < self.done() + AHEAD / 2 {
            self.done() + AHEAD
        } else {
            self.run_until
        };
        if let Some(until) = until {
            return ahead.min(until);
        }
        if self.run_until < settings.start {
            return ahead.min(settings.start);
        }
        // What an earlier run has lived through is made again at full speed.
        let logged = self.output.log().map_or(Millis::MIN, LogOutput::logged_until);
        if self.run_until < logged {
            return ahead.min(logged);
        }
        match self.pace.clock(market.speed(), self.run_until, wall, settings.start) {
            Some(clock) => clock.min(self.done() + AHEAD).max(self.run_until),
            None => ahead,
        }
    }

    fn snapshot_due(&self) -> bool {
        let least = match self.run.market.speed() {
            Speed::Times(times) if self.run_until >= self.run.settings.start => {
                SNAPSHOT_LIVE.div_f64(times.max(1.0))
            }
            _ => SNAPSHOT_AFTER,
        };
        let least = least.max(self.snapshot_cost * SNAPSHOT_SHARE);
        self.since_snapshot.elapsed() >= least
    }

    /// Writes the snapshot once all its parts have come and the log has all that is before it.
    fn finish_snapshot(&mut self) -> Result<()> {
        let Some((refresh, parts)) = &self.snapshot else { return Ok(()) };
        let refresh = *refresh;
        let border = self.run.settings.border(refresh);
        if parts.len() < self.run.workers || self.done() < border {
            return Ok(());
        }
        let began = Stopwatch::start();
        if border == self.run.settings.start {
            info!("the history is over");
            if let Some(log) = self.output.log_mut() {
                log.end_history(self.run.until.is_some())?;
            }
        }
        self.flush()?;
        let (_, parts) = self.snapshot.take().expect("just seen");
        if let (Some(state), Some(log)) = (self.state, self.output.log_mut()) {
            let snapshot = |orders_at| Snapshot::new(parts, orders_at);
            debug!(refresh, "saving a snapshot");
            state.save(&log.checkpoint(self.run.settings.origin, snapshot)?)?;
        }
        self.snapshot_cost = began.elapsed();
        self.since_snapshot = Stopwatch::start();
        Ok(())
    }
}
