//! A durable log as files in a directory, so that one command needs no cluster.
//!
//! ```text
//! log.json                  identity and number of partitions; its lock is the writer's
//! ends                      per partition: what is durable (for the next writer)
//! published                 per partition: what may be read (for readers, of all processes)
//! owner                     who writes it: `market` or `import`
//! orders-0/00000000000000000000.seg   records from that offset on, about 64 MiB a file
//! ```
//!
//! A flush writes the records and waits for the disk, then writes `ends` and waits for the disk,
//! then writes `published`. So a reader never sees a record that a loss of power could take back,
//! and a writer that opens cuts off what lies beyond `ends`: nobody was told that it is there.
//!
//! Why plain files and not an embedded store: 2.4 M records of 300 bytes in three partitions,
//! durable after every 10,000, then read back. fjall 3.1 (an LSM tree) took 5.8 CPU s to write
//! and 1.3 to read; these files, with keys and checksums, take 1.25 and 0.3 (2.3 GB/s).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use dataflows::model::{Millis, Topic};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Batch, Log, OffsetNotHeld, Owner, Reader, Record, Writer, new_identity};
use crate::platform::files::{PRIVATE, private, private_directory, replace};

/// Where a segment is full. Larger ones make opening in the middle slower, smaller ones more files.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes that go to the file, or come from it, in one call.
const CHUNK_BYTES: usize = 256 << 10;

/// The most partitions of a topic that a log can have; ours have one or three.
const PARTITIONS_MAX: u32 = 1_000;

/// The longest record: far above the longest value that can be an event.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Before each record: its length and its checksum, both of what follows.
const PREFIX_BYTES: usize = 8;

/// Timestamp and key length, which begin what follows.
const HEADER_BYTES: usize = 12;

/// The key length that says: no key.
const NO_KEY: u32 = u32::MAX;

/// A file of the log that does not hold what was written to it.
#[derive(Debug, thiserror::Error)]
#[error("{} is damaged at byte {position}: {problem}; restore the log from a copy", path.display())]
pub struct Damaged {
    /// Which file.
    pub path: PathBuf,
    /// Where in it.
    pub position: u64,
    /// What is wrong there.
    pub problem: &'static str,
}

/// Opens the log in a directory, or creates one where there is nothing yet.
pub fn open(dir: &Path) -> Result<Arc<dyn Log>> {
    let path = dir.join("log.json");
    if !path.exists() {
        create(dir).with_context(|| format!("creating a log in {}", dir.display()))?;
    }
    let about = fs::read(&path)
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(serde_json::from_slice(&text)?))
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(Arc::new(Embedded(Arc::new(Files::open(dir, about)?))))
}

/// What `log.json` says.
#[derive(Serialize, Deserialize)]
struct About {
    /// Random, so that no two logs share it.
    identity: String,
    /// The layout of the files.
    format: u32,
    partitions: BTreeMap<Topic, u32>,
}

impl About {
    fn partitions(&self, topic: Topic) -> u32 {
        self.partitions.get(&topic).copied().unwrap_or(0)
    }

    /// Every partition, in the order of their places in `ends`.
    fn all(&self) -> impl Iterator<Item = (Topic, u32)> + '_ {
        Topic::ALL
            .into_iter()
            .flat_map(|topic| (0..self.partitions(topic)).map(move |n| (topic, n)))
    }
}

/// Writes the files of an empty log; `log.json` comes last and makes it one.
fn create(dir: &Path) -> Result<()> {
    private_directory(dir)?;
    let handle = File::open(dir)?;
    // Two programs may start at once on a new directory.
    handle.lock()?;
    let path = dir.join("log.json");
    if path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        // What a creation that was cut off leaves behind.
        let ours = ["ends", "published", "log.json.new"].iter().any(|ours| name == *ours);
        ensure!(
            ours,
            "the directory holds {} but no log.json, so it is no log; name an empty directory or \
             a new one",
            name.display()
        );
    }
    let partitions = Topic::ALL.into_iter().zip(Topic::PARTITIONS).collect();
    let about = About { identity: new_identity()?, format: 1, partitions };
    for name in ["ends", "published"] {
        let ends = Ends::open(dir.join(name), true)?;
        let places = about.all().count();
        ends.file.set_len((places * 2 * SLOT_BYTES) as u64)?;
        for place in 0..places {
            ends.write(place, 0, End::default())?;
        }
        ends.file.sync_all()?;
    }
    replace(&path, PRIVATE, &serde_json::to_vec_pretty(&about)?)?;
    File::open(dir.join(".."))?.sync_all()?;
    Ok(())
}

