//! The base tables against the log: each row has its record and each record its row.
//!
//! Both sides are read once, as streams: first the base table, keeping one hash a row under its
//! offset, then the log up to the committed offsets. The rows say which of several records with
//! one `event_id` was counted; what is checked is that it could be that one.
//!
//! State: 8 bytes a row and 40 a record, one topic at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;

use anyhow::{Context, Result};
use dataflows::model::Topic;
use indicatif::ProgressBar;
use postgres::Transaction;
use postgres::binary_copy::{BinaryCopyOutIter, BinaryCopyOutRow};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{FromSql, Type};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::progress::Progress;
use super::reading::{Canon, Reading, read};
use super::{Report, SAMPLES, Table, apart};
use crate::log::{Batch, Log, Owner};

/// Records that are read at once.
const BATCH: usize = 4096;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// What was found in one topic partition.
#[derive(Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "these are the words of the tables")]
pub(super) struct Partition {
    pub(super) topic: &'static str,
    pub(super) partition: u32,
    /// First offset that could be checked, and the committed one.
    pub(super) from: u64,
    pub(super) to: u64,
    /// What is before it was counted by older rules.
    #[serde(skip)]
    rules_from: u64,
    /// Records read there, and what became of them.
    pub(super) read: u64,
    pub(super) counted: u64,
    pub(super) duplicate: u64,
    pub(super) dead: u64,
    pub(super) heartbeat: u64,
    /// Rows of the base table.
    pub(super) rows: u64,
    /// Records that should have a row and have none (or another one).
    pub(super) missing: u64,
    /// Rows without such a record.
    pub(super) unexpected: u64,
    pub(super) samples: Vec<String>,
    #[serde(skip)]
    amount: i64,
    #[serde(skip)]
    hash: u64,
    /// Of the rows' bytes.
    #[serde(skip)]
    ledger_hash: i64,
    #[serde(skip)]
    clocks: Option<Clocks>,
    #[serde(skip)]
    dead_offsets: Vec<u64>,
    /// The base row's hash, by offset from `from` on; 0 where there is none.
    #[serde(skip)]
    held: Vec<u64>,
}

impl Partition {
    fn missing(&mut self, offset: u64, why: &str) {
        self.missing += 1;
        self.sample(offset, why);
    }

    fn unexpected(&mut self, offset: u64, why: &str) {
        self.unexpected += 1;
        self.sample(offset, why);
    }

    fn sample(&mut self, offset: u64, why: &str) {
        if self.samples.len() < SAMPLES {
            self.samples.push(format!("{}/{} offset {offset}: {why}", self.topic, self.partition));
        }
    }
}

/// A row of `commit_offsets`.
struct Committed {
    next_offset: u64,
    clocks: Option<Clocks>,
    /// Counted, duplicate, dead, heartbeat.
    counts: [i64; 4],
    amount: i64,
    hash: i64,
    /// What is before was counted by older rules.
    rules_from: u64,
    /// None where an older version has left the store.
    ledger_hash: Option<i64>,
}

/// The times of a partition of `orders`, in microseconds since 2000.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Clocks {
    newest: i64,
    newest_offset: i64,
    /// Whose it is; none for a heartbeat.
    newest_by: Option<i64>,
    /// The newest of somebody else; each heartbeat is somebody else.
    other: Option<i64>,
    reached: Option<i64>,
}

impl Clocks {
    /// After one more record, as docs/tables.md has it.
    fn hear(clocks: &mut Option<Clocks>, offset: u64, at: i64, by: Option<i64>) {
        let Some(it) = clocks else {
            let newest_offset = offset as i64;
            let (newest, newest_by) = (at, by);
            *clocks = Some(Clocks { newest, newest_offset, newest_by, other: None, reached: None });
            return;
        };
        let somebody_else = by.is_none() || by != it.newest_by;
        if at > it.newest {
            if somebody_else {
                it.other = Some(it.newest);
            }
            (it.newest, it.newest_offset, it.newest_by) = (at, offset as i64, by);
        } else if somebody_else {
            it.other = it.other.max(Some(at));
        }
        if let Some(other) = it.other {
            let beyond = it.newest - other > DAY;
            it.reached = it.reached.max(Some(if beyond { other } else { it.newest }));
        }
    }
}

