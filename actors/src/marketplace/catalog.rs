//! The catalogue: which packages there are, and their archives.
//!
//! It is filled from `.crate` files and describes each by what stands in the archive itself, never
//! by what somebody says about it. Where the bytes live is a port; [`DirectoryStore`] keeps them in
//! a directory that all nodes of one machine may share. An adapter over object storage needs the
//! same three promises: content by checksum, create-if-absent for entries, listing by prefix.
//!
//! [`DirectoryStore`]: super::catalog_dir::DirectoryStore

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::archive::{self, Limits};
use super::manifest::Manifest;

/// One version of one package, as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// SHA-256 of the archive, in hexadecimal digits.
    pub checksum: String,
    /// Bytes of the archive.
    pub size: u64,
    /// What the package says about itself.
    #[serde(flatten)]
    pub manifest: Manifest,
}

/// Why the catalogue could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is not one that can be taken in. Get a proper one.
    #[error("{archive}: {why}")]
    Refused {
        /// Which file.
        archive: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name and version are taken by other bytes. A version never changes: release a new one.
    #[error(
        "{name} {version} is already there with checksum {known}, and this archive has {offered}; release it under a new version"
    )]
    Taken {
        /// The package.
        name: String,
        /// Its version.
        version: Version,
        /// The checksum of the archive that is there.
        known: String,
        /// The checksum of the archive that was offered.
        offered: String,
    },
    /// The store failed.
    #[error("{doing}: {source}")]
    Store {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// A failure of the store while `doing`.
    pub fn store(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Store { doing: doing.into(), source }
    }
}

/// Where the catalogue's bytes live. Safe under concurrent importers in several processes.
pub trait CatalogStore: Send + Sync + 'static {
    /// Keeps the archive at `file` under `checksum`; keeping the same bytes again is one object.
    fn put_archive(&self, checksum: &str, file: &Path) -> Result<(), Error>;

    /// Opens the archive with `checksum`. `None`: it is not kept. The reader verifies the bytes
    /// itself, because a store can rot.
    fn open_archive(&self, checksum: &str) -> Result<Option<File>, Error>;

    /// Enters `release`, unless its name and version are taken: then it answers what stands there.
    fn enter(&self, release: &Release) -> Result<Option<Release>, Error>;

    /// All versions of `name`, in no order.
    fn versions(&self, name: &str) -> Result<Vec<Release>, Error>;

    /// All names, in order.
    fn names(&self) -> Result<Vec<String>, Error>;
}

/// One line of [`Catalog::list`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The package.
    pub name: String,
    /// Its versions, highest first.
    pub versions: Vec<Version>,
    /// The licence of the highest.
    pub license: Option<String>,
    /// The archive of the highest, in bytes.
    pub size: u64,
}

/// What became of one archive in an import.
#[derive(Debug)]
pub enum Imported {
    /// It is in the catalogue now.
    New(Release),
    /// It was there already.
    Known(Release),
    /// It was left out, and why.
    Skipped(Error),
}

/// What an import did.
#[derive(Debug, Default)]
pub struct Report {
    /// Archives that are in the catalogue now and were not before.
    pub new: usize,
    /// Archives that were there.
    pub known: usize,
    /// Archives that were left out, with the reason.
    pub skipped: Vec<Error>,
}

/// Packages and their archives. Cheap to clone. All of it blocks on the disk.
#[derive(Clone)]
pub struct Catalog {
    store: Arc<dyn CatalogStore>,
    limits: Limits,
}

impl Catalog {
    /// The catalogue kept in `store`.
    pub fn new(store: Arc<dyn CatalogStore>, limits: Limits) -> Self {
        Self { store, limits }
    }

