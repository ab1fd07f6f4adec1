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
//! Each worker has one consumer a topic, with the partitions assigned by us. Its queue, filled by
//! librdkafka's own threads, holds at most [`FETCHED_KIB`]. Offsets are committed to the consumer
//! groups for the eyes of Kafka's tools only; nothing here ever reads them back.

use std::collections::{BTreeMap, VecDeque};
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use dataflows::model::{Millis, Topic};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::{
    Batch, Broker, Log, OffsetNotHeld, Owner, PARTITIONS, Reader, Record, Writer, new_identity,
};
use crate::clock::Stopwatch;
use crate::retry::{self, passes_in_log};
use crate::say::say;

/// How long a question to the brokers may take, with a broker that dies meanwhile.
const ANSWER: Duration = Duration::from_secs(30);

/// How long it may take to find out that there are no brokers, for who only looks.
const LOOK: Duration = Duration::from_secs(10);

/// One attempt to have an answer, or to commit; the next one starts from what has become of it.
const TRY: Duration = Duration::from_secs(2);

/// How long a flush may take, with brokers that fail and come back, before it is an error.
const OUTAGE: Duration = Duration::from_hours(2);

/// A flush that takes longer says so.
const LONG: Duration = Duration::from_secs(10);

/// The pause between attempts that fail at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a writer may be silent within a transaction, in ms: the most that brokers allow by
/// default, and what all allow.
const SILENCE_MS: [&str; 2] = ["900000", "60000"];

/// What a broker does not answer within so long is asked again, elsewhere, in ms: a cut cable.
const SOCKET_MS: &str = "20000";

/// How long a writer that was ended waits for another to say that it is the writer now.
const GRACE: Duration = Duration::from_secs(3);

/// How often a new writer begins again when one that is being ended gets in between.
const TURNS: u32 = 5;

/// How soon it is asked again whether a commit can be seen.
const MARK: Duration = Duration::from_millis(1);

/// How long the writer waits when its queue is full.
const FULL: Duration = Duration::from_millis(5);

/// Memory for records that a consumer has fetched and nobody has read yet.
const FETCHED_KIB: &str = "8192";

/// What is asked for of a partition at a time, as it was sent. What was compressed a thousandfold is
/// unpacked as a whole, so this is little; a larger record comes alone.
const FETCHED_AT_ONCE: &str = "65536";

/// The longest record that is written: an import's line, which is a dead letter from 1 MiB on.
const RECORD_BYTES_MAX: &str = "17825792";

/// Copies of each record, where there are so many brokers.
const COPIES: usize = 3;

/// The topic whose first record names the log, and another one says whose it is; records with the
/// key [`WRITER`] name its writers.
const IDENTITY: &str = "log-identity";

/// The key of a record that names a writer.
const WRITER: &str = "writer";

/// Where a log is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Some of the brokers, as `host:port,host:port`.
    pub brokers: String,
    /// The market's name on the cluster. Its topics are `name.users` and so on, or `users` and so
    /// on without one.
    pub name: Option<String>,
}

impl Place {
    fn topic(&self, name: &str) -> String {
        match &self.name {
            Some(market) => format!("{market}.{name}"),
            None => name.to_owned(),
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "marketday")
            .set("socket.timeout.ms", SOCKET_MS)
            .set("socket.keepalive.enable", "true");
        config
    }