/// A valid event of one topic, in the log or (before the log's start) in the base table.
#[derive(Clone, Copy)]
struct Seen {
    event_id: u64,
    /// Over every field.
    content: u64,
    offset: u64,
    partition: u32,
    /// Has a row.
    counted: bool,
}

impl Seen {
    /// Whether the other one may have been read first.
    fn may_follow(&self, other: &Seen) -> bool {
        self.partition != other.partition || self.offset > other.offset
    }
}

/// Compares every base table with the log, up to the committed offsets.
pub(super) fn compare(
    tx: &mut Transaction<'_>,
    log: &dyn Log,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    let identity = tx
        .query_one("SELECT log_identity FROM progress", &[])
        .and_then(|row| row.try_get::<_, Option<String>>(0))
        .context("reading whose log the database holds")?;
    if let Some(identity) = identity.filter(|identity| identity != log.identity()) {
        report.differs(format!(
            "the database was filled from log {identity}, this one is {}: base tables not compared",
            log.identity()
        ));
        return Ok(());
    }
    let latest = latest(tx)?;
    let mut offsets = offsets(tx).context("reading commit_offsets")?;
    progress.records.set_length(offsets.values().map(|it| it.next_offset).sum());
    let owner = log.owner().context("asking the log who writes it")?;
    if let Err(error) = apart(tx, |tx| commit_point(tx, &offsets, owner, report))? {
        report.differs(format!("the newest commit point could not be compared: {error:#}"));
    }
    // Where they cannot be read, the events without a row are taken to be there.
    let mut dead_letters = match apart(tx, dead_letters)? {
        Ok(dead_letters) => Some(dead_letters),
        Err(error) => {
            report.differs(format!("dead_letters could not be compared with the log: {error:#}"));
            None
        }
    };
    let mut dead = Table { table: "dead_letters".into(), ..Table::default() };
    for topic in Topic::ALL {
        let keys = partitions(log, topic);
        let committed = keys.iter().map(|key| offsets.remove(key)).collect();
        let letters = dead_letters.as_mut().map(|letters| {
            keys.iter().map(|key| letters.remove(key).unwrap_or_default()).collect()
        });
        let (committed, letters): (Vec<_>, Option<Vec<_>>) = (committed, letters);
        let compared = apart(tx, |tx| {
            let records = &progress.records;
            compare_topic(tx, log, topic, &committed, letters.as_deref(), latest, records, report)
        })?;
        match compared {
            Err(error) => report.differs(format!(
                "the base table of topic {} could not be compared with the log: {error:#}",
                topic.name()
            )),
            Ok(found) => {
                for (partition, letters) in found.iter().zip(letters.iter().flatten()) {
                    compare_dead(partition, letters, &mut dead);
                }
                report.partitions.extend(found);
            }
        }
    }
    for (topic, partition) in offsets.into_keys() {
        report.differs(format!("commit_offsets names {topic}/{partition}, which the log has not"));
    }
    if let Some(letters) = dead_letters {
        for ((topic, partition), offsets) in letters {
            dead.rows += offsets.len() as u64;
            dead.unexpected += offsets.len() as u64;
            dead.sample(|| format!("{topic}/{partition}, which the log has not"));
        }
        report.tables.push(dead);
    }
    Ok(())
}

