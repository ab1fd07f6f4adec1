//! The store: what the analytics read from PostgreSQL at their start and write at each commit.
//!
//! PostgreSQL is the checkpoint. One transaction holds the ledgers' new rows, the changed result
//! rows, the offsets and `now`, so that the database always says what one prefix of the log says.
//!
//! Invariant: of several engines only the one that claimed last can commit. `progress` carries its
//! generation, and every commit starts by updating that row where the generation is still its own.

pub mod changes;
pub mod checkpoints;
mod commit;
mod hydrate;
mod indexes;
pub mod migrate;
pub mod views;
pub mod waits;

pub use commit::{Committer, Writes};
pub use hydrate::{Counted, Known, LedgerDiffers, dead_letters, hydrate, stored_rows};

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dataflows::analytics::{BASE_TABLES, Tables};
use dataflows::ledger::{Reach, Tally};
use dataflows::model::{Millis, Topic, UserId};
use dataflows::{Epoch, QUERIES};
use postgres::config::Host;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, Config, GenericClient, NoTls, Transaction};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::log::Log;
use crate::platform::retry;
use crate::platform::secret::{self, Secret};

/// How sessions are named to the server, unless whoever named it says otherwise.
const SESSION: &str = "marketday";

/// How long a connection may be silent before it is asked whether it is still there, the pause
/// between such questions, and how many may stay without an answer: 25 s in all.
const SILENCE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 3);

/// Sets what is not set: a cut cable or a paused host must be noticed within half a minute.
pub fn notice_silence(config: &mut Config) {
    let (idle, interval, retries) = SILENCE;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(idle);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(idle + interval * retries);
    }
    if config.get_keepalives_idle() > idle {
        config.keepalives_idle(idle);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(interval);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(retries);
    }
    if config.get_application_name().is_none() {
        config.application_name(SESSION);
    }
}

/// What our sessions need, however the server, the database and the login are set.
///
/// The zone and the form of dates: a twin's ages, and instants as text, go by them. No timeouts: a session
/// is idle when nothing happens in the market, and a commit or a twin takes as long as it takes. And one
/// schema: the first of the path that holds a store, else its first. Of a role that we act as the path
/// could be another.
const SETTINGS: &str = "
    SELECT set_config(name, needed.setting, false)
    FROM (VALUES ('TimeZone', 'UTC'), ('DateStyle', 'ISO, MDY'), ('standard_conforming_strings', 'on'),
                 ('default_transaction_isolation', 'read committed'),
                 ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
                 ('transaction_timeout', '0'), ('statement_timeout', '0'), ('lock_timeout', '0'))
             AS needed (name, setting)
    JOIN pg_settings USING (name)
    WHERE pg_settings.setting <> needed.setting;
    SELECT set_config('search_path', quote_ident(schema), false)
    FROM (SELECT schema FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (schema, place)
          ORDER BY to_regclass(format('%I.commit_offsets', schema)) IS NULL, place LIMIT 1) AS chosen";

/// How many connections may be on their way to a server that takes them and says nothing. All workers of a
/// process connect at once.
const SILENT_MAX: usize = 64;

/// How many are.
static SILENT: AtomicUsize = AtomicUsize::new(0);

/// Connects. A server that is stopped, or none that speaks PostgreSQL's protocol, takes a connection and
/// says nothing, for which the client would wait without end.
fn reach(config: Config) -> Result<Client> {
    let (sender, receiver) = sync_channel(1);
    if SILENT.fetch_add(1, Ordering::Relaxed) < SILENT_MAX {
        std::thread::spawn(move || {
            let connected = config.connect(NoTls).and_then(|mut client| {
                client.batch_execute(SETTINGS)?;
                Ok(client)
            });
            SILENT.fetch_sub(1, Ordering::Relaxed);
            // Nobody may be waiting any more.
            _ = sender.send(connected);
        });
        match receiver.recv_timeout(SILENCE.0) {
            Ok(connected) => return Ok(connected?),
            Err(_) => bail!(retry::NoAnswer(SILENCE.0)),
        }
    }
    SILENT.fetch_sub(1, Ordering::Relaxed);
    std::thread::sleep(SILENCE.0);
    bail!(retry::NoAnswer(SILENCE.0))
}

