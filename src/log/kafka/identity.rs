//! The topic that says whose log it is: its name, its owner, and who has begun to write to it.

use anyhow::{Context as _, Result, anyhow};
use rdkafka::Message;
use rdkafka::Offset;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::super::{Owner, new_identity};
use super::cluster::{ANSWER, Place, read_committed};
use crate::platform::clock::Stopwatch;

/// The topic whose first record names the log, and another one says whose it is; records with the
/// key [`WRITER`] name its writers.
pub(super) const IDENTITY: &str = "log-identity";

/// The key of a record that names a writer.
pub(super) const WRITER: &str = "writer";

/// The log's name: the first record of its topic, written if there is none.
pub(super) fn identity(place: &Place) -> Result<String> {
    if let Some(first) = said(place)?.into_iter().next() {
        return Ok(first);
    }
    // Of two that write at once both go by the first record.
    write_word(place, &new_identity()?, |said| Ok(said.first().cloned()))
}

/// Before the word of who writes a log: a second name may lie there, of two that began at once.
pub(super) const OWNER: &str = "owner ";

/// Who writes the log, as the first record says that does.
pub(super) fn owner(said: &[String]) -> Result<Option<Owner>> {
    said.iter().find_map(|it| it.strip_prefix(OWNER)).map(Owner::from_word).transpose()
}

/// What the records of that topic say: the log's name, and who writes it.
pub(super) fn said(place: &Place) -> Result<Vec<String>> {
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
pub(super) fn write_word<T>(
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
