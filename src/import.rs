//! Puts events from a text file into the log, so that one's own data can be analysed.
//!
//! Values go in byte for byte, also those that are no valid events: whether they count is decided
//! by the analytics alone, which keeps what it refuses as dead letters.

use std::borrow::Cow;
use std::io::{BufRead, Read};

use anyhow::{Context, Result};
use dataflows::model::{Millis, Topic, partition_of};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::log::{Log, Writer};
use crate::wire::{self, Words};

/// Lines between two flushes: what may be lost by a crash, against the cost of waiting for a disk.
const FLUSH_LINES: u64 = 10_000;

/// A line longer than this is refused, lest one without an end fill the memory.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Refused lines that are listed; the others are only counted.
const REFUSED_LISTED_MAX: usize = 100;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records put into the log, without the heartbeats.
    pub records: u64,
    /// Of these, how many are valid events or heartbeats; the others will be dead letters.
    pub valid: u64,
    /// Lines that were not of the form.
    pub refused: u64,
    /// The first of them, with their line numbers (from 1) and what is wrong with them.
    pub refused_first: Vec<(u64, String)>,
    /// The newest `at` of a valid event: the time of the heartbeats.
    pub newest_at: Option<Millis>,
}

/// Puts the file's records into the log, then a heartbeat into every partition of `orders`.
///
/// `report` is told how far it is after each flush. An import that was cut off can be repeated from
/// the start: an `event_id` counts once.
pub fn import(
    log: &dyn Log,
    mut input: impl BufRead,
    mut report: impl FnMut(&Imported),
) -> Result<Imported> {
    let mut writer = log.writer()?;
    let mut words = Words::default();
    let mut imported = Imported::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let reading = || format!("reading line {number}");
        let limit = LINE_BYTES_MAX as u64;
        if (&mut input).take(limit).read_until(b'\n', &mut line).with_context(reading)? == 0 {
            break;
        }
        let put = if line.len() == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            input.skip_until(b'\n').with_context(reading)?;
            Err(format!("longer than {LINE_BYTES_MAX} bytes"))
        } else {
            Line::parse(&line)
        };
        match put {
            Ok(line) => line
                .put(log, &mut *writer, &mut words, &mut imported)
                .with_context(|| format!("importing line {number}"))?,
            Err(problem) => {
                imported.refused += 1;
                if imported.refused_first.len() < REFUSED_LISTED_MAX {
                    imported.refused_first.push((number, problem));
                }
            }
        }
        if number % FLUSH_LINES == 0 {
            writer.flush()?;
            report(&imported);
        }
    }
    if let Some(at) = imported.newest_at {
        let mut value = Vec::new();
        wire::encode_heartbeat(at, &mut value);
        for partition in 0..log.partitions(Topic::Orders) {
            writer.append(Topic::Orders, partition, at, None, &value)?;
        }
    }
    writer.flush()?;
    report(&imported);
    Ok(imported)
}

