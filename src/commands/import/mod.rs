//! Puts events from a text file into the log, so that one's own data can be analysed.
//!
//! Values go in byte for byte, also those that are no valid events: whether they count is decided
//! by the analytics alone, which keeps what it refuses as dead letters. What it will refuse is told
//! here already, of a file before anything is written.

mod form;
mod input;
mod look;

use std::io::Write;
use std::iter::repeat_n;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dataflows::model::time::{DAY, wall_clock};
use dataflows::model::{Event, Millis, Topic, partition_of};

use super::options::{Instant, LogPlace};
use crate::log::{Log, Owner, Writer};
use crate::market;
use crate::platform::clock::Stopwatch;
use crate::platform::output::{self, Output};
use crate::platform::retry::Stopped;
use crate::platform::signals::{self, Interrupted};
use input::{Input, Next};
use look::{Counts, Look, Read, read};

/// Puts events from a file into the log: a JSON line an event, as `market --to -` prints them.
#[derive(Args)]
pub(crate) struct Import {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// Exit 0 with so many lines refused, records dead and conflicts, together.
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
        let input = Input::open(&self.file)?;
        let log = self.log.open(&|| false)?;
        // Before it writes: on Kafka a new writer ends the one that is there.
        ensure!(!market::writes(&self.log.dir, &*log)?, belongs_to_market(&*log));
        let how = How {
            until: self.until.map(|until| until.0),
            conflicts_max: self.max_rejects,
            stop: &signals::stop(),
        };
        let imported = import(&*log, input, &how).map_err(|error| {
            if error.is::<Stopped>() {
                Interrupted(format!("stopped while the log was waited for; {AGAIN}")).into()
            } else {
                error
            }
        })?;
        output::heard_or_unread(imported.tell(&mut Output::lock()))?;
        if let Some(line) = imported.stopped {
            bail!(Interrupted(format!("stopped at line {line}; {AGAIN}")));
        }
        let well = imported.counts.rejects() <= self.max_rejects;
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// How an import that was stopped goes on.
const AGAIN: &str = "run again to go on: what is in the log already counts once";

/// Lines between two flushes: what may be lost by a crash, against the cost of waiting for a disk.
const FLUSH_LINES: u64 = 10_000;

/// So many bytes are flushed before, since brokers' client keeps them until then.
const FLUSH_BYTES: usize = 32 << 20;

/// What came by a pipe is flushed after so long, whatever comes behind it.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// How often a pipe that lives on has heartbeats.
const BEAT: Duration = Duration::from_secs(10);

/// How it is imported.
struct How<'a> {
    /// The time of the heartbeats, by who knows it.
    until: Option<Millis>,
    /// So many conflicts do not end it.
    conflicts_max: u64,
    /// Set to end early.
    stop: &'a Arc<AtomicBool>,
}

/// What an import did.
#[derive(Debug, Default)]
struct Imported {
    counts: Counts,
    /// The time of the heartbeats, if there are any.
    until: Option<Millis>,
    /// The newest `at` of an order event, where it stands so alone that the heartbeats do not have it.
    alone: Option<Millis>,
    /// The line at which it was told to end.
    stopped: Option<u64>,
}

impl Imported {
    /// Says it.
    fn tell(&self, out: &mut dyn Write) -> Result<()> {
        let Counts { records, valid, duplicate, conflict, dead, refused } = &self.counts;
        let [conflicts, deads, lines] = [conflict, dead, refused].map(|listed| listed.count);
        writeln!(
            out,
            "{records} records imported ({valid} valid, {duplicate} duplicate, {conflicts} conflict, \
             {deads} dead), {lines} lines refused"
        )?;
        let clock = |at| wall_clock(at).format("%Y-%m-%d %H:%M:%S");
        if let (Some(alone), Some(until)) = (self.alone, self.until) {
            writeln!(
                out,
                "the newest order event, of {}, stands alone, more than a day beyond all others: the \
                 heartbeats say {}; --until INSTANT says otherwise",
                clock(alone),
                clock(until)
            )?;
        }
        for (listed, lead) in [
            (refused, String::new()),
            (conflict, format!("{conflicts} of {records} records are conflicts; the first: ")),
            (dead, format!("{deads} of {records} records are no events; the first: ")),
        ] {
            let mut lead = lead;
            for (line, reason) in &listed.first {
                writeln!(out, "{}line {line}: {reason}", std::mem::take(&mut lead))?;
            }
        }
        Ok(())
    }
}

