//! Readers of partitions; those of a topic share a consumer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dataflows::model::Topic;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::super::{Batch, OffsetNotHeld, Reader, Record};
use super::cluster::{ANSWER, Client, Logged, Place, TRY, ends, mends_itself};
use super::topics::partitions;
use crate::platform::clock::Stopwatch;

/// The pause between two questions for a partition that may not be there.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct KafkaReader {
    consumer: Arc<Client>,
    queue: PartitionQueue<Logged>,
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
    /// Readers of some partitions of a topic, each at an offset that the log holds, and the consumer
    /// that they share.
    pub(super) fn open(
        place: &Place,
        topic: Topic,
        name: &str,
        from: &[(u32, u64)],
    ) -> Result<(Arc<Client>, Vec<KafkaReader>)> {
        let mut assignment = TopicPartitionList::new();
        for &(partition, wanted) in from {
            let offset = Offset::Offset(wanted as i64);
            assignment.add_partition_offset(name, partition as i32, offset)?;
        }
        let reading = || format!("reading {name} from {}", place.brokers);
        let consumer: Client = place
            .consumer(&format!("marketday-{name}"))
            .create_with_context(Logged)
            .with_context(reading)?;
        consumer.assign(&assignment).with_context(reading)?;
        let consumer = Arc::new(consumer);
        let mut readers = Vec::new();
        for &(partition, position) in from {
            let queue = consumer.split_partition_queue(name, partition as i32);
            let queue = queue.with_context(reading)?;
            let (consumer, name) = (Arc::clone(&consumer), name.to_owned());
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
        Ok((consumer, readers))
    }

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
            KafkaError::MessageConsumption(
                Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition,
            ) => self.ensure_there(),
            // Another's end.
            KafkaError::PartitionEOF(_) => Ok(()),
            error if mends_itself(&error) => Ok(()),
            error => Err(error).with_context(|| {
                let KafkaReader { name, partition, position, .. } = self;
                format!("reading {name}-{partition} from offset {position} on")
            }),
        }
    }

    /// That the partition is there, though the client has heard that it is not: a broker that has not
    /// heard of a new one says so, and of one that was deleted all do.
    fn ensure_there(&self) -> Result<()> {
        let KafkaReader { name, partition, position, .. } = self;
        let since = Stopwatch::start();
        loop {
            let asked = self.consumer.fetch_metadata(Some(name), TRY);
            let over = since.elapsed() > ANSWER;
            match asked {
                Err(error) if over => {
                    return Err(error).with_context(|| format!("asking for topic {name}"));
                }
                Ok(metadata) => match partitions(&metadata, name) {
                    Ok(Some(count)) if count > *partition => return Ok(()),
                    Ok(_) if over => bail!(
                        "the brokers no longer have {name}-{partition}, which was read up to offset \
                         {position}: was the topic deleted? `marketday analytics --rebuild` counts \
                         again what the log holds"
                    ),
                    Err(error) if over => return Err(error),
                    _ => {}
                },
                Err(_) => {}
            }
            std::thread::sleep(PAUSE);
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