    fn consumer(&self, group: &str) -> ClientConfig {
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
    fn resolve(&self) -> Result<()> {
        let known = self.brokers.split(',').any(|broker| broker.trim().to_socket_addrs().is_ok());
        if !known {
            return Err(retry::UnknownHost).with_context(|| self.asking());
        }
        Ok(())
    }

    fn asking(&self) -> String {
        format!("asking the brokers at {}", self.brokers)
    }
}

/// Opens the log on a cluster; `create` makes the topics that are missing.
pub fn open(place: Place, create: bool) -> Result<Arc<dyn Log>> {
    place.resolve()?;
    let questions: Arc<BaseConsumer> = Arc::new(place.consumer("marketday").create()?);
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
             first, or name the market with --name",
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
    let mut counts = BTreeMap::new();
    for topic in Topic::ALL {
        counts.insert(topic, count(topic)?);
    }
    let identity = identity(&place)?;
    let consumers = Mutex::default();
    Ok(Arc::new(Kafka { place, identity, counts, questions, consumers }))
}

fn metadata(client: &BaseConsumer, place: &Place, longest: Duration) -> Result<Metadata> {
    client
        .fetch_metadata(None, longest)
        .with_context(|| format!("{} for their topics: are they running?", place.asking()))
}

/// Number of partitions of a topic; none where there is no such topic. That one of them has no leader
/// at the moment is an error that passes.
fn partitions(metadata: &Metadata, name: &str) -> Result<Option<u32>> {
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
fn make(place: &Place, names: &[&String], brokers: usize) -> Result<()> {
    let copies = COPIES.min(brokers);
    let in_sync = (copies - 1).max(1).to_string();
    let count = |name: &str| {
        let of_topic = Topic::ALL.iter().position(|topic| place.topic(topic.name()) == name);
        of_topic.map_or(1, |topic| PARTITIONS[topic] as i32)
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
    let admin: AdminClient<DefaultClientContext> = place.client().create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
    let results = pollster::block_on(admin.create_topics(&topics, &options))
        .with_context(|| place.asking())?;
    for result in results {
        match result {
            // Somebody else was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("making the topic {name} on {}: {code}", place.brokers),
        }
    }
    Ok(())
}

/// Waits until topics just made are ready.
fn made(client: &BaseConsumer, place: &Place, names: &[&String]) -> Result<Metadata> {
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

/// The log's name: the first record of its topic, written if there is none.
fn identity(place: &Place) -> Result<String> {
    if let Some(first) = said(place)?.into_iter().next() {
        return Ok(first);
    }
    // Of two that write at once both go by the first record.
    write_word(place, &new_identity()?, |said| Ok(said.first().cloned()))
}

/// Before the word of who writes a log: a second name may lie there, of two that began at once.
const OWNER: &str = "owner ";

/// Who writes the log, as the first record says that does.
fn owner(said: &[String]) -> Result<Option<Owner>> {
    said.iter().find_map(|it| it.strip_prefix(OWNER)).map(Owner::from_word).transpose()
}

/// What the records of that topic say: the log's name, and who writes it.
fn said(place: &Place) -> Result<Vec<String>> {
    let topic = place.topic(IDENTITY);
    let reading = || format!("reading the log's name from topic {topic} on {}", place.brokers);
    let (mut said, mut foreign) = (Vec::new(), None);
    read_committed(place, &topic, 0, Offset::Beginning, |message| {
        if message.key() == Some(WRITER.as_bytes()) {
            return true;
        }
        match message.payload().map(str::from_utf8) {
            Some(Ok(value)) => said.push(value.to_owned()),
            _ => foreign = Some(message.offset()),
        }
        foreign.is_none()
    })
    .with_context(reading)?;
    if let Some(offset) = foreign {
        return Err(anyhow!("the record at offset {offset} is not a word").context(reading()));
    }
    Ok(said)
}

/// Adds a record to that topic, and waits until what it says then gives an answer.
fn write_word<T>(
    place: &Place,
    what: &str,
    answer: impl Fn(&[String]) -> Result<Option<T>>,
) -> Result<T> {
    let topic = place.topic(IDENTITY);
    let writing = || format!("writing to topic {topic} on {}", place.brokers);
    let producer: BaseProducer = place.client().set("enable.idempotence", "true").create()?;
    let record = BaseRecord::<str, str>::to(&topic).partition(0).payload(what);
    producer.send(record).map_err(|(error, _)| error).with_context(writing)?;
    producer.flush(ANSWER).with_context(writing)?;
    let since = Stopwatch::start();
    while since.elapsed() < ANSWER {
        if let Some(answer) = answer(&said(place)?)? {
            return Ok(answer);
        }
    }
    Err(anyhow!("it does not show what was written").context(writing()))
}

struct Kafka {
    place: Place,
    identity: String,
    counts: BTreeMap<Topic, u32>,
    /// A client that only asks.
    questions: Arc<BaseConsumer>,
    /// The consumers that read at present: group offsets are committed through them.
    consumers: Mutex<Vec<(Topic, Weak<BaseConsumer>)>>,
}

impl Kafka {
    fn topic(&self, topic: Topic) -> String {
        self.place.topic(topic.name())
    }

    fn ends(&self, topic: Topic, partition: u32) -> Result<(u64, u64)> {
        ends(&self.questions, &self.topic(topic), partition).with_context(|| self.place.asking())
    }

    fn consumers(&self) -> MutexGuard<'_, Vec<(Topic, Weak<BaseConsumer>)>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Start and end of a partition; what lies in an open transaction is behind the end.
fn ends(client: &BaseConsumer, topic: &str, partition: u32) -> Result<(u64, u64)> {
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

impl Log for Kafka {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.counts[&topic]
    }

    fn start(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.ends(topic, partition)?.0)
    }

    fn end(&self, topic: Topic, partition: u32) -> Result<u64> {
        Ok(self.ends(topic, partition)?.1)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let becoming = || format!("becoming the writer of the log on {}", self.place.brokers);
        let mut candidate = Candidate {
            place: self.place.clone(),
            identity: self.identity.clone(),
            token: new_identity()?,
            sections: Topic::ALL.iter().map(|topic| self.partitions(*topic) as usize).sum(),
            silence: SILENCE_MS[0],
        };
        let producer = candidate.take_over().with_context(becoming)?;
        let mut sections = Vec::new();
        for topic in Topic::ALL {
            for partition in 0..self.partitions(topic) {
                let (name, pending) = (self.topic(topic), Batch::default());
                // Nobody else moves the end from here on.
                let seen = self.end(topic, partition)?;
                sections.push(Section { topic, partition, name, pending, seen });
            }
        }
        let questions = Arc::clone(&self.questions);
        let (open, stop) = (false, Arc::default());
        Ok(Box::new(KafkaWriter { producer, candidate, questions, sections, open, stop }))
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
        "--name OTHER"
    }

    fn readers(&self, topic: Topic, from: &[(u32, u64)]) -> Result<Vec<Box<dyn Reader>>> {
        let name = self.topic(topic);
        let mut assignment = TopicPartitionList::new();
        for &(partition, wanted) in from {
            let (start, end) = self.ends(topic, partition)?;
            if !(start..=end).contains(&wanted) {
                bail!(OffsetNotHeld { topic, partition, wanted, start, end });
            }
            assignment.add_partition_offset(
                &name,
                partition as i32,
                Offset::Offset(wanted as i64),
            )?;
        }
        let reading = || format!("reading {name} from {}", self.place.brokers);
        let consumer: BaseConsumer =
            self.place.consumer(&format!("marketday-{name}")).create().with_context(reading)?;
        consumer.assign(&assignment).with_context(reading)?;
        let consumer = Arc::new(consumer);
        let mut readers = Vec::new();
        for &(partition, position) in from {
            let queue = consumer.split_partition_queue(&name, partition as i32);
            let queue = queue.with_context(reading)?;
            let (consumer, name) = (Arc::clone(&consumer), name.clone());
            let strays = VecDeque::new();
            readers.push(KafkaReader { consumer, queue, name, topic, partition, position, strays });
        }
        // What was fetched before the queues were split is still in the consumer's own.
        while let Some(event) = consumer.poll(Duration::ZERO) {
            if let Ok(message) = event {
                let reader =
                    readers.iter_mut().find(|it| it.partition as i32 == message.partition());
                let mut stray = Batch::default();
                stray.push(record(&message));
                reader.with_context(reading)?.strays.push_back(stray);
            }
        }
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

/// A partition that is written to.
struct Section {
    topic: Topic,
    partition: u32,
    /// The topic's name on the cluster.
    name: String,
    /// What the open transaction holds of it, to be sent again if that has to be given up.
    pending: Batch,
    /// An offset behind all that was flushed: records from there on are of the open transaction.
    seen: u64,
}

/// What the brokers say of records.
struct Delivered {
    /// For each section: the offset of the last record that they have taken.
    last: Vec<AtomicI64>,
    /// Why they refuse to take one, ever.
    refused: Mutex<Option<KafkaError>>,
}

impl Delivered {
    fn new(sections: usize) -> Delivered {
        let last = (0..sections).map(|_| AtomicI64::new(0)).collect();
        Delivered { last, refused: Mutex::default() }
    }

    fn refused(&self) -> Option<KafkaError> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether brokers that say so of a record say so again.
fn refuses(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::UnsupportedForMessageFormat
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
    )
}

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    /// The place of the section.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, section: usize) {
        match (result, self.last.get(section)) {
            (Ok(message), Some(last)) => last.store(message.offset(), Ordering::Release),
            // A record that was not taken shows when the transaction is committed.
            (Err((error, _)), _) if error.rdkafka_error_code().is_some_and(refuses) => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.get_or_insert_with(|| error.clone());
            }
            _ => {}
        }
    }
}

/// Who wants to be the log's writer.
struct Candidate {
    place: Place,
    /// The log's.
    identity: String,
    /// Names this writer among the log's.
    token: String,
    /// How many partitions are written to.
    sections: usize,
    silence: &'static str,
}

/// A producer with the log's transactional id.
type Transactional = ThreadedProducer<Delivered>;

impl Candidate {
    /// Becomes the one with the log's transactional id: the one before is ended.
    fn producer(&mut self) -> Result<Transactional> {
        loop {
            let mut config = self.place.client();
            config
                .set("transactional.id", format!("marketday-{}", self.identity))
                .set("transaction.timeout.ms", self.silence)
                .set("acks", "all")
                .set("compression.type", "lz4")
                .set("linger.ms", "20")
                .set("message.max.bytes", RECORD_BYTES_MAX)
                .set("queue.buffering.max.kbytes", "65536");
            let delivered = Delivered::new(self.sections);
            let producer: Transactional = config.create_with_context(delivered)?;
            match producer.init_transactions(ANSWER * 2) {
                Err(error)
                    if error.rdkafka_error_code() == Some(Code::InvalidTransactionTimeout)
                        && self.silence != SILENCE_MS[1] =>
                {
                    self.silence = SILENCE_MS[1];
                }
                begun => return Ok(begun.map(|()| producer)?),
            }
        }
    }

    /// Becomes the writer, and says so.
    fn take_over(&mut self) -> Result<Transactional> {
        let mut turn = 0;
        loop {
            let producer = self.producer()?;
            turn += 1;
            match self.say(&producer) {
                Ok(()) => return Ok(producer),
                Err(_) if turn < TURNS && is_ended(&producer) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn say(&self, producer: &Transactional) -> Result<(), KafkaError> {
        let topic = self.place.topic(IDENTITY);
        producer.begin_transaction()?;
        let record = BaseRecord::<str, str, usize>::with_opaque_to(&topic, usize::MAX);
        let record = record.partition(0).key(WRITER).payload(&self.token);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.commit_transaction(ANSWER)
    }

    /// Whether nobody has become the writer since.
    fn is_writer(&self) -> Result<bool> {
        let mut newest = None;
        let topic = self.place.topic(IDENTITY);
        read_committed(&self.place, &topic, 0, Offset::Beginning, |message| {
            if message.key() == Some(WRITER.as_bytes()) {
                newest = message.payload().map(<[u8]>::to_vec);
            }
            true
        })?;
        Ok(newest.as_deref() == Some(self.token.as_bytes()))
    }

    fn ensure_writer(&self) -> Result<()> {
        ensure!(
            self.is_writer()?,
            "another market or import has begun to write to the log on {}; this one ends",
            self.place.brokers
        );
        Ok(())
    }
}

/// Gives what is committed in a partition from an offset to the end, until `more` says no.
fn read_committed(
    place: &Place,
    topic: &str,
    partition: i32,
    from: Offset,
    mut more: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<()> {
    let consumer: BaseConsumer = place.consumer("marketday").create()?;
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

/// Whether the brokers have ended a producer: for another with its id, or for its silence.
fn is_ended(producer: &Transactional) -> bool {
    let fatal = producer.client().fatal_error();
    fatal.is_some_and(|(code, _)| {
        matches!(
            code,
            Code::Fenced
                | Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::InvalidProducerIdMapping
                | Code::UnknownProducerId
                | Code::InvalidTransactionalState
        )
    })
}

/// Whether the client goes on by itself after an error that it tells of.
fn mends_itself(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MessageConsumptionFatal(_))
        && error.rdkafka_error_code().is_some_and(passes_in_log)
}

struct KafkaWriter {
    /// Threaded: giving a transaction up waits for reports that somebody has to take meanwhile.
    producer: Transactional,
    candidate: Candidate,
    questions: Arc<BaseConsumer>,
    sections: Vec<Section>,
    /// A transaction has begun.
    open: bool,
    /// Once it is set, what is away is not waited for.
    stop: Arc<AtomicBool>,
}

/// What a flush does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Commits the open transaction.
    Commit,
    /// Gives it up and sends what it held in a new one.
    SendAgain,
    /// The brokers have ended the producer: begins again with another.
    BeginAgain,
    Done,
}

impl KafkaWriter {
    /// Hands a record to the client, waiting while its queue is full.
    fn send(&self, place: usize, record: Record<'_>) -> Result<(), KafkaError> {
        let Section { name, partition, .. } = &self.sections[place];
        let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(name, place)
            .partition(*partition as i32)
            .timestamp(record.timestamp);
        (message.key, message.payload) = (record.key, record.value);
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                    if self.stop.load(Ordering::Relaxed) {
                        return Err(KafkaError::Canceled);
                    }
                    self.producer.poll(FULL);
                    message = again;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn take(&mut self, step: Step) -> Result<Step> {
        Ok(match step {
            Step::Commit => self.producer.commit_transaction(TRY).map(|()| Step::Done)?,
            Step::SendAgain => {
                self.producer.abort_transaction(TRY)?;
                self.send_all()?;
                Step::Commit
            }
            Step::BeginAgain => {
                let since = Stopwatch::start();
                while since.elapsed() < GRACE {
                    self.candidate.ensure_writer()?;
                    std::thread::sleep(PAUSE);
                }
                let producer = self.candidate.producer()?;
                // Who had become the writer before that has said so before that.
                self.candidate.ensure_writer()?;
                self.producer = producer;
                if self.was_committed()? {
                    return Ok(Step::Done);
                }
                self.send_all()?;
                Step::Commit
            }
            Step::Done => Step::Done,
        })
    }

    /// Whether what is pending was committed, by a producer that was ended before it heard of it.
    fn was_committed(&self) -> Result<bool> {
        let Some(section) = self.sections.iter().find(|it| !it.pending.is_empty()) else {
            return Ok(true);
        };
        let (partition, from) = (section.partition as i32, Offset::Offset(section.seen as i64));
        let mut found = false;
        read_committed(&self.candidate.place, &section.name, partition, from, |_| {
            found = true;
            false
        })?;
        Ok(found)
    }

    /// Puts what is pending into a new transaction.
    fn send_all(&self) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for (place, section) in self.sections.iter().enumerate() {
            for record in section.pending.iter() {
                self.send(place, record)?;
            }
        }
        Ok(())
    }

    /// Waits until readers can see what was committed: the brokers mark that in each partition
    /// after they have said yes.
    fn wait_until_readable(&mut self) -> Result<()> {
        let since = Stopwatch::start();
        for (place, section) in self.sections.iter_mut().enumerate() {
            if section.pending.is_empty() {
                continue;
            }
            // None was taken by this producer where the one before has committed.
            let last = self.producer.context().last[place].load(Ordering::Acquire) as u64;
            let behind = section.seen.max(last + 1);
            loop {
                match ends(&self.questions, &section.name, section.partition) {
                    Ok((_, end)) if end >= behind => {
                        section.seen = end;
                        break;
                    }
                    Err(error) if !retry::transient(&error) => return Err(error),
                    _ => {}
                }
                ensure!(
                    since.elapsed() < OUTAGE,
                    "{}-{} on {} does not show what was committed",
                    section.name,
                    section.partition,
                    self.candidate.place.brokers
                );
                if self.stop.load(Ordering::Relaxed) {
                    bail!(retry::Stopped);
                }
                std::thread::sleep(MARK);
            }
            section.pending.clear();
        }
        Ok(())
    }
}

impl Writer for KafkaWriter {
    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        if !self.open {
            match self.producer.begin_transaction() {
                // The flush begins again, with another producer.
                Err(_) if is_ended(&self.producer) => {}
                begun => begun?,
            }
            self.open = true;
        }
        let is = |it: &Section| (it.topic, it.partition) == (topic, partition);
        let place = self.sections.iter().position(is);
        let place = place.with_context(|| format!("there is no {}-{partition}", topic.name()))?;
        let record = Record { offset: 0, timestamp, key, value: Some(value) };
        self.sections[place].pending.push(record);
        match self.send(place, record) {
            // The transaction has failed already; the flush finds out and sends everything again.
            Ok(()) | Err(KafkaError::MessageProduction(Code::State)) => Ok(()),
            Err(KafkaError::Canceled) => bail!(retry::Stopped),
            Err(_) if is_ended(&self.producer) => Ok(()),
            Err(error) => Err(error),
        }
        .with_context(|| format!("appending to {}-{partition}", topic.name()))
    }

    fn flush(&mut self) -> Result<()> {
        if !self.open {
            return Ok(());
        }
        let since = Stopwatch::start();
        let (mut step, mut told) = (Step::Commit, false);
        while step != Step::Done {
            let error = match self.take(step) {
                Ok(next) => {
                    step = next;
                    continue;
                }
                Err(error) => error,
            };
            let brokers = &self.candidate.place.brokers;
            let of_log = error.downcast_ref::<KafkaError>();
            let fatal = self.producer.client().fatal_error();
            if is_ended(&self.producer) {
                // What is no error of the brokers is the end: another has begun to write.
                ensure!(of_log.is_some(), error);
                step = Step::BeginAgain;
            } else if let Some((_, reason)) = fatal {
                bail!("writing to the log on {brokers}: {reason}");
            } else {
                match of_log {
                    None => return Err(error),
                    Some(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                        step = Step::SendAgain;
                    }
                    Some(_) => {}
                }
            }
            if let Some(refused) = self.producer.context().refused() {
                return Err(refused).with_context(|| format!("writing to the log on {brokers}"));
            }
            if self.stop.load(Ordering::Relaxed) {
                bail!(retry::Stopped);
            }
            let waited = since.elapsed();
            if waited > OUTAGE {
                let waited = waited.as_secs();
                return Err(error.context(format!(
                    "committing to the log on {brokers} for {waited} s: are enough brokers up?"
                )));
            }
            if waited > LONG && !told {
                told = true;
                say(format_args!(
                    "the log on {brokers} does not take what is written ({error:#}); waiting for it"
                ));
            }
            std::thread::sleep(PAUSE);
        }
        self.open = false;
        self.wait_until_readable()
    }

    fn end_when(&mut self, stop: &Arc<AtomicBool>) {
        self.stop = Arc::clone(stop);
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        // Readers wait for what becomes of an open transaction.
        if self.open {
            _ = self.producer.abort_transaction(TRY);
        }
    }
}

struct KafkaReader {
    consumer: Arc<BaseConsumer>,
    queue: PartitionQueue<DefaultConsumerContext>,
    name: String,
    topic: Topic,
    partition: u32,
    position: u64,
    /// Records that came before the queue was there.
    strays: VecDeque<Batch>,
}

impl Reader for KafkaReader {
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<usize> {
        let mut read = 0;
        while read < max && (read == 0 || !batch.is_full()) {
            if let Some(stray) = self.strays.pop_front() {
                self.position = stray.get(0).offset + 1;
                batch.push(stray.get(0));
            } else {
                match self.queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        self.position = message.offset() as u64 + 1;
                        batch.push(record(&message));
                    }
                    Some(Err(error)) => {
                        self.event(error)?;
                        continue;
                    }
                    None => break,
                }
            }
            read += 1;
        }
        if read == 0 {
            // Events that are nobody's; they would pile up.
            while let Some(event) = self.consumer.poll(Duration::ZERO) {
                event.map(drop).or_else(|error| self.event(error))?;
            }
        }
        Ok(read)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn partition(&self) -> (Topic, u32) {
        (self.topic, self.partition)
    }
}

impl KafkaReader {
    /// Takes note of what is no record; most of it the client mends by itself.
    fn event(&mut self, error: KafkaError) -> Result<()> {
        match error {
            KafkaError::PartitionEOF(partition) if partition == self.partition as i32 => {
                self.pass_marks()
            }
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                let (start, end) = ends(&self.consumer, &self.name, self.partition)?;
                let (topic, partition, wanted) = (self.topic, self.partition, self.position);
                bail!(OffsetNotHeld { topic, partition, wanted, start, end })
            }
            // Another's end.
            KafkaError::PartitionEOF(_) => Ok(()),
            error if mends_itself(&error) => Ok(()),
            error => Err(error).with_context(|| {
                let KafkaReader { name, partition, position, .. } = self;
                format!("reading {name}-{partition} from offset {position} on")
            }),
        }
    }

    /// At the end: the offsets behind the last record are those of transactions' marks.
    fn pass_marks(&mut self) -> Result<()> {
        let positions = self.consumer.position()?;
        let here = positions.find_partition(&self.name, self.partition as i32);
        if let Some(Offset::Offset(next)) = here.map(|here| here.offset()) {
            self.position = self.position.max(next as u64);
        }
        Ok(())
    }
}

fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        offset: message.offset() as u64,
        timestamp: message.timestamp().to_millis().unwrap_or(0),
        key: message.key(),
        value: message.payload(),
    }
}
