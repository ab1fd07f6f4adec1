//! The shell of marketday: everything that touches the world.
//!
//! ```text
//!  market -> log -> engine -> store      up: all of it on this machine
//!             |                 |
//!             +---- verify -----+        status, realism, import, explain
//!                               |
//!                              page        changes: what happens to a table; metrics
//! ```
//!
//! Declared in the order in which data flows:
//!
//! - [`wire`]: events as JSON; the only place that knows the encoding.
//! - [`log`]: the durable log, embedded in a directory or on Kafka.
//! - [`cache`]: the generator's working set, in memory or in Redis.
//! - [`market`]: drives the generator of [`dataflows`] and appends what it makes.
//! - [`import`]: puts events from a file into the log.
//! - [`engine`]: the workers that read the log and run the queries.
//! - [`profile`]: what their operators cost.
//! - [`store`]: what they read from PostgreSQL and write to it.
//! - [`changes`]: what changes in a table from commit point to commit point.
//! - [`page`]: the web page over the store and the market.
//! - [`verify`]: compares every table with its batch twin, and the ledgers with the log.
//!
//! Invariants, each with the test that keeps it:
//! - An epoch's rows and its offsets are committed in one transaction, or not at all (`tests/crash.rs`).
//! - A bad record becomes a dead letter and nothing else (`tests/bad_input.rs`).
//! - Same seed, same events; same events, same tables (`dataflows/analytics/laws.rs`, `tests/market.rs`).
//! - What is cached, or not, changes no event (`tests/cache.rs`).
//! - Only `clock.rs` reads a clock (`.clippy.toml`).

pub mod wire;

pub mod log;

pub mod cache;

pub mod market;

pub mod import;

pub mod say;

pub mod engine;

pub mod profile;

pub mod store;

pub mod changes;

pub mod page;

pub mod verify;

pub mod cli;
pub mod clock;
pub mod crash;
pub mod explain;
pub mod metrics;
pub mod migrate;
pub mod private_postgres;
pub mod process;
pub mod realism;
pub mod retry;
pub mod scenario;
pub mod status;
pub mod supervise;
pub mod truth;
pub mod up;
