//! How far the analytics are, told once a second outside the commits, so that a stall shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Error, Result};
use dataflows::model::Topic;
use rdkafka::error::KafkaError;
use tracing::warn;

use super::as_read::{Mark, Marks};
use super::source::{self, Reached, STALLED};
use crate::log::{Log, NotAsRead};
use crate::platform::clock::Stopwatch;
use crate::platform::process;
use crate::store;

/// What a worker tells of a partition.
struct Told {
    reached: Reached,
    /// The first record that it told of since that was looked at.
    first: Option<Mark>,
}

/// How far the workers of this process have read.
#[derive(Default)]
pub(super) struct Reading {
    partitions: Mutex<BTreeMap<(Topic, u32), Told>>,
    ended: AtomicBool,
    failed: AtomicBool,
    /// Why the workers are to end.
    failure: Mutex<Option<Error>>,
}

impl Reading {
    /// Tells how far a partition is read.
    pub(super) fn tell(&self, topic: Topic, partition: u32, reached: Reached) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Told { reached, first: None };
        let told = partitions.entry((topic, partition)).or_insert(new);
        *told = Told { reached, first: told.first.or(reached.last) };
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

    /// Starts the thread that writes `pipeline_status` and `broker_status`, hears of new partitions, and
    /// compares what was read with what the log holds. Where that fails the commits fail too, and
    /// theirs is the error that counts; this thread tries again.
    pub(super) fn report(
        self: &Arc<Self>,
        log: Arc<dyn Log>,
        database: postgres::Config,
    ) -> JoinHandle<()> {
        let reading = Arc::clone(self);
        std::thread::spawn(move || {
            let mut client = None;
            let (mut stalls, mut marks) = (Stalls::default(), Marks::default());
            for beat in 0u64.. {
                if reading.failed.load(Ordering::Relaxed) {
                    return;
                }
                let ended = reading.ended.load(Ordering::Relaxed);
                if beat.is_multiple_of(10) || ended {
                    if client.is_none() {
                        client = store::connect(&database).ok();
                    }
                    let write = |client| reading.write(&*log, client, &mut stalls, &mut marks);
                    let written = client.as_mut().map(write);
                    match written {
                        Some(Err(error)) if error.is::<NotAsRead>() => {
                            let failure = reading.failure.lock();
                            *failure.unwrap_or_else(PoisonError::into_inner) = Some(error);
                            return;
                        }
                        Some(Err(error)) => {
                            stalls.failed(&error);
                            client = None;
                        }
                        _ => {}
                    }
                }
                if ended {
                    return;
                }
                sleep(Duration::from_millis(100));
            }
        })
    }

    fn write(
        &self,
        log: &dyn Log,
        client: &mut postgres::Client,
        stalls: &mut Stalls,
        marks: &mut Marks,
    ) -> Result<()> {
        store::end_long_readers(client, store::READING)?;
        let mut offsets = BTreeMap::new();
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, Told { reached, first }) in &mut *partitions {
            marks.note(*place, first.take());
            marks.note(*place, reached.last);
            offsets.insert(*place, *reached);
        }
        drop(partitions);
        marks.look(log)?;
        let committed = store::committed_tallies(client)?;
        let memory = process::resident_bytes().unwrap_or(0);
        for topic in Topic::ALL {
            let of_topic = offsets.keys().filter(|(of, _)| *of == topic);
            let offsets: Vec<_> = of_topic
                .filter_map(|place| Some((place.1, committed.get(place)?.next_offset)))
                .collect();
            log.committed(topic, &offsets)?;
        }
        let brokers = log.brokers()?;
        let mut tx = client.transaction()?;
        for broker in brokers {
            tx.execute(
                "INSERT INTO broker_status (broker, partitions, in_sync, written_at)
                 VALUES ($1, $2, $3, clock_timestamp())
                 ON CONFLICT (broker) DO UPDATE SET partitions = excluded.partitions,
                     in_sync = excluded.in_sync, written_at = excluded.written_at",
                &[&i64::from(broker.id), &i64::from(broker.partitions), &i64::from(broker.in_sync)],
            )?;
        }
        for ((topic, partition), reached) in offsets {
            let (end, read) = (log.end(topic, partition)?, reached.offset);
            stalls.look(topic, partition, reached, end);
            let committed = committed.get(&(topic, partition)).map_or(0, |tally| tally.next_offset);
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
        tx.commit()?;
        stalls.brokers_away = false;
        Ok(())
    }
}

/// What stands still.
#[derive(Default)]
struct Stalls {
    /// Since when the log has given nothing of a partition from an offset on, short of its end, and
    /// whether that was said.
    places: BTreeMap<(Topic, u32), (u64, Stopwatch, bool)>,
    /// It was said that the brokers do not answer.
    brokers_away: bool,
}

impl Stalls {
    /// Says once that a partition stands still.
    fn look(&mut self, topic: Topic, partition: u32, reached: Reached, end: u64) {
        let Reached { offset, hungry, .. } = reached;
        if !hungry || offset >= end {
            self.places.remove(&(topic, partition));
            return;
        }
        let new = (offset, Stopwatch::start(), false);
        let place = self.places.entry((topic, partition)).or_insert(new);
        if place.0 != offset {
            *place = new;
        }
        let (_, since, told) = place;
        if !*told && since.elapsed() > STALLED {
            *told = true;
            let what = source::starving(topic, partition, offset, end);
            warn!("{what}");
        }
    }

    /// Says once that the brokers do not answer.
    fn failed(&mut self, error: &anyhow::Error) {
        let of_log = error.chain().any(<dyn std::error::Error>::is::<KafkaError>);
        if of_log && !std::mem::replace(&mut self.brokers_away, true) {
            warn!("{error:#}; waiting for the brokers");
        }
    }
}