/// Compares the base table of one topic, and what is committed of its partitions, with the log.
#[expect(clippy::too_many_arguments, reason = "what is known of the topic, and where it is told")]
fn compare_topic(
    tx: &mut Transaction<'_>,
    log: &dyn Log,
    topic: Topic,
    committed: &[Option<Committed>],
    letters: Option<&[Vec<u64>]>,
    latest: Option<i64>,
    progress: &ProgressBar,
    report: &mut Report,
) -> Result<Vec<Partition>> {
    let mut found = Vec::new();
    for (partition, committed) in (0..).zip(committed) {
        found.push(open(log, topic, partition, committed.as_ref(), report)?);
    }
    progress.set_message(format!("the ledger of {}", topic.name()));
    let mut seen = rows(tx, topic, &mut found, report)?;
    for partition in &mut found {
        let name = format!("{}/{}", topic.name(), partition.partition);
        progress.inc(partition.from);
        records(log, topic, partition, &mut seen, latest, progress)
            .with_context(|| format!("reading {name} from the log"))?;
    }
    judge(&mut seen, &mut found, letters, report);
    for (partition, committed) in found.iter().zip(committed) {
        if let Some(committed) = committed {
            compare_counts(partition, committed, report);
        }
    }
    Ok(found)
}

/// What differs first in a topic's base table, in words.
pub(super) fn differing(
    tx: &mut Transaction<'_>,
    log: &dyn Log,
    topic: Topic,
) -> Result<Vec<String>> {
    let mut report = Report::default();
    let (latest, mut offsets, mut letters) = (latest(tx)?, offsets(tx)?, dead_letters(tx)?);
    let keys = partitions(log, topic);
    let committed: Vec<_> = keys.iter().map(|key| offsets.remove(key)).collect();
    let letters: Vec<_> = keys.iter().map(|key| letters.remove(key).unwrap_or_default()).collect();
    let records = ProgressBar::hidden();
    let found =
        compare_topic(tx, log, topic, &committed, Some(&letters), latest, &records, &mut report)?;
    let samples = found.into_iter().flat_map(|partition| partition.samples);
    Ok(samples.chain(report.differences).take(SAMPLES).collect())
}

/// The partitions of a topic, as they are named in the store.
fn partitions(log: &dyn Log, topic: Topic) -> Vec<(String, i64)> {
    (0..log.partitions(topic)).map(|it| (topic.name().to_owned(), i64::from(it))).collect()
}

/// Up to where records move `now`.
fn latest(tx: &mut Transaction<'_>) -> Result<Option<i64>> {
    let latest = tx
        .query_one("SELECT latest FROM progress", &[])
        .and_then(|row| row.try_get::<_, Option<Micros>>(0))
        .context("reading up to where records move now")?;
    Ok(latest.map(|latest| latest.0))
}

/// The committed offsets, by topic and partition.
fn offsets(tx: &mut Transaction<'_>) -> Result<BTreeMap<(String, i64), Committed>> {
    let rows = tx.query(
        "SELECT topic, partition, next_offset, newest_at, counted, duplicate, dead, heartbeat,
                amount, hash, newest_offset, newest_by, other_at, reached_at, rules_from,
                ledger_hash
         FROM commit_offsets",
        &[],
    )?;
    let mut offsets = BTreeMap::new();
    for row in rows {
        let time = |column| anyhow::Ok(row.try_get::<_, Option<Micros>>(column)?.map(|at| at.0));
        let clocks = time(3)?.map(|newest| {
            anyhow::Ok(Clocks {
                newest,
                newest_offset: row.try_get::<_, Option<i64>>(10)?.unwrap_or(-1),
                newest_by: row.try_get(11)?,
                other: time(12)?,
                reached: time(13)?,
            })
        });
        let committed = Committed {
            next_offset: row.try_get::<_, i64>(2)? as u64,
            clocks: clocks.transpose()?,
            counts: [row.try_get(4)?, row.try_get(5)?, row.try_get(6)?, row.try_get(7)?],
            amount: row.try_get(8)?,
            hash: row.try_get(9)?,
            rules_from: row.try_get::<_, i64>(14)? as u64,
            ledger_hash: row.try_get(15)?,
        };
        offsets.insert((row.try_get(0)?, row.try_get(1)?), committed);
    }
    Ok(offsets)
}

