//! The dashboards of `grafana/` and the numbers in their panels, all of a page from one snapshot.
//!
//! Grafana runs the same SQL, a query at a time; here one transaction runs all of a dashboard, so
//! that its panels agree. What of Grafana's language is known here, `tests/grafana.rs` holds the
//! dashboards to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use chrono::{Datelike, Months, NaiveDate};
use dataflows::model::Millis;
use dataflows::model::time::{DAY, HOUR, MINUTE, date_of, day_of, day_of_date, start_of_day};
use include_dir::{Dir, include_dir};
use postgres::types::Type;
use postgres::{Client, IsolationLevel, Row, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ROLE;
use super::korean::korean;
use crate::platform::clock::Stopwatch;
use crate::platform::files::{PUBLIC, replace};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/grafana/dashboards");

/// The dashboards in the order in which they are offered, each in English and Korean.
pub static DASHBOARDS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let order = ["now", "trends", "customers", "pipeline"];
    let english = order.iter().map(|name| -> Value {
        let file = FILES.get_file(format!("{name}.json")).expect("each dashboard has its file");
        serde_json::from_slice(file.contents()).expect("dashboards are JSON")
    });
    english
        .flat_map(|english| {
            let korean = korean(&english);
            [english, korean]
        })
        .collect()
});

/// Writes the dashboards in Korean as files that a Grafana takes.
pub fn write_korean(dir: &Path) -> Result<()> {
    let writing = || format!("writing the dashboards in Korean into {}", dir.display());
    fs::create_dir_all(dir).with_context(writing)?;
    for dashboard in DASHBOARDS.iter() {
        if let Some(name) = dashboard["uid"].as_str().and_then(|uid| uid.strip_suffix("-ko")) {
            let text = serde_json::to_vec_pretty(dashboard)?;
            // Whole at any time: a Grafana may be looking, as another user.
            replace(&dir.join(format!("{name}.json")), PUBLIC, &text).with_context(writing)?;
        }
    }
    Ok(())
}

/// The longest that one query may take.
const PATIENCE: &str = "10s";

/// No panel's query begins later in a page's transaction: a reader's is ended after 35 s.
const LATEST: Duration = Duration::from_secs(20);

/// The dashboard of that uid.
pub fn dashboard(uid: &str) -> Option<&'static Value> {
    DASHBOARDS.iter().find(|dashboard| dashboard["uid"] == uid)
}

/// What a page asks for.
#[derive(Clone, Deserialize)]
pub struct Ask {
    /// Which dashboard.
    pub uid: String,
    /// The range, as Grafana writes it, where `now` is the market's: now-24h, now/d, or milliseconds.
    pub from: Value,
    /// See `from`.
    pub to: Value,
    /// At most so many points in a line.
    #[serde(default = "points")]
    pub points: i64,
    /// What is chosen of each variable.
    #[serde(default)]
    pub variables: BTreeMap<String, Vec<String>>,
    /// Only these panels.
    pub only: Option<Vec<i64>>,
}

fn points() -> i64 {
    1_000
}

/// The numbers of a page.
#[derive(Serialize)]
pub struct Drawn {
    /// The commit point that all of it is as of; none while nothing is committed.
    pub epoch: Option<i64>,
    /// Market time of that commit point.
    pub now: Option<Millis>,
    /// The range in market time.
    pub from: Option<Millis>,
    /// See `from`.
    pub to: Option<Millis>,
    /// How long the queries took.
    pub took_ms: u64,
    /// What each variable can be.
    pub variables: BTreeMap<String, Vec<String>>,
    /// By the panel's number: its fields and rows, or the sentence of an error.
    pub panels: BTreeMap<i64, Value>,
}

