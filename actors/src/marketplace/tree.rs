//! Fingerprints of files and directories: content, mode and links, but not times.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The bits of a mode that belong to a file's state.
const MODE: u32 = 0o7777;

/// A regular file as it was at some moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
    /// Its permissions.
    pub mode: u32,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(FileState),
    /// Something else: a directory, a link, a device.
    Other,
}

/// Looks at `path` without following a link.
pub fn look(path: &Path) -> io::Result<Found> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if !about.is_file() {
        return Ok(Found::Other);
    }
    Ok(Found::File(FileState { sha256: digest(path)?, mode: about.permissions().mode() & MODE }))
}

/// SHA-256 of a file's content.
pub fn digest(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// One fingerprint for everything below `dir`: names, kinds, modes, contents, targets of links.
pub fn fingerprint(dir: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let path = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        let about = entry.metadata()?;
        let (kind, content) = if about.is_file() {
            ("file", digest(entry.path())?)
        } else if about.is_symlink() {
            ("link", fs::read_link(entry.path())?.to_string_lossy().into_owned())
        } else if about.is_dir() {
            ("dir", String::new())
        } else {
            ("other", String::new())
        };
        // The mode of a link means nothing.
        let mode = if about.is_symlink() { 0 } else { about.permissions().mode() & MODE };
        let line = serde_json::to_string(&(path.to_string_lossy(), kind, mode, content))?;
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    Ok(hex::encode(hash.finalize()))
}
