//! Brings a database to the newest schema: the files of `migrations/`, in order, each once.

use anyhow::{Context, Result};
use postgres::Config;

use crate::store;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Runs the migrations that a database has not seen yet.
pub fn run(config: &Config) -> Result<()> {
    let mut client = store::connect(config)?;
    client.batch_execute(store::PATIENCE)?;
    // Two programs at once: the second waits, then finds nothing to do.
    client
        .batch_execute("SELECT pg_advisory_lock(hashtext('marketday migrations'))")
        .context("waiting for another marketday that migrates this database")?;
    let ran = embedded::migrations::runner().run(&mut client).context("migrating the database")?;
    if !ran.applied_migrations().is_empty() {
        // One of them may have made a table anew, and told nobody.
        client.batch_execute("DELETE FROM followed_tables")?;
    }
    Ok(())
}
