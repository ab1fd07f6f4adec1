//! Standing views: SELECTs that users add to the running engine, as the store keeps them.
//!
//! PostgreSQL analyses a text, as a view in a transaction that is rolled back; what it makes of it is read
//! and planned by [`dataflows::views`]. What is kept is the text as PostgreSQL prints it, with all names
//! resolved: the one given may mean something else tomorrow.
//!
//! Invariant: a view is in `standing_views`, with its table `kept_NAME` and the view NAME of that, or it is
//! nowhere. The engine alone writes its rows.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, anyhow, ensure};
use dataflows::analytics::ledger_table;
use dataflows::model::{Event, Topic};
use dataflows::row::{Fate, Row, RowBatch};
use dataflows::views::{
    COUNTED_ORDER_EVENTS, Catalog, Definition, Function, MARKET, ORDER_LINES, Refused, Relation,
    Shape, Source, Type, lower, order_lines, plan::cross_joins,
};
use postgres::{Client, GenericClient, Transaction};
use serde::Serialize;

use super::Columns;
use super::hydrate::{copy_out, ledger_event};

/// A text as PostgreSQL understands it.
pub struct Analysed {
    /// The same with all names resolved.
    pub canonical: String,
    /// Its columns: name and type.
    pub columns: Vec<(String, Type)>,
    /// What the engine runs.
    pub definition: Definition,
}

/// The table of a view's rows.
pub fn kept(name: &str) -> String {
    format!("kept_{name}")
}

/// The first columns of such a table.
const OWN: [&str; 3] = ["row_key", "copies", SINCE];

/// The market time of the commit point that brought a row, in a view whose rows are alerts. Its default writes
/// it: the engine does not know of it.
pub(super) const SINCE: &str = "row_since";

/// A standing view as the store has it.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The text as it was given.
    pub asked: String,
    /// The text as it is kept.
    pub text: String,
    /// It is to go.
    pub dropped: bool,
    /// So many records it may hold.
    pub most: u64,
    /// Each of its rows is an alert.
    pub alert: bool,
}

/// A view that is to be added.
pub struct New<'n> {
    /// Its name.
    pub name: &'n str,
    /// One SELECT.
    pub text: &'n str,
    /// Also where it makes all pairs of two relations.
    pub all_pairs: bool,
    /// So many records it may hold; none: [`MOST`].
    pub most: Option<u64>,
    /// Each of its rows is to be an alert.
    pub alert: bool,
}

/// So many columns a view may have: each takes up to 18 bytes of a row's page, and others are the engine's own.
const COLUMNS: usize = 100;

/// So many records a view may hold where nobody says: they take some gigabytes.
pub const MOST: u64 = 20_000_000;

/// Those that there are, in the order in which they were added.
pub fn list(client: &mut impl GenericClient) -> Result<Vec<View>> {
    let rows = client.query(
        "SELECT name, asked, text, dropped, most, alert FROM standing_views
         ORDER BY added_at, name",
        &[],
    )?;
    let view = |row: &postgres::Row| View {
        name: row.get(0),
        asked: row.get(1),
        text: row.get(2),
        dropped: row.get(3),
        most: row.get::<_, i64>(4).cast_unsigned(),
        alert: row.get(5),
    };
    Ok(rows.iter().map(view).collect())
}

/// A view under its name; what there are otherwise is told.
pub fn find(client: &mut impl GenericClient, name: &str) -> Result<View> {
    let views = list(client)?;
    let names: Vec<String> = views.iter().map(|view| view.name.clone()).collect();
    views.into_iter().find(|view| view.name == name).with_context(|| {
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("there is no standing view `{name}`; there are: {there}")
    })
}

/// Whether an engine runs that looks after the views: it holds a lock while it does.
pub fn is_looked_after(client: &mut Client) -> Result<bool> {
    let mut tx = client.transaction()?;
    let free: bool =
        tx.query_one(&format!("SELECT pg_try_advisory_xact_lock({LOCK})"), &[])?.get(0);
    Ok(!free)
}

/// Says that this session's engine looks after the views, unless another one still does: whether it could.
pub fn look_after(client: &mut Client) -> Result<bool> {
    Ok(client.query_one(&format!("SELECT pg_try_advisory_lock({LOCK})"), &[])?.get(0))
}

/// The number of that lock: `stan` in ASCII.
const LOCK: i64 = 0x7374_616e;