/// Checks that the newest commit point says what `commit_offsets` and `progress` say.
fn commit_point(
    tx: &mut Transaction<'_>,
    offsets: &BTreeMap<(String, i64), Committed>,
    owner: Option<Owner>,
    report: &mut Report,
) -> Result<()> {
    let newest = tx.query_opt(
        "SELECT now, counted, checksum, commit_points.offsets::text,
                (SELECT now FROM progress) IS DISTINCT FROM now
         FROM commit_points ORDER BY epoch DESC LIMIT 1",
        &[],
    )?;
    let Some(row) = newest else {
        if offsets.values().any(|committed| committed.next_offset > 0) {
            report.differs("commit_offsets has offsets, but there is no commit point".to_owned());
        }
        return Ok(());
    };
    let now = row.try_get::<_, Option<Micros>>(0)?.map(|now| now.0);
    let counted: i64 = offsets.values().map(|committed| committed.counts[0]).sum();
    if row.try_get::<_, i64>(1)? != counted {
        report.differs(format!(
            "the commit point does not count {counted} events, as the offsets do"
        ));
    }
    let checksum = offsets.values().fold(0i64, |sum, it| sum.wrapping_add(it.hash));
    if row.try_get::<_, i64>(2)? != checksum {
        report.differs(format!("the commit point's checksum is not the offsets', {checksum}"));
    }
    let named: BTreeMap<String, Vec<u64>> = serde_json::from_str(row.try_get(3)?)
        .context("the commit point's offsets are not lists of numbers by topic")?;
    let mut stored = BTreeMap::<String, Vec<u64>>::new();
    for ((topic, partition), committed) in offsets {
        let of_topic = stored.entry(topic.clone()).or_default();
        of_topic.resize(*partition as usize, 0);
        of_topic.push(committed.next_offset);
    }
    if named != stored {
        report.differs("the commit point's offsets are not those of commit_offsets".to_owned());
    }
    if row.try_get(4)? {
        report.differs("the commit point's now is not that of progress".to_owned());
    }
    let reached: Vec<i64> = offsets
        .iter()
        .filter(|((topic, _), _)| topic == Topic::Orders.name())
        .filter_map(|(_, committed)| committed.clocks?.reached)
        .collect();
    let furthest = reached.iter().copied().max();
    let in_step = |at: &i64| furthest.is_some_and(|furthest| *at >= furthest - DAY);
    let least = reached.iter().copied().filter(in_step).min();
    // It never goes back, so where a partition came in late it may be past the least. A market speaks
    // in all of them from the start, and they are read in step.
    let exact = owner == Some(Owner::Market) && offsets.values().all(|it| it.rules_from == 0);
    if now < least || now > if exact { least } else { furthest } {
        report.differs(
            "the commit point's now does not follow from the times that the partitions reached"
                .to_owned(),
        );
    }
    Ok(())
}

/// The offsets in `dead_letters`, by topic and partition.
fn dead_letters(tx: &mut Transaction<'_>) -> Result<BTreeMap<(String, i64), Vec<u64>>> {
    let mut offsets = BTreeMap::<_, Vec<u64>>::new();
    let sql = "SELECT topic, partition, \"offset\" FROM dead_letters ORDER BY 1, 2, 3";
    for row in tx.query(sql, &[])? {
        let key = (row.try_get(0)?, row.try_get(1)?);
        offsets.entry(key).or_default().push(row.try_get::<_, i64>(2)? as u64);
    }
    Ok(offsets)
}

