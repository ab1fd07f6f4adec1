//! The shell of marketday: everything that touches the world. What is computed is in [`dataflows`].
//!
//! ```text
//!  market  ->  log  ->  engine  ->  store  ->  page
//!               |                     |
//!               +----- verify --------+-- realism
//! ```
//!
//! The rooms, in the order in which data flow:
//!
//! - [`market`]: drives the generator of [`dataflows`] and appends what it makes to the log. With it
//!   [`market::cache`], its working set in memory or in Redis, and [`market::control`], how one speaks
//!   to it while it runs.
//! - [`log`]: the durable log, embedded in a directory or on Kafka. How events are written there is in
//!   [`dataflows::model::codec`].
//! - [`engine`]: the workers that read the log and run the queries; [`engine::supervise`] starts them
//!   again, [`engine::profile`] tells what their operators cost.
//! - [`store`]: what they read from PostgreSQL and write to it, its migrations, and
//!   [`store::changes`]: what happens to a table from commit point to commit point.
//! - [`page`]: the web page over the store and the market, and `/metrics`.
//! - [`verify`] and [`realism`] judge: each table against its batch twin and the ledgers against the
//!   log, and the market against real shops. They share no code with what they judge.
//! - [`commands`]: a file for each command of the program.
//! - [`platform`]: the clock, the process, servers of our own, and how errors are waited out.
//!
//! Invariants, each with the test that keeps it:
//! - An epoch's rows and its offsets are committed in one transaction, or not at all (`tests/crash.rs`).
//! - A bad record becomes a dead letter and nothing else (`tests/bad_input.rs`).
//! - Same seed, same events; same events, same tables (`dataflows/analytics/properties.rs`, `tests/market.rs`).
//! - What is cached, or not, changes no event (`tests/cache.rs`).
//! - Only `platform/clock.rs` reads a clock (`.clippy.toml`).

pub mod market;

pub mod log;

pub mod engine;

pub mod store;

pub mod page;

pub mod verify;

pub mod realism;

pub mod cli;

pub mod commands;

pub mod platform;

#[cfg(test)]
mod fuzz;
