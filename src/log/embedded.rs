//! The log as files in a directory: the default, so that one command needs no cluster.
//!
//! ```text
//! DIR/log.json                identity, partitions a topic
//! DIR/writer.lock             held by the one writer
//! DIR/ends                    durable end of each partition: offset and place
//! DIR/orders-0/<offset>.seg   records from that offset on, 64 MiB a segment
//! ```
//!
//! A record is `[length u32 | checksum u32 | timestamp i64 | key length u32 | key | value]`,
//! little-endian. A flush first makes the segments durable, then publishes the new ends; a reader,
//! in whatever process, goes no further than the published ends, so it never sees what a crash
//! could take back. A writer that opens cuts off what lies beyond them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use dataflows::model::{Millis, Topic};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Batch, Log, Reader, Record, Writer};

/// A segment is full when it has this many bytes.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes of a record before its key.
const HEADER: usize = 20;

/// The key length that says there is no key.
const NO_KEY: u32 = u32::MAX;

/// Bytes that a writer gathers, and a reader fetches, at a time.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Serialize, Deserialize)]
struct Identity {
    identity: String,
    partitions: Vec<(Topic, u32)>,
}

/// A log in a directory.
struct Embedded {
    dir: PathBuf,
    identity: Identity,
    ends: File,
}

/// Opens the log in a directory, or makes a new one in an empty or missing directory.
pub fn open(dir: &Path) -> Result<Arc<dyn Log>> {
    let described = || format!("opening the log in {}", dir.display());
    let identity_file = dir.join("log.json");
    if !identity_file.exists() {
        create(dir).with_context(described)?;
    }
    let text = fs::read(&identity_file).with_context(described)?;
    let identity: Identity = serde_json::from_slice(&text).with_context(described)?;
    let ends = OpenOptions::new().read(true).write(true).open(dir.join("ends"));
    Ok(Arc::new(Embedded { dir: dir.into(), identity, ends: ends.with_context(described)? }))
}

fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    // What an interrupted creation left is not in the way; anything else is somebody's.
    let known = ["ends", "log.json.new"];
    let strange = fs::read_dir(dir)?.find_map(|entry| {
        let name = entry.ok()?.file_name().to_string_lossy().into_owned();
        (!known.contains(&&*name)).then_some(name)
    });
    if let Some(name) = strange {
        bail!("it is not a log, and not empty: it holds {name}; name another directory");
    }
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let partitions = |topic| if topic == Topic::Scenarios { 1 } else { 3 };
    let identity = Identity {
        identity: format!("{:032x}", u128::from_le_bytes(random)),
        partitions: Topic::ALL.map(|topic| (topic, partitions(topic))).to_vec(),
    };
    File::create(dir.join("ends"))?.sync_all()?;
    // The identity comes last: with it the log exists.
    let new = dir.join("log.json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&identity)?)?;
    file.sync_all()?;
    fs::rename(new, dir.join("log.json"))?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

/// How far a partition is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct End {
    /// Number of records.
    offset: u64,
    /// First offset of the last segment.
    segment: u64,
    /// Bytes of the last segment.
    bytes: u64,
    /// Number of times the end has been published: of the two slots the higher one holds.
    version: u64,
}

/// An end on disk: offset, segment, bytes, version and a checksum of the four.
const SLOT: usize = 40;

impl End {
    fn to_bytes(self) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        for (part, place) in [self.offset, self.segment, self.bytes, self.version].iter().zip(0..) {
            slot[8 * place..8 * place + 8].copy_from_slice(&part.to_le_bytes());
        }
        let checksum = xxh3_64(&slot[..32]);
        slot[32..].copy_from_slice(&checksum.to_le_bytes());
        slot
    }

    /// None where the slot was never written, or its writing was cut off.
    fn from_bytes(slot: &[u8]) -> Option<End> {
        let part = |place: usize| {
            let bytes = slot.get(8 * place..8 * place + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let end =
            End { offset: part(0)?, segment: part(1)?, bytes: part(2)?, version: part(3)? };
        (part(4)? == xxh3_64(&slot[..32])).then_some(end)
    }
}

impl Embedded {
    /// Place of a partition among all partitions of the log.
    fn place(&self, topic: Topic, partition: u32) -> Result<u64> {
        let before = self.identity.partitions.iter().take_while(|(other, _)| *other != topic);
        let before: u32 = before.map(|(_, partitions)| partitions).sum();
        ensure!(
            partition < self.partitions(topic),
            "the log has no partition {}-{partition}",
            topic.name()
        );
        Ok(u64::from(before + partition))
    }

    fn partition_dir(&self, topic: Topic, partition: u32) -> PathBuf {
        self.dir.join(format!("{}-{partition}", topic.name()))
    }

    fn read_end(&self, topic: Topic, partition: u32) -> Result<End> {
        read_end(&self.ends, self.place(topic, partition)?)
            .with_context(|| format!("reading how far {}-{partition} goes", topic.name()))
    }
}

/// The newer of a partition's two slots that is whole.
fn read_end(ends: &File, place: u64) -> Result<End> {
    let mut slots = [0; 2 * SLOT];
    let mut read = 0;
    while read < slots.len() {
        match ends.read_at(&mut slots[read..], place * 2 * SLOT as u64 + read as u64)? {
            0 => break,
            n => read += n,
        }
    }
    let slots = slots.chunks(SLOT).filter_map(End::from_bytes);
    Ok(slots.max_by_key(|end| end.version).unwrap_or_default())
}

fn segment_file(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}.seg"))
}