/// Reads where a database is. What is wrong with it is told without a part of it.
pub fn config(address: &Secret) -> Result<Config> {
    let config = address.expose().parse::<Config>();
    let wrong = config.as_ref().err().and_then(StdError::source).map(ToString::to_string);
    // Such a cause names an option of those that there are; others name what was read.
    let wrong = wrong.filter(|it| it.starts_with("invalid value for option"));
    let is_name = |host: &Host| match host {
        Host::Tcp(host) => secret::is_name(host),
        Host::Unix(path) => secret::is_name(&path.to_string_lossy()),
    };
    let is_read = |config: &Config| {
        let user = config.get_user().unwrap_or_default();
        config.get_hosts().iter().all(is_name)
            && secret::is_name(config.get_dbname().unwrap_or_default())
            // A user may be called me@host, as some servers have it.
            && !user.contains([';', '='])
            && (config.get_password().is_some() || !user.contains(':'))
    };
    config.ok().filter(is_read).with_context(|| {
        format!(
            "reading the database's URL{}: it is like \
             postgres://USER:PASSWORD@HOST:PORT/NAME, where {}, or like host=HOST user=USER \
             password='PASSWORD' dbname=NAME",
            wrong.map(|wrong| format!(", {wrong}")).unwrap_or_default(),
            secret::ENCODE
        )
    })
}

/// Connects; the error names the server, never the password.
pub fn connect(config: &Config) -> Result<Client> {
    let mut reaching = config.clone();
    notice_silence(&mut reaching);
    reach(reaching).with_context(|| {
        format!(
            "connecting to PostgreSQL at {:?}, ports {:?}, database {:?}: is it running, and is the \
             password right?",
            config.get_hosts(),
            config.get_ports(),
            config.get_dbname().unwrap_or_default()
        )
    })
}

/// Waits until something is committed, or so long at the most, on a connection that has said
/// `LISTEN commit_point`. Commits that came together are heard of once.
pub fn wait_for_commit(client: &mut Client, longest: Duration) -> Result<()> {
    let mut heard = client.notifications();
    heard.timeout_iter(longest).next().context("waiting for commit points")?;
    while heard.iter().next()?.is_some() {}
    Ok(())
}

/// Whether another program of ours is connected to this database, as far as one may see that.
pub fn is_shared(client: &mut Client) -> Result<bool> {
    let others = client.query_one(
        "SELECT EXISTS (SELECT FROM pg_stat_activity
                        WHERE datname = current_database() AND application_name = $1
                          AND pid <> pg_backend_pid())",
        &[&SESSION],
    )?;
    Ok(others.get(0))
}

/// How long a transaction of who only reads may last, and a little more than the time-outs that their
/// logins are given: those come first, with a better sentence.
pub const READING: Duration = Duration::from_secs(35);

/// Ends the sessions of those who only read whose transaction is older than that: a reader can lift
/// every time-out that was set for them, and an old snapshot keeps PostgreSQL from vacuuming.
pub fn end_long_readers(client: &mut Client, longest: Duration) -> Result<u64> {
    // Who owns the store is a member of both roles, if it is not ourselves.
    let ended = client.query_one(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend'
           AND usename <> current_user
           AND xact_start < clock_timestamp() - $1 * interval '1 s'
           AND pg_has_role(usesysid, 'marketday_reader', 'MEMBER')
           AND NOT pg_has_role(usesysid, 'marketday_twin', 'MEMBER')
           AND pg_has_role('pg_signal_backend', 'USAGE')",
        &[&longest.as_secs_f64()],
    )?;
    Ok(ended.get::<_, i64>(0) as u64)
}

