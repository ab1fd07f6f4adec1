//! The log's topics: counted, and made where they are missing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use dataflows::model::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use tracing::info;

use super::cluster::{ANSWER, Client, Logged, Place, metadata};
use crate::platform::clock::Stopwatch;
use crate::platform::retry;

/// The longest record that is written: an import's line, which is a dead letter from 1 MiB on.
pub(super) const RECORD_BYTES_MAX: &str = "17825792";

/// Copies of each record, where there are so many brokers.
const COPIES: usize = 3;

/// Number of partitions of a topic; none where there is no such topic. That one of them has no leader
/// at the moment is an error that passes.
pub(super) fn partitions(metadata: &Metadata, name: &str) -> Result<Option<u32>> {
    let of_topic = || format!("asking for topic {name}");
    let failed = |code| Err(KafkaError::MetadataFetch(code)).with_context(of_topic);
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(None);
    };
    match topic.error().map(Code::from) {
        None if topic.partitions().is_empty() => failed(Code::LeaderNotAvailable),
        None if topic.partitions().iter().any(|it| it.leader() < 0) => {
            failed(Code::LeaderNotAvailable)
        }
        None => Ok(Some(topic.partitions().len() as u32)),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(code) => failed(code),
    }
}

/// Makes topics.
pub(super) fn make(place: &Place, names: &[&String], brokers: usize) -> Result<()> {
    let copies = COPIES.min(brokers);
    let in_sync = (copies - 1).max(1).to_string();
    let count = |name: &str| {
        let of_topic = Topic::ALL.iter().position(|topic| place.topic(topic.name()) == name);
        of_topic.map_or(1, |topic| Topic::PARTITIONS[topic] as i32)
    };
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| {
            NewTopic::new(name, count(name), TopicReplication::Fixed(copies as i32))
                .set("min.insync.replicas", &in_sync)
                .set("retention.ms", "-1")
                .set("retention.bytes", "-1")
                .set("max.message.bytes", RECORD_BYTES_MAX)
                .set("message.timestamp.type", "CreateTime")
                .set("message.timestamp.before.max.ms", "9223372036854775807")
                .set("message.timestamp.after.max.ms", "9223372036854775807")
                // By the records' times; a history of a year is no reason for 50 files.
                .set("segment.ms", "315360000000")
        })
        .collect();
    let admin: AdminClient<Logged> = place.client().create_with_context(Logged)?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
    let results = pollster::block_on(admin.create_topics(&topics, &options))
        .with_context(|| place.asking())?;
    for result in results {
        match result {
            Ok(name) => info!(name, copies, "made a topic"),
            // Somebody else was quicker.
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("making the topic {name} on {}: {code}", place.brokers),
        }
    }
    Ok(())
}

/// Waits until topics just made are ready.
pub(super) fn made(client: &Client, place: &Place, names: &[&String]) -> Result<Metadata> {
    let since = Stopwatch::start();
    loop {
        let metadata = metadata(client, place, ANSWER)?;
        let mut ready = true;
        for name in names {
            match partitions(&metadata, name) {
                Ok(count) => ready &= count.is_some(),
                Err(error) if retry::transient(&error) => ready = false,
                Err(error) => return Err(error),
            }
        }
        if ready {
            return Ok(metadata);
        }
        ensure!(since.elapsed() < ANSWER, "the new topics on {} do not get ready", place.brokers);
        std::thread::sleep(Duration::from_millis(20));
    }
}
