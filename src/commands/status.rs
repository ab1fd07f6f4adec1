//! `marketday status`: partitions, lag, the commit point, rates and memory, from the store, and what
//! of the log is not committed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use dataflows::ledger::Tally;
use dataflows::model::time::wall_clock;
use dataflows::model::{Topic, codec};
use postgres::Client;
use serde::Serialize;

use super::options::{LogPlace, Look};
use crate::log::{Log, Record, records_at};
use crate::platform::output::Output;
use crate::platform::retry;
use crate::store::waits::{self, OutOfStep, Wait, What};
use crate::store::{self, checkpoints, views};

/// Shows partitions, lag, the commit point, rates and memory.
#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    look: Look,
}

impl Status {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let database = self.look.place.look()?;
        let place = self.look.place.log.clone();
        status(&database.config, place, &mut Output::lock(), self.look.json)?;
        database.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
struct Report {
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
    /// What else the analytics wait for that is not theirs.
    waits_for: Vec<Wait>,
    /// Partitions of orders that hold the market time back, or are left out of it.
    out_of_step: Vec<OutOfStep>,
    /// Records of the log that are not committed yet; on Kafka its own marks among them.
    waiting: i64,
    /// Why the log was not asked: its ends are then those that the analytics told last.
    log_error: Option<String>,
    /// Where the log does not hold what was counted, a sentence each.
    not_as_read: Vec<String>,
    /// Seconds since the analytics told of themselves.
    told_seconds_ago: Option<i64>,
    /// No record beyond this moves the market's time: see `analytics --rebuild --latest`.
    latest: Option<String>,
    /// What does not move the market's time, since no other customer speaks of a time near it.
    alone: Vec<Alone>,
    /// Result tables that the analytics do not keep: their content is of an earlier commit.
    not_kept: Vec<&'static str>,
    /// What a start goes on from; none where it reads all back that was counted.
    checkpoint: Option<checkpoints::Newest>,
    /// The standing views.
    views: Vec<views::State>,
    partitions: Vec<Partition>,
}

/// The record of a partition of orders whose `at` is more than a day beyond every other customer's, and
/// beyond `now`.
#[derive(Serialize)]
struct Alone {
    partition: i64,
    offset: i64,
    at: String,
}

#[derive(Serialize)]
struct Partition {
    topic: &'static str,
    partition: u32,
    read: i64,
    committed: i64,
    log_end: i64,
    lag: i64,
    written_at: Option<String>,
}

/// From when on it is said that the analytics tell nothing of themselves, which they do each second.
const SILENT_SECONDS: i64 = 10;

/// How long the log may take to say where its partitions end.
const ANSWER: Duration = Duration::from_secs(5);

/// The first offset that the log holds of each partition, and the one behind the last.
type Ends = BTreeMap<(Topic, u32), (i64, i64)>;

/// What has become of committed partitions, by what was committed.
type Tallies = BTreeMap<(Topic, u32), Tally>;

/// What the log says, and where it does not hold what was committed; nothing where there is none: a store
/// can be looked at from where its log is not. Brokers that are away or paused are not waited for.
fn ask(place: LogPlace, known: Option<String>, tallies: Tallies) -> Result<(Ends, Vec<String>)> {
    if !place.is_there() {
        return Ok(Default::default());
    }
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let ask = || {
            let log = place.look()?;
            known.map_or(Ok(()), |known| store::is_of_log(&known, log.identity()))?;
            let mut ends = Ends::new();
            for topic in Topic::ALL {
                for partition in 0..log.partitions(topic) {
                    let start = log.start(topic, partition)? as i64;
                    ends.insert((topic, partition), (start, log.end(topic, partition)? as i64));
                }
            }
            let not_as_read = not_as_read(&tallies, &*log)?;
            anyhow::Ok((ends, not_as_read))
        };
        // Nobody may be waiting any more.
        _ = sender.send(ask());
    });
    let answer =
        receiver.recv_timeout(ANSWER).unwrap_or_else(|_| Err(retry::NoAnswer(ANSWER).into()));
    answer.context("asking the log")
}

