//! Which compiler a target will be built with.
//!
//! A target belongs to a tenant, and a `rust-toolchain.toml` in it can name any program as the compiler. So
//! the file is read and never obeyed: a version in it is taken as what it says, and the compiler that is
//! asked is the node's own, somewhere else and with nothing of the node's variables but what says where
//! toolchains are.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use semver::Version;
use supervisor::activity::Failure;

use super::manifest::rust_version;
use super::project::read_text;

/// How long the compiler may take to say its version. A toolchain proxy may have to look around.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where it is asked: a directory in which no tenant can write.
const ASKED_IN: &str = "/";
/// What it is given of our variables: where programs and toolchains are.
const VARIABLES: [&str; 4] = ["PATH", "HOME", "RUSTUP_HOME", "CARGO_HOME"];
/// The files that choose a toolchain, in the order in which they count.
const FILES: [&str; 2] = ["rust-toolchain", "rust-toolchain.toml"];
/// Channels that are no version; the node's own toolchains of these names are asked.
const CHANNELS: [&str; 3] = ["stable", "beta", "nightly"];

/// The version in `given`, or else what `target` names, or else what the node's compiler says.
pub async fn version(given: Option<&str>, target: &Path) -> Result<Version, Failure> {
    if let Some(text) = given {
        return rust_version(text).map_err(|error| Failure::named("BadArguments", error.0));
    }
    if !target.is_dir() {
        let why = format!("the target {} is not a directory; create the project first", target.display());
        return Err(Failure::named("TargetUnusable", why));
    }
    let named = {
        let target = target.to_owned();
        let reading = tokio::task::spawn_blocking(move || named(&target));
        reading.await.map_err(|error| Failure::transient("reading the target's toolchain", error))??
    };
    let mut command = tokio::process::Command::new("rustc");
    command.arg("--version").current_dir(ASKED_IN).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    // What is not there is not fetched because a tenant named it.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    match named {
        Some(Toolchain::Version(version)) => return Ok(version),
        Some(Toolchain::Channel(channel)) => {
            command.env("RUSTUP_TOOLCHAIN", channel);
        }
        None => {}
    }
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

/// What a target names.
#[derive(Debug, PartialEq, Eq)]
enum Toolchain {
    Version(Version),
    /// One of [`CHANNELS`].
    Channel(&'static str),
}

/// What the file of `target` names, or that of a directory around it.
fn named(target: &Path) -> Result<Option<Toolchain>, Failure> {
    for dir in target.ancestors() {
        for file in FILES.map(|name| dir.join(name)) {
            match read_text(&file) {
                Ok(Some(text)) => return chosen(&text).map(Some).map_err(|why| unusable(&file, &why)),
                Ok(None) => {}
                Err(error) => return Err(unusable(&file, &error.to_string())),
            }
        }
    }
    Ok(None)
}

fn unusable(file: &Path, why: &str) -> Failure {
    let why = format!("{}: {why}; name the compiler's version as `rust`", file.display());
    Failure::named("ToolchainUnknown", why)
}

/// A channel that stands in the file alone, or in its table.
fn chosen(text: &str) -> Result<Toolchain, String> {
    let channel = match text.parse::<toml::Table>() {
        Ok(table) => {
            let channel = table.get("toolchain").and_then(|toolchain| toolchain.get("channel")?.as_str());
            channel.ok_or("it names no channel")?.to_owned()
        }
        Err(_) => text.trim().to_owned(),
    };
    if let Some(known) = CHANNELS.into_iter().find(|known| *known == channel) {
        return Ok(Toolchain::Channel(known));
    }
    match channel.starts_with(|first: char| first.is_ascii_digit()) {
        true => rust_version(&channel).map(Toolchain::Version).map_err(|error| error.0),
        false => Err(format!("the channel {channel:?} is neither a version nor one of {}", CHANNELS.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_version_is_read_and_a_program_is_refused() {
        let version = |major, minor, patch| Ok(Toolchain::Version(Version::new(major, minor, patch)));
        assert_eq!(chosen("[toolchain]\nchannel = \"1.70\"\n"), version(1, 70, 0));
        assert_eq!(chosen("1.81.0-x86_64-unknown-linux-gnu\n"), version(1, 81, 0));
        assert_eq!(chosen("nightly\n"), Ok(Toolchain::Channel("nightly")));
        for bad in ["[toolchain]\npath = \"/evil\"\n", "[toolchain]\nchannel = \"mine\"\n", "../evil", ""] {
            assert!(chosen(bad).is_err(), "{bad}");
        }
    }

    /// What a tenant puts into a target runs nowhere.
    #[tokio::test]
    async fn a_compiler_in_the_target_is_never_started() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("shop");
        std::fs::create_dir_all(target.join("own/bin")).unwrap();
        let ran = dir.path().join("ran");
        let program = target.join("own/bin/rustc");
        std::fs::write(&program, format!("#!/bin/sh\ntouch {}\necho rustc 9.9.9\n", ran.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(target.join(".cargo")).unwrap();
        std::fs::write(target.join(".cargo/config.toml"), "[build]\nrustc = \"own/bin/rustc\"\n").unwrap();
        let file = target.join("rust-toolchain.toml");
        std::fs::write(&file, format!("[toolchain]\npath = \"{}\"\n", target.join("own").display())).unwrap();
        let refused = version(None, &target).await.unwrap_err();
        assert_eq!((refused.error.as_str(), refused.permanent), ("ToolchainUnknown", true), "{refused}");
        std::fs::write(&file, "[toolchain]\nchannel = \"1.70.0\"\n").unwrap();
        assert_eq!(version(None, &target).await.unwrap(), Version::new(1, 70, 0));
        std::fs::remove_file(&file).unwrap();
        assert_ne!(version(None, &target).await.unwrap(), Version::new(9, 9, 9));
        assert!(!ran.exists());
    }
}
