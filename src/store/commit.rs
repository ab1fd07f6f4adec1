//! Writing an epoch, or several merged ones, in one transaction.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Error, Result, ensure};
use dataflows::Epoch;
use dataflows::analytics::{BASE_TABLES, Closed, Tables, ledger_table};
use dataflows::ledger::Tally;
use dataflows::model::{Millis, Topic};
use dataflows::row::{Fields, Row};
use postgres::{Client, Transaction};

use super::hydrate::row_hash;
use super::{Claim, Columns};
use crate::platform::crash;
use crate::platform::retry;

/// The one writer of the store.
pub struct Committer {
    client: Client,
    generation: i64,
    now: Option<Millis>,
    tallies: BTreeMap<(Topic, u32), Tally>,
    /// `ledger_hash` of each partition; read at the first commit, when all workers have read the ledgers
    /// back and know it.
    ledgers: Option<BTreeMap<(Topic, u32), i64>>,
    tables: BTreeMap<u16, Statements>,
    kept: Tables,
    commits: u64,
}

/// The statements that change one result table. Those that tell put what they change into
/// `table_changes` too.
struct Statements {
    stage: String,
    upsert: String,
    upsert_and_tell: String,
    stage_gone: String,
    delete: String,
    delete_and_tell: String,
}

/// What a key's row becomes.
enum Change {
    Upsert(Row),
    Delete(Row),
}

impl Committer {
    /// Prepares the session: for each result table a stage for rows that come and one for keys
    /// that go. They live as long as the session, since new ones for each commit would bloat the
    /// catalog.
    pub fn new(mut client: Client, claim: &Claim, kept: &Tables) -> Result<Committer> {
        // The changes that are told of have instants in them.
        client.batch_execute("SET TIME ZONE 'Asia/Seoul'")?;
        let mut tables = BTreeMap::new();
        for (table, name) in kept.results() {
            let columns = Columns::of(&mut client, name)?;
            let (key, value) = (columns.key.join(", "), &columns.value);
            client
                .batch_execute(&format!(
                "CREATE TEMP TABLE stage_{name} ON COMMIT DELETE ROWS AS TABLE {name} WITH NO DATA;
                 CREATE TEMP TABLE gone_{name} ON COMMIT DELETE ROWS AS
                     SELECT {key} FROM {name} WITH NO DATA"
            ))
                .with_context(|| format!("making temporary tables for what changes in {name}"))?;
            let set = value.iter().map(|column| format!("{column} = excluded.{column}"));
            let update = match &set.collect::<Vec<_>>()[..] {
                [] => "NOTHING".to_owned(),
                set => format!("UPDATE SET {}", set.join(", ")),
            };
            let upsert = format!(
                "INSERT INTO {name} AS t SELECT * FROM stage_{name} ON CONFLICT ({key}) DO {update}"
            );
            let delete =
                format!("DELETE FROM {name} AS t WHERE ({key}) IN (SELECT {key} FROM gone_{name})");
            let and_tell = |statement: &str, change: &str| {
                format!(
                    "WITH told AS ({statement} RETURNING {change} AS change, row_to_json(t) AS row)
                     INSERT INTO table_changes SELECT $1, '{name}', change, row FROM told"
                )
            };
            // A row that was there before is locked before it is updated, which xmax still shows.
            let came = "CASE WHEN t.xmax = 0 THEN 'insert' ELSE 'update' END";
            tables.insert(
                table,
                Statements {
                    stage: copy_in(&format!("stage_{name}")),
                    upsert_and_tell: and_tell(&upsert, came),
                    upsert,
                    stage_gone: copy_in(&format!("gone_{name}")),
                    delete_and_tell: and_tell(&delete, "'delete'"),
                    delete,
                },
            );
        }
        Ok(Committer {
            client,
            generation: claim.generation,
            now: claim.now,
            tallies: claim.tallies.clone(),
            ledgers: None,
            tables,
            kept: kept.clone(),
            commits: 0,
        })
    }