/// Runs the queries of a dashboard as the role that only reads, in one transaction.
pub fn draw(client: &mut Client, ask: &Ask) -> Result<Drawn> {
    let dashboard =
        dashboard(&ask.uid).with_context(|| format!("there is no dashboard `{}`", ask.uid))?;
    let stopwatch = Stopwatch::start();
    let mut tx = reading(client, "UTC")?;
    let point = newest(&mut tx)?;
    let mut drawn = Drawn {
        epoch: point.map(|point| point.0),
        now: point.map(|point| point.1),
        from: None,
        to: None,
        took_ms: 0,
        variables: BTreeMap::new(),
        panels: BTreeMap::new(),
    };
    let Some(now) = drawn.now else { return Ok(drawn) };
    let (from, to) = (instant(&ask.from, now, false)?, instant(&ask.to, now, true)?);
    ensure!(from < to, "the range ends before it begins");
    (drawn.from, drawn.to) = (Some(from), Some(to));

    let mut words = vec![
        ("$__timeFrom()".to_owned(), quoted_instant(from)),
        ("$__timeTo()".to_owned(), quoted_instant(to)),
        ("$__interval_ms".to_owned(), interval(to - from, ask.points).to_string()),
    ];
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().context("a variable without a name")?;
        let options = options(&mut tx, variable, &words)?;
        let chosen = chosen(variable, &options, ask.variables.get(name));
        words.push((format!("${{{name}:sqlstring}}"), quoted_list(&chosen)));
        drawn.variables.insert(name.to_owned(), options);
    }
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        let (Some(id), Some(sql)) = (panel["id"].as_i64(), panel["targets"][0]["rawSql"].as_str())
        else {
            continue;
        };
        if ask.only.as_ref().is_some_and(|only| !only.contains(&id)) {
            continue;
        }
        if stopwatch.elapsed() > LATEST {
            let error = "the store is too slow for all panels at once";
            drawn.panels.insert(id, json!({ "error": error }));
            continue;
        }
        let mut savepoint = tx.transaction()?;
        let rows = table(&mut savepoint, &expand(sql, &words)?);
        let rows = match rows {
            Ok(rows) => {
                savepoint.commit()?;
                rows
            }
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        drawn.panels.insert(id, rows);
    }
    tx.commit()?;
    drawn.took_ms = stopwatch.elapsed().as_millis() as u64;
    Ok(drawn)
}

/// Begins to read as the role that only reads, of one snapshot, in a time zone.
pub(super) fn reading<'c>(client: &'c mut Client, zone: &str) -> Result<Transaction<'c>> {
    let mut tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .context("beginning to read")?;
    tx.batch_execute(&format!(
        "SET LOCAL ROLE {ROLE}; SET LOCAL statement_timeout = '{PATIENCE}';
         SET LOCAL TIME ZONE '{zone}'; SET LOCAL jit = off;
         SET LOCAL standard_conforming_strings = on"
    ))
    .with_context(|| format!("acting as {ROLE}, as the web page does"))?;
    Ok(tx)
}

/// The newest commit point: its epoch, and its market time.
pub(super) fn newest(tx: &mut Transaction<'_>) -> Result<Option<(i64, Millis)>> {
    let point = tx.query_opt(
        "SELECT epoch, (extract(epoch FROM now) * 1000)::bigint FROM commit_points
         WHERE now IS NOT NULL ORDER BY epoch DESC LIMIT 1",
        &[],
    )?;
    Ok(point.map(|point| (point.get(0), point.get(1))))
}