/// What of a partition can be checked.
fn open(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    committed: Option<&Committed>,
    report: &mut Report,
) -> Result<Partition> {
    let name = format!("{}/{partition}", topic.name());
    let ends =
        log.start(topic, partition).and_then(|start| Ok((start, log.end(topic, partition)?)));
    let (start, end) = ends.with_context(|| format!("asking the log what it holds of {name}"))?;
    let next = committed.map_or(0, |committed| committed.next_offset);
    if next > end {
        report.differs(format!("{name} is committed up to {next}, but the log ends at {end}"));
    }
    if next < end {
        report.waiting += end - next;
    }
    let to = next.min(end);
    let from = start.min(to);
    if from > 0 {
        report.notes.push(format!("{name}: the log no longer holds what is before offset {from}"));
    }
    let rules_from = committed.map_or(0, |it| it.rules_from);
    if rules_from > 0 {
        report.notes.push(format!(
            "{name}: what is before offset {rules_from} was counted by older rules; `marketday \
             analytics --rebuild` counts again what the log still holds"
        ));
    }
    let held = vec![0; (to - from) as usize];
    Ok(Partition {
        topic: topic.name(),
        partition,
        from,
        to,
        rules_from,
        held,
        ..Partition::default()
    })
}

/// Reads the base table: leaves each row's hash under its offset, and gives the events of the rows
/// that the log no longer holds.
fn rows(
    tx: &mut Transaction<'_>,
    topic: Topic,
    found: &mut [Partition],
    report: &mut Report,
) -> Result<Vec<Seen>> {
    // The table and its columns, of which the first three are an event's id and place.
    let (columns, table, types): (_, _, &[Type]) = match topic {
        Topic::Users => (
            "user_id, name, birth_date, sex, region, status, marketing_consent, signed_up_at",
            "user_events",
            &[INT, TEXT, Type::DATE, TEXT, TEXT, TEXT, Type::BOOL, TIME],
        ),
        Topic::Products => (
            "product_id, name, category, price, stock, listed_at",
            "product_events",
            &[INT, TEXT, TEXT, INT, INT, TIME],
        ),
        Topic::Orders => (
            "kind, order_id, user_id, ordered_at, lines",
            "order_ledger",
            &[Type::INT2, INT, INT, TIME, TEXT],
        ),
        Topic::Scenarios => (
            "occurrence, name, action, strength, categories",
            "scenario_events",
            &[TEXT, TEXT, TEXT, Type::FLOAT8, TEXTS],
        ),
    };
    let place = if topic == Topic::Orders { [INT, Type::INT4] } else { [Type::NUMERIC, INT] };
    let types = [&place[..], &[INT, TIME], types].concat();
    let reader = tx.copy_out(&format!(
        "COPY (SELECT event_id, partition, \"offset\", at, {columns}, event_id::text FROM {table})
         TO STDOUT (FORMAT binary)"
    ))?;
    let mut canon = Canon::default();
    let (mut seen, mut bytes) = (Vec::new(), Vec::new());
    let columns = types.len();
    let read_as = [types.clone(), vec![TEXT]].concat();
    let mut rows = BinaryCopyOutIter::new(reader, &read_as);
    while let Some(row) = rows.next()? {
        let offset: i64 = row.try_get(2)?;
        let (partition, event_id): (i64, Cow<'_, str>) = if topic == Topic::Orders {
            // Of ids from 2^63 on 2^64 is taken away.
            let event_id = row.try_get::<i64>(0)? as u64;
            (row.try_get::<i32>(1)?.into(), event_id.to_string().into())
        } else {
            (row.try_get(1)?, row.try_get::<&str>(columns)?.into())
        };
        canon.text(&event_id);
        canon.int(row.try_get::<Micros>(3)?.0);
        if topic == Topic::Orders {
            order_row(&row, &mut canon)?;
        } else {
            for (column, kind) in types.iter().enumerate().skip(4) {
                column_of(&row, column, kind, &mut canon)?;
            }
        }
        let hash = canon.take();
        let offset = offset as u64;
        let Some(partition) = usize::try_from(partition).ok().and_then(|it| found.get_mut(it))
        else {
            report.differs(format!(
                "{table} has a row of partition {partition}, which the log has not"
            ));
            continue;
        };
        partition.rows += 1;
        bytes.clear();
        for column in 0..columns {
            let Raw(content) = row.try_get(column)?;
            bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
            bytes.extend_from_slice(content);
        }
        partition.ledger_hash = partition.ledger_hash.wrapping_add(xxh3_64(&bytes) as i64);
        if offset < partition.from {
            if let Ok(event_id) = event_id.parse() {
                let partition = partition.partition;
                seen.push(Seen { event_id, content: hash, offset, partition, counted: true });
            }
        } else if offset >= partition.to {
            partition.unexpected(offset, "has a row, but is not committed");
        } else {
            let held = &mut partition.held[(offset - partition.from) as usize];
            if *held == 0 {
                *held = hash.max(1);
            } else {
                partition.unexpected(offset, "has a second row");
            }
        }
    }
    Ok(seen)
}

