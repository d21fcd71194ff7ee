//! What Linux says of processes, in `/proc`.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable that says whose a process is. Its children inherit it, wherever they go.
pub const MARKER: &str = "SKALD_REPLICA";

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The state directory.
    pub instance: String,
    /// The environment.
    pub environment: String,
    /// The replica.
    pub replica: String,
    /// Which of its starts.
    pub incarnation: u64,
}

impl Marker {
    /// As it stands in [`MARKER`].
    pub fn text(&self) -> String {
        format!("{}:{}:{}:{}", self.instance, self.environment, self.replica, self.incarnation)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let (instance, environment, replica) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { instance, environment, replica, incarnation: parts.next()?.parse().ok()? })
    }
}

/// One process, so named that it is never taken for another: numbers of processes are used again,
/// the moment of a start is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's ticks since the machine did.
    pub started: u64,
    /// Which start of the machine that counts from.
    pub boot: String,
}

impl Identity {
    /// The process that has the number `pid` now, dead and not yet reaped included.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let Some(stat) = stat(pid)? else { return Ok(None) };
        Ok(Some(Self { pid, started: stat.started, boot: boot()? }))
    }

    /// Whether the number still means this process, dead and not yet reaped included.
    pub fn stands(&self) -> io::Result<bool> {
        Ok(Self::of(self.pid)?.as_ref() == Some(self))
    }
}

/// A line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    group: u32,
    started: u64,
}

fn stat(pid: u32) -> io::Result<Option<Stat>> {
    let text = match gone(fs::read(format!("/proc/{pid}/stat")))? {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => return Ok(None),
    };
    let bad = || io::Error::other(format!("/proc/{pid}/stat is not as it should be: {text:?}"));
    // The name stands in parentheses and may hold anything, also parentheses.
    let (_, rest) = text.rsplit_once(')').ok_or_else(bad)?;
    // State, parent, group, …; the start is the 22nd of the whole line and the 20th from here.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let group = fields.get(2).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let started = fields.get(19).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    Ok(Some(Stat { group, started }))
}

/// `None` for a process that is gone, or is not ours to look at.
fn gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A process with a marker.
#[derive(Debug, Clone)]
pub struct Marked {
    /// Its number.
    pub pid: u32,
    /// Whether it leads a process group, as every replica's first process does.
    pub leads: bool,
    /// Whose it is.
    pub marker: Marker,
}

/// All living processes that carry a marker of `instance`. One that is dead and not reaped has no
/// environment any more, and is none.
pub fn marked(instance: &str) -> io::Result<Vec<Marked>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let Some(marker) = marker(pid)?.filter(|marker| marker.instance == instance) else { continue };
        let leads = stat(pid)?.is_some_and(|stat| stat.group == pid);
        found.push(Marked { pid, leads, marker });
    }
    Ok(found)
}

/// Its command line.
pub fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    parts.join(" ").trim_end().to_owned()
}

/// Kills every process of a replica, whichever group it has moved to, and answers how many there
/// were: those with its marker, and those in the group that `leader` led. Call it until it answers
/// none: a process may make another before it dies.
pub fn kill_family(marker: &Marker, leader: Option<&Identity>) -> io::Result<usize> {
    // With somebody else at the leader's number, the group of that number is theirs.
    let group = match leader {
        Some(leader) if Identity::of(leader.pid)?.is_none_or(|now| now == *leader) => Some(leader),
        Some(_) | None => None,
    };
    let belongs = |pid: u32| -> io::Result<bool> {
        let by_marker = self::marker(pid)?.is_some_and(|found| {
            (&found.instance, &found.environment, &found.replica)
                == (&marker.instance, &marker.environment, &marker.replica)
        });
        let by_group = match (group, stat(pid)?) {
            (Some(leader), Some(stat)) => {
                pid != leader.pid && stat.group == leader.pid && stat.started >= leader.started
            }
            (Some(_) | None, _) => false,
        };
        Ok(by_marker || by_group && !is_zombie(pid)?)
    };
    let mut killed = 0;
    for pid in pids()? {
        if !belongs(pid)? {
            continue;
        }
        let Some(handle) = open(pid)? else { continue };
        // Asked again with the handle held: now the number cannot come to mean another process.
        if belongs(pid)? {
            match pidfd_send_signal(&handle, Signal::KILL) {
                Ok(()) => killed += 1,
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(killed)
}

/// A handle on the process that has the number `pid` now.
pub fn open(pid: u32) -> io::Result<Option<std::os::fd::OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        // EINVAL: the number is that of a thread.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_zombie(pid: u32) -> io::Result<bool> {
    let bytes = gone(fs::read(format!("/proc/{pid}/stat")))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X'])))
}

fn marker(pid: u32) -> io::Result<Option<Marker>> {
    let Some(bytes) = gone(fs::read(format!("/proc/{pid}/environ")))? else { return Ok(None) };
    let begin = format!("{MARKER}=");
    let found = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(begin.as_bytes()));
    Ok(found.and_then(|text| Marker::parse(&String::from_utf8_lossy(text))))
}

fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}