/// Puts the records into the log, then, where there are order events, a heartbeat into every partition
/// of `orders`: at their newest time or, where that is of one customer alone and more than a day beyond
/// all else, at the newest that is not; or at `until`.
///
/// A file is looked at as a whole before. An import that was cut off can be repeated from the start: an
/// `event_id` counts once.
fn import(log: &dyn Log, mut input: Input, how: &How<'_>) -> Result<Imported> {
    let mut look = Look::new(log)?;
    // Nothing is written for what cannot be read at all, as what is compressed.
    let mut next = first(&mut input, how)?;
    let looked = input.is_file();
    if looked {
        while next == Next::Line {
            let number = input.number();
            if let Some(conflict) = look.at(number, &read(&input))?
                && look.counts.conflict.count > how.conflicts_max
            {
                bail!("{}; nothing is imported", two_shops(log, number, &conflict));
            }
            if how.stop.load(Ordering::Relaxed) {
                bail!(Interrupted(format!(
                    "stopped while line {number} was looked at; nothing is imported"
                )));
            }
            next = input.next()?;
        }
        input = input.begin_again()?;
        next = input.next()?;
    }
    // The writer knows these: of what is added meanwhile the next import hears.
    let partitions = Topic::ALL.map(|topic| log.partitions(topic));
    let mut writer = log.writer()?;
    writer.end_when(how.stop);
    ensure!(log.owner()? != Some(Owner::Market), belongs_to_market(log));
    let mut importing =
        Importing { log, partitions, writer: &mut *writer, written: 0, unflushed: None };
    let (mut beaten, mut since_beat) = (None, Stopwatch::start());
    let mut stopped = None;
    while next != Next::End {
        if how.stop.load(Ordering::Relaxed) {
            stopped = Some(input.number());
            break;
        }
        if next == Next::Line {
            let (number, read) = (input.number(), read(&input));
            if !looked
                && let Some(conflict) = look.at(number, &read)?
                && look.counts.conflict.count > how.conflicts_max
            {
                importing.flush()?;
                let two_shops = two_shops(log, number, &conflict);
                bail!("{two_shops}; the lines before it are imported");
            }
            importing.put(number, &read)?;
        }
        if !looked {
            // The market's time goes on while the pipe does, by what two customers have said.
            let reached = look.reach.and_then(|reach| reach.reached);
            if reached > beaten && since_beat.elapsed() >= BEAT {
                (beaten, since_beat) = (reached, Stopwatch::start());
                reached.map_or(Ok(()), |at| importing.beat(at, 1))?;
            }
        }
        importing.flush_where_due(!looked)?;
        next = input.next()?;
    }
    importing.flush()?;
    if looked && let Some(line) = stopped {
        bail!(Interrupted(format!("stopped at line {line}; {AGAIN}")));
    }

    let mut done = Imported { until: how.until.or(look.newest), ..Imported::default() };
    // Alone in the input, and the log had not come near it either.
    if let (None, Some(newest)) = (how.until, look.newest)
        && look.reach.and_then(|reach| reach.reached).is_none_or(|reached| reached < newest)
    {
        let reached = look.reached_before()?;
        if reached.is_none_or(|reached| newest > reached + DAY)
            && let Some(before) = look.reach.and_then(|reach| reach.other_at).max(reached)
        {
            (done.until, done.alone) = (Some(before), Some(newest));
        }
    }
    if let Some(at) = done.until {
        // One alone, more than a day beyond all that was said there, would not move the time.
        importing.beat(at, if how.until.is_some() { 2 } else { 1 })?;
    }
    importing.flush()?;
    done.counts = look.counts;
    // A pipe that is cut off by Ctrl-C ends at the same time.
    done.stopped = stopped.or_else(|| how.stop.load(Ordering::Relaxed).then(|| input.number()));
    Ok(done)
}