    /// Commits everything up to and including `epoch`, or nothing.
    pub fn commit(&mut self, epoch: Epoch, closed: Closed) -> Result<()> {
        let NetChanges { appended, changed } = net_changes(closed.rows, &self.kept)?;
        let mut tallies = self.tallies.clone();
        for (partition, tally) in &closed.tallies {
            tallies.entry(*partition).or_default().add(tally);
        }
        let now = self.now.max(closed.now);
        let read = || read_of(&self.tallies, &closed.tallies);

        let mut tx = self.client.transaction().context("beginning a commit")?;
        let mine = tx.execute(
            "UPDATE progress SET epoch = $1, now = 'epoch'::timestamptz + $2 * interval '1 ms'
             WHERE generation = $3",
            &[&(epoch as i64), &now.map(|now| now as f64), &self.generation],
        )?;
        if mine == 0 {
            return Err(super::taken_over(self.generation));
        }
        let mut ledgers = match &self.ledgers {
            Some(ledgers) => ledgers.clone(),
            None => committed_ledgers(&mut tx)?,
        };
        // After the row of `progress` is locked: see `changes.rs`.
        let followed = tx
            .query("SELECT table_name FROM followed_tables WHERE until > clock_timestamp()", &[])?;
        let followed: Vec<&str> = followed.iter().map(|row| row.get(0)).collect();
        for (table, rows) in &appended {
            copy(&mut tx, &copy_in(self.kept.name(*table)), rows.iter().map(|row| (row, true)))
                .map_err(|error| match refused_row(&error, rows) {
                    Some(row) => error.context(format!("appending {}", origin(row))),
                    None => error,
                })
                .map_err(|error| tried(error, "appending to", self.kept.name(*table), read))?;
            if let Some(topic) = topic_of(*table) {
                for row in rows {
                    let (_event_id, partition, _offset) = place(row);
                    let hash = ledgers.entry((topic, partition as u32)).or_default();
                    *hash = hash.wrapping_add(row_hash(row.value()));
                }
            }
        }
        crash::point("copy");
        for (table, changes) in &changed {
            let statements = &self.tables[table];
            let told = followed.contains(&self.kept.name(*table)).then_some(epoch);
            write_changes(&mut tx, statements, changes, told)
                .map_err(|error| tried(error, "changing", self.kept.name(*table), read))?;
        }
        for (place, tally) in &tallies {
            if closed.tallies.contains_key(place) {
                let ledger_hash = ledgers.get(place).copied().unwrap_or_default();
                write_tally(&mut tx, *place, tally, ledger_hash)?;
            }
        }
        write_commit_point(&mut tx, epoch, now, &tallies)?;
        self.commits += 1;
        if self.commits.is_multiple_of(COMMITS_PER_THINNING) {
            tx.execute(THIN_COMMIT_POINTS, &[])?;
            tx.batch_execute(THIN_CHANGES)?;
        }
        crash::point("before-commit");
        tx.commit().context("committing")?;
        crash::point("after-commit");
        self.tallies = tallies;
        self.ledgers = Some(ledgers);
        self.now = now;
        Ok(())
    }
}

/// The error of writing to a table. Unless it passes by itself, it names what was read for that.
fn tried(error: Error, what: &str, table: &str, read: impl Fn() -> String) -> Error {
    let tried = format!("{what} {table}");
    if retry::lost(&error) {
        error.context(tried)
    } else {
        error.context(format!("{tried}, having read {}", read()))
    }
}

/// What a commit has read beyond the one before, in words.
fn read_of(
    before: &BTreeMap<(Topic, u32), Tally>,
    tallies: &BTreeMap<(Topic, u32), Tally>,
) -> String {
    let moved = tallies.iter().filter_map(|(place, tally)| {
        let from = before.get(place).map_or(0, |tally| tally.next_offset);
        let last = tally.next_offset.checked_sub(1).filter(|last| *last >= from)?;
        Some(format!("{}-{} from offset {from} to {last}", place.0.name(), place.1))
    });
    moved.collect::<Vec<_>>().join(", ")
}

/// The row that PostgreSQL did not take, of those that were copied: it names the line.
fn refused_row<'r>(error: &Error, rows: &'r [Row]) -> Option<&'r Row> {
    let refusal = error.downcast_ref::<postgres::Error>()?.as_db_error()?.where_()?;
    // In the server's language; a base table's name has no digit.
    let line = refusal.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    let line = line.parse::<usize>().ok()?;
    rows.get(line.checked_sub(1)?)
}

/// Whose ledger a table is.
fn topic_of(table: u16) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| ledger_table(*topic) == table)
}

/// The event of a ledger's row, its partition and its offset.
fn place(row: &Row) -> (u64, i64, i64) {
    let mut fields = Fields(row.value());
    (fields.unsigned(), fields.int(), fields.int())
}

/// What the rows of each partition's ledger add up to.
fn committed_ledgers(tx: &mut Transaction<'_>) -> Result<BTreeMap<(Topic, u32), i64>> {
    let rows = tx.query("SELECT topic, partition, ledger_hash FROM commit_offsets", &[])?;
    let ledgers = rows.iter().filter_map(|row| {
        let topic = Topic::from_name(row.get(0))?;
        let hash = row.try_get(2).context("the hash of a ledger is not known");
        Some(hash.map(|hash| ((topic, row.get::<_, i64>(1) as u32), hash)))
    });
    ledgers.collect()
}

