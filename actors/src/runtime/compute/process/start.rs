//! Starts one process that outlives us, without a shell.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::super::set::Set;
use super::proc::{MARKER, Marker};
use super::secrets::Values;

/// How often, and after which pauses, a program that counts as being written is tried.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Everything a process is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// What to run.
    pub set: &'a Set,
    /// The values of its secrets.
    pub secrets: &'a Values,
    /// Whose it is.
    pub marker: Marker,
    /// Where its artifact was unpacked; it starts there.
    pub artifact: &'a Path,
    /// The `PATH` that it finds.
    pub path: &'a str,
    /// Where it listens for HTTP.
    pub port: u16,
    /// Where else it listens.
    pub ports: &'a BTreeMap<String, u16>,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Start<'_> {
    /// Starts it and answers its number.
    ///
    /// It gets a process group of its own, so that what is sent to ours (an interrupt from the
    /// keyboard, the end of a terminal) does not reach it, and nothing of our environment, which
    /// may hold secrets. Its output goes into the file itself: no pipe of ours can break. It is
    /// not waited for here; whoever reaps it asks for its number.
    pub fn spawn(&self) -> io::Result<u32> {
        let log = open_log(&self.log)?;
        let mut command = Command::new(self.artifact.join(&self.set.command));
        command
            .args(&self.set.args)
            .env_clear()
            .env("PATH", self.path)
            .envs(&self.set.configuration.variables.0)
            .envs(self.secrets.iter().map(|(name, value)| (name, OsStr::from_bytes(value.reveal()))))
            .env("PORT", self.port.to_string())
            .env(MARKER, self.marker.text())
            .env("SKALD_ENVIRONMENT", &self.set.id.environment)
            .env("SKALD_SERVICE", &self.set.id.service)
            .env("SKALD_REVISION", &self.set.id.revision)
            .current_dir(self.artifact)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        for (name, port) in self.ports {
            command.env(format!("PORT_{}", name.to_ascii_uppercase().replace('-', "_")), port.to_string());
        }
        // A fresh program counts as being written for as long as another child, that was being
        // started meanwhile, has not let go of what it inherited.
        for _ in 0..BUSY_TRIES {
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(BUSY_PAUSE),
                spawned => return Ok(spawned?.id()),
            }
        }
        Ok(command.spawn()?.id())
    }
}

/// The log, opened so that what is written goes to its end, also after it was cut.
fn open_log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::options().append(true).create(true).open(path)
}

/// Says `line` in the log, for what the process cannot say itself.
pub fn say(log: &Path, line: &str) -> io::Result<()> {
    open_log(log)?.write_all(format!("skald: {line}\n").as_bytes())
}

/// Free ports on loopback, all different. Nothing holds them until the process listens; one that
/// finds its port taken ends, and is started again with others.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    held.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}
