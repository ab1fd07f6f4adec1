//! *Ask* and *Keep*: a visitor's SELECT that is run once, and standing views that keep the answer to one.
//!
//! A question is run by the login that only reads, on a connection of its own, which ends with it: whatever
//! it sets or locks goes too. Keeping one is the store's owner's, as `marketday view add` is.

use anyhow::{Result, anyhow, ensure};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::Type;
use postgres::{Client, Row, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dashboards::{Kind, kind, newest, reading};
use crate::platform::clock::Stopwatch;
use crate::store::views::{self, New, Told};

/// So many rows of an answer are shown, and so many characters of a value.
const SHOWN: (usize, usize) = (1_000, 10_000);

/// An answer of so many bytes is long enough.
const BYTES: usize = 8 << 20;

/// So many records a view that is kept by a visitor may hold.
const MOST: u64 = 5_000_000;

/// A SELECT.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    sql: String,
}

/// What came of it, as of a commit point.
#[derive(Serialize)]
pub(super) struct Answer {
    epoch: Option<i64>,
    /// Market time of that commit point, in ms.
    now: Option<i64>,
    took_ms: u64,
    fields: Vec<Value>,
    rows: Vec<Vec<Value>>,
    /// Whether there are more rows than these.
    more: bool,
}

/// A standing view that is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    name: String,
    sql: String,
    #[serde(default)]
    alert: bool,
}

/// Runs a SELECT once.
pub(super) fn answer(client: &mut Client, question: &Question) -> Result<Answer> {
    // What is before it stays, for the places that are told.
    let sql = question.sql.trim_end().trim_end_matches(';').trim_end();
    ensure!(!sql.is_empty(), "there is no SELECT in it");
    only_reads(client)?;
    let stopwatch = Stopwatch::start();
    let mut tx = reading(client, "Asia/Seoul")?;
    let point = newest(&mut tx)?;
    let (fields, mut rows) = rows(&mut tx, sql)?;
    let more = rows.len() > SHOWN.0;
    rows.truncate(SHOWN.0);
    Ok(Answer {
        epoch: point.map(|point| point.0),
        now: point.map(|point| point.1),
        took_ms: stopwatch.elapsed().as_millis() as u64,
        fields,
        rows,
        more,
    })
}

/// That a session can be nobody but a reader: a question can go back to what its login is.
fn only_reads(client: &mut Client) -> Result<()> {
    let others: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_roles
             WHERE rolname NOT IN (session_user, 'marketday_reader')
               AND pg_has_role(session_user, oid, 'MEMBER')",
            &[],
        )?
        .get(0);
    ensure!(
        others == 0,
        "the page reads with a login that may do more than marketday_reader, so it runs no question: give it \
         one that is a member of that role alone, by --page-database"
    );
    Ok(())
}

/// The rows of a SELECT, up to one more than are shown, and what its columns are.
fn rows(tx: &mut Transaction<'_>, sql: &str) -> Result<(Vec<Value>, Vec<Vec<Value>>)> {
    // What it says is a statement by itself; only then it is put into another.
    let asked = tx.prepare(sql).map_err(|error| views::said(sql, 0, error))?;
    let asked = asked.columns();
    ensure!(!asked.is_empty(), "it has no column to be shown: a question is one SELECT");
    let columns = asked.iter().enumerate().map(|(place, column)| match *column.type_() {
        Type::INT2 => format!("c{place}::int"),
        Type::TEXT => format!("left(c{place}, {})", SHOWN.1),
        ref of if kind(of).is_ok() => format!("c{place}"),
        _ => format!("left(c{place}::text, {})", SHOWN.1),
    });
    let columns: Vec<String> = columns.collect();
    let names: Vec<String> = (0..columns.len()).map(|place| format!("c{place}")).collect();
    let before = format!("SELECT {} FROM (", columns.join(", "));
    let query = format!("{before}{sql}\n) AS asked ({}) LIMIT {}", names.join(", "), SHOWN.0 + 1);
    let said = |error| views::said(sql, before.chars().count(), error);
    let statement = tx.prepare(&query).map_err(said)?;
    let kinds: Vec<Kind> =
        statement.columns().iter().map(|column| kind(column.type_())).collect::<Result<_>>()?;
    let numerics: Vec<bool> = asked.iter().map(|column| *column.type_() == Type::NUMERIC).collect();
    let fields = asked.iter().zip(&kinds).zip(&numerics).map(|((column, kind), numeric)| {
        let kind = if *numeric { "number" } else { kind.0 };
        json!({ "name": column.name(), "type": kind })
    });
    let value = |row: &Row, place: usize| {
        let value = kinds[place].1(row, place);
        if numerics[place] { numeric(value) } else { value }
    };
    let mut rows = Vec::new();
    let mut bytes = 0;
    // Run in one go, for which its time is measured, and read row by row.
    let none: [&str; 0] = [];
    let mut answer = tx.query_raw(&statement, none).map_err(said)?;
    while let Some(row) = answer.next().map_err(said)? {
        let row: Vec<Value> = (0..kinds.len()).map(|place| value(&row, place)).collect();
        bytes += row.iter().map(|it| it.as_str().map_or(8, str::len)).sum::<usize>();
        ensure!(bytes <= BYTES, "the answer is too long to be shown: ask for less of it");
        rows.push(row);
    }
    Ok((fields.collect(), rows))
}

/// A numeric that was written as a text: a number where a browser's holds it, and otherwise its digits.
fn numeric(written: Value) -> Value {
    let text = written.as_str().unwrap_or_default();
    if text.chars().filter(char::is_ascii_digit).count() > 15 {
        return written;
    }
    let whole = text.parse::<i64>().ok().map(Value::from);
    let number = || text.parse::<f64>().ok().filter(|it| it.is_finite()).map(Value::from);
    whole.or_else(number).unwrap_or(written)
}

/// Keeps the answer to a SELECT; the analytics take it up when they see it.
pub(super) fn keep(client: &mut Client, wish: &Wish) -> Result<()> {
    let Wish { name, sql, alert } = wish;
    let new = New { name, text: sql, all_pairs: false, most: Some(MOST), alert: *alert };
    views::add(client, &new)
}

/// The standing views.
pub(super) fn kept(client: &mut Client) -> Result<Vec<Told>> {
    views::told(&mut reading(client, "UTC")?, None)
}

/// Lets go of a standing view, as soon as the analytics do.
pub(super) fn drop_kept(client: &mut Client, name: &str) -> Result<()> {
    views::ask_to_drop(client, name).map_err(|error| anyhow!("{name} stays: {error:#}"))
}
