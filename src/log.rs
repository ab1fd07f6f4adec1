//! The durable log between the market and the analytics: partitioned topics of records.
//!
//! One trait, two homes: [`embedded`] files in a directory, and (later) Kafka. What both promise is
//! in `tests/log.rs`, which runs the same conformance suite over each.

pub mod embedded;

use anyhow::Result;
use dataflows::model::{Millis, Topic};

/// A log: what was appended and flushed can be read from any offset, in order, for ever.
pub trait Log: Send + Sync {
    /// Names this log for its whole life; another log never has the same name.
    fn identity(&self) -> &str;

    /// Number of partitions of a topic.
    fn partitions(&self, topic: Topic) -> u32;

    /// First offset that is still held.
    fn start(&self, topic: Topic, partition: u32) -> Result<u64>;

    /// First offset that is not readable yet: the number of records ever flushed.
    fn end(&self, topic: Topic, partition: u32) -> Result<u64>;

    /// Opens the one writer; a second one, in whatever process, is an error.
    fn writer(&self) -> Result<Box<dyn Writer>>;

    /// Opens a reader at an offset; one that the log does not hold is an [`OffsetNotHeld`].
    fn reader(&self, topic: Topic, partition: u32, offset: u64) -> Result<Box<dyn Reader>>;
}

/// An offset before the start or after the end of what a log holds of a partition.
///
/// Callers tell it from other errors, because going on elsewhere would lose or double records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log does not hold offset {wanted} of {}-{partition}, only {start} up to {end}: \
     was it deleted in part, or is it another log than the one read before?",
    topic.name()
)]
pub struct OffsetNotHeld {
    /// Where.
    pub topic: Topic,
    /// Where.
    pub partition: u32,
    /// What was asked for.
    pub wanted: u64,
    /// The first offset that is held.
    pub start: u64,
    /// The offset after the last that is held.
    pub end: u64,
}

/// The writing end of a [`Log`].
pub trait Writer: Send {
    /// Next offset of a partition.
    fn end(&self, topic: Topic, partition: u32) -> u64;

    /// Appends a record. It can be read after the next [`Writer::flush`].
    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()>;

    /// Makes everything appended so far durable, then readable.
    fn flush(&mut self) -> Result<()>;
}

/// A place in one partition.
pub trait Reader: Send {
    /// Adds the next records to `batch`, at most `max`, without waiting; returns how many.
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize>;
}

/// A record as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: u64,
    /// The record's own timestamp.
    pub timestamp: Millis,
    /// The record key.
    pub key: Option<&'a [u8]>,
    /// The value; none is Kafka's tombstone.
    pub value: Option<&'a [u8]>,
}

/// Records of one partition, packed: what a reader fills and a decoder walks.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Packed>,
}

/// Where a record's parts lie in a batch's bytes.
struct Packed {
    offset: u64,
    timestamp: Millis,
    start: usize,
    key: Option<u32>,
    value: Option<u32>,
}

impl Batch {
    /// Forgets the records, keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record.
    pub fn push(&mut self, record: Record<'_>) {
        let start = self.bytes.len();
        for part in [record.key, record.value].into_iter().flatten() {
            self.bytes.extend_from_slice(part);
        }
        self.records.push(Packed {
            offset: record.offset,
            timestamp: record.timestamp,
            start,
            key: record.key.map(|key| key.len() as u32),
            value: record.value.map(|value| value.len() as u32),
        });
    }

    /// The record at a place in the batch.
    pub fn get(&self, index: usize) -> Record<'_> {
        let packed = &self.records[index];
        let value_start = packed.start + packed.key.unwrap_or(0) as usize;
        Record {
            offset: packed.offset,
            timestamp: packed.timestamp,
            key: packed.key.map(|_| &self.bytes[packed.start..value_start]),
            value: packed.value.map(|len| &self.bytes[value_start..value_start + len as usize]),
        }
    }

    /// The records, in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}