/// What a line says.
struct Line<'a> {
    topic: Topic,
    key: Option<Cow<'a, str>>,
    value: &'a RawValue,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Result<Line<'a>, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            topic: Cow<'a, str>,
            #[serde(borrow)]
            key: Option<Cow<'a, str>>,
            #[serde(borrow)]
            value: &'a RawValue,
        }
        // serde would also make the fields of a list.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err("not a JSON object".into());
        }
        let Fields { topic, key, value } =
            serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let topic =
            Topic::from_name(&topic).ok_or_else(|| format!("there is no topic {topic:?}"))?;
        if !value.get().starts_with('{') {
            return Err("`value` is not a JSON object".into());
        }
        Ok(Line { topic, key, value })
    }

    fn put(
        self,
        log: &dyn Log,
        writer: &mut dyn Writer,
        words: &mut Words,
        imported: &mut Imported,
    ) -> Result<()> {
        let key = self.key.as_ref().map(|key| key.as_bytes());
        let value = self.value.get().as_bytes();
        let partition = key.map_or(0, |key| partition_of(key, log.partitions(self.topic)));
        let at = wire::decode(self.topic, Some(value), words).ok().map(|event| event.at());
        imported.records += 1;
        imported.valid += u64::from(at.is_some());
        imported.newest_at = imported.newest_at.max(at);
        writer.append(self.topic, partition, at.unwrap_or(0), key, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Batch, embedded};

    fn records(log: &dyn Log, topic: Topic) -> Vec<(u32, i64, Option<String>, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut records = Vec::new();
        for partition in 0..log.partitions(topic) {
            let mut batch = Batch::default();
            let mut reader = log.reader(topic, partition, 0).unwrap();
            while reader.read(&mut batch, 1000).unwrap() > 0 {}
            records.extend(
                batch
                    .iter()
                    .map(|r| (partition, r.timestamp, r.key.map(text), text(r.value.unwrap()))),
            );
        }
        records
    }

    fn import_text(text: &[u8]) -> (tempfile::TempDir, std::sync::Arc<dyn Log>, Imported) {
        let dir = tempfile::tempdir().unwrap();
        let log = embedded::open(dir.path()).unwrap();
        let mut reported = None;
        let imported = import(&*log, text, |imported| reported = Some(imported.clone())).unwrap();
        assert_eq!(reported.as_ref(), Some(&imported));
        (dir, log, imported)
    }

    #[test]
    fn values_are_kept_as_they_are_and_heartbeats_end_the_file() {
        let order = r#"{"event_id":1, "at":700000000000,"event":"placed","order_id":1,"user_id":21,"ordered_at":700000000000,"lines":[{"product_id":1,"category":"a\u0062","quantity":1,"unit_price":5}],"more":1.0}"#;
        let wrong = r#"{"event_id": -1,  "at":4000000000000}"#;
        let beat = r#"{"event":"heartbeat","at":700000000001}"#;
        let text = format!(
            "{{\"topic\":\"orders\",\"key\":\"21\",\"value\":{order}}}\n\
             {{\"value\":{wrong}, \"key\":null,\"topic\":\"users\"}}\r\n\
             {{\"topic\":\"orders\",\"value\":{beat}}}"
        );
        let (_dir, log, imported) = import_text(text.as_bytes());
        assert_eq!(
            imported,
            Imported {
                records: 3,
                valid: 2,
                newest_at: Some(700_000_000_001),
                ..Imported::default()
            }
        );
        assert_eq!(records(&*log, Topic::Users), [(0, 0, None, wrong.to_owned())]);
        let mut orders = records(&*log, Topic::Orders);
        let place = partition_of(b"21", 3);
        let first = (place, 700_000_000_000, Some("21".to_owned()), order.to_owned());
        assert_eq!(orders.iter().filter(|record| **record == first).count(), 1);
        orders.retain(|record| *record != first);
        let beat_in = |partition| (partition, 700_000_000_001, None, beat.to_owned());
        assert_eq!(orders, [0, 0, 1, 2].map(beat_in), "the file's own, then one each");
    }

    #[test]
    fn lines_of_another_form_are_counted_and_listed() {
        let mut text = [
            &br#"["orders","1",{}]"#[..],
            b"",
            br#"{"topic":"carts","key":"1","value":{}}"#,
            br#"{"topic":"orders","key":1,"value":{}}"#,
            br#"{"topic":"orders","key":"1","value":[]}"#,
            br#"{"topic":"orders","key":"1"}"#,
            br#"{"topic":"orders","key":"1","value":{}} more"#,
            b"{\"topic\":\"orders\",\"key\":\"1\",\"value\":{\"a\":\"\xff\"}}",
            br#"{"topic":"orders","key":"1","value":{}}"#,
        ]
        .join(&b'\n');
        text.push(b'\n');
        text.resize(text.len() + LINE_BYTES_MAX + 10, b'x');
        text.extend_from_slice(b"\n{\"topic\":\"users\",\"key\":\"1\",\"value\":{}}\n");
        text.extend_from_slice(&[b'\n'; 200]);
        let (_dir, log, imported) = import_text(&text);
        assert_eq!((imported.records, imported.valid, imported.newest_at), (2, 0, None));
        assert_eq!(imported.refused, 209);
        assert_eq!(imported.refused_first.len(), REFUSED_LISTED_MAX);
        let numbers: Vec<u64> = imported.refused_first.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers[..10], [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]);
        assert!(imported.refused_first[2].1.contains("carts"), "{:?}", imported.refused_first);
        assert_eq!(records(&*log, Topic::Orders).len(), 1, "without a valid time no heartbeat");
        assert_eq!(records(&*log, Topic::Users).len(), 1);
    }
}
