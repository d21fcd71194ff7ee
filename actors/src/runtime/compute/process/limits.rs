//! Holds processes to their limits, as far as this machine does.
//!
//! | limit | with a control group (version 2) that was delegated to us | without |
//! |---|---|---|
//! | memory | `memory.max`, the replica as a whole | `RLIMIT_DATA`, each process for itself |
//! | processors | `cpu.max` | nothing |
//! | processes | `pids.max` | nothing: Linux counts them by user, not by replica |
//! | open files | `RLIMIT_NOFILE` | `RLIMIT_NOFILE` |
//!
//! They are set right after the start, not before the first instruction: doing that needs a
//! launcher between us and the workload. What nothing holds is reported and logged, not hidden.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tracing::warn;

use super::super::set::Limits;

/// Where control groups may be made.
#[derive(Debug, Clone, Default)]
pub struct Limiter {
    parent: Option<PathBuf>,
}

impl Limiter {
    /// Below `parent`, a directory of the control group file system that was delegated to us
    /// (systemd: `Delegate=yes`) and holds no process itself. `None`: without control groups.
    pub fn new(parent: Option<PathBuf>) -> Self {
        if let Some(parent) = &parent {
            for controller in ["memory", "cpu", "pids"] {
                if let Err(error) = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")) {
                    warn!(parent = %parent.display(), controller, %error, "no limits of this kind");
                }
            }
        }
        Self { parent }
    }

    /// Holds `pid`, and what it starts from now on, to `limits`; answers those that nothing holds.
    pub fn hold(&self, pid: u32, group: &str, limits: &Limits) -> Vec<String> {
        let mut loose = Vec::new();
        let joined = self.join(pid, group);
        let joined = joined.as_deref();
        if let Some(bytes) = limits.memory_bytes
            && !put(joined, "memory.max", &bytes.to_string())
            && restrict(pid, Resource::Data, bytes).is_err()
        {
            loose.push("memoryBytes".to_owned());
        }
        // Microseconds of processor time in each tenth of a second.
        if let Some(millis) = limits.cpu_millis
            && !put(joined, "cpu.max", &format!("{} 100000", u64::from(millis) * 100))
        {
            loose.push("cpuMillis".to_owned());
        }
        if let Some(count) = limits.processes
            && !put(joined, "pids.max", &count.to_string())
        {
            loose.push("processes".to_owned());
        }
        if let Some(files) = limits.open_files
            && restrict(pid, Resource::Nofile, files).is_err()
        {
            loose.push("openFiles".to_owned());
        }
        loose
    }

    /// Forgets a group whose processes are gone.
    pub fn forget(&self, group: &str) {
        // One that is not empty or not there is no harm: the next start makes it anew.
        drop(self.parent.as_ref().map(|parent| fs::remove_dir(parent.join(group))));
    }

    fn join(&self, pid: u32, group: &str) -> Option<PathBuf> {
        let dir = self.parent.as_ref()?.join(group);
        let joining = || -> io::Result<()> {
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("cgroup.procs"), pid.to_string())
        };
        match joining() {
            Ok(()) => Some(dir),
            Err(error) => {
                warn!(group, pid, %error, "the process is in no control group");
                None
            }
        }
    }
}

fn put(dir: Option<&Path>, file: &str, value: &str) -> bool {
    dir.is_some_and(|dir| fs::write(dir.join(file), value).is_ok())
}

fn restrict(pid: u32, resource: Resource, most: u64) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}