/// Writes a column's value as `reading` writes the field.
fn column_of(row: &BinaryCopyOutRow, column: usize, kind: &Type, canon: &mut Canon) -> Result<()> {
    match *kind {
        INT => canon.int(row.try_get(column)?),
        TIME => canon.int(row.try_get::<Micros>(column)?.0),
        TEXT => canon.text(row.try_get(column)?),
        Type::DATE => canon.int(row.try_get::<Days>(column)?.0),
        Type::BOOL => canon.int(i64::from(row.try_get::<bool>(column)?)),
        Type::FLOAT8 => canon.int(row.try_get::<f64>(column)?.to_bits() as i64),
        _ => {
            for text in row.try_get::<Vec<&str>>(column)? {
                canon.text(text);
            }
        }
    }
    Ok(())
}

/// Writes an order event's columns, its lines one after the other.
fn order_row(row: &BinaryCopyOutRow, canon: &mut Canon) -> Result<()> {
    let kind: i16 = row.try_get(4)?;
    canon.text(
        ["placed", "cancelled", "refunded"]
            .get(kind.wrapping_sub(1) as usize)
            .unwrap_or(&"no kind"),
    );
    canon.int(row.try_get(5)?);
    canon.int(row.try_get(6)?);
    canon.int(row.try_get::<Micros>(7)?.0);
    let text: &str = row.try_get(8)?;
    // What is no lists of lines is no event's: it must not hash like one.
    for (product, category, quantity, price) in lines(text).unwrap_or_else(|| {
        canon.text(text);
        Vec::new()
    }) {
        canon.int(product);
        canon.text(&category);
        canon.int(quantity);
        canon.int(price);
    }
    Ok(())
}

/// Product, category, pieces and price.
type OrderLine = (i64, String, i64, i64);

/// The lines of an order event, as docs/tables.md has them written; none if it is something else.
fn lines(text: &str) -> Option<Vec<OrderLine>> {
    let lists: Vec<Vec<&str>> = text.split('|').map(|list| list.split(',').collect()).collect();
    let [products, categories, quantities, prices] = &lists[..] else { return None };
    let fit = [categories, quantities, prices].iter().all(|list| list.len() == products.len());
    let line = |place: usize| -> Option<OrderLine> {
        let number = |list: &[&str]| list[place].parse().ok();
        let word = word(categories[place])?;
        Some((number(products)?, word, number(quantities)?, number(prices)?))
    };
    fit.then(|| (0..products.len()).map(line).collect()).flatten()
}

/// A word in which some characters are U+0001 and a letter.
fn word(written: &str) -> Option<String> {
    let mut parts = written.split('\u{1}');
    let mut word = parts.next()?.to_owned();
    for part in parts {
        match part.chars().next()? {
            'x' => word.push('\u{1}'),
            'c' => word.push(','),
            'p' => word.push('|'),
            'e' => {}
            _ => return None,
        }
        word.push_str(&part[1..]);
    }
    Some(word)
}

