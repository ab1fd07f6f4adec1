//! Reading the store back at the start: the ledgers' rows as events, the result rows as bytes.
//!
//! Invariant: the rows of a ledger are those that were committed, or the start ends with an error. Each
//! worker reads whole partitions back, so it sees by itself whether what it has read adds up to what
//! `commit_offsets` says: the number of rows, the orders' amounts, and a hash of the rows' bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::Read;

use anyhow::{Context, Result, anyhow, ensure};
use dataflows::analytics::{Output, Tables};
use dataflows::ledger::{Origin, place};
use dataflows::model::{Event, Line, Topic};
use dataflows::row::{Fate, Fields, Row, RowBatch};
use postgres::Client;
use xxhash_rust::xxh3::xxh3_64;

use super::{Claim, Columns, stored, taken_over};

/// A ledger that does not hold what was committed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} does not hold what was committed: {what}{}; `marketday analytics --rebuild` counts the log \
     again, and `marketday verify` shows all that differs",
    topic.ledger(),
    if rows.is_empty() { String::new() } else { format!(" ({})", rows.join("; ")) }
)]
pub struct LedgerDiffers {
    /// Whose ledger it is.
    pub topic: Topic,
    /// In which partitions, and by how much.
    what: String,
    /// Some of the rows, as whoever has compared them with the log found them.
    pub rows: Vec<String>,
}

/// What a partition's rows in the ledger add up to.
#[derive(Clone, Copy, Default)]
struct Sums {
    rows: u64,
    amount: i64,
    hash: i64,
}

/// What a row adds to its ledger's hash.
pub(super) fn row_hash(fields: &[u8]) -> i64 {
    xxh3_64(fields) as i64
}

/// Reads the rows of a COPY, each as its fields' bytes.
pub(super) fn copy_out(
    client: &mut Client,
    query: &str,
    mut row: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut reader = client
        .copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)"))
        .with_context(|| format!("reading back: {query}"))?;
    let mut header = [0; 19];
    reader.read_exact(&mut header)?;
    let mut fields = Vec::new();
    loop {
        let mut count = [0; 2];
        reader.read_exact(&mut count)?;
        let Ok(count) = u16::try_from(i16::from_be_bytes(count)) else { return Ok(()) };
        fields.clear();
        for _ in 0..count {
            let mut length = [0; 4];
            reader.read_exact(&mut length)?;
            fields.extend_from_slice(&length);
            let content = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
            let start = fields.len();
            fields.resize(start + content, 0);
            reader.read_exact(&mut fields[start..])?;
        }
        row(&fields)?;
    }
}

/// So many events are kept of each end of a partition.
const ENDS: usize = 8;

/// Records of a partition that the store has counted. One that the log still holds must be among them.
pub struct Known {
    /// Of which partition.
    pub partition: u32,
    /// The one to be compared first is the last.
    pub records: Vec<Counted>,
}

/// What the store says of the record at an offset.
pub enum Counted {
    /// The event of a ledger's row.
    Event(u64, Event),
    /// The value of a dead letter, or its beginning.
    Dead(u64, Vec<u8>),
}

impl Counted {
    /// The record's place.
    pub fn offset(&self) -> u64 {
        match self {
            Counted::Event(offset, _) | Counted::Dead(offset, _) => *offset,
        }
    }
}

/// The ledger's rows of a partition with the least offsets, and with the greatest.
#[derive(Default)]
struct Ends {
    first: BinaryHeap<(u64, Vec<u8>)>,
    last: BinaryHeap<(Reverse<u64>, Vec<u8>)>,
}

impl Ends {
    fn add(&mut self, offset: u64, row: &[u8]) {
        keep(&mut self.first, offset, row);
        keep(&mut self.last, Reverse(offset), row);
    }

