//! Runs git with a bound on everything: time, what it says, and what it may do.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use supervisor::activity::Failure;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The most of what git says to a person that is kept, in bytes.
const SAID_MAX_BYTES: u64 = 4 << 10;

/// What git is given of our variables: where programs and its own settings are, and how a repository is
/// reached. Others may be logins of ours, or lead it to another repository.
const KEPT: [&str; 26] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_EXEC_PATH",
];

/// What git may not do: run hooks or programs that an address names, or go on in the background.
const HELD_TO: [&str; 10] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "gc.autoDetach=false",
    "-c",
    "maintenance.autoDetach=false",
];

/// Git in one directory.
#[derive(Debug)]
pub struct Git {
    program: PathBuf,
    dir: PathBuf,
    time: Duration,
}

/// What a command answered.
pub struct Answer {
    /// How it ended. `None`: by a signal.
    pub code: Option<i32>,
    /// What it answered.
    pub out: Vec<u8>,
    said: Vec<u8>,
}

impl Answer {
    /// The answer as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it said to a person.
    pub fn said(&self) -> String {
        let said = String::from_utf8_lossy(&self.said);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.is_empty() {
            true => format!("git ended with {:?} and said nothing", self.code),
            false => lines.join("; "),
        }
    }

    /// A failure that may pass by itself.
    pub fn failure(&self, doing: &str) -> Failure {
        Failure::transient(doing, self.said())
    }
}

/// Ends git and whatever it started, unless it ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already: that is what is wanted.
            kill_process_group(leader, Signal::KILL).ok();
        }
    }
}

impl Git {
    /// `program` in `dir`; each command may take `time`.
    pub fn new(program: PathBuf, dir: PathBuf, time: Duration) -> Self {
        Self { program, dir, time }
    }

    /// Makes the directory an empty bare repository.
    pub async fn create_bare(&self) -> Result<(), Failure> {
        tokio::fs::create_dir_all(&self.dir).await.map_err(|error| Failure::transient("making the mirror", error))?;
        match self.run(&["init", "--quiet", "--bare", "--template=", "."], 4 << 10).await? {
            done if done.code == Some(0) => Ok(()),
            failed => Err(failed.failure("making the mirror")),
        }
    }

    /// Runs a command that answers at most `max` bytes.
    pub async fn run(&self, arguments: &[&str], max: usize) -> Result<Answer, Failure> {
        self.run_with(arguments, &[], max).await
    }

    /// The same, for one that is given `input`.
    pub async fn run_with(&self, arguments: &[&str], input: &[u8], max: usize) -> Result<Answer, Failure> {
        let verb = arguments.first().copied().unwrap_or_default();
        match tokio::time::timeout(self.time, self.ended(arguments, input, max)).await {
            Ok(Ok(answer)) if answer.out.len() > max => {
                Err(Failure::named("DesiredStateTooLarge", format!("git {verb} answers more than {max} bytes")))
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                let why = format!("{} or {} is not there: {error}", self.program.display(), self.dir.display());
                Err(Failure::named("BadRepository", why))
            }
            Ok(Err(error)) => Err(Failure::transient(&format!("running git {verb}"), error)),
            Err(_) => {
                Err(Failure::transient(&format!("waiting for git {verb}"), format!("no end after {:?}", self.time)))
            }
        }
    }

    async fn ended(&self, arguments: &[&str], input: &[u8], max: usize) -> std::io::Result<Answer> {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .args(HELD_TO)
            .args(arguments)
            .current_dir(&self.dir)
            // Without this a directory that is no repository would be searched for upwards.
            .env("GIT_CEILING_DIRECTORIES", self.dir.parent().unwrap_or(Path::new("/")))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        let mut child = command.spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut group = Group(leader);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // It may end before it read everything; how it ended says why.
                stdin.write_all(input).await.ok();
            }
        };
        let ((), out, said) = tokio::join!(feed, first(stdout, max as u64 + 1), heard(stderr));
        let (out, said) = (out?, said?);
        if out.len() > max {
            // The rest is not read, so it would never end.
            return Ok(Answer { code: None, out, said });
        }
        let status = child.wait().await?;
        group.0 = None;
        Ok(Answer { code: status.code(), out, said })
    }
}

/// The first `max` bytes of `from`.
async fn first(from: Option<impl AsyncRead + Unpin>, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(max).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The first of what is said to a person. The rest is read too, or the speaker would wait for ever.
async fn heard(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let Some(mut from) = from else { return Ok(Vec::new()) };
    let bytes = first(Some(&mut from), SAID_MAX_BYTES).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(bytes)
}
