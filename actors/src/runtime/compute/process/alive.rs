//! A running process that is watched, whoever's child it is.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use tokio::time::{sleep, timeout};

use super::super::observed::ExitHow;
use super::proc::{self, Identity, Marker};

/// How long a killed process may take to be gone. A disk that hangs can hold it for longer; then
/// it is tried again.
const KILLED_TIME: Duration = Duration::from_secs(10);

/// How long a keeper may take to end all that it keeps, before it is killed itself.
const KEEPER_TIME: Duration = Duration::from_secs(3);

/// How often it is seen whether a process ended: soon enough that the gateway hardly meets a dead
/// replica, and some microseconds of work each time.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A process, held so that its number cannot come to mean another.
#[derive(Debug)]
pub struct Alive {
    identity: Identity,
    handle: OwnedFd,
}

impl Alive {
    /// Takes hold of the process. `None`: it is gone. One that is dead and not reaped is not.
    pub fn open(identity: Identity) -> io::Result<Option<Self>> {
        let Some(handle) = proc::open(identity.pid)? else { return Ok(None) };
        if !identity.stands()? {
            return Ok(None);
        }
        Ok(Some(Self { identity, handle }))
    }

    /// Which process.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits for its end.
    pub async fn ended(&self) -> io::Result<()> {
        while !self.has_ended()? {
            sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// The kernel's handle can be read from when the process ended, reaped or not.
    fn has_ended(&self) -> io::Result<bool> {
        let mut handles = [PollFd::new(&self.handle, PollFlags::IN)];
        match poll(&mut handles, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks it to stop, kills it when it does not within `bound`, and kills whatever is left of
    /// it. Answers when no process is left.
    pub async fn end(&self, marker: &Marker, bound: Duration) -> io::Result<ExitHow> {
        self.signal(Signal::TERM)?;
        if let Ok(ended) = timeout(bound, self.ended()).await {
            ended?;
        }
        self.finish(marker).await
    }

    /// Kills what is left of it, says how it ended, and lets its number go. Answers when no
    /// process is left.
    pub async fn finish(&self, marker: &Marker) -> io::Result<ExitHow> {
        // Its keeper ends everything and says how it went.
        self.signal(Signal::QUIT)?;
        if let Ok(ended) = timeout(KEEPER_TIME, self.ended()).await {
            ended?;
        }
        // Before it is reaped: the number of its group is its own.
        self.signal(Signal::KILL)?;
        match timeout(KILLED_TIME, self.ended()).await {
            Ok(ended) => ended?,
            Err(_) => return Err(io::Error::other(format!("process {} was killed and stays", self.identity.pid))),
        }
        let how = self.reap()?;
        sweep(marker.clone(), Some(self.identity.clone())).await?;
        Ok(how)
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.identity.pid).ok().and_then(Pid::from_raw)
    }

    /// To its whole group.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        // Reaped by another parent, it may have left its number; the sweep finds its group then.
        let Some(pid) = self.pid().filter(|_| self.identity.stands().unwrap_or(false)) else { return Ok(()) };
        match kill_process_group(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn reap(&self) -> io::Result<ExitHow> {
        let Some(pid) = self.pid() else { return Ok(ExitHow::Unseen) };
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Ok(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ExitHow::Status(code),
                (None, Some(signal)) => ExitHow::Signal(signal),
                (None, None) => ExitHow::Unseen,
            }),
            // Not our child: an earlier Skald started it.
            Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(ExitHow::Unseen),
            Err(error) => Err(error.into()),
        }
    }
}

/// Kills all that carries the marker's replica or is in the group of `leader`, until nothing does.
pub async fn sweep(marker: Marker, leader: Option<Identity>) -> io::Result<()> {
    /// Rounds until we say that it cannot be done: something makes processes faster than we end
    /// them, or a disk holds one.
    const ROUNDS: u32 = 500;
    for _ in 0..ROUNDS {
        let (marker, leader) = (marker.clone(), leader.clone());
        let killed = tokio::task::spawn_blocking(move || proc::kill_family(&marker, leader.as_ref()));
        if killed.await.map_err(io::Error::other)?? == 0 {
            return Ok(());
        }
        // A killed process stands there until the kernel has taken it down.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(io::Error::other(format!("processes of {} cannot be ended", marker.replica)))
}
