//! Which compiler a target will be built with.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use semver::Version;
use supervisor::activity::Failure;

use super::manifest::rust_version;

/// How long the compiler may take to say its version. A toolchain proxy may have to look around.
const PATIENCE: Duration = Duration::from_secs(20);

/// The version in `given`, or else what `rustc --version` says in the directory `target`.
pub async fn version(given: Option<&str>, target: &Path) -> Result<Version, Failure> {
    if let Some(text) = given {
        return rust_version(text).map_err(|error| Failure::named("BadArguments", error.0));
    }
    if !target.is_dir() {
        let why = format!("the target {} is not a directory; create the project first", target.display());
        return Err(Failure::named("TargetUnusable", why));
    }
    let mut command = tokio::process::Command::new("rustc");
    command.arg("--version").current_dir(target).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let why = format!("rustc cannot be run: {error}; install a toolchain or name its version as `rust`");
            return Err(Failure::named("ToolchainMissing", why));
        }
        Err(_) => return Err(Failure::transient("asking rustc for its version", "no answer in time")),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(1).map(rust_version);
    match version {
        Some(Ok(version)) if output.status.success() => Ok(version),
        Some(_) | None => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = format!("rustc did not say its version: {}; name it as `rust`", said.trim());
            Err(Failure::named("ToolchainMissing", why))
        }
    }
}