/// That a text can stand under a name: where not, a sentence says why, with the place in the text.
pub fn analyse(client: &mut Client, name: &str, text: &str) -> Result<Analysed> {
    // What is before it stays, for the places that are told.
    let text = text.trim_end().trim_end_matches(';').trim_end();
    ensure!(!text.is_empty(), "there is no SELECT in it");
    let catalog = catalog(client, name)?;
    let AsView { tree, canonical, columns } = understood(client, text)?;
    let Known { catalog, sources } = catalog;
    let plan = lower(&tree, &catalog).map_err(|refused| refusal(text, &refused))?;
    let mut named = Vec::new();
    for (column, oid, sql) in columns {
        let of = Type::of(oid).with_context(|| {
            format!("column {column} is of type {sql}, which a standing view cannot keep")
        })?;
        ensure!(
            !OWN.contains(&column.as_str()),
            "column {column} has a name that the view's table has: give it another by AS"
        );
        named.push((column, of));
    }
    ensure!(!named.is_empty(), "it has no column");
    ensure!(
        named.len() <= COLUMNS,
        "it has {} columns, and a view has up to {COLUMNS}: a row of PostgreSQL holds no more for sure",
        named.len()
    );
    let types = named.iter().map(|(_, of)| of.clone()).collect();
    let shape = Shape { table: 0, types, key: plan.key() };
    let definition = Definition::new(name, shape, plan, &sources);
    Ok(Analysed { canonical, columns: named, definition })
}

struct AsView {
    tree: String,
    canonical: String,
    /// Name, object id of the type, and the type in SQL.
    columns: Vec<(String, u32, String)>,
}

/// What PostgreSQL makes of a text; nothing of it stays.
fn understood(client: &mut Client, text: &str) -> Result<AsView> {
    let mut tx = client.transaction()?;
    let view = as_view(&mut tx, text)?;
    tx.rollback()?;
    Ok(view)
}

/// What stands before the text when PostgreSQL reads it.
const BEFORE: &str = "CREATE VIEW marketday_asked.asked AS ";

/// Makes it a view, in a transaction that is to be rolled back. One statement by the extended protocol, so that nothing can
/// follow it; and of a role that may read what views may read.
fn as_view(tx: &mut Transaction<'_>, text: &str) -> Result<AsView> {
    tx.batch_execute(
        "SET LOCAL statement_timeout = '10s';
         CREATE SCHEMA marketday_asked;
         GRANT USAGE, CREATE ON SCHEMA marketday_asked TO marketday_reader;
         SET LOCAL TIME ZONE 'Asia/Seoul';
         SET LOCAL ROLE marketday_reader",
    )
    .context("asking PostgreSQL what the SELECT means")?;
    tx.execute(&format!("{BEFORE}{text}"), &[])
        .map_err(|error| said(text, BEFORE.chars().count(), error))?;
    let tree = tx
        .query_one(
            "SELECT ev_action::text, set_config('search_path', '', true)
             FROM pg_rewrite WHERE ev_class = 'marketday_asked.asked'::regclass",
            &[],
        )?
        .get(0);
    let canonical: String =
        tx.query_one("SELECT pg_get_viewdef('marketday_asked.asked'::regclass)", &[])?.get(0);
    let options = "SELECT reloptions IS NOT NULL FROM pg_class
                   WHERE oid = 'marketday_asked.asked'::regclass";
    let has_options: bool = tx.query_one(options, &[])?.get(0);
    ensure!(!has_options, "WITH CHECK OPTION is of views that one writes through: leave it out");
    let columns = tx.query(
        "SELECT attname::text, atttypid, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = 'marketday_asked.asked'::regclass AND attnum > 0 ORDER BY attnum",
        &[],
    )?;
    let columns = columns.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let canonical = canonical.trim().trim_end_matches(';').to_owned();
    Ok(AsView { tree, canonical, columns })
}

/// What PostgreSQL says of a text that stood behind so many characters of ours: with the place in it.
pub fn said(text: &str, behind: usize, error: postgres::Error) -> anyhow::Error {
    let Some(said) = error.as_db_error() else { return error.into() };
    let place = match said.position() {
        Some(postgres::error::ErrorPosition::Original(place)) => {
            (*place as usize).checked_sub(behind + 1).filter(|it| *it <= text.chars().count())
        }
        _ => None,
    };
    let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    // Some repeat a part of the text, which may be long.
    let message: String = said.message().chars().take(300).collect();
    anyhow!("{}{message}{hint}", at(text, place))
}

