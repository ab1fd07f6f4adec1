//! The change feed of a result table: what came, changed and went with each commit point.
//!
//! Who follows a table says so in `followed_tables`, and renews that; the engine then keeps what it
//! changes there in `table_changes`, in the same transaction.
//!
//! Invariant: nothing between two commit points is missed. Who registers locks the row of `progress`
//! that each commit locks first, so a commit either ended before or sees the registration.

use std::io::{BufRead, BufReader, BufWriter, IntoInnerError, Seek, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, IsolationLevel, Row};
use serde::Serialize;
use serde_json::value::RawValue;
use tracing::warn;

use crate::platform::clock::Stopwatch;
use crate::platform::retry::{self, Patience};
use crate::store::{self, Columns, views};

/// How long after somebody followed last it is possible to take up the thread: an hour after the
/// last renewal, and some minutes more.
const LEASE: &str = "65 minutes";
/// How often who follows says so again.
const RENEWAL: Duration = Duration::from_mins(1);
/// How soon one notices that one is to stop, at the latest.
const LOOK: Duration = Duration::from_millis(200);
/// Rows that are told of at a time, if they are not of one commit point.
const CHUNK: usize = 10_000;
/// Bytes of a table that are kept in memory while it is told; what is more goes to a temporary file.
const SPOOL: usize = 16 << 20;

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// With what changes from now on.
    Now,
    /// With all rows, each an insert.
    Snapshot,
    /// With what changed after a commit point.
    After(i64),
}

/// What happened to a row.
#[derive(Serialize)]
pub struct Change {
    /// The commit point with which it happened.
    pub commit_point: i64,
    /// insert, update or delete.
    pub change: String,
    /// The row as it is then; as it was, where it is deleted.
    pub row: Box<RawValue>,
}

/// Hears of changes, and of the commit point up to which there are no others; says whether to go on.
pub type Tell<'a> = dyn FnMut(i64, &[Change]) -> Result<bool> + 'a;

/// A table that is followed.
pub struct Follower {
    client: Client,
    table: String,
    /// The commit point up to which all is told.
    last: i64,
    whole: bool,
    registered: Stopwatch,
}

impl Follower {
    /// Begins to follow a table, if it is one and what changed since then is kept.
    pub fn begin(database: &postgres::Config, table: &str, begin: Begin) -> Result<Follower> {
        let mut client = store::connect(database)?;
        let is_view = views::list(&mut client)?.iter().any(|view| view.name == table);
        let rows = views::kept(table);
        let table = if is_view { rows.as_str() } else { table };
        if !is_view {
            store::is_result_table(table)?;
        }
        if store::not_kept(&mut client)?.contains(&table) {
            warn!("{table} is not kept at present (--tables): nothing changes there");
        }
        client.batch_execute("SET TIME ZONE 'Asia/Seoul'; LISTEN commit_point")?;
        let registered = Stopwatch::start();
        let login = store::login(&mut client)?;
        let (epoch, since) = register(&mut client, table).map_err(|error| {
            if !retry::refused(&error) {
                return error;
            }
            error.context(format!(
                "saying that {table} is followed, for which it takes `GRANT SELECT, INSERT, UPDATE ON \
                 followed_tables TO {login}; GRANT SELECT, UPDATE (one) ON progress TO {login}`"
            ))
        })?;
        if let Begin::After(last) = begin {
            ensure!(last <= epoch, "commit point {last} has not come yet: the newest is {epoch}");
            ensure!(
                since <= last,
                "what changed in {table} is kept from commit point {since} on, not from {last}: \
                 begin anew with the whole table"
            );
        }
        let last = if let Begin::After(last) = begin { last } else { epoch };
        let whole = matches!(begin, Begin::Snapshot);
        Ok(Follower { client, table: table.to_owned(), last, whole, registered })
    }

    /// Tells of each commit point's changes at once, until told to stop or `tell` says no more. Now
    /// and then it tells of none, so that who hears knows how far they are.
    pub fn follow(mut self, stop: &dyn Fn() -> bool, tell: &mut Tell<'_>) -> Result<()> {
        if self.whole && !self.tell_all(stop, tell)? || !tell(self.last, &[])? {
            return Ok(());
        }
        while !stop() {
            if self.registered.elapsed() > RENEWAL {
                self.registered = Stopwatch::start();
                register(&mut self.client, &self.table)?;
                if !tell(self.last, &[])? {
                    return Ok(());
                }
            }
            let changes = self.changes()?;
            if !changes.is_empty() && !tell(self.last, &changes)? {
                return Ok(());
            }
            if changes.len() < CHUNK {
                store::wait_for_commit(&mut self.client, LOOK)?;
            }
        }
        Ok(())
    }

