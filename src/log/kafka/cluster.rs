//! How the brokers are reached, and asked.

use std::net::ToSocketAddrs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::Metadata;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use tracing::info;

use crate::platform::clock::Stopwatch;
use crate::platform::logging::LIBRDKAFKA;
use crate::platform::retry::{self, passes_in_log};

/// How long a question to the brokers may take, with a broker that dies meanwhile.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// One attempt to have an answer, or to commit; the next one starts from what has become of it.
pub(super) const TRY: Duration = Duration::from_secs(2);

/// What a broker does not answer within so long is asked again, elsewhere, in ms: a cut cable.
const SOCKET_MS: &str = "20000";

/// Memory for records that a consumer has fetched and nobody has read yet.
const FETCHED_KIB: &str = "8192";

/// What is asked for of a partition at a time, as it was sent. What was compressed a thousandfold is
/// unpacked as a whole, so this is little; a larger record comes alone.
const FETCHED_AT_ONCE: &str = "65536";

/// A client that reads or asks.
pub(super) type Client = BaseConsumer<Logged>;

/// Logs what librdkafka tells of brokers that come and go; who polls the client handles it.
pub(super) struct Logged;

impl ClientContext for Logged {
    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for Logged {}

/// Logs an error of the client; the end of a partition is none.
pub(super) fn log_error(error: &KafkaError, reason: &str) {
    if error.rdkafka_error_code() != Some(Code::PartitionEOF) {
        info!(target: LIBRDKAFKA, "{error}: {reason}");
    }
}

/// Where a log is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Some of the brokers, as `host:port,host:port`.
    pub brokers: String,
    /// What stands before the topics' names on the cluster: they are `prefix.users` and so on, or
    /// `users` and so on without one.
    pub topic_prefix: Option<String>,
}

impl Place {
    pub(super) fn topic(&self, name: &str) -> String {
        match &self.topic_prefix {
            Some(prefix) => format!("{prefix}.{name}"),
            None => name.to_owned(),
        }
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "marketday")
            .set("socket.timeout.ms", SOCKET_MS)
            .set("socket.keepalive.enable", "true");
        config
    }

    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            // Records that are gone must stop the reader; with any other value it would skip them.
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", FETCHED_KIB)
            .set("fetch.message.max.bytes", FETCHED_AT_ONCE)
            // A full queue is looked at again so soon; by default readers would idle for a second.
            .set("fetch.queue.backoff.ms", "20");
        config
    }

    /// Brokers of whom none has an address by their names will not be there in a minute either.
    pub(super) fn resolve(&self) -> Result<()> {
        let known = self.brokers.split(',').any(|broker| broker.trim().to_socket_addrs().is_ok());
        if !known {
            return Err(retry::UnknownHost).with_context(|| self.asking());
        }
        Ok(())
    }

    pub(super) fn asking(&self) -> String {
        format!("asking the brokers at {}", self.brokers)
    }
}

pub(super) fn metadata(client: &Client, place: &Place, longest: Duration) -> Result<Metadata> {
    client
        .fetch_metadata(None, longest)
        .with_context(|| format!("{} for their topics: are they running?", place.asking()))
}

/// Start and end of a partition; what lies in an open transaction is behind the end.
pub(super) fn ends(client: &Client, topic: &str, partition: u32) -> Result<(u64, u64)> {
    let since = Stopwatch::start();
    loop {
        // Events that are nobody's; they would pile up.
        while client.poll(Duration::ZERO).is_some() {}
        match client.fetch_watermarks(topic, partition as i32, TRY) {
            Ok((start, end)) => return Ok((start as u64, end as u64)),
            // Who leads the partition may have died: hear who does now.
            Err(_) if since.elapsed() < ANSWER => {
                _ = client.fetch_metadata(Some(topic), TRY);
            }
            Err(error) => {
                let what = || format!("what is held of {topic}-{partition}");
                return Err(error).with_context(what);
            }
        }
    }
}

/// Gives what is committed in a partition from an offset to the end, until `more` says no.
pub(super) fn read_committed(
    place: &Place,
    topic: &str,
    partition: i32,
    from: Offset,
    mut more: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<()> {
    let consumer: Client = place.consumer("marketday").create_with_context(Logged)?;
    let mut one = TopicPartitionList::new();
    one.add_partition_offset(topic, partition, from)?;
    consumer.assign(&one)?;
    let since = Stopwatch::start();
    while since.elapsed() < ANSWER {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if more(&message) => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) if !mends_itself(&error) => return Err(error.into()),
            _ => {}
        }
    }
    Err(KafkaError::MessageConsumption(Code::OperationTimedOut).into())
}

/// Whether the client goes on by itself after an error that it tells of.
pub(super) fn mends_itself(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MessageConsumptionFatal(_))
        && error.rdkafka_error_code().is_some_and(passes_in_log)
}
