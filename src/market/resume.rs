//! Where a market resumes: what the log holds already it makes again, record by record.
//!
//! Each record that is made again is compared with the one that is there. What a snapshot spares
//! the market is compared by a hash. So a record of somebody else's ends the market, wherever it
//! lies, and never makes it pass over records of its own.

use anyhow::{Context, Result, anyhow, bail, ensure};
use dataflows::market::Settings;
use dataflows::model::{Millis, Topic};

use super::state::{Made, Stamp};
use crate::log::{Batch, Log, Reader, Record, newest_record};
use dataflows::model::codec;

/// Records that are read ahead.
const AHEAD: usize = 1_000;

/// The records that a log held when its market began to run, beside those that it makes.
pub(super) struct Resume {
    made: Vec<Vec<Made>>,
    left: Vec<Vec<Option<Left>>>,
    /// The newest time that the log held of orders behind a snapshot.
    orders_until: Millis,
    another: &'static str,
}

/// The records of a partition that are not made again yet; there is at least one.
struct Left {
    reader: Box<dyn Reader>,
    end: u64,
    batch: Batch,
    next: usize,
    /// The log no longer goes back to its start: what is made first may be gone.
    cut: bool,
}

impl Left {
    fn next(&mut self) -> Result<Option<Record<'_>>> {
        while self.next == self.batch.len() {
            if self.reader.position() >= self.end {
                return Ok(None);
            }
            self.batch.clear();
            self.next = 0;
            self.reader.wait(&mut self.batch, AHEAD)?;
        }
        let record = self.batch.get(self.next);
        // What comes from the end on was appended by this very run.
        Ok((record.offset < self.end).then_some(record))
    }
}

impl Resume {
    /// `made` is what a snapshot says, and `last` are the last records before it. `ascending` is
    /// whether a partition's records are in the order of their stamps.
    pub(super) fn open(
        log: &dyn Log,
        settings: &Settings,
        made: Option<&Vec<Vec<Made>>>,
        last: &[Vec<Option<Stamp>>],
        ascending: bool,
    ) -> Result<Resume> {
        let mut resume = Resume {
            made: made.map_or_else(|| by_partition(settings), Clone::clone),
            left: Vec::new(),
            orders_until: Millis::MIN,
            another: log.another(),
        };
        for topic in Topic::ALL {
            let mut starts = Vec::new();
            let count = settings.partitions[topic as usize];
            for partition in count..log.partitions(topic) {
                // Those that were added since the market began.
                if let Some(record) = newest_record(log, topic, partition)?.iter().next() {
                    return Err(resume.foreign_at(topic, partition, record.offset));
                }
            }
            for partition in 0..count {
                starts.push((partition, log.start(topic, partition)?));
            }
            let mut of_topic = Vec::new();
            for (reader, (partition, start)) in log.readers(topic, &starts)?.into_iter().zip(starts)
            {
                let end = log.end(topic, partition)?;
                let (batch, cut) = (Batch::default(), start > 0);
                let mut left = Left { reader, end, batch, next: 0, cut };
                let name = || format!("{}-{partition}", topic.name());
                if cut {
                    ensure!(
                        ascending,
                        "the log no longer holds the start of {}, so a market with faults cannot \
                         tell how far it is",
                        name()
                    );
                    resume.pass_old(&mut left, topic, partition, last)?;
                } else {
                    resume.compare(&mut left, topic, partition)?;
                }
                if topic == Topic::Orders
                    && let Some(next) = left.next()?.map(|next| next.offset)
                {
                    let newest = newest_time(log, partition, next, end);
                    resume.orders_until = resume.orders_until.max(newest.with_context(name)?);
                }
                of_topic.push(left.next()?.is_some().then_some(left));
            }
            resume.left.push(of_topic);
        }
        Ok(resume)
    }

    /// Compares what a snapshot spares the market.
    fn compare(&self, left: &mut Left, topic: Topic, partition: u32) -> Result<()> {
        let expected = self.made[topic as usize][partition as usize];
        let mut found = Made::default();
        while found.records < expected.records {
            let Some(record) = left.next()? else {
                bail!(
                    "{}-{partition} does not go as far as the market's snapshot: the log has lost \
                     records",
                    topic.name()
                );
            };
            found.add(record.timestamp, record.key, record.value.unwrap_or_default());
            left.next += 1;
        }
        if found.hash == expected.hash {
            return Ok(());
        }
        Err(self.foreign(&format!("some record of {}-{partition}", topic.name())))
    }