/// What an engine takes over from the one before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Which engine this is: one more than the last.
    pub generation: i64,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// `now` at that commit.
    pub now: Option<Millis>,
    /// Offsets and counts at that commit.
    pub tallies: BTreeMap<(Topic, u32), Tally>,
    /// No record beyond this moves `now`.
    pub latest: Option<Millis>,
    /// The result tables that are kept from then on.
    pub kept_tables: Vec<String>,
}

/// The number of the rules by which this program counts. 1: orders are named by their number alone,
/// and any customer's clock moves `now`. 2: see migration V14.
const RULES: i64 = 2;

/// How long one waits for what another holds before one says so, and tries again.
pub(crate) const PATIENCE: &str = "SET lock_timeout = '10s'";

/// The same in one transaction: the commits that follow wait without end.
const LOCKED: &str = "SET LOCAL lock_timeout = '10s'";

/// Takes the store over: from here on no earlier engine can commit. What was counted by older rules
/// is emptied, to be counted again from the log's start; where the log no longer goes back there, it
/// is gone on from.
pub fn claim(client: &mut Client, log: &dyn Log, tables: &Tables, form: &str) -> Result<Claim> {
    let kept_tables: Vec<String> = tables.results().map(|(_, name)| name.to_owned()).collect();
    let log_identity = log.identity();
    let mut tx = client.transaction()?;
    tx.batch_execute(LOCKED)?;
    let row = tx
        .query_one(
            "UPDATE progress SET generation = generation + 1,
                                 log_identity = coalesce(log_identity, $1),
                                 kept_tables = $2
             RETURNING generation, log_identity, rules,
                       (extract(epoch FROM latest) * 1000)::bigint",
            &[&log_identity, &kept_tables],
        )
        .context("claiming the store for this engine")?;
    is_of_log(&row.get::<_, String>(1), log_identity)?;
    let rules: i64 = row.get(2);
    if rules < RULES {
        renew(&mut tx, log, rules).context("going over to today's rules of counting")?;
    }
    checkpoints::only(&mut tx, form)?;
    let tallies = committed_tallies(&mut tx)?;
    // As they are now: the store may just have been emptied.
    let stands = "SELECT (extract(epoch FROM now) * 1000)::bigint, epoch FROM progress";
    let stands = tx.query_one(stands, &[])?;
    tx.commit()?;
    Ok(Claim {
        generation: row.get(0),
        epoch: stands.get::<_, i64>(1) as Epoch,
        now: stands.get(0),
        tallies,
        latest: row.get(3),
        kept_tables,
    })
}

/// What an engine says that is no longer the one.
pub(crate) fn taken_over(generation: i64) -> anyhow::Error {
    anyhow!(
        "another engine has taken this database over; this one (generation {generation}) has written \
         nothing more"
    )
}

/// That the login may act as a role, and the role read the tables, as who `does` something has to.
pub fn can_act_as(database: &Config, role: &str, does: &str) -> Result<()> {
    let mut client = connect(database)?;
    let login = login(&mut client)?;
    let schema = "SELECT quote_ident(current_schema()), current_schema()::text";
    let schema = client.query_one(schema, &[])?;
    let (schema, name): (String, String) = (schema.get(0), schema.get(1));
    let rights = format!(
        "acting as {role}, as {does} does: have an administrator run `GRANT {role} TO {login}; \
         GRANT USAGE ON SCHEMA {schema} TO {role}`"
    );
    client.batch_execute(&format!("SET ROLE {role}")).with_context(|| rights.clone())?;
    let may = "SELECT has_schema_privilege($1, 'USAGE')";
    let may: bool = client.query_one(may, &[&name])?.get(0);
    ensure!(may, rights);
    Ok(())
}

/// As whom we are connected, as SQL names it.
fn login(client: &mut Client) -> Result<String> {
    Ok(client.query_one("SELECT quote_ident(current_user)", &[])?.get(0))
}

pub(crate) fn is_of_log(known: &str, log_identity: &str) -> Result<()> {
    ensure!(
        known == log_identity,
        "this database holds the results of log {known}, not of log {log_identity}; give the log \
         its own database, or the database its own log"
    );
    Ok(())
}