/// The log's files, as all its readers and its writer share them.
struct Files {
    dir: PathBuf,
    about: About,
    published: Ends,
}

impl Files {
    fn open(dir: &Path, about: About) -> Result<Files> {
        ensure!(
            about.format == 1,
            "the log in {} has format {}, this program knows format 1",
            dir.display(),
            about.format
        );
        let too_many = about.partitions.iter().find(|(_, number)| **number > PARTITIONS_MAX);
        if let Some((topic, number)) = too_many {
            bail!(
                "the log in {} has {number} partitions of {} by its log.json, more than \
                 {PARTITIONS_MAX}: restore that file from a copy",
                dir.display(),
                topic.name()
            );
        }
        Ok(Files { dir: dir.into(), about, published: Ends::open(dir.join("published"), false)? })
    }

    /// The partition's place in `ends`.
    fn place(&self, topic: Topic, partition: u32) -> Result<usize> {
        let place = self.about.all().position(|each| each == (topic, partition));
        place.with_context(|| {
            format!(
                "finding partition {partition} of {}: the log in {} has {}",
                topic.name(),
                self.dir.display(),
                self.about.partitions(topic)
            )
        })
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<End> {
        Ok(self.published.read(self.place(topic, partition)?)?.1)
    }

    fn partition_dir(&self, topic: Topic, partition: u32) -> PathBuf {
        self.dir.join(format!("{}-{partition}", topic.name()))
    }

    fn segment(&self, topic: Topic, partition: u32, base: u64) -> PathBuf {
        self.partition_dir(topic, partition).join(format!("{base:020}.seg"))
    }

    /// The base offsets of a partition's segments, ascending.
    fn bases(&self, topic: Topic, partition: u32) -> Result<Vec<u64>> {
        let dir = self.partition_dir(topic, partition);
        let listing = || format!("listing {}", dir.display());
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(listing)?,
        };
        let mut bases = Vec::new();
        for entry in entries {
            let name = entry.with_context(listing)?.file_name();
            let base: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            bases.extend(base);
        }
        bases.sort_unstable();
        Ok(bases)
    }

    fn start(&self, topic: Topic, partition: u32) -> Result<u64> {
        match self.bases(topic, partition)?.first() {
            Some(base) => Ok(*base),
            None => Ok(self.end(topic, partition)?.offset),
        }
    }
}

/// How far a partition goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct End {
    /// The offset after the last record.
    offset: u64,
    /// The segment that holds the last record.
    base: u64,
    /// Where the last record ends in that segment.
    position: u64,
}

/// A file with the [`End`] of each partition, in two slots that are written in turn.
///
/// A slot that is being written, or was when the power failed, has a wrong checksum; then the other
/// slot holds. A slot has 64 bytes, so that none lies across two sectors of a disk.
struct Ends {
    file: File,
    path: PathBuf,
}

const SLOT_BYTES: usize = 64;

impl Ends {
    fn open(path: PathBuf, writable: bool) -> Result<Ends> {
        let file = private()
            .read(true)
            .write(writable)
            .create(writable)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        Ok(Ends { file, path })
    }

    /// The newest end written for a partition, with the number of that writing.
    fn read(&self, place: usize) -> Result<(u64, End)> {
        let position = (place * 2 * SLOT_BYTES) as u64;
        // Meanwhile the writer may have passed from one slot to the other: look again.
        for _ in 0..100 {
            let mut slots = [[0; SLOT_BYTES]; 2];
            match self.file.read_exact_at(slots.as_flattened_mut(), position) {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                read => read.with_context(|| format!("reading {}", self.path.display()))?,
            }
            if let Some(newest) = slots.iter().filter_map(unpack).max_by_key(|(turn, _)| *turn) {
                return Ok(newest);
            }
        }
        bail!(Damaged { path: self.path.clone(), position, problem: "no valid entry" })
    }

