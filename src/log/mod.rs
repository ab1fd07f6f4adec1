//! The durable log between the market and the analytics: partitioned topics of records.
//!
//! One trait, two homes: [`embedded`] files in a directory, and [`kafka`]. What both promise is in
//! `tests/log.rs`, which runs the same conformance suite over each.

pub mod embedded;
pub mod kafka;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataflows::model::{Millis, Topic};

use crate::platform::retry;

/// A log: what was appended and flushed can be read from any offset, in order, for ever.
pub trait Log: Send + Sync {
    /// Names this log for its whole life; another log never has the same name.
    fn identity(&self) -> &str;

    /// Number of partitions of a topic, as far as is known: it can grow, and never goes back.
    fn partitions(&self, topic: Topic) -> u32;

    /// First offset that is still held.
    fn start(&self, topic: Topic, partition: u32) -> Result<u64>;

    /// First offset that is not readable yet. Offsets ascend, but not each has a record.
    fn end(&self, topic: Topic, partition: u32) -> Result<u64>;

    /// Behind what is written of each partition, committed or not; where that is beyond the
    /// [`Log::end`], a transaction is open there. Nothing where there are no transactions.
    fn written(&self) -> Result<BTreeMap<(Topic, u32), u64>> {
        Ok(BTreeMap::new())
    }

    /// Opens the writer. Of two, in whatever processes, only one can write: either the second one
    /// cannot be opened, or the first one cannot flush any more.
    fn writer(&self) -> Result<Box<dyn Writer>>;

    /// Opens readers of some partitions of a topic, each at an offset, in the order given; one
    /// that the log does not hold is an [`OffsetNotHeld`].
    fn readers(&self, topic: Topic, from: &[(u32, u64)]) -> Result<Vec<Box<dyn Reader>>>;

    /// Opens a reader at an offset; see [`Log::readers`].
    fn reader(&self, topic: Topic, partition: u32, offset: u64) -> Result<Box<dyn Reader>> {
        let mut readers = self.readers(topic, &[(partition, offset)])?;
        Ok(readers.pop().expect("as many readers as partitions"))
    }

    /// Told up to where the analytics have committed, by a process that reads these partitions;
    /// for the eyes of the log's own tools.
    fn committed(&self, _topic: Topic, _offsets: &[(u32, u64)]) -> Result<()> {
        Ok(())
    }

    /// Who writes it, as the first of them has said; none in a log of a version before this was
    /// said, of other producers, or of nobody.
    fn owner(&self) -> Result<Option<Owner>> {
        Ok(None)
    }

    /// Says for good who writes it, and returns who does: the first to say so.
    fn claim(&self, owner: Owner) -> Result<Owner> {
        Ok(owner)
    }

    /// The flag that names another log of this kind.
    fn another(&self) -> &'static str {
        "--dir OTHER"
    }

    /// The brokers that keep it; none where it lies in files. Who asks hears of new partitions too.
    fn brokers(&self) -> Result<Vec<Broker>> {
        Ok(Vec::new())
    }
}

/// Who writes a log: a market makes again what it has written, so nobody else may write there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A market.
    Market,
    /// Imports.
    Import,
}

impl Owner {
    fn word(self) -> &'static str {
        match self {
            Owner::Market => "market",
            Owner::Import => "import",
        }
    }

    fn from_word(word: &str) -> Result<Owner> {
        let owner = [Owner::Market, Owner::Import].into_iter().find(|owner| owner.word() == word);
        owner
            .with_context(|| format!("the log is written by {word:?}, which another version knows"))
    }
}

/// Whether no partition holds a record.
pub fn is_empty(log: &dyn Log) -> Result<bool> {
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            if log.start(topic, partition)? < log.end(topic, partition)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A broker that keeps copies of a log's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number in the cluster.
    pub id: i32,
    /// Partitions of which it keeps a copy.
    pub partitions: u32,
    /// Copies in sync among them; 0 where the broker is gone.
    pub in_sync: u32,
}

/// A name for a new log.
fn new_identity() -> Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