/// Reads a partition of the log: counts what its records are, and finds each row's record.
fn records(
    log: &dyn Log,
    topic: Topic,
    partition: &mut Partition,
    seen: &mut Vec<Seen>,
    latest: Option<i64>,
    progress: &ProgressBar,
) -> Result<()> {
    progress.set_message(format!("{}/{}", topic.name(), partition.partition));
    let moves = |at: i64| latest.is_none_or(|latest| at <= latest);
    if partition.from == partition.to {
        return Ok(());
    }
    let mut reader = log.reader(topic, partition.partition, partition.from)?;
    let mut batch = Batch::default();
    let mut canon = Canon::default();
    while reader.position() < partition.to {
        batch.clear();
        let before = reader.position();
        reader.wait(&mut batch, BATCH)?;
        progress.inc(reader.position() - before);
        for record in batch.iter() {
            if record.offset >= partition.to {
                break;
            }
            partition.read += 1;
            match read(topic, record.value, &mut canon) {
                Reading::Dead => partition.dead_offsets.push(record.offset),
                Reading::Heartbeat { at } => {
                    partition.heartbeat += 1;
                    if moves(at) {
                        Clocks::hear(&mut partition.clocks, record.offset, at, None);
                    }
                }
                Reading::Event(event) => {
                    if moves(event.at) {
                        let (clocks, at) = (&mut partition.clocks, event.at);
                        Clocks::hear(clocks, record.offset, at, event.user_id);
                    }
                    let row = &mut partition.held[(record.offset - partition.from) as usize];
                    let row = std::mem::take(row);
                    if row != 0 {
                        partition.counted += 1;
                        partition.amount = partition.amount.wrapping_add(event.amount);
                        let hash = xxh3_64(record.value.unwrap_or_default());
                        partition.hash = partition.hash.wrapping_add(hash);
                        if row != event.hash.max(1) {
                            partition.missing += 1;
                            partition.unexpected(record.offset, "its row differs from the record");
                        }
                    }
                    seen.push(Seen {
                        event_id: event.event_id,
                        content: event.hash,
                        offset: record.offset,
                        partition: partition.partition,
                        counted: row != 0,
                    });
                }
            }
        }
    }
    for (offset, row) in (partition.from..).zip(std::mem::take(&mut partition.held)) {
        if row != 0 {
            partition.unexpected(offset, "has a row, but no event is there");
        }
    }
    Ok(())
}

/// Checks that what was counted could be, and that another event explains each that was not: one of
/// the same id that says the same, or, where it says something else, and there is a dead letter of it.
///
/// Between partitions any order of reading is right, so a record may always have come after one of
/// another partition; within a partition the offsets decide.
fn judge(
    seen: &mut [Seen],
    found: &mut [Partition],
    letters: Option<&[Vec<u64>]>,
    report: &mut Report,
) {
    let (mut noticed, mut unnoticed) = (0u64, 0u64);
    seen.sort_unstable_by_key(|it| (it.event_id, it.partition, it.offset));
    for group in seen.chunk_by(|a, b| a.event_id == b.event_id) {
        let mut counted = 0;
        for event in group {
            let partition = &mut found[event.partition as usize];
            if event.counted {
                counted += 1;
                if counted > 1 {
                    partition.unexpected(event.offset, "counted, though its event_id was");
                }
                continue;
            }
            let told = letters.is_none_or(|letters| {
                letters[event.partition as usize].binary_search(&event.offset).is_ok()
            });
            if event.offset < partition.rules_from {
                // Older rules left out more: a second record of an order, copies or not.
                if told {
                    partition.dead_offsets.push(event.offset);
                } else {
                    partition.duplicate += 1;
                }
                continue;
            }
            let first = group.iter().find(|it| it.counted && event.may_follow(it));
            match first.map(|first| first.content == event.content) {
                None => {
                    partition.missing(event.offset, "has no row, and its event_id was not used");
                }
                Some(true) => partition.duplicate += 1,
                Some(false) if told => {
                    noticed += 1;
                    partition.dead_offsets.push(event.offset);
                }
                Some(false) => {
                    unnoticed += 1;
                    partition.duplicate += 1;
                }
            }
        }
    }
    // The engine notices a conflict by a byte of its content: 1 in 255 it takes for a copy.
    if unnoticed > 3 + noticed / 50 {
        report.differs(format!(
            "{unnoticed} events have no dead letter, though each has the event_id of another that \
             says something else; of {noticed} there is one"
        ));
    }
    for partition in found {
        partition.dead_offsets.sort_unstable();
        partition.dead = partition.dead_offsets.len() as u64;
    }
}

