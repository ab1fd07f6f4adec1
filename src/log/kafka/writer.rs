//! The one writer: transactions that are flushed as a whole, and begun again where brokers end them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use dataflows::model::{Millis, Topic};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message, Offset};
use tracing::{info, warn};

use super::super::{Batch, Record, Writer, new_identity};
use super::cluster::{ANSWER, Client, Place, TRY, ends, log_error, read_committed};
use super::identity::{IDENTITY, WRITER};
use super::topics::RECORD_BYTES_MAX;
use crate::platform::clock::Stopwatch;
use crate::platform::retry;

/// How long a flush may take, with brokers that fail and come back, before it is an error.
const OUTAGE: Duration = Duration::from_hours(2);

/// A flush that takes longer says so.
const LONG: Duration = Duration::from_secs(10);

/// The pause between attempts that fail at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a writer may be silent within a transaction, in ms: the most that brokers allow by
/// default, and what all allow.
const SILENCE_MS: [&str; 2] = ["900000", "60000"];

/// How long a writer that was ended waits for another to say that it is the writer now.
const GRACE: Duration = Duration::from_secs(3);

/// How often a new writer begins again when one that is being ended gets in between.
const TURNS: u32 = 5;

/// How soon it is asked again whether a commit can be seen.
const MARK: Duration = Duration::from_millis(1);

/// How long the writer waits when its queue is full.
const FULL: Duration = Duration::from_millis(5);

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

impl ClientContext for Delivered {
    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

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
                // A flush sends at once what lingers.
                .set("linger.ms", "100")
                .set("message.max.bytes", RECORD_BYTES_MAX)
                .set("queue.buffering.max.messages", "1000000")
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

pub(super) struct KafkaWriter {
    /// Threaded: giving a transaction up waits for reports that somebody has to take meanwhile.
    producer: Transactional,
    candidate: Candidate,
    questions: Arc<Client>,
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
    /// Becomes the writer of a log with so many partitions a topic.
    pub(super) fn open(
        place: &Place,
        identity: &str,
        counts: &BTreeMap<Topic, u32>,
        questions: Arc<Client>,
    ) -> Result<KafkaWriter> {
        let becoming = || format!("becoming the writer of the log on {}", place.brokers);
        let mut candidate = Candidate {
            place: place.clone(),
            identity: identity.to_owned(),
            token: new_identity()?,
            sections: counts.values().sum::<u32>() as usize,
            silence: SILENCE_MS[0],
        };
        let producer = candidate.take_over().with_context(becoming)?;
        let mut sections = Vec::new();
        for (&topic, &partitions) in counts {
            let name = place.topic(topic.name());
            for partition in 0..partitions {
                // Nobody else moves the end from here on.
                let ends = ends(&questions, &name, partition);
                let (_, seen) = ends.with_context(|| place.asking())?;
                let (name, pending) = (name.clone(), Batch::default());
                sections.push(Section { topic, partition, name, pending, seen });
            }
        }
        info!("the writer of the log on {}", place.brokers);
        let (open, stop) = (false, Arc::default());
        Ok(KafkaWriter { producer, candidate, questions, sections, open, stop })
    }

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
                info!("the brokers have ended this writer; looking whether there is another");
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
                warn!(
                    "the log on {brokers} does not take what is written ({error:#}); waiting for it"
                );
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
