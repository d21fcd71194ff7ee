//! What is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use protocol::Time;
use serde::{Deserialize, Serialize};

/// All that was found of one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Where its services are reached. `None`: nothing was ever applied.
    pub gateway: Option<SocketAddr>,
    /// What was applied, by service and revision.
    pub sets: Vec<ObservedSet>,
    /// What runs without belonging to any set.
    pub unmanaged: Vec<Unmanaged>,
}

impl Observed {
    /// The set of `service` at `revision`.
    pub fn set(&self, service: &str, revision: &str) -> Option<&ObservedSet> {
        self.sets.iter().find(|set| set.service == service && set.revision == revision)
    }
}

/// One set, as wanted and as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedSet {
    /// The service.
    pub service: String,
    /// The revision.
    pub revision: String,
    /// The artifact.
    pub digest: String,
    /// The configuration's version.
    pub config_version: String,
    /// How many should run.
    pub wanted: u32,
    /// How many do and accept connections, those being drained not counted.
    pub ready: u32,
    /// Percent of the service's requests.
    pub weight: u32,
    /// Whether it is on its way out.
    pub removing: bool,
    /// Each of them, those being drained as well.
    pub replicas: Vec<ObservedReplica>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedReplica {
    /// Its name, unique in the environment and never used again.
    pub id: String,
    /// What it does.
    pub state: ReplicaState,
    /// How often it was started; each start is another incarnation.
    pub incarnation: u64,
    /// Where it answers. `None`: it does not run.
    pub address: Option<SocketAddr>,
    /// Its other ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Its process. `None`: it does not run.
    pub pid: Option<u32>,
    /// When this incarnation started.
    pub started_at: Option<Time>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// Ends in a row without having run for long; three and more are a crash loop.
    pub failures_in_row: u32,
    /// How it last ended, when it ever did.
    pub last_exit: Option<Exit>,
    /// The configuration that it runs with.
    pub config_version: String,
    /// The artifact that it runs.
    pub digest: String,
    /// The limits that nothing holds it to, by name.
    pub unlimited: Vec<String>,
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplicaState {
    /// It is being started, or runs and does not accept connections.
    Starting,
    /// It accepts connections.
    Ready,
    /// It ended and waits to be started again.
    Waiting,
    /// It ends again and again, and waits to be started again.
    CrashLoop,
    /// It gets no more requests and finishes those under way, or is being stopped.
    Draining,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// When that was noticed.
    pub at: Time,
    /// In which way.
    pub how: ExitHow,
}

/// In which way a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitHow {
    /// With a status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It is gone, and only its parent was told how.
    Unseen,
    /// It could not be started; the replica's log says why.
    NotStarted,
}

/// What says it belongs to the environment, and belongs to none of its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unmanaged {
    /// The process, where there is one to see.
    pub pid: Option<u32>,
    /// Whose it says it is, or its own name where it has one.
    pub claims: String,
    /// Its command line.
    pub command: String,
}
