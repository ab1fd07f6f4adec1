//! What the market writes: its events to the log, or as lines of text, or nowhere.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use dataflows::market::{FaultStage, Record, Released, Settings, Snapshot};
use dataflows::model::{Millis, Topic};

use super::labels::Labels;
use super::resume::{Resume, by_partition};
use super::state::{Checkpoint, Delivery, Stamp, StateDir};
use super::workers::{EncodedBatch, EncodedRecord};
use crate::log::{Log, Writer};
use crate::platform::crash;
use dataflows::model::codec;

/// Where the market's events go.
pub(super) enum Output<'a> {
    Log(Box<LogOutput<'a>>),
    Lines(Lines<'a>),
    /// They have been written before.
    Nowhere,
}

impl<'a> Output<'a> {
    pub(super) fn take(&mut self, batch: &EncodedBatch) -> Result<()> {
        match self {
            Output::Log(log) => log.take(batch),
            Output::Lines(lines) => lines.take(batch),
            Output::Nowhere => Ok(()),
        }
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        match self {
            Output::Log(log) => log.flush(),
            Output::Lines(lines) => lines.flush(),
            Output::Nowhere => Ok(()),
        }
    }

    /// The log, which alone can be resumed.
    pub(super) fn log(&self) -> Option<&LogOutput<'a>> {
        if let Output::Log(log) = self { Some(log) } else { None }
    }

    /// See [`Output::log`].
    pub(super) fn log_mut(&mut self) -> Option<&mut LogOutput<'a>> {
        if let Output::Log(log) = self { Some(log) } else { None }
    }
}

/// The log, behind the faults where there are any. What a partition holds already is skipped: it is
/// what the market is making again.
pub(super) struct LogOutput<'a> {
    state: &'a StateDir,
    writer: Box<dyn Writer>,
    resume: Resume,
    faults: Option<Faulty>,
    /// Market time up to which the records of each worker are here.
    done: Vec<Millis>,
    /// The last record that the market has made, by topic and partition.
    last: Vec<Vec<Option<Stamp>>>,
    /// Market time up to which an earlier run has come.
    logged_until: Millis,
}

/// What a market with faults has more.
struct Faulty {
    stage: FaultStage,
    labels: Labels,
    delivered: bool,
}

impl<'a> LogOutput<'a> {
    pub(super) fn open(
        log: &dyn Log,
        writer: Box<dyn Writer>,
        settings: &Settings,
        workers: usize,
        state: &'a StateDir,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<LogOutput<'a>> {
        let last = checkpoint.map(|it| it.last.clone());
        let last = last.unwrap_or_else(|| by_partition(settings));
        let Delivery { faults, delivered } = state.delivery()?;
        let made = checkpoint.map(|it| &it.made);
        let resume = Resume::open(log, settings, made, &last, faults.is_none())?;
        let faults = match faults {
            None => None,
            Some(faults) => {
                let kept = checkpoint.and_then(|it| it.delayed.clone());
                let (delayed, labelled) = kept.unzip();
                Some(Faulty {
                    stage: FaultStage::new(faults, settings, delayed),
                    labels: Labels::open(state.labels(), labelled.unwrap_or(0))?,
                    delivered,
                })
            }
        };
        let orders = last[Topic::Orders as usize].iter().flatten();
        let logged_until = orders.map(|(at, _)| *at).fold(resume.orders_until(), Millis::max);
        let done = vec![Millis::MIN; workers];
        Ok(LogOutput { state, writer, resume, faults, done, last, logged_until })
    }

    fn take(&mut self, batch: &EncodedBatch) -> Result<()> {
        for (record, key, value) in batch.records() {
            let EncodedRecord { topic, partition, at, event_id, order, .. } = *record;
            ascend(&mut self.last, record)?;
            if let Some(Faulty { stage, .. }) = &mut self.faults {
                stage.hold(&Record { topic, partition, at, event_id, order, key, value });
            } else {
                self.append(topic, partition, (at, event_id), key, value)?;
            }
        }
        self.done[batch.worker] = batch.until;
        let done = self.done.iter().copied().min().unwrap_or(Millis::MIN);
        if self.faults.is_none() {
            return self.resume.none_before(done);
        }
        while let Some(released) = self.faults.as_mut().and_then(|it| it.stage.due(done)) {
            self.release(released)?;
        }
        Ok(())
    }

    /// Appends a record, unless the log has it.
    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        stamp: Stamp,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        if !self.resume.has((topic, partition, stamp), key, value)? {
            self.writer.append(topic, partition, stamp.0, key, value)?;
        }
        Ok(())
    }

