//! Ctrl-C, and requests to terminate or hang up: the first has a command end in order, where it has said
//! that it can, and the next ends it at once.
//!
//! A command that only looks ends at once at the first. No private server is left behind either way.

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::private_postgres;

/// The signal that came first; 0 where none has.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// What the first one sets, in a command that ends in order.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Set where nothing is ended in order any more.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Told to end before it was done; says how far it came, and what goes on from there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub String);

/// Begins to listen.
pub fn listen() -> Result<()> {
    // `nohup` has a hang-up ignored.
    let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let signals = [SIGINT, SIGTERM].into_iter().chain(hang_up);
    let mut signals = Signals::new(signals).context("listening for Ctrl-C")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let first = FIRST.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
            match STOP.get() {
                Some(stop) if first.is_ok() => stop.store(true, Ordering::SeqCst),
                _ => end_at_once(),
            }
        }
    });
    Ok(())
}

/// The flag that the first signal sets: who asks for it ends in order.
pub fn stop() -> Arc<AtomicBool> {
    Arc::clone(STOP.get_or_init(Arc::default))
}

/// Whether this process is being ended at once.
pub fn at_once() -> bool {
    AT_ONCE.load(Ordering::SeqCst)
}

/// The exit code of what was cut off: that of the signal, as shells count it.
pub fn exit_code() -> ExitCode {
    match FIRST.load(Ordering::SeqCst) {
        0 => ExitCode::FAILURE,
        signal => ExitCode::from(128 + signal as u8),
    }
}

fn end_at_once() -> ! {
    AT_ONCE.store(true, Ordering::SeqCst);
    private_postgres::end_at_once();
    std::process::exit(128 + FIRST.load(Ordering::SeqCst));
}

fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
