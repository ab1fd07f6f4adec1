//! Puts events from a text file into the log, so that one's own data can be analysed.
//!
//! Values go in byte for byte, also those that are no valid events: whether they count is decided
//! by the analytics alone, which keeps what it refuses as dead letters. What it will refuse is told
//! here already.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::iter::repeat_n;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dataflows::ledger::Reach;
use dataflows::model::time::{DAY, wall_clock};
use dataflows::model::{Event, Millis, Topic, partition_of};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::options::{Instant, LogPlace};
use crate::log::{Batch, Log, Owner, Writer};
use crate::market;
use dataflows::model::codec;

/// Puts events from a file into the log: a JSON line an event, as `market --to -` prints them.
#[derive(Args)]
pub(crate) struct Import {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// Exit 0 with so many lines refused and records dead, together.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_rejects: u64,
    /// Time of the heartbeats behind the records: 2026-11-27, 2026-11-27T14:00:00 (of the market's
    /// zone), 2026-11-27T05:00:00Z or milliseconds since 1970 [default: that of the newest order
    /// event, unless it stands alone, more than a day beyond all others].
    #[arg(long, value_name = "INSTANT")]
    until: Option<Instant>,
    #[command(flatten)]
    log: LogPlace,
}

impl Import {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let input: Box<dyn std::io::Read> = if self.file.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            let file = std::fs::File::open(&self.file);
            Box::new(file.with_context(|| format!("opening {}", self.file.display()))?)
        };
        let log = self.log.open(&|| false)?;
        // Before it writes: on Kafka a new writer ends the one that is there.
        ensure!(!market::writes(&self.log.dir, &*log)?, belongs_to_market(&*log));
        let until = self.until.map(|until| until.0);
        let imported = import(&*log, std::io::BufReader::new(input), until, |_| {})?;
        let out = &mut std::io::stdout().lock();
        let Imported { records, valid, duplicate, dead, refused, .. } = imported;
        writeln!(
            out,
            "{records} records imported ({valid} valid, {duplicate} duplicate, {dead} dead), {refused} \
             lines refused"
        )?;
        let clock = |at| wall_clock(at).format("%Y-%m-%d %H:%M:%S");
        if let (Some(alone), Some(until)) = (imported.alone, imported.until) {
            writeln!(
                out,
                "the newest order event, of {}, stands alone, more than a day beyond all others: the \
                 heartbeats say {}; --until INSTANT says otherwise",
                clock(alone),
                clock(until)
            )?;
        }
        for (line, reason) in imported.refused_first {
            writeln!(out, "line {line}: {reason}")?;
        }
        let mut lead = format!("{dead} of {records} records are no events; the first: ");
        for (line, reason) in imported.dead_first {
            writeln!(out, "{}line {line}: {reason}", std::mem::take(&mut lead))?;
        }
        let well = refused + dead <= self.max_rejects;
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Lines between two flushes: what may be lost by a crash, against the cost of waiting for a disk.
const FLUSH_LINES: u64 = 10_000;

/// So many bytes are flushed before, since brokers' client keeps them until then.
const FLUSH_BYTES: usize = 32 << 20;

/// A line longer than this is refused, lest one without an end fill the memory.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Refused lines, and dead records, that are listed; the others are only counted.
const LISTED_MAX: usize = 100;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Imported {
    /// Records put into the log, without the heartbeats.
    pub records: u64,
    /// Of these, valid events and heartbeats that are no duplicates.
    pub valid: u64,
    /// Of these, valid events whose `event_id` an earlier one of the topic in the file has. The log
    /// may hold more.
    pub duplicate: u64,
    /// Of these, those that will be dead letters.
    pub dead: u64,
    /// The first of them: the number of the line (from 1) and why.
    pub dead_first: Vec<(u64, String)>,
    /// Lines that were not of the form.
    pub refused: u64,
    /// The first of them, with their line numbers and what is wrong with them.
    pub refused_first: Vec<(u64, String)>,
    /// The time of the heartbeats, if there are any.
    pub until: Option<Millis>,
    /// The newest `at` of an order event, where it stands so alone that the heartbeats do not have it.
    pub alone: Option<Millis>,
}