/// The newest record of a partition: a batch of one, or of none.
pub fn newest_record(log: &dyn Log, topic: Topic, partition: u32) -> Result<Batch> {
    let (start, end) = (log.start(topic, partition)?, log.end(topic, partition)?);
    let mut newest = Batch::default();
    // The offsets before the end may have no records: look further and further back.
    for back in (0..).map(|turn| 1 << turn) {
        let from = end.saturating_sub(back).max(start);
        let mut reader = log.reader(topic, partition, from)?;
        let mut batch = Batch::default();
        while reader.position() < end {
            batch.clear();
            if reader.wait(&mut batch, back as usize)? > 0 {
                newest.clear();
                newest.push(batch.get(batch.len() - 1));
            }
        }
        if from == start || !newest.is_empty() {
            break;
        }
    }
    Ok(newest)
}

/// What lies at an offset in each of some partitions of a topic: a batch of one, or of none where that
/// offset is not held, or has no record.
pub fn records_at(log: &dyn Log, topic: Topic, places: &[(u32, u64)]) -> Result<Vec<Batch>> {
    let mut held = Vec::new();
    for &(partition, offset) in places {
        let (start, end) = (log.start(topic, partition)?, log.end(topic, partition)?);
        held.extend((start..end).contains(&offset).then_some((partition, offset)));
    }
    let mut records: Vec<Batch> = places.iter().map(|_| Batch::default()).collect();
    if held.is_empty() {
        return Ok(records);
    }
    for (mut reader, place) in log.readers(topic, &held)?.into_iter().zip(held) {
        let mut batch = Batch::default();
        while batch.is_empty() && reader.position() <= place.1 {
            reader.wait(&mut batch, 1)?;
        }
        if !batch.is_empty() && batch.get(0).offset == place.1 {
            let index = places.iter().position(|it| *it == place);
            records[index.expect("it is one of them")] = batch;
        }
    }
    Ok(records)
}

/// A record that is another one than was read at its place.
///
/// Callers tell it from other errors: going on would add up what two topics say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}-{partition} is not the one that was read: at offset {offset} it holds another record; was the \
     topic deleted and made again, or restored from a copy? `marketday analytics --rebuild` counts \
     again what the log holds",
    topic.name()
)]
pub struct NotAsRead {
    /// Where.
    pub topic: Topic,
    /// Where.
    pub partition: u32,
    /// The record's place.
    pub offset: u64,
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
    /// Appends a record, whose timestamp is above 0. It can be read after the next
    /// [`Writer::flush`]; until then it may wait in memory.
    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()>;

    /// Makes everything appended so far durable, then readable: all of it, or after a crash nothing
    /// or a part, in each partition from the front.
    fn flush(&mut self) -> Result<()>;

    /// Has what waits for something that is away end once that is set, with
    /// [`Stopped`](crate::platform::retry::Stopped).
    fn end_when(&mut self, _stop: &Arc<AtomicBool>) {}
}

/// A place in one partition.
pub trait Reader: Send {
    /// Adds the next records to `batch`, at most `max` or until it is full, without waiting; returns
    /// how many. None does not mean that there is none: it may be on its way.
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize>;

    /// The offset of the next record, or an earlier one if it is not known yet that those between
    /// have no record. At the partition's end it is the end.
    fn position(&self) -> u64;

    /// What it reads.
    fn partition(&self) -> (Topic, u32);

    /// Like [`Reader::read`], but waits: none means that the end was reached meanwhile.
    fn wait(&mut self, batch: &mut Batch, max: usize) -> Result<usize> {
        let before = self.position();
        for _ in 0..WAIT_POLLS {
            let read = self.read(batch, max)?;
            if read > 0 || self.position() > before {
                return Ok(read);
            }
            std::thread::sleep(WAIT_POLL);
        }
        let (topic, partition) = self.partition();
        Err(retry::NoAnswer(WAIT_POLL * WAIT_POLLS)).with_context(|| {
            format!(
                "the log has given nothing of {}-{partition} from offset {before} on; is it reachable?",
                topic.name()
            )
        })
    }
}

/// How often a reader that has nothing is asked again while somebody waits: for 30 s.
const WAIT_POLL: Duration = Duration::from_millis(2);
const WAIT_POLLS: u32 = 15_000;

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

/// With so many bytes a batch is full, however few its records.
const BATCH_BYTES: usize = 4 << 20;

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

    /// Whether it holds so many bytes that a reader should add no more.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
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
