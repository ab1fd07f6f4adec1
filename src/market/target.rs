//! Where the market's events go: the log, or lines of text.

use std::io::Write;

use anyhow::{Result, ensure};
use dataflows::model::{Millis, Topic};

use super::{Batch, keep::Kept};
use crate::log::{Log, Writer};

/// Takes encoded events.
pub(super) trait Target {
    fn take(&mut self, batch: Batch) -> Result<()>;

    fn flush(&mut self) -> Result<()>;

    /// Number of the market's records in each partition, by topic.
    fn counts(&self) -> Vec<Vec<u64>>;

    /// Time of the last record in each partition of orders.
    fn orders_at(&self) -> Vec<Millis>;
}

/// The log. What a partition holds already is skipped: it is what the market is making again.
pub(super) struct Records {
    writer: Box<dyn Writer>,
    counts: Vec<Vec<u64>>,
    orders_at: Vec<Millis>,
}

impl Records {
    pub(super) fn open(log: &dyn Log, kept: Option<&Kept>) -> Result<Self> {
        let writer = log.writer()?;
        let partitions = |topic| 0..log.partitions(topic);
        let none = Topic::ALL.map(|topic| partitions(topic).map(|_| 0).collect()).to_vec();
        let counts: Vec<Vec<u64>> = kept.map_or(none, |kept| kept.counts.clone());
        for topic in Topic::ALL {
            for partition in partitions(topic) {
                let (held, known) =
                    (writer.end(topic, partition), counts[topic as usize][partition as usize]);
                ensure!(
                    held >= known,
                    "{} {partition} holds {held} records, but the market's snapshot counts {known}: \
                     the log has lost some",
                    topic.name(),
                );
            }
        }
        let orders_at = kept.map_or_else(
            || vec![0; counts[Topic::Orders as usize].len()],
            |kept| kept.snapshot.orders_at().to_vec(),
        );
        Ok(Records { writer, counts, orders_at })
    }
}

impl Target for Records {
    fn take(&mut self, batch: Batch) -> Result<()> {
        let mut start = 0;
        for record in &batch.records {
            let count = &mut self.counts[record.topic as usize][record.partition as usize];
            if *count >= self.writer.end(record.topic, record.partition) {
                let key = record.key_end.map(|end| &batch.bytes[start..end]);
                let value = &batch.bytes[record.key_end.unwrap_or(start)..record.value_end];
                self.writer.append(record.topic, record.partition, record.at, key, value)?;
            }
            *count += 1;
            if record.topic == Topic::Orders {
                self.orders_at[record.partition as usize] = record.at;
            }
            start = record.value_end;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }

    fn counts(&self) -> Vec<Vec<u64>> {
        self.counts.clone()
    }

    fn orders_at(&self) -> Vec<Millis> {
        self.orders_at.clone()
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
        let mut ready: Vec<_> =
            self.waiting.extract_if(.., |(place, _)| place.0 < until).collect();
        ready.sort_unstable_by_key(|line| line.0);
        for (_, line) in ready {
            self.out.write_all(&line)?;
        }
        Ok(())
    }
}

impl Target for Lines<'_> {
    fn take(&mut self, batch: Batch) -> Result<()> {
        let mut start = 0;
        for record in &batch.records {
            if let Some(key_end) = record.key_end {
                let mut line = Vec::new();
                let (key, value) =
                    (&batch.bytes[start..key_end], &batch.bytes[key_end..record.value_end]);
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
            start = record.value_end;
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

    fn counts(&self) -> Vec<Vec<u64>> {
        Vec::new()
    }

    fn orders_at(&self) -> Vec<Millis> {
        Vec::new()
    }
}
