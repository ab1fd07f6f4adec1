//! The tests of the whole program, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod asking;
mod bad_input;
mod borders;
mod browser;
mod cache;
mod cdnow;
mod changes;
mod checkpoints;
mod crash;
mod docs;
mod explain;
mod faults;
mod grafana;
mod import;
mod insights;
mod kafka;
mod log;
mod logging;
mod market;
mod orders;
mod owner;
mod page;
mod private_postgres;
mod processes;
mod realism;
mod recipe;
mod scenario;
mod secrets;
mod stepwise;
mod stores;
mod tables;
mod terminals;
mod twins;
mod upgrade;
mod verify;
mod views;
mod views_fuzz;
mod views_generate;
mod views_refused;
mod working_set;
mod wrong_use;