impl Imported {
    fn list(list: &mut Vec<(u64, String)>, line: u64, what: String) {
        if list.len() < LISTED_MAX {
            list.push((line, what));
        }
    }
}

/// The offsets of the orders that a log holds: partition, first, and behind the last.
type Extent = Vec<(u32, u64, u64)>;

fn orders_in(log: &dyn Log) -> Result<Extent> {
    let extent = |partition| {
        let (start, end) =
            (log.start(Topic::Orders, partition)?, log.end(Topic::Orders, partition)?);
        Ok((partition, start, end))
    };
    (0..log.partitions(Topic::Orders)).map(extent).collect()
}

/// The greatest time that orders of that extent had reached.
fn reached(log: &dyn Log, extent: &Extent) -> Result<Option<Millis>> {
    let (mut reached, mut batch) = (None, Batch::default());
    for &(partition, start, end) in extent {
        let mut reach = None;
        let mut reader = log.reader(Topic::Orders, partition, start)?;
        while reader.position() < end {
            batch.clear();
            reader.wait(&mut batch, 1_000)?;
            for record in batch.iter().filter(|record| record.offset < end) {
                if let Ok(event) = codec::decode(Topic::Orders, record.value) {
                    reach = Some(Reach::after(reach, record.offset, event.at(), event.customer()));
                }
            }
        }
        reached = reached.max(reach.and_then(|reach| reach.reached));
    }
    Ok(reached)
}

/// The event ids that were seen, by topic: 64 neighbours share a word, since most ids are dense.
#[derive(Default)]
struct Seen([HashMap<u64, u64>; Topic::ALL.len()]);

