//! Reading a worker's partitions in the order of event time, and decoding them into the graph.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use dataflows::analytics::{DEAD_LETTERS, Handles, Output};
use dataflows::ledger::{Origin, Reach, Tally};
use dataflows::model::time::{HOUR, TIME_END};
use dataflows::model::{Event, Millis, Topic};
use dataflows::row::{Cell, Fate, Row};
use tracing::info;

use super::as_read::{self, Mark};
use crate::log::{Batch, Log, Reader, Record};
use dataflows::model::codec::{self, Reason};

/// How far ahead of the slowest of the others a worker may read, and a partition be read: watermark
/// alignment. It is less than the day after which `now` leaves a partition behind, and enough that
/// nobody waits long.
pub(super) const MAX_DRIFT: Millis = 20 * HOUR;

/// Records fetched from a partition at a time.
const FETCH: usize = 2_000;

/// A partition that gives so many at once is read ahead: another thread decodes the next ones meanwhile.
const MANY: usize = 200;

/// So many partitions' records wait to be decoded; a worker with more waits itself.
const JOBS: usize = 16;

/// A log that gives nothing for so long, short of the end, is spoken of.
pub(super) const STALLED: Duration = Duration::from_secs(30);

/// What a record takes beside its value, until it is committed.
const RECORD_BYTES: usize = 300;

/// A dead letter keeps at most this much of the value.
pub(super) const DEAD_VALUE_BYTES: usize = 64 << 10;

/// The partitions of one worker.
pub(super) struct Source {
    /// Which worker of how many.
    shard: (usize, usize),
    /// How many partitions of each topic were known when they were opened last.
    known: [u32; Topic::ALL.len()],
    /// What is committed, as of the start.
    tallies: BTreeMap<(Topic, u32), Tally>,
    partitions: Vec<Partition>,
    decoder: Decoder,
    /// No record beyond this moves `now`.
    latest: Option<Millis>,
}

/// How far a partition has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// The offset behind the last record.
    pub(super) offset: u64,
    /// The log gave nothing when it was asked last.
    pub(super) hungry: bool,
    /// The last record.
    pub(super) last: Option<Mark>,
}

/// A log that holds more of a partition than it gives.
pub(super) fn starving(topic: Topic, partition: u32, offset: u64, end: u64) -> String {
    let (name, seconds) = (topic.name(), STALLED.as_secs());
    format!(
        "the log has given nothing of {name}-{partition} from offset {offset} on for {seconds} s, \
         and holds it up to offset {end}"
    )
}

struct Partition {
    topic: Topic,
    partition: u32,
    reader: Box<dyn Reader>,
    /// The offset behind the record given last.
    next_offset: u64,
    /// That record.
    last: Option<Mark>,
    /// Fetched and not yet given to the graph.
    fetched: VecDeque<Fetched>,
    /// What comes behind that and is being decoded: nothing where nothing is fetched.
    ahead: Option<Receiver<Decoded>>,
    /// What records are read into.
    batch: Batch,
    /// How far the times go in what was fetched; of topics other than `orders` too, to read the
    /// partitions in step.
    reach: Option<Reach>,
    /// The log gave nothing when it was asked last.
    hungry: bool,
    /// The log's end when it was opened: up to there records are on their way.
    end: u64,
}

struct Fetched {
    origin: Origin,
    /// How far the times go up to here.
    reach: Option<Reach>,
    /// About what it takes until it is committed.
    bytes: usize,
    content: Result<Event, Row>,
}

impl Source {
    /// Opens the partitions p with p mod workers = index, of the worker of that `shard`, each at its
    /// committed offset.
    pub(super) fn open(
        log: &dyn Log,
        tallies: &BTreeMap<(Topic, u32), Tally>,
        shard: (usize, usize),
        latest: Option<Millis>,
    ) -> Result<Source> {
        let (partitions, decoder) = (Vec::new(), Decoder::start());
        let (known, tallies) = ([0; Topic::ALL.len()], tallies.clone());
        let mut source = Source { shard, known, tallies, partitions, decoder, latest };
        source.open_new(log)?;
        Ok(source)
    }

