//! Configurations: publishing a version, and what versions there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `configuration.publish`: this is the configuration of a service from now on. The same content as
/// the newest version: that version is answered, and nothing happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishConfiguration {
    /// Where.
    pub environment: String,
    /// Of which service.
    pub service: String,
    /// All of its variables; they replace what was.
    pub entries: BTreeMap<String, String>,
}

/// The answer to `configuration.publish`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedConfiguration {
    /// Where.
    pub environment: String,
    /// Of which service.
    pub service: String,
    /// The version that has this content.
    pub version: u64,
    /// What the content is: the same content has the same digest.
    pub digest: String,
    /// False when the newest version had this content already, and nothing happened.
    pub new: bool,
}

/// `configuration.list`: the versions of a service's configuration. `configuration.show`: one of
/// them with its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShowConfiguration {
    /// Where.
    pub environment: String,
    /// Of which service.
    pub service: String,
    /// Which version; the newest when absent. Not for lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// The answer to `configuration.list`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configurations {
    /// The versions, oldest first.
    pub versions: Vec<ConfigurationRow>,
}

/// A version without its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationRow {
    /// Which.
    pub version: u64,
    /// What its content is.
    pub digest: String,
    /// How many variables it has.
    pub entries: usize,
    /// Whether it was published; the others came with a deployment.
    pub published: bool,
    /// Whether the service runs on it.
    pub runs: bool,
}

/// The answer to `configuration.show`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownConfiguration {
    /// Which version.
    pub version: u64,
    /// What its content is.
    pub digest: String,
    /// The content.
    pub entries: BTreeMap<String, String>,
}
