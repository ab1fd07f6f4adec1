//! The clocks: the only place that reads them.

#![expect(clippy::disallowed_methods, reason = "this is the one file that may")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dataflows::model::Millis;

/// The wall clock: milliseconds since the Unix epoch.
pub fn wall() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// Measures a span, whatever happens to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts at zero.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