/// Where in a text a character is, as who reads it counts; nothing where that is not known.
fn at(text: &str, place: Option<usize>) -> String {
    let Some(place) = place else { return String::new() };
    let before: Vec<char> = text.chars().take(place).collect();
    let line = before.iter().filter(|c| **c == '\n').count() + 1;
    let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
    format!("line {line}, column {column}: ")
}

fn refusal(text: &str, refused: &Refused) -> anyhow::Error {
    let place = refused.place.and_then(|place| place.checked_sub(BEFORE.len()));
    // PostgreSQL tells bytes here.
    let place = place.and_then(|place| Some(text.get(..place)?.chars().count()));
    anyhow!("{}{refused}", at(text, place))
}

/// What a view may read, and how PostgreSQL names it.
struct Known {
    catalog: Catalog,
    sources: Vec<Source>,
}

/// The relations of the engine's own, and in which numbers their rows are told.
fn own(table: &str) -> Option<u16> {
    let ledger = Topic::ALL.into_iter().find(|topic| topic.ledger() == table).map(ledger_table);
    let result = || {
        let tables = super::all_tables();
        let mut results = tables.results();
        results.find(|(_, name)| *name == table).map(|(number, _)| number)
    };
    ledger.or_else(result).or(match table {
        "counted_order_events" => Some(COUNTED_ORDER_EVENTS),
        "order_lines" => Some(ORDER_LINES),
        "market" => Some(MARKET),
        _ => None,
    })
}

/// Views of the store whose text is for a person's questions: this one says the same, and can stand.
const ORDERS: &str = "
    SELECT order_id, user_id, ordered_at, amount,
           coalesce(refunded_amount, 0) AS refunded_amount,
           CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
                WHEN refunded_amount >= amount THEN 'refunded'
                WHEN refunded_amount > 0 THEN 'partly refunded'
                ELSE 'placed' END AS status,
           cancelled_at
    FROM (SELECT user_id, order_id, ordered_at, sum(amount)::bigint AS amount
          FROM order_lines WHERE event = 'placed' GROUP BY user_id, order_id, ordered_at) AS placed
    LEFT JOIN (SELECT DISTINCT user_id, order_id, at AS cancelled_at
               FROM order_lines WHERE event = 'cancelled') AS cancelled USING (user_id, order_id)
    LEFT JOIN (SELECT user_id, order_id, sum(amount)::bigint AS refunded_amount
               FROM order_lines WHERE event = 'refunded' GROUP BY user_id, order_id) AS refunded
        USING (user_id, order_id)";

