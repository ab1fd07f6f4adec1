//! `marketday verify`: every result table against its batch twin, and the base tables against the
//! log.
//!
//! All of it sees one snapshot of the database, in sessions whose zone is UTC: a twin's ages go by it.
//! The twins run as a role that may read the base tables and the commit points only, so a twin cannot
//! repeat a result; the log is read by code that the analytics do not share.
//!
//! Where the SQL of one comparison fails, that is a difference, and the others go on.
//!
//! Invariant: a changed, a missing and an added row of each table is found; `tests/verify.rs`.

mod ledger;
mod progress;
mod reading;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use dataflows::model::Topic;
use dataflows::{QUERIES, Query};
use postgres::{Client, Config, IsolationLevel, Transaction};
use serde::Serialize;

use crate::log::Log;
use crate::platform::{output, retry};
use crate::store;
use crate::store::views::{self, State, View};
use progress::Progress;

/// Differences that are shown of each table or partition.
const SAMPLES: usize = 3;

/// With records waiting and no commit for so long the analytics stand still.
const STALLED_SECONDS: i64 = 60;

/// Memory for each sort or hash of a twin: it reads the whole ledger.
const WORK_MEM: &str = "256MB";

/// What was compared, and what differed.
#[derive(Default, Serialize)]
struct Report {
    tables: Vec<Table>,
    /// Result tables that the analytics do not keep, and that were not compared.
    not_kept: Vec<&'static str>,
    partitions: Vec<ledger::Partition>,
    /// Whatever else does not agree, a sentence each.
    differences: Vec<String>,
    /// What could not be checked.
    notes: Vec<String>,
    /// Order events that stand in the ledger and count nowhere: their order has an earlier one.
    superseded: u64,
    /// Records of the log that are not committed yet; on Kafka its own marks among them.
    waiting: u64,
}

/// One table against what it should hold.
#[derive(Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "these are the words of the tables")]
struct Table {
    table: Cow<'static, str>,
    rows: u64,
    /// Rows that it should hold and does not.
    missing: u64,
    /// Rows that it holds and should not.
    unexpected: u64,
    samples: Vec<String>,
}

/// Compares and writes the report; false if anything differs.
///
/// Without a log only the result tables are compared.
pub fn verify(
    config: &Config,
    log: Option<&dyn Log>,
    out: &mut dyn Write,
    json: bool,
) -> Result<bool> {
    store::can_act_as(config, "marketday_twin", "`verify`")?;
    let mut client = store::connect(config)?;
    let mut tx = begin(&mut client)?;
    let snapshot: String = tx
        .query_one("SELECT pg_export_snapshot()", &[])
        .and_then(|row| row.try_get(0))
        .context("sharing the database's snapshot")?;
    let progress = Progress::new(QUERIES.len());
    // The twins keep the server busy and the log this process: side by side.
    let mut report = thread::scope(|scope| {
        let (snapshot, shown) = (&snapshot, &progress);
        let ledger =
            log.map(|log| scope.spawn(move || compare_ledger(config, snapshot, log, shown)));
        let mut report = compare_results(config, snapshot, &mut tx, &progress)?;
        match ledger {
            None => report.notes.push("the base tables were not compared: no log was given".into()),
            Some(thread) => {
                let ledger =
                    thread.join().map_err(|_| anyhow!("comparing with the log panicked"))??;
                report.tables.extend(ledger.tables);
                report.partitions = ledger.partitions;
                report.differences.extend(ledger.differences);
                report.waiting = ledger.waiting;
                report.notes.extend(ledger.notes);
            }
        }
        anyhow::Ok(report)
    })?;
    progress.tables.set_message("standing views");
    compare_views(config, &snapshot, &mut report)?;
    drop(progress);
    if report.waiting > 0 {
        let waiting = report.waiting;
        let stalled = apart(&mut tx, |tx| stalled(tx, waiting))?;
        match stalled {
            Ok(difference) => report.differences.extend(difference),
            Err(error) => report.differs(format!("{error:#}")),
        }
    }
    report.differences.sort();
    let equal = report.equal();
    let told = if json {
        serde_json::to_writer(&mut *out, &serde_json::json!({ "equal": equal, "report": report }))
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(writeln!(out)?))
    } else {
        report.write(out)
    };
    output::heard_or_unread(told)?;
    Ok(equal)
}

/// Some rows of a topic's ledger that are not what the log says, in words; none where that cannot be
/// asked.
pub fn differing(config: &Config, log: &dyn Log, topic: Topic) -> Vec<String> {
    let compare = || -> Result<_> {
        let mut client = store::connect(config)?;
        ledger::differing(&mut begin(&mut client)?, log, topic)
    };
    compare().unwrap_or_default()
}

