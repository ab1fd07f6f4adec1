//! Writing an epoch, or several merged ones, in one transaction.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Error, Result, anyhow, ensure};
use dataflows::Epoch;
use dataflows::analytics::{BASE_TABLES, Tables, ledger_table};
use dataflows::ledger::{Tally, place};
use dataflows::model::{Millis, Topic};
use dataflows::row::{Fate, Fields, RowBatch, RowRef};
use postgres::error::SqlState;
use postgres::{Client, Statement, ToStatement, Transaction};

use super::hydrate::row_hash;
use super::{Claim, Columns, indexes, stored};
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

/// The statements that change one result table.
struct Statements {
    /// Takes rows whose keys are new.
    insert: Statement,
    /// Takes the others, for `update`.
    stage: Statement,
    update: Statement,
    /// Takes keys that go, for `delete`.
    stage_gone: Statement,
    delete: Statement,
    /// Puts what goes into `table_changes`, too.
    delete_and_tell: Statement,
    /// Puts what is in the stage into `table_changes`, as that which a parameter says.
    tell: Statement,
    clear_stage: Statement,
}

/// What a commit writes, by table.
#[derive(Default)]
pub struct Writes {
    batches: Vec<RowBatch>,
    /// Rows of base tables, in the order in which they came.
    appended: BTreeMap<u16, Vec<Place>>,
    /// What becomes of result tables.
    changes: BTreeMap<u16, Changes>,
}

/// In which batch a row is, and where in it.
type Place = (u32, u32);

/// What becomes of one result table: of each key at most one row in one of these, by ascending keys.
#[derive(Default)]
struct Changes {
    /// Rows of keys that the table does not have.
    new: Vec<Place>,
    /// Rows of keys of which it has another row.
    changed: Vec<Place>,
    /// Rows that it has and whose keys go.
    gone: Vec<Place>,
}

impl Writes {
    /// Sorts rows out: appended ones by ledger, the others by table and by what becomes of their keys.
    ///
    /// A key has at most one row. Anything else is a bug in a query, and nothing of it may be committed.
    pub fn of(batches: Vec<RowBatch>, tables: &Tables) -> Result<Writes> {
        let mut writes = Writes { batches, ..Writes::default() };
        let mut results: BTreeMap<u16, Vec<(u128, Place)>> = BTreeMap::new();
        for (batch, rows) in (0..).zip(&writes.batches) {
            for (index, row) in (0..).zip(rows.iter()) {
                let place = (batch, index);
                if usize::from(row.table) < BASE_TABLES.len() {
                    writes.appended.entry(row.table).or_default().push(place);
                } else {
                    results.entry(row.table).or_default().push((beginning(row.key()), place));
                }
            }
        }
        for (table, mut rows) in results {
            let of = |place| writes.row(place);
            rows.sort_unstable_by(|(a, of_a), (b, of_b)| {
                let rest = || {
                    let (a, b) = (of(*of_a), of(*of_b));
                    a.key().cmp(b.key()).then_with(|| a.fate.cmp(&b.fate))
                };
                a.cmp(b).then_with(rest)
            });
            let mut changes = Changes::default();
            let mut rows = rows.into_iter().map(|(_, place)| place).peekable();
            while let Some(place) = rows.next() {
                let row = of(place);
                let next = rows.next_if(|next| of(*next).key() == row.key()).map(of);
                match (row.fate, next) {
                    (Fate::New, None) => changes.new.push(place),
                    (Fate::Gone | Fate::Stored, None) => changes.gone.push(place),
                    // At the first commit of an engine, all rows are new to it.
                    (Fate::New, Some(it))
                        if it.fate == Fate::Stored && it.fields() == row.fields() => {}
                    (Fate::Changed, None) => changes.changed.push(place),
                    (Fate::New, Some(it)) if it.fate == Fate::Stored => {
                        changes.changed.push(place);
                    }
                    (_, Some(other)) => return Err(not_one_row(tables, row, other.fate)),
                }
            }
            writes.changes.insert(table, changes);
        }
        Ok(writes)
    }

