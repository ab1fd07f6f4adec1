//! `marketday status`: partitions, lag, the commit point, rates and memory, from the store.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::store;

#[derive(Serialize)]
struct Status {
    /// Market time of the results.
    now: Option<String>,
    epoch: i64,
    generation: i64,
    committed_at: Option<String>,
    /// Events counted by the newest commit point.
    counted: i64,
    /// Events counted a second of wall time, over the last minute's commit points.
    counted_per_second: i64,
    memory_bytes: i64,
    /// What a commit waits for, if it waits for a lock.
    waits: Option<String>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: i64,
    read: i64,
    committed: i64,
    log_end: i64,
    lag: i64,
    written_at: String,
}

/// A table that somebody has locked is waited for as long as a server that is away.
const PATIENCE: &str = "SET lock_timeout = '10s'";

/// Writes the status, for people or as JSON.
pub fn status(database: &postgres::Config, out: &mut dyn Write, json: bool) -> Result<()> {
    let mut client = store::connect(database)?;
    let waits = store::waits_for_lock(&mut client, None)?;
    client.batch_execute(PATIENCE)?;
    let progress = client.query_one(
        "SELECT (now AT TIME ZONE 'Asia/Seoul')::text, epoch, generation FROM progress",
        &[],
    )?;
    let point = client.query_opt(
        "SELECT committed_at::text, counted,
                coalesce((SELECT ((last.counted - first.counted)
                                  / nullif(extract(epoch FROM last.committed_at - first.committed_at), 0))::bigint
                          FROM commit_points AS first
                          WHERE first.committed_at > clock_timestamp() - interval '1 minute'
                          ORDER BY epoch LIMIT 1), 0)
         FROM commit_points AS last ORDER BY epoch DESC LIMIT 1",
        &[],
    )?;
    let rows = client.query(
        "SELECT topic, partition, read, committed, log_end, lag, written_at::text, memory_bytes
         FROM pipeline_status
         ORDER BY array_position(ARRAY['users', 'products', 'orders', 'scenarios'], topic), partition",
        &[],
    )?;
    let status = Status {
        now: progress.get(0),
        epoch: progress.get(1),
        generation: progress.get(2),
        committed_at: point.as_ref().map(|point| point.get(0)),
        counted: point.as_ref().map_or(0, |point| point.get(1)),
        counted_per_second: point.as_ref().map_or(0, |point| point.get(2)),
        memory_bytes: rows.iter().map(|row| row.get(7)).max().unwrap_or(0),
        waits,
        partitions: rows
            .iter()
            .map(|row| Partition {
                topic: row.get(0),
                partition: row.get(1),
                read: row.get(2),
                committed: row.get(3),
                log_end: row.get(4),
                lag: row.get(5),
                written_at: row.get(6),
            })
            .collect(),
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &status)?;
        writeln!(out)?;
        return Ok(());
    }
    let unknown = || "nothing yet".to_owned();
    writeln!(out, "market time   {}", status.now.unwrap_or_else(unknown))?;
    writeln!(out, "committed at  {}", status.committed_at.unwrap_or_else(unknown))?;
    writeln!(
        out,
        "events        {} counted, {} a second over the last minute",
        status.counted, status.counted_per_second
    )?;
    writeln!(out, "engine        generation {}, epoch {}", status.generation, status.epoch)?;
    if let Some(waits) = status.waits {
        writeln!(out, "commit        waits {waits}")?;
    }
    writeln!(out, "memory        {} MiB\n", status.memory_bytes >> 20)?;
    writeln!(
        out,
        "{:<14}{:>12}{:>12}{:>12}{:>10}",
        "partition", "read", "committed", "log end", "lag"
    )?;
    for p in status.partitions {
        let name = format!("{}-{}", p.topic, p.partition);
        writeln!(out, "{name:<14}{:>12}{:>12}{:>12}{:>10}", p.read, p.committed, p.log_end, p.lag)?;
    }
    Ok(())
}
