//! Where the market's events go: the log, or lines of text.

use std::io::Write;

use anyhow::Result;
use dataflows::model::{Millis, Topic};

use super::{
    Events, ascend,
    dirt::HeldBack,
    held::{Held, Made},
    keep::Kept,
};
use crate::log::{Log, Writer};
use crate::wire;

/// Takes encoded events.
pub(super) trait Target {
    fn take(&mut self, batch: Events) -> Result<()>;

    fn flush(&mut self) -> Result<()>;

    /// The last record of each partition, by topic.
    fn last(&self) -> Vec<Vec<Option<Stamp>>>;

    /// How much of each partition the market has made, and its hash, by topic.
    fn made(&self) -> Vec<Vec<Made>> {
        Vec::new()
    }

    /// Market time up to which an earlier run has come.
    fn held_until(&self) -> Millis;

    /// Whether there is more of an earlier run than has been made again.
    fn is_behind(&self) -> bool {
        false
    }

    /// All of the history is here; `for_good` when the run ends with it.
    fn end_history(&mut self, _for_good: bool) -> Result<()> {
        Ok(())
    }

    /// What a snapshot keeps of the dirt, after a flush.
    fn dirty(&mut self) -> Result<Option<HeldBack>> {
        Ok(None)
    }
}

/// Time and `event_id` of a record: in each partition they ascend.
pub(super) type Stamp = (Millis, Option<u64>);

/// The log. What a partition holds already is skipped: it is what the market is making again.
pub(super) struct Records {
    writer: Box<dyn Writer>,
    held: Held,
    /// Market time up to which the records of each worker are here.
    done: Vec<Millis>,
    /// The last record that the market has made.
    last: Vec<Vec<Option<Stamp>>>,
}

impl Records {
    pub(super) fn open(
        log: &dyn Log,
        writer: Box<dyn Writer>,
        workers: usize,
        kept: Option<&Kept>,
    ) -> Result<Self> {
        let last = kept.map(|kept| kept.last.clone());
        let last = last.unwrap_or_else(|| by_partition(log, |_, _| None));
        let held = Held::open(log, kept.map(|kept| &kept.made), &last, true)?;
        Ok(Records { writer, held, done: vec![Millis::MIN; workers], last })
    }
}

impl Target for Records {
    fn take(&mut self, batch: Events) -> Result<()> {
        for (record, key, value) in batch.records() {
            ascend(&mut self.last, record)?;
            if !self.held.has(record.place(), key, value)? {
                self.writer.append(record.topic, record.partition, record.at, key, value)?;
            }
        }
        self.done[batch.worker] = batch.until;
        self.held.none_before(self.done.iter().copied().min().unwrap_or(Millis::MIN))
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }

    fn last(&self) -> Vec<Vec<Option<Stamp>>> {
        self.last.clone()
    }

    fn made(&self) -> Vec<Vec<Made>> {
        self.held.made().clone()
    }

    fn held_until(&self) -> Millis {
        self.held.orders_until()
    }

    fn is_behind(&self) -> bool {
        self.held.is_behind()
    }
}

/// Something for each partition of a log, by topic.
pub(super) fn by_partition<T>(log: &dyn Log, of: impl Fn(Topic, u32) -> T) -> Vec<Vec<T>> {
    let partitions = |topic| {
        let all = 0..log.partitions(topic);
        all.map(|partition| of(topic, partition)).collect()
    };
    Topic::ALL.into_iter().map(partitions).collect()
}

/// Lines of JSON in market-time order, without heartbeats.
pub(super) struct Lines<'a> {
    out: &'a mut dyn Write,
    /// How far each worker is.
    until: Vec<Millis>,
    waiting: Vec<(Place, Vec<u8>)>,
}

/// Where a line stands among the others.
type Place = (Millis, Topic, Option<u64>);

impl<'a> Lines<'a> {
    pub(super) fn new(workers: usize, out: &'a mut dyn Write) -> Self {
        Lines { out, until: vec![Millis::MIN; workers], waiting: Vec::new() }
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
}

impl Target for Lines<'_> {
    fn take(&mut self, batch: Events) -> Result<()> {
        for (record, key, value) in batch.records() {
            if let Some(key) = key {
                let mut line = Vec::new();
                wire::ndjson_line(record.topic, Some(key), value, &mut line);
                self.waiting.push(((record.at, record.topic, record.event_id), line));
            }
        }
        self.until[batch.worker] = batch.until;
        self.write(self.until.iter().copied().min().unwrap_or(Millis::MIN))
    }

    fn flush(&mut self) -> Result<()> {
        // At rest, nothing more can come at the instant that all have reached.
        let until = self.until.iter().copied().min().unwrap_or(Millis::MIN);
        if self.until.iter().all(|other| *other == until) {
            self.write(until.saturating_add(1))?;
        }
        Ok(self.out.flush()?)
    }

    fn last(&self) -> Vec<Vec<Option<Stamp>>> {
        Vec::new()
    }

    fn held_until(&self) -> Millis {
        Millis::MIN
    }
}

/// Nowhere: events that have been written before.
pub(super) struct Nowhere;

impl Target for Nowhere {
    fn take(&mut self, _batch: Events) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn last(&self) -> Vec<Vec<Option<Stamp>>> {
        Vec::new()
    }

    fn held_until(&self) -> Millis {
        Millis::MIN
    }
}
