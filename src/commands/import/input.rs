//! The lines of a file, or of a pipe that may live on while nothing comes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::form::{BOM, other_form};

/// A line longer than this is refused, lest one without an end fill the memory.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// How long a pipe is waited for at a time.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What is read next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, whole or too long.
    Line,
    /// Nothing yet: more may come.
    Waiting,
    End,
}

/// What is imported.
pub(super) struct Input {
    source: BufReader<Source>,
    line: Vec<u8>,
    /// It is only the beginning of one.
    too_long: bool,
    number: u64,
    /// The line was given; the next one begins.
    given: bool,
}

struct Source {
    file: File,
    /// Where a file begins, which can be read again; none for a pipe.
    begin: Option<u64>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.begin.is_none() {
            let mut polled = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut polled, Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Err(ErrorKind::WouldBlock.into()),
                polled => polled?,
            };
        }
        self.file.read(buffer)
    }
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Input> {
        let file = if path.as_os_str() == "-" {
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(path)
        };
        let mut file = file.with_context(|| format!("opening {}", path.display()))?;
        let is_file = file.metadata().is_ok_and(|about| about.is_file());
        let begin = if is_file { file.stream_position().ok() } else { None };
        let source = BufReader::with_capacity(1 << 16, Source { file, begin });
        Ok(Input { source, line: Vec::new(), too_long: false, number: 0, given: true })
    }

    /// Whether it can be read twice.
    pub(super) fn is_file(&self) -> bool {
        self.source.get_ref().begin.is_some()
    }

    /// Begins again, where it can be read twice.
    pub(super) fn begin_again(self) -> Result<Input> {
        let mut source = self.source.into_inner();
        if let Some(begin) = source.begin {
            source.file.seek(SeekFrom::Start(begin)).context("reading the file again")?;
        }
        let source = BufReader::with_capacity(1 << 16, source);
        Ok(Input { source, line: self.line, too_long: false, number: 0, given: true })
    }

    /// The number of the line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The line that was read.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Whether it is only the beginning of a line.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Reads on.
    pub(super) fn next(&mut self) -> Result<Next> {
        if self.given {
            self.line.clear();
            self.number += 1;
            self.given = false;
        }
        match self.read() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Waiting),
            read => read.with_context(|| format!("reading line {}", self.number))?,
        }
        if self.line.is_empty() {
            return Ok(Next::End);
        }
        self.given = true;
        if self.number == 1 {
            if self.line.starts_with(BOM) {
                self.line.drain(..BOM.len());
            }
            if let Some(form) = other_form(&self.line) {
                bail!(
                    "{form}; an import takes lines of JSON, an event each, as `marketday market --to -` \
                     prints them; nothing is imported"
                );
            }
        }
        Ok(Next::Line)
    }

    /// Reads to the end of the line, of which a part may be there.
    fn read(&mut self) -> io::Result<()> {
        let room = LINE_BYTES_MAX - self.line.len();
        self.source.by_ref().take(room as u64).read_until(b'\n', &mut self.line)?;
        // What can wait for more of a pipe is asked again with the line as it is.
        self.too_long = self.line.len() == LINE_BYTES_MAX && !self.line.ends_with(b"\n");
        if self.too_long {
            self.source.skip_until(b'\n')?;
        }
        Ok(())
    }
}
