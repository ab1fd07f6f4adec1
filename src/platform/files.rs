//! Files that are whole at any time.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces a file, or makes it: whenever the machine stops, it is the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new).with_context(writing)?;
    file.write_all(bytes).with_context(writing)?;
    file.sync_all().with_context(writing)?;
    fs::rename(&new, path).with_context(writing)?;
    let parent = path.parent().context("a file is in a directory")?;
    File::open(parent).and_then(|parent| parent.sync_all()).with_context(writing)
}
