//! The shell of marketday: everything that touches the world.

pub mod migrate;
pub mod private_postgres;
