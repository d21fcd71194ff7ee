//! Files that a crash leaves either as they were or as they should be, and locks that end with
//! their holder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::FlockOperation;

/// What unfinished files are called until they are whole; a crash leaves such a one behind.
pub const UNFINISHED: &str = ".unfinished-";

/// Puts `bytes` into the file `path`, all or nothing, and makes its directory if it is missing. Only its owner may read it.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    // The mode of a temporary file is 0600.
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(parent)?.sync_all()
}

/// Removes the file `path`, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    removed(path, fs::remove_file(path))
}

/// Removes the directory `path` with all that is in it, if it is there.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    removed(path, fs::remove_dir_all(path))
}

fn removed(path: &Path, removal: io::Result<()>) -> io::Result<()> {
    match removal {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match path.parent().map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Some(Err(_)) | None => Ok(()),
    }
}

/// The bytes of the file `path`, when there is one.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until nobody else, in this process or another, holds the lock in the file `path`, and
/// holds it until the answer is dropped. A holder that dies lets go.
pub fn lock(path: &Path) -> io::Result<File> {
    locked(path, FlockOperation::LockExclusive)
}

/// The same, but together with others who ask for it like this.
pub fn lock_shared(path: &Path) -> io::Result<File> {
    locked(path, FlockOperation::LockShared)
}

/// The same, unless somebody holds it already: then it is [`io::ErrorKind::ResourceBusy`].
pub fn lock_now(path: &Path) -> io::Result<File> {
    locked(path, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("another process keeps {}", path.display()))
        }
        _ => error,
    })
}

fn locked(path: &Path, how: FlockOperation) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    rustix::fs::flock(&file, how)?;
    Ok(file)
}
