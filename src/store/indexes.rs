//! The indexes of the orders' ledger: they answer a person who asks for one order, one customer's or the
//! newest ones.
//!
//! To keep them costs more than to keep the ledger, and the engine reads none of them; so they are made when
//! what there was to be counted is counted, and are gone when all is counted again.

use anyhow::{Context, Result};
use postgres::Client;
use tracing::{info, warn};

use crate::platform::clock::Stopwatch;
use crate::platform::retry;

/// Each index and its columns.
const INDEXES: [(&str, &str); 3] = [
    ("order_ledger_by_order", "order_id, user_id"),
    ("order_ledger_by_user", "user_id"),
    ("order_ledger_by_time", "ordered_at"),
];

/// Makes those that are not there, all or none, and has the planner look at what is in the ledger. Nobody
/// can commit meanwhile.
pub(super) fn build(client: &mut Client) -> Result<()> {
    let names = INDEXES.map(|(name, _)| name);
    let missing = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL";
    let missing = client.query(missing, &[&&names[..]])?;
    let missing: Vec<&str> = missing.iter().map(|row| row.get(0)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let since = Stopwatch::start();
    let create = |(name, columns): &(&str, &str)| {
        let is_missing = missing.contains(name);
        is_missing.then(|| format!("CREATE INDEX {name} ON order_ledger ({columns});"))
    };
    let made: String = INDEXES.iter().filter_map(create).collect();
    let mut tx = client.transaction()?;
    let result = tx.batch_execute(&format!(
        "SET LOCAL maintenance_work_mem = '128MB'; {made} ANALYZE order_ledger"
    ));
    match result.map_err(anyhow::Error::from) {
        Ok(()) => tx.commit().context("making the indexes of the orders' ledger")?,
        // Without them all answers are right, and some are slow.
        Err(error) if retry::refused(&error) => {
            warn!("the orders' ledger has no indexes, which its owner could make: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error.context("making the indexes of the orders' ledger")),
    }
    info!(seconds = since.elapsed().as_secs_f64(), "the orders' ledger has its indexes");
    Ok(())
}

/// The statements that take them away.
pub(super) fn drop_all() -> String {
    INDEXES.map(|(name, _)| format!("DROP INDEX IF EXISTS {name};")).concat()
}
