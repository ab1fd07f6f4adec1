//! A file of keys in their order, each with its value or as gone: written once, then only read.
//!
//! Blocks of some kilobytes come first, then the index that says where each begins, its first and last key and
//! its hash, then the index's own length and hash. So a key costs one read, and a key between two blocks none;
//! and a file that is cut short or has a wrong bit is known by it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dataflows::keeper::Changes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::platform::files::private;

/// About so many bytes are a block.
const BLOCK: usize = 8 << 10;

/// The end of a file: what it is, and of which form.
const MAGIC: [u8; 8] = *b"mdkept01";

/// The index's length, its hash, and the magic.
const TAIL: usize = 24;

#[derive(Serialize, Deserialize)]
struct Block {
    first: Vec<u8>,
    last: Vec<u8>,
    offset: u64,
    length: u32,
    hash: u64,
}

/// A file that is whole.
pub(super) struct Run {
    file: File,
    blocks: Vec<Block>,
    /// Its length.
    pub(super) bytes: u64,
}

impl Run {
    /// Opens a file, and reads all of it once to see that it is what was written.
    pub(super) fn open(path: &Path) -> Result<Run> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Run::of(file).with_context(|| format!("{} is not what was written", path.display()))
    }

    fn of(file: File) -> Result<Run> {
        let bytes = file.metadata()?.len();
        let mut tail = [0; TAIL];
        let rest = bytes.checked_sub(TAIL as u64).context("it is too short")?;
        file.read_exact_at(&mut tail, rest)?;
        let number = |at: usize| u64::from_le_bytes(tail[at..at + 8].try_into().expect("8 bytes"));
        ensure!(tail[16..] == MAGIC, "it does not end as such a file does");
        let begin = rest.checked_sub(number(0)).context("it is too short")?;
        let mut index = vec![0; (rest - begin) as usize];
        file.read_exact_at(&mut index, begin)?;
        ensure!(xxh3_64(&index) == number(8), "its index has another hash");
        let blocks: Vec<Block> = postcard::from_bytes(&index).context("reading its index")?;
        let run = Run { file, blocks, bytes };
        let mut content = Vec::new();
        for block in &run.blocks {
            run.read(block, &mut content)?;
            ensure!(xxh3_64(&content) == block.hash, "bytes from {} on differ", block.offset);
        }
        Ok(run)
    }

    /// The first block that does not end before a key.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| *block.last < *key)
    }

    fn read(&self, block: &Block, to: &mut Vec<u8>) -> Result<()> {
        to.resize(block.length as usize, 0);
        self.file.read_exact_at(to, block.offset).context("reading what was kept")
    }

    /// What it says of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Got> {
        if self.blocks.get(self.block_of(key)).is_none_or(|block| *block.first > *key) {
            return Ok(Got::Nothing);
        }
        let mut cursor = Cursor::seek(self, key)?;
        while let Some((found, value)) = cursor.entry()
            && found <= key
        {
            if found == key {
                return Ok(value.map_or(Got::Gone, |value| Got::Value(value.to_vec())));
            }
            cursor.advance()?;
        }
        Ok(Got::Nothing)
    }
}

/// What a file says of a key.
pub(super) enum Got {
    Value(Vec<u8>),
    Gone,
    Nothing,
}

/// Where one is in a file.
pub(super) struct Cursor<'r> {
    run: &'r Run,
    /// The block to be read next.
    next: usize,
    content: Vec<u8>,
    /// Where in the content the key and the value are.
    at: Option<Parts>,
    /// Where the next entry begins.
    rest: usize,
}

/// Begin and end of a key, and of its value unless it is gone.
type Parts = ((usize, usize), Option<(usize, usize)>);