fn begin(client: &mut Client) -> Result<Transaction<'_>> {
    let taking = "taking a snapshot of the database";
    // What somebody holds is a line after that.
    client.batch_execute(store::PATIENCE).context(taking)?;
    client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        // What a twin gives is put into a temporary table, by a login that may only read, too.
        .read_only(false)
        .start()
        .context(taking)
}

/// Begins a transaction that sees what another one sees.
fn begin_at<'c>(client: &'c mut Client, snapshot: &str) -> Result<Transaction<'c>> {
    let mut tx = begin(client)?;
    tx.batch_execute(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'"))
        .context("sharing the database's snapshot")?;
    Ok(tx)
}

/// The base tables against the log, over a connection of its own that sees the same snapshot.
fn compare_ledger(
    config: &Config,
    snapshot: &str,
    log: &dyn Log,
    progress: &Progress,
) -> Result<Report> {
    let mut client = store::connect(config)?;
    let mut tx = begin_at(&mut client, snapshot)?;
    let mut report = Report::default();
    let compared = apart(&mut tx, |tx| ledger::compare(tx, log, progress, &mut report))?;
    if let Err(error) = compared {
        report.differs(format!("the base tables could not be compared with the log: {error:#}"));
    }
    Ok(report)
}

/// Runs a part of the work whose error is a difference among others: the inner result. The outer one is
/// of servers that are away, which leave nothing to go on with.
fn apart<T>(
    tx: &mut Transaction<'_>,
    part: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
) -> Result<Result<T>> {
    let mut savepoint = tx.transaction().context("going on with the comparison")?;
    let error = match part(&mut savepoint) {
        Ok(done) => {
            savepoint.commit().context("going on with the comparison")?;
            return Ok(Ok(done));
        }
        Err(error) => error,
    };
    let of_store = error.chain().any(<dyn std::error::Error>::is::<postgres::Error>);
    // A connection that is gone takes no further word.
    let away = savepoint.rollback().is_err() || !of_store && retry::transient(&error);
    if away { Err(error) } else { Ok(Err(error)) }
}

/// What waits in the log is a difference where nothing is committed, or was for long.
fn stalled(tx: &mut Transaction<'_>, waiting: u64) -> Result<Option<String>> {
    let age: Option<i64> = tx
        .query_one(
            // Of the snapshot: the twins may have run for minutes since.
            "SELECT extract(epoch FROM transaction_timestamp() - max(committed_at))::bigint
             FROM commit_points",
            &[],
        )
        .and_then(|row| row.try_get(0))
        .context("asking when the last commit was")?;
    Ok(match age {
        None => Some(format!("nothing is committed, and {waiting} records wait")),
        Some(age) if age > STALLED_SECONDS => Some(format!(
            "the last commit was {age} s ago, and {waiting} records wait: do the analytics run?"
        )),
        Some(_) => None,
    })
}

/// What is known of the store before its tables are compared.
struct Store {
    /// The schema of the result tables.
    schema: String,
    /// Whether there is a commit point.
    committed: bool,
    /// The result tables that the analytics do not keep.
    not_kept: Vec<&'static str>,
}

/// Every result table against its twin, in two sessions: one core of the server would be idle otherwise.
fn compare_results(
    config: &Config,
    snapshot: &str,
    tx: &mut Transaction<'_>,
    progress: &Progress,
) -> Result<Report> {
    let mut report = Report::default();
    let schema: String = tx
        .query_one("SELECT quote_ident(current_schema())", &[])
        .and_then(|row| row.try_get(0))
        .context("asking for the schema of the result tables")?;
    let committed = apart(tx, |tx| {
        let row = tx.query_one("SELECT EXISTS (SELECT FROM commit_points)", &[]);
        row.and_then(|row| row.try_get(0)).context("asking whether anything is committed")
    })?;
    let committed = committed.unwrap_or_else(|error| {
        report.differs(format!("{error:#}"));
        true
    });
    if !committed {
        report.notes.push("nothing is committed yet, so the result tables must be empty".into());
    }
    match apart(tx, not_kept)? {
        Ok(not_kept) => report.not_kept = not_kept,
        Err(error) => report.differs(format!("{error:#}")),
    }
    let store = Store { schema, committed, not_kept: report.not_kept.clone() };
    let (groups, next) = (groups(), AtomicUsize::new(0));
    let next = || groups.get(next.fetch_add(1, Ordering::Relaxed));
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            let mut client = store::connect(config)?;
            let mut tx = begin_at(&mut client, snapshot)?;
            compare_groups(&mut tx, &store, &next, progress)
        });
        let ours = compare_groups(tx, &store, &next, progress);
        let theirs = theirs.join().map_err(|_| anyhow!("comparing with the twins panicked"));
        anyhow::Ok((ours?, theirs??))
    })?;
    // Both have looked for them.
    report.superseded = ours.superseded.max(theirs.superseded);
    for found in [ours, theirs] {
        report.tables.extend(found.tables);
        report.differences.extend(found.differences);
    }
    report.differences.sort();
    report.differences.dedup();
    report.tables.sort_by_key(|table| QUERIES.iter().position(|query| query.name == table.table));
    Ok(report)
}

