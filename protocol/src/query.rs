//! Questions about the runtime itself, answered by every node for its own part: on
//! `skald.cluster.query` by all, on `skald.node.<node>.query` by one, over HTTP by the debug endpoint.

use serde::{Deserialize, Serialize};

use crate::command::{List, ListWorkers};
use crate::view::SagaRow;
use crate::worker::WorkerView;
use crate::{NodeId, Time};

/// A question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "ask", deny_unknown_fields)]
pub enum Query {
    /// The node's actor tree.
    Tree,
    /// One actor with its children, by path: `shard-3/saga acme/install-7`.
    Actor {
        /// The path below the node.
        path: String,
    },
    /// Which shards the node owns, and how far each is.
    Owners,
    /// The sagas of one tenant on the node's shards.
    Sagas {
        /// Whose.
        tenant: crate::Tenant,
        /// Only those that this principal may view; all of them for the debug endpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<crate::Principal>,
        /// Which of them.
        list: List,
    },
    /// The workers of one tenant that the node runs.
    Workers {
        /// Whose.
        tenant: crate::Tenant,
        /// Which of them.
        list: ListWorkers,
    },
    /// How the node is.
    Health,
}

/// An answer; the variant follows the question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Who answers.
    pub node: NodeId,
    /// What it says.
    pub body: Body,
    /// When it said so, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// What is not in it and why, in sentences; what a node that is silent would have said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Answer {
    /// An answer that lacks nothing.
    pub fn new(node: NodeId, body: Body) -> Self {
        Self { node, body, at: None, missing: Vec::new() }
    }
}

/// What a node says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Body {
    /// To `Tree` and `Actor`.
    Actor(Box<ActorView>),
    /// To `Owners`.
    Owners(Vec<ShardView>),
    /// To `Sagas`.
    Sagas(Vec<SagaRow>),
    /// To `Workers`.
    Workers(Vec<WorkerView>),
    /// To `Health`.
    Health(Box<HealthView>),
    /// There is no such thing here.
    Nothing,
}

/// One actor of the tree, with what it supervises.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorView {
    /// Its name among its siblings: `journal`, `saga acme/install-7`, `step Applying #2`.
    pub name: String,
    /// `node`, `service`, `shard`, `journal`, `relay`, `timers`, `saga`, `step`, `undo`, `worker`,
    /// `run`.
    pub kind: String,
    /// `running`, `starting`, `restarting`, `stopped`, `parked`.
    pub state: String,
    /// What it does now, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Messages waiting.
    pub mailbox: u64,
    /// Messages handled since it started.
    pub handled: u64,
    /// Time spent handling them, in microseconds.
    pub busy_us: u64,
    /// Restarts since its supervisor started.
    pub restarts: u32,
    /// The last failure, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// When this incarnation started.
    pub since: Time,
    /// How its children are restarted, if it supervises: `one for one`, `rest for one`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Children not listed because there are too many of a kind: `sleeping sagas: 100000`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<String>,
    /// What it supervises.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ActorView>,
}

/// One shard, as its owner sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardView {
    /// Its number.
    pub shard: u16,
    /// `owned`, `taking over`, `handing over`.
    pub state: String,
    /// Epoch of the ownership.
    pub epoch: u64,
    /// Journal position of the last frame.
    pub position: u64,
    /// Position from which a takeover would replay.
    pub low_water: u64,
    /// Position up to which events are published.
    pub relayed: u64,
    /// Sagas with an actor now.
    pub awake: u64,
    /// Sagas that sleep.
    pub asleep: u64,
    /// Frames and records appended since the takeover.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
}

/// How a node is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthView {
    /// Whether it serves.
    pub ready: bool,
    /// Skald's version.
    pub version: String,
    /// The server's version.
    pub server: String,
    /// `always`, a duration, or `unknown`: when the server fsyncs.
    pub sync: String,
    /// Replicas of the journal.
    pub replicas: u32,
    /// Nodes alive, itself included.
    pub members: Vec<String>,
    /// Shards it owns.
    pub shards: Vec<u16>,
    /// How many the cluster has; 0 from a node that does not say.
    #[serde(default)]
    pub shards_in_all: u16,
    /// What is wrong, in sentences. Empty when all is well.
    pub troubles: Vec<String>,
    /// Of these, what was lost and waits until it is brought back or an operator accepts the loss.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// What is worth a look and no trouble, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What happened since the node began to what it stands on, and is over; in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub happened: Vec<String>,
    /// When the node started.
    pub since: Time,
}