    /// Passes over what is older than a snapshot, where the start is gone that it is counted from.
    fn pass_old(
        &self,
        left: &mut Left,
        topic: Topic,
        partition: u32,
        last: &[Vec<Option<Stamp>>],
    ) -> Result<()> {
        let last = last[topic as usize][partition as usize];
        while let Some(record) = left.next()? {
            if self.stamp(topic, partition, record)? > last {
                break;
            }
            left.next += 1;
        }
        Ok(())
    }

    fn stamp(&self, topic: Topic, partition: u32, record: Record<'_>) -> Result<Option<Stamp>> {
        let event = codec::decode(topic, record.value);
        let event = event.map_err(|_| self.foreign_at(topic, partition, record.offset))?;
        Ok(Some((event.at(), event.event_id())))
    }

    /// Takes note of a record that the market has made. Whether the log holds it already.
    pub(super) fn has(
        &mut self,
        record: (Topic, u32, Stamp),
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool> {
        let (topic, partition, stamp) = record;
        self.made[topic as usize][partition as usize].add(stamp.0, key, value);
        let place = &mut self.left[topic as usize][partition as usize];
        let Some(mut left) = place.take() else { return Ok(false) };
        let cut = left.cut;
        let Some(held) = left.next()? else { return Ok(false) };
        if (held.timestamp, held.key, held.value) != (stamp.0, key, Some(value)) {
            if !cut || self.stamp(topic, partition, held)? <= Some(stamp) {
                return Err(self.foreign_at(topic, partition, held.offset));
            }
            // It lay before the log's present start.
            self.left[topic as usize][partition as usize] = Some(left);
            return Ok(true);
        }
        left.cut = false;
        left.next += 1;
        let more = left.next()?.is_some();
        self.left[topic as usize][partition as usize] = more.then_some(left);
        Ok(true)
    }

    /// Ends with a sentence where a record is older than all that can still be made.
    pub(super) fn none_before(&mut self, done: Millis) -> Result<()> {
        for topic in Topic::ALL {
            for partition in 0..self.left[topic as usize].len() {
                let Some(left) = &mut self.left[topic as usize][partition] else { continue };
                if let Some(held) = left.next()?
                    && held.timestamp < done
                {
                    let offset = held.offset;
                    return Err(self.foreign_at(topic, partition as u32, offset));
                }
            }
        }
        Ok(())
    }

    fn foreign_at(&self, topic: Topic, partition: u32, offset: u64) -> anyhow::Error {
        self.foreign(&format!("offset {offset} of {}-{partition}", topic.name()))
    }

    fn foreign(&self, what: &str) -> anyhow::Error {
        anyhow!(
            "{what} was not written by this market: an import or another producer has written to \
             its log, so the market does not go on; `marketday analytics` and `verify` still read \
             all of it, and a new market begins with {}",
            self.another
        )
    }

    /// Whether the log holds records that are not made again yet.
    pub(super) fn is_behind(&self) -> bool {
        self.left.iter().flatten().any(Option::is_some)
    }

    /// The newest time that the log held of orders, behind a snapshot.
    pub(super) fn orders_until(&self) -> Millis {
        self.orders_until
    }

    /// What is made so far, by topic and partition.
    pub(super) fn made(&self) -> &Vec<Vec<Made>> {
        &self.made
    }
}

/// The newest time of a partition of orders between two offsets.
fn newest_time(log: &dyn Log, partition: u32, from: u64, end: u64) -> Result<Millis> {
    let (mut newest, mut batch) = (Millis::MIN, Batch::default());
    let mut reader = log.reader(Topic::Orders, partition, from)?;
    while reader.position() < end {
        batch.clear();
        reader.wait(&mut batch, 10_000)?;
        newest = batch.iter().map(|record| record.timestamp).fold(newest, Millis::max);
    }
    Ok(newest)
}

/// Something for each partition of a market, by topic.
pub(super) fn by_partition<T: Clone + Default>(settings: &Settings) -> Vec<Vec<T>> {
    settings.partitions.iter().map(|count| vec![T::default(); *count as usize]).collect()
}
