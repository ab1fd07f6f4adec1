//! Standard output, whose reader may go away: `marketday ... | head` has then seen enough.
//!
//! What is written there goes through [`Output`], so one place tells a reader who is gone, which is no
//! error, from what is wrong.

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Set once a write has found that nobody reads.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Standard output.
pub struct Output(StdoutLock<'static>);

impl Output {
    /// Standard output, for this thread alone.
    pub fn lock() -> Output {
        Output(io::stdout().lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(told)
    }
}

fn told(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::Interrupted => return error,
        ErrorKind::BrokenPipe => UNREAD.store(true, Ordering::Relaxed),
        _ => {}
    }
    io::Error::new(error.kind(), format!("writing to standard output: {error}"))
}

/// Whether a write has found that nobody reads.
pub fn is_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// What was told, or not told since nobody reads it: for who has a verdict beside.
pub fn heard_or_unread(told: Result<()>) -> Result<()> {
    if is_unread() { Ok(()) } else { told }
}

/// Whether the reader is gone, though nothing is written at the moment.
pub fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().intersects(gone)
}
