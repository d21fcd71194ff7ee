//! What nodes answer to commands that have no view of their own. Fields that a release does not
//! know are ignored and fields it does not send are empty, so that client and node may differ.

use protocol::Value;
use protocol::command::Started;
use protocol::view::{Outcome, SagaRow, SagaView};
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
    },
}

impl Rows {
    /// The rows.
    pub fn into_rows(self) -> Vec<SagaRow> {
        match self {
            Self::Bare(sagas) | Self::Named { sagas } => sagas,
        }
    }
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
    /// False when the same source was deployed before.
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