/// The first offsets of a partition's segments, in order.
fn segments(dir: &Path) -> Result<Vec<u64>> {
    let mut segments = Vec::new();
    if dir.exists() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            segments.extend(name.and_then(|name| name.parse::<u64>().ok()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

impl Log for Embedded {
    fn identity(&self) -> &str {
        &self.identity.identity
    }

    fn partitions(&self, topic: Topic) -> u32 {
        let found = self.identity.partitions.iter().find(|(other, _)| *other == topic);
        found.map_or(0, |(_, partitions)| *partitions)
    }

    fn start(&self, topic: Topic, partition: u32) -> Result<u64> {
        let segments = segments(&self.partition_dir(topic, partition))?;
        Ok(segments.first().copied().unwrap_or(0))
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.read_end(topic, partition)?.offset)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let lock = File::create(self.dir.join("writer.lock"))?;
        if lock.try_lock().is_err() {
            bail!("the log in {} already has a writer: another marketday is running on it", self.dir.display());
        }
        let mut partitions = Vec::new();
        for (topic, count) in &self.identity.partitions {
            for partition in 0..*count {
                let dir = self.partition_dir(*topic, partition);
                fs::create_dir_all(&dir)?;
                let opened = OpenPartition::open(dir, self.read_end(*topic, partition)?);
                partitions.push(((*topic, partition), opened.with_context(|| {
                    format!("opening {}-{partition} for writing", topic.name())
                })?));
            }
        }
        File::open(&self.dir)?.sync_all()?;
        Ok(Box::new(EmbeddedWriter { partitions, ends: self.ends.try_clone()?, _lock: lock }))
    }

    fn reader(&self, topic: Topic, partition: u32, offset: u64) -> Result<Box<dyn Reader>> {
        let end = self.read_end(topic, partition)?;
        let dir = self.partition_dir(topic, partition);
        let segments = segments(&dir)?;
        let start = segments.first().copied().unwrap_or(0);
        if offset < start || offset > end.offset {
            bail!(
                "{}-{partition} holds offsets {start} to {}, not {offset}: what was counted is not \
                 in this log any more, so nothing can go on from there",
                topic.name(),
                end.offset
            );
        }
        let segment = segments.into_iter().take_while(|first| *first <= offset).last().unwrap_or(0);
        let mut reader = EmbeddedReader {
            dir,
            ends: self.ends.try_clone()?,
            place: self.place(topic, partition)?,
            segment,
            file: None,
            offset: segment,
            position: 0,
            buffer: Vec::new(),
            consumed: 0,
        };
        let mut skipped = Batch::default();
        while reader.offset < offset {
            skipped.clear();
            reader.read(&mut skipped, (offset - reader.offset).min(10_000) as usize)?;
        }
        Ok(Box::new(reader))
    }
}

struct EmbeddedWriter {
    partitions: Vec<((Topic, u32), OpenPartition)>,
    ends: File,
    _lock: File,
}

/// A partition as its writer has it.
struct OpenPartition {
    dir: PathBuf,
    file: File,
    /// Where the next record goes.
    end: End,
    /// What is published.
    durable: End,
    buffer: Vec<u8>,
}

impl OpenPartition {
    fn open(dir: PathBuf, end: End) -> Result<OpenPartition> {
        for later in segments(&dir)?.into_iter().filter(|segment| *segment > end.segment) {
            fs::remove_file(segment_file(&dir, later))?;
        }
        let path = segment_file(&dir, end.segment);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let length = file.metadata()?.len();
        ensure!(
            length >= end.bytes,
            "{} has {length} bytes, but {} were durable: the file was damaged from outside",
            path.display(),
            end.bytes
        );
        file.set_len(end.bytes)?;
        File::open(&dir)?.sync_all()?;
        Ok(OpenPartition { dir, file, end, durable: end, buffer: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        if self.end.bytes >= SEGMENT_BYTES {
            self.write_out()?;
            self.file.sync_data()?;
            self.end = End { segment: self.end.offset, bytes: 0, ..self.end };
            self.file = File::create(segment_file(&self.dir, self.end.segment))?;
            File::open(&self.dir)?.sync_all()?;
        }
        let start = self.buffer.len();
        encode(record, &mut self.buffer);
        self.end.bytes += (self.buffer.len() - start) as u64;
        self.end.offset += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<()> {
        self.file.write_all_at(&self.buffer, self.end.bytes - self.buffer.len() as u64)?;
        self.buffer.clear();
        Ok(())
    }
}

fn encode(record: Record<'_>, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    buffer.extend_from_slice(&((HEADER - 4 + key.len() + value.len()) as u32).to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&record.timestamp.to_le_bytes());
    let key_length = record.key.map_or(NO_KEY, |key| key.len() as u32);
    buffer.extend_from_slice(&key_length.to_le_bytes());
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(value);
    let checksum = xxh3_64(&buffer[start + 8..]) as u32;
    buffer[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

impl Writer for EmbeddedWriter {
    fn end(&self, topic: Topic, partition: u32) -> u64 {
        let found = self.partitions.iter().find(|(name, _)| *name == (topic, partition));
        found.map_or(0, |(_, open)| open.end.offset)
    }

    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        let found = self.partitions.iter_mut().find(|(name, _)| *name == (topic, partition));
        let (_, open) =
            found.with_context(|| format!("the log has no {}-{partition}", topic.name()))?;
        let record = Record { offset: open.end.offset, timestamp, key, value: Some(value) };
        open.append(record)
            .with_context(|| format!("appending to {}-{partition}", topic.name()))
    }

    fn flush(&mut self) -> Result<()> {
        let mut published = false;
        for (place, ((topic, partition), open)) in self.partitions.iter_mut().enumerate() {
            if open.end == open.durable {
                continue;
            }
            let context = || format!("making {}-{partition} durable", topic.name());
            open.write_out().with_context(context)?;
            open.file.sync_data().with_context(context)?;
            open.end.version += 1;
            // The slots take turns, so that the last end survives a torn write of the next.
            let slot = (2 * place as u64 + open.end.version % 2) * SLOT as u64;
            self.ends.write_all_at(&open.end.to_bytes(), slot).with_context(context)?;
            open.durable = open.end;
            published = true;
        }
        if published {
            self.ends.sync_data().context("making the ends of the log durable")?;
        }
        Ok(())
    }
}

struct EmbeddedReader {
    dir: PathBuf,
    ends: File,
    place: u64,
    segment: u64,
    file: Option<File>,
    /// Offset of the next record.
    offset: u64,
    /// Where in the segment the buffer ends.
    position: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are used up.
    consumed: usize,
}

impl Reader for EmbeddedReader {
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize> {
        let end = read_end(&self.ends, self.place)?;
        let mut read = 0;
        while read < max && self.offset < end.offset {
            let Some(length) = self.record_length(end)? else { continue };
            let bytes = &self.buffer[self.consumed..self.consumed + length];
            let record = decode(bytes, self.offset).with_context(|| {
                format!(
                    "{} is damaged at byte {}: restore it, or start over in a new directory",
                    segment_file(&self.dir, self.segment).display(),
                    self.position - (self.buffer.len() - self.consumed) as u64
                )
            })?;
            batch.push(record);
            self.consumed += length;
            self.offset += 1;
            read += 1;
        }
        Ok(read)
    }
}

impl EmbeddedReader {
    /// The length of the next record, when all of it is in the buffer; none after more was
    /// fetched, or the next segment opened.
    fn record_length(&mut self, end: End) -> Result<Option<usize>> {
        let held = &self.buffer[self.consumed..];
        let length = held.first_chunk().map(|length| 4 + u32::from_le_bytes(*length) as usize);
        if let Some(length) = length.filter(|length| *length <= held.len()) {
            return Ok(Some(length));
        }
        let path = segment_file(&self.dir, self.segment);
        if self.file.is_none() {
            let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            self.file = Some(file);
        }
        let file = self.file.as_ref().expect("it was just opened");
        // Only the last segment may hold what is not durable yet.
        let limit = if self.segment == end.segment { end.bytes } else { file.metadata()?.len() };
        let wanted = length.unwrap_or(0).max(BUFFER_BYTES) as u64;
        let fetch = wanted.min(limit.saturating_sub(self.position)) as usize;
        if fetch == 0 {
            ensure!(
                held.is_empty() && self.segment != end.segment,
                "{} ends in the middle of record {}: restore it, or start over in a new directory",
                path.display(),
                self.offset
            );
            (self.segment, self.file, self.position) = (self.offset, None, 0);
            return Ok(None);
        }
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        let start = self.buffer.len();
        self.buffer.resize(start + fetch, 0);
        file.read_exact_at(&mut self.buffer[start..], self.position)
            .with_context(|| format!("reading {}", path.display()))?;
        self.position += fetch as u64;
        Ok(None)
    }
}

fn decode(bytes: &[u8], offset: u64) -> Result<Record<'_>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>().context("a record without a header")?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    ensure!(xxh3_64(&bytes[8..]) as u32 == number(4), "the checksum of record {offset} is wrong");
    let key_length = if number(16) == NO_KEY { 0 } else { number(16) as usize };
    let (key, value) = rest.split_at_checked(key_length).context("a key longer than its record")?;
    let timestamp = Millis::from_le_bytes(header[8..16].try_into().context("eight bytes")?);
    let key = (number(16) != NO_KEY).then_some(key);
    Ok(Record { offset, timestamp, key, value: Some(value) })
}
