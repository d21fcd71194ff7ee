//! The target project, looked at: what it requires, what it has locked, what lies in its vendor
//! directory and what was installed into it. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use semver::Version;
use toml::{Table, Value};

use super::catalog::Release;
use super::manifest::{Dependency, Kind, Manifest};
use super::reference::InstalledArtifactRef;
use super::targets::Allowed;

/// Where vendored packages go in a project that does not say otherwise.
pub const VENDOR: &str = "vendor";
/// Where Skald keeps its own records in a target.
pub const RECORDS: &str = ".skald";
/// The records of what was installed, one file per installation, below [`RECORDS`].
pub const INSTALLED: &str = "installed";
/// The largest file of a project that is read into memory. A lock file of 1,000 packages has
/// 300 KiB.
const TEXT_MAX_BYTES: u64 = 16 << 20;
/// Packages that a project holds itself, joined by paths.
const LOCAL_MAX: usize = 64;

/// Why a target cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a project that a package can be installed into. Somebody must change it.
    #[error("{0}")]
    Unsuitable(String),
    /// The disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

fn unsuitable<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Unsuitable(why.into()))
}

/// What a lock file says of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The version.
    pub version: Version,
    /// The archive's checksum.
    pub checksum: Option<String>,
}

/// A package that lies in the vendor directory.
#[derive(Debug, Clone)]
pub struct Vendored {
    /// Its directory's name.
    pub dir: String,
    /// What it says about itself; the checksum is empty for a stand-in.
    pub release: Release,
}

/// One package of the project itself.
#[derive(Debug, Clone)]
pub struct Local {
    /// Its manifest.
    pub manifest: Manifest,
}

/// A target project as it was found.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its directory, with all links followed.
    pub dir: PathBuf,
    /// The package at the top.
    pub top: Local,
    /// The packages it reaches by path.
    pub locals: Vec<Local>,
    /// What its lock file pins, by name.
    pub locked: BTreeMap<String, Vec<Locked>>,
    /// The lock file's format.
    pub lock_format: i64,
    /// Where its vendored packages are, relative to it.
    pub vendor: String,
    /// What lies there.
    pub vendored: Vec<Vendored>,
    /// What was installed into it.
    pub installed: Vec<InstalledArtifactRef>,
}

impl Project {
    /// Looks at the project in `dir`, and at nothing that is not `allowed`.
    pub fn look(dir: &Path, allowed: &Allowed) -> Result<Self, Error> {
        let Some(dir) = allowed.place(dir)? else {
            return unsuitable(format!("the target {} is not a directory; create the project first", dir.display()));
        };
        let Some(text) = allowed.read(&dir.join("Cargo.toml"))? else {
            return unsuitable(format!("{} has no Cargo.toml; the target must be a cargo project", dir.display()));
        };
        let table: Table = text.parse().or_else(|error| unsuitable(format!("Cargo.toml cannot be read: {error}")))?;
        if let Some(workspace) = table.get("workspace").and_then(Value::as_table)
            && workspace.get("members").and_then(Value::as_array).is_some_and(|members| !members.is_empty())
        {
            return unsuitable(
                "the target is a workspace with members; install into a project of its own, outside of a workspace",
            );
        }
        let top = Local { manifest: read_manifest(&text, "Cargo.toml")? };
        let mut locals = Vec::new();
        let mut seen = BTreeSet::from([dir.clone()]);
        read_locals(&dir, &top.manifest, true, allowed, &mut seen, &mut locals)?;
        let (lock_format, locked) = read_lock(&dir, allowed)?;
        let vendor = vendor_dir(&dir, allowed)?;
        let vendored = read_vendor(&dir.join(&vendor), allowed)?;
        let installed = read_installed(&dir, allowed)?;
        Ok(Self { dir, top, locals, locked, lock_format, vendor, vendored, installed })
    }

    /// What the project requires already under the name `alias`, for its own code.
    pub fn requires(&self, alias: &str) -> Option<&Dependency> {
        let mut normal = self.top.manifest.dependencies.iter().filter(|dep| dep.kind == Kind::Normal);
        normal.find(|dep| dep.alias == alias && dep.target.is_none())
    }
}

fn read_manifest(text: &str, what: &str) -> Result<Manifest, Error> {
    let manifest = Manifest::read(text).or_else(|error| unsuitable(format!("{what}: {error}")))?;
    if let Some(foreign) = manifest.dependencies.iter().find(|dep| dep.foreign) {
        return unsuitable(format!(
            "{what} takes {} from git, another registry or a workspace, which the catalogue cannot provide; \
             use a released version of it",
            foreign.alias
        ));
    }
    Ok(manifest)
}

fn read_locals(
    dir: &Path,
    manifest: &Manifest,
    top: bool,
    allowed: &Allowed,
    seen: &mut BTreeSet<PathBuf>,
    locals: &mut Vec<Local>,
) -> Result<(), Error> {
    for dep in manifest.dependencies.iter().filter(|dep| top || dep.kind != Kind::Dev) {
        let Some(path) = &dep.path else { continue };
        let what = format!("the path of the dependency {}", dep.alias);
        let Some(at) = allowed.follow(&what, &dir.join(path))? else {
            return unsuitable(format!("{what} leads nowhere: {path:?}"));
        };
        if !seen.insert(at.clone()) {
            continue;
        }
        if locals.len() == LOCAL_MAX {
            return unsuitable(format!("the target reaches more than {LOCAL_MAX} packages by path"));
        }
        let Some(text) = allowed.read(&at.join("Cargo.toml"))? else {
            return unsuitable(format!("the dependency {} has no Cargo.toml at {path:?}", dep.alias));
        };
        let local = Local { manifest: read_manifest(&text, &format!("{path}/Cargo.toml"))? };
        locals.push(local.clone());
        read_locals(&at, &local.manifest, false, allowed, seen, locals)?;
    }
    Ok(())
}