/// Writes the status, for people or as JSON. With a log, its ends are those of now; where there is
/// none, or it does not answer, they are what the analytics told last.
fn status(
    database: &postgres::Config,
    place: LogPlace,
    out: &mut dyn Write,
    json: bool,
) -> Result<()> {
    let mut client = store::connect(database)?;
    let waits = waits::waits_for_lock(&mut client, None)?;
    client.batch_execute(store::PATIENCE)?;
    let progress = client.query_one(
        "SELECT (now AT TIME ZONE 'Asia/Seoul')::text, epoch, generation, log_identity,
                (latest AT TIME ZONE 'Asia/Seoul')::text
         FROM progress",
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
    let memory_bytes =
        client.query_one("SELECT coalesce(max(memory_bytes), 0) FROM pipeline_status", &[])?.get(0);
    let told = "SELECT extract(epoch FROM clock_timestamp() - max(written_at))::bigint
                FROM pipeline_status";
    let known: Option<String> = progress.get(3);
    let tallies = store::committed_tallies(&mut client)?;
    let ((ends, not_as_read), log_error) = match ask(place, known, tallies) {
        Ok(answer) => (answer, None),
        Err(error) => (Default::default(), Some(format!("{error:#}"))),
    };
    // Asked for after the log was, which may take its time.
    let mut waits_for = waits::waits(&mut client)?;
    // Who may not see other logins' sessions is told what the analytics have.
    waits_for.retain(|wait| waits.is_none() || wait.what != What::Lock);
    let partitions = partitions(&mut client, &ends, &waits_for)?;
    let status = Report {
        now: progress.get(0),
        epoch: progress.get(1),
        generation: progress.get(2),
        committed_at: point.as_ref().map(|point| point.get(0)),
        counted: point.as_ref().map_or(0, |point| point.get(1)),
        counted_per_second: point.as_ref().map_or(0, |point| point.get(2)),
        memory_bytes,
        waits: waits.map(|(wait, query)| format!("{wait}: {query}")),
        waits_for,
        out_of_step: waits::out_of_step(&mut client)?,
        waiting: partitions.iter().map(|it| it.lag).sum(),
        log_error,
        not_as_read,
        told_seconds_ago: client.query_one(told, &[])?.get(0),
        latest: progress.get(4),
        alone: alone(&mut client)?,
        not_kept: store::not_kept(&mut client)?,
        checkpoint: checkpoints::newest(&mut client)?,
        views: views::states(&mut client)?,
        partitions,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &status)?;
        writeln!(out)?;
        return Ok(());
    }
    write(status, out)
}