    fn write(&self, place: usize, turn: u64, end: End) -> Result<()> {
        let slot = place * 2 + (turn % 2) as usize;
        self.file
            .write_all_at(&pack(turn, end), (slot * SLOT_BYTES) as u64)
            .with_context(|| format!("writing {}", self.path.display()))
    }
}

fn pack(turn: u64, end: End) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    for (bytes, number) in slot.chunks_exact_mut(8).zip([turn, end.offset, end.base, end.position])
    {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    let check = xxh3_64(&slot[..32]);
    slot[32..40].copy_from_slice(&check.to_le_bytes());
    slot
}

fn unpack(slot: &[u8; SLOT_BYTES]) -> Option<(u64, End)> {
    let (numbers, _) = slot.as_chunks::<8>();
    let [turn, offset, base, position, check] =
        std::array::from_fn(|i| u64::from_le_bytes(numbers[i]));
    (check == xxh3_64(&slot[..32])).then_some((turn, End { offset, base, position }))
}

struct Embedded(Arc<Files>);

impl Log for Embedded {
    fn identity(&self) -> &str {
        &self.0.about.identity
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.0.about.partitions(topic)
    }

    fn start(&self, topic: Topic, partition: u32) -> Result<u64> {
        self.0.start(topic, partition)
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.0.end(topic, partition)?.offset)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let dir = &self.0.dir;
        let writer = EmbeddedWriter::open(self.0.clone())
            .with_context(|| format!("opening the log in {} for writing", dir.display()))?;
        Ok(Box::new(writer))
    }

    fn owner(&self) -> Result<Option<Owner>> {
        let path = self.0.dir.join("owner");
        match fs::read_to_string(&path) {
            Ok(word) => Ok(Some(Owner::from_word(word.trim())?)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn claim(&self, owner: Owner) -> Result<Owner> {
        let dir = &self.0.dir;
        let claiming = || format!("saying who writes to the log in {}", dir.display());
        let handle = File::open(dir).with_context(claiming)?;
        handle.lock().with_context(claiming)?;
        if let Some(first) = self.owner()? {
            return Ok(first);
        }
        replace(&dir.join("owner"), PRIVATE, owner.word().as_bytes()).with_context(claiming)?;
        Ok(owner)
    }

    fn readers(&self, topic: Topic, from: &[(u32, u64)]) -> Result<Vec<Box<dyn Reader>>> {
        from.iter()
            .map(|&(partition, offset)| {
                let reader = EmbeddedReader::open(self.0.clone(), topic, partition, offset)?;
                Ok(Box::new(reader) as Box<dyn Reader>)
            })
            .collect()
    }
}

struct EmbeddedWriter {
    files: Arc<Files>,
    /// In the order of their places.
    tails: Vec<Tail>,
    ends: Ends,
    published: Ends,
    /// A write went wrong: what the files hold is known again only after the next opening.
    failed: bool,
    /// Keeps the lock.
    _lock: File,
}

/// The end of a partition at which the writer appends.
struct Tail {
    topic: Topic,
    partition: u32,
    /// Number of the last writing of the partition's end.
    turn: u64,
    durable: End,
    /// With what is appended since.
    end: End,
    file: Option<File>,
    /// Appended, but not given to the file yet.
    unwritten: Vec<u8>,
    /// A file was created since the last flush.
    created: bool,
}

impl EmbeddedWriter {
    fn open(files: Arc<Files>) -> Result<EmbeddedWriter> {
        private_directory(&files.dir)?;
        let lock = File::open(files.dir.join("log.json"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "somebody writes to it already; stop that marketday, or give this one another \
                 directory with --dir"
            ),
            Err(TryLockError::Error(e)) => bail!(e),
        }
        let ends = Ends::open(files.dir.join("ends"), true)?;
        let published = Ends::open(files.dir.join("published"), true)?;
        let mut tails = Vec::new();
        for (place, (topic, partition)) in files.about.all().enumerate() {
            let (turn, durable) = ends.read(place)?;
            let file = cut(&files, topic, partition, durable)?;
            // After a loss of power it may be behind.
            published.write(place, turn, durable)?;
            tails.push(Tail {
                topic,
                partition,
                turn,
                durable,
                end: durable,
                file,
                unwritten: Vec::new(),
                created: false,
            });
        }
        Ok(EmbeddedWriter { files, tails, ends, published, failed: false, _lock: lock })
    }

    /// Runs a step after which the writer is of no more use if it fails.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        ensure!(
            !self.failed,
            "writing to the log in {} failed before; start again, which finds out what was kept",
            self.files.dir.display()
        );
        self.failed = true;
        step(self)?;
        self.failed = false;
        Ok(())
    }
}

