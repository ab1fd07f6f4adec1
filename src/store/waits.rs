//! What the analytics wait for that is not theirs, and what holds back the market time: told outside the
//! commits, for those who look.

use std::time::Duration;

use anyhow::Result;
use postgres::Client;
use serde::Serialize;

use super::SESSION;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The end of a transaction that is open in a partition.
    Transaction,
    /// Records that the log holds and does not give.
    Partition,
    /// An answer of the brokers.
    Brokers,
    /// A lock in PostgreSQL.
    Lock,
}

impl What {
    const ALL: [What; 4] = [What::Transaction, What::Partition, What::Brokers, What::Lock];

    fn word(self) -> &'static str {
        match self {
            What::Transaction => "transaction",
            What::Partition => "partition",
            What::Brokers => "brokers",
            What::Lock => "lock",
        }
    }
}

/// A wait that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// For what.
    pub what: What,
    /// The partition, as `orders-1`, or nothing.
    pub place: String,
    /// For how long.
    pub seconds: i64,
    /// From where on the partition cannot be read.
    pub offset: Option<i64>,
    /// Offsets of the log from there to its end.
    pub records: Option<i64>,
    /// Who holds the lock, or what the client of the brokers says.
    pub told: Option<String>,
}

impl std::fmt::Display for Wait {
    /// As a sentence that begins with `waits`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Wait { what, place, seconds, offset, records, told } = self;
        let (offset, records) = (offset.unwrap_or(0), records.unwrap_or(0));
        let told = told.as_deref().unwrap_or_default();
        write!(f, "for {seconds} s for ")?;
        match what {
            What::Transaction => write!(
                f,
                "the end of a transaction that a producer holds open in {place} from offset {offset} \
                 on: up to then the {records} records from there on are not read"
            ),
            What::Partition => write!(
                f,
                "{records} records of {place} from offset {offset} on, which the log holds and does not give"
            ),
            What::Brokers if told.is_empty() => write!(f, "an answer of the brokers"),
            What::Brokers => write!(f, "an answer of the brokers: {told}"),
            What::Lock => write!(f, "a lock that {told}"),
        }
    }
}

/// Who keeps a session of marketday waiting for a lock, if one waits, and by which statement: the session
/// of that backend, or the one that has waited longest. What a statement says is not for everybody.
pub fn waits_for_lock(client: &mut Client, backend: Option<i32>) -> Result<Option<(Wait, String)>> {
    let row = client.query_opt(
        "SELECT (extract(epoch FROM clock_timestamp() - waiting.query_start))::bigint,
                format('backend %s (%s) holds', holder.pid,
                       coalesce(nullif(holder.application_name, ''), 'unnamed')),
                coalesce(left(regexp_replace(holder.query, '[[:space:]]+', ' ', 'g'), 80), '')
         FROM pg_stat_activity AS waiting
         CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
         JOIN pg_stat_activity AS holder ON holder.pid = blocking.pid
         WHERE waiting.wait_event_type = 'Lock' AND waiting.datname = current_database()
           AND (waiting.pid = $1 OR $1 IS NULL AND waiting.application_name = $2)
         ORDER BY waiting.query_start, holder.pid LIMIT 1",
        &[&backend, &SESSION],
    )?;
    Ok(row.map(|row| {
        let (what, place, told) = (What::Lock, String::new(), Some(row.get(1)));
        let wait = Wait { what, place, seconds: row.get(0), offset: None, records: None, told };
        (wait, row.get(2))
    }))
}

/// Writes what a process waits for now, in place of what it waited for before.
pub fn write_waits(
    tx: &mut postgres::Transaction<'_>,
    process: usize,
    waits: &[Wait],
) -> Result<()> {
    let process = process as i64;
    tx.execute(
        "DELETE FROM waits
         WHERE process = $1 OR written_at < clock_timestamp() - interval '1 min'",
        &[&process],
    )?;
    for Wait { what, place, seconds, offset, records, told } in waits {
        let (what, seconds) = (what.word(), *seconds as f64);
        tx.execute(
            "INSERT INTO waits
             VALUES ($1, $2, $3, clock_timestamp() - $4 * interval '1 s', $5, $6, $7,
                     clock_timestamp())",
            &[&process, &what, place, &seconds, offset, records, told],
        )?;
    }
    Ok(())
}

/// What the analytics wait for, as they have told within the last seconds.
pub fn waits(client: &mut Client) -> Result<Vec<Wait>> {
    let rows = client.query(
        "SELECT what, place, extract(epoch FROM clock_timestamp() - since)::bigint, \"offset\", records,
                told
         FROM current_waits ORDER BY what, place",
        &[],
    )?;
    let wait = |row: &postgres::Row| {
        let word: String = row.get(0);
        // Another version may know more.
        let what = What::ALL.into_iter().find(|what| what.word() == word)?;
        let (place, seconds, offset) = (row.get(1), row.get(2), row.get(3));
        Some(Wait { what, place, seconds, offset, records: row.get(4), told: row.get(5) })
    };
    Ok(rows.iter().filter_map(wait).collect())
}

/// What the market time does not follow: a partition of `orders` that holds it back, or is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutOfStep {
    /// Which partition.
    pub partition: i64,
    /// Whether the market time goes on without it; else it waits for it.
    pub left_out: bool,
    /// Up to when it has been read, in ms; none where no two customers have spoken there.
    pub reached: Option<i64>,
    /// How far the furthest partition is ahead of that, in s.
    pub behind: Option<i64>,
}

/// The partitions of `orders` that are so far behind the furthest that it is worth a word.
pub fn out_of_step(client: &mut Client) -> Result<Vec<OutOfStep>> {
    let rows = client.query(
        "SELECT partition, part = 'left out', (extract(epoch FROM reached_at) * 1000)::bigint,
                extract(epoch FROM behind)::bigint
         FROM times_reached WHERE part <> '' ORDER BY partition",
        &[],
    )?;
    let one = |row: &postgres::Row| OutOfStep {
        partition: row.get(0),
        left_out: row.get(1),
        reached: row.get(2),
        behind: row.get(3),
    };
    Ok(rows.iter().map(one).collect())
}

/// A wait for something in a partition.
pub fn at(what: What, place: String, lasts: Duration, from: u64, end: u64) -> Wait {
    let (seconds, records) = (lasts.as_secs() as i64, end.saturating_sub(from) as i64);
    let (offset, records) = (Some(from as i64), Some(records));
    Wait { what, place, seconds, offset, records, told: None }
}
