//! The shell of marketday: everything that touches the world.

pub mod log;
pub mod migrate;
pub mod private_postgres;
pub mod verify;
