//! Where the market's events go: the log, or lines of text.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use dataflows::model::{Millis, Topic};

use super::{Events, ascend, dirt::HeldBack, keep::Kept};
use crate::log::{Log, Writer, newest_record};
use crate::wire::{self, Words};

/// Takes encoded events.
pub(super) trait Target {
    fn take(&mut self, batch: Events) -> Result<()>;

    fn flush(&mut self) -> Result<()>;

    /// The last record of each partition, by topic.
    fn last(&self) -> Vec<Vec<Option<Stamp>>>;

    /// Market time up to which an earlier run has come.
    fn held_until(&self) -> Millis;

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
    /// The last record that the log held when it was opened, by topic and partition.
    held: Vec<Vec<Option<Stamp>>>,
    /// The last record that the market has made.
    last: Vec<Vec<Option<Stamp>>>,
}

impl Records {
    pub(super) fn open(log: &dyn Log, kept: Option<&Kept>) -> Result<Self> {
        // First the writer: from then on nobody else moves the ends.
        let writer = log.writer()?;
        let none = Topic::ALL.map(|topic| vec![None; log.partitions(topic) as usize]).to_vec();
        let last = kept.map_or_else(|| none.clone(), |kept| kept.last.clone());
        let mut held = none;
        for topic in Topic::ALL {
            for partition in 0..log.partitions(topic) {
                let name = || format!("{}-{partition}", topic.name());
                let newest = newest_record(log, topic, partition)
                    .with_context(|| format!("looking for the newest record of {}", name()))?;
                let held = &mut held[topic as usize][partition as usize];
                if let Some(record) = newest.iter().next() {
                    let event = wire::decode(topic, record.value, &mut Words::default());
                    let event = event.map_err(|reason| {
                        anyhow::anyhow!(
                            "offset {} of {} is no event of a market ({reason}): somebody else \
                             writes there too",
                            record.offset,
                            name()
                        )
                    })?;
                    *held = Some((event.at(), event.event_id()));
                }
                ensure!(
                    *held >= last[topic as usize][partition as usize],
                    "{} does not go as far as the market's snapshot: the log has lost records",
                    name()
                );
            }
        }
        Ok(Records { writer, held, last })
    }
}

impl Target for Records {
    fn take(&mut self, batch: Events) -> Result<()> {
        for (record, key, value) in batch.records() {
            let stamp = ascend(&mut self.last, record)?;
            if stamp > self.held[record.topic as usize][record.partition as usize] {
                self.writer.append(record.topic, record.partition, record.at, key, value)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }

    fn last(&self) -> Vec<Vec<Option<Stamp>>> {
        self.last.clone()
    }

    fn held_until(&self) -> Millis {
        let orders = &self.held[Topic::Orders as usize];
        orders.iter().flatten().map(|(at, _)| *at).max().unwrap_or(Millis::MIN)
    }
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
                line.extend_from_slice(b"{\"topic\":\"");
                line.extend_from_slice(record.topic.name().as_bytes());
                line.extend_from_slice(b"\",\"key\":\"");
                // Keys are numbers and scenarios' names: nothing in them to escape.
                line.extend_from_slice(key);
                line.extend_from_slice(b"\",\"value\":");
                line.extend_from_slice(value);
                line.extend_from_slice(b"}\n");
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