/// Where the record of a base table's row lies.
fn origin(row: &Row) -> String {
    if let Some(topic) = topic_of(row.table) {
        let (event_id, partition, offset) = place(row);
        format!("event {event_id} of {}-{partition} at offset {offset}", topic.name())
    } else {
        let mut fields = Fields(row.value());
        let (topic, partition, offset) = (fields.text(), fields.int(), fields.int());
        format!("the dead letter of {topic}-{partition} at offset {offset}")
    }
}

/// Commit points are thinned at every so many commits: seldom enough to cost nothing, often enough
/// that the table stays small.
const COMMITS_PER_THINNING: u64 = 256;

/// Keeps all of the last hour, and of each minute before that the last one.
const THIN_COMMIT_POINTS: &str = "
    DELETE FROM commit_points AS old
    WHERE committed_at < clock_timestamp() - interval '1 hour'
      AND EXISTS (SELECT FROM commit_points AS later
                  WHERE later.epoch > old.epoch
                    AND date_trunc('minute', later.committed_at)
                        = date_trunc('minute', old.committed_at))";

/// Keeps the changes of an hour, of what is followed.
const THIN_CHANGES: &str = "
    DELETE FROM followed_tables WHERE until < clock_timestamp();
    UPDATE followed_tables SET since = greatest(since, (
        SELECT max(epoch) FROM commit_points
        WHERE committed_at < clock_timestamp() - interval '1 hour'));
    DELETE FROM table_changes AS old USING followed_tables AS followed
    WHERE old.table_name = followed.table_name AND old.epoch <= followed.since;
    DELETE FROM table_changes
    WHERE table_name NOT IN (SELECT table_name FROM followed_tables)";

fn copy_in(table: &str) -> String {
    format!("COPY {table} FROM STDIN (FORMAT binary)")
}

/// What a transaction writes, by table.
#[derive(Default)]
struct NetChanges {
    appended: BTreeMap<u16, Vec<Row>>,
    changed: BTreeMap<u16, Vec<Change>>,
}

/// Consolidates the rows and sorts them out: appended ones by ledger, changed ones by table.
///
/// A key has at most one row, so what is left of a key is a row that comes, one that goes, or one
/// for the other. Anything else is a bug in a query, and nothing of it may be committed.
fn net_changes(rows: Vec<(Row, isize)>, tables: &Tables) -> Result<NetChanges> {
    let NetChanges { mut appended, mut changed } = NetChanges::default();
    let (bases, mut results): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(row, _)| usize::from(row.table) < BASE_TABLES.len());
    for (row, diff) in bases {
        ensure!(diff == 1, "a row of {} would go: ledgers only grow", tables.name(row.table));
        appended.entry(row.table).or_default().push(row);
    }
    differential_dataflow::consolidation::consolidate(&mut results);
    for group in chunk_by_key(results) {
        let table = group[0].0.table;
        let change = match <[_; 1]>::try_from(group) {
            Ok([(row, 1)]) => Change::Upsert(row),
            Ok([(row, -1)]) => Change::Delete(row),
            Ok([(row, diff)]) => return Err(not_one_row(tables, &row, &[diff])),
            Err(group) => match <[_; 2]>::try_from(group) {
                Ok([(row, 1), (_, -1)] | [(_, -1), (row, 1)]) => Change::Upsert(row),
                Ok([(row, a), (_, b)]) => return Err(not_one_row(tables, &row, &[a, b])),
                Err(group) => {
                    let diffs: Vec<isize> = group.iter().map(|(_, diff)| *diff).collect();
                    return Err(not_one_row(tables, &group[0].0, &diffs));
                }
            },
        };
        changed.entry(table).or_default().push(change);
    }
    Ok(NetChanges { appended, changed })
}

/// Splits sorted rows where the table or the key changes.
fn chunk_by_key(rows: Vec<(Row, isize)>) -> impl Iterator<Item = Vec<(Row, isize)>> {
    let mut rows = rows.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = rows.next()?;
        let mut group = vec![first];
        while let Some(next) =
            rows.next_if(|(row, _)| row.table == group[0].0.table && row.key() == group[0].0.key())
        {
            group.push(next);
        }
        Some(group)
    })
}

fn not_one_row(tables: &Tables, row: &Row, diffs: &[isize]) -> anyhow::Error {
    anyhow::anyhow!(
        "query {} gives a key more or less than one row (differences {diffs:?}, key {:02x?}); \
         nothing was committed",
        tables.name(row.table),
        row.key()
    )
}

