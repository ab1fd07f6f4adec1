//! Tests of the whole: what the parts promise each other and the user.

mod log;
