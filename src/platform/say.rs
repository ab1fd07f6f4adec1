//! What the program says of itself on standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// Says a line, whole whoever else writes there, and over what a progress bar left on it.
pub fn say(line: impl Display) {
    let mut stderr = std::io::stderr().lock();
    let clear = if stderr.is_terminal() { "\r\x1b[K" } else { "" };
    // In one write: several processes share it.
    _ = stderr.write_all(format!("{clear}marketday: {line}\n").as_bytes());
}