/// Writes the status for people.
fn write(status: Report, out: &mut dyn Write) -> Result<()> {
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
    for wait in &status.waits_for {
        writeln!(out, "waits         {wait}")?;
    }
    let waiting = status.waiting;
    write!(out, "waiting       {waiting} records of the log are not committed")?;
    match status.told_seconds_ago {
        None if waiting > 0 => writeln!(out, "; no analytics have run on this store")?,
        Some(ago) if ago > SILENT_SECONDS => {
            writeln!(out, "; the analytics have told nothing for {ago} s: do they run?")?;
        }
        _ => writeln!(out)?,
    }
    if let Some(error) = &status.log_error {
        writeln!(out, "log           not asked, its ends are those told last: {error}")?;
    }
    for what in &status.not_as_read {
        writeln!(
            out,
            "not as read   {what}: was the topic deleted and made again? `marketday analytics \
             --rebuild` counts again what the log holds"
        )?;
    }
    if let Some(latest) = &status.latest {
        writeln!(
            out,
            "latest        {latest}: no record beyond it moves the market time; `analytics --rebuild` \
             names another, or none"
        )?;
    }
    for Alone { partition, offset, at } in &status.alone {
        writeln!(
            out,
            "alone         orders-{partition}, offset {offset}, at {at}: nobody else there speaks of a \
             time near it, so it does not move the market time"
        )?;
    }
    write_out_of_step(&status.out_of_step, out)?;
    if !status.views.is_empty() {
        let count = |state: &str| status.views.iter().filter(|view| view.state == state).count();
        let counts =
            ["live", "adding", "failed", "ended", "dropped"].map(|state| (count(state), state));
        let told = counts.iter().filter(|(count, _)| *count > 0);
        let told: Vec<_> = told.map(|(count, state)| format!("{count} {state}")).collect();
        writeln!(out, "views         {}; `marketday view list` names them", told.join(", "))?;
    }
    if !status.not_kept.is_empty() {
        let tables = status.not_kept.join(", ");
        writeln!(out, "not kept      {tables}: their rows are of an earlier commit, or none")?;
    }
    match &status.checkpoint {
        Some(of) => writeln!(
            out,
            "checkpoint    {} s old, {} MiB: a start goes on from there",
            of.seconds_ago,
            of.bytes >> 20
        )?,
        None if status.told_seconds_ago.is_some() => {
            writeln!(out, "checkpoint    none: a start reads all back that was counted")?;
        }
        None => {}
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

/// Writes which partitions the market time waits for, and which it goes on without.
fn write_out_of_step(partitions: &[OutOfStep], out: &mut dyn Write) -> Result<()> {
    for OutOfStep { partition, left_out, reached, behind } in partitions {
        let reached = match reached {
            Some(at) => format!("read up to {}", wall_clock(*at)),
            None => "where no two customers and no heartbeat have spoken".to_owned(),
        };
        let behind = match behind {
            Some(seconds) => format!(", {} behind the furthest", span(*seconds)),
            None => String::new(),
        };
        let (word, so) = match left_out {
            true => ("left out ", "the market time goes on without it"),
            false => ("held back", "the market time waits for it"),
        };
        writeln!(out, "{word}     orders-{partition}, {reached}{behind}: {so}")?;
    }
    Ok(())
}

/// A span by its two greatest units.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// The partitions that the analytics tell of, and those of the log. What lies behind a transaction that
/// stays open is in the log too.
fn partitions(client: &mut Client, ends: &Ends, waits: &[Wait]) -> Result<Vec<Partition>> {
    let tallies = store::committed_tallies(client)?;
    let mut partitions = Vec::new();
    for topic in Topic::ALL {
        let told = client.query(
            "SELECT partition, read, log_end, written_at::text FROM pipeline_status WHERE topic = $1",
            &[&topic.name()],
        )?;
        let told: BTreeMap<u32, _> =
            told.iter().map(|row| (row.get::<_, i64>(0) as u32, row)).collect();
        let of_log = ends.keys().filter(|(of, _)| *of == topic).map(|(_, partition)| *partition);
        for partition in told.keys().copied().chain(of_log).collect::<BTreeSet<_>>() {
            let committed =
                tallies.get(&(topic, partition)).map_or(0, |tally| tally.next_offset as i64);
            let told = told.get(&partition);
            let (start, log_end) = match ends.get(&(topic, partition)) {
                Some(ends) => *ends,
                None => (0, told.map_or(committed, |row| row.get(2))),
            };
            let place = format!("{}-{partition}", topic.name());
            let is_open = |it: &&Wait| it.what == What::Transaction && it.place == place;
            // Unless it has ended meanwhile, its beginning is where the log ends for readers.
            let open = waits.iter().filter(is_open).find(|it| it.offset == Some(log_end));
            let log_end = log_end + open.and_then(|it| it.records).unwrap_or(0);
            partitions.push(Partition {
                topic: topic.name(),
                partition,
                read: told.map_or(committed, |row| row.get(1)),
                committed,
                log_end,
                lag: (log_end - committed.max(start)).max(0),
                written_at: told.map(|row| row.get(3)),
            });
        }
    }
    Ok(partitions)
}

/// Where the log ends before what is committed, or holds another record than the newest of a partition of
/// orders: their rows say so by a place and a time, and `verify` reads all others.
fn not_as_read(tallies: &Tallies, log: &dyn Log) -> Result<Vec<String>> {
    let (mut what, mut places) = (Vec::new(), Vec::new());
    for (&(topic, partition), tally) in tallies {
        let name = topic.name();
        if partition >= log.partitions(topic) {
            what.push(format!(
                "{name}-{partition} is committed, and the log has no such partition"
            ));
            continue;
        }
        let (next, end) = (tally.next_offset, log.end(topic, partition)?);
        if next > end {
            what.push(format!("{name}-{partition} is committed up to {next}, and ends at {end}"));
        }
        // An older version did not say where it was.
        places.extend(tally.reach.map(|it| (partition, it.newest_offset)).filter(|it| it.1 > 0));
    }
    let newest = records_at(log, Topic::Orders, &places)?;
    for ((partition, offset), found) in places.into_iter().zip(newest) {
        let reach = tallies[&(Topic::Orders, partition)].reach;
        let is_it = |record: Record<'_>| {
            let event = codec::decode(Topic::Orders, record.value).ok();
            event.map(|it| (it.at(), it.customer())) == reach.map(|it| (it.newest_at, it.newest_by))
        };
        if !found.iter().all(is_it) {
            what.push(format!("orders-{partition} holds another record at offset {offset}"));
        }
    }
    Ok(what)
}

/// The records that stand alone.
fn alone(client: &mut Client) -> Result<Vec<Alone>> {
    let rows = client.query(
        "SELECT partition, newest_offset, (newest_at AT TIME ZONE 'Asia/Seoul')::text
         FROM commit_offsets, progress
         WHERE newest_at IS NOT NULL
           AND (other_at IS NULL OR newest_at - other_at > interval '1 day')
           AND (now IS NULL OR newest_at - now > interval '1 day')
         ORDER BY partition",
        &[],
    )?;
    let alone = rows.iter();
    Ok(alone
        .map(|row| Alone { partition: row.get(0), offset: row.get(1), at: row.get(2) })
        .collect())
}
