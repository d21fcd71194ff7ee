//! What the adapter may be told.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::super::confine::{Launcher, users};
use super::super::gateway;
use super::secrets::Secrets;

/// What replicas may read of the machine: programs and libraries, and what these look up. Of `/etc`
/// nothing else, for passwords and keys are there.
pub const VISIBLE: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// How processes are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state directory. One adapter at a time has it, and all its processes are found by it:
    /// keep it on a disk of this machine.
    pub dir: PathBuf,
    /// The `PATH` that processes find, which an artifact's `#!/usr/bin/env` line needs. Of our own
    /// environment they see nothing.
    pub path: String,
    /// How long requests under way may take when a replica is to end: longer than most answers
    /// take, shorter than a person waits for a roll-out.
    pub drain_time: Duration,
    /// How long a process may take to end after it was asked to, before it is killed. What
    /// orchestrators give by default is 10 s to 30 s.
    pub stop_time: Duration,
    /// The pause before the first new start of a process that ended by itself.
    pub restart_pause: Duration,
    /// The longest pause; each is twice the one before. A repaired dependency is noticed within it.
    pub restart_pause_max: Duration,
    /// A process that ran for this long is not taken to be in a crash loop: its next end is the
    /// first again.
    pub stable_after: Duration,
    /// How often a replica that does not accept connections yet is tried: what a roll-out waits
    /// for, and cheap on loopback.
    pub probe_pause: Duration,
    /// How often one that does is tried again.
    pub ready_probe_pause: Duration,
    /// How long accepting a connection may take.
    pub probe_time: Duration,
    /// How large the log of a replica becomes before it is put aside and begun anew. It takes twice
    /// this on the disk.
    pub log_bytes: u64,
    /// How much a replica may write into its log in a second. What is more is counted, not kept.
    pub log_bytes_per_second: u64,
    /// How many logs of replicas that are gone are kept, per environment.
    pub logs_kept: usize,
    /// A control group, version 2, that was delegated to us, for limits. `None`: the superuser makes
    /// one, anybody else has none; see [`limits`](super::limits).
    pub cgroup: Option<PathBuf>,
    /// The users that environments get, where we are the superuser.
    pub users: RangeInclusive<u32>,
    /// Where it stands which of these users are whose, for all of the machine.
    pub users_dir: PathBuf,
    /// The tenant whose processes may run where none can have a user of its own: whoever runs Skald.
    pub operator: String,
    /// Whether replicas get files and processes of their own, where the kernel lets us.
    pub namespaces: bool,
    /// What of the machine replicas may read: programs and libraries, and what these need.
    pub visible: Vec<PathBuf>,
    /// Programs of the machine that sets may name; others come from the artifact.
    pub commands: Vec<String>,
    /// The memory of a replica that names none: much for a service, little for a machine.
    pub memory_bytes: u64,
    /// Processes and threads of a replica that names no number. Where no control group counts them, all
    /// of a user's together may be four times as many.
    pub processes: u32,
    /// What a replica's `/tmp` holds, in memory.
    pub tmp_bytes: u64,
    /// What a service's state directory holds.
    pub state_bytes: u64,
    /// What starts processes. `None`: see [`Launcher::find`].
    pub launcher: Option<Launcher>,
    /// Where processes' secrets are kept. `None`: a set that needs any is not started.
    pub secrets: Option<Secrets>,
    /// The gateways.
    pub gateway: gateway::Settings,
}

impl Settings {
    /// With the defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            drain_time: Duration::from_secs(30),
            stop_time: Duration::from_secs(10),
            restart_pause: Duration::from_millis(250),
            restart_pause_max: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
            probe_pause: Duration::from_millis(25),
            ready_probe_pause: Duration::from_secs(1),
            probe_time: Duration::from_secs(1),
            log_bytes: 16 << 20,
            log_bytes_per_second: 1 << 20,
            logs_kept: 50,
            cgroup: None,
            users: users::RANGE,
            users_dir: users::MACHINE.into(),
            operator: "default".to_owned(),
            namespaces: true,
            visible: VISIBLE.iter().map(PathBuf::from).collect(),
            commands: Vec::new(),
            memory_bytes: 4 << 30,
            processes: 1_024,
            tmp_bytes: 256 << 20,
            state_bytes: 1 << 30,
            launcher: None,
            secrets: None,
            gateway: gateway::Settings::default(),
        }
    }

    /// The pause before a process that ended by itself for the `failures`th time in a row is
    /// started again.
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        self.restart_pause.saturating_mul(doubled).min(self.restart_pause_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let settings = Settings::new("unused");
        let pauses: Vec<u128> = [1, 2, 3, 4, 8, 9, 1_000].map(|n| settings.pause(n).as_millis()).into();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 30_000, 30_000, 30_000]);
    }
}
