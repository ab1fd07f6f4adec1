//! Files that are whole at any time, and files that are nobody else's business.
//!
//! Logs and snapshots hold customers: whatever the umask says they are readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use tracing::warn;

/// The mode of a file that its owner alone reads.
pub const PRIVATE: u32 = 0o600;

/// The mode of a file that is read by whom the umask lets.
pub const PUBLIC: u32 = 0o666;

/// What others may do.
const OTHERS: u32 = 0o077;

/// How a file is opened that, where it is made, its owner alone reads; a link is not followed.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// Makes a directory that its owner alone enters. One that is there already is closed, with what is in
/// it, where a version before this left it open; where that cannot be done it is said.
pub fn private_directory(path: &Path) -> Result<()> {
    let making = || format!("making the directory {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(making)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(making)?,
    }
    if fs::metadata(path).with_context(making)?.mode() & OTHERS != 0
        && let Err(error) = close(path)
    {
        warn!(
            "others can read {}, which holds customers' data: {error:#}; close it with chmod -R go= {0}",
            path.display()
        );
    }
    Ok(())
}

/// Takes from others what they may do in a directory, last of all with itself: what is cut off is done
/// again.
fn close(path: &Path) -> Result<()> {
    let closing = || format!("closing {} to others", path.display());
    for entry in fs::read_dir(path).with_context(closing)? {
        let entry = entry.with_context(closing)?;
        let kind = entry.file_type().with_context(closing)?;
        if kind.is_dir() {
            close(&entry.path())?;
        } else if !kind.is_symlink() {
            close_one(&entry.path()).with_context(closing)?;
        }
    }
    close_one(path).with_context(closing)
}

fn close_one(path: &Path) -> std::io::Result<()> {
    match fs::metadata(path) {
        Ok(it) => fs::set_permissions(path, Permissions::from_mode(it.mode() & 0o7777 & !OTHERS)),
        // A snapshot that is over, or the socket of a market that has ended.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Replaces a file, or makes it, with that mode: whenever the machine stops, it is the old one or the
/// new one.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // What a write that was cut off has left, or somebody else's link.
    match fs::remove_file(&new) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.with_context(writing)?,
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .with_context(writing)?;
    file.write_all(bytes).with_context(writing)?;
    file.sync_all().with_context(writing)?;
    fs::rename(&new, path).with_context(writing)?;
    let parent = path.parent().context("a file is in a directory")?;
    File::open(parent).and_then(|parent| parent.sync_all()).with_context(writing)
}
