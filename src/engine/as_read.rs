//! Whether the log still holds what was read of it: a topic that was deleted and made again has the old
//! one's name and offsets, and Kafka's client goes on in it as if nothing had happened.
//!
//! At the start, rows of the store are compared with the records at their offsets; while it runs, records
//! that were read. Both times only what the log still holds can be: its beginning may be gone, and a record
//! of a compacted topic too, so one that is not there says nothing and the next one is tried.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use dataflows::ledger::Tally;
use dataflows::model::Topic;
use dataflows::model::codec;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use super::source::DEAD_VALUE_BYTES;
use crate::log::{Log, NotAsRead, Record, records_at};
use crate::platform::clock::Stopwatch;
use crate::store::{Counted, Known};

/// A broker that has just started may not have heard of all partitions; for so long it is asked again ...
const HEARD: Duration = Duration::from_secs(10);

/// ... this often.
const LOOK: Duration = Duration::from_millis(100);

/// How often what was read is compared while more is read.
const COMPARED: Duration = Duration::from_secs(20);

/// So many marks stay when they have been compared: each may be a record that is gone by the next time.
const KEPT: usize = 8;

/// A record that was read: its offset, and the hash of its value.
pub(super) type Mark = (u64, u64);

/// That the log has all partitions that the store has counted.
pub(super) fn has_all(log: &dyn Log, tallies: &BTreeMap<(Topic, u32), Tally>) -> Result<()> {
    let since = Stopwatch::start();
    while let Some(&(topic, partition)) =
        tallies.keys().find(|(topic, partition)| *partition >= log.partitions(*topic))
    {
        let (name, count) = (topic.name(), log.partitions(topic));
        ensure!(
            since.elapsed() < HEARD,
            "{name}-{partition} was counted, and the log has no such partition, only {count} of {name}: \
             was the topic deleted and made again? `marketday analytics --rebuild` counts again what \
             the log holds"
        );
        log.brokers()?;
        sleep(LOOK);
    }
    Ok(())
}

/// Says where the counting begins in partitions of which nothing is counted and whose beginning is gone.
pub(super) fn warn_of_starts(log: &dyn Log, tallies: &BTreeMap<(Topic, u32), Tally>) -> Result<()> {
    let mut places = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            if !tallies.contains_key(&(topic, partition)) {
                let start = log.start(topic, partition)?;
                let place = || format!("offset {start} of {}-{partition}", topic.name());
                places.extend((start > 0).then(place));
            }
        }
    }
    if !places.is_empty() {
        let places = places.join(", ");
        warn!("the log no longer holds its beginning, so the counting begins at {places}");
    }
    Ok(())
}

/// The hash of a record's value.
pub(super) fn hash(record: Record<'_>) -> u64 {
    record.value.map_or(0, xxh3_64)
}

/// Compares what the store says of a topic's partitions with what the log holds; gives for each the last
/// record that was compared.
pub(super) fn compare(
    log: &dyn Log,
    topic: Topic,
    known: Vec<Known>,
) -> Result<BTreeMap<u32, Mark>> {
    let mut compared = BTreeMap::new();
    let mut waiting: VecDeque<Known> = known.into();
    while !waiting.is_empty() {
        // A reader reads from one place of a partition.
        let mut turn: BTreeMap<u32, (Counted, Known)> = BTreeMap::new();
        for mut known in std::mem::take(&mut waiting) {
            match turn.entry(known.partition) {
                Entry::Occupied(_) => waiting.push_back(known),
                Entry::Vacant(place) => {
                    if let Some(row) = known.records.pop() {
                        place.insert((row, known));
                    }
                }
            }
        }
        let places: Vec<(u32, u64)> =
            turn.iter().map(|(it, (row, _))| (*it, row.offset())).collect();
        let records = records_at(log, topic, &places)?;
        for ((partition, (row, known)), found) in turn.into_iter().zip(records) {
            if found.is_empty() {
                waiting.push_back(known);
                continue;
            }
            let (record, offset) = (found.get(0), row.offset());
            let as_read = match row {
                Counted::Event(_, event) => {
                    codec::decode(topic, record.value).as_ref() == Ok(&event)
                }
                Counted::Dead(_, value) => {
                    record.value.is_some_and(|it| it[..it.len().min(DEAD_VALUE_BYTES)] == value)
                }
            };
            if !as_read {
                return Err(NotAsRead { topic, partition, offset }.into());
            }
            let mark = (offset, hash(record));
            compared
                .entry(partition)
                .and_modify(|it: &mut Mark| *it = mark.max(*it))
                .or_insert(mark);
        }
    }
    Ok(compared)
}

/// Records that this process has read of each partition, to be compared again.
pub(super) struct Marks {
    partitions: BTreeMap<(Topic, u32), Marked>,
    since: Stopwatch,
}

/// Those of one partition.
#[derive(Default)]
struct Marked {
    marks: VecDeque<Mark>,
    /// The newest one when they were compared last.
    compared: Option<Mark>,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { partitions: BTreeMap::new(), since: Stopwatch::start() }
    }
}

impl Marks {
    /// Takes note of a record of a partition, in the order in which they are read.
    pub(super) fn note(&mut self, place: (Topic, u32), mark: Option<Mark>) {
        let Marked { marks, .. } = self.partitions.entry(place).or_default();
        let new = mark.filter(|mark| marks.back() != Some(mark));
        marks.extend(new);
    }

    /// Compares the oldest mark of each partition of which more was read, when it is time. What matches was
    /// read of the same topic as all before, so it is from then on enough to compare later ones.
    pub(super) fn look(&mut self, log: &dyn Log) -> Result<()> {
        if self.since.elapsed() < COMPARED {
            return Ok(());
        }
        for topic in Topic::ALL {
            let of_topic = self
                .partitions
                .iter()
                .filter(|((of, _), it)| *of == topic && it.marks.back() != it.compared.as_ref());
            let oldest = of_topic.filter_map(|((_, it), Marked { marks, .. })| {
                marks.front().map(|mark| (*it, *mark))
            });
            let mut oldest: Vec<(u32, Mark)> = oldest.collect();
            while !oldest.is_empty() {
                let places: Vec<(u32, u64)> =
                    oldest.iter().map(|(it, mark)| (*it, mark.0)).collect();
                let records = records_at(log, topic, &places)?;
                let mut next = Vec::new();
                for ((partition, mark), found) in oldest.into_iter().zip(records) {
                    let marked = self.partitions.entry((topic, partition)).or_default();
                    let Marked { marks, compared } = marked;
                    if found.is_empty() {
                        marks.pop_front();
                        next.extend(marks.front().map(|mark| (partition, *mark)));
                    } else if hash(found.get(0)) == mark.1 {
                        marks.drain(..marks.len().saturating_sub(KEPT));
                        *compared = marks.back().copied();
                    } else {
                        return Err(NotAsRead { topic, partition, offset: mark.0 }.into());
                    }
                }
                oldest = next;
            }
        }
        self.since = Stopwatch::start();
        Ok(())
    }
}
