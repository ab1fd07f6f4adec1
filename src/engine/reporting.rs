//! How far the analytics are and what they wait for, told once a second outside the commits, so that a
//! stall shows. The log is asked by a thread of its own: what is known is told while it does not answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Error, Result};
use dataflows::model::Topic;
use rdkafka::error::KafkaError;
use tracing::warn;

use super::as_read::{Mark, Marks};
use super::source::{self, Reached, STALLED};
use crate::log::{Broker, Log, NotAsRead};
use crate::platform::clock::Stopwatch;
use crate::platform::process;
use crate::store;
use crate::store::waits::{Wait, What, at, waits_for_lock, write_waits};

/// How often is told, and asked.
const BEAT: Duration = Duration::from_secs(1);

/// How soon it is noticed that the analytics end.
const LOOK: Duration = Duration::from_millis(100);

/// Brokers that have not answered for so long, and a lock that is waited for so long, are spoken of.
const UNANSWERED: Duration = Duration::from_secs(5);

/// So is a transaction that is open for so long: a market's own is so for moments.
const OPEN: Duration = Duration::from_secs(10);

/// A place in the log.
type Place = (Topic, u32);

/// What the log has said of itself.
struct Answer {
    /// When.
    at: Stopwatch,
    /// First offset of each partition that cannot be read yet.
    ends: BTreeMap<Place, u64>,
    /// Behind what is written, committed or not.
    written: BTreeMap<Place, u64>,
    brokers: Vec<Broker>,
}

/// The newest answer of the log.
struct Asking {
    /// Not told yet.
    answer: Option<Answer>,
    /// Since when there is no answer.
    since: Stopwatch,
    /// Why there is none, if its client says so.
    error: Option<String>,
}

/// What a worker tells of a partition.
struct Told {
    reached: Reached,
    /// The first record that it told of since that was looked at.
    first: Option<Mark>,
}

/// How far the workers of this process have read.
#[derive(Default)]
pub(super) struct Reading {
    partitions: Mutex<BTreeMap<Place, Told>>,
    ended: AtomicBool,
    failed: AtomicBool,
    /// Why the workers are to end.
    failure: Mutex<Option<Error>>,
}

impl Reading {
    /// Tells how far a partition is read.
    pub(super) fn tell(&self, topic: Topic, partition: u32, reached: Reached) {
        let mut partitions = self.partitions();
        let new = Told { reached, first: None };
        let told = partitions.entry((topic, partition)).or_insert(new);
        *told = Told { reached, first: told.first.or(reached.last) };
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<Place, Told>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more will be read; if that went well, what was is told once more.
    pub(super) fn end(&self, well: bool) {
        let ended = if well { &self.ended } else { &self.failed };
        ended.store(true, Ordering::Relaxed);
    }

    /// Whether the log still is what was read.
    pub(super) fn check(&self) -> Result<()> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map_or(Ok(()), Err)
    }

    /// Does something each second, and once more at the end, until the analytics have ended.
    fn each_beat(&self, mut run: impl FnMut(bool)) {
        let mut last: Option<Stopwatch> = None;
        while !self.failed.load(Ordering::Relaxed) {
            let ended = self.ended.load(Ordering::Relaxed);
            if ended || last.is_none_or(|last| last.elapsed() >= BEAT) {
                last = Some(Stopwatch::start());
                run(ended);
            }
            if ended {
                return;
            }
            sleep(LOOK);
        }
    }

    /// Starts the threads that ask the log, which hears of new partitions and compares what was read with
    /// what it holds, and that write `pipeline_status`, `broker_status` and `waits`, as this process of
    /// several. Where that fails the commits fail too, and theirs is the error that counts; this thread
    /// tries again.
    pub(super) fn report(
        self: &Arc<Self>,
        log: Arc<dyn Log>,
        database: postgres::Config,
        process: usize,
    ) -> JoinHandle<()> {
        let asking =
            Arc::new(Mutex::new(Asking { answer: None, since: Stopwatch::start(), error: None }));
        let (reading, answers, to_ask) = (Arc::clone(self), Arc::clone(&asking), Arc::clone(&log));
        let thread = std::thread::spawn(move || {
            let (mut warned, mut marks) = (false, Marks::default());
            reading.each_beat(|_| {
                reading.ask(&*to_ask, &answers, &mut warned);
                reading.compare(&*to_ask, &mut marks);
            });
        });
        let reading = Arc::clone(self);
        std::thread::spawn(move || {
            let mut client = None;
            let mut report = Report { process, places: BTreeMap::new() };
            reading.each_beat(|ended| {
                let since = Stopwatch::start();
                while ended && !thread.is_finished() && since.elapsed() < UNANSWERED {
                    sleep(LOOK);
                }
                if client.is_none() {
                    client = store::connect(&database).ok();
                }
                let write = |client| reading.write(&*log, client, &mut report, &asking, ended);
                if client.as_mut().map(write).is_some_and(|written| written.is_err()) {
                    client = None;
                }
            });
        })
    }