/// Takes away what a former writer left beyond the durable end, and opens the last segment.
fn cut(files: &Files, topic: Topic, partition: u32, durable: End) -> Result<Option<File>> {
    for base in files.bases(topic, partition)? {
        let path = files.segment(topic, partition, base);
        if base > durable.base || durable.position == 0 {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    if durable.position == 0 {
        return Ok(None);
    }
    let path = files.segment(topic, partition, durable.base);
    let opening = || format!("opening {}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(&path).with_context(opening)?;
    let len = file.metadata().with_context(opening)?.len();
    if len < durable.position {
        bail!(Damaged { path, position: len, problem: "it ends too early" });
    }
    file.set_len(durable.position).with_context(|| format!("truncating {}", path.display()))?;
    Ok(Some(file))
}

impl Writer for EmbeddedWriter {
    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        let place = self.files.place(topic, partition)?;
        let bytes = key.unwrap_or_default().len() + value.len();
        ensure!(
            bytes <= RECORD_BYTES_MAX,
            "appending a record of {bytes} bytes to {}: the log takes up to {RECORD_BYTES_MAX}",
            topic.name()
        );
        self.attempt(|writer| writer.tails[place].append(&writer.files, timestamp, key, value))
    }

    fn flush(&mut self) -> Result<()> {
        self.attempt(|writer| {
            let EmbeddedWriter { files, tails, ends, published, .. } = writer;
            let dirty = |tail: &Tail| tail.end != tail.durable;
            if !tails.iter().any(dirty) {
                return Ok(());
            }
            for (place, tail) in tails.iter_mut().enumerate().filter(|(_, tail)| dirty(tail)) {
                tail.sync(files)?;
                ends.write(place, tail.turn + 1, tail.end)?;
            }
            ends.file.sync_data().with_context(|| format!("syncing {}", ends.path.display()))?;
            for (place, tail) in tails.iter_mut().enumerate().filter(|(_, tail)| dirty(tail)) {
                tail.turn += 1;
                tail.durable = tail.end;
                published.write(place, tail.turn, tail.end)?;
            }
            Ok(())
        })
    }
}

impl Tail {
    fn append(
        &mut self,
        files: &Files,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        let bytes = HEADER_BYTES + key.unwrap_or_default().len() + value.len();
        let position = self.end.position + (PREFIX_BYTES + bytes) as u64;
        if self.file.is_none() || (self.end.position > 0 && position > SEGMENT_BYTES) {
            self.begin_segment(files)?;
        }
        let unwritten = &mut self.unwritten;
        let start = unwritten.len();
        unwritten.extend_from_slice(&(bytes as u32).to_le_bytes());
        unwritten.extend_from_slice(&[0; 4]);
        unwritten.extend_from_slice(&timestamp.to_le_bytes());
        unwritten.extend_from_slice(&key.map_or(NO_KEY, |key| key.len() as u32).to_le_bytes());
        unwritten.extend_from_slice(key.unwrap_or_default());
        unwritten.extend_from_slice(value);
        let check = xxh3_64(&unwritten[start + PREFIX_BYTES..]) as u32;
        unwritten[start + 4..start + PREFIX_BYTES].copy_from_slice(&check.to_le_bytes());

        self.end.offset += 1;
        self.end.position += (PREFIX_BYTES + bytes) as u64;
        if self.unwritten.len() >= CHUNK_BYTES { self.write(files) } else { Ok(()) }
    }

    /// Closes the last segment for ever and begins the next.
    fn begin_segment(&mut self, files: &Files) -> Result<()> {
        self.sync(files)?;
        let path = files.segment(self.topic, self.partition, self.end.offset);
        private_directory(&files.partition_dir(self.topic, self.partition))?;
        let file = private().write(true).create_new(true).open(&path);
        self.file = Some(file.with_context(|| format!("creating {}", path.display()))?);
        self.created = true;
        self.end.base = self.end.offset;
        self.end.position = 0;
        Ok(())
    }

    /// Gives what is appended to the file.
    fn write(&mut self, files: &Files) -> Result<()> {
        if let Some(file) = &self.file {
            let position = self.end.position - self.unwritten.len() as u64;
            file.write_all_at(&self.unwritten, position)
                .with_context(|| format!("writing {}", self.path(files).display()))?;
            self.unwritten.clear();
        }
        Ok(())
    }

    /// Waits until what is appended is on the disk, and the names of new files are too.
    fn sync(&mut self, files: &Files) -> Result<()> {
        self.write(files)?;
        let syncing = || format!("syncing {}", self.path(files).display());
        if let Some(file) = &self.file {
            file.sync_data().with_context(syncing)?;
        }
        if self.created {
            for dir in [&files.partition_dir(self.topic, self.partition), &files.dir] {
                File::open(dir).and_then(|dir| dir.sync_all()).with_context(syncing)?;
            }
            self.created = false;
        }
        Ok(())
    }

    fn path(&self, files: &Files) -> PathBuf {
        files.segment(self.topic, self.partition, self.end.base)
    }
}

struct EmbeddedReader {
    files: Arc<Files>,
    topic: Topic,
    partition: u32,
    /// Of the next record.
    offset: u64,
    /// Up to where the partition was readable when last looked.
    end: End,
    /// Where the next record is, unless it begins a segment.
    segment: Option<Segment>,
}

/// A segment that is being read.
struct Segment {
    file: File,
    path: PathBuf,
    base: u64,
    /// Of the next record.
    position: u64,
    /// Up to where it may be read.
    limit: u64,
    /// Bytes of the file; the next record begins at `used`.
    buffer: Vec<u8>,
    used: usize,
}

impl EmbeddedReader {
    fn open(files: Arc<Files>, topic: Topic, partition: u32, offset: u64) -> Result<Self> {
        let end = files.end(topic, partition)?;
        let mut reader = EmbeddedReader { files, topic, partition, offset, end, segment: None };
        if offset == end.offset {
            if end.position > 0 {
                let mut segment = reader.segment_at(end.base)?;
                segment.position = end.position;
                reader.segment = Some(segment);
            }
            return Ok(reader);
        }
        let bases = reader.files.bases(topic, partition)?;
        match bases.into_iter().rfind(|base| *base <= offset) {
            Some(base) if offset < end.offset => reader.offset = base,
            _ => return Err(reader.not_held()),
        }
        while reader.offset < offset {
            reader.next()?;
        }
        Ok(reader)
    }

    fn not_held(&self) -> anyhow::Error {
        let (topic, partition) = (self.topic, self.partition);
        match self.files.start(topic, partition) {
            Ok(start) => {
                let (wanted, end) = (self.offset, self.end.offset);
                OffsetNotHeld { topic, partition, wanted, start, end }.into()
            }
            Err(e) => e,
        }
    }

    fn segment_at(&self, base: u64) -> Result<Segment> {
        let path = self.files.segment(self.topic, self.partition, base);
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(self.not_held()),
            file => file.with_context(|| format!("opening {}", path.display()))?,
        };
        let mut segment =
            Segment { file, path, base, position: 0, limit: 0, buffer: Vec::new(), used: 0 };
        segment.look(self.end)?;
        Ok(segment)
    }

    /// The next record, which is there because the offset is below the end.
    fn next(&mut self) -> Result<Record<'_>> {
        if let Some(segment) = &mut self.segment
            && segment.is_read()
        {
            segment.look(self.end)?;
        }
        if self.segment.as_ref().is_none_or(Segment::is_read) {
            self.segment = Some(self.segment_at(self.offset)?);
        }
        let record = self.segment.as_mut().expect("it was set above").next(self.offset)?;
        self.offset += 1;
        Ok(record)
    }
}

