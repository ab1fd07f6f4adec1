//! The file that labels what faults have done to a market's records.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use dataflows::market::Label;

use crate::platform::files::private;

/// The side file: what is in it follows from what was appended, so a snapshot keeps its length, and
/// what comes behind is made again.
pub(super) struct Labels {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Labels {
    pub(super) fn open(path: PathBuf, length: u64) -> Result<Labels> {
        let opening = || format!("opening {}", path.display());
        let file = private().write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(opening)?;
        let held = file.metadata().with_context(opening)?.len();
        ensure!(
            held >= length,
            "{} has lost labels: it has {held} bytes, and the market's snapshot knows of {length}; \
             begin a new market in another directory",
            path.display()
        );
        file.set_len(length).with_context(opening)?;
        file.seek(SeekFrom::End(0)).with_context(opening)?;
        Ok(Labels { file: BufWriter::new(file), path })
    }

    fn writing(&self) -> String {
        format!("writing {}", self.path.display())
    }

    pub(super) fn write(&mut self, label: &Label) -> Result<()> {
        let mut line = serde_json::to_vec(label)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.writing())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| self.writing())
    }

    /// Makes them durable, and says how long they are.
    pub(super) fn sync(&mut self) -> Result<u64> {
        self.flush()?;
        self.file.get_ref().sync_data().with_context(|| self.writing())?;
        self.file.stream_position().with_context(|| self.writing())
    }
}