    /// Their events, the outermost ones to be compared first.
    fn known(self, topic: Topic, partition: u32) -> Result<[Known; 2]> {
        let known = |rows: Vec<Vec<u8>>| {
            let events = rows.iter().rev().map(|row| {
                let (origin, event) = ledger_event(topic, row);
                let event =
                    event.map_err(|what| anyhow!("the ledger holds {what}, which no event has"))?;
                Ok(Counted::Event(origin.offset, event))
            });
            anyhow::Ok(Known { partition, records: events.collect::<Result<_>>()? })
        };
        let first = self.first.into_sorted_vec().into_iter().map(|(_, row)| row);
        let last = self.last.into_sorted_vec().into_iter().map(|(_, row)| row);
        Ok([known(first.collect())?, known(last.collect())?])
    }
}

/// Keeps a row if its key is one of the least.
fn keep<K: Ord>(rows: &mut BinaryHeap<(K, Vec<u8>)>, key: K, row: &[u8]) {
    if rows.len() < ENDS {
        rows.push((key, row.to_vec()));
    } else if let Some(mut greatest) = rows.peek_mut()
        && key < greatest.0
    {
        greatest.0 = key;
        greatest.1.clear();
        greatest.1.extend_from_slice(row);
    }
}

/// Reads a row of a topic's ledger; the error says what no event has. The hash is only looked at when an
/// event is booked.
pub(super) fn ledger_event(topic: Topic, row: &[u8]) -> (Origin, Result<Event, String>) {
    let mut fields = Fields(row);
    let (event_id, partition, offset) = place(topic, &mut fields);
    let event = if is_list(topic, row) {
        Event::take(topic, event_id, &mut fields)
    } else {
        Err("lists that do not fit each other".to_owned())
    };
    (Origin { partition, offset, hash: 0 }, event)
}