impl Reader for EmbeddedReader {
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize> {
        let mut read = 0;
        while read < max && (read == 0 || !batch.is_full()) {
            if self.offset == self.end.offset {
                self.end = self.files.end(self.topic, self.partition)?;
                if self.offset > self.end.offset {
                    return Err(self.not_held());
                }
                if self.offset == self.end.offset {
                    break;
                }
            }
            batch.push(self.next()?);
            read += 1;
        }
        Ok(read)
    }

    fn position(&self) -> u64 {
        self.offset
    }

    fn partition(&self) -> (Topic, u32) {
        (self.topic, self.partition)
    }
}

impl Segment {
    /// Whether there is nothing more to read, as far as is known.
    fn is_read(&self) -> bool {
        self.position >= self.limit
    }

    /// Finds out up to where the segment may be read: all of it once there is a next one.
    fn look(&mut self, end: End) -> Result<()> {
        self.limit = if self.base == end.base {
            end.position
        } else {
            let metadata = self.file.metadata();
            metadata.with_context(|| format!("looking at {}", self.path.display()))?.len()
        };
        Ok(())
    }

    fn next(&mut self, offset: u64) -> Result<Record<'_>> {
        let prefix = self.fill(PREFIX_BYTES)?;
        let [len, check] = [0, 4].map(|at| std::array::from_fn(|i| prefix[at + i]));
        let (len, check) = (u32::from_le_bytes(len) as usize, u32::from_le_bytes(check));
        if !(HEADER_BYTES..=RECORD_BYTES_MAX + HEADER_BYTES).contains(&len) {
            return Err(self.damaged("a record has an impossible length"));
        }
        if xxh3_64(&self.fill(PREFIX_BYTES + len)?[PREFIX_BYTES..]) as u32 != check {
            return Err(self.damaged("a record has a wrong checksum"));
        }
        let start = self.used + PREFIX_BYTES;
        let record = &self.buffer[start..start + len];
        let key_len = u32::from_le_bytes(std::array::from_fn(|i| record[8 + i]));
        let value = HEADER_BYTES + if key_len == NO_KEY { 0 } else { key_len as usize };
        if value > len {
            return Err(self.damaged("a record has a key longer than itself"));
        }
        self.used = start + len;
        self.position += (PREFIX_BYTES + len) as u64;
        let record = &self.buffer[start..self.used];
        Ok(Record {
            offset,
            timestamp: i64::from_le_bytes(std::array::from_fn(|i| record[i])),
            key: (key_len != NO_KEY).then(|| &record[HEADER_BYTES..value]),
            value: Some(&record[value..]),
        })
    }

    /// The next `bytes` bytes.
    fn fill(&mut self, bytes: usize) -> Result<&[u8]> {
        if self.buffer.len() - self.used < bytes {
            self.buffer.drain(..self.used);
            self.used = 0;
            let held = self.buffer.len();
            let left = self.limit.saturating_sub(self.position) as usize;
            if left < bytes {
                return Err(self.damaged("it ends within a record"));
            }
            self.buffer.resize(left.min(bytes.max(CHUNK_BYTES)), 0);
            self.file
                .read_exact_at(&mut self.buffer[held..], self.position + held as u64)
                .with_context(|| format!("reading {}", self.path.display()))?;
        }
        Ok(&self.buffer[self.used..self.used + bytes])
    }

    fn damaged(&self, problem: &'static str) -> anyhow::Error {
        Damaged { path: self.path.clone(), position: self.position, problem }.into()
    }
}

