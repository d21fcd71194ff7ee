//! What an installation noted down before it changed a target, and what undoing it needs.
//!
//! ```text
//! .skald.<id>.tmp/            the journal while it is made, and again while it is removed
//! .skald/journal/<id>/
//!   token.json                what will be done; written last, so its presence means "complete"
//!   before/<n>, after/<n>     the project's files, old and new
//!   intent/<n>                this file is about to be replaced
//!   laid/<package>            fingerprint of a package that is about to be put into place
//!   stage/, trash/            packages on their way in and out
//!   applied                   everything is in place
//! ```
//!
//! What has no intent was never touched by us, whoever touched it since.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::project::RECORDS;
use super::reference::{GraphPackage, InstalledArtifactRef};
use super::tree::FileState;

/// The directory of all journals, below [`RECORDS`].
pub const JOURNALS: &str = "journal";

/// One file of the project that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStep {
    /// Its path, relative to the target.
    pub path: String,
    /// How it was; `None`: it was not there.
    pub before: Option<FileState>,
    /// How it will be.
    pub after: FileState,
}

/// One package that is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageStep {
    /// Its directory, below the vendor directory.
    pub dir: String,
    /// The package.
    pub package: GraphPackage,
}

/// Enough to take an installation back (M076).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackToken {
    /// Names the journal; made from the key.
    pub id: String,
    /// The idempotency key of the step.
    pub key: String,
    /// The saga it belongs to.
    pub saga: String,
    /// Fingerprint of what was asked, so that one key is not used for two things.
    pub asked: String,
    /// The vendor directory, relative to the target.
    pub vendor: String,
    /// Packages that are laid out.
    pub packages: Vec<PackageStep>,
    /// Files that change.
    pub files: Vec<FileStep>,
    /// Directories that were not there before, the deepest first.
    pub created: Vec<String>,
    /// What is recorded in the target.
    pub installed: Vec<InstalledArtifactRef>,
}

/// The journal of one installation in one target.
#[derive(Debug, Clone)]
pub struct Journal {
    /// The target's directory.
    pub target: PathBuf,
    /// Names the journal.
    pub id: String,
}

/// The name of the journal of `key`.
pub fn id(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))[..20].to_owned()
}

impl Journal {
    /// The journal of `key` in `target`.
    pub fn of(target: &Path, key: &str) -> Self {
        Self { target: target.to_owned(), id: id(key) }
    }

    /// Where it stands while the installation does.
    pub fn dir(&self) -> PathBuf {
        self.target.join(RECORDS).join(JOURNALS).join(&self.id)
    }

    /// Where it stands while it is made or removed.
    pub fn draft(&self) -> PathBuf {
        self.target.join(format!("{RECORDS}.{}.tmp", self.id))
    }

    /// The token, when the journal stands.
    pub fn token(&self) -> io::Result<Option<RollbackToken>> {
        read_json(&self.dir().join("token.json"))
    }

    /// The token of a draft, when it is complete.
    pub fn drafted(&self) -> io::Result<Option<RollbackToken>> {
        read_json(&self.draft().join("token.json"))
    }

    /// The kept or the new version of the file of step `n`.
    pub fn version(&self, which: &str, n: usize) -> PathBuf {
        self.dir().join(which).join(n.to_string())
    }

    /// Notes that the file of step `n` is about to be replaced.
    pub fn intend(&self, n: usize) -> io::Result<()> {
        write_durably(&self.dir().join("intent").join(n.to_string()), b"")
    }

    /// Whether the file of step `n` may have been replaced.
    pub fn intended(&self, n: usize) -> bool {
        self.dir().join("intent").join(n.to_string()).exists()
    }

    /// Notes the fingerprint of a package that is about to be put into place.
    pub fn lay(&self, dir: &str, fingerprint: &str) -> io::Result<()> {
        write_durably(&self.dir().join("laid").join(dir), fingerprint.as_bytes())
    }

    /// The fingerprint of a package that may have been put into place.
    pub fn laid(&self, dir: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.dir().join("laid").join(dir)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Directories that other installations in this target made: whoever goes last removes them.
    pub fn made_by_others(&self) -> io::Result<BTreeSet<String>> {
        Ok(tokens(&self.target)?.into_iter().filter(|token| token.id != self.id).flat_map(|t| t.created).collect())
    }
}

/// The tokens of all installations that stand in `target`.
pub fn tokens(target: &Path) -> io::Result<Vec<RollbackToken>> {
    let entries = match fs::read_dir(target.join(RECORDS).join(JOURNALS)) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut tokens = Vec::new();
    for entry in entries {
        tokens.extend(read_json(&entry?.path().join("token.json"))?);
    }
    Ok(tokens)
}

/// Reads a JSON file. `None`: there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io::Error::other(format!("{} cannot be read: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file so that it is either there with all its bytes, also after a power cut, or not.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_dir(parent)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a directory with all that is in it; a missing one is fine.
pub fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
