//! The node's side: starts launchers.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::WORD;
use super::spec::{Said, Spec, hear, say};

/// How long a start may take: it is a matter of milliseconds, and a disk that hangs must not keep us.
const START_TIME: Duration = Duration::from_secs(30);
/// Programs that are launchers, as they are called beside a program that is none.
const KNOWN: [&str; 3] = ["skald", "skald_under_test", "skald-confine"];

static OURSELVES: OnceLock<()> = OnceLock::new();

/// This program is a launcher when it is started with [`WORD`].
pub fn serves() {
    let _ = OURSELVES.set(());
}

/// The program that holds others in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// `program`.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// This program, or else one that lies beside it: a test or another program around a node.
    pub fn find() -> io::Result<Self> {
        if OURSELVES.get().is_some() {
            // Also when its file was replaced since.
            return Ok(Self::at("/proc/self/exe"));
        }
        let ours = std::env::current_exe()?;
        let beside = ours.ancestors().skip(1).take(2).flat_map(|dir| KNOWN.map(|name| dir.join(name)));
        // The newest: another one may be of an earlier build.
        let found = beside.filter_map(|path| {
            let about = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((about.modified().ok()?, path))
        });
        found.max().map(|(_, path)| Self::at(path)).ok_or_else(|| {
            let why = format!("there is no program {} beside {}; build it", KNOWN.join(" or "), ours.display());
            io::Error::new(io::ErrorKind::NotFound, why)
        })
    }

    /// Starts what `spec` says, under a name for whoever looks at processes, and with one `variable` by
    /// which the keeper is found. Answers the number of the keeper, which is our child; an error says
    /// why the program does not run, and then nothing of it is left.
    pub fn start(&self, name: &str, variable: (&str, &str), spec: &Spec) -> io::Result<u32> {
        let mut child = Command::new(&self.program)
            .args([WORD, name])
            .env_clear()
            .env(variable.0, variable.1)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log(&spec.log)?)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.program.display())))?;
        match began(&mut child, spec) {
            Ok(Said::Started) => Ok(child.id()),
            Ok(Said::Failed(why)) => {
                child.wait()?;
                Err(io::Error::other(why))
            }
            Ok(Said::Status(_) | Said::Signal(_)) | Err(_) if spec.trial => {
                child.kill()?;
                child.wait()?;
                Err(io::Error::other("no answer"))
            }
            Ok(Said::Status(_) | Said::Signal(_)) => Err(io::Error::other("it did not say that it began")),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Does everything but the start of a program.
    pub fn try_out(&self, spec: &Spec) -> io::Result<()> {
        let spec = Spec { trial: true, ..spec.clone() };
        let pid = self.start("trial", ("SKALD_TRIAL", "1"), &spec)?;
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
        Ok(())
    }
}

fn log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::options().append(true).create(true).open(path)
}

fn began(child: &mut Child, spec: &Spec) -> io::Result<Said> {
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    say(&mut stdin, spec)?;
    drop(stdin);
    let time = Timespec { tv_sec: START_TIME.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&time)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no word within {START_TIME:?}"))),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let said = hear(&mut stdout)?;
    said.ok_or_else(|| io::Error::other("the launcher ended without a word; the log may say why"))
}