/// Compares the dead records of a partition with its dead letters, both in order.
fn compare_dead(partition: &Partition, letters: &[u64], table: &mut Table) {
    let name = format!("{}/{}", partition.topic, partition.partition);
    table.rows += letters.len() as u64;
    let mut dead = partition.dead_offsets.iter().copied().peekable();
    for letter in letters.iter().copied().filter(|letter| *letter >= partition.from) {
        while let Some(offset) = dead.next_if(|offset| *offset < letter) {
            table.missing += 1;
            table.sample(|| format!("{name} offset {offset} is no event and has no row"));
        }
        if dead.next_if_eq(&letter).is_none() {
            table.unexpected += 1;
            table
                .sample(|| format!("{name} offset {letter} has a row and is an event, or has two"));
        }
    }
    for offset in dead {
        table.missing += 1;
        table.sample(|| format!("{name} offset {offset} is no event and has no row"));
    }
}

/// Compares what was found in a partition with its row of `commit_offsets`.
fn compare_counts(partition: &Partition, committed: &Committed, report: &mut Report) {
    let name = format!("{}/{}", partition.topic, partition.partition);
    let hash = partition.ledger_hash;
    if committed.ledger_hash.is_some_and(|committed| committed != hash) {
        report.differs(format!(
            "commit_offsets of {name}: the ledger's hash is not that of its rows, {hash}"
        ));
    }
    if partition.from > 0 || partition.rules_from > 0 {
        return; // What the numbers count is no longer there to be counted.
    }
    let found = [partition.counted, partition.duplicate, partition.dead, partition.heartbeat];
    if committed.counts.map(|count| count as u64) != found {
        report.differs(format!(
            "commit_offsets of {name}: counted, duplicate, dead, heartbeat are {:?}, the log has {found:?}",
            committed.counts
        ));
    }
    if committed.counts.iter().sum::<i64>() as u64 != partition.read {
        report.differs(format!("commit_offsets of {name}: not all of {} records", partition.read));
    }
    if committed.amount != partition.amount {
        report.differs(format!(
            "commit_offsets of {name}: amount is {}, the log has {}",
            committed.amount, partition.amount
        ));
    }
    if committed.hash != partition.hash as i64 {
        report.differs(format!(
            "commit_offsets of {name}: the hash is not that of the log's records"
        ));
    }
    let clocks = partition.clocks.filter(|_| partition.topic == Topic::Orders.name());
    if committed.clocks != clocks {
        report.differs(format!(
            "commit_offsets of {name}: the times are {:?}, the log has {clocks:?}",
            committed.clocks
        ));
    }
}

const INT: Type = Type::INT8;
const TEXT: Type = Type::TEXT;
const TEXTS: Type = Type::TEXT_ARRAY;
const TIME: Type = Type::TIMESTAMPTZ;

/// A field as it is sent.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A timestamptz as it is sent: microseconds since 2000.
struct Micros(i64);

/// A date as it is sent: days since 2000.
struct Days(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // The same bytes as a bigint's.
        i64::from_sql(kind, raw).map(Micros)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

impl<'a> FromSql<'a> for Days {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        i32::from_sql(kind, raw).map(|days| Days(i64::from(days)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }
}
