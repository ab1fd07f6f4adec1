//! Kafka as the log: a topic for each of ours, with three copies of every record.
//!
//! What is appended goes out at once, in a transaction that [`Writer::flush`] commits; readers see
//! committed records only. So a flush is all or nothing, and the brokers themselves see to it that
//! there is one writer: a new one with the log's transactional id ends the one before.
//!
//! The brokers end a writer in the same words when it was silent for too long. So whoever becomes the
//! writer says so with a record of its own in the topic [`IDENTITY`], in its first transaction. A
//! writer that was ended looks there: where the newest such record is another's it ends; where it is
//! its own, nobody else has written or can write without a newer one, and it begins again with what
//! its open transaction held, unless that was committed after all.
//!
//! A topic that is missing is made, with what the market needs and brokers do not have by default:
//! records are kept for ever, and may bear any time, since market time is not the brokers'.
//!
//! Each worker has one consumer a topic, with the partitions assigned by us, and another one for those that
//! are added while it runs. Its queue, filled by librdkafka's own threads, holds at most [`FETCHED_KIB`].
//! Offsets are committed to the consumer groups for the eyes of Kafka's tools only; nothing here ever
//! reads them back.

mod cluster;
mod identity;
mod reader;
mod topics;
mod writer;

pub use cluster::Place;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use dataflows::model::Topic;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use super::{Broker, Log, OffsetNotHeld, Owner, Reader, Writer};
use cluster::{ANSWER, Client, Logged, TRY, ends, metadata};
use identity::{IDENTITY, OWNER, identity, owner, said, write_word};
use reader::KafkaReader;
use topics::{made, make, partitions};
use writer::KafkaWriter;

use crate::platform::clock::Stopwatch;

/// How long it may take to find out that there are no brokers, for who only looks.
const LOOK: Duration = Duration::from_secs(10);

/// Opens the log on a cluster; `create` makes the topics that are missing.
pub fn open(place: Place, create: bool) -> Result<Arc<dyn Log>> {
    place.resolve()?;
    let questions: Arc<Client> = Arc::new(place.consumer("marketday").create_with_context(Logged)?);
    let metadata = metadata(&questions, &place, if create { ANSWER } else { LOOK })?;
    let wanted: Vec<String> = Topic::ALL
        .iter()
        .map(|topic| topic.name())
        .chain([IDENTITY])
        .map(|n| place.topic(n))
        .collect();
    let mut missing = Vec::new();
    for name in &wanted {
        if partitions(&metadata, name).with_context(|| place.asking())?.is_none() {
            missing.push(name);
        }
    }
    let metadata = if missing.is_empty() {
        metadata
    } else {
        ensure!(
            create,
            "the cluster at {} has no topic {}: run `marketday market` or `marketday up` there \
             first, or name its --topic-prefix",
            place.brokers,
            missing[0]
        );
        make(&place, &missing, metadata.brokers().len())?;
        made(&questions, &place, &missing)?
    };
    let count = |topic: Topic| {
        let name = &wanted[topic as usize];
        partitions(&metadata, name)?.with_context(|| format!("the topic {name} is gone"))
    };
    let counts = [const { AtomicU32::new(0) }; Topic::ALL.len()];
    for topic in Topic::ALL {
        counts[topic as usize].store(count(topic)?, Ordering::Relaxed);
    }
    let identity = identity(&place)?;
    let consumers = Mutex::default();
    let uncommitted = OnceLock::new();
    Ok(Arc::new(Kafka { place, identity, counts, questions, uncommitted, consumers }))
}

struct Kafka {
    place: Place,
    identity: String,
    /// Partitions of each topic, as far as they are known.
    counts: [AtomicU32; Topic::ALL.len()],
    /// A client that only asks.
    questions: Arc<Client>,
    /// One that asks of what is not committed too.
    uncommitted: OnceLock<Client>,
    /// The consumers that read at present: group offsets are committed through them.
    consumers: Mutex<Vec<(Topic, Weak<Client>)>>,
}

impl Kafka {
    fn topic(&self, topic: Topic) -> String {
        self.place.topic(topic.name())
    }

    fn ends(&self, topic: Topic, partition: u32) -> Result<(u64, u64)> {
        ends(&self.questions, &self.topic(topic), partition).with_context(|| self.place.asking())
    }

