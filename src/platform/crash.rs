//! A test hook: ends this process at a named point as `kill -9` would.
//!
//! `MARKETDAY_CRASH_AT=before-commit:3` kills at the third time that the point `before-commit` is
//! reached. Where the variable is not set a point is one comparison, and each stands where a
//! transaction, a flush or a snapshot makes that nothing.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The name of the variable that says where to die.
const VARIABLE: &str = "MARKETDAY_CRASH_AT";

/// The point to die at, and how many times it has still to be reached.
struct Plan {
    name: String,
    left: AtomicU64,
}

/// Dies here, if this is the point that was named and the time that was named.
pub fn point(name: &str) {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        let left = AtomicU64::new(nth.parse().ok()?);
        Some(Plan { name: name.to_owned(), left })
    });
    if let Some(plan) = plan
        && plan.name == name
        && plan.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // The name goes out before: what a test asserts is that this was the place.
        _ = writeln!(std::io::stderr(), "{VARIABLE}: {name}");
        _ = kill_process(getpid(), Signal::KILL);
        // The signal ends every thread; nothing here may go on until it does.
        loop {
            std::thread::park();
        }
    }
}