    /// What changed after the last commit point that was told of; moves that on.
    fn changes(&mut self) -> Result<Vec<Change>> {
        let Follower { client, table, last, .. } = self;
        let mut tx =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
        // With a lease that lapsed, the engine may have kept nothing for a while.
        let row = tx.query_opt(
            "SELECT epoch, since FROM progress, followed_tables
             WHERE table_name = $1 AND until > clock_timestamp()",
            &[table],
        )?;
        let kept = row.filter(|row| row.get::<_, i64>(1) <= *last);
        let Some(row) = kept else {
            bail!(
                "what changed in {table} is kept for an hour, and not beyond a rebuild: that is \
                 over, begin anew"
            )
        };
        let rows = tx.query(
            &format!(
                "SELECT epoch, change, \"row\"::text FROM table_changes
                 WHERE table_name = $1 AND epoch > $2
                   AND epoch <= coalesce((SELECT epoch FROM table_changes
                                          WHERE table_name = $1 AND epoch > $2
                                          ORDER BY epoch OFFSET {CHUNK} - 1 LIMIT 1), $3)
                 ORDER BY epoch"
            ),
            &[table, last, &row.get::<_, i64>(0)],
        )?;
        tx.commit()?;
        let change = |row: &Row| -> Result<Change> {
            let json = RawValue::from_string(row.get(2))?;
            Ok(Change { commit_point: row.get(0), change: row.get(1), row: json })
        };
        let changes: Vec<Change> = rows.iter().map(change).collect::<Result<_>>()?;
        *last = match changes.last() {
            Some(change) if changes.len() >= CHUNK => change.commit_point,
            _ => row.get(0),
        };
        Ok(changes)
    }

    /// Tells of all rows as they are at a commit point; says whether to go on. They are read to their
    /// end first: who hears of them may be slow, and an open snapshot keeps PostgreSQL from vacuuming.
    fn tell_all(&mut self, stop: &dyn Fn() -> bool, tell: &mut Tell<'_>) -> Result<bool> {
        let Follower { client, table, last, .. } = self;
        let keeping = || format!("keeping the rows of {table} aside in a temporary file");
        let mut spool = BufWriter::new(tempfile::spooled_tempfile(SPOOL));
        let mut tx =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
        *last = tx.query_one("SELECT epoch FROM progress", &[])?.get(0);
        let none: [&str; 0] = [];
        let columns = Columns::of(&mut tx, table)?.list();
        let rows =
            format!("SELECT row_to_json(it.*)::text FROM (SELECT {columns} FROM {table}) AS it");
        let mut rows = tx.query_raw(&rows, none)?;
        while let Some(row) = rows.next()? {
            if stop() {
                return Ok(false);
            }
            // JSON of one line.
            writeln!(spool, "{}", row.get::<_, &str>(0)).with_context(keeping)?;
        }
        drop(rows);
        tx.commit()?;
        let mut spool =
            spool.into_inner().map_err(IntoInnerError::into_error).with_context(keeping)?;
        spool.rewind().with_context(keeping)?;
        let mut chunk = Vec::new();
        for row in BufReader::new(spool).lines() {
            let json = RawValue::from_string(row.with_context(keeping)?)?;
            chunk.push(Change { commit_point: *last, change: "insert".into(), row: json });
            if chunk.len() == CHUNK {
                if stop() || !tell(*last, &chunk)? {
                    return Ok(false);
                }
                chunk.clear();
            }
        }
        tell(*last, &chunk)
    }
}

/// Has the changes of a table kept. Returns the newest commit point, and the one after which they are.
fn register(client: &mut Client, table: &str) -> Result<(i64, i64)> {
    let mut tx = client.transaction()?;
    let epoch: i64 = tx.query_one("SELECT epoch FROM progress FOR UPDATE", &[])?.get(0);
    let row = tx.query_one(
        &format!(
            "INSERT INTO followed_tables AS known (table_name, since, until)
             VALUES ($1, $2, clock_timestamp() + interval '{LEASE}')
             ON CONFLICT (table_name) DO UPDATE SET
                 since = CASE WHEN known.until > clock_timestamp() THEN known.since
                              ELSE excluded.since END,
                 until = excluded.until
             RETURNING since"
        ),
        &[&table, &epoch],
    )?;
    tx.commit().with_context(|| format!("saying that {table} is followed"))?;
    Ok((epoch, row.get(0)))
}

/// Follows a table as [`Follower`] does, through a store that goes away and comes back: then from the
/// last commit point that was told of. The first connection is the caller's to make.
pub fn follow_on(
    database: &postgres::Config,
    follower: Follower,
    stop: &dyn Fn() -> bool,
    tell: &mut Tell<'_>,
) -> Result<()> {
    let table = follower.table.clone();
    // What a table holds as a whole is told once: cut off in there, nobody could go on.
    let mut reached = (!follower.whole).then_some(follower.last);
    let mut follower = Some(follower);
    let mut ended = None;
    let outcome = retry::again(Patience::Ever, stop, || {
        let follower = match (follower.take(), reached) {
            (Some(follower), _) => follower,
            (None, Some(last)) => Follower::begin(database, &table, Begin::After(last))?,
            (None, None) => return Ok(()),
        };
        let result = follower.follow(stop, &mut |last, changes| {
            if changes.is_empty() || reached.is_some() {
                reached = Some(last);
            }
            tell(last, changes)
        });
        match result {
            Err(error) if reached.is_none() => {
                ended = Some(error);
                Ok(())
            }
            result => result,
        }
    });
    ended.map_or(outcome, Err)
}

/// `marketday tail`: a line of JSON a change.
pub fn tail(
    database: &postgres::Config,
    table: &str,
    begin: Begin,
    stop: &dyn Fn() -> bool,
    out: &mut dyn Write,
) -> Result<()> {
    let follower = Follower::begin(database, table, begin)?;
    follow_on(database, follower, stop, &mut |_, changes| {
        for change in changes {
            serde_json::to_writer(&mut *out, change)?;
            writeln!(out)?;
        }
        out.flush()?;
        Ok(true)
    })
}