    /// Opens those that were added to the log since, and names them to the store.
    pub(super) fn grow(&mut self, log: &dyn Log, handles: &mut Handles) -> Result<()> {
        let before = self.partitions.len();
        self.open_new(log)?;
        if self.partitions.len() > before {
            self.announce(handles);
        }
        Ok(())
    }

    fn open_new(&mut self, log: &dyn Log) -> Result<()> {
        let (index, workers) = self.shard;
        for topic in Topic::ALL {
            let (opened, known) = (self.known[topic as usize], log.partitions(topic));
            let mut from = Vec::new();
            for partition in (opened..known).filter(|p| *p as usize % workers == index) {
                let committed = self.tallies.get(&(topic, partition)).map(|it| it.next_offset);
                // A log need not begin at 0; one that has been read must go on where that ended.
                from.push((partition, committed.map_or_else(|| log.start(topic, partition), Ok)?));
            }
            self.known[topic as usize] = known;
            if from.is_empty() {
                continue;
            }
            if opened > 0 {
                info!(topic = topic.name(), partitions = known, "the topic has grown");
            }
            let readers = log.readers(topic, &from).with_context(|| {
                format!(
                    "going on from the committed offsets of {} (`marketday analytics --rebuild` \
                     counts again what the log holds)",
                    topic.name()
                )
            })?;
            for ((partition, next_offset), reader) in from.into_iter().zip(readers) {
                let committed = self.tallies.get(&(topic, partition));
                self.partitions.push(Partition {
                    topic,
                    partition,
                    reader,
                    next_offset,
                    last: None,
                    fetched: VecDeque::new(),
                    ahead: None,
                    batch: Batch::default(),
                    reach: committed.and_then(|tally| tally.reach),
                    hungry: false,
                    end: log.end(topic, partition)?,
                });
            }
        }
        Ok(())
    }

    /// Says which records of its partitions were compared at the start, so that they are compared again.
    pub(super) fn mark(&mut self, compared: &BTreeMap<(Topic, u32), Mark>) {
        for it in &mut self.partitions {
            it.last = compared.get(&(it.topic, it.partition)).copied();
        }
    }

    /// Names every partition to the store, so that one without records has its line there too.
    pub(super) fn announce(&self, handles: &mut Handles) {
        for (topic, partition, Reached { offset: next_offset, .. }) in self.offsets() {
            let tally = Tally { next_offset, ..Tally::default() };
            handles.outputs.send(Output::Tally(topic, partition, tally));
        }
    }

