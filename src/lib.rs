//! The shell of marketday: everything that touches the world.

pub mod log;

pub mod wire;

pub mod import;
