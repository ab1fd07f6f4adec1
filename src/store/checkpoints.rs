//! What the store says of the analytics' checkpoints: whether it has what one is of, and which there are.

use anyhow::{Context, Result, ensure};
use dataflows::Epoch;
use postgres::{Client, Row, Transaction};
use serde::{Deserialize, Serialize};

use super::taken_over;

/// A commit point, by all that it says of what was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its epoch.
    pub epoch: Epoch,
    /// The offsets behind what was read, by topic, as JSON.
    pub offsets: String,
    counted: i64,
    checksum: i64,
    now: Option<i64>,
}

impl Point {
    fn of(row: &Row) -> Point {
        Point {
            epoch: row.get::<_, i64>(0) as Epoch,
            offsets: row.get(1),
            counted: row.get(2),
            checksum: row.get(3),
            now: row.get(4),
        }
    }
}

/// The epoch that an engine has committed last.
pub fn epoch(client: &mut Client, generation: i64) -> Result<Epoch> {
    let sql = "SELECT epoch FROM progress WHERE generation = $1";
    let row = client.query_opt(sql, &[&generation]).context("asking what is committed")?;
    let row = row.ok_or_else(|| taken_over(generation))?;
    Ok(row.get::<_, i64>(0) as Epoch)
}

/// The commit point of an epoch.
pub fn point(client: &mut Client, epoch: Epoch) -> Result<Option<Point>> {
    let sql =
        "SELECT epoch, offsets::text, counted, checksum, (extract(epoch FROM now) * 1000)::bigint
               FROM commit_points WHERE epoch = $1";
    let row = client.query_opt(sql, &[&(epoch as i64)]).context("asking for a commit point")?;
    Ok(row.as_ref().map(Point::of))
}

/// The checkpoints that all workers have and that nobody of another form has written after, the newest first:
/// what each is of, and how many workers they were. None of a store of an older version, before the hashes of
/// its ledgers are known.
pub fn complete(client: &mut Client) -> Result<Vec<(Point, usize)>> {
    let sql = "SELECT p.epoch, offsets::text, counted, checksum, (extract(epoch FROM now) * 1000)::bigint,
                      workers
               FROM commit_points AS p
               JOIN (SELECT epoch, max(workers) AS workers FROM checkpoints
                     GROUP BY epoch HAVING count(*) = max(workers)) AS taken ON taken.epoch = p.epoch
               WHERE NOT EXISTS (SELECT FROM commit_offsets WHERE ledger_hash IS NULL)
               ORDER BY p.epoch DESC";
    let rows = client.query(sql, &[]).context("asking for checkpoints")?;
    Ok(rows.iter().map(|row| (Point::of(row), row.get::<_, i64>(5) as usize)).collect())
}

/// Says which checkpoints a worker has, the newest first.
pub fn tell(
    client: &mut Client,
    generation: i64,
    (worker, workers): (usize, usize),
    form: &str,
    epochs: &[Epoch],
    bytes: u64,
) -> Result<()> {
    let (worker, workers, bytes) = (worker as i64, workers as i64, bytes as i64);
    let epochs: Vec<i64> = epochs.iter().map(|epoch| *epoch as i64).collect();
    let mut tx = client.transaction()?;
    let mine = "SELECT FROM progress WHERE generation = $1 FOR SHARE";
    ensure!(tx.query_opt(mine, &[&generation])?.is_some(), taken_over(generation));
    tx.execute(
        "DELETE FROM checkpoints WHERE workers <> $1 OR worker = $2 AND epoch <> ALL ($3)",
        &[&workers, &worker, &epochs],
    )?;
    tx.execute(
        "INSERT INTO checkpoints (worker, workers, epoch, form, bytes) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (worker, epoch) DO UPDATE SET bytes = excluded.bytes, taken_at = excluded.taken_at",
        &[&worker, &workers, &epochs.first(), &form, &bytes],
    )?;
    tx.commit().context("saying that there is a checkpoint")
}

/// The newest checkpoint that all workers have.
#[derive(Debug, Serialize)]
pub struct Newest {
    /// The epoch of its commit point.
    pub epoch: i64,
    /// When the last of the workers had it.
    pub taken_at: String,
    /// How long that is ago.
    pub seconds_ago: i64,
    /// All files.
    pub bytes: i64,
}

/// The newest checkpoint, if there is one, and a start would go on from it: where views stand it does not.
pub fn newest(client: &mut Client) -> Result<Option<Newest>> {
    let sql = "SELECT epoch, max(taken_at)::text,
                      extract(epoch FROM clock_timestamp() - max(taken_at))::bigint, sum(bytes)::bigint
               FROM checkpoints WHERE NOT EXISTS (SELECT FROM standing_views WHERE NOT dropped)
               GROUP BY epoch HAVING count(*) = max(workers)
               ORDER BY epoch DESC LIMIT 1";
    let row = client.query_opt(sql, &[]).context("asking for checkpoints")?;
    Ok(row.map(|row| Newest {
        epoch: row.get(0),
        taken_at: row.get(1),
        seconds_ago: row.get(2),
        bytes: row.get(3),
    }))
}

/// Takes all away, unless the store is another engine's by now.
pub(super) fn forget(client: &mut Client, generation: i64) -> Result<()> {
    let sql = "DELETE FROM checkpoints WHERE EXISTS (SELECT FROM progress WHERE generation = $1)";
    client.execute(sql, &[&generation]).context("taking the checkpoints away")?;
    Ok(())
}

/// Takes away those of another form than that of the engine that claims the store.
pub(super) fn only(tx: &mut Transaction<'_>, form: &str) -> Result<()> {
    tx.execute("DELETE FROM checkpoints WHERE form <> $1", &[&form])?;
    Ok(())
}