    /// How far each partition has been given to the graph, and whether the log gave nothing more.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (Topic, u32, Reached)> {
        let partitions = self.partitions.iter();
        partitions.map(|it| {
            let reached = Reached { offset: it.next_offset, hungry: it.hungry, last: it.last };
            (it.topic, it.partition, reached)
        })
    }

    /// The log is not asked for the time being.
    pub(super) fn rest(&mut self) {
        self.partitions.iter_mut().for_each(|partition| partition.hungry = false);
    }

    /// The first partition of which the log holds more than it gives, as a sentence.
    pub(super) fn starving(&self, log: &dyn Log) -> Result<Option<String>> {
        for it in self.partitions.iter().filter(|it| it.hungry) {
            let end = log.end(it.topic, it.partition)?;
            if it.next_offset < end {
                return Ok(Some(starving(it.topic, it.partition, it.next_offset, end)));
            }
        }
        Ok(None)
    }

    /// Whether everything that the log holds by now has been given to the graph.
    pub(super) fn at_end(&self, log: &dyn Log) -> Result<bool> {
        for it in &self.partitions {
            if it.next_offset < log.end(it.topic, it.partition)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The time of the earliest record that is not given yet, as far as it is fetched or known to come.
    pub(super) fn next_at(&self) -> Option<Millis> {
        self.partitions.iter().filter_map(|it| it.next_at().or(it.waits_at())).min()
    }

    /// Gives at most `max` records, and no more when they have `max_bytes`, up to `horizon` to the
    /// graph, in the order of their times as far as the partitions have it; returns how many, and
    /// about what they take.
    pub(super) fn read(
        &mut self,
        (max, max_bytes): (usize, usize),
        horizon: Millis,
        handles: &mut Handles,
    ) -> Result<(usize, usize)> {
        let mut bytes = 0;
        let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
        let mut given = 0;
        for place in 0..self.partitions.len() {
            self.fetch(place)?;
            let partition = &mut self.partitions[place];
            let position = partition.reader.position();
            if partition.fetched.is_empty() && position > partition.next_offset {
                // The offsets up to there have no records.
                partition.next_offset = position;
                tallies.entry(place).or_default().next_offset = position;
            }
        }
        let mut horizon = horizon.min(self.waiting_horizon());
        while given < max && bytes < max_bytes {
            let next = self.partitions.iter().enumerate();
            let next = next.filter_map(|(place, partition)| Some((partition.next_at()?, place)));
            let Some((at, place)) = next.min() else { break };
            if at > horizon {
                break;
            }
            let partition = &mut self.partitions[place];
            let fetched = partition.fetched.pop_front().expect("it has a next time");
            let tally = tallies.entry(place).or_default();
            partition.next_offset = fetched.origin.offset + 1;
            partition.last = Some((fetched.origin.offset, fetched.origin.hash));
            tally.next_offset = partition.next_offset;
            match fetched.content {
                Ok(event) => {
                    if partition.topic == Topic::Orders {
                        tally.reach = fetched.reach;
                    }
                    tally.heartbeat += u64::from(matches!(event, Event::Heartbeat(_)));
                    handles.send(fetched.origin, event);
                }
                Err(row) => {
                    tally.dead += 1;
                    handles.outputs.send(Output::row(&row, Fate::New));
                }
            }
            given += 1;
            bytes += fetched.bytes;
            self.fetch(place)?;
            if self.partitions[place].fetched.is_empty() {
                horizon = horizon.min(self.waiting_horizon());
            }
        }
        for (place, tally) in tallies {
            let partition = &self.partitions[place];
            if let Some(reached) = tally.reach.and_then(|reach| reach.reached) {
                handles.reached.send((partition.partition, reached));
            }
            handles.outputs.send(Output::Tally(partition.topic, partition.partition, tally));
        }
        Ok((given, bytes))
    }

    /// Up to which instant may be read, for the sake of the partitions whose records are on their way.
    fn waiting_horizon(&self) -> Millis {
        let slowest = self.partitions.iter().filter_map(Partition::waits_at).min();
        slowest.unwrap_or(Millis::MAX).saturating_add(MAX_DRIFT)
    }

    /// Fetches the next records of a partition whose fetched ones are used up, decoded ahead where there
    /// are many.
    fn fetch(&mut self, place: usize) -> Result<()> {
        let (partition, latest) = (&mut self.partitions[place], self.latest);
        if !partition.fetched.is_empty() {
            return Ok(());
        }
        let decoded = if let Some(ahead) = partition.ahead.take() {
            ahead.recv().expect("the decoder lives as long as the source")
        } else {
            partition.hungry = partition.read()? == 0;
            decode(partition.topic, partition.partition, std::mem::take(&mut partition.batch))
        };
        partition.take(decoded, latest);
        if partition.fetched.len() >= MANY && partition.read()? > 0 {
            let batch = std::mem::take(&mut partition.batch);
            partition.ahead = Some(self.decoder.ask(partition.topic, partition.partition, batch));
        }
        Ok(())
    }
}

/// The thread that decodes for a worker what its partitions give next.
struct Decoder(SyncSender<Job>);

/// Records of a partition, and where they go when they are decoded.
struct Job {
    topic: Topic,
    partition: u32,
    batch: Batch,
    done: SyncSender<Decoded>,
}

/// Records of a partition, decoded, and the batch that they were in.
struct Decoded {
    /// Their reach is not known yet.
    records: Vec<Fetched>,
    batch: Batch,
}

impl Decoder {
    fn start() -> Decoder {
        let (work, jobs) = sync_channel::<Job>(JOBS);
        std::thread::spawn(move || {
            for Job { topic, partition, batch, done } in jobs {
                // A worker that has ended does not want it any more.
                _ = done.send(decode(topic, partition, batch));
            }
        });
        Decoder(work)
    }

    fn ask(&self, topic: Topic, partition: u32, batch: Batch) -> Receiver<Decoded> {
        let (done, decoded) = sync_channel(1);
        let job = Job { topic, partition, batch, done };
        self.0.send(job).expect("the decoder lives as long as the source");
        decoded
    }
}

fn decode(topic: Topic, partition: u32, batch: Batch) -> Decoded {
    let record = |record: Record<'_>| {
        let origin = Origin { partition, offset: record.offset, hash: as_read::hash(record) };
        let bytes = RECORD_BYTES + record.value.map_or(0, <[u8]>::len);
        let content = codec::decode(topic, record.value);
        let content = content.map_err(|reason| dead_letter(topic, partition, record, &reason));
        Fetched { origin, reach: None, bytes, content }
    };
    Decoded { records: batch.iter().map(record).collect(), batch }
}

