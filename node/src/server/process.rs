//! One running nats-server.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::config::ServerConfig;
use super::keeper::Keeper;
use super::ready::{self, LOOK_EVERY, Ports};

/// How long the former server of a directory may take to let go of it: one whose node was killed
/// is only just stopping when the node comes back.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// How often a restart on the same port is tried.
const PORT_TRIES: usize = 20;
/// The pause between two such tries.
const PORT_PAUSE: Duration = Duration::from_millis(250);

/// How much room there must be until a server whose disk was full is started again: one block of a
/// stream and some to go on with, or it would be full at once.
const ROOM_AGAIN: u64 = 32 << 20;

/// Why a server did not start. Every one ends with what can be done.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory or a file in it cannot be written.
    #[error("{what} {path}: make it writable, or name another data directory", path = path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another server runs on the same data; two would destroy it.
    #[error(
        "another nats-server ({holder}) uses {dir}: stop it, connect to it instead, or name another data directory",
        dir = dir.display()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// What is known about the other one.
        holder: String,
    },
    /// The program does not run.
    #[error("{program} does not run", program = program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens on the port.
    #[error("port {port} is taken: free it, or set another (0 lets the server choose). It said:\n{log}")]
    PortTaken {
        /// The port asked for.
        port: u16,
        /// The server's last words.
        log: String,
    },
    /// It ended before it answered.
    #[error("nats-server ended before it was ready ({how}). It said:\n{log}")]
    Ended {
        /// How.
        how: String,
        /// The server's last words.
        log: String,
    },
    /// It runs but is not ready in time.
    #[error("nats-server was not ready within {seconds} s ({waiting}). It said:\n{log}")]
    Late {
        /// How long was waited.
        seconds: u64,
        /// What was still missing.
        waiting: String,
        /// The server's last words.
        log: String,
    },
}

/// A running nats-server. Dropping it kills the server; [`Server::stop`] stops it in good order.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    config: ServerConfig,
    keeper: Keeper,
    ports: Ports,
}

impl Server {
    /// Starts `program` and waits until it is ready to serve.
    pub async fn start(program: &Path, config: ServerConfig) -> Result<Self, StartError> {
        let server = Self::launch(program, config, None).await?;
        server.wait_ready().await?;
        Ok(server)
    }

