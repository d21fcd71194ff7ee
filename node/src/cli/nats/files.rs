//! Files with secrets: for their owner only, and never written over.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::fault::Fault;
use crate::nats::{About, credentials_file, seed_of};
use crate::secret::Secret;

/// One user's key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its credentials file.
    pub(super) file: PathBuf,
    /// Its public half.
    pub(super) public: String,
    /// Whether it was there before.
    pub(super) kept: bool,
}

/// Makes `dir`, for its owner only.
pub(super) fn directory(dir: &Path) -> Result<(), Fault> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| unwritten(dir, &error))
}

/// The key of the user `name`: the one in its file, or a new one.
pub(super) fn key(dir: &Path, name: &str, about: &About) -> Result<Key, Fault> {
    let file = dir.join(format!("{name}.nk"));
    let (seed, kept) = match std::fs::read_to_string(&file).map(zeroize::Zeroizing::new) {
        Ok(text) => {
            let unusable = || {
                Fault::new(format!("{} holds no seed of a user", file.display()))
                    .mend("move it away, and a new one is made: its user then needs the new file")
            };
            (seed_of(&text).ok_or_else(unusable)?, true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = nkeys::KeyPair::new_user().seed().map_err(|error| Fault::new(format!("no new key: {error}")))?;
            let seed = Secret::new(seed);
            let text = credentials_file(about, &seed);
            let mut open = std::fs::OpenOptions::new();
            let opened = open.write(true).create_new(true).mode(0o600).open(&file);
            opened
                .and_then(|mut it| it.write_all(text.reveal().as_bytes()))
                .map_err(|error| unwritten(&file, &error))?;
            (seed, false)
        }
        Err(error) => return Err(unwritten(&file, &error)),
    };
    let pair =
        nkeys::KeyPair::from_seed(seed.reveal()).map_err(|_| Fault::new(format!("{}: no key", file.display())))?;
    Ok(Key { file, public: pair.public_key(), kept })
}

/// Writes a file without secrets, whole or not at all.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Fault> {
    let beside = file.with_extension("conf.tmp");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file));
    written.map_err(|error| unwritten(file, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> Fault {
    Fault::new(format!("{} cannot be used", path.display()))
        .why(error.to_string())
        .mend("make it readable and writable, or name another directory with --out")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("nats");
        directory(&dir).unwrap();
        let about = About { inbox: Some("_INBOX.acme.ann".into()), ..About::default() };
        let first = key(&dir, "acme.ann", &about).unwrap();
        let again = key(&dir, "acme.ann", &about).unwrap();
        assert_eq!((first.kept, again.kept, &first.public), (false, true, &again.public));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&first.file)), (0o700, 0o600));
        std::fs::write(&first.file, "nothing").unwrap();
        assert!(key(&dir, "acme.ann", &about).unwrap_err().what.contains("holds no seed"));
    }
}
