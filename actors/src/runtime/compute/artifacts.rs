//! Where artifacts come from: bytes by digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use supervisor::activity::Failure;
use tokio::io::AsyncRead;

use super::set::check_digest;

/// The bytes of an artifact, as they come.
pub type Bytes = Box<dyn AsyncRead + Send + Unpin>;

/// Artifacts by the SHA-256 of their bytes: a plain executable, or a `.tar.gz` of plain files and
/// directories. Whoever reads one checks its digest; the storage is not trusted with that.
#[async_trait]
pub trait Artifacts: Send + Sync + 'static {
    /// The bytes of `digest`. `None`: there is no such artifact. Changes nothing.
    async fn open(&self, digest: &str) -> Result<Option<Bytes>, Failure>;
}

/// Artifacts in a directory, each in a file named after its digest.
#[derive(Debug, Clone)]
pub struct DirectoryArtifacts {
    dir: PathBuf,
}

impl DirectoryArtifacts {
    /// The artifacts in `dir`, which is created when it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Adds the artifact `bytes` and answers its digest. Adding the same again changes nothing.
    pub fn add(&self, bytes: &[u8]) -> io::Result<String> {
        let digest = hex::encode(Sha256::digest(bytes));
        crate::runtime::durable::write(&self.dir.join(&digest), bytes)?;
        Ok(digest)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[async_trait]
impl Artifacts for DirectoryArtifacts {
    async fn open(&self, digest: &str) -> Result<Option<Bytes>, Failure> {
        check_digest(digest)?;
        match tokio::fs::File::open(self.dir.join(digest)).await {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::transient(&format!("opening the artifact {digest}"), error)),
        }
    }
}
