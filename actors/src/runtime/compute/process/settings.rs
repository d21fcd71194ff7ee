//! What the adapter may be told.

use std::path::PathBuf;
use std::time::Duration;

use super::super::gateway;
use super::secrets::Secrets;

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
    /// How large the log of a replica becomes before it is copied aside and begun anew. It takes
    /// twice this on the disk.
    pub log_bytes: u64,
    /// How many logs of replicas that are gone are kept, per environment.
    pub logs_kept: usize,
    /// A control group, version 2, that was delegated to us, for limits. `None`: see
    /// [`limits`](super::limits).
    pub cgroup: Option<PathBuf>,
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
            logs_kept: 50,
            cgroup: None,
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