impl Seen {
    /// Whether it is new.
    fn add(&mut self, topic: Topic, event_id: u64) -> bool {
        let word = self.0[topic as usize].entry(event_id / 64).or_default();
        let bit = 1 << (event_id % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Puts the file's records into the log, then, where it has order events, a heartbeat into every
/// partition of `orders`: at their newest time or, where that is of one customer alone and more than
/// a day beyond all else, at the newest that is not; or at `until`.
///
/// `report` is told how far it is after each flush. An import that was cut off can be repeated from
/// the start: an `event_id` counts once.
fn import(
    log: &dyn Log,
    mut input: impl BufRead,
    until: Option<Millis>,
    mut report: impl FnMut(&Imported),
) -> Result<Imported> {
    let mut line = Vec::new();
    let mut more = read_line(&mut input, 1, &mut line)?;
    if line.starts_with(BOM) {
        line.drain(..BOM.len());
    }
    if let Some(form) = other_form(&line) {
        bail!(
            "{form}; an import takes lines of JSON, an event each, as `marketday market --to -` \
             prints them; nothing is imported"
        );
    }
    // The writer knows these: of what is added meanwhile the next import hears.
    let partitions = Topic::ALL.map(|topic| log.partitions(topic));
    let mut writer = log.writer()?;
    ensure!(log.owner()? != Some(Owner::Market), belongs_to_market(log));
    let held = orders_in(log)?;
    let mut import = Importing {
        log,
        partitions,
        writer: &mut *writer,
        seen: Seen::default(),
        reach: None,
        newest: None,
        done: Imported::default(),
    };
    let mut unflushed = 0;
    for number in 1.. {
        if !more {
            break;
        }
        let form = if line.len() == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            input.skip_until(b'\n').with_context(|| format!("reading line {number}"))?;
            Err(format!("longer than {LINE_BYTES_MAX} bytes"))
        } else {
            Line::parse(&line)
        };
        match form {
            Ok(line) => {
                import.put(number, line).with_context(|| format!("importing line {number}"))?;
            }
            Err(problem) => {
                import.done.refused += 1;
                Imported::list(&mut import.done.refused_first, number, problem);
            }
        }
        unflushed += line.len();
        if number % FLUSH_LINES == 0 || unflushed > FLUSH_BYTES {
            unflushed = 0;
            import.writer.flush()?;
            report(&import.done);
        }
        more = read_line(&mut input, number + 1, &mut line)?;
    }
    let Importing { mut done, reach, newest, .. } = import;
    done.until = until.or(newest);
    // Alone in the file, and the log had not come near it either.
    if let (None, Some(newest)) = (until, newest)
        && reach.and_then(|reach| reach.reached).is_none_or(|reached| reached < newest)
    {
        let reached = reached(log, &held)?;
        if reached.is_none_or(|reached| newest > reached + DAY)
            && let Some(before) = reach.and_then(|reach| reach.other_at).max(reached)
        {
            (done.until, done.alone) = (Some(before), Some(newest));
        }
    }
    if let Some(at) = done.until {
        if done.records == 0 {
            claim(log)?;
        }
        let mut value = Vec::new();
        Event::Heartbeat(at).write(&mut value);
        // One alone, more than a day beyond all that was said there, would not move the time.
        let beats = if until.is_some() { 2 } else { 1 };
        for partition in (0..partitions[Topic::Orders as usize]).flat_map(|it| repeat_n(it, beats))
        {
            writer.append(Topic::Orders, partition, at, None, &value)?;
        }
    }
    writer.flush()?;
    report(&done);
    Ok(done)
}

/// Makes the log one of imports, before the first record: an import of nothing leaves it to anybody.
fn claim(log: &dyn Log) -> Result<()> {
    ensure!(log.claim(Owner::Import)? == Owner::Import, belongs_to_market(log));
    Ok(())
}

/// Why nobody imports into a market's log.
fn belongs_to_market(log: &dyn Log) -> String {
    format!(
        "a market writes to this log, and would take what is imported for its own: import into \
         another one with {}",
        log.another()
    )
}

/// Reads the next line; whether there is one.
fn read_line(input: &mut impl BufRead, number: u64, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let read = input.take(LINE_BYTES_MAX as u64).read_until(b'\n', line);
    Ok(read.with_context(|| format!("reading line {number}"))? > 0)
}

/// The mark that some programs put before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a file is, by its first line, that is not one event a line.
fn other_form(first: &[u8]) -> Option<&'static str> {
    let text = first.trim_ascii();
    match text {
        [0x1f, 0x8b, ..] => Some("the file is compressed with gzip: unpack it first (`gzip -d`)"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Some("the file is compressed with zstd: unpack it first (`zstd -d`)")
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Some("the file is compressed with xz: unpack it first (`xz -d`)")
        }
        [b'B', b'Z', b'h', ..] => {
            Some("the file is compressed with bzip2: unpack it first (`bzip2 -d`)")
        }
        [b'P', b'K', 3, 4, ..] => Some("the file is a zip archive: unpack it first (`unzip`)"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..] | [0, b'{', ..] => {
            Some("the file is UTF-16: make it UTF-8 first (`iconv -f UTF-16 -t UTF-8`)")
        }
        b"{" => Some("the file has an event over several lines: put each on one (`jq -c .`)"),
        [b'[', ..] => Some("the file is a JSON array: put each event on a line (`jq -c '.[]'`)"),
        _ => None,
    }
}

/// An import that is going on.
struct Importing<'a> {
    log: &'a dyn Log,
    /// Of each topic.
    partitions: [u32; Topic::ALL.len()],
    writer: &'a mut dyn Writer,
    seen: Seen,
    /// How far the times of the file go.
    reach: Option<Reach>,
    /// Of a valid order event.
    newest: Option<Millis>,
    done: Imported,
}