    /// Starts `program` and waits until it listens.
    pub(super) async fn launch(program: &Path, config: ServerConfig, kept: Option<Ports>) -> Result<Self, StartError> {
        let lock = prepare(&config, kept).await?;
        let log_from = std::fs::metadata(config.log_file()).map_or(0, |it| it.len());
        let stderr = create(&config.stderr_file())?;
        let mut command = dying_with_us(program);
        command.arg("--config").arg(config.config_file());
        // The lock travels as standard input, which the server never reads: it is then held for as
        // long as the server lives, whatever becomes of this process.
        command.stdin(Stdio::from(lock)).stdout(Stdio::null()).stderr(Stdio::from(stderr));
        let keeper =
            Keeper::start(command).await.map_err(|source| StartError::Spawn { program: program.to_owned(), source })?;
        // From here on a failed start must not leave a server behind.
        let mut server = Self {
            program: program.to_owned(),
            ports: kept.unwrap_or(Ports { client: config.port, monitor: config.monitor_port }),
            config,
            keeper,
        };
        let _ = std::fs::write(server.config.lock_file(), format!("pid {}", server.pid()));
        let begun = Instant::now();
        loop {
            if let Some(ports) = ready::ports(&server.config.ports_dir(), server.pid()) {
                server.ports = ports;
                tracing::info!(pid = server.pid(), url = server.url(), "nats-server listens");
                return Ok(server);
            }
            server.look(begun, log_from, "it does not listen yet")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the server is healthy: JetStream is up and, in a cluster, has a leader.
    pub async fn wait_ready(&self) -> Result<(), StartError> {
        let query = match (&self.config.jetstream, &self.config.cluster) {
            (None, _) => "?js-enabled-only=false&js-server-only=true",
            (Some(_), Some(_)) => "?js-server-only=true",
            (Some(_), None) => "",
        };
        let begun = Instant::now();
        loop {
            match ready::healthy(self.ports.monitor, query).await {
                Ok(()) => return Ok(()),
                Err(waiting) => self.look(begun, 0, &waiting)?,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn look(&self, begun: Instant, log_from: u64, waiting: &str) -> Result<(), StartError> {
        let log = || ready::last_words(&self.config.log_file(), log_from, &self.config.stderr_file());
        if let Some(how) = self.keeper.end() {
            let log = log();
            return Err(if log.contains("address already in use") {
                StartError::PortTaken { port: self.ports.client, log }
            } else {
                StartError::Ended { how, log }
            });
        }
        if begun.elapsed() > self.config.start_within {
            let seconds = self.config.start_within.as_secs();
            return Err(StartError::Late { seconds, waiting: waiting.to_owned(), log: log() });
        }
        Ok(())
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.config.host, self.ports.client)
    }

    /// Where it can be asked how it does (`/varz`, `/jsz`, `/healthz`).
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.monitor)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// How it was configured.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Waits until the server has ended by itself, and says how; for whoever watches over it.
    pub async fn ended(&self) -> String {
        self.keeper.ended().await
    }

    /// Stops the server in good order; kills it when that takes too long.
    pub async fn stop(&self) {
        self.keeper.signal(Signal::TERM);
        if tokio::time::timeout(self.config.stop_within, self.keeper.ended()).await.is_err() {
            tracing::warn!(pid = self.pid(), "nats-server did not stop in time and is killed");
            self.kill().await;
        }
    }

    /// Kills the server at once, as a crash would.
    pub async fn kill(&self) {
        self.keeper.signal(Signal::KILL);
        self.keeper.ended().await;
    }

    /// Starts it again, after [`Server::stop`], [`Server::kill`] or a crash of its own, on the same
    /// ports and the same data. A server that still runs is stopped first.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.relaunch().await?;
        self.wait_ready().await
    }

    /// Starts the server again when it refuses to write for want of room and there is room again: it
    /// would refuse until then. Answers whether it did.
    pub async fn heal(&mut self) -> Result<bool, StartError> {
        let Err(said) = ready::healthy(self.ports.monitor, "").await else { return Ok(false) };
        if !(said.contains("write error") || said.contains("no space left")) {
            return Ok(false);
        }
        let room = rustix::fs::statvfs(&self.config.data_dir).map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize));
        if room < ROOM_AGAIN {
            return Ok(false);
        }
        tracing::warn!(said, room, "there is room again, nats-server is started anew");
        // In good order it would try to write once more, and wait.
        self.kill().await;
        self.restart().await.map(|()| true)
    }

    pub(super) async fn relaunch(&mut self) -> Result<(), StartError> {
        if self.keeper.end().is_none() {
            self.stop().await;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::launch(&self.program, self.config.clone(), Some(self.ports)).await {
                Ok(server) => {
                    *self = server;
                    return Ok(());
                }
                // A client's outgoing connection can hold the port for a moment.
                Err(StartError::PortTaken { .. }) if tries < PORT_TRIES => tokio::time::sleep(PORT_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.keeper.signal(Signal::KILL);
    }
}

/// Makes the directory, takes its lock and writes the configuration.
async fn prepare(config: &ServerConfig, kept: Option<Ports>) -> Result<File, StartError> {
    let disk = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Disk { what, path, source }
    };
    std::fs::create_dir_all(&config.data_dir).map_err(disk("cannot create", &config.data_dir))?;
    let path = config.lock_file();
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(disk("cannot write", &path))?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_WITHIN => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(StartError::Locked { dir: config.data_dir.clone(), holder });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(disk("cannot lock", &path)(source)),
        }
    }
    let ports = config.ports_dir();
    let _ = std::fs::remove_dir_all(&ports);
    std::fs::create_dir_all(&ports).map_err(disk("cannot create", &ports))?;
    let file = config.config_file();
    let kept = kept.unwrap_or(Ports { client: config.port, monitor: config.monitor_port });
    std::fs::write(&file, config.render(kept.client, kept.monitor)).map_err(disk("cannot write", &file))?;
    Ok(lock)
}

fn create(path: &Path) -> Result<File, StartError> {
    File::create(path).map_err(|source| StartError::Disk { what: "cannot write", path: path.to_owned(), source })
}

/// A command for `program` that is told to stop when this process dies, where the system has a
/// tool for that (see [`super::keeper`]).
fn dying_with_us(program: &Path) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let usable = *SETPRIV.get_or_init(|| {
        let probe = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    });
    if usable {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}
