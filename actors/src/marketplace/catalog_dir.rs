//! A catalogue in a directory: archives by checksum, entries as JSON.
//!
//! Several processes may use one directory. Nothing is ever changed in place: a file is written
//! under a name of its own, made durable, and then linked to its final name, which either did not
//! exist or stays what it was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::catalog::{CatalogStore, Error, Release};
use super::manifest::check_name;

/// A catalogue kept below one directory.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// The catalogue below `root`, which is created when it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        for part in ["objects", "index", "incoming"] {
            let dir = root.join(part);
            fs::create_dir_all(&dir).map_err(|error| Error::store(format!("creating {}", dir.display()), error))?;
        }
        Ok(Self { root })
    }

    fn object(&self, checksum: &str) -> Result<PathBuf, Error> {
        if checksum.len() != 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Refused { archive: checksum.into(), why: "this is not a SHA-256 checksum".into() });
        }
        Ok(self.root.join("objects").join(&checksum[..2]).join(checksum))
    }

    fn incoming(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.root.join("incoming"))
    }
}

/// Gives `file` its final name. `false`: that name exists, and was left alone.
fn publish(file: NamedTempFile, to: &Path) -> io::Result<bool> {
    file.as_file().sync_all()?;
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent)?;
    match file.persist_noclobber(to) {
        Ok(_) => {
            File::open(parent)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

impl CatalogStore for DirectoryStore {
    fn put_archive(&self, checksum: &str, file: &Path) -> Result<(), Error> {
        let to = self.object(checksum)?;
        let put = || -> io::Result<()> {
            if to.exists() {
                return Ok(());
            }
            let mut copy = self.incoming()?;
            io::copy(&mut File::open(file)?, &mut copy)?;
            // The file may have changed since it was described.
            let mut hash = Sha256::new();
            io::copy(&mut copy.reopen()?, &mut hash)?;
            if hex::encode(hash.finalize()) != checksum {
                return Err(io::Error::other("the archive changed while it was imported; import it again"));
            }
            publish(copy, &to).map(drop)
        };
        put().map_err(|error| Error::store(format!("keeping {}", file.display()), error))
    }

    fn open_archive(&self, checksum: &str) -> Result<Option<File>, Error> {
        match File::open(self.object(checksum)?) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::store(format!("opening the archive {checksum}"), error)),
        }
    }

    fn enter(&self, release: &Release) -> Result<Option<Release>, Error> {
        let name = &release.manifest.name;
        let to = self.root.join("index").join(name).join(format!("{}.json", release.manifest.version));
        let enter = || -> io::Result<Option<Release>> {
            let mut file = self.incoming()?;
            serde_json::to_writer(&mut file, release)?;
            file.flush()?;
            if publish(file, &to)? {
                return Ok(None);
            }
            let standing = fs::read(&to)?;
            serde_json::from_slice(&standing)
                .map(Some)
                .map_err(|error| io::Error::other(format!("{} cannot be read: {error}", to.display())))
        };
        enter().map_err(|error| Error::store(format!("entering {name} {}", release.manifest.version), error))
    }

    fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        check_name(name).map_err(|error| Error::Refused { archive: name.into(), why: error.to_string() })?;
        let dir = self.root.join("index").join(name);
        let read = || -> io::Result<Vec<Release>> {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut found = Vec::new();
            for entry in entries {
                let path = entry?.path();
                let release = serde_json::from_slice(&fs::read(&path)?)
                    .map_err(|error| io::Error::other(format!("{} cannot be read: {error}", path.display())))?;
                found.push(release);
            }
            Ok(found)
        };
        read().map_err(|error| Error::store(format!("looking up {name} in the catalogue"), error))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(self.root.join("index"))? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|error| Error::store("listing the catalogue", error))
    }
}