impl<'r> Cursor<'r> {
    /// At the first key of the block in which a key would be, or of the one behind.
    pub(super) fn seek(run: &'r Run, key: &[u8]) -> Result<Cursor<'r>> {
        let (next, content, at, rest) = (run.block_of(key), Vec::new(), None, 0);
        let mut cursor = Cursor { run, next, content, at, rest };
        cursor.advance()?;
        Ok(cursor)
    }

    /// The key and the value where one is; none behind the last.
    pub(super) fn entry(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let ((begin, end), value) = self.at?;
        Some((&self.content[begin..end], value.map(|(begin, end)| &self.content[begin..end])))
    }

    /// Goes on to the next key.
    pub(super) fn advance(&mut self) -> Result<()> {
        if self.rest >= self.content.len() {
            let Some(block) = self.run.blocks.get(self.next) else {
                self.at = None;
                return Ok(());
            };
            self.run.read(block, &mut self.content)?;
            (self.next, self.rest) = (self.next + 1, 0);
        }
        let entries = &self.content[self.rest..];
        let mut left = entries;
        let key = take(&mut left)?;
        let value = take(&mut left)?;
        let begin = self.rest + entries.len() - left.len();
        let end = begin + key;
        self.rest = end + value.saturating_sub(1);
        ensure!(self.rest <= self.content.len(), "an entry ends beyond its block");
        self.at = Some(((begin, end), (value > 0).then_some((end, self.rest))));
        Ok(())
    }
}

/// A length in front of bytes.
fn take(bytes: &mut &[u8]) -> Result<usize> {
    let (length, rest) = postcard::take_from_bytes(bytes).context("reading a length")?;
    *bytes = rest;
    Ok(length)
}

/// Writes a file.
pub(super) struct Writer {
    out: BufWriter<File>,
    blocks: Vec<Block>,
    content: Vec<u8>,
    first: Vec<u8>,
    last: Vec<u8>,
    offset: u64,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Writer> {
        // What is there of that name may be in use, by whoever has it open.
        _ = std::fs::remove_file(path);
        let file = private().write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("making {}", path.display()))?;
        let (blocks, content, first, last) = Default::default();
        let out = BufWriter::with_capacity(1 << 20, file);
        Ok(Writer { out, blocks, content, first, last, offset: 0 })
    }

    /// Adds a key behind all before it.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if self.content.is_empty() {
            self.first = key.to_vec();
        }
        let bytes = std::mem::take(&mut self.content);
        let bytes = postcard::to_extend(&key.len(), bytes)?;
        // A value's length and one; none is one that is gone.
        let mut bytes = postcard::to_extend(&value.map_or(0, |value| value.len() + 1), bytes)?;
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value.unwrap_or_default());
        self.content = bytes;
        self.last.clear();
        self.last.extend_from_slice(key);
        if self.content.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        self.out.write_all(&self.content)?;
        let (length, hash) = (self.content.len() as u32, xxh3_64(&self.content));
        let (first, last) = (std::mem::take(&mut self.first), self.last.clone());
        self.blocks.push(Block { first, last, offset: self.offset, length, hash });
        self.offset += u64::from(length);
        self.content.clear();
        Ok(())
    }

    /// Ends the file; it is on the disk then.
    pub(super) fn finish(mut self) -> Result<()> {
        if !self.content.is_empty() {
            self.end_block()?;
        }
        let index = postcard::to_stdvec(&self.blocks)?;
        self.out.write_all(&index)?;
        self.out.write_all(&(index.len() as u64).to_le_bytes())?;
        self.out.write_all(&xxh3_64(&index).to_le_bytes())?;
        self.out.write_all(&MAGIC)?;
        let file = self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(file.sync_all()?)
    }
}

/// What is read in the order of keys.
pub(super) enum Source<'r> {
    Run(Cursor<'r>),
    Changes(Box<dyn Iterator<Item = Entry<'r>> + 'r>, Option<Entry<'r>>),
}

type Entry<'r> = (&'r [u8], Option<&'r [u8]>);

impl<'r> Source<'r> {
    /// Changes, which are sorted.
    pub(super) fn of(changes: &'r Changes) -> Source<'r> {
        let mut entries = changes.iter();
        let first = entries.next();
        Source::Changes(Box::new(entries), first)
    }

    fn entry(&self) -> Option<(&[u8], Option<&[u8]>)> {
        match self {
            Source::Run(cursor) => cursor.entry(),
            Source::Changes(_, entry) => *entry,
        }
    }

    fn advance(&mut self) -> Result<()> {
        match self {
            Source::Run(cursor) => cursor.advance(),
            Source::Changes(rest, entry) => {
                *entry = rest.next();
                Ok(())
            }
        }
    }
}

/// Gives each key of some sources once, in order, as the first of the sources that has it says; until it is
/// told that this is enough.
pub(super) fn merged(
    mut sources: Vec<Source<'_>>,
    mut give: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool>,
) -> Result<()> {
    let mut given = Vec::new();
    loop {
        let keys = sources.iter().enumerate();
        let keys = keys.filter_map(|(place, source)| Some((source.entry()?.0, place)));
        let Some((key, place)) = keys.min() else { return Ok(()) };
        given.clear();
        given.extend_from_slice(key);
        let (key, value) = sources[place].entry().expect("it has the least key");
        if !give(key, value)? {
            return Ok(());
        }
        for source in &mut sources {
            if source.entry().is_some_and(|(key, _)| key == given) {
                source.advance()?;
            }
        }
    }
}
