//! What a market keeps in its directory: snapshots, the journal of commands, the labels of faults.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dataflows::market::{Command, Delayed, Faults, Snapshot};
use dataflows::model::Millis;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::settings::About;
use crate::platform::files::{PRIVATE, private, private_directory, replace};

/// Time and `event_id` of a record: in each partition they ascend.
pub(super) type Stamp = (Millis, Option<u64>);

/// What a market has made of a partition so far.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Made {
    /// Number of records.
    pub(super) records: u64,
    pub(super) hash: u64,
}

impl Made {
    pub(super) fn add(&mut self, at: Millis, key: Option<&[u8]>, value: &[u8]) {
        self.records += 1;
        let hash = xxh3_64_with_seed(key.unwrap_or_default(), self.hash ^ at as u64);
        self.hash = xxh3_64_with_seed(value, hash);
    }
}

/// A snapshot with what the log held then.
#[derive(Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The last record in each partition, by topic.
    pub(super) last: Vec<Vec<Option<Stamp>>>,
    /// How much that is of each partition, and its hash.
    pub(super) made: Vec<Vec<Made>>,
    /// What faults delay, in a market that has them, and the length of its labels.
    pub(super) delayed: Option<(Delayed, u64)>,
    pub(super) snapshot: Snapshot,
}

/// What faults do to a market's records.
pub(super) struct Delivery {
    pub(super) faults: Option<Faults>,
    /// What was delayed at the end of the history was appended there.
    pub(super) delivered: bool,
}

/// The form of a snapshot. Raise it whenever what a snapshot holds changes: one of another form is
/// passed over, and the market lives through its history again.
const FORMAT: u32 = 8;

/// The market's directory.
pub(super) struct StateDir {
    dir: PathBuf,
    about: PathBuf,
    /// A snapshot belongs to one log and has one form.
    mark: Vec<u8>,
}

impl StateDir {
    pub(super) fn open(dir: &Path, log: &str) -> Result<Self> {
        let mark = format!("marketday snapshot {FORMAT} log {log}\n");
        let about = dir.join("market.json");
        let dir = dir.join("market");
        private_directory(&dir)?;
        Ok(StateDir { dir, about, mark: mark.into_bytes() })
    }

    fn about(&self) -> Result<About> {
        About::read(&self.about)?.with_context(|| format!("{} is gone", self.about.display()))
    }

    /// What faults do to its records.
    pub(super) fn delivery(&self) -> Result<Delivery> {
        let About { faults, delivered, .. } = self.about()?;
        Ok(Delivery { faults, delivered })
    }

    /// Says for good that what was delayed at the end of the history was appended there.
    pub(super) fn deliver(&self) -> Result<()> {
        let mut about = self.about()?;
        about.delivered = true;
        about.write(&self.about)
    }

    /// The side file with the labels of the faults.
    pub(super) fn labels(&self) -> PathBuf {
        self.dir.join("dirt.ndjson")
    }

    /// The newest snapshot that is whole and belongs to the log.
    pub(super) fn newest(&self) -> Result<Option<Checkpoint>> {
        for path in self.snapshots()?.iter().rev() {
            if let Some(checkpoint) = self.read(path)? {
                return Ok(Some(checkpoint));
            }
        }
        Ok(None)
    }

    fn read(&self, path: &Path) -> Result<Option<Checkpoint>> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let Some((body, sum)) = bytes.split_last_chunk() else { return Ok(None) };
        if xxh3_64(body) != u64::from_le_bytes(*sum) {
            return Ok(None);
        }
        let Some(body) = body.strip_prefix(self.mark.as_slice()) else { return Ok(None) };
        Ok(bincode::deserialize(body).ok())
    }

    /// Saves a snapshot, and forgets all but the one before it.
    pub(super) fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let mut bytes = self.mark.clone();
        bincode::serialize_into(&mut bytes, checkpoint)?;
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let name = format!("{:012}.snapshot", checkpoint.snapshot.refresh());
        replace(&self.dir.join(name), PRIVATE, &bytes)?;
        // Those of another log or form are of no use, and may be of a later time than ours.
        let mut ours = Vec::new();
        for path in self.snapshots()? {
            if self.is_marked(&path)? {
                ours.push(path);
            } else {
                fs::remove_file(path)?;
            }
        }
        for old in &ours[..ours.len().saturating_sub(2)] {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// Whether a snapshot belongs to this log and has this form.
    fn is_marked(&self, path: &Path) -> Result<bool> {
        let mut start = Vec::new();
        File::open(path)?.take(self.mark.len() as u64).read_to_end(&mut start)?;
        Ok(start == self.mark)
    }

    /// The files, oldest first.
    fn snapshots(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "snapshot") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// The commands of all times, oldest first.
    pub(super) fn commands(&self) -> Result<Vec<Command>> {
        let path = self.dir.join("commands.ndjson");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.with_context(|| path.display().to_string())?,
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // The end of a line that a crash cut off: its command was never in effect.
            OpenOptions::new().write(true).open(&path)?.set_len(whole as u64)?;
        }
        let commands: Vec<Command> = text[..whole]
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .with_context(|| path.display().to_string())?;
        ensure!(
            commands.is_sorted_by_key(|command| command.at),
            "{}: out of order",
            path.display()
        );
        Ok(commands)
    }

    /// Makes a command durable.
    pub(super) fn journal(&self, command: &Command) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let path = self.dir.join("commands.ndjson");
        let mut file = private().append(true).create(true).open(path)?;
        file.write_all(&line)?;
        file.sync_all()?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }
}