#[cfg(test)]
mod tests {
    use dataflows::model::codec;

    use super::*;

    type Records = Vec<(Topic, u32, u64, Option<Vec<u8>>, Vec<u8>)>;

    /// Reads a log, up to where it says that it is damaged.
    fn read(log: &dyn Log, records: &mut Records) -> Result<()> {
        for topic in Topic::ALL {
            for partition in 0..log.partitions(topic) {
                let from = log.start(topic, partition)?;
                let mut reader = log.reader(topic, partition, from)?;
                let mut batch = Batch::default();
                while reader.position() < log.end(topic, partition)? {
                    batch.clear();
                    let read = reader.read(&mut batch, 100);
                    records.extend(batch.iter().map(|it| {
                        let value = it.value.unwrap_or_default().to_vec();
                        (topic, partition, it.offset, it.key.map(<[u8]>::to_vec), value)
                    }));
                    if read? == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts right what would give the damage away: the checksums of records, or of slots.
    fn reseal(name: &str, bytes: &mut [u8]) {
        if name.contains("-0/") {
            let mut rest = bytes;
            while let Some((prefix, behind)) = rest.split_first_chunk_mut::<PREFIX_BYTES>() {
                let len = u32::from_le_bytes(std::array::from_fn(|i| prefix[i])) as usize;
                let Some((record, next)) = behind.split_at_mut_checked(len) else { return };
                prefix[4..].copy_from_slice(&(xxh3_64(record) as u32).to_le_bytes());
                rest = next;
            }
        } else {
            for slot in bytes.as_chunks_mut::<SLOT_BYTES>().0 {
                let check = xxh3_64(&slot[..32]);
                slot[32..40].copy_from_slice(&check.to_le_bytes());
            }
        }
    }

    /// Whatever becomes of one of its files: a log gives what was written, or says that it is damaged;
    /// so it does where the damage has the right checksum, as far as it can know. An input is the
    /// number of the file, whether checksums are put right, and what is in the file then.
    #[test]
    fn fuzz_log_files() {
        let whole = crate::fuzz::dir();
        let log = open(whole.path()).unwrap();
        let mut writer = log.writer().unwrap();
        for (number, line) in crate::fuzz::lines().iter().enumerate() {
            let (topic, key) = (Topic::ALL[number % 4], number.to_string());
            let key = (number % 3 > 0).then_some(key.as_bytes());
            writer.append(topic, 0, 1 + number as i64, key, line).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        let mut written = Records::new();
        read(&*log, &mut written).unwrap();
        assert_eq!(written.len(), crate::fuzz::lines().len());

        let segment = "orders-0/00000000000000000000.seg";
        let names = ["log.json", "ends", "published", segment];
        let files = names.map(|name| fs::read(whole.path().join(name)).unwrap());
        let seeds = (0..8u8).map(|form| [&[form][..], &files[usize::from(form / 2)]].concat());
        crate::fuzz::fuzz!(20_000, seeds, |input| {
            let Some((form, content)) = input.0.split_first() else { return false };
            let (name, resealed) = (names[usize::from(form / 2 % 4)], form % 2 > 0);
            let mut content = content.to_vec();
            if resealed && name != "log.json" {
                reseal(name, &mut content);
            }
            let dir = crate::fuzz::dir();
            for topic in Topic::ALL {
                let from = whole.path().join(format!("{}-0", topic.name()));
                let to = dir.path().join(format!("{}-0", topic.name()));
                fs::create_dir(&to).unwrap();
                let segment = "00000000000000000000.seg";
                std::os::unix::fs::symlink(from.join(segment), to.join(segment)).unwrap();
            }
            for (known, bytes) in names.iter().zip(&files) {
                let path = dir.path().join(known);
                _ = fs::remove_file(&path);
                fs::write(path, if *known == name { &content } else { bytes }).unwrap();
            }
            let mut found = Records::new();
            let Ok(log) = open(dir.path()) else { return false };
            _ = read(&*log, &mut found);
            if !resealed && name != "log.json" {
                assert!(found.iter().all(|record| written.contains(record)), "{found:?}");
            }
            _ = crate::log::newest_record(&*log, Topic::Orders, 0);
            for (topic, _, _, _, value) in &found {
                _ = codec::decode(*topic, Some(value));
            }
            !found.is_empty()
        });
    }

    /// A record with the right checksum whose key goes beyond its end.
    #[test]
    fn a_key_longer_than_its_record_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path()).unwrap();
        let mut writer = log.writer().unwrap();
        writer.append(Topic::Users, 0, 1, Some(b"key"), b"{}").unwrap();
        writer.flush().unwrap();
        let path = dir.path().join("users-0/00000000000000000000.seg");
        let mut bytes = fs::read(&path).unwrap();
        bytes[PREFIX_BYTES + 8..PREFIX_BYTES + 12].copy_from_slice(&1_000u32.to_le_bytes());
        reseal("users-0/", &mut bytes);
        fs::write(&path, bytes).unwrap();
        let said = read(&*log, &mut Records::new()).unwrap_err();
        assert!(said.is::<Damaged>(), "{said:#}");
    }
}