/// Reads what PostgreSQL knows; of a view's own name nothing, so that it cannot read itself.
fn catalog(client: &mut Client, name: &str) -> Result<Known> {
    let mut functions = HashMap::new();
    let rows = client.query(
        "SELECT oid, prosrc, proname::text, provolatile = 'v' FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace
            OR oid = to_regprocedure('market_now()')",
        &[],
    )?;
    for row in rows {
        let function = Function { source: row.get(1), name: row.get(2), volatile: row.get(3) };
        functions.insert(row.get::<_, u32>(0), function);
    }
    let rows = client.query("SELECT oid, oprname::text FROM pg_operator", &[])?;
    let operators = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let standing: BTreeMap<String, View> =
        list(client)?.into_iter().map(|view| (view.name.clone(), view)).collect();
    let rows = client.query(
        "SELECT class.oid, relname::text, ev_action::text,
                ARRAY(SELECT atttypid FROM pg_attribute
                      WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)
         FROM pg_class AS class
         LEFT JOIN pg_rewrite ON ev_class = class.oid AND class.relkind = 'v'
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v')",
        &[],
    )?;
    let (mut relations, mut sources) = (HashMap::new(), Vec::new());
    for row in rows {
        let (oid, table, tree): (u32, String, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        let types: Vec<u32> = row.get(3);
        if let Some(view) = standing.get(&table) {
            if table != name {
                let tree = understood(client, &view.text)?.tree;
                relations.insert(oid, Relation::Defined { name: table, tree });
            }
        } else if let Some(number) = own(&table) {
            // A column of a type that views do not have cannot be asked for; nor, where a counted event was
            // read, which the ledger alone knows.
            let mut hidden: Vec<usize> =
                (0..types.len()).filter(|place| Type::of(types[*place]).is_none()).collect();
            if number == COUNTED_ORDER_EVENTS {
                hidden.extend([1, 2]);
            }
            let types: Vec<Type> =
                types.iter().map(|oid| Type::of(*oid).unwrap_or(Type::Text)).collect();
            let is_ledger = Topic::ALL.iter().any(|it| it.ledger() == table);
            let is_result = tree.is_none() && !is_ledger;
            let of_key = if is_result { Columns::of(client, &table)?.key.len() } else { 0 };
            let (place, arity) = (sources.len(), types.len());
            // Of an event id there is one event.
            let unique = if is_ledger || number == COUNTED_ORDER_EVENTS { 1 } else { of_key };
            let key = (0..unique).collect();
            relations.insert(oid, Relation::Table { place, arity, key, hidden: hidden.clone() });
            sources.push(Source { name: table, table: number, types, hidden, key: of_key });
        } else if table == "orders" {
            let tree = understood(client, ORDERS)?.tree;
            relations.insert(oid, Relation::Defined { name: table, tree });
        } else if let Some(tree) = tree {
            relations.insert(oid, Relation::Defined { name: table, tree });
        } else {
            relations.insert(oid, Relation::Closed { name: table });
        }
    }
    Ok(Known { catalog: Catalog { functions, operators, relations }, sources })
}

/// That a view can be added, but for whether its name is taken. One that makes all pairs of two relations is
/// refused unless they are wanted.
pub fn check(client: &mut Client, new: &New<'_>) -> Result<Analysed> {
    let New { name, text, all_pairs, .. } = *new;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    ensure!(
        name.chars().all(is_word)
            && name.starts_with(|c: char| !c.is_ascii_digit())
            && (1..=50).contains(&name.len()),
        "a view's name is of 1 to 50 lower case letters, digits and `_`, as vip_regions; `{name}` is not: \
         give it another name"
    );
    let analysed = analyse(client, name, text)?;
    let pairs = cross_joins(&analysed.definition.plan);
    ensure!(
        pairs == 0 || all_pairs,
        "it joins each row of one relation with each of another, and would keep all pairs: join them by a \
         condition with `=` (on a command line --yes keeps them)"
    );
    Ok(analysed)
}

/// Puts a view into the store, with a table for its rows.
pub fn add(client: &mut Client, new: &New<'_>) -> Result<()> {
    let analysed = check(client, new)?;
    let New { name, text, most, alert, .. } = *new;
    let mut tx = client.transaction()?;
    tx.batch_execute(super::LOCKED)?;
    tx.batch_execute("LOCK TABLE standing_views IN SHARE ROW EXCLUSIVE MODE")?;
    let taken: bool = tx
        .query_one(
            "SELECT to_regclass(quote_ident($1)) IS NOT NULL
                    OR EXISTS (SELECT FROM standing_views WHERE name = $1)",
            &[&name],
        )?
        .get(0);
    ensure!(
        !taken,
        "there is a table or a view `{name}` already: give it another name, or drop that view first"
    );
    // What an engine may have said of one that had the name and was not its any more.
    tx.execute("DELETE FROM standing_view_states WHERE name = $1", &[&name])?;
    tx.execute(
        "INSERT INTO standing_views (name, asked, text, most, alert) VALUES ($1, $2, $3, $4, $5)",
        &[&name, &text.trim(), &analysed.canonical, &most.unwrap_or(MOST).cast_signed(), &alert],
    )?;
    let table = kept(name);
    let [key, copies, since] = OWN;
    let (since, index) = if alert {
        let of_since = format!(", {since} timestamptz DEFAULT committing_now()");
        (of_since, format!("CREATE INDEX ON {table} ({since}, {key});"))
    } else {
        (String::new(), String::new())
    };
    let quoted = |column: &str| format!("\"{}\"", column.replace('"', "\"\""));
    let columns = analysed.columns.iter().map(|(column, of)| {
        let collation = if *of == Type::Text { " COLLATE \"C\"" } else { "" };
        format!(", {} {}{collation}", quoted(column), of.sql())
    });
    let names: Vec<String> = analysed.columns.iter().map(|(column, _)| quoted(column)).collect();
    let repeated = match analysed.definition.shape.key {
        Some(_) => String::new(),
        None => format!(", generate_series(1, {copies})"),
    };
    tx.batch_execute(&format!(
        "CREATE TABLE {table} ({key} bytea PRIMARY KEY, {copies} bigint NOT NULL{}{since})
             WITH (fillfactor = 70);
         CREATE VIEW {name} AS SELECT {} FROM {table}{repeated};
         GRANT SELECT ON {table}, {name} TO marketday_reader;
         {index}
         NOTIFY standing_views",
        columns.collect::<String>(),
        names.join(", ")
    ))
    .with_context(|| format!("making the table of the view {name}"))?;
    tx.commit().with_context(|| format!("adding the view {name}"))
}

/// Says that a view is to go: an engine that looks after it lets go of it first.
pub fn ask_to_drop(client: &mut Client, name: &str) -> Result<()> {
    find(client, name)?;
    for other in list(client)?.iter().filter(|other| other.name != name && !other.dropped) {
        let reads = analyse_reads(client, &other.text, name)?;
        ensure!(!reads, "the view {} reads {name}: drop that first", other.name);
    }
    client.batch_execute("NOTIFY standing_views")?;
    client.execute("UPDATE standing_views SET dropped = true WHERE name = $1", &[&name])?;
    Ok(())
}

/// Whether a text reads a view: PostgreSQL knows what a view depends on.
fn analyse_reads(client: &mut Client, text: &str, name: &str) -> Result<bool> {
    let mut tx = client.transaction()?;
    as_view(&mut tx, text)?;
    tx.batch_execute("RESET ROLE")?;
    let reads = tx
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
                            JOIN pg_class ON pg_class.oid = refobjid
                            WHERE ev_class = 'marketday_asked.asked'::regclass AND relname = $1)",
            &[&name],
        )?
        .get(0);
    tx.rollback()?;
    Ok(reads)
}