/// Brings a store that was counted by older rules to today's.
fn renew(tx: &mut Transaction<'_>, log: &dyn Log, rules: i64) -> Result<()> {
    let (mut whole, mut records) = (true, 0);
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            whole &= log.start(topic, partition)? == 0;
            records += log.end(topic, partition)?;
        }
    }
    let counted = tx.query_one("SELECT EXISTS (SELECT FROM commit_points)", &[])?.get(0);
    if counted && whole {
        warn!(
            "the database was counted by older rules ({rules}, today's are {RULES}): \
             counting the log's {records} records again; `marketday status` shows how far it is"
        );
        empty(tx)?;
    } else if counted {
        warn!(
            "the database was counted by older rules ({rules}, today's are {RULES}), and \
             the log no longer goes back to its start: going on by today's; `marketday verify` \
             names the offsets from which they hold"
        );
        tx.execute(
            "UPDATE commit_offsets SET rules_from = next_offset, other_at = newest_at,
                                       reached_at = newest_at",
            &[],
        )?;
    }
    tx.batch_execute("DELETE FROM checkpoints")?;
    tx.execute("UPDATE progress SET rules = $1", &[&RULES])?;
    Ok(())
}

/// Empties the ledgers and the results, so that the next engine reads the log from its start; until
/// it is told otherwise, no record beyond `latest` moves `now`. An engine that runs is fenced off.
pub fn rebuild(client: &mut Client, log_identity: &str, latest: Option<Millis>) -> Result<()> {
    let mut tx = client.transaction()?;
    tx.batch_execute(LOCKED)?;
    let known = tx
        .query_one(
            "UPDATE progress SET generation = generation + 1, rules = $1,
                                 latest = 'epoch'::timestamptz + $2 * interval '1 ms'
             RETURNING log_identity",
            &[&RULES, &latest.map(|at| at as f64)],
        )
        .context("taking the store over to rebuild it")?;
    if let Some(known) = known.get::<_, Option<String>>(0) {
        is_of_log(&known, log_identity)?;
    }
    empty(&mut tx)?;
    tx.commit().context("emptying the store")
}

fn empty(tx: &mut Transaction<'_>) -> Result<()> {
    let results = result_tables();
    let others = [
        "commit_offsets",
        "commit_points",
        "checkpoints",
        "pipeline_status",
        "table_changes",
        "standing_view_states",
    ];
    let views: Vec<String> = views::list(tx)?.iter().map(|view| views::kept(&view.name)).collect();
    let mut tables: Vec<&str> =
        BASE_TABLES.into_iter().map(|it| stored(it).0).chain(results).chain(others).collect();
    tables.extend(views.iter().map(String::as_str));
    // Who follows a table has rows that are gone without a change: they begin anew.
    tx.batch_execute(&format!(
        "TRUNCATE {};
         {}
         UPDATE progress SET now = NULL, epoch = epoch + 1;
         UPDATE followed_tables SET since = (SELECT epoch FROM progress)",
        tables.join(", "),
        indexes::drop_all()
    ))
    .context("emptying ledgers and results")
}

/// Where the rows of a base table are, and the columns in which its rows' fields are, where those are not
/// its own in their order: `order_events` is a view.
pub(crate) fn stored(table: &str) -> (&str, Option<&'static str>) {
    if table == Topic::Orders.ledger() {
        let columns =
            "event_id, partition, \"offset\", at, kind, order_id, user_id, ordered_at, lines";
        ("order_ledger", Some(columns))
    } else {
        (table, None)
    }
}

/// Names a database that was migrated: no other has the same name, wherever one connects from.
pub fn identity(client: &mut Client) -> Result<String> {
    let sql = "SELECT current_database() || ' ' || applied_on FROM refinery_schema_history
        ORDER BY version LIMIT 1";
    let row = client.query_one(sql, &[]).context("asking which database it is")?;
    Ok(row.try_get(0)?)
}