    /// The limits that its archives keep to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes in every `.crate` file below `dir`. One bad archive does not keep the others out;
    /// only a failing store ends the import. `progress` hears of each file.
    pub fn import(&self, dir: &Path, mut progress: impl FnMut(&Path, &Imported)) -> Result<Report, Error> {
        let mut report = Report::default();
        for file in walkdir::WalkDir::new(dir).sort_by_file_name() {
            let file = file.map_err(|error| Error::store(format!("looking below {}", dir.display()), error.into()))?;
            if !file.file_type().is_file() || file.path().extension().is_none_or(|ext| ext != "crate") {
                continue;
            }
            let imported = match self.add(file.path()) {
                Ok(imported) => imported,
                Err(error @ (Error::Refused { .. } | Error::Taken { .. })) => Imported::Skipped(error),
                Err(error @ Error::Store { .. }) => return Err(error),
            };
            progress(file.path(), &imported);
            match imported {
                Imported::New(_) => report.new += 1,
                Imported::Known(_) => report.known += 1,
                Imported::Skipped(error) => report.skipped.push(error),
            }
        }
        Ok(report)
    }

    /// Takes in one archive.
    pub fn add(&self, file: &Path) -> Result<Imported, Error> {
        let release = self.describe(file)?;
        // The archive first: an entry never speaks of bytes that are not there.
        self.store.put_archive(&release.checksum, file)?;
        match self.store.enter(&release)? {
            None => Ok(Imported::New(release)),
            Some(standing) if standing.checksum == release.checksum => Ok(Imported::Known(standing)),
            Some(standing) => Err(Error::Taken {
                name: release.manifest.name,
                version: release.manifest.version,
                known: standing.checksum,
                offered: release.checksum,
            }),
        }
    }

    /// Reads what an archive says about itself.
    pub fn describe(&self, file: &Path) -> Result<Release, Error> {
        let refused = |why: String| Error::Refused { archive: file.display().to_string(), why };
        let reading = || format!("reading {}", file.display());
        let packed = File::open(file).map_err(|error| Error::store(reading(), error))?;
        let mut text = None;
        let summary = archive::walk(packed, &self.limits, |entry, content| {
            if entry.path == Path::new("Cargo.toml") {
                let mut bytes = Vec::new();
                content.take(self.limits.manifest_bytes + 1).read_to_end(&mut bytes)?;
                text = Some(bytes);
            }
            Ok(())
        })
        .map_err(|error| match error {
            archive::Error::Io(source) | archive::Error::Visit(source) => Error::store(reading(), source),
            error @ archive::Error::Refused(_) => refused(error.to_string()),
        })?;
        let bytes = text.ok_or_else(|| refused("it has no Cargo.toml".into()))?;
        if bytes.len() as u64 > self.limits.manifest_bytes {
            return Err(refused(format!("its manifest is larger than {} bytes", self.limits.manifest_bytes)));
        }
        let text = String::from_utf8(bytes).map_err(|_| refused("its manifest is not UTF-8".into()))?;
        let manifest = Manifest::read(&text).map_err(|error| refused(error.to_string()))?;
        let root = format!("{}-{}", manifest.name, manifest.version);
        if summary.root != root {
            return Err(refused(format!("its content stands in {:?} and not in {root:?}", summary.root)));
        }
        Ok(Release { checksum: summary.checksum, size: summary.packed_bytes, manifest })
    }

    /// All versions of `name`, highest first.
    pub fn versions(&self, name: &str) -> Result<Vec<Release>, Error> {
        let mut versions = self.store.versions(name)?;
        versions.sort_by(|a, b| b.manifest.version.cmp(&a.manifest.version));
        Ok(versions)
    }

    /// One version of one package.
    pub fn release(&self, name: &str, version: &Version) -> Result<Option<Release>, Error> {
        Ok(self.store.versions(name)?.into_iter().find(|release| release.manifest.version == *version))
    }

    /// Opens an archive by its checksum.
    pub fn open(&self, checksum: &str) -> Result<Option<File>, Error> {
        self.store.open_archive(checksum)
    }

    /// Everything there is, by name.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for name in self.store.names()? {
            let versions = self.versions(&name)?;
            let Some(highest) = versions.first() else { continue };
            listed.push(Listed {
                name,
                license: highest.manifest.license.clone(),
                size: highest.size,
                versions: versions.iter().map(|release| release.manifest.version.clone()).collect(),
            });
        }
        Ok(listed)
    }
}
