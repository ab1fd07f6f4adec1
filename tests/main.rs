//! Tests of the whole: what the parts promise each other and the user.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod log;