impl Partition {
    /// Reads the next records; gives how many.
    fn read(&mut self) -> Result<usize> {
        self.batch.clear();
        let (offset, name) = (self.reader.position(), self.topic.name());
        let reading = || format!("reading {name}-{} from offset {offset} on", self.partition);
        self.reader.read(&mut self.batch, FETCH).with_context(reading)
    }

    /// Takes in decoded records. No record beyond `latest` moves `now`.
    fn take(&mut self, Decoded { records, batch }: Decoded, latest: Option<Millis>) {
        self.batch = batch;
        for mut fetched in records {
            if let Ok(event) = &fetched.content
                && latest.is_none_or(|latest| event.at() <= latest)
            {
                let (at, by) = (event.at(), event.customer());
                self.reach = Some(Reach::after(self.reach, fetched.origin.offset, at, by));
            }
            fetched.reach = self.reach;
            self.fetched.push_back(fetched);
        }
    }

    /// When the next record is to be read: when its partition will have reached that time. So a late
    /// one, a dead letter, and one with a wrong clock are read with those before them.
    fn next_at(&self) -> Option<Millis> {
        let next = self.fetched.front()?;
        Some(next.reach.and_then(|reach| reach.reached).unwrap_or(Millis::MIN))
    }

    /// How far it is where its next record is in the log and not fetched yet: others do not run away
    /// from it, or `now` would leave it behind.
    fn waits_at(&self) -> Option<Millis> {
        let waits = self.fetched.is_empty() && self.next_offset < self.end;
        waits.then(|| self.reach.and_then(|reach| reach.reached).unwrap_or(Millis::MIN))
    }
}

/// The row of a record that is no event.
fn dead_letter(topic: Topic, partition: u32, record: Record<'_>, reason: &Reason) -> Row {
    let bytes = |content: Option<&'_ [u8]>| match content {
        Some(content) => content[..content.len().min(DEAD_VALUE_BYTES)].to_vec(),
        None => Vec::new(),
    };
    let (key, value) = (bytes(record.key), bytes(record.value));
    Row::new(
        DEAD_LETTERS,
        &[],
        &[
            Cell::Text(topic.name()),
            Cell::Int(i64::from(partition)),
            Cell::Int(record.offset as i64),
            Cell::Instant(record.timestamp.clamp(0, TIME_END)), // whatever a client has set
            Cell::Text(&reason.to_string()),
            record.key.map_or(Cell::Null, |_| Cell::Bytes(&key)),
            record.value.map_or(Cell::Null, |_| Cell::Bytes(&value)),
        ],
    )
}