    /// Number of rows that came.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RowBatch::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn row(&self, (batch, index): Place) -> RowRef<'_> {
        self.batches[batch as usize].get(index as usize)
    }

    fn rows<'w>(&'w self, places: &'w [Place]) -> impl Iterator<Item = RowRef<'w>> {
        places.iter().map(|place| self.row(*place))
    }
}

/// The first bytes of a key, which tell keys of one number apart.
fn beginning(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let known = key.len().min(bytes.len());
    bytes[..known].copy_from_slice(&key[..known]);
    u128::from_be_bytes(bytes)
}

impl Committer {
    /// Prepares the session: for each result table a stage for rows that change and one for keys
    /// that go. They live as long as the session, since new ones for each commit would bloat the
    /// catalog.
    pub fn new(mut client: Client, claim: &Claim, kept: &Tables) -> Result<Committer> {
        // The changes that are told of have instants in them. And a stage is looked up in its table row
        // by row: PostgreSQL does not know how much is in it, and might read the whole table instead.
        client.batch_execute(
            "SET TIME ZONE 'Asia/Seoul'; SET enable_hashjoin = off; SET enable_mergejoin = off",
        )?;
        let mut tables = BTreeMap::new();
        // In one transaction: at the end of each, PostgreSQL empties all stages that there are.
        let mut tx = client.transaction().context("making the stages of the tables")?;
        for (table, name) in kept.results() {
            tables.insert(table, Statements::prepare(&mut tx, table, name)?);
        }
        tx.commit().context("making the stages of the tables")?;
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

    /// Makes what only those need who look on: to be called when all is committed that there is.
    pub fn settle(&mut self) -> Result<()> {
        indexes::build(&mut self.client)
    }

    /// Lets no start go on from a checkpoint: the tables may not be what the graph takes them for.
    pub fn forget_checkpoints(&mut self) -> Result<()> {
        super::checkpoints::forget(&mut self.client, self.generation)
    }

    /// Commits what has changed up to and including `epoch`, or nothing: `read` is what became of the records
    /// since the last commit.
    pub fn commit(
        &mut self,
        epoch: Epoch,
        writes: &Writes,
        read: &BTreeMap<(Topic, u32), Tally>,
        now: Option<Millis>,
    ) -> Result<()> {
        let mut tallies = self.tallies.clone();
        for (partition, tally) in read {
            tallies.entry(*partition).or_default().add(tally);
        }
        let now = self.now.max(now);
        let having_read = || read_of(&self.tallies, read);
        for table in writes.changes.keys() {
            // Those of standing views come while the engine runs.
            if !self.tables.contains_key(table) {
                let name = self.kept.name(*table);
                let mut tx = self.client.transaction().context("making the stage of a view")?;
                let statements = Statements::prepare(&mut tx, *table, &name)?;
                tx.commit().context("making the stage of a view")?;
                self.tables.insert(*table, statements);
            }
        }

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
        for (table, places) in &writes.appended {
            let rows = || writes.rows(places);
            copy(&mut tx, &copy_in(&self.kept.name(*table)), rows().map(|row| row.fields()))
                .map_err(|error| match refused_line(&error).and_then(|line| rows().nth(line)) {
                    Some(row) => error.context(format!("appending {}", origin(row))),
                    None => error,
                })
                .map_err(|error| {
                    tried(error, "appending to", &self.kept.name(*table), having_read)
                })?;
            if let Some(topic) = topic_of(*table) {
                for row in rows() {
                    let (_event_id, partition, _offset) = place(topic, &mut Fields(row.value()));
                    let hash = ledgers.entry((topic, partition)).or_default();
                    *hash = hash.wrapping_add(row_hash(row.value()));
                }
            }
        }
        crash::point("copy");
        for (table, changes) in &writes.changes {
            let name = &*self.kept.name(*table);
            let told = followed.contains(&name).then_some(epoch);
            write_changes(&mut tx, &self.tables[table], writes, changes, told)
                .map_err(changed_by_hand)
                .map_err(|error| tried(error, "changing", name, having_read))?;
        }
        for (place, tally) in &tallies {
            if read.contains_key(place) {
                let ledger_hash = ledgers.get(place).copied().unwrap_or_default();
                write_tally(&mut tx, *place, tally, ledger_hash)?;
            }
        }
        write_commit_point(&mut tx, epoch, now, &tallies)?;
        self.commits += 1;
        if self.commits.is_multiple_of(COMMITS_PER_THINNING) {
            tx.batch_execute(THIN)?;
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
    match read() {
        read if read.is_empty() || retry::lost(&error) => error.context(tried),
        read => error.context(format!("{tried}, having read {read}")),
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

/// Which of the rows that were copied PostgreSQL did not take: it names the line.
fn refused_line(error: &Error) -> Option<usize> {
    let refusal = error.downcast_ref::<postgres::Error>()?.as_db_error()?.where_()?;
    // In the server's language; a base table's name has no digit.
    let line = refusal.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    line.parse::<usize>().ok()?.checked_sub(1)
}

/// Whose ledger a table is.
fn topic_of(table: u16) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| ledger_table(*topic) == table)
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
fn origin(row: RowRef<'_>) -> String {
    if let Some(topic) = topic_of(row.table) {
        let (event_id, partition, offset) = place(topic, &mut Fields(row.value()));
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

/// Keeps all commit points of the last hour, and of each minute before that the last one; and the
/// changes of an hour, of what is followed.
const THIN: &str = "
    SET LOCAL enable_hashjoin = on;
    DELETE FROM commit_points AS old
    WHERE committed_at < clock_timestamp() - interval '1 hour'
      AND EXISTS (SELECT FROM commit_points AS later
                  WHERE later.epoch > old.epoch
                    AND date_trunc('minute', later.committed_at)
                        = date_trunc('minute', old.committed_at))
      AND NOT EXISTS (SELECT FROM checkpoints WHERE checkpoints.epoch = old.epoch);
    DELETE FROM followed_tables WHERE until < clock_timestamp();
    UPDATE followed_tables SET since = greatest(since, (
        SELECT max(epoch) FROM commit_points
        WHERE committed_at < clock_timestamp() - interval '1 hour'));
    DELETE FROM table_changes AS old USING followed_tables AS followed
    WHERE old.table_name = followed.table_name AND old.epoch <= followed.since;
    DELETE FROM table_changes
    WHERE table_name NOT IN (SELECT table_name FROM followed_tables)";

fn copy_in(table: &str) -> String {
    let (table, columns) = stored(table);
    let columns = columns.map(|columns| format!(" ({columns})")).unwrap_or_default();
    format!("COPY {table}{columns} FROM STDIN (FORMAT binary)")
}

fn not_one_row(tables: &Tables, row: RowRef<'_>, other: Fate) -> Error {
    anyhow!(
        "query {} gives a key more than one row ({:?}, key {:02x?}); nothing was committed",
        tables.name(row.table),
        [row.fate, other],
        row.key()
    )
}

impl Statements {
    fn prepare(client: &mut Transaction<'_>, table: u16, name: &str) -> Result<Statements> {
        // By the number: a view may come again under the name of another.
        let (stage, goes) = (format!("stage_{table}"), format!("gone_{table}"));
        let columns = Columns::of(client, name)?;
        let (key, list) = (columns.key.join(", "), columns.list());
        client
            .batch_execute(&format!(
                "CREATE TEMP TABLE {stage} ON COMMIT DELETE ROWS AS
                     SELECT {list} FROM {name} WITH NO DATA;
                 CREATE TEMP TABLE {goes} ON COMMIT DELETE ROWS AS
                     SELECT {key} FROM {name} WITH NO DATA"
            ))
            .with_context(|| format!("making temporary tables for what changes in {name}"))?;
        let each = |columns: &[String], and: &str, of: &dyn Fn(&String) -> String| {
            columns.iter().map(of).collect::<Vec<_>>().join(and)
        };
        let of_row =
            each(&[&columns.key[..], &columns.value].concat(), ", ", &|it| format!("t.{it}"));
        let is_it = each(&columns.key, " AND ", &|it| format!("t.{it} = its.{it}"));
        // A row that is all key does not change.
        let value = if columns.value.is_empty() { &columns.key } else { &columns.value };
        let set = each(value, ", ", &|it| format!("{it} = its.{it}"));
        let delete = format!("DELETE FROM {name} AS t USING {goes} AS its WHERE {is_it}");
        let mut prepare = |sql: &str| {
            client.prepare(sql).with_context(|| format!("preparing to write to {name}: {sql}"))
        };
        Ok(Statements {
            insert: prepare(&format!("COPY {name} ({list}) FROM STDIN (FORMAT binary)"))?,
            stage: prepare(&copy_in(&stage))?,
            update: prepare(&format!(
                "UPDATE {name} AS t SET {set} FROM {stage} AS its WHERE {is_it}"
            ))?,
            stage_gone: prepare(&copy_in(&goes))?,
            delete_and_tell: prepare(&format!(
                "WITH told AS ({delete} RETURNING (SELECT row_to_json(it.*)
                                                    FROM (SELECT {of_row}) AS it) AS row)
                 INSERT INTO table_changes SELECT $1, '{name}', 'delete', row FROM told"
            ))?,
            delete: prepare(&delete)?,
            tell: prepare(&format!(
                "INSERT INTO table_changes
                 SELECT $1, '{name}', $2, row_to_json(its.*) FROM {stage} AS its"
            ))?,
            clear_stage: prepare(&format!("DELETE FROM {stage}"))?,
        })
    }
}

/// Writes what becomes of a table; tells it of the epoch where somebody follows the table.
fn write_changes(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    writes: &Writes,
    Changes { new, changed, gone }: &Changes,
    told: Option<Epoch>,
) -> Result<()> {
    let told = told.map(|epoch| epoch as i64);
    let whole = |places| writes.rows(places).map(|row| row.fields());
    if !gone.is_empty() {
        copy(tx, &statements.stage_gone, writes.rows(gone).map(|row| row.key()))?;
        match told {
            Some(epoch) => tx.execute(&statements.delete_and_tell, &[&epoch])?,
            None => tx.execute(&statements.delete, &[])?,
        };
    }
    if !new.is_empty() {
        copy(tx, &statements.insert, whole(new))?;
        if let Some(epoch) = told {
            copy(tx, &statements.stage, whole(new))?;
            tx.execute(&statements.tell, &[&epoch, &"insert"])?;
            tx.execute(&statements.clear_stage, &[])?;
        }
    }
    if !changed.is_empty() {
        copy(tx, &statements.stage, whole(changed))?;
        let there = tx.execute(&statements.update, &[])?;
        ensure!(
            there == changed.len() as u64,
            "of {} rows that change {there} are there; {BY_HAND}",
            changed.len()
        );
        if let Some(epoch) = told {
            tx.execute(&statements.tell, &[&epoch, &"update"])?;
        }
    }
    Ok(())
}

/// What has happened where a table does not have the keys that the engine has given it.
const BY_HAND: &str = "somebody else has changed the table: the next start reads it as it is and puts it right, and `marketday analytics --rebuild` makes all tables anew";

/// The error of changing a table, with what to do where a key that is new is there already.
fn changed_by_hand(error: Error) -> Error {
    let refused = error.downcast_ref::<postgres::Error>().and_then(postgres::Error::code);
    if refused == Some(&SqlState::UNIQUE_VIOLATION) {
        error.context(format!("a row that is new is there already; {BY_HAND}"))
    } else {
        error
    }
}

/// Sends rows: all of their fields, or their keys'.
fn copy<'r>(
    tx: &mut Transaction<'_>,
    statement: &(impl ToStatement + ?Sized),
    rows: impl Iterator<Item = &'r [u8]>,
) -> Result<()> {
    let mut writer = tx.copy_in(statement)?;
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    // All rows of a table have the same columns.
    let mut fields = None;
    for row in rows {
        let fields = *fields.get_or_insert_with(|| count_fields(row).to_be_bytes());
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(row);
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
    for ((topic, partition), tally) in tallies {
        // By their places: one that no worker has named yet has 0.
        let of_topic = offsets.entry(topic.name()).or_default();
        of_topic.resize(*partition as usize, 0);
        of_topic.push(tally.next_offset);
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

#[cfg(test)]
mod tests {
    use dataflows::QUERIES;
    use dataflows::row::Fate::{Changed, Gone, New, Stored};
    use dataflows::row::{Cell, Row};

    use super::*;

    const TABLE: u16 = BASE_TABLES.len() as u16;

    fn row(key: &str, value: i64) -> Row {
        Row::new(TABLE, &[Cell::Text(key)], &[Cell::Int(value)])
    }

    /// Each row in a batch of its own.
    fn net(rows: &[(&str, i64, Fate)]) -> Result<[Vec<Row>; 3]> {
        let batches = rows.iter().map(|(key, value, fate)| {
            let mut batch = RowBatch::default();
            batch.push(&row(key, *value), *fate);
            batch
        });
        let writes = Writes::of(batches.collect(), &Tables::of(QUERIES))?;
        assert!(writes.appended.is_empty() && writes.changes.len() < 2);
        let none = Changes::default();
        let Changes { new, changed, gone } = writes.changes.get(&TABLE).unwrap_or(&none);
        Ok([new, changed, gone].map(|it| writes.rows(it).map(|row| row.to_row()).collect()))
    }

    #[test]
    fn rows_stand_by_what_becomes_of_their_keys() {
        let rows = [
            // The greater key is the shorter one.
            ("dd", 2, New),
            ("c", 7, New),
            ("f", 3, Changed),
            ("e", 1, Changed),
            ("g", 1, Gone),
            // The first commit: the same, another, none.
            ("m", 1, Stored),
            ("m", 1, New),
            ("n", 1, Stored),
            ("n", 2, New),
            ("o", 1, Stored),
        ];
        let expected = [
            vec![row("c", 7), row("dd", 2)],
            vec![row("e", 1), row("f", 3), row("n", 2)],
            vec![row("g", 1), row("o", 1)],
        ];
        assert_eq!(net(&rows).unwrap(), expected);
        let mut turned = rows;
        turned.reverse();
        assert_eq!(net(&turned).unwrap(), expected, "in any order");
        assert_eq!(net(&[]).unwrap(), [vec![], vec![], vec![]]);
    }

    /// Keys that begin alike are told apart by what follows.
    #[test]
    fn keys_that_share_a_long_beginning_are_told_apart() {
        let keys = ["b", "a", "d", "c"].map(|last| format!("a beginning of many bytes {last}"));
        let rows = [(0, New), (1, Changed), (2, Stored), (3, New), (2, New), (0, Stored)];
        let rows = rows.map(|(key, fate)| (keys[key].as_str(), 1, fate));
        let [b, a, _, c] = [0, 1, 2, 3].map(|key: usize| row(&keys[key], 1));
        assert_eq!(net(&rows[1..5]).unwrap(), [vec![c.clone()], vec![a.clone()], vec![]]);
        assert_eq!(net(&rows[..4]).unwrap()[0], [b, c]);
        let twice = [rows[3], rows[0], rows[1], (rows[3].0, 2, New)];
        assert!(net(&twice).is_err());
    }

    #[test]
    fn a_key_with_more_than_one_row_is_refused() {
        for rows in [
            &[("a", 1, New), ("a", 2, New)][..],
            &[("a", 1, New), ("a", 1, New)],
            &[("a", 1, Changed), ("a", 2, New)],
            &[("a", 1, Gone), ("a", 2, New)],
            &[("a", 1, Gone), ("a", 2, Gone)],
            &[("a", 1, Stored), ("a", 2, Stored)],
            &[("a", 1, Stored), ("a", 2, Changed)],
            &[("a", 1, New), ("a", 2, New), ("a", 3, Stored)],
        ] {
            let rows = [&[("Z", 1, New)], rows, &[("b", 1, New)]].concat();
            let error = net(&rows).unwrap_err().to_string();
            let (query, key) = (QUERIES[0].name, "[00, 00, 00, 01, 61]");
            let sentence = format!("query {query} gives a key more than one row");
            assert!(error.starts_with(&sentence) && error.contains(key), "{error}");
            assert!(error.ends_with("nothing was committed"), "{error}");
        }
    }
}
