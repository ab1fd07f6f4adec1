//! Brings a database to the newest schema: the files of `migrations/`, in order, each once.
//!
//! Who only looks makes nothing: then the schema must be there, and of this program's version.

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use postgres::error::SqlState;
use postgres::{Client, Config};
use refinery::{Migrate, Migration};
use tracing::{debug, warn};

use crate::platform::retry;
use crate::store;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Where refinery keeps what has run.
const HISTORY: &str = "refinery_schema_history";

/// Since which migrations there are `followed_tables`, and a hash of each ledger.
const FOLLOWED: i32 = 13;
const HASHED: i32 = 17;

/// The roles to whom the tables are granted. They are the cluster's: another database of it may have
/// made them.
const ROLES: &str = "marketday_twin, marketday_reader";

/// How one is told to marketday.
const SCHEMA: &str = "give marketday one of its own: CREATE SCHEMA shop, and name it at the end of the \
     database's URL, as in ?options=-csearch_path%3Dshop";

/// How the schema stands to this program.
enum Standing {
    /// There is none.
    Missing,
    Older(i32),
    Same,
    Newer(i32),
}

/// Runs the migrations that a database has not seen yet.
pub fn run(config: &Config) -> Result<()> {
    let mut client = store::connect(&watched(config))?;
    let encoding = "SELECT current_setting('server_encoding')";
    let encoding: String = client.query_one(encoding, &[])?.get(0);
    ensure!(
        encoding == "UTF8",
        "database {} is in {encoding}, which does not hold every text of an event; make one in UTF8: \
         CREATE DATABASE shop ENCODING 'UTF8' TEMPLATE template0",
        name(config)
    );
    let standing = standing(&mut client)?;
    match standing {
        Standing::Same => return Ok(()),
        Standing::Newer(version) => bail!(newer(version)),
        Standing::Missing => is_fit(&mut client, config)?,
        Standing::Older(_) => {}
    }
    let mut holder = store::connect(config)?;
    client.batch_execute(store::PATIENCE)?;
    holder.batch_execute(store::PATIENCE)?;
    // Of two programs that make the table of what has run at once, one may have to look again.
    let table = |client: &mut Client| client.assert_migrations_table(HISTORY);
    let made = table(&mut client).or_else(|_| table(&mut client));
    made.map_err(Error::from).map_err(explained)?;
    // Two programs at once: the second waits, then finds nothing to do. It waits for a lock on a table,
    // since an advisory one anybody can take who may only read.
    let mut held = holder.transaction()?;
    held.batch_execute(&format!("LOCK TABLE {HISTORY} IN SHARE UPDATE EXCLUSIVE MODE")).map_err(
        |error| match Error::from(error) {
            error if retry::refused(&error) => explained(error),
            error => error.context("waiting for another marketday that migrates this database"),
        },
    )?;
    make_roles(&mut client)?;
    // All of them or none: where one fails, as over a stranger's table, nothing is left behind.
    let runner = embedded::migrations::runner().set_grouped(true);
    // One of them may make a table anew, and tell nobody; or change the rows of a ledger. Before them: cut
    // off in between, the hashes are only taken anew.
    if let Standing::Older(version) = standing {
        let followed = (version >= FOLLOWED).then_some("DELETE FROM followed_tables;");
        let hashed = (version >= HASHED).then_some("UPDATE commit_offsets SET ledger_hash = NULL;");
        let forget: String = followed.into_iter().chain(hashed).collect();
        client.batch_execute(&forget).map_err(Error::from).map_err(explained)?;
    }
    runner.run(&mut client).map_err(Error::from).map_err(explained)?;
    held.commit()?;
    Ok(())
}

/// Whoever waits for so many pages of a table is told of it first: some seconds.
const MANY_PAGES: u64 = 10_000;

/// Shows how far a migration is that takes long, as it says itself: `order_events: 3 of 7 pages`.
fn watched(config: &Config) -> Config {
    let style = ProgressStyle::with_template("{bar:30} {elapsed}  page {pos} of {len}: {msg}");
    let bar = ProgressBar::no_length().with_style(style.expect("the template is valid"));
    let mut config = config.clone();
    config.notice_callback(move |notice| {
        let Some((table, done, pages)) = progress(notice.message()) else {
            debug!("PostgreSQL says: {}", notice.message());
            return;
        };
        if bar.length().is_none() && pages > MANY_PAGES {
            warn!(
                "bringing {table} into the form of this version, {} MiB: until that is done all is as \
                 it was, and it begins anew where it is cut off",
                pages >> 7
            );
        }
        bar.set_message(table.to_owned());
        bar.set_length(pages);
        bar.set_position(done);
        if done == pages {
            bar.finish_and_clear();
        }
    });
    config
}

/// Reads such a line.
fn progress(line: &str) -> Option<(&str, u64, u64)> {
    let (table, pages) = line.split_once(": ")?;
    let (done, all) = pages.strip_suffix(" pages")?.split_once(" of ")?;
    Some((table, done.parse().ok()?, all.parse().ok()?))
}