/// The committed offset of each partition, and what became of the records before it.
pub fn committed_tallies(client: &mut impl GenericClient) -> Result<BTreeMap<(Topic, u32), Tally>> {
    let rows = client.query(
        "SELECT topic, partition, counted, duplicate, dead, heartbeat, amount, hash, next_offset,
                (extract(epoch FROM newest_at) * 1000)::bigint, newest_offset, newest_by,
                (extract(epoch FROM other_at) * 1000)::bigint,
                (extract(epoch FROM reached_at) * 1000)::bigint
         FROM commit_offsets",
        &[],
    )?;
    let mut tallies = BTreeMap::new();
    for row in rows {
        let name: String = row.get(0);
        let topic = Topic::from_name(&name).with_context(|| {
            format!("commit_offsets speaks of a topic {name}, which is unknown")
        })?;
        let count = |column: usize| row.get::<_, i64>(column) as u64;
        let reach = row.get::<_, Option<Millis>>(9).map(|newest_at| Reach {
            newest_at,
            newest_offset: row.get::<_, Option<i64>>(10).unwrap_or_default() as u64,
            newest_by: row.get::<_, Option<i64>>(11).map(UserId),
            other_at: row.get(12),
            reached: row.get(13),
        });
        let tally = Tally {
            counted: count(2),
            duplicate: count(3),
            dead: count(4),
            heartbeat: count(5),
            amount: row.get(6),
            hash: count(7),
            next_offset: count(8),
            reach,
        };
        tallies.insert((topic, row.get::<_, i64>(1) as u32), tally);
    }
    Ok(tallies)
}

/// The columns of a result table, or of a standing view's, as SQL writes their names.
pub struct Columns {
    /// The primary key: the table's first columns.
    pub key: Vec<String>,
    /// The others.
    pub value: Vec<String>,
}

impl Columns {
    /// Reads them from the catalog, so that a table is defined in its migration alone.
    pub fn of(client: &mut impl GenericClient, table: &str) -> Result<Columns> {
        let rows = client.query(
            "SELECT quote_ident(attname), attnum = ANY(coalesce(conkey, '{}'))
             FROM pg_attribute
             LEFT JOIN pg_constraint ON conrelid = attrelid AND contype = 'p'
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attname <> $2
             ORDER BY attnum",
            &[&table, &views::SINCE],
        )?;
        let in_key: Vec<bool> = rows.iter().map(|row| row.get(1)).collect();
        let names = || rows.iter().map(|row| row.get::<_, String>(0));
        let keys = in_key.iter().filter(|in_key| **in_key).count();
        if keys == 0 || !in_key[..keys].iter().all(|in_key| *in_key) {
            bail!(
                "table {table} is missing, or its primary key is not its first columns; each query \
                 needs a migration that creates its table so"
            );
        }
        Ok(Columns { key: names().take(keys).collect(), value: names().skip(keys).collect() })
    }

    /// All of them, as a list.
    pub fn list(&self) -> String {
        [&self.key[..], &self.value].concat().join(", ")
    }
}

/// The tables of all queries, whether they are kept or not.
fn all_tables() -> Tables {
    Tables::of(QUERIES)
}

/// Every query's table, whether it is kept or not.
pub fn result_tables() -> impl Iterator<Item = &'static str> {
    QUERIES.iter().map(|query| query.name)
}

/// That a name is a result table's.
pub fn is_result_table(name: &str) -> Result<()> {
    ensure!(
        result_tables().any(|table| table == name),
        "there is no result table `{name}`; there are {}",
        result_tables().collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// The result tables that the engine which has claimed a store does not keep: their content is that
/// of an earlier commit.
pub fn not_kept(client: &mut impl GenericClient) -> Result<Vec<&'static str>> {
    let row = client.query_one("SELECT kept_tables FROM progress", &[])?;
    let kept: Option<Vec<String>> = row.get(0);
    let is_kept = |name: &&str| kept.as_ref().is_none_or(|kept| kept.iter().any(|it| it == name));
    Ok(result_tables().filter(|name| !is_kept(name)).collect())
}
