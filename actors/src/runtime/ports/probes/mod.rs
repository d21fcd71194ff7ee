//! One question to one workload: are you well?
//!
//! How often to ask, how many tries there are and what follows from the answer stands elsewhere;
//! here is only the asking. What could not be asked is an error and says nothing about the
//! workload: trouble of ours must not restart it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use supervisor::activity::Failure;

mod command;
#[cfg(test)]
mod contract;
mod grpc;
pub mod local;

pub use local::LocalProber;

use crate::runtime::model::ProbeSpec;

/// Asks workloads.
///
/// Safe to repeat: asking changes nothing that it knows of. A failure says that nothing was asked;
/// one named `Transient` may pass by itself, the others do not:
///
/// | name | what it says |
/// |---|---|
/// | `BadProbe` | the probe makes no sense |
/// | `ForbiddenAddress` | the workload is where probes may not go |
/// | `ForbiddenCommand` | probes may not start programs here |
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// Asks once, and answers within the probe's time-out. Any number may be asked at once: those
    /// beyond the adapter's bound wait for their turn, and their time counts from then.
    ///
    /// HTTP: a status from 200 to 399 is well, and no redirect is followed. TCP: an accepted
    /// connection is well. gRPC: `SERVING` is well. A command: status 0 is well.
    async fn probe(&self, place: &Place, spec: &ProbeSpec) -> Result<Outcome, Failure>;
}

/// Where a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub ip: IpAddr,
    /// Where the ports that its description names really are. A port that is not here is itself.
    pub ports: BTreeMap<u16, u16>,
    /// Where its commands run. `None`: where we do.
    pub dir: Option<PathBuf>,
}

impl Place {
    /// A workload at `ip`, with every port where it says.
    pub fn at(ip: impl Into<IpAddr>) -> Self {
        Self { ip: ip.into(), ports: BTreeMap::new(), dir: None }
    }

    /// Where `port` really is.
    pub fn port(&self, port: u16) -> u16 {
        self.ports.get(&port).copied().unwrap_or(port)
    }
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it says.
    pub answer: Answer,
    /// How long it took, without waiting for its turn.
    pub took: Duration,
}

/// Whether a workload is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is.
    Well,
    /// It is not, or did not say so in time.
    Unwell {
        /// What it did instead. It holds nothing of what the workload sent but numbers.
        why: String,
    },
}

impl Outcome {
    /// Whether the workload is well.
    pub fn passed(&self) -> bool {
        match self.answer {
            Answer::Well => true,
            Answer::Unwell { .. } => false,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Unwell { why } => why,
        })
    }
}

impl Answer {
    fn unwell(why: impl std::fmt::Display) -> Self {
        Self::Unwell { why: why.to_string() }
    }
}
