//! Files that a crash leaves either as they were or as they should be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts `bytes` into the file `path`, all or nothing. Only its owner may read it.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(parent)?.sync_all()
}

/// Removes the file `path`, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match path.parent().map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Some(Err(_)) | None => Ok(()),
    }
}