/// Puts what macros and variables stand for into a query, in one pass: what has been put in may look
/// like another of them.
fn expand(sql: &str, words: &[(String, String)]) -> Result<String> {
    let mut expanded = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(place) = rest.find('$') {
        let (before, from) = rest.split_at(place);
        expanded.push_str(before);
        let known = words.iter().find(|(word, _)| from.starts_with(word.as_str()));
        if let Some((word, meaning)) = known {
            expanded.push_str(meaning);
            rest = &from[word.len()..];
        } else if from.starts_with("$__") || from.starts_with("${") {
            bail!("a macro that is not known here: {}", from.chars().take(40).collect::<String>());
        } else {
            expanded.push('$');
            rest = &from[1..];
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A list of texts for `IN`. Nothing to choose from is nothing chosen: `IN (NULL)` holds for no row.
fn quoted_list(texts: &[String]) -> String {
    if texts.is_empty() {
        return "NULL".into();
    }
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(",")
}

fn quoted_instant(at: Millis) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at).unwrap_or_default();
    format!("'{}'", at.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

/// What a variable can be: what its query gives, or its list of `value` or `text : value`.
fn options(
    tx: &mut Transaction<'_>,
    variable: &Value,
    words: &[(String, String)],
) -> Result<Vec<String>> {
    let text = |key: &str| variable[key].as_str().or(variable[key]["rawSql"].as_str());
    let query = text("query").or(text("definition")).context("a variable without a query")?;
    if variable["type"] == "custom" {
        let value =
            |one: &str| one.rsplit_once(" : ").map_or(one, |(_, value)| value).trim().into();
        return Ok(query.split(',').map(value).collect());
    }
    let rows = tx.query(&expand(query, words)?, &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What is chosen of a variable: what was asked for, else what the dashboard says, else the first.
fn chosen(variable: &Value, options: &[String], asked: Option<&Vec<String>>) -> Vec<String> {
    let current = &variable["current"]["value"];
    let given = match current {
        Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        one => one.as_str().map(str::to_owned).into_iter().collect::<Vec<_>>(),
    };
    let wanted = asked.unwrap_or(&given);
    if wanted.iter().any(|one| one == "$__all") {
        return options.to_vec();
    }
    let known: Vec<String> = options.iter().filter(|one| wanted.contains(one)).cloned().collect();
    match (known.is_empty(), variable["includeAll"] == true) {
        (false, _) => known,
        (true, true) => options.to_vec(),
        (true, false) => options.first().cloned().into_iter().collect(),
    }
}

/// The steps between two points of a line.
const STEPS: [Millis; 12] = [
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
];

fn interval(range: Millis, points: i64) -> Millis {
    let least = range / points.clamp(10, 10_000);
    STEPS.into_iter().find(|step| *step >= least).unwrap_or(7 * DAY)
}

/// What a range may look at, far beyond all valid events: 1900 to 2199.
const RANGE: std::ops::Range<Millis> = -2_208_988_800_000..7_258_118_400_000;

/// An instant as Grafana writes it: milliseconds, or `now`, less a span, rounded to a unit; the end
/// of a range is rounded up.
fn instant(text: &Value, now: Millis, end: bool) -> Result<Millis> {
    let at = text.as_i64().map_or_else(|| relative(text, now, end), Ok)?;
    ensure!(RANGE.contains(&at), "the range leaves the years from 1900 to 2199: {text}");
    Ok(at)
}

fn relative(text: &Value, now: Millis, end: bool) -> Result<Millis> {
    let text = text.as_str().unwrap_or_default();
    let what =
        || format!("`{text}` is no time: it is now, now-6h, now/d, now-1d/d or milliseconds");
    let rest = text.strip_prefix("now").with_context(what)?;
    let (less, unit) = rest.split_once('/').map_or((rest, None), |(less, unit)| (less, Some(unit)));
    let mut at = now;
    if let Some(less) = less.strip_prefix('-') {
        let digits = less.len().checked_sub(1).filter(|at| less.is_char_boundary(*at));
        let (count, of) = less.split_at(digits.with_context(what)?);
        let count: u32 = count.parse().ok().filter(|count| *count <= 100_000).with_context(what)?;
        let span = match of {
            "s" => 1_000,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "w" => 7 * DAY,
            "M" | "y" => 0,
            _ => bail!(what()),
        };
        at -= Millis::from(count) * span;
        if span == 0 {
            let months = if of == "y" { count * 12 } else { count };
            let date = date_of(day_of(at)).checked_sub_months(Months::new(months));
            let date = date.with_context(what)?;
            at = start_of_day(day_of_date(date)) + (at - start_of_day(day_of(at)));
        }
    } else if !less.is_empty() {
        bail!(what());
    }
    let Some(unit) = unit else { return Ok(at) };
    let date = date_of(day_of(at));
    let first = |date: Option<NaiveDate>| date.with_context(what);
    let (begins, ends) = match unit {
        "d" => (date, first(date.succ_opt())?),
        "M" => {
            let month = first(date.with_day(1))?;
            (month, first(month.checked_add_months(Months::new(1)))?)
        }
        "y" => {
            let year = first(NaiveDate::from_ymd_opt(date.year(), 1, 1))?;
            (year, first(year.checked_add_months(Months::new(12)))?)
        }
        _ => bail!(what()),
    };
    Ok(start_of_day(day_of_date(if end { ends } else { begins })))
}

/// The rows of a query, and what its columns are.
fn table(tx: &mut Transaction<'_>, sql: &str) -> Result<Value> {
    let statement = tx.prepare(sql)?;
    let kinds: Vec<Kind> =
        statement.columns().iter().map(|column| kind(column.type_())).collect::<Result<_>>()?;
    let fields: Vec<Value> = statement
        .columns()
        .iter()
        .zip(&kinds)
        .map(|(column, kind)| json!({ "name": column.name(), "type": kind.0 }))
        .collect();
    let rows = tx.query(&statement, &[])?;
    let rows: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| kinds.iter().enumerate().map(|(place, kind)| kind.1(row, place)).collect())
        .collect();
    let mut told = Map::new();
    told.insert("fields".into(), fields.into());
    told.insert("rows".into(), json!(rows));
    Ok(told.into())
}

/// A whole number for a browser, whose numbers are exact up to 2^53 only: a text beyond that.
fn whole(number: i64) -> Value {
    const EXACT: u64 = 1 << 53;
    if number.unsigned_abs() <= EXACT { number.into() } else { number.to_string().into() }
}

/// An instant for a browser, whose times end before PostgreSQL's do.
fn millis(at: SystemTime) -> Option<Millis> {
    let since = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Millis::try_from(after.as_millis()).ok()?,
        Err(before) => -Millis::try_from(before.duration().as_millis()).ok()?,
    };
    (since.abs() <= 8_640_000_000_000_000).then_some(since)
}

/// What a column is called, and how a value of it becomes JSON.
pub(super) type Kind = (&'static str, fn(&Row, usize) -> Value);

pub(super) fn kind(of: &Type) -> Result<Kind> {
    Ok(match *of {
        Type::TIMESTAMPTZ => ("time", |row, place| {
            let at: Option<SystemTime> = row.get(place);
            at.and_then(millis).into()
        }),
        Type::INT4 => ("number", |row, place| row.get::<_, Option<i32>>(place).into()),
        Type::INT8 => ("number", |row, place| row.get::<_, Option<i64>>(place).map(whole).into()),
        Type::FLOAT8 => ("number", |row, place| row.get::<_, Option<f64>>(place).into()),
        Type::BOOL => ("boolean", |row, place| row.get::<_, Option<bool>>(place).into()),
        Type::TEXT => ("string", |row, place| row.get::<_, Option<String>>(place).into()),
        _ => bail!("a column of type {of}: cast it to text, bigint, float8 or timestamptz"),
    })
}

#[cfg(test)]
mod tests {
    use dataflows::model::time::wall_clock;

    use super::*;

    /// 2026-11-23 15:30:20 in Seoul.
    const NOW: Millis = 1_795_415_420_000;

    fn told(text: &str, end: bool) -> String {
        wall_clock(instant(&json!(text), NOW, end).unwrap()).to_string()
    }

    #[test]
    fn ranges_are_those_of_grafana_by_the_clock_of_seoul() {
        assert_eq!(told("now", true), "2026-11-23 15:30:20");
        assert_eq!(told("now-6h", false), "2026-11-23 09:30:20");
        assert_eq!(told("now-90d", false), "2026-08-25 15:30:20");
        assert_eq!(told("now-1y", false), "2025-11-23 15:30:20");
        assert_eq!(told("now/d", false), "2026-11-23 00:00:00");
        assert_eq!(told("now/d", true), "2026-11-24 00:00:00");
        assert_eq!(told("now-1M/M", false), "2026-10-01 00:00:00");
        assert_eq!(told("now-1M/M", true), "2026-11-01 00:00:00");
        assert_eq!(instant(&json!(5), NOW, false).unwrap(), 5);
        for bad in ["", "then", "now-", "now-h", "now-5x", "now/q", "now-5", "now+1h", "now-5é"] {
            assert!(instant(&json!(bad), NOW, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_has_no_more_points_than_asked_for() {
        assert_eq!(interval(DAY, 1_440), MINUTE);
        assert_eq!(interval(DAY, 1_000), 2 * MINUTE);
        for days in [1, 7, 30, 90, 365] {
            assert!(days * DAY / interval(days * DAY, 1_000) <= 1_000);
        }
    }

    #[test]
    fn what_is_chosen_is_quoted_and_known() {
        let variable = json!({ "includeAll": false, "current": { "value": "b" } });
        let options = ["a", "b", "it's"].map(str::to_owned);
        let of = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|it| (*it).to_owned()).collect();
            chosen(&variable, &options, Some(&asked))
        };
        assert_eq!(of(&["it's"]), ["it's"]);
        assert_eq!(of(&["a", "b"]), ["a", "b"]);
        assert_eq!(of(&["'; DROP TABLE users"]), ["a"]);
        assert_eq!(of(&["$__all"]), options);
        assert_eq!(chosen(&variable, &options, None), ["b"]);
        assert_eq!(quoted("it's"), "'it''s'");
        assert_eq!(quoted_list(&[]), "NULL");
        let said = expand("SELECT $__interval 가가가가가가가가가가가가가가", &[]).unwrap_err();
        assert!(said.to_string().contains("$__interval"), "{said}");
    }

    #[test]
    fn a_range_of_no_calendar_is_refused() {
        for bad in [json!(i64::MIN), json!(i64::MAX), json!("now-200y"), json!("now-100000M/y")] {
            let said = instant(&bad, NOW, false).unwrap_err().to_string();
            assert!(said.contains("1900 to 2199"), "{said}");
        }
    }

    /// The words of a query outside of its quotes and comments.
    fn unquoted(sql: &str) -> String {
        let (mut outside, mut inside) = (String::new(), false);
        let mut chars = sql.chars().peekable();
        while let Some(char) = chars.next() {
            if char == '\'' && inside && chars.next_if_eq(&'\'').is_some() {
                continue;
            }
            if char == '-' && !inside && chars.next_if_eq(&'-').is_some() {
                _ = chars.find(|char| *char == '\n');
                continue;
            }
            inside ^= char == '\'';
            if char == '\'' || !inside {
                outside.push(char);
            }
        }
        outside
    }

    /// Whatever is asked: a range is one that PostgreSQL knows, and what is chosen stays in its quotes.
    /// An input is a request, and what the variables' queries gave, a line each.
    #[test]
    fn fuzz_pages() {
        let ask = r#"{"uid":"now","from":"now-24h","to":"now","points":500,"variables":{"category":["food","it's"],"segment":["$__all"]},"only":[1,2]}"#;
        let korean = r#"{"uid":"trends-ko","from":1795415420000,"to":"now/d","variables":{}}"#;
        let earlier = r#"{"uid":"customers","from":"now-13M/M","to":"now-1y/y"}"#;
        let seeds =
            [ask, korean, earlier].map(|ask| format!("{ask}\nfood\n${{tz:sqlstring}}\n$__x\n'"));
        crate::fuzz::fuzz!(100_000, seeds, |input| {
            let text = String::from_utf8_lossy(&input.0);
            let mut lines = text.lines();
            let Ok(ask) = serde_json::from_str::<Ask>(lines.next().unwrap_or_default()) else {
                return false;
            };
            let ends = (instant(&ask.from, NOW, false), instant(&ask.to, NOW, true));
            let (Ok(from), Ok(to)) = ends else { return false };
            for at in [from, to] {
                let written = quoted_instant(at);
                let read = chrono::DateTime::parse_from_rfc3339(written.trim_matches('\''));
                assert_eq!(read.unwrap().timestamp_millis(), at);
            }
            assert!(interval((to - from).max(0), ask.points) >= MINUTE);
            let Some(dashboard) = dashboard(&ask.uid) else { return false };
            let options: Vec<String> = lines.map(str::to_owned).collect();
            let mut words = vec![
                ("$__timeFrom()".to_owned(), quoted_instant(from)),
                ("$__timeTo()".to_owned(), quoted_instant(to)),
                ("$__interval_ms".to_owned(), "60000".to_owned()),
            ];
            let mut plain = words.clone();
            for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
                let name = variable["name"].as_str().unwrap();
                let chosen = chosen(variable, &options, ask.variables.get(name));
                assert!(chosen.iter().all(|one| options.contains(one)), "{chosen:?}");
                let word = format!("${{{name}:sqlstring}}");
                words.push((word.clone(), quoted_list(&chosen)));
                plain.push((word, quoted_list(&vec!["a".to_owned(); chosen.len()])));
            }
            for panel in dashboard["panels"].as_array().into_iter().flatten() {
                let Some(sql) = panel["targets"][0]["rawSql"].as_str() else { continue };
                let (sql, plain) = (expand(sql, &words).unwrap(), expand(sql, &plain).unwrap());
                assert_eq!(unquoted(&sql), unquoted(&plain));
            }
            true
        });
    }

    #[test]
    fn what_is_put_into_a_query_is_not_looked_at_again() {
        let words =
            [("${a:sqlstring}", "'${b:sqlstring}','$__timeTo()','${'"), ("${b:sqlstring}", "'b'")]
                .map(|(word, meaning)| (word.to_owned(), meaning.to_owned()));
        let expanded = expand("IN (${a:sqlstring}) = $1 AND ${b:sqlstring} $", &words).unwrap();
        assert_eq!(expanded, "IN ('${b:sqlstring}','$__timeTo()','${') = $1 AND 'b' $");
    }
}
