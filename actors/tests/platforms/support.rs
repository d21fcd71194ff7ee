//! Synthetic packages, targets and a whole marketplace in a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use actors::marketplace::apply::{self, Context, Fault, Steps, Uninterrupted, Work};
use actors::marketplace::begun::Begun;
use actors::marketplace::catalog::Catalog;
use actors::marketplace::restore::Undone;
use actors::marketplace::targets::Allowed;
use actors::marketplace::{Config, platform::Platform, resolution};
use protocol::{Principal, SagaId, Tenant, Time, TraceId};
use semver::Version;
use supervisor::activity::{Attempt, Failure};
use supervisor::ports::Clock;

/// Always the same moment.
pub struct Noon;

impl Clock for Noon {
    fn now(&self) -> Time {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }
}

/// A marketplace and a target, both removed at the end.
pub struct World {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub catalog: Catalog,
    pub target: PathBuf,
}

impl World {
    /// With a target that has one source file and nothing else.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().join("market"), Arc::new(Noon));
        let target = dir.path().join("target");
        fs::create_dir_all(target.join("src")).unwrap();
        let manifest = "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
        fs::write(target.join("Cargo.toml"), manifest).unwrap();
        fs::write(target.join("src/lib.rs"), "//! Empty.\n").unwrap();
        Self { catalog: config.catalog().unwrap(), config, target, dir }
    }

    /// Adds a package; `rest` follows `[package]` in its manifest.
    pub fn package(&self, name: &str, version: &str, rest: &str) -> &Self {
        let archive = pack(self.dir.path(), name, version, rest);
        self.catalog.add(&archive).unwrap();
        self
    }

    /// Asks for `asset` in the target.
    pub fn question(&self, asset: &str, version: &str) -> resolution::Input {
        resolution::Input {
            asset: asset.into(),
            version: version.into(),
            target: self.target.clone(),
            features: vec![],
            rust: Some("1.95".into()),
        }
    }

    pub fn resolve(&self, input: &resolution::Input) -> resolution::Output {
        let rust = Version::new(1, 95, 0);
        resolution::resolve(&self.catalog, &Platform::host(), &rust, input, &self.allowed()).unwrap()
    }

    /// What to apply for `asset`.
    pub fn application(&self, asset: &str, version: &str) -> apply::Input {
        let answer = self.resolve(&self.question(asset, version));
        let graph = answer.graph.unwrap_or_else(|| panic!("no graph: {:#?}", answer.findings));
        apply::Input {
            asset: asset.into(),
            requirement: answer.requirement.unwrap(),
            features: vec![],
            target: self.target.clone(),
            graph,
        }
    }

    /// What the tenant of the stories may reach.
    pub fn allowed(&self) -> Allowed {
        self.config.targets.of(&Tenant::new("acme").unwrap())
    }

    pub fn work(&self, steps: Arc<dyn Steps>) -> Work {
        let undone = Undone::open(self.config.dir.join("undone")).unwrap();
        let begun = Begun::open(self.config.dir.join("begun"), "n1").unwrap();
        Work { catalog: self.catalog.clone(), undone, begun, allowed: self.allowed(), steps }
    }

    pub fn apply(&self, key: &str, input: &apply::Input) -> Result<apply::Output, Fault> {
        unhindered(|| self.work(Arc::new(Uninterrupted)).apply(&context(key), input, &|| {}))
    }

    pub fn restore(&self, key: &str) -> Result<(), Fault> {
        unhindered(|| self.work(Arc::new(Uninterrupted)).restore(&context(key), &self.target, &|| {}))
    }
}

/// Does it again while the target is busy, as a saga does: a process that another test starts holds
/// every open file, and so a target's lock, between its fork and its exec.
fn unhindered<T>(work: impl Fn() -> Result<T, Fault>) -> Result<T, Fault> {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match work() {
            Err(fault) if fault.to_string().contains("another installation") && std::time::Instant::now() < until => {
                std::thread::yield_now();
            }
            done => return done,
        }
    }
}

pub fn context(key: &str) -> Context {
    Context { key: key.into(), saga: "acme/install".into(), now: Noon.now() }
}

pub fn attempt(key: &str) -> Attempt {
    Attempt {
        saga: "acme/install".parse::<SagaId>().unwrap(),
        key: key.into(),
        number: 1,
        deadline: None,
        principal: Principal::new("kim").unwrap(),
        trace: TraceId::new("t1").unwrap(),
        heartbeat_every: None,
        token: "token".into(),
        heartbeat: Default::default(),
    }
}

/// One file of an archive: path, content, kind, mode.
pub type Part = (String, Vec<u8>, tar::EntryType, u32);

pub fn file(path: &str, content: &str) -> Part {
    (path.into(), content.into(), tar::EntryType::Regular, 0o644)
}

/// Writes an archive of exactly `parts`, whatever they say.
pub fn pack_parts(dir: &Path, name: &str, parts: &[Part]) -> PathBuf {
    let path = dir.join(format!("{name}.crate"));
    let gz = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (path, content, kind, mode) in parts {
        let mut header = tar::Header::new_gnu();
        // Written by hand, because the builder refuses paths that a stranger would use.
        let bytes = path.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        if !kind.is_file() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
    path
}

/// Writes the archive of a small, proper package.
pub fn pack(dir: &Path, name: &str, version: &str, rest: &str) -> PathBuf {
    let (head, rest) = match rest.split_once("---\n") {
        Some((head, rest)) => (head, rest),
        None => ("", rest),
    };
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\nlicense = \"MIT\"\n{head}\n{rest}"
    );
    let root = format!("{name}-{version}");
    let parts = [
        file(&format!("{root}/Cargo.toml"), &manifest),
        file(&format!("{root}/src/lib.rs"), &format!("//! {name} {version}\n")),
        (format!("{root}/tools/run.sh"), b"#!/bin/sh\n".to_vec(), tar::EntryType::Regular, 0o755),
    ];
    pack_parts(dir, &root, &parts)
}

/// Everything below `dir`: kind, mode, content or link.
pub fn tree(dir: &Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::PermissionsExt;
    let mut tree = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        let mode = about.permissions().mode();
        let content = if about.is_symlink() {
            format!("link {:?}", fs::read_link(entry.path()).unwrap())
        } else if about.is_file() {
            format!("{mode:o} {:?}", String::from_utf8_lossy(&fs::read(entry.path()).unwrap()))
        } else {
            format!("{mode:o} dir")
        };
        tree.insert(entry.path().strip_prefix(dir).unwrap().display().to_string(), content);
    }
    tree
}

/// Abandons the work after `left` steps, as a crash would.
pub struct Crash {
    left: AtomicUsize,
    pub seen: Mutex<Vec<String>>,
}

impl Crash {
    pub fn after(steps: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(steps), seen: Mutex::default() })
    }
}

impl Steps for Crash {
    fn done(&self, step: &str) -> io::Result<()> {
        self.seen.lock().unwrap().push(step.to_owned());
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 | 1 => Err(io::Error::other(format!("crashed behind {step}"))),
            _ => Ok(()),
        }
    }
}

/// The failure that a fault becomes.
pub fn failure<T: std::fmt::Debug>(result: Result<T, Fault>) -> Failure {
    Failure::from(result.unwrap_err())
}
