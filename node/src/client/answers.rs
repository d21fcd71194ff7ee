//! What nodes answer to commands that have no view of their own. Fields that a release does not
//! know are ignored and fields it does not send are empty, so that client and node may differ.

use protocol::Value;
use protocol::command::{RunAccepted, Started};
use protocol::view::{Outcome, SagaRow, SagaView};
use protocol::worker::{RunView, WorkerView};
use serde::{Deserialize, Serialize};

/// To `saga.start`: accepted, or already at its end when the caller waited.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StartAnswer {
    /// It ended while we waited, or stands here.
    View(Box<SagaView>),
    /// Accepted; it is in the journal.
    Started(Started),
    /// It ended while we waited.
    Outcome(Outcome),
}

/// To `saga.list`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rows {
    /// Only rows.
    Bare(Vec<SagaRow>),
    /// Rows in an object, with room for more.
    Named {
        /// The rows, newest first.
        sagas: Vec<SagaRow>,
        /// Nodes that were asked; 0 from a release that does not say.
        #[serde(default)]
        nodes: usize,
        /// Nodes that answered.
        #[serde(default)]
        answered: usize,
        /// What is not among the rows and why, in sentences.
        #[serde(default)]
        missing: Vec<String>,
    },
}

/// Sagas, and what is not among them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listed {
    /// The rows, newest first.
    pub sagas: Vec<SagaRow>,
    /// Why the list may be short, in sentences; empty when it is whole.
    pub missing: Vec<String>,
}

impl Rows {
    /// The rows, and what is missing.
    pub fn listed(self) -> Listed {
        match self {
            Self::Bare(sagas) => Listed { sagas, missing: Vec::new() },
            Self::Named { sagas, nodes, answered, mut missing } => {
                if answered < nodes {
                    missing.insert(0, format!("{answered} of {nodes} nodes answered"));
                }
                Listed { sagas, missing }
            }
        }
    }
}

/// To `worker.list`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workers {
    /// The workers, by kind and environment.
    pub workers: Vec<WorkerView>,
    /// Nodes that were asked.
    pub nodes: usize,
    /// Nodes that answered.
    pub answered: usize,
    /// What is not among the workers and why, in sentences.
    pub missing: Vec<String>,
}

/// To `worker.run`: its number, or how it went when the caller waited.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RunAnswer {
    /// Accepted; it runs now, or after the run under way.
    Accepted(RunAccepted),
    /// It ended while we waited.
    Ended(Box<RunView>),
}

/// To `definition.deploy` and `definition.check`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployed {
    /// The definition's name.
    pub name: String,
    /// The version it got, or would get.
    pub version: u32,
    /// Digest of its source.
    pub digest: String,
    /// False when the same source was deployed before, with the same versions of its children.
    pub created: bool,
    /// What is worth a look and does not stop the deployment: a text, or an object with `message`.
    pub warnings: Vec<Value>,
}

/// To `definition.show`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// The definition's name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Digest of the source.
    pub digest: String,
    /// What it is for.
    pub description: String,
    /// The source as it was deployed.
    pub source: String,
}