    /// Appends what comes out of the faults, and its labels.
    fn release(&mut self, released: Released) -> Result<()> {
        let Released { topic, partition, at, event_id, key, value, labels } = released;
        self.append(topic, partition, (at, event_id), key.as_deref(), &value)?;
        let Some(faults) = &mut self.faults else { return Ok(()) };
        labels.iter().try_for_each(|label| faults.labels.write(label))
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(Faulty { labels, .. }) = &mut self.faults {
            labels.flush()?;
        }
        self.writer.flush()
    }

    /// Market time up to which an earlier run has come.
    pub(super) fn logged_until(&self) -> Millis {
        self.logged_until
    }

    /// Whether there is more of an earlier run than has been made again.
    pub(super) fn is_behind(&self) -> bool {
        self.resume.is_behind()
    }

    /// All of the history is here; `for_good` when the run ends with it.
    pub(super) fn end_history(&mut self, for_good: bool) -> Result<()> {
        let Some(faults) = &mut self.faults else { return Ok(()) };
        // What a market has appended live came while these waited, and so they wait on.
        if for_good && !faults.delivered && !self.resume.is_behind() {
            self.state.deliver()?;
            faults.delivered = true;
        }
        if faults.delivered {
            for released in faults.stage.rest() {
                self.release(released)?;
            }
            crash::point("delivering");
        }
        Ok(())
    }

    /// What is needed to go on from a snapshot, after a flush; `origin` is the time of a partition
    /// without a record.
    pub(super) fn checkpoint(
        &mut self,
        origin: Millis,
        snapshot: impl FnOnce(Vec<Millis>) -> Option<Snapshot>,
    ) -> Result<Checkpoint> {
        let orders = self.last[Topic::Orders as usize].iter();
        let orders_at = orders.map(|last| last.map_or(origin, |(at, _)| at)).collect();
        let delayed = match &mut self.faults {
            None => None,
            Some(faults) => {
                crash::point("keeping");
                Some((faults.stage.delayed().clone(), faults.labels.sync()?))
            }
        };
        Ok(Checkpoint {
            last: self.last.clone(),
            made: self.resume.made().clone(),
            delayed,
            snapshot: snapshot(orders_at).context("worker 0 gave no part")?,
        })
    }
}

/// Moves a partition's newest stamp on; they ascend, or a record would be taken for one that is
/// there already.
fn ascend(last: &mut [Vec<Option<Stamp>>], record: &EncodedRecord) -> Result<()> {
    let last = &mut last[record.topic as usize][record.partition as usize];
    let stamp = Some((record.at, record.event_id));
    ensure!(stamp > *last, "the market made {stamp:?} after {last:?} in one partition");
    *last = stamp;
    Ok(())
}

/// Lines of JSON in market-time order, without heartbeats.
pub(super) struct Lines<'a> {
    settings: &'a Settings,
    /// Where the market ends.
    end: Option<Millis>,
    out: &'a mut dyn Write,
    /// How far each worker is.
    until: Vec<Millis>,
    waiting: Vec<(Place, Vec<u8>)>,
}

/// Where a line stands among the others.
type Place = (Millis, Topic, Option<u64>);

impl<'a> Lines<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        end: Option<Millis>,
        workers: usize,
        out: &'a mut dyn Write,
    ) -> Self {
        Lines { settings, end, out, until: vec![Millis::MIN; workers], waiting: Vec::new() }
    }

    /// Writes the lines before `until`: what happens at that very instant may still come.
    fn write(&mut self, until: Millis) -> Result<()> {
        let mut ready: Vec<_> = self.waiting.extract_if(.., |(place, _)| place.0 < until).collect();
        ready.sort_unstable_by_key(|line| line.0);
        for (_, line) in ready {
            self.out.write_all(&line)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &EncodedBatch) -> Result<()> {
        for (record, key, value) in batch.records() {
            if let Some(key) = key {
                let mut line = Vec::new();
                codec::ndjson_line(record.topic, Some(key), value, &mut line);
                self.waiting.push(((record.at, record.topic, record.event_id), line));
            }
        }
        self.until[batch.worker] = batch.until;
        self.write(self.until.iter().copied().min().unwrap_or(Millis::MIN))
    }

    fn flush(&mut self) -> Result<()> {
        // At rest, nothing more can come at the instant that all have reached, but what the next refresh
        // begins with.
        let until = self.until.iter().copied().min().unwrap_or(Millis::MIN);
        let rests = until >= self.settings.origin && self.until.iter().all(|it| *it == until);
        let begins = || self.settings.border(self.settings.refresh_of(until)) == until;
        if rests && (!begins() || self.end.is_some_and(|end| until >= end)) {
            self.write(until.saturating_add(1))?;
        }
        Ok(self.out.flush()?)
    }
}
