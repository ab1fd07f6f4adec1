//! What the machine gives: its clock, its processes, signals, standard output, servers of our own, and a way
//! to wait for others.

pub mod clock;
pub mod crash;
pub mod files;
pub mod logging;
pub mod output;
pub mod private_postgres;
pub mod process;
pub mod retry;
pub mod secret;
pub mod signals;