fn read_lock(dir: &Path, allowed: &Allowed) -> Result<(i64, BTreeMap<String, Vec<Locked>>), Error> {
    let mut locked: BTreeMap<String, Vec<Locked>> = BTreeMap::new();
    let Some(text) = allowed.read(&dir.join("Cargo.lock"))? else { return Ok((4, locked)) };
    let table: Table = text.parse().or_else(|error| unsuitable(format!("Cargo.lock cannot be read: {error}")))?;
    let format = table.get("version").and_then(Value::as_integer).unwrap_or(1);
    if !(3..=4).contains(&format) {
        return unsuitable(format!("Cargo.lock has format {format}; let a present cargo rewrite it (format 3 or 4)"));
    }
    for package in table.get("package").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let (Some(name), Some(version)) = (text("name"), text("version")) else { continue };
        if !text("source").is_some_and(|source| source.starts_with("registry+")) {
            continue;
        }
        let version =
            Version::parse(version).or_else(|error| unsuitable(format!("Cargo.lock, {name} {version}: {error}")))?;
        let checksum = text("checksum").map(str::to_owned);
        locked.entry(name.to_owned()).or_default().push(Locked { version, checksum });
    }
    Ok((format, locked))
}

/// The directory that the project's configuration names for vendored packages, or [`VENDOR`].
fn vendor_dir(dir: &Path, allowed: &Allowed) -> Result<String, Error> {
    if dir.join(".cargo/config").exists() {
        return unsuitable("the target has the outdated file .cargo/config; rename it to .cargo/config.toml");
    }
    let Some(text) = allowed.read(&dir.join(".cargo/config.toml"))? else { return Ok(VENDOR.into()) };
    let table: Table =
        text.parse().or_else(|error| unsuitable(format!(".cargo/config.toml cannot be read: {error}")))?;
    let source = |name: &str| table.get("source").and_then(|sources| sources.get(name));
    let mut name = match source("crates-io").and_then(|source| source.get("replace-with")).and_then(Value::as_str) {
        None => return Ok(VENDOR.into()),
        Some(name) => name,
    };
    // A chain of replacements; three links are more than anybody writes.
    for _ in 0..3 {
        let Some(found) = source(name) else { break };
        if let Some(next) = found.get("replace-with").and_then(Value::as_str) {
            name = next;
        } else if let Some(at) = found.get("directory").and_then(Value::as_str) {
            let inside = Path::new(at).components().all(|part| matches!(part, Component::Normal(_)));
            if inside && !at.is_empty() {
                return Ok(at.to_owned());
            }
            return unsuitable(format!("the vendored sources at {at:?} lie outside of the target"));
        } else {
            break;
        }
    }
    unsuitable(format!(
        ".cargo/config.toml replaces crates-io with {name:?}, which is not a directory of vendored sources in the target"
    ))
}

fn read_vendor(vendor: &Path, allowed: &Allowed) -> Result<Vec<Vendored>, Error> {
    let mut vendored = Vec::new();
    let entries = match fs::read_dir(vendor) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vendored),
        Err(source) => return Err(Error::Io { doing: format!("looking at {}", vendor.display()), source }),
    };
    for entry in entries {
        let entry = entry.map_err(|source| Error::Io { doing: format!("listing {}", vendor.display()), source })?;
        let dir = entry.file_name().to_string_lossy().into_owned();
        if dir.starts_with('.') {
            continue;
        }
        let Some(text) = allowed.read(&entry.path().join("Cargo.toml"))? else { continue };
        let Ok(manifest) = Manifest::read(&text) else { continue };
        let sums = allowed.read(&entry.path().join(".cargo-checksum.json"))?.unwrap_or_default();
        let sums: serde_json::Value = serde_json::from_str(&sums).unwrap_or_default();
        let checksum = sums["package"].as_str().unwrap_or_default().to_owned();
        vendored.push(Vendored { dir, release: Release { checksum, size: 0, manifest } });
    }
    vendored.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(vendored)
}

fn read_installed(dir: &Path, allowed: &Allowed) -> Result<Vec<InstalledArtifactRef>, Error> {
    let records = dir.join(RECORDS).join(INSTALLED);
    let mut installed = Vec::new();
    let entries = match fs::read_dir(&records) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(installed),
        Err(source) => return Err(Error::Io { doing: format!("looking at {}", records.display()), source }),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Some(text) = allowed.read(&path)? else { continue };
        let refs: Vec<InstalledArtifactRef> = serde_json::from_str(&text)
            .or_else(|error| unsuitable(format!("{} cannot be read: {error}", path.display())))?;
        installed.extend(refs);
    }
    Ok(installed)
}

/// The text of a file. `None`: there is none.
pub fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let doing = || format!("reading {}", path.display());
    // A pipe in its place must not keep us waiting for a writer.
    let file = match fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) if file.metadata().is_ok_and(|meta| !meta.is_file()) => {
            return unsuitable(format!("{} is not a plain file", path.display()));
        }
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(Error::Io { doing: doing(), source }),
    };
    let mut text = String::new();
    match file.take(TEXT_MAX_BYTES + 1).read_to_string(&mut text) {
        Ok(read) if read as u64 > TEXT_MAX_BYTES => {
            unsuitable(format!("{} is larger than {TEXT_MAX_BYTES} bytes", path.display()))
        }
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            unsuitable(format!("{} is not UTF-8", path.display()))
        }
        Err(source) => Err(Error::Io { doing: doing(), source }),
    }
}