    /// How far each partition is read.
    fn offsets(&self) -> BTreeMap<Place, Reached> {
        self.partitions().iter().map(|(place, told)| (*place, told.reached)).collect()
    }

    /// Compares what was read with what the log holds; that it differs ends the workers. What else goes
    /// wrong does so for them too.
    fn compare(&self, log: &dyn Log, marks: &mut Marks) {
        for (place, Told { reached, first }) in &mut *self.partitions() {
            marks.note(*place, first.take());
            marks.note(*place, reached.last);
        }
        if let Err(error) = marks.look(log)
            && error.is::<NotAsRead>()
        {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
        }
    }

    /// Asks the log how it is, and says once when it does not answer.
    fn ask(&self, log: &dyn Log, asking: &Mutex<Asking>, warned: &mut bool) {
        let places: Vec<Place> = self.partitions().keys().copied().collect();
        let answer = answer(log, &places);
        let mut asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                *warned = false;
                *asking = Asking { since: answer.at, answer: Some(answer), error: None };
            }
            Err(error) => {
                asking.error = Some(format!("{error:#}"));
                let of_brokers = error.chain().any(<dyn std::error::Error>::is::<KafkaError>);
                if of_brokers && !std::mem::replace(warned, true) {
                    warn!("{error:#}; waiting for the brokers");
                }
            }
        }
    }

    fn write(
        &self,
        log: &dyn Log,
        client: &mut postgres::Client,
        report: &mut Report,
        asking: &Mutex<Asking>,
        ended: bool,
    ) -> Result<()> {
        store::end_long_readers(client, store::READING)?;
        let offsets = self.offsets();
        let committed = store::committed_tallies(client)?;
        let memory = process::resident_bytes().unwrap_or(0);
        for topic in Topic::ALL {
            let of_topic = offsets.keys().filter(|(of, _)| *of == topic);
            let offsets: Vec<_> = of_topic
                .filter_map(|place| Some((place.1, committed.get(place)?.next_offset)))
                .collect();
            // For the eyes of the log's own tools: the next time it is told again.
            _ = log.committed(topic, &offsets);
        }
        let (answer, brokers) = {
            let mut asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
            let silent = asking.since.elapsed();
            let brokers = (silent > UNANSWERED).then(|| Wait {
                what: What::Brokers,
                place: String::new(),
                seconds: silent.as_secs() as i64,
                offset: None,
                records: None,
                told: asking.error.clone(),
            });
            (asking.answer.take(), brokers)
        };
        if let Some(answer) = &answer {
            report.look(&offsets, answer);
        }
        // What is known of the partitions is not of now while the brokers do not answer.
        let mut waits = brokers.map_or_else(|| report.waits(), |brokers| vec![brokers]);
        let lock = waits_for_lock(client, None)?.map(|(lock, _)| lock);
        waits.extend(lock.filter(|lock| lock.seconds >= UNANSWERED.as_secs() as i64));
        let mut tx = client.transaction()?;
        for broker in answer.iter().flat_map(|answer| &answer.brokers) {
            tx.execute(
                "INSERT INTO broker_status (broker, partitions, in_sync, written_at)
                 VALUES ($1, $2, $3, clock_timestamp())
                 ON CONFLICT (broker) DO UPDATE SET partitions = excluded.partitions,
                     in_sync = excluded.in_sync, written_at = excluded.written_at",
                &[&i64::from(broker.id), &i64::from(broker.partitions), &i64::from(broker.in_sync)],
            )?;
        }
        for ((topic, partition), Reached { offset: read, .. }) in offsets {
            let Some(place) = report.places.get(&(topic, partition)) else { continue };
            let committed = committed.get(&(topic, partition)).map_or(0, |tally| tally.next_offset);
            // Both may have gone on since the log was asked.
            let end = place.end().max(read).max(committed);
            tx.execute(
                "INSERT INTO pipeline_status
                     (topic, partition, read, committed, log_end, lag, memory_bytes, written_at)
                 VALUES ($1, $2, $3, $4, $5, $5::bigint - $4::bigint, $6, clock_timestamp())
                 ON CONFLICT (topic, partition) DO UPDATE SET
                     read = excluded.read, committed = excluded.committed,
                     log_end = excluded.log_end, lag = excluded.lag,
                     memory_bytes = excluded.memory_bytes, written_at = excluded.written_at",
                &[
                    &topic.name(),
                    &i64::from(partition),
                    &(read as i64),
                    &(committed as i64),
                    &(end as i64),
                    &(memory as i64),
                ],
            )?;
        }
        // Who has ended waits for nothing.
        write_waits(&mut tx, report.process, if ended { &[] } else { &waits })?;
        tx.commit()?;
        Ok(())
    }
}

