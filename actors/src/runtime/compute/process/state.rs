//! What services keep on the disk: a directory for each, its user's alone.
//!
//! The kernel bounds each file (`RLIMIT_FSIZE`). All of them together are looked at now and then: a file
//! system with quotas for directories would do better, and few machines have one.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::proc::runs_something;

/// Files and directories in one such directory. More would take long to look at, and fill the disk's
/// tables as bytes fill the disk.
const ENTRIES_MAX: u64 = 100_000;
/// The bytes in which a file system says what a file takes.
const BLOCK_BYTES: u64 = 512;

/// Makes `dir`, and lets only `user` into it. What another user of the same service left there becomes
/// this one's.
pub fn make(dir: &Path, user: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    if let Some(user) = user.filter(|user| *user != found.uid()) {
        let former = found.uid();
        // It could lead us elsewhere while we go through what is its.
        if former != rustix::process::geteuid().as_raw() && runs_something(former)? {
            let why = format!("processes of its former user {former} still run; they are to end first");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
        for entry in walkdir::WalkDir::new(dir) {
            lchown(entry?.path(), Some(user), Some(user))?;
        }
    }
    if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Says so when `dir` holds more than `most` bytes.
pub fn too_large(dir: &Path, most: u64) -> io::Result<Option<String>> {
    let (mut bytes, mut entries) = (0u64, 0u64);
    for entry in walkdir::WalkDir::new(dir).same_file_system(true) {
        // What is removed while it is looked at takes nothing.
        let Ok(meta) = entry.and_then(|entry| entry.metadata()) else { continue };
        bytes = bytes.saturating_add(meta.blocks().saturating_mul(BLOCK_BYTES));
        entries += 1;
        if bytes > most || entries > ENTRIES_MAX {
            let why = format!(
                "its state directory {} holds more than {most} bytes or {ENTRIES_MAX} files; make room there, or raise \
                 runtime.state_bytes",
                dir.display()
            );
            return Ok(Some(why));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_keeps_is_counted_in_what_it_takes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("prod/of-acme/web");
        make(&dir, None).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        fs::File::create(dir.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(too_large(&dir, 100_000).unwrap(), None, "holes take nothing");
        fs::write(dir.join("full"), vec![1; 200_000]).unwrap();
        assert!(too_large(&dir, 100_000).unwrap().unwrap().contains("runtime.state_bytes"));
    }
}
