//! What is known of a version besides its value.

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::{Label, Labels, SecretName};
use crate::runtime::model::RequestKey;

/// Which version is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Which {
    /// The one with this number.
    Number(u64),
    /// The one with this label.
    Labelled(Label),
}

/// Whether a version can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It can.
    Active,
    /// Not now; it can be reinstated.
    Retired,
    /// Never again.
    Destroyed,
}

/// A version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its number, counted from 1.
    pub number: u64,
    /// The request that made it.
    pub token: RequestKey,
    /// When it was made.
    pub created: Time,
    /// Whether it can be read.
    pub state: State,
}

/// A secret without its values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// What it is called.
    pub name: SecretName,
    /// Which version counts.
    pub labels: Labels,
    /// Its versions, the oldest first.
    pub versions: Vec<Version>,
}
