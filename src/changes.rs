//! The change feed of a result table: what came, changed and went with each commit point.
//!
//! Who follows a table says so in `followed_tables`, and renews that; the engine then keeps what it
//! changes there in `table_changes`, in the same transaction.
//!
//! Invariant: nothing between two commit points is missed. Who registers locks the row of `progress`
//! that each commit locks first, so a commit either ended before or sees the registration.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, IsolationLevel};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Stopwatch;
use crate::store;

/// How long after somebody followed last it is possible to take up the thread.
const LEASE: &str = "1 hour";
/// How often who follows says so again.
const RENEWAL: Duration = Duration::from_mins(5);
/// How soon one notices that one is to stop, at the latest.
const LOOK: Duration = Duration::from_millis(200);
/// Rows of a whole table that are told of at a time.
const CHUNK: usize = 1_000;

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// With what changes from now on.
    Now,
    /// With all rows, each an insert.
    Whole,
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

/// Tells of each commit point's changes at once, until told to stop or `tell` says no more.
pub fn follow(
    database: &postgres::Config,
    table: &str,
    begin: Begin,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&[Change]) -> Result<bool>,
) -> Result<()> {
    ensure!(
        store::result_tables().any(|(_, name)| name == table),
        "there is no result table `{table}`; there are {}",
        store::result_tables().map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    );
    let mut client = store::connect(database)?;
    client.batch_execute("SET TIME ZONE 'Asia/Seoul'; LISTEN commit_point")?;
    let (epoch, since) = register(&mut client, table)?;
    let mut last = match begin {
        Begin::Now => epoch,
        Begin::Whole => match tell_all(&mut client, table, tell)? {
            Some(epoch) => epoch,
            None => return Ok(()),
        },
        Begin::After(last) => {
            ensure!(last <= epoch, "commit point {last} has not come yet: the newest is {epoch}");
            ensure!(
                since <= last,
                "what changed in {table} is kept from commit point {since} on, not from {last}: \
                 begin anew with --whole"
            );
            last
        }
    };
    let mut registered = Stopwatch::start();
    while !stop() {
        if registered.elapsed() > RENEWAL {
            register(&mut client, table)?;
            registered = Stopwatch::start();
        }
        let (now, changes) = changes(&mut client, table, last)?;
        if !changes.is_empty() && !tell(&changes)? {
            return Ok(());
        }
        last = now;
        let mut heard = client.notifications();
        heard.timeout_iter(LOOK).next().context("waiting for commit points")?;
    }
    Ok(())
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

/// The newest commit point, and what changed after an earlier one.
fn changes(client: &mut Client, table: &str, last: i64) -> Result<(i64, Vec<Change>)> {
    let mut tx =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
    let row = tx.query_opt(
        "SELECT epoch, since FROM progress, followed_tables WHERE table_name = $1",
        &[&table],
    )?;
    let Some(row) = row else { bail!("nobody has kept what changed in {table}: begin anew") };
    let (epoch, since): (i64, i64) = (row.get(0), row.get(1));
    ensure!(
        since <= last,
        "too slow: what changed in {table} is only kept for an hour; begin anew"
    );
    let rows = tx.query(
        "SELECT epoch, change, \"row\"::text FROM table_changes
         WHERE table_name = $1 AND epoch > $2 ORDER BY epoch",
        &[&table, &last],
    )?;
    tx.commit()?;
    let change = |row: postgres::Row| -> Result<Change> {
        let json = RawValue::from_string(row.get(2))?;
        Ok(Change { commit_point: row.get(0), change: row.get(1), row: json })
    };
    Ok((epoch, rows.into_iter().map(change).collect::<Result<_>>()?))
}

/// Tells of all rows as they are at a commit point, and returns that.
fn tell_all(
    client: &mut Client,
    table: &str,
    tell: &mut dyn FnMut(&[Change]) -> Result<bool>,
) -> Result<Option<i64>> {
    let mut tx =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
    let epoch: i64 = tx.query_one("SELECT epoch FROM progress", &[])?.get(0);
    let sql = format!("SELECT row_to_json(t)::text FROM {table} AS t");
    let none: [&str; 0] = [];
    let mut rows = tx.query_raw(&sql, none)?;
    let mut chunk = Vec::new();
    loop {
        let row = rows.next()?;
        let over = row.is_none();
        if let Some(row) = row {
            let json = RawValue::from_string(row.get(0))?;
            chunk.push(Change { commit_point: epoch, change: "insert".into(), row: json });
        }
        if chunk.len() == CHUNK || (over && !chunk.is_empty()) {
            if !tell(&chunk)? {
                return Ok(None);
            }
            chunk.clear();
        }
        if over {
            return Ok(Some(epoch));
        }
    }
}

/// `marketday tail`: a line of JSON a change.
pub fn tail(
    database: &postgres::Config,
    table: &str,
    begin: Begin,
    stop: &dyn Fn() -> bool,
    out: &mut dyn Write,
) -> Result<()> {
    let ended = follow(database, table, begin, stop, &mut |changes| {
        for change in changes {
            serde_json::to_writer(&mut *out, change)?;
            writeln!(out)?;
        }
        out.flush()?;
        Ok(true)
    });
    match ended {
        // `tail ... | head` has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        ended => ended,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json =
            cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        kind.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}