/// Gives the events of a topic's ledger that are in this worker's shard of partitions, and sees that they
/// are those that were committed; where offsets are given, only those from there on, and then nobody sees
/// whether the rows are as they were committed. Those at both ends of each partition are returned: of the offsets that the
/// log holds, which begin at `starts`, as far as they were counted by today's rules.
pub fn hydrate(
    client: &mut Client,
    claim: &Claim,
    topic: Topic,
    (shard, shards): (usize, usize),
    starts: &BTreeMap<u32, u64>,
    from: Option<&BTreeMap<u32, u64>>,
    mut give: impl FnMut(Origin, Event),
) -> Result<Vec<Known>> {
    let mut ends: BTreeMap<u32, (u64, Ends)> =
        starts.iter().map(|(it, start)| (*it, (*start, Ends::default()))).collect();
    let rules = "SELECT partition, rules_from FROM commit_offsets WHERE topic = $1";
    for row in client.query(rules, &[&topic.name()])? {
        if let Some((from, _)) = ends.get_mut(&(row.get::<_, i64>(0) as u32)) {
            *from = (*from).max(row.get::<_, i64>(1) as u64);
        }
    }
    let (table, columns) = stored(topic.ledger());
    let columns = columns.unwrap_or("*");
    let is_unread = |it: &u32| from.is_some_and(|from| !from.contains_key(it));
    let counted = claim.tallies.keys().filter(|(it, _)| *it == topic).map(|(_, it)| *it);
    let unread: Vec<u32> = counted.filter(is_unread).collect();
    let mut found = BTreeMap::<i64, Sums>::new();
    let differs = |what| LedgerDiffers { topic, what, rows: Vec::new() };
    copy_out(
        client,
        &format!(
            "SELECT {columns} FROM {table} WHERE {}",
            which((shard, shards), from, &ends, &unread)
        ),
        |bytes| {
            let (origin, event) = ledger_event(topic, bytes);
            let whole = event.and_then(|event| Ok((amount(&event)?, event)));
            let (amount, event) = whole.map_err(|what| {
                let Origin { partition, offset, .. } = origin;
                differs(format!(
                    "offset {offset} of partition {partition} holds {what}, which no event has"
                ))
            })?;
            let sums = found.entry(origin.partition.into()).or_default();
            sums.rows += 1;
            sums.amount = sums.amount.wrapping_add(amount);
            sums.hash = sums.hash.wrapping_add(row_hash(bytes));
            if let Some((from, ends)) = ends.get_mut(&origin.partition)
                && origin.offset >= *from
            {
                ends.add(origin.offset, bytes);
            }
            let is_asked_for = from.and_then(|from| from.get(&origin.partition));
            if is_asked_for.is_none_or(|from| origin.offset >= *from) {
                give(origin, event);
            }
            Ok(())
        },
    )?;
    let differences = match from {
        Some(_) => is_ours(client, claim).map(|()| Vec::new())?,
        None => compare(client, claim, topic, (shard, shards), &found)?,
    };
    ensure!(differences.is_empty(), differs(differences.join("; ")));
    let known = ends.into_iter().map(|(partition, (_, ends))| ends.known(topic, partition));
    Ok(known.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The condition of the rows that are read: those from some offsets on, all of partitions of which none was read
/// before, and a few before and at the beginning of the log, which are compared with it.
fn which(
    (shard, shards): (usize, usize),
    from: Option<&BTreeMap<u32, u64>>,
    ends: &BTreeMap<u32, (u64, Ends)>,
    unread: &[u32],
) -> String {
    let mine = format!("partition % {shards} = {shard}");
    let Some(from) = from.filter(|from| !from.is_empty()) else { return mine };
    let since = from.iter().map(|(partition, offset)| {
        let offset = offset.saturating_sub(ENDS as u64);
        format!("partition = {partition} AND \"offset\" >= {offset}")
    });
    let first = ends.iter().map(|(partition, (first, _))| {
        let until = first + ENDS as u64;
        format!("partition = {partition} AND \"offset\" >= {first} AND \"offset\" < {until}")
    });
    let whole = unread.iter().map(|partition| format!("partition = {partition}"));
    let read: Vec<String> = since.chain(first).chain(whole).collect();
    format!("{mine} AND ({})", read.join(" OR "))
}

/// That no later engine has the store: what was read may be a later engine's, but not where this one is it
/// still.
fn is_ours(client: &mut Client, claim: &Claim) -> Result<()> {
    let generation = client.query_one("SELECT generation FROM progress", &[])?.get::<_, i64>(0);
    ensure!(generation == claim.generation, taken_over(claim.generation));
    Ok(())
}

/// Whether a row's array is a list without nulls: what an event is made of.
fn is_list(topic: Topic, row: &[u8]) -> bool {
    if topic != Topic::Scenarios {
        return true;
    }
    let mut fields = Fields(row);
    (0..8).for_each(|_| _ = fields.bytes());
    let array = fields.bytes().unwrap_or_default();
    let header = |at: usize| array.get(at..at + 4);
    let dimensions = header(0);
    [Some(&[0; 4][..]), Some(&[0, 0, 0, 1])].contains(&dimensions) && header(4) == Some(&[0; 4])
}

/// What an event adds to its partition's amount; its pieces must be a number, too.
fn amount(event: &Event) -> Result<i64, String> {
    let Event::Order(order) = event else { return Ok(0) };
    let add = |(pieces, amount): (i64, i64), line: &Line| {
        let of_line = line.quantity.checked_mul(line.unit_price.0)?;
        Some((pieces.checked_add(line.quantity)?, amount.checked_add(of_line)?))
    };
    let sums = order.order.lines.iter().try_fold((0, 0), add);
    sums.map(|(_, amount)| amount).ok_or_else(|| "a sum beyond 64 bits".to_owned())
}

/// What of a worker's partitions is not what was committed. Where the rows' hash was not kept yet, it is
/// from here on.
fn compare(
    client: &mut Client,
    claim: &Claim,
    topic: Topic,
    (shard, shards): (usize, usize),
    found: &BTreeMap<i64, Sums>,
) -> Result<Vec<String>> {
    let rows = client.query(
        "SELECT generation, partition, counted, amount, ledger_hash
         FROM progress LEFT JOIN commit_offsets ON topic = $1 AND partition % $2 = $3",
        &[&topic.name(), &(shards as i64), &(shard as i64)],
    )?;
    // What was read may be a later engine's, but not where this one is it still.
    let generation = rows.first().map(|row| row.get::<_, i64>(0));
    ensure!(generation == Some(claim.generation), taken_over(claim.generation));
    let committed: BTreeMap<i64, (Sums, Option<i64>)> = rows
        .iter()
        .filter_map(|row| {
            let (rows, amount) = (row.get::<_, Option<i64>>(2)? as u64, row.get(3));
            Some((row.get(1), (Sums { rows, amount, hash: 0 }, row.get(4))))
        })
        .collect();
    let mut differences = Vec::new();
    for partition in found.keys().chain(committed.keys()).collect::<BTreeSet<_>>() {
        let found = found.get(partition).copied().unwrap_or_default();
        let (committed, hash) = committed.get(partition).copied().unwrap_or_default();
        if (found.rows, found.amount) != (committed.rows, committed.amount) {
            let of_amount = |sums: Sums| match topic {
                Topic::Orders => format!("{} rows with the amount {}", sums.rows, sums.amount),
                _ => format!("{} rows", sums.rows),
            };
            differences.push(format!(
                "partition {partition} has {}, and {} were committed",
                of_amount(found),
                of_amount(committed)
            ));
        } else if hash.is_some_and(|hash| hash != found.hash) {
            differences.push(format!(
                "partition {partition} has {} rows as committed, but not all say what was committed",
                found.rows
            ));
        } else if hash.is_none() {
            client.execute(
                "UPDATE commit_offsets SET ledger_hash = $3
                 WHERE topic = $1 AND partition = $2 AND ledger_hash IS NULL",
                &[&topic.name(), partition, &found.hash],
            )?;
        }
    }
    Ok(differences)
}

/// The newest dead letter with a value of each partition of a topic that is in this worker's shard.
pub fn dead_letters(
    client: &mut Client,
    topic: Topic,
    (shard, shards): (usize, usize),
) -> Result<Vec<Known>> {
    let rows = client.query(
        "SELECT partition, \"offset\", value FROM dead_letters
         WHERE (topic, partition, \"offset\") IN (
             SELECT topic, partition, max(\"offset\") FROM dead_letters
             WHERE topic = $1 AND partition % $2 = $3 AND value IS NOT NULL GROUP BY 1, 2)",
        &[&topic.name(), &(shards as i64), &(shard as i64)],
    )?;
    let known = rows.iter().map(|row| {
        let dead = Counted::Dead(row.get::<_, i64>(1) as u64, row.get(2));
        Known { partition: row.get::<_, i64>(0) as u32, records: vec![dead] }
    });
    Ok(known.collect())
}

/// Gives every stored row of the tables that are kept, with which the first commit compares; or of the
/// `others` alone, which are not of queries.
pub fn stored_rows(
    client: &mut Client,
    tables: &Tables,
    others: bool,
    mut give: impl FnMut(Output),
) -> Result<()> {
    let mut rows = RowBatch::default();
    let results = tables.results().filter(|_| !others);
    let results = results.map(|(table, name)| (table, name.to_owned()));
    for (table, name) in results.chain(tables.others()) {
        let name = name.as_str();
        let columns = Columns::of(client, name)?;
        copy_out(client, &format!("SELECT {} FROM {name}", columns.list()), |bytes| {
            let mut fields = Fields(bytes);
            columns.key.iter().for_each(|_| _ = fields.bytes());
            let (key, value) = bytes.split_at(bytes.len() - fields.0.len());
            ensure!(!key.is_empty(), "table {name} has a row without a key");
            rows.push(&Row::of(table, key, value), Fate::Stored);
            rows.take_full().map(Output::Rows).into_iter().for_each(&mut give);
            Ok(())
        })?;
    }
    give(Output::Rows(rows));
    Ok(())
}