/// Queries of which a twin reads another's, together and in their order; the largest groups first.
fn groups() -> Vec<Vec<&'static Query>> {
    let reads = |twin: &str, table: &str| {
        twin.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == table)
    };
    let mut groups: Vec<Vec<&Query>> = Vec::new();
    for query in QUERIES {
        let related = |group: &mut Vec<&Query>| {
            group.iter().any(|it| reads(query.twin, it.name) || reads(it.twin, query.name))
        };
        let related: Vec<_> = groups.extract_if(.., related).collect();
        groups.push(related.into_iter().flatten().chain([query]).collect());
    }
    let place = |query: &Query| QUERIES.iter().position(|it| it.name == query.name);
    for group in &mut groups {
        group.sort_by_key(|query| place(query));
    }
    groups.sort_by_key(|group| Reverse(group.len()));
    groups
}

/// Compares the tables of one group after the other, in a session that finds by itself which order events
/// count.
fn compare_groups<'g>(
    tx: &mut Transaction<'_>,
    store: &Store,
    next: &dyn Fn() -> Option<&'g Vec<&'static Query>>,
    progress: &Progress,
) -> Result<Report> {
    let mut report = Report::default();
    tx.batch_execute(&format!("SET LOCAL work_mem = '{WORK_MEM}'; SET LOCAL jit = off"))
        .context("giving the twins memory")?;
    progress.tables.set_message("order events that count");
    match apart(tx, |tx| count_orders(tx, &store.schema))? {
        Ok(superseded) => report.superseded = superseded,
        Err(error) => report.differs(format!("{error:#}")),
    }
    while let Some(group) = next() {
        for Query { name, twin, .. } in group {
            progress.tables.set_message(*name);
            // Some twins have rows whatever there is, as their tables do from the first commit on. Also of a
            // table that is not kept: a twin behind it may read it, as it may that of a table that is lost.
            let twin =
                if store.committed { apart(tx, |tx| run_twin(tx, name, twin))? } else { Ok(()) };
            if !store.not_kept.contains(name) {
                let compared = match twin {
                    Ok(()) => {
                        apart(tx, |tx| compare_result(tx, &store.schema, name, store.committed))?
                    }
                    Err(error) => Err(error),
                };
                match compared {
                    Ok(compared) => report.tables.push(compared),
                    Err(error) => report
                        .differs(format!("{name} could not be compared with its twin: {error:#}")),
                }
            }
            progress.tables.inc(1);
        }
    }
    Ok(report)
}

/// Every standing view against what PostgreSQL answers to its text, as those who read may.
fn compare_views(config: &Config, snapshot: &str, report: &mut Report) -> Result<()> {
    let mut client = store::connect(config)?;
    let mut tx = begin_at(&mut client, snapshot)?;
    let views = match apart(&mut tx, |tx| views::list(tx))? {
        Ok(views) => views,
        Err(error) => {
            report.differs(format!("which standing views there are: {error:#}"));
            return Ok(());
        }
    };
    for view in views.iter().filter(|view| !view.dropped) {
        let name = &view.name;
        match apart(&mut tx, |tx| compare_view(tx, view))? {
            Ok(Ok(table)) => report.tables.push(table),
            Ok(Err(note)) => report.notes.push(note),
            Err(error) => {
                report.differs(format!("{name} could not be compared with its SELECT: {error:#}"));
            }
        }
    }
    Ok(())
}

