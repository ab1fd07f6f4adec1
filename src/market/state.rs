//! What a market keeps in its directory: snapshots, the journal of commands, the labels of faults.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use dataflows::market::{Command, Delayed, Faults, Settings, Snapshot};
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
const FORMAT: u32 = 9;

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
        Ok(self.decode(&bytes))
    }

    /// The snapshot, if it is whole and of this log and form.
    fn decode(&self, bytes: &[u8]) -> Option<Checkpoint> {
        let (body, sum) = bytes.split_last_chunk()?;
        if xxh3_64(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        bincode::deserialize(body.strip_prefix(self.mark.as_slice())?).ok()
    }

    /// Saves a snapshot, and forgets all but the one before it.
    pub(super) fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        // It is large: asked for at once, its memory is not moved as it grows.
        let size = bincode::serialized_size(checkpoint)? as usize;
        let mut bytes = Vec::with_capacity(self.mark.len() + size + size_of::<u64>());
        bytes.extend_from_slice(&self.mark);
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

    /// The commands of all times, oldest first, as a market of these settings takes them.
    pub(super) fn commands(&self, settings: &Settings) -> Result<Vec<Command>> {
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
        // The file may have been changed by hand.
        let words = settings.profile.words();
        for (command, number) in commands.iter().zip(1..) {
            let checked = command.check(&words).map_err(|what| anyhow!(what));
            checked.with_context(|| format!("line {number} of {}", path.display()))?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::fuzz::fuzz;

    /// The newest snapshot's file of a small market, and its directory's own.
    fn snapshot() -> (tempfile::TempDir, StateDir, Vec<u8>) {
        let dir = crate::fuzz::dir();
        let log = crate::fuzz::market(dir.path());
        let state = StateDir::open(dir.path(), log.identity()).unwrap();
        let bytes = fs::read(state.snapshots().unwrap().last().unwrap()).unwrap();
        (dir, state, bytes)
    }

    /// Whatever a snapshot's file is: it is passed over, or it is one. An input says whether the
    /// checksum is put right, so that what is behind it is reached.
    #[test]
    fn fuzz_snapshots() {
        let (_dir, state, whole) = snapshot();
        assert!(state.decode(&whole).is_some());
        // Lengths stand all over a snapshot; it is cut short, so that many of the damages hit one.
        let head = &whole[..whole.len().min(4 << 10)];
        let seeds = [&whole, head].map(|bytes| [&[1], bytes].concat());
        fuzz!(10_000, seeds, |input| {
            let Some((sealed, bytes)) = input.0.split_first() else { return false };
            let mut bytes = bytes.to_vec();
            if sealed % 2 > 0 {
                bytes.truncate(bytes.len().saturating_sub(8));
                bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
            }
            let Some(checkpoint) = state.decode(&bytes) else { return false };
            let again = bincode::serialize(&checkpoint).unwrap();
            let twice: Checkpoint = bincode::deserialize(&again).unwrap();
            assert_eq!(bincode::serialized_size(&twice).unwrap(), again.len() as u64);
            assert!(sealed % 2 > 0 || bytes == whole, "damaged, and yet taken");
            true
        });
    }

    const JOURNAL: &str = concat!(
        r#"{"at":1795964400000,"name":"black-friday","strength":2.5,"categories":["food"],"until":1795971600000}"#,
        "\n",
        r#"{"at":1795964405000,"name":"flash","strength":0.05,"categories":[],"until":null}"#,
        "\n",
        r#"{"at":1795964405000,"name":"flash","strength":null,"categories":[]}"#,
        "\n",
    );

    /// Whatever the journal is: it is refused, or each command is one that a market takes.
    #[test]
    fn fuzz_journals() {
        let dir = crate::fuzz::dir();
        let (state, settings) = (StateDir::open(dir.path(), "").unwrap(), crate::fuzz::settings());
        let words = settings.profile.words();
        fuzz!(100_000, [JOURNAL], |input| {
            fs::write(state.dir.join("commands.ndjson"), &input.0).unwrap();
            let Ok(commands) = state.commands(&settings) else { return false };
            assert!(commands.is_sorted_by_key(|command| command.at));
            for command in commands {
                command.check(&words).unwrap();
                assert!(dataflows::model::Strength::new(command.strength.unwrap_or(1.0)).is_some());
            }
            true
        });
    }

    #[test]
    fn a_command_that_no_market_takes_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (state, settings) = (StateDir::open(dir.path(), "").unwrap(), crate::fuzz::settings());
        for (from, to, says) in [
            ("0.05", "-1", "from 0.05 to 10"),
            ("0.05", "1e300", "from 0.05 to 10"),
            ("\"until\":null", "\"until\":9223372036854775807", "ten years at most"),
            ("\"food\"", "\"cars\"", "no category `cars`"),
            ("\"at\":1795964405000", "\"at\":9223372036854775807", "before 2100"),
        ] {
            assert!(JOURNAL.contains(from), "{from}");
            fs::write(state.dir.join("commands.ndjson"), JOURNAL.replace(from, to)).unwrap();
            let said = format!("{:#}", state.commands(&settings).unwrap_err());
            assert!(said.contains(says) && said.contains("line "), "{said}");
        }
        fs::write(state.dir.join("commands.ndjson"), JOURNAL).unwrap();
        assert_eq!(state.commands(&settings).unwrap().len(), 3);
    }
}