/// Sees that a database's schema is there and of this version; makes nothing.
pub fn check(config: &Config) -> Result<()> {
    let mut client = store::connect(config)?;
    let ours = newest();
    match standing(&mut client)? {
        Standing::Same => Ok(()),
        Standing::Newer(version) => bail!(newer(version)),
        Standing::Missing => bail!(retry::NotMade(format!(
            "there is no store in the schemas {} of database {}: run `marketday up` or `marketday \
             analytics` on it first, or name another database",
            client.query_one("SELECT current_setting('search_path')", &[])?.get::<_, String>(0),
            name(config)
        ))),
        Standing::Older(version) => bail!(retry::NotMade(format!(
            "the store is of an older marketday (schema {version}, this one's is {ours}): start the \
             analytics of this one first, as the owner of the tables (`marketday up` or `marketday \
             analytics`); they bring it up to date"
        ))),
    }
}

fn name(config: &Config) -> &str {
    config.get_dbname().or(config.get_user()).unwrap_or_default()
}

/// The version of the schema that this program has.
fn newest() -> i32 {
    let runner = embedded::migrations::runner();
    runner.get_migrations().iter().map(Migration::version).max().unwrap_or_default()
}

fn newer(version: i32) -> Error {
    anyhow!(
        "the store is of a newer marketday (schema {version}, which this one does not know): use that \
         version, or another database"
    )
}

/// Compares what a database has seen with what this program has.
fn standing(client: &mut Client) -> Result<Standing> {
    let asking = "asking of which version the database's schema is";
    let history = "SELECT to_regclass($1) IS NOT NULL";
    if !client.query_one(history, &[&HISTORY]).context(asking)?.get::<_, bool>(0) {
        return Ok(Standing::Missing);
    }
    let login = store::login(client)?;
    let seen = format!("SELECT version, name FROM {HISTORY} ORDER BY version");
    let seen = client.query(&seen, &[]).map_err(|error| match Error::from(error) {
        error if retry::refused(&error) => error
            .context(format!("{asking}, for which it takes `GRANT pg_read_all_data TO {login}`")),
        error => error.context(asking),
    })?;
    let seen: Vec<(i32, String)> = seen.iter().map(|row| (row.get(0), row.get(1))).collect();
    let Some(last) = seen.last().map(|(version, _)| *version) else {
        return Ok(Standing::Missing);
    };
    let runner = embedded::migrations::runner();
    let ours: Vec<(i32, &str)> =
        runner.get_migrations().iter().map(|it| (it.version(), it.name())).collect();
    for (version, name) in &seen {
        let strange = |it: &(i32, &str)| it.0 == *version && it.1 != name;
        ensure!(
            !ours.iter().any(strange),
            "the schema of this database has the migrations of another program ({version} is {name}); \
             {SCHEMA}"
        );
    }
    let newest = newest();
    Ok(match last {
        _ if last > newest => Standing::Newer(last),
        _ if seen.len() < ours.len() => Standing::Older(last),
        _ => Standing::Same,
    })
}

/// Whether a store can be made in a database.
fn is_fit(client: &mut Client, config: &Config) -> Result<()> {
    let row = client.query_one(
        "SELECT quote_ident(current_schema()), quote_ident(current_user),
                has_schema_privilege(current_schema(), 'CREATE')",
        &[],
    )?;
    let (schema, login): (Option<String>, String) = (row.get(0), row.get(1));
    let may: Option<bool> = row.get(2);
    let database = name(config);
    let Some(schema) = schema else {
        bail!(
            "database {database} has no schema of the search path that {login} may use; {SCHEMA}"
        );
    };
    ensure!(
        may == Some(true),
        "{login} may not make tables in schema {schema} of database {database}; have an administrator run \
         `GRANT USAGE, CREATE ON SCHEMA {schema} TO {login}` there, or {SCHEMA}"
    );
    Ok(())
}

/// Makes the roles that are not there, and acts as them from then on where it may.
fn make_roles(client: &mut Client) -> Result<()> {
    let login = store::login(client)?;
    for role in ROLES.split(", ") {
        if client.batch_execute(&format!("SET ROLE {role}; RESET ROLE")).is_ok() {
            continue;
        }
        let known = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role])?;
        if known.is_none() {
            let made = client.batch_execute(&format!("CREATE ROLE {role} NOLOGIN"));
            let refused = made.as_ref().err().and_then(postgres::Error::code);
            // Another database's marketday may have come first.
            if refused != Some(&SqlState::DUPLICATE_OBJECT)
                && refused != Some(&SqlState::UNIQUE_VIOLATION)
            {
                made.with_context(|| {
                    format!(
                        "making the role {role}; have an administrator run `CREATE ROLE \
                         marketday_twin; CREATE ROLE marketday_reader; GRANT {ROLES} TO {login}`"
                    )
                })?;
            }
        }
        // Where it is another's, `verify` and the page say what the login lacks.
        _ = client.batch_execute(&format!("GRANT {role} TO CURRENT_USER"));
    }
    Ok(())
}

/// Says what to do about an error of a migration, where there is something.
fn explained(error: Error) -> Error {
    let code = error.chain().find_map(|it| it.downcast_ref::<postgres::Error>()?.code());
    let what = if retry::refused(&error) {
        "migrating the database, which the tables' owner has to do: start the analytics of this version \
         as that login"
            .to_owned()
    } else if code == Some(&SqlState::DUPLICATE_TABLE) {
        format!("migrating the database, in whose schema are tables of somebody else; {SCHEMA}")
    } else if code == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) {
        "migrating the database: views of your own read what is made anew; keep their definitions, drop \
         them, start again, and create them as they were"
            .to_owned()
    } else {
        "migrating the database".to_owned()
    };
    error.context(what)
}