/// One of them; a sentence where it does not hold.
fn compare_view(tx: &mut Transaction<'_>, view: &View) -> Result<Result<Table, String>> {
    let View { name, text, .. } = view;
    let states = views::states(tx)?;
    let own = states.iter().find(|state| state.name == *name);
    let State { state, reason, .. } = own.context("it has just been dropped")?;
    if state == "failed" || state == "ended" {
        return Ok(Err(format!("{name} does not hold ({reason}): its rows are the last that did")));
    } else if state != "live" {
        return Ok(Err(format!("{name} does not stand yet")));
    }
    // Its SELECT would read what another showed last.
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let stale = |word: &str| states.iter().find(|it| it.name == word && it.state != "live");
    if let Some(other) = words.find_map(stale) {
        let read = &other.name;
        return Ok(Err(format!("{name} cannot be compared: it reads {read}, which does not hold")));
    }
    // Of texts the order does not matter, and both sides must have one.
    let columns = tx.query(
        "SELECT quote_ident(attname), attcollation <> 0 FROM pg_attribute
         WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        &[&name],
    )?;
    let column = |row: &postgres::Row| {
        let collation = if row.get(1) { " COLLATE \"C\"" } else { "" };
        format!("{0}{collation} AS {0}", row.get::<_, String>(0))
    };
    let columns = columns.iter().map(column).collect::<Vec<_>>().join(", ");
    tx.batch_execute(&format!(
        "SET LOCAL TIME ZONE 'Asia/Seoul'; SET LOCAL work_mem = '{WORK_MEM}'; SET LOCAL jit = off;
         SET LOCAL enable_nestloop = off; SET LOCAL ROLE marketday_reader"
    ))?;
    let row = tx.query_one(
        &format!(
            "WITH answer AS MATERIALIZED (SELECT {columns} FROM ({text}) AS asked),
                  held AS MATERIALIZED (SELECT {columns} FROM {name}),
                  missing AS (TABLE answer EXCEPT ALL TABLE held),
                  unexpected AS (TABLE held EXCEPT ALL TABLE answer)
             SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM missing),
                    (SELECT count(*) FROM unexpected),
                    ARRAY(SELECT 'missing    ' || to_jsonb(missing)::text FROM missing
                          ORDER BY 1 LIMIT {SAMPLES})
                    || ARRAY(SELECT 'unexpected ' || to_jsonb(unexpected)::text FROM unexpected
                             ORDER BY 1 LIMIT {SAMPLES})"
        ),
        &[],
    )?;
    tx.batch_execute("RESET ROLE")?;
    let count = |column| row.get::<_, i64>(column) as u64;
    Ok(Ok(Table {
        table: name.clone().into(),
        rows: count(0),
        missing: count(1),
        unexpected: count(2),
        samples: row.get(3),
    }))
}

