//! Starts one process that outlives us, without a shell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use super::super::confine::output::Bounds;
use super::super::confine::{Launcher, Space, Spec};
use super::super::set::Set;
use super::limits::Held;
use super::proc::{KEEPER, MARKER, Marker};
use super::secrets::Values;
use super::settings::Settings;

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
    pub artifact: PathBuf,
    /// Where it may write.
    pub state: PathBuf,
    /// The user that it becomes.
    pub user: Option<u32>,
    /// What it sees.
    pub space: Space,
    /// Whether its system calls are filtered.
    pub filter: bool,
    /// Its limits.
    pub held: Held,
    /// The settings of all.
    pub settings: &'a Settings,
    /// Where it listens for HTTP.
    pub port: u16,
    /// Where else it listens.
    pub ports: &'a BTreeMap<String, u16>,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Start<'_> {
    /// Starts it, and answers the number of its keeper.
    ///
    /// The keeper gets a process group of its own, so that what is sent to ours (an interrupt from the
    /// keyboard, the end of a terminal) does not reach it. The program finds nothing of our environment,
    /// which may hold secrets. It is not waited for here; whoever reaps it asks for its number.
    pub fn spawn(&self, launcher: &Launcher) -> io::Result<u32> {
        let settings = self.settings;
        let spec = Spec {
            trial: false,
            space: self.space,
            user: self.user,
            filter: self.filter,
            group: self.held.group.clone(),
            program: self.artifact.join(&self.set.command),
            args: self.set.args.clone(),
            variables: self.variables(),
            dir: self.artifact.clone(),
            state: Some(self.state.clone()),
            visible: settings.visible.clone(),
            tmp_bytes: settings.tmp_bytes,
            ceilings: self.held.ceilings.clone(),
            log: self.log.clone(),
            output: Bounds { log_bytes: settings.log_bytes, bytes_per_second: settings.log_bytes_per_second },
        };
        launcher.start(&self.marker.replica, (KEEPER, &self.marker.text()), &spec)
    }

    fn variables(&self) -> BTreeMap<String, Vec<u8>> {
        let text = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let mut all = BTreeMap::from([text("PATH", &self.settings.path)]);
        all.extend(self.set.configuration.variables.0.iter().map(|(name, value)| text(name, value)));
        all.extend(self.secrets.iter().map(|(name, value)| (name.clone(), value.reveal().to_vec())));
        all.extend([
            text("PORT", &self.port.to_string()),
            text(MARKER, &self.marker.text()),
            text("SKALD_ENVIRONMENT", &self.set.id.environment),
            text("SKALD_SERVICE", &self.set.id.service),
            text("SKALD_REVISION", &self.set.id.revision),
            text("SKALD_STATE", &self.state.to_string_lossy()),
        ]);
        let named = |name: &str| format!("PORT_{}", name.to_ascii_uppercase().replace('-', "_"));
        all.extend(self.ports.iter().map(|(name, port)| text(&named(name), &port.to_string())));
        all
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
