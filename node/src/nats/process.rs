//! Which process a node is: what it tells the others, and what can be known of another one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a node says of itself with each beat.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Process {
    version: String,
    pid: u32,
    /// The machine, and in it the space in which the process id means something.
    host: String,
    space: String,
}

/// This process.
fn this() -> Process {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    Process {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        host: host.trim().to_owned(),
        space: if boot.is_empty() || space.is_empty() { String::new() } else { format!("{} {space}", boot.trim()) },
    }
}

/// What this node says of itself.
pub fn info() -> Bytes {
    serde_json::to_vec(&this()).unwrap_or_default().into()
}

/// Where a node runs that said `info`, for a person.
pub(super) fn described(info: &[u8]) -> String {
    let Process { version, pid, host, .. } = serde_json::from_slice(info).unwrap_or_default();
    let host = if host.is_empty() { "a machine that it does not name" } else { &host };
    format!("on {host} as process {pid} (release {version})")
}

/// Whether the process that said `info` is known to have ended: it ran where we can see processes, and
/// there is none of its number.
pub(super) fn is_dead(info: &[u8]) -> bool {
    let (theirs, ours) = (serde_json::from_slice::<Process>(info).unwrap_or_default(), this());
    let visible = !theirs.space.is_empty() && theirs.space == ours.space && theirs.pid > 0;
    visible && !std::path::Path::new(&format!("/proc/{}", theirs.pid)).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_seen_counts_as_dead() {
        assert!(!is_dead(&info()), "we live");
        let said = |process: Process| serde_json::to_vec(&process).unwrap();
        // The largest process id there is on Linux is 2^22.
        assert!(is_dead(&said(Process { pid: 1 << 23, ..this() })) || this().space.is_empty());
        assert!(!is_dead(&said(Process { pid: 1 << 23, space: "another machine".into(), ..this() })));
        assert!(!is_dead(b"{\"version\":\"0.1.0\",\"pid\":8388608}"), "a former release does not say where it runs");
        assert!(described(&info()).contains(&std::process::id().to_string()));
    }
}
