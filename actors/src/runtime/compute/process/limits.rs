//! Holds replicas to their limits, as far as this machine does, before their first instruction.
//!
//! | limit | with a control group (version 2) | without |
//! |---|---|---|
//! | memory | `memory.max`, the replica as a whole | `RLIMIT_DATA`, each process for itself |
//! | processors | `cpu.max` | nothing |
//! | processes | `pids.max` | `RLIMIT_NPROC`, all of the environment's user together |
//! | open files | `RLIMIT_NOFILE` | `RLIMIT_NOFILE` |
//! | bytes of a file | `RLIMIT_FSIZE` | `RLIMIT_FSIZE` |
//!
//! What nothing holds is reported and logged, not hidden. Which controllers there are is up to the
//! machine; a group without any still ends all of its processes at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::super::confine::Ceilings;
use super::super::set::Limits;
use super::settings::Settings;

/// The controllers that are asked for.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Where nothing counts the processes of one replica, those of a user are counted: together they may
/// have so many times what one replica may.
const USER_SHARES: u64 = 4;

/// Where control groups may be made.
#[derive(Debug, Clone, Default)]
pub struct Limiter {
    parent: Option<PathBuf>,
    /// Of the whole machine, where the parent was made by us.
    root: Option<PathBuf>,
}

/// How one replica is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its control group.
    pub group: Option<PathBuf>,
    /// What each of its processes is held to.
    pub ceilings: Ceilings,
    /// The limits that it names and nothing holds it to.
    pub loose: Vec<String>,
}

impl Limiter {
    /// Below `named`, a directory of the control group file system that was delegated to us (systemd:
    /// `Delegate=yes`) and holds no process itself; else the superuser makes one called after `instance`.
    pub fn new(named: Option<PathBuf>, instance: &str) -> Self {
        let root = match named {
            Some(_) => None,
            None => rustix::process::geteuid().is_root().then(mounted).flatten(),
        };
        let own = root.as_ref().map(|root| root.join(format!("skald-{}", instance.get(..8).unwrap_or(instance))));
        let this = Self { parent: named.or(own), root };
        match this.open() {
            Ok(()) => this,
            Err(error) => {
                warn!(parent = ?this.parent, %error, "no control groups");
                Self::default()
            }
        }
    }

    /// What of limits this machine lacks, in words.
    pub fn missing(&self) -> Vec<String> {
        let Some(parent) = &self.parent else {
            return vec![
                "no control groups (version 2): memory is held for each process, processors are not held; see \
                 runtime.cgroup"
                    .to_owned(),
            ];
        };
        let there = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        let lacks: Vec<&str> =
            CONTROLLERS.into_iter().filter(|name| !there.split_whitespace().any(|one| one == *name)).collect();
        match lacks.is_empty() {
            true => Vec::new(),
            false => vec![format!("control groups without {}: limits of that kind are not exact", lacks.join(", "))],
        }
    }

    /// Makes ready for the replica `name`, which `limits` are for and which has a `user` of its own
    /// environment, or not.
    pub fn hold(&self, name: &str, limits: &Limits, settings: &Settings, user: bool) -> Held {
        let mut loose = Vec::new();
        let group = self.make(name);
        let group = group.as_deref();
        let memory = limits.memory_bytes.unwrap_or(settings.memory_bytes);
        let grouped = put(group, "memory.max", &memory.to_string());
        // Microseconds of processor time in each tenth of a second.
        if let Some(millis) = limits.cpu_millis
            && !put(group, "cpu.max", &format!("{} 100000", u64::from(millis) * 100))
        {
            loose.push("cpuMillis".to_owned());
        }
        let processes = limits.processes.unwrap_or(settings.processes);
        let counted = put(group, "pids.max", &processes.to_string());
        if !counted && limits.processes.is_some() {
            loose.push("processes".to_owned());
        }
        let ceilings = Ceilings {
            data: (!grouped).then_some(memory),
            files: limits.open_files,
            file_bytes: Some(settings.state_bytes.max(settings.tmp_bytes)),
            processes: (!counted && user).then(|| u64::from(settings.processes) * USER_SHARES),
        };
        Held { group: group.map(Path::to_owned), ceilings, loose }
    }

    /// Ends all that is in the group of `name` and hid from its keeper, which was killed.
    pub fn kill(&self, name: &str) {
        // Without a group, or on a kernel before 5.14, there is nothing to write to.
        drop(self.parent.as_ref().map(|parent| fs::write(parent.join(name).join("cgroup.kill"), "1")));
    }

    /// Forgets a group whose processes are gone.
    pub fn forget(&self, name: &str) {
        let Some(parent) = &self.parent else { return };
        // One that is not empty or not there is no harm: the next start makes it anew.
        drop(fs::remove_dir(parent.join(name)));
        self.tidy();
    }

    /// Removes the parent where nothing is in it.
    pub fn tidy(&self) {
        // One that was given to us stays.
        if let (Some(parent), Some(_)) = (&self.parent, &self.root) {
            drop(fs::remove_dir(parent));
        }
    }

    fn make(&self, name: &str) -> Option<PathBuf> {
        let parent = self.parent.as_ref()?;
        let dir = parent.join(name);
        // The last replica took the parent along.
        match self.open().and_then(|()| fs::create_dir_all(&dir)) {
            Ok(()) => Some(dir),
            Err(error) => {
                warn!(name, %error, "the replica is in no control group");
                None
            }
        }
    }

    /// Makes the parent and lets groups below it have limits.
    fn open(&self) -> io::Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        fs::create_dir_all(parent)?;
        for dir in self.root.iter().chain([parent]) {
            for controller in CONTROLLERS {
                // What is missing is said by `missing`.
                drop(fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")));
            }
        }
        // Whoever cannot write here cannot put a process into it.
        fs::File::options().write(true).open(parent.join("cgroup.procs")).map(drop)
    }
}

/// Where the control groups of version 2 are.
fn mounted() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).map(PathBuf::from)).flatten()
    })
}

fn put(dir: Option<&Path>, file: &str, value: &str) -> bool {
    dir.is_some_and(|dir| fs::write(dir.join(file), value).is_ok())
}
