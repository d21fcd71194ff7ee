//! The process outside: it starts the threshold, writes the log, passes signals on, and tells how it
//! ended by ending in the same way.
//!
//! It needs no node, so programs and their logs outlive every node. It is the parent of all that begins
//! below it and loses its own parent, so nothing leaves it: when it has ended, nothing of the program is
//! left. When it is killed, the threshold dies with it.

use std::fs;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    set_child_subreaper, setrlimit, wait,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Log, Meter, SAY_EVERY};
use super::spec::{Said, Space, Spec, hear, say};
use super::threshold::{CANNOT, PASSED, map_user};
use super::{DIE, THRESHOLD, WORD};

/// Ourselves, also when the file was replaced since.
const OURSELVES: &str = "/proc/self/exe";
/// Bytes of output read at once.
const CHUNK: usize = 64 << 10;
/// The pause after a chunk of which something was dropped: whoever writes without end waits with us,
/// instead of keeping a processor busy.
const DROP_PAUSE: Duration = Duration::from_millis(5);
/// How often those that were killed are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Keeps one program to its end.
pub fn main() -> ExitCode {
    let kept = hear(&mut io::stdin().lock())
        .and_then(|told: Option<Spec>| told.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        .and_then(keep);
    match kept {
        Ok(Said::Status(status)) => ExitCode::from(u8::try_from(status).unwrap_or(CANNOT)),
        Ok(Said::Signal(signal)) => in_the_same_way(signal),
        Ok(Said::Started) => ExitCode::SUCCESS,
        Ok(failed @ Said::Failed(_)) => told(&failed),
        Err(error) => told(&Said::Failed(error.to_string())),
    }
}

fn told(failed: &Said) -> ExitCode {
    drop(say(&mut io::stdout(), failed));
    ExitCode::from(CANNOT)
}

/// With the answers to signals that a new program has.
fn in_the_same_way(signal: i32) -> ExitCode {
    let error = Command::new(OURSELVES).args([WORD, DIE, &signal.to_string()]).exec();
    eprintln!("skald: the program ended by signal {signal}; {error}");
    ExitCode::from(CANNOT)
}

/// Ends by a signal.
pub fn die(signal: &str) -> ExitCode {
    let signal = signal.parse().ok().and_then(Signal::from_named_raw);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Our runtime answers the first fault of memory itself.
    for _ in 0..2 {
        let _ = signal.map(|signal| kill_process(getpid(), signal));
    }
    ExitCode::from(CANNOT)
}

fn keep(spec: Spec) -> io::Result<Said> {
    set_child_subreaper(Some(getpid()))?;
    let log = Log::open(&spec.log, spec.output.log_bytes)?;
    let meter = Meter::new(spec.output.bytes_per_second);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before there is a child, so that no death is missed.
    let (mut died, passed, ends) = {
        let _inside = runtime.enter();
        let passed = PASSED.iter().map(|(kind, which)| Ok((signal(*kind)?, *which))).collect::<io::Result<Vec<_>>>()?;
        (signal(SignalKind::child())?, passed, signal(SignalKind::quit())?)
    };
    // From here on this process can start no thread: what it starts next is in another namespace.
    match spec.space {
        Space::Own => nix::sched::unshare(CloneFlags::CLONE_NEWPID)?,
        Space::OwnAsUser => {
            let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
            nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)?;
            map_user("0", "0", &user.to_string(), &group.to_string())?;
        }
        Space::Shared => {}
    }
    let (reader, writer) = io::pipe()?;
    let mut child = Command::new(OURSELVES)
        .args([WORD, THRESHOLD])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()?;
    let first = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    // Open until the end: its end is how the threshold hears of ours.
    let mut line = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    say(&mut line, &spec)?;
    let space = spec.space;
    drop(spec);
    let said = runtime.block_on(async {
        let mut writing = tokio::spawn(write(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?, log, meter));
        for (mut heard, which) in passed {
            tokio::spawn(async move {
                while heard.recv().await.is_some() {
                    pass(first, space, which);
                }
            });
        }
        let mut ends = ends;
        tokio::spawn(async move {
            while ends.recv().await.is_some() {
                pass(first, space, Signal::KILL);
            }
        });
        let status = began(&mut child)?;
        let mut ended = None;
        let mut killing = false;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, how))) if pid == first => {
                    ended = Some(how);
                    killing = true;
                }
                Ok(Some(_)) => {}
                Ok(None) if killing => {
                    kill_children()?;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(None) => drop(died.recv().await),
                Err(rustix::io::Errno::CHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // Nothing is left that could write.
        drop((&mut writing).await);
        Ok::<_, io::Error>(how_it_ended(status, ended))
    })?;
    drop(line);
    Ok(said)
}

/// How the start went; says it to the node. What the threshold says later stays in the pipe.
fn began(child: &mut Child) -> io::Result<File> {
    let mut status = File::from(OwnedFd::from(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?));
    // Without a word it has become the program.
    let said = hear(&mut status)?.unwrap_or(Said::Started);
    // A node that has ended meanwhile looks for us.
    drop(say(&mut io::stdout(), &said));
    Ok(status)
}

fn how_it_ended(mut status: File, ended: Option<WaitStatus>) -> Said {
    let mut said = Vec::new();
    drop(status.read_to_end(&mut said));
    if let Ok(Some(said @ (Said::Status(_) | Said::Signal(_)))) = hear(&mut said.as_slice()) {
        return said;
    }
    match ended.and_then(|how| how.terminating_signal()) {
        Some(signal) => Said::Signal(signal),
        None => Said::Status(ended.and_then(|how| how.exit_status()).unwrap_or_default()),
    }
}

fn pass(first: Pid, space: Space, which: Signal) {
    let passed = match space {
        Space::Own | Space::OwnAsUser => kill_process(first, which),
        // The program, and whatever is in its group; alone for as long as it has none.
        Space::Shared => kill_process_group(first, which).or_else(|_| kill_process(first, which)),
    };
    // Gone already: that is what is waited for.
    let _ = passed;
}

/// Kills every child of ours: what the program left behind has become one.
fn kill_children() -> io::Result<()> {
    let ours = getpid();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        let Ok(stat) = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { continue };
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        if parent.and_then(Pid::from_raw) == Some(ours) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

/// Writes what comes until nobody is left who could write.
async fn write(mut from: pipe::Receiver, mut log: Log, mut meter: Meter) {
    let begun = Instant::now();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match tokio::time::timeout(SAY_EVERY, from.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => length,
            // Quiet now; what was dropped before is said all the same.
            Err(_) => 0,
        };
        let passing = meter.take(length, begun.elapsed());
        if let Some(said) = meter.said(begun.elapsed()) {
            drop(log.line(&said));
        }
        // A full disk is no reason to stop the program.
        if log.write(&chunk[..passing]).is_err() {
            meter.lost(passing);
        }
        if passing < length {
            tokio::time::sleep(DROP_PAUSE).await;
        }
    }
    if let Some(said) = meter.at_the_end() {
        drop(log.line(&said));
    }
}