impl Importing<'_> {
    fn put(&mut self, number: u64, line: Line<'_>) -> Result<()> {
        let Line { topic, key, value } = line;
        let (key, value) = (key.as_ref().map(|key| key.as_bytes()), value.get().as_bytes());
        let partition = key.map_or(0, |key| partition_of(key, self.partitions[topic as usize]));
        if self.done.records == 0 {
            claim(self.log)?;
        }
        let done = &mut self.done;
        done.records += 1;
        let mut at = 0;
        match codec::decode(topic, Some(value)) {
            Ok(event) => {
                at = event.at();
                let new = event.event_id().is_none_or(|id| self.seen.add(topic, id));
                *if new { &mut done.valid } else { &mut done.duplicate } += 1;
                if topic == Topic::Orders {
                    self.reach = Some(Reach::after(self.reach, number, at, event.customer()));
                }
                if matches!(event, Event::Order(_)) {
                    self.newest = self.newest.max(Some(at));
                }
            }
            Err(reason) => {
                done.dead += 1;
                Imported::list(&mut done.dead_first, number, reason.to_string());
            }
        }
        self.writer.append(topic, partition, at, key, value)
    }
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
            serde_json::from_slice(line).map_err(|e| another_form(line, &e))?;
        let topic =
            Topic::from_name(&topic).ok_or_else(|| format!("there is no topic {topic:?}"))?;
        match value.get().as_bytes().first() {
            Some(b'{') => Ok(Line { topic, key, value }),
            Some(b'"') => Err("`value` is a text: it is the event itself, a JSON object, not one \
                               in quotation marks"
                .into()),
            _ => Err("`value` is not a JSON object".into()),
        }
    }
}

/// What is wrong with a line, in words of the form where it is another one that is known.
fn another_form(line: &[u8], error: &serde_json::Error) -> String {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        topic: Option<&'a RawValue>,
        #[serde(borrow)]
        key: Option<&'a RawValue>,
        #[serde(borrow)]
        value: Option<&'a RawValue>,
    }
    let number = |text: &RawValue| text.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match serde_json::from_slice(line) {
        Ok(Fields { topic: None, key: None, value: None }) => {
            "there is no `topic` and no `value`: an event stands in \
             {\"topic\":...,\"key\":...,\"value\":{...}}"
                .into()
        }
        Ok(Fields { key: Some(key), .. }) if number(key) => {
            format!("`key` is a number: it is a text, \"{}\"", key.get())
        }
        _ => error.to_string(),
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
        let imported =
            import(&*log, text, None, |imported| reported = Some(imported.clone())).unwrap();
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
                dead: 1,
                dead_first: vec![(
                    2,
                    "`event_id`: invalid value: integer `-1`, expected u64".into()
                )],
                until: Some(700_000_000_000),
                ..Imported::default()
            }
        );
        assert_eq!(records(&*log, Topic::Users), [(0, 0, None, wrong.to_owned())]);
        let mut orders = records(&*log, Topic::Orders);
        let place = partition_of(b"21", 3);
        let first = (place, 700_000_000_000, Some("21".to_owned()), order.to_owned());
        assert_eq!(orders.iter().filter(|record| **record == first).count(), 1);
        orders.retain(|record| *record != first);
        let ours = r#"{"event":"heartbeat","at":700000000000}"#;
        let beat_in = |partition| (partition, 700_000_000_000, None, ours.to_owned());
        let own = (0, 700_000_000_001, None, beat.to_owned());
        let [first, second, third] = [0, 1, 2].map(beat_in);
        assert_eq!(orders, [own, first, second, third], "the file's own, then one each");
    }

    #[test]
    fn lines_of_another_form_are_counted_and_listed() {
        let mut text = [
            &b""[..],
            br#"["orders","1",{}]"#,
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
        assert_eq!((imported.records, imported.dead, imported.until), (2, 2, None));
        assert_eq!(imported.refused, 209);
        assert_eq!(imported.refused_first.len(), LISTED_MAX);
        let numbers: Vec<u64> = imported.refused_first.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers[..10], [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]);
        assert!(imported.refused_first[2].1.contains("carts"), "{:?}", imported.refused_first);
        assert_eq!(records(&*log, Topic::Orders).len(), 1, "without a valid time no heartbeat");
        assert_eq!(records(&*log, Topic::Users).len(), 1);
    }
}