/// The result tables that the engine does not keep which has claimed the store.
fn not_kept(tx: &mut Transaction<'_>) -> Result<Vec<&'static str>> {
    let kept: Option<Vec<String>> = tx
        .query_one("SELECT kept_tables FROM progress", &[])
        .and_then(|row| row.try_get(0))
        .context("asking which tables are kept")?;
    let is_kept = |name: &str| kept.as_ref().is_none_or(|kept| kept.iter().any(|it| it == name));
    Ok(QUERIES.iter().map(|query| query.name).filter(|name| !is_kept(name)).collect())
}

/// Finds once for all twins which order events count: a temporary table goes before the view of its
/// name. Gives how many do not.
fn count_orders(tx: &mut Transaction<'_>, schema: &str) -> Result<u64> {
    tx.batch_execute(&format!(
        "SET LOCAL ROLE marketday_twin;
         CREATE TEMP TABLE counted_order_events ON COMMIT DROP AS TABLE {schema}.counted_order_events;
         ANALYZE counted_order_events;
         RESET ROLE"
    ))
    .context("finding the order events that count")?;
    let superseded: i64 = tx
        .query_one(
            "SELECT (SELECT count(*) FROM order_events)
                    - (SELECT count(*) FROM pg_temp.counted_order_events)",
            &[],
        )
        .and_then(|row| row.try_get(0))
        .context("counting the superseded order events")?;
    Ok(superseded as u64)
}

/// Runs a twin as the role that may, into a temporary table of the result's name.
fn run_twin(tx: &mut Transaction<'_>, table: &str, twin: &str) -> Result<()> {
    Ok(tx.batch_execute(&format!(
        "SET LOCAL ROLE marketday_twin;
         CREATE TEMP TABLE {table} ON COMMIT DROP AS {twin};
         ANALYZE {table};
         RESET ROLE"
    ))?)
}

/// Compares a table with what its twin gave; before the first commit it must be empty.
///
/// The name of a temporary table goes before any other: that is how a twin reads the twins before
/// it. Where the result table is meant, its schema is named.
fn compare_result(
    tx: &mut Transaction<'_>,
    schema: &str,
    table: &'static str,
    committed: bool,
) -> Result<Table> {
    let result = format!("{schema}.{table}");
    let rows: i64 = tx.query_one(&format!("SELECT count(*) FROM {result}"), &[])?.try_get(0)?;
    let rows = rows as u64;
    if !committed {
        return Ok(Table {
            table: table.into(),
            rows,
            missing: 0,
            unexpected: rows,
            samples: Vec::new(),
        });
    }
    let twin = format!("pg_temp.{table}");
    let mut less = |left: &str, right: &str| -> Result<(u64, Vec<String>)> {
        let row = tx.query_one(
            &format!(
                "WITH less AS MATERIALIZED (SELECT * FROM {left} EXCEPT ALL SELECT * FROM {right})
                 SELECT (SELECT count(*) FROM less),
                        ARRAY(SELECT to_jsonb(less)::text FROM less ORDER BY 1 LIMIT {SAMPLES})"
            ),
            &[],
        )?;
        Ok((row.try_get::<_, i64>(0)? as u64, row.try_get(1)?))
    };
    let (missing, missing_rows) = less(&twin, &result)?;
    let (unexpected, unexpected_rows) = less(&result, &twin)?;
    let samples = missing_rows
        .into_iter()
        .map(|row| format!("missing    {row}"))
        .chain(unexpected_rows.into_iter().map(|row| format!("unexpected {row}")))
        .collect();
    Ok(Table { table: table.into(), rows, missing, unexpected, samples })
}

impl Table {
    fn sample(&mut self, sample: impl FnOnce() -> String) {
        if self.samples.len() < SAMPLES {
            self.samples.push(sample());
        }
    }
}

impl Report {
    fn differs(&mut self, what: String) {
        self.differences.push(what);
    }

    fn equal(&self) -> bool {
        self.differences.is_empty()
            && self.tables.iter().all(|it| it.missing == 0 && it.unexpected == 0)
            && self.partitions.iter().all(|it| it.missing == 0 && it.unexpected == 0)
    }

    /// Writes the report for people.
    fn write(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{:<24}{:>12}{:>12}{:>12}", "table", "rows", "missing", "unexpected")?;
        for Table { table, rows, missing, unexpected, samples } in &self.tables {
            writeln!(out, "{table:<24}{rows:>12}{missing:>12}{unexpected:>12}")?;
            for sample in samples {
                writeln!(out, "    {sample}")?;
            }
        }
        for table in &self.not_kept {
            writeln!(out, "{table:<24}{:>36}", "not kept, not compared")?;
        }
        if !self.partitions.is_empty() {
            writeln!(
                out,
                "\n{:<16}{:>12}{:>12}{:>12}{:>8}{:>12}{:>12}{:>12}{:>12}",
                "log",
                "read",
                "counted",
                "duplicate",
                "dead",
                "heartbeat",
                "rows",
                "missing",
                "unexpected"
            )?;
        }
        for it in &self.partitions {
            writeln!(
                out,
                "{:<16}{:>12}{:>12}{:>12}{:>8}{:>12}{:>12}{:>12}{:>12}",
                format!("{}/{}", it.topic, it.partition),
                it.read,
                it.counted,
                it.duplicate,
                it.dead,
                it.heartbeat,
                it.rows,
                it.missing,
                it.unexpected
            )?;
            for sample in &it.samples {
                writeln!(out, "    {sample}")?;
            }
        }
        writeln!(out)?;
        for difference in &self.differences {
            writeln!(out, "differs: {difference}")?;
        }
        if self.superseded > 0 {
            writeln!(
                out,
                "superseded: {} order events stand in the ledger and count nowhere, since their \
                 order has an earlier one",
                self.superseded
            )?;
        }
        if self.waiting > 0 {
            writeln!(out, "not committed yet: {} records of the log", self.waiting)?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        writeln!(out, "{}", if self.equal() { "all equal" } else { "NOT EQUAL" })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_in_one_group_with_those_that_it_reads() {
        let groups = groups();
        let names = |group: &Vec<&Query>| group.iter().map(|it| it.name).collect::<Vec<_>>();
        let groups: Vec<_> = groups.iter().map(names).collect();
        assert_eq!(groups.iter().flatten().count(), QUERIES.len());
        let minutes = groups.iter().find(|group| group[0] == "orders_by_minute").unwrap();
        assert!(minutes.contains(&"month_phase"), "by way of orders_by_hour: {minutes:?}");
        let grades = groups.iter().find(|group| group[0] == "grade_changes").unwrap();
        let read = ["customer_grade", "users", "grade_distribution"];
        assert!(read.iter().all(|it| grades.contains(it)), "{grades:?}");
        assert!(groups.len() > 5, "not all in one: {groups:?}");
    }
}
