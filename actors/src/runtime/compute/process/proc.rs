//! What Linux says of processes, in `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable that says whose a process is. Its children inherit it, wherever they go.
pub const MARKER: &str = "SKALD_REPLICA";

/// The same for the process that keeps it; nothing inherits this one.
pub const KEEPER: &str = "SKALD_KEEPS";

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
    parent: u32,
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
    let parent = fields.get(1).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let group = fields.get(2).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let started = fields.get(19).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    Ok(Some(Stat { parent, group, started }))
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
    /// Whether it is what ends for all of them when the replica ends: its keeper, or, from releases that
    /// had none, the leader of its group.
    pub first: bool,
    /// Whether it is a keeper, and no process of the tenant.
    pub keeper: bool,
    /// Whose it is.
    pub marker: Marker,
}

/// All living processes that carry a marker of `instance`. One that is dead and not reaped has no
/// environment any more, and is none.
pub fn marked(instance: &str) -> io::Result<Vec<Marked>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let Some((keeper, marker)) = marker(pid)?.filter(|(_, marker)| marker.instance == instance) else { continue };
        let first = stat(pid)?.is_some_and(|stat| stat.group == pid);
        found.push(Marked { pid, first, keeper, marker });
    }
    let kept: Vec<Marker> = found.iter().filter(|one| one.keeper).map(|one| one.marker.clone()).collect();
    for one in found.iter_mut().filter(|one| !one.keeper) {
        one.first &= !kept.contains(&one.marker);
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
        let by_marker = self::marker(pid)?.is_some_and(|(_, found)| {
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

/// Kills the processes of `user` that have lost the keeper they began below: it was killed, and they had
/// left their group and cleared their variables. Answers how many there were.
pub fn kill_strays(instance: &str, user: u32) -> io::Result<usize> {
    let keepers: BTreeSet<u32> =
        marked(instance)?.into_iter().filter(|found| found.keeper).map(|found| found.pid).collect();
    let mut killed = 0;
    for pid in pids()? {
        if user_of(pid)? != Some(user) {
            continue;
        }
        let Some(handle) = open(pid)? else { continue };
        // Asked again with the handle held.
        if user_of(pid)? == Some(user) && !is_zombie(pid)? && !is_below(pid, &keepers)? {
            match pidfd_send_signal(&handle, Signal::KILL) {
                Ok(()) => killed += 1,
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(killed)
}

fn is_below(mut pid: u32, keepers: &BTreeSet<u32>) -> io::Result<bool> {
    while pid > 1 {
        if keepers.contains(&pid) {
            return Ok(true);
        }
        let Some(stat) = stat(pid)? else { return Ok(false) };
        pid = stat.parent;
    }
    Ok(false)
}

/// Whose a process is. Not by the owner of its directory, which it can hide.
pub fn user_of(pid: u32) -> io::Result<Option<u32>> {
    let Some(bytes) = gone(fs::read(format!("/proc/{pid}/status")))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()))
}

/// Whether a process of the machine is `user`'s.
pub fn runs_something(user: u32) -> io::Result<bool> {
    for pid in pids()? {
        if user_of(pid)? == Some(user) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who listens at `port` of this machine.
pub fn listeners(port: u16) -> io::Result<BTreeSet<u32>> {
    let mut users = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Some(bytes) = gone(fs::read(table))? else { continue };
        users.extend(String::from_utf8_lossy(&bytes).lines().filter_map(|line| listener(line, port)));
    }
    Ok(users)
}

/// `0: 0100007F:1F90 00000000:0000 0A …`: its number, here, there, the state (0A listens), three that
/// count, and whose it is.
fn listener(line: &str, port: u16) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let here = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    (here == port && *fields.get(3)? == "0A").then(|| fields.get(7)?.parse().ok())?
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

/// Whether it is a keeper, and whose it is.
fn marker(pid: u32) -> io::Result<Option<(bool, Marker)>> {
    let Some(bytes) = gone(fs::read(format!("/proc/{pid}/environ")))? else { return Ok(None) };
    let found = bytes.split(|byte| *byte == 0).find_map(|entry| {
        let (name, text) = std::str::from_utf8(entry).ok()?.split_once('=')?;
        match name {
            KEEPER => Some((true, text)),
            MARKER => Some((false, text)),
            _ => None,
        }
    });
    Ok(found.and_then(|(keeper, text)| Some((keeper, Marker::parse(text)?))))
}

fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_read_from_the_kernels_table() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0";
        assert_eq!(listener(line, 8080), Some(1_000));
        assert_eq!(listener(line, 8081), None);
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), 8080), None, "a connection");
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = rustix::process::geteuid().as_raw();
        assert_eq!(listeners(held.local_addr().unwrap().port()).unwrap(), BTreeSet::from([ours]));
    }

    #[test]
    fn a_user_with_processes_is_known() {
        assert!(runs_something(rustix::process::geteuid().as_raw()).unwrap());
        assert!(!runs_something(1_900_100_000).unwrap());
    }
}