/// The first line, or the end.
fn first(input: &mut Input, how: &How<'_>) -> Result<Next> {
    loop {
        match input.next()? {
            Next::Waiting if !how.stop.load(Ordering::Relaxed) => {}
            next => return Ok(next),
        }
    }
}

/// What a conflict is most often.
fn two_shops(log: &dyn Log, line: u64, conflict: &str) -> String {
    format!(
        "line {line}: {conflict}: are these two shops whose ids both begin at 1? import them into logs \
         of their own ({}), or number them apart, or allow so many conflicts with --max-rejects",
        log.another()
    )
}

/// Why nobody imports into a market's log.
fn belongs_to_market(log: &dyn Log) -> String {
    format!(
        "a market writes to this log, and would take what is imported for its own: import into \
         another one with {}",
        log.another()
    )
}

/// An import that is going on.
struct Importing<'a> {
    log: &'a dyn Log,
    /// Of each topic.
    partitions: [u32; Topic::ALL.len()],
    writer: &'a mut dyn Writer,
    /// Lines and heartbeats.
    written: u64,
    /// Since the last flush: bytes, and since when.
    unflushed: Option<(usize, Stopwatch)>,
}

impl Importing<'_> {
    /// Puts a line's record into the log, as it stands there.
    fn put(&mut self, number: u64, read: &Read<'_>) -> Result<()> {
        let Ok((line, event)) = read else { return Ok(()) };
        let (key, value) =
            (line.key.as_ref().map(|key| key.as_bytes()), line.value.get().as_bytes());
        let partitions = self.partitions[line.topic as usize];
        ensure!(
            partitions > 0,
            "the log has no partition of {}: import into another one with {}",
            line.topic.name(),
            self.log.another()
        );
        let partition = key.map_or(0, |key| partition_of(key, partitions));
        let at = event.as_ref().map_or(0, Event::at);
        self.append(line.topic, partition, at, key, value)
            .with_context(|| format!("importing line {number}"))
    }

    /// Puts heartbeats into each partition of orders.
    fn beat(&mut self, at: Millis, times: usize) -> Result<()> {
        let mut value = Vec::new();
        Event::Heartbeat(at).write(&mut value);
        let partitions = 0..self.partitions[Topic::Orders as usize];
        for partition in partitions.flat_map(|it| repeat_n(it, times)) {
            self.append(Topic::Orders, partition, at, None, &value)?;
        }
        Ok(())
    }

    fn append(
        &mut self,
        topic: Topic,
        partition: u32,
        at: Millis,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        if self.written == 0 {
            // The log is one of imports from the first record on: an import of nothing leaves it to
            // anybody.
            let owner = self.log.claim(Owner::Import)?;
            ensure!(owner == Owner::Import, belongs_to_market(self.log));
        }
        self.written += 1;
        let (bytes, _) = self.unflushed.get_or_insert_with(|| (0, Stopwatch::start()));
        *bytes += value.len();
        self.writer.append(topic, partition, at, key, value)
    }

    fn flush_where_due(&mut self, is_pipe: bool) -> Result<()> {
        let Some((bytes, since)) = self.unflushed else { return Ok(()) };
        let is_late = is_pipe && since.elapsed() >= FLUSH_AFTER;
        if is_late || bytes > FLUSH_BYTES || self.written.is_multiple_of(FLUSH_LINES) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.unflushed = None;
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::input::LINE_BYTES_MAX;
    use super::look::{LISTED_MAX, Listed};
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
        let (log, file) = (embedded::open(dir.path()).unwrap(), dir.path().with_extension("txt"));
        std::fs::write(&file, text).unwrap();
        let input = Input::open(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        let stop = &Arc::default();
        let imported = import(&*log, input, &How { until: None, conflicts_max: 0, stop }).unwrap();
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
        assert_eq!((imported.until, imported.alone), (Some(700_000_000_000), None));
        let why = "`event_id`: invalid value: integer `-1`, expected u64".to_owned();
        let dead = Listed { count: 1, first: vec![(2, why)] };
        assert_eq!(imported.counts, Counts { records: 3, valid: 2, dead, ..Counts::default() });
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
        let Counts { records: imported_records, dead, refused, .. } = &imported.counts;
        assert_eq!((*imported_records, dead.count, imported.until), (2, 2, None));
        assert_eq!((refused.count, refused.first.len()), (209, LISTED_MAX));
        let numbers: Vec<u64> = refused.first.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers[..10], [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]);
        assert!(refused.first[2].1.contains("carts"), "{:?}", refused.first);
        assert_eq!(records(&*log, Topic::Orders).len(), 1, "without a valid time no heartbeat");
        assert_eq!(records(&*log, Topic::Users).len(), 1);
    }

    #[test]
    fn a_first_line_that_is_too_long_is_one_behind_a_mark_too() {
        let mut text = form::BOM.to_vec();
        text.resize(LINE_BYTES_MAX + 10, b'x');
        text.extend_from_slice(b"\n{\"topic\":\"users\",\"key\":\"1\",\"value\":{}}\n");
        let (_dir, _log, imported) = import_text(&text);
        let first = vec![(1, format!("longer than {LINE_BYTES_MAX} bytes"))];
        let long = Listed { count: 1, first };
        assert_eq!((imported.counts.records, imported.counts.refused), (1, long));
    }

    /// Whatever a file is: it is refused as a whole, or each of its lines is a record, as it stands
    /// there, or refused.
    #[test]
    fn fuzz_imports() {
        let lines = || crate::fuzz::lines().iter().map(Vec::as_slice);
        let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let mut seeds = vec![lines().take(6).collect::<Vec<_>>().concat()];
        seeds.extend(lines().map(<[u8]>::to_vec));
        for case in ["03-one-future-record/good.ndjson", "05-file-forms/crlf_bom.ndjson"]
            .into_iter()
            .chain(["05-file-forms/value_as_string.ndjson", "06-other-tools-forms/input.ndjson"])
        {
            let text = std::fs::read(cases.join(case)).unwrap();
            let first = text.split_inclusive(|byte| *byte == b'\n').take(8);
            seeds.push(first.collect::<Vec<_>>().concat());
        }
        crate::fuzz::fuzz!(10_000, seeds, |input| {
            let dir = crate::fuzz::dir();
            let (log, file) = (embedded::open(dir.path()).unwrap(), dir.path().join("lines"));
            let text = &input.0[..];
            std::fs::write(&file, text).unwrap();
            let how = How { until: None, conflicts_max: u64::MAX, stop: &Arc::default() };
            let Ok(imported) = import(&*log, Input::open(&file).unwrap(), &how) else {
                assert!(crate::log::is_empty(&*log).unwrap(), "refused, and yet imported");
                return false;
            };
            let Counts { records: put, valid, duplicate, conflict, dead, refused } =
                &imported.counts;
            let lines = text.split_inclusive(|byte| *byte == b'\n').count() as u64;
            assert_eq!(put + refused.count, lines, "{:?}", imported.counts);
            assert_eq!(*put, valid + duplicate + conflict.count + dead.count);
            let all = Topic::ALL.map(|topic| records(&*log, topic).len() as u64);
            let beats = imported.until.map_or(0, |_| u64::from(log.partitions(Topic::Orders)));
            assert_eq!(all.iter().sum::<u64>(), put + beats);
            for (_, _, _, value) in Topic::ALL.map(|topic| records(&*log, topic)).concat() {
                let is_there = text.windows(value.len()).any(|part| part == value.as_bytes());
                assert!(is_there || value.contains("heartbeat"), "{value}");
            }
            *put > 0
        });
    }
}
