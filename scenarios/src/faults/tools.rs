//! What this machine has of the tools that faults are made with.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Tools that are there.
#[derive(Clone, Default, Debug)]
pub struct Tools {
    /// nftables: partitions and loss.
    pub nft: bool,
    /// The kernel's delay of packets.
    pub netem: bool,
    /// Small file systems can be mounted.
    pub mount: bool,
    /// The library that gives a process another clock.
    pub faketime: Option<PathBuf>,
}

impl Tools {
    /// Looks for all that need no network; [`super::net::Net`] looks for the rest.
    pub fn look() -> Self {
        Self { nft: runs("nft", "--version"), netem: false, mount: runs("mount", "--version"), faketime: faketime() }
    }
}

/// Why faults cannot be made at all here, with what to do; `None` when they can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root: run it with sudo, or in a container as root".into());
    }
    (!runs("ip", "-Version")).then(|| "ip is missing: apt-get install iproute2".into())
}

/// Runs a program to its end; its words are in the error when it fails.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} does not run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program} {} failed: {}", args.join(" "), said.trim());
    Ok(())
}

fn runs(program: &str, flag: &str) -> bool {
    let status =
        Command::new(program).arg(flag).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Where Debian and its relatives put it: below the directory of their architecture.
fn faketime() -> Option<PathBuf> {
    let name = "faketime/libfaketimeMT.so.1";
    let below = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok).map(|it| it.path());
    let places = below.chain(["/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|path| path.exists())
}
