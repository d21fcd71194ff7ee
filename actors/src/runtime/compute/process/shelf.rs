//! Unpacked artifacts, each once, by digest.
//!
//! An artifact comes from anybody: its digest is checked while it arrives, before anything of it is
//! unpacked, and it is laid out under a name that nobody reads before it gets the one that counts.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use supervisor::activity::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::artifacts::{Artifacts, Bytes};
use super::super::set::PROGRAM;
use crate::marketplace::archive::{self, Layout, Limits};

/// How much an artifact may ask of us: a release with its assets, not a disk image.
pub const LIMITS: Limits = Limits {
    packed_bytes: 2 << 30,
    unpacked_bytes: 8 << 30,
    entries: 200_000,
    ratio: 200,
    path_bytes: 1024,
    // Nothing is read into memory.
    manifest_bytes: 0,
};

/// The shelf.
#[derive(Clone)]
pub struct Shelf {
    /// Where unpacked artifacts lie.
    dir: PathBuf,
    /// Where they are made; on the same disk.
    incoming: PathBuf,
    from: Arc<dyn Artifacts>,
}

impl Shelf {
    /// A shelf below `root`. What was left half made by a crash is removed.
    pub fn open(root: &Path, from: Arc<dyn Artifacts>) -> io::Result<Self> {
        let (dir, incoming) = (root.join("artifacts"), root.join("incoming"));
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(&incoming)?;
        Ok(Self { dir, incoming, from })
    }

    /// Where `digest` lies, or would.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest)
    }

    /// Whether `digest` lies there.
    pub fn has(&self, digest: &str) -> bool {
        self.path(digest).exists()
    }

    /// Takes down whatever is not in `used`.
    pub fn clear(&self, used: &BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !used.contains(entry.file_name().to_string_lossy().as_ref()) {
                // Out of the way first: half of an artifact must not be taken for a whole one.
                let away = tempfile::tempdir_in(&self.incoming)?;
                fs::rename(entry.path(), away.path().join("old"))?;
            }
        }
        Ok(())
    }

    /// Puts `digest` on the shelf. Nothing happens when it lies there.
    pub async fn stock(&self, digest: &str) -> Result<(), Failure> {
        let to = self.path(digest);
        if tokio::fs::try_exists(&to).await.map_err(disk)? {
            return Ok(());
        }
        let Some(bytes) = self.from.open(digest).await? else {
            return Err(Failure::named("ArtifactMissing", format!("there is no artifact {digest}; publish it first")));
        };
        let making = tempfile::tempdir_in(&self.incoming).map_err(disk)?;
        let packed = making.path().join("packed");
        receive(bytes, &packed, digest).await?;
        let unpacking = tokio::task::spawn_blocking(move || -> Result<(), Failure> {
            let laid = making.path().join("laid");
            lay_out(&packed, &laid)?;
            let dir = File::open(&laid).map_err(disk)?;
            rustix::fs::syncfs(&dir).map_err(disk)?;
            match renameat_with(CWD, &laid, CWD, &to, RenameFlags::NOREPLACE) {
                // Somebody else was faster, with the same bytes.
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(disk(error)),
            }
            File::open(to.parent().unwrap_or(&to)).and_then(|dir| dir.sync_all()).map_err(disk)
        });
        unpacking.await.map_err(|error| Failure::transient("unpacking the artifact", error))?
    }
}

fn disk(error: impl std::fmt::Display) -> Failure {
    Failure::transient("keeping the artifact", error)
}

fn refused(why: String) -> Failure {
    Failure::named("ArtifactRefused", why)
}

/// Copies `bytes` to `to` and checks that they are `digest`.
async fn receive(mut bytes: Bytes, to: &Path, digest: &str) -> Result<(), Failure> {
    let mut file = tokio::fs::File::create(to).await.map_err(disk)?;
    let (mut hash, mut length) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = bytes.read(&mut buffer).await.map_err(|error| Failure::transient("reading the artifact", error))?;
        if read == 0 {
            break;
        }
        length += read as u64;
        if length > LIMITS.packed_bytes {
            return Err(refused(format!("the artifact {digest} is larger than {} bytes", LIMITS.packed_bytes)));
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    let found = hex::encode(hash.finalize());
    if found != digest {
        return Err(refused(format!("what is kept as {digest} has the digest {found}; publish it again")));
    }
    Ok(())
}

/// Lays the artifact `packed` out in the new directory `to`.
fn lay_out(packed: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir(to).map_err(disk)?;
    let mut file = File::open(packed).map_err(disk)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(2).read_to_end(&mut magic).map_err(disk)?;
    if magic != [0x1f, 0x8b] {
        let program = to.join(PROGRAM);
        fs::copy(packed, &program).map_err(disk)?;
        return fs::set_permissions(&program, Permissions::from_mode(0o755)).map_err(disk);
    }
    let file = File::open(packed).map_err(disk)?;
    let walked = archive::walk_laid(file, &LIMITS, Layout::Plain, |entry, content| {
        let path = to.join(&entry.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        io::copy(content, &mut file)?;
        file.set_permissions(Permissions::from_mode(if entry.executable { 0o755 } else { 0o644 }))
    });
    match walked {
        Ok(_) => Ok(()),
        Err(archive::Error::Refused(why)) => Err(refused(why)),
        Err(archive::Error::Io(error) | archive::Error::Visit(error)) => Err(disk(error)),
    }
}