fn write_changes(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    changes: &[Change],
    told: Option<Epoch>,
) -> Result<()> {
    let come = || {
        changes.iter().filter_map(|change| match change {
            Change::Upsert(row) => Some((row, true)),
            Change::Delete(_) => None,
        })
    };
    let go = || {
        changes.iter().filter_map(|change| match change {
            Change::Upsert(_) => None,
            Change::Delete(row) => Some((row, false)),
        })
    };
    if go().next().is_some() {
        copy(tx, &statements.stage_gone, go())?;
        match told {
            Some(epoch) => tx.execute(&statements.delete_and_tell, &[&(epoch as i64)])?,
            None => tx.execute(&statements.delete, &[])?,
        };
    }
    if come().next().is_some() {
        copy(tx, &statements.stage, come())?;
        match told {
            Some(epoch) => tx.execute(&statements.upsert_and_tell, &[&(epoch as i64)])?,
            None => tx.execute(&statements.upsert, &[])?,
        };
    }
    Ok(())
}

/// Sends rows, whole or only their keys.
fn copy<'r>(
    tx: &mut Transaction<'_>,
    statement: &str,
    rows: impl Iterator<Item = (&'r Row, bool)>,
) -> Result<()> {
    let mut writer = tx.copy_in(statement)?;
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (row, whole) in rows {
        let value = if whole { row.value() } else { &[] };
        let fields = count_fields(row.key()) + count_fields(value);
        bytes.extend_from_slice(&fields.to_be_bytes());
        bytes.extend_from_slice(row.key());
        bytes.extend_from_slice(value);
        if bytes.len() > 64 << 10 {
            writer.write_all(&bytes)?;
            bytes.clear();
        }
    }
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    writer.write_all(&bytes)?;
    writer.finish()?;
    Ok(())
}

fn count_fields(bytes: &[u8]) -> i16 {
    let mut fields = Fields(bytes);
    let mut count = 0;
    while !fields.0.is_empty() {
        fields.bytes();
        count += 1;
    }
    count
}

fn write_tally(
    tx: &mut Transaction<'_>,
    (topic, partition): (Topic, u32),
    tally: &Tally,
    ledger_hash: i64,
) -> Result<()> {
    let reach = tally.reach;
    tx.execute(
        "INSERT INTO commit_offsets
             (topic, partition, next_offset, newest_at, counted, duplicate, dead, heartbeat, amount, hash,
              newest_offset, newest_by, other_at, reached_at, ledger_hash)
         VALUES ($1, $2, $3, 'epoch'::timestamptz + $4 * interval '1 ms', $5, $6, $7, $8, $9, $10,
                 $11, $12, 'epoch'::timestamptz + $13 * interval '1 ms',
                 'epoch'::timestamptz + $14 * interval '1 ms', $15)
         ON CONFLICT (topic, partition) DO UPDATE SET
             next_offset = excluded.next_offset, newest_at = excluded.newest_at,
             newest_offset = excluded.newest_offset, newest_by = excluded.newest_by,
             other_at = excluded.other_at, reached_at = excluded.reached_at,
             counted = excluded.counted, duplicate = excluded.duplicate, dead = excluded.dead,
             heartbeat = excluded.heartbeat, amount = excluded.amount, hash = excluded.hash,
             ledger_hash = excluded.ledger_hash",
        &[
            &topic.name(),
            &i64::from(partition),
            &(tally.next_offset as i64),
            &reach.map(|reach| reach.newest_at as f64),
            &(tally.counted as i64),
            &(tally.duplicate as i64),
            &(tally.dead as i64),
            &(tally.heartbeat as i64),
            &tally.amount,
            &(tally.hash as i64),
            &reach.map(|reach| reach.newest_offset as i64),
            &reach.and_then(|reach| reach.newest_by).map(i64::from),
            &reach.and_then(|reach| reach.other_at).map(|at| at as f64),
            &reach.and_then(|reach| reach.reached).map(|at| at as f64),
            &ledger_hash,
        ],
    )?;
    Ok(())
}

fn write_commit_point(
    tx: &mut Transaction<'_>,
    epoch: Epoch,
    now: Option<Millis>,
    tallies: &BTreeMap<(Topic, u32), Tally>,
) -> Result<()> {
    let mut offsets: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for ((topic, _partition), tally) in tallies {
        offsets.entry(topic.name()).or_default().push(tally.next_offset);
    }
    let offsets = serde_json::to_string(&offsets).context("writing the offsets as JSON")?;
    let counted: u64 = tallies.values().map(|tally| tally.counted).sum();
    let checksum = tallies.values().fold(0u64, |sum, tally| sum.wrapping_add(tally.hash));
    tx.execute(
        "INSERT INTO commit_points (epoch, now, offsets, counted, checksum, began_at, committed_at)
         VALUES ($1, 'epoch'::timestamptz + $2 * interval '1 ms', $3::text::jsonb, $4, $5,
                 transaction_timestamp(), clock_timestamp())",
        &[
            &(epoch as i64),
            &now.map(|now| now as f64),
            &offsets,
            &(counted as i64),
            &(checksum as i64),
        ],
    )?;
    // Who waits for commit points hears of it when it is one.
    tx.batch_execute("NOTIFY commit_point")?;
    Ok(())
}
