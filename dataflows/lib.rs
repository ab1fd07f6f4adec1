//! The core of marketday: the market's rules and the incremental queries.
//!
//! ```text
//!  records -> first -> ledger ----------------> base rows \
//!                        |-> queries, one a file -> rows   > commit: one worker, epoch by epoch
//!           time reached -> now -> grades -----^          /
//! ```
//!
//! Of the order events in the ledger the queries see what [`operators::counted`] lets through.
//!
//! Read [`model`] (the words), [`analytics`] (the graph), one query, then [`operators`].
//!
//! Invariants:
//! - Nothing here does I/O, reads a clock or can fail: the crate depends on no such thing.
//! - The tables are a function of what was read and of `now`, whatever the batching, the order of
//!   arrival and the number of workers (`analytics/properties.rs`).
//! - The timestamp is the epoch, one per batch of input. Event time is data.

// So that `analytics/story.rs` reads the same here as in the tests of the whole program.
#[cfg(test)]
extern crate self as dataflows;

pub mod market;
pub mod model;

pub mod keeper;

pub mod ledger;

pub mod operators;

pub mod row;

pub mod slots;

pub mod analytics;

pub mod passes;

pub mod queries;

pub mod views;

pub use queries::{QUERIES, Query};

use differential_dataflow::VecCollection;

/// The timestamp of the analytics: a batch of input, later batches above earlier ones.
pub type Epoch = u64;

/// A changing multiset.
pub type Collection<'s, D> = VecCollection<'s, Epoch, D, isize>;