/// Takes a view out of the store: of an engine, when it has let go of it.
pub fn remove(client: &mut Client, name: &str) -> Result<()> {
    let mut tx = client.transaction()?;
    tx.batch_execute(super::LOCKED)?;
    tx.batch_execute(&format!("DROP VIEW IF EXISTS {name}; DROP TABLE IF EXISTS {}", kept(name)))?;
    for table in ["standing_views", "standing_view_states", "standing_view_costs"] {
        tx.execute(&format!("DELETE FROM {table} WHERE name = $1"), &[&name])?;
    }
    tx.execute("DELETE FROM followed_tables WHERE table_name = $1", &[&kept(name)])?;
    tx.batch_execute("NOTIFY standing_views")?;
    tx.commit().with_context(|| format!("dropping the view {name}"))
}

/// Notes how many records are held for views.
pub fn write_costs(client: &mut Client, held: &BTreeMap<String, u64>) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = held.keys().map(String::as_str).collect();
    let records: Vec<i64> = held.values().map(|records| records.cast_signed()).collect();
    client.execute(
        "INSERT INTO standing_view_costs (name, records)
         SELECT name, records FROM unnest($1::text[], $2::bigint[]) AS told (name, records)
         JOIN standing_views USING (name)
         ON CONFLICT (name) DO UPDATE SET records = excluded.records, told_at = clock_timestamp()",
        &[&names, &records],
    )?;
    Ok(())
}

/// How many records were held for a view when that was noted last.
pub fn held(client: &mut impl GenericClient, name: &str) -> Result<Option<i64>> {
    let row =
        client.query_opt("SELECT records FROM standing_view_costs WHERE name = $1", &[&name])?;
    Ok(row.map(|row| row.get(0)))
}

/// How a view stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// `adding` until it is in the store as a whole, then `live`; `failed` where something is raised, and
    /// its rows are the last that held; `ended` where it held too much, likewise; `dropped` until the engine
    /// has let go of it.
    pub state: String,
    /// What is raised.
    pub reason: String,
}

/// A view's state and its reason.
const STATE: &str = "CASE WHEN dropped THEN 'dropped' ELSE coalesce(state, 'adding') END,
                     CASE WHEN dropped THEN '' ELSE coalesce(reason, '') END";

/// How all views stand, in the order in which they were added.
pub fn states(client: &mut impl GenericClient) -> Result<Vec<State>> {
    let rows = client.query(
        &format!(
            "SELECT name, {STATE}
             FROM standing_views LEFT JOIN standing_view_states USING (name) ORDER BY added_at, name"
        ),
        &[],
    )?;
    let state =
        |row: &postgres::Row| State { name: row.get(0), state: row.get(1), reason: row.get(2) };
    Ok(rows.iter().map(state).collect())
}

/// How one stands that is there.
pub fn state(client: &mut impl GenericClient, name: &str) -> Result<State> {
    find(client, name)?;
    let states = states(client)?;
    states.into_iter().find(|it| it.name == name).context("it has just been dropped")
}

