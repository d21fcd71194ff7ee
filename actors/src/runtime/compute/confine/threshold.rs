//! The first process inside: it gives up one right after the other, and then starts the program.
//!
//! Where it has processes of its own it stays as their first: it collects the dead, passes signals on,
//! and ends when the program ends. Where not, it becomes the program.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process_group, set_parent_process_death_signal,
    setrlimit, setsid, umask, wait,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::spec::{Said, Space, Spec, hear, say};
use super::{filter, mounts};

/// The status of a launcher that could not start the program; what it was is said.
pub const CANNOT: u8 = 125;
/// How often, and after which pauses, a program that counts as being written is tried: another child
/// that was being started meanwhile has not let go of what it inherited.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// When memory is short the kernel ends these before it ends a node.
const FIRST_TO_GO: &[u8] = b"500";

/// Everything, up to the end of the program.
pub fn main() -> ExitCode {
    // A copy that the program does not inherit.
    let Ok(mut keeper) = io::stdout().as_fd().try_clone_to_owned().map(File::from) else {
        return ExitCode::from(CANNOT);
    };
    let ended = hear(&mut io::stdin().lock())
        .and_then(|told: Option<Spec>| told.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        .and_then(|spec| carried_out(&spec, &mut keeper));
    match ended {
        Ok(said) => say(&mut keeper, &said).map_or(ExitCode::from(CANNOT), |()| ExitCode::SUCCESS),
        Err(error) => {
            drop(say(&mut keeper, &Said::Failed(error.to_string())));
            ExitCode::from(CANNOT)
        }
    }
}

fn carried_out(spec: &Spec, keeper: &mut File) -> io::Result<Said> {
    // A session of its own: nothing that is typed anywhere reaches it.
    setsid()?;
    join(spec)?;
    // It may be lowered by anybody, and a machine that does not know it is none the worse.
    drop(fs::write("/proc/self/oom_score_adj", FIRST_TO_GO));
    // Before the limits: it needs a little of everything.
    let signals = if spec.space.is_own() { Some(Signals::new()?) } else { None };
    if spec.space.is_own() {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)?;
        mounts::enter(spec)?;
    }
    hold(spec)?;
    give_up(spec)?;
    if spec.trial {
        return Ok(Said::Started);
    }
    let mut command = command(spec)?;
    match signals {
        Some(signals) => {
            let child = unless_busy(|| command.spawn())?;
            say(keeper, &Said::Started)?;
            signals.until_the_end_of(&child)
        }
        // It only comes back when it failed.
        None => unless_busy(|| Err(command.exec())),
    }
}

fn unless_busy<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BUSY_TRIES {
        match start() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(BUSY_PAUSE),
            started => return started,
        }
    }
    start()
}

fn join(spec: &Spec) -> io::Result<()> {
    let Some(group) = &spec.group else { return Ok(()) };
    // 0 stands for who writes it.
    fs::write(group.join("cgroup.procs"), "0").map_err(|error| cannot("joining its control group", error))
}

fn cannot(doing: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{doing}: {error}"))
}

/// The limits of each process. None can be raised again, and none above what we ourselves may.
fn hold(spec: &Spec) -> io::Result<()> {
    let ceilings = &spec.ceilings;
    for (resource, most) in [
        (Resource::Core, Some(0)),
        (Resource::Data, ceilings.data),
        (Resource::Nofile, ceilings.files),
        (Resource::Fsize, ceilings.file_bytes),
        (Resource::Nproc, ceilings.processes),
    ] {
        let Some(most) = most else { continue };
        let most = getrlimit(resource).maximum.map_or(most, |highest| highest.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| cannot("setting its limits", error))?;
    }
    Ok(())
}

/// What cannot be had back.
fn give_up(spec: &Spec) -> io::Result<()> {
    if spec.space == Space::OwnAsUser {
        as_oneself()?;
    }
    for number in 0..u64::BITS {
        // A kernel knows fewer than there could be.
        let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number));
    }
    if let Some(user) = spec.user {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        set_thread_groups(&[]).map_err(|error| cannot("leaving its groups", error))?;
        set_thread_res_gid(gid, gid, gid).map_err(|error| cannot(&format!("becoming group {user}"), error))?;
        set_thread_res_uid(uid, uid, uid).map_err(|error| cannot(&format!("becoming user {user}"), error))?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(|error| cannot("giving up capabilities", error))?;
    set_no_new_privs(true)?;
    // Files that it makes can be read by others of its user alone.
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Set anew by each change of the user.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if keeper_is_gone()? {
        return Err(io::Error::other("its keeper ended"));
    }
    if spec.filter {
        filter::set().map_err(|error| cannot("filtering system calls", error))?;
    }
    Ok(())
}

/// It died before its death could be told to us.
fn keeper_is_gone() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut line = [PollFd::new(&stdin, PollFlags::empty())];
    poll(&mut line, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(line[0].revents().contains(PollFlags::HUP))
}

/// From the superuser of a user namespace back to the user that made it.
fn as_oneself() -> io::Result<()> {
    let outer = |file: &str| -> io::Result<String> {
        let map = fs::read_to_string(file)?;
        Ok(map.split_whitespace().nth(1).unwrap_or("0").to_owned())
    };
    let (user, group) = (outer("/proc/self/uid_map")?, outer("/proc/self/gid_map")?);
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| cannot("becoming the node's user again", error))?;
    map_user(&user, &group, "0", "0")
}

/// In the user namespace just made, `user` and `group` stand for those that are called so outside.
pub fn map_user(user: &str, group: &str, user_outside: &str, group_outside: &str) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user_outside} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group_outside} 1"))
}

fn command(spec: &Spec) -> io::Result<Command> {
    use std::os::unix::ffi::OsStrExt;
    let log = || -> io::Result<OwnedFd> { io::stderr().as_fd().try_clone_to_owned() };
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.variables.iter().map(|(name, value)| (name, std::ffi::OsStr::from_bytes(value))))
        .current_dir(&spec.dir)
        .stdin(Stdio::null())
        .stdout(log()?)
        .stderr(log()?);
    if spec.space.is_own() {
        command.process_group(0);
    }
    if !Path::new(&spec.dir).is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} cannot be seen", spec.dir.display())));
    }
    Ok(command)
}

/// The signals that are passed on.
pub const PASSED: [(SignalKind, Signal); 5] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Signals that are heard.
pub struct Signals {
    runtime: Runtime,
    died: tokio::signal::unix::Signal,
    passed: Vec<(tokio::signal::unix::Signal, Signal)>,
}

impl Signals {
    /// From now on they are heard, and do not end us.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        let died = signal(SignalKind::child())?;
        let passed = PASSED.iter().map(|(kind, which)| Ok((signal(*kind)?, *which))).collect::<io::Result<_>>()?;
        drop(_inside);
        Ok(Self { runtime, died, passed })
    }

    fn until_the_end_of(self, child: &Child) -> io::Result<Said> {
        let Self { runtime, mut died, passed } = self;
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        runtime.block_on(async {
            for (mut heard, which) in passed {
                tokio::spawn(async move {
                    while heard.recv().await.is_some() {
                        // Gone already: that is heard too.
                        let _ = kill_process_group(leader, which);
                    }
                });
            }
            loop {
                // What died before we listened is collected too.
                while let Some((pid, status)) = wait(WaitOptions::NOHANG)? {
                    if pid == leader {
                        return Ok(match status.terminating_signal() {
                            Some(signal) => Said::Signal(signal),
                            None => Said::Status(status.exit_status().unwrap_or_default()),
                        });
                    }
                }
                died.recv().await;
            }
        })
    }
}
