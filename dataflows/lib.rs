//! The core of marketday: the market's rules and the incremental queries.
//!
//! Nothing here does I/O, reads a clock or can fail.

pub mod market;
pub mod model;