/// Gives a worker's share of what relations hold at a shared snapshot, in the engine's rows. (Of a ledger that
/// has no statistics yet PostgreSQL would look for each event's earlier ones by reading all.)
pub fn past(
    database: &postgres::Config,
    snapshot: &str,
    sources: &[Source],
    (shard, shards): (usize, usize),
    give: &mut dyn FnMut(RowBatch) -> Result<()>,
) -> Result<()> {
    let mut client = super::connect(database)?;
    client.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}';
         SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '128MB'"
    ))?;
    for source in sources.iter().filter(|source| source.table != MARKET) {
        let lines = source.table == ORDER_LINES;
        let counted = lines || source.table == COUNTED_ORDER_EVENTS;
        let table = if counted { Topic::Orders.ledger() } else { source.name.as_str() };
        let (stored, columns) = super::stored(table);
        let pages: i64 = client
            .query_one(
                "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint",
                &[&stored],
            )?
            .get(0);
        // Whole pages: a snapshot sees a row in one place, and no page comes behind those that there are.
        let place = |shard: usize| pages * shard as i64 / shards as i64;
        let until = if shard + 1 == shards { i64::from(u32::MAX) } else { place(shard + 1) };
        // Of order events with ids beyond 2^63 the lesser number is the lesser id, too.
        let counts = if counted {
            "AND NOT EXISTS (
                 SELECT FROM order_ledger AS earlier
                 WHERE earlier.user_id = e.user_id AND earlier.order_id = e.order_id
                   AND earlier.kind = e.kind AND earlier.kind <> 3
                   AND (earlier.at, earlier.event_id < 0, earlier.event_id)
                       < (e.at, e.event_id < 0, e.event_id))"
        } else {
            ""
        };
        let query = format!(
            "SELECT {} FROM {stored} AS e
             WHERE ctid >= '({},0)' AND ctid < '({until},0)' {counts}",
            columns.unwrap_or("*"),
            place(shard),
        );
        let mut rows = RowBatch::default();
        copy_out(&mut client, &query, |bytes| {
            if lines {
                let (_, event) = ledger_event(Topic::Orders, bytes);
                let event = event.map_err(|what| anyhow!("the ledger holds {what}"))?;
                if let Event::Order(event) = event {
                    for line in order_lines(&event) {
                        rows.push(&line, Fate::New);
                    }
                }
            } else {
                rows.push(&Row::of(source.table, &[], bytes), Fate::New);
            }
            rows.take_full().map_or(Ok(()), &mut *give)
        })?;
        give(rows)?;
    }
    Ok(())
}

/// A view as people are told of it.
#[derive(Debug, Serialize)]
pub struct Told {
    /// How it stands.
    #[serde(flatten)]
    pub state: State,
    /// How many rows it has; beyond 100,000 about so many.
    pub rows: i64,
    /// Records that are held in memory for it; none: it is not known.
    pub held: Option<i64>,
    /// For how long it has been there, in seconds.
    pub age_seconds: i64,
    /// Whether its rows are alerts.
    pub alert: bool,
    /// The text as PostgreSQL understood it.
    pub text: String,
    /// The text as it was given.
    pub asked: String,
}

/// All views as people are told of them, in the order in which they were added; or the one of a name.
pub fn told(client: &mut impl GenericClient, name: Option<&str>) -> Result<Vec<Told>> {
    let views = client.query(
        &format!(
            "SELECT name, {STATE}, records, extract(epoch FROM clock_timestamp() - added_at)::bigint, alert,
                    text, asked, reltuples::bigint
             FROM standing_views
             LEFT JOIN standing_view_states USING (name) LEFT JOIN standing_view_costs USING (name)
             JOIN pg_class ON pg_class.oid = to_regclass('kept_' || name)
             WHERE $1::text IS NULL OR name = $1 ORDER BY added_at, name"
        ),
        &[&name],
    )?;
    let mut told = Vec::new();
    for row in &views {
        let name: String = row.get(0);
        // Who looks on need not read millions of rows each time.
        let mut rows = row.get(8);
        if rows < 100_000 {
            let count = format!("SELECT coalesce(sum(copies), 0)::bigint FROM {}", kept(&name));
            rows = client.query_one(&count, &[])?.get(0);
        }
        told.push(Told {
            state: State { name, state: row.get(1), reason: row.get(2) },
            rows,
            held: row.get(3),
            age_seconds: row.get(4),
            alert: row.get(5),
            text: row.get(6),
            asked: row.get(7),
        });
    }
    Ok(told)
}
