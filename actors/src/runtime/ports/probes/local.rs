//! Asks from this machine, with a bound on how many are asked at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use supervisor::activity::Failure;
use tokio::sync::Semaphore;

use super::{Answer, Outcome, Place, Prober, command, grpc};
use crate::runtime::model::{Probe, ProbeSpec};
use crate::runtime::ports::http_get::{self, Error};
use crate::runtime::ports::probe_policy::{ProbePolicy, allowed};

/// What the prober may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections at once. When 10,000 workloads are silent, each is asked three times for a
    /// second: with this many at once that fits into a window of 30 s.
    pub connections: usize,
    /// Commands at once: each is a process, and most of them are shells that start more.
    pub commands: usize,
    /// Where probes may go. Workloads of one machine are on it, so it allows loopback.
    pub policy: ProbePolicy,
    /// Whether probes may start programs. Whoever may describe a service may then run anything
    /// here, as us.
    pub commands_allowed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 1_024,
            commands: 16,
            policy: ProbePolicy { loopback: true, deny: Vec::new() },
            commands_allowed: false,
        }
    }
}

/// The prober. Share it: the bounds are of one.
#[derive(Debug)]
pub struct LocalProber {
    settings: Settings,
    connections: Semaphore,
    commands: Semaphore,
}

impl LocalProber {
    /// One with `settings`.
    pub fn new(settings: Settings) -> Self {
        let connections = Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS));
        let commands = Semaphore::new(settings.commands.min(Semaphore::MAX_PERMITS));
        Self { settings, connections, commands }
    }

    fn address(&self, place: &Place, port: u16) -> Result<SocketAddr, Failure> {
        match allowed(&self.settings.policy, place.ip) {
            Ok(()) => Ok(SocketAddr::new(place.ip, place.port(port))),
            Err(why) => Err(Failure::named("ForbiddenAddress", format!("{} may not be probed: {why}", place.ip))),
        }
    }
}

#[async_trait]
impl Prober for LocalProber {
    async fn probe(&self, place: &Place, spec: &ProbeSpec) -> Result<Outcome, Failure> {
        spec.check().map_err(bad)?;
        match &spec.probe {
            Probe::Http { port, path } => {
                let address = self.address(place, *port)?;
                timed(&self.connections, spec.timeout, http(address, path)).await
            }
            Probe::Tcp { port } => {
                let address = self.address(place, *port)?;
                timed(&self.connections, spec.timeout, tcp(address)).await
            }
            Probe::Grpc { port, service } => {
                let address = self.address(place, *port)?;
                timed(&self.connections, spec.timeout, grpc::check(address, service)).await
            }
            Probe::Command { command } if self.settings.commands_allowed => {
                timed(&self.commands, spec.timeout, command::run(command, place.dir.as_deref())).await
            }
            Probe::Command { command: _ } => {
                let why = "probes may not start programs here; ask over HTTP, TCP or gRPC";
                Err(Failure::named("ForbiddenCommand", why))
            }
        }
    }
}

/// A probe that makes no sense.
pub(super) fn bad(why: impl ToString) -> Failure {
    Failure::named("BadProbe", why.to_string())
}

/// Waits for its turn, and then for the answer for as long as `time`.
async fn timed(
    turns: &Semaphore,
    time: Duration,
    asked: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Outcome, Failure> {
    let _turn = turns.acquire().await.map_err(|error| Failure::transient("waiting for a turn", error))?;
    let since = Instant::now();
    let answer = match tokio::time::timeout(time, asked).await {
        Ok(answer) => answer?,
        Err(_) => Answer::unwell(format_args!("no answer within {} ms", time.as_millis())),
    };
    Ok(Outcome { answer, took: since.elapsed() })
}

/// What an unanswered request says.
pub(super) fn unanswered(error: Error) -> Result<Answer, Failure> {
    match error {
        Error::Path(_) => Err(bad(error)),
        Error::NoRoom(_) => Err(Failure::transient("connecting to a workload", error)),
        Error::Connect(_) | Error::Answer(_) | Error::Body(_) => Ok(Answer::unwell(error)),
    }
}

async fn http(address: SocketAddr, path: &str) -> Result<Answer, Failure> {
    match http_get::status(address, path).await {
        Ok(status) if (200..400).contains(&status.as_u16()) => Ok(Answer::Well),
        Ok(status) => Ok(Answer::unwell(format_args!("it answered with {}", status.as_u16()))),
        Err(error) => unanswered(error),
    }
}

async fn tcp(address: SocketAddr) -> Result<Answer, Failure> {
    match http_get::connect(address).await {
        Ok(_) => Ok(Answer::Well),
        Err(error) => unanswered(error),
    }
}

#[cfg(test)]
mod tests;