/// What the log says of itself and of some partitions.
fn answer(log: &dyn Log, places: &[Place]) -> Result<Answer> {
    let asked = Stopwatch::start();
    let brokers = log.brokers()?;
    let mut ends = BTreeMap::new();
    for &(topic, partition) in places {
        ends.insert((topic, partition), log.end(topic, partition)?);
    }
    Ok(Answer { at: asked, ends, written: log.written()?, brokers })
}

/// What is told of the partitions.
struct Report {
    process: usize,
    places: BTreeMap<Place, Partition>,
}

/// How the log stands with a partition.
struct Partition {
    end: u64,
    written: u64,
    /// Since when the log has given nothing from an offset on, short of its end, and whether that was said.
    stalled: Option<(u64, Stopwatch, bool)>,
    /// Since when the end is the same, with something written behind it: a transaction is open there.
    open: Option<Stopwatch>,
}

impl Partition {
    /// The end of the log: what is behind a transaction that stays open waits as well.
    fn end(&self) -> u64 {
        if self.is_open() { self.written } else { self.end }
    }

    fn is_open(&self) -> bool {
        self.open.is_some_and(|since| since.elapsed() > OPEN)
    }
}

impl Report {
    /// Takes note of an answer of the log, and says once of a partition that it stands still.
    fn look(&mut self, offsets: &BTreeMap<Place, Reached>, answer: &Answer) {
        for ((topic, partition), Reached { offset, hungry, .. }) in offsets {
            let place = (*topic, *partition);
            let Some(&end) = answer.ends.get(&place) else { continue };
            let new = Partition { end, written: end, stalled: None, open: None };
            let known = self.places.entry(place).or_insert(new);
            known.open = known.open.filter(|_| known.end == end);
            known.end = end;
            if let Some(written) = answer.written.get(&place) {
                known.written = *written;
                let open = known.open.unwrap_or_else(Stopwatch::start);
                known.open = (*written > end).then_some(open);
            }
            if !hungry || *offset >= end {
                known.stalled = None;
                continue;
            }
            let same = known.stalled.filter(|(from, ..)| from == offset);
            let (_, since, told) =
                known.stalled.insert(same.unwrap_or((*offset, Stopwatch::start(), false)));
            if !*told && since.elapsed() > STALLED {
                *told = true;
                let what = source::starving(*topic, *partition, *offset, end);
                warn!("{what}");
            }
        }
    }

    /// What is waited for of the partitions.
    fn waits(&self) -> Vec<Wait> {
        let mut waits = Vec::new();
        for ((topic, partition), known) in &self.places {
            let place = format!("{}-{partition}", topic.name());
            if let Some(since) = known.open.filter(|_| known.is_open()) {
                let (from, end) = (known.end, known.written);
                waits.push(at(What::Transaction, place.clone(), since.elapsed(), from, end));
            }
            let stalled = known.stalled.filter(|(_, since, _)| since.elapsed() > STALLED);
            if let Some((from, since, _)) = stalled {
                waits.push(at(What::Partition, place, since.elapsed(), from, known.end));
            }
        }
        waits
    }
}