    fn consumers(&self) -> MutexGuard<'_, Vec<(Topic, Weak<Client>)>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Kafka {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.counts[topic as usize].load(Ordering::Relaxed)
    }

    fn start(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.ends(topic, partition)?.0)
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.ends(topic, partition)?.1)
    }

    fn written(&self) -> Result<BTreeMap<(Topic, u32), u64>> {
        let client = if let Some(client) = self.uncommitted.get() {
            client
        } else {
            let mut config = self.place.consumer("marketday");
            config.set("isolation.level", "read_uncommitted");
            let client = config.create_with_context(Logged)?;
            self.uncommitted.get_or_init(|| client)
        };
        // Events that are nobody's; they would pile up.
        while client.poll(Duration::ZERO).is_some() {}
        let mut ends = TopicPartitionList::new();
        for topic in Topic::ALL {
            for partition in 0..self.partitions(topic) {
                let name = self.topic(topic);
                ends.add_partition_offset(&name, partition as i32, Offset::End)?;
            }
        }
        let since = Stopwatch::start();
        let ends = loop {
            // One question to each broker, however many partitions there are.
            match client.offsets_for_times(ends.clone(), TRY) {
                Ok(ends) => break ends,
                // As in `ends`.
                Err(_) if since.elapsed() < ANSWER => _ = client.fetch_metadata(None, TRY),
                Err(error) => return Err(error).with_context(|| self.place.asking()),
            }
        };
        let mut written = BTreeMap::new();
        for topic in Topic::ALL {
            for partition in 0..self.partitions(topic) {
                let end = ends.find_partition(&self.topic(topic), partition as i32);
                // A partition whose leader is not known at the moment is heard of the next time.
                if let Some((Offset::Offset(end), Ok(()))) = end.map(|it| (it.offset(), it.error()))
                {
                    written.insert((topic, partition), end as u64);
                }
            }
        }
        Ok(written)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let questions = Arc::clone(&self.questions);
        let counts = Topic::ALL.into_iter().map(|topic| (topic, self.partitions(topic))).collect();
        Ok(Box::new(KafkaWriter::open(&self.place, &self.identity, &counts, questions)?))
    }

    fn owner(&self) -> Result<Option<Owner>> {
        owner(&said(&self.place)?)
    }

    fn claim(&self, by: Owner) -> Result<Owner> {
        if let Some(first) = self.owner()? {
            return Ok(first);
        }
        write_word(&self.place, &format!("{OWNER}{}", by.word()), owner)
    }

    fn another(&self) -> &'static str {
        "--topic-prefix OTHER"
    }

    fn readers(&self, topic: Topic, from: &[(u32, u64)]) -> Result<Vec<Box<dyn Reader>>> {
        let name = self.topic(topic);
        for &(partition, wanted) in from {
            let (start, end) = self.ends(topic, partition)?;
            if !(start..=end).contains(&wanted) {
                bail!(OffsetNotHeld { topic, partition, wanted, start, end });
            }
        }
        let (consumer, readers) = KafkaReader::open(&self.place, topic, &name, from)?;
        let mut consumers = self.consumers();
        consumers.retain(|(_, consumer)| consumer.strong_count() > 0);
        consumers.push((topic, Arc::downgrade(&consumer)));
        Ok(readers.into_iter().map(|reader| Box::new(reader) as Box<dyn Reader>).collect())
    }

    fn committed(&self, topic: Topic, offsets: &[(u32, u64)]) -> Result<()> {
        let consumers = self.consumers();
        let mut of_topic = consumers.iter().filter(|(of, _)| *of == topic);
        let Some(consumer) = of_topic.find_map(|(_, consumer)| consumer.upgrade()) else {
            return Ok(());
        };
        let mut commit = TopicPartitionList::new();
        for &(partition, offset) in offsets {
            let offset = Offset::Offset(offset as i64);
            commit.add_partition_offset(&self.topic(topic), partition as i32, offset)?;
        }
        Ok(consumer.commit(&commit, CommitMode::Async)?)
    }

    fn brokers(&self) -> Result<Vec<Broker>> {
        let metadata = metadata(&self.questions, &self.place, ANSWER)?;
        for topic in Topic::ALL {
            // Those that have no leader yet are heard of later. One broker may know of fewer than another.
            if let Ok(Some(count)) = partitions(&metadata, &self.topic(topic)) {
                self.counts[topic as usize].fetch_max(count, Ordering::Relaxed);
            }
        }
        let mut brokers: BTreeMap<i32, Broker> = BTreeMap::new();
        let ours = Topic::ALL.map(|topic| self.topic(topic));
        let topics =
            metadata.topics().iter().filter(|it| ours.iter().any(|name| name == it.name()));
        for partition in topics.flat_map(MetadataTopic::partitions) {
            for id in partition.replicas() {
                let none = Broker { id: *id, partitions: 0, in_sync: 0 };
                let broker = brokers.entry(*id).or_insert(none);
                broker.partitions += 1;
                broker.in_sync += u32::from(partition.isr().contains(id));
            }
        }
        Ok(brokers.into_values().collect())
    }
}
