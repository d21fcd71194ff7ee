//! The shapes that an installation answers with, and that stay in the target.

use protocol::Time;
use semver::Version;
use serde::{Deserialize, Serialize};

/// Something found out that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of finding, as in `rust-version` or `conflict`.
    pub code: String,
    /// Whether it stands in the way. A finding that does not is a note.
    pub blocking: bool,
    /// The package it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// What was found and what to do about it.
    pub message: String,
    /// The requirements that meet in it, each with the way it came in (M108).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Ranged>,
}

/// One requirement and the packages it came through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ranged {
    /// The versions it accepts.
    pub range: String,
    /// From the project to the package that requires it.
    pub path: Vec<String>,
}

/// Where the content of a package of a graph comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// From the catalogue.
    Catalogue,
    /// It lies in the target already.
    Target,
    /// From nowhere: it is not in the catalogue and this platform never builds it, but cargo wants
    /// to see it. An empty package stands in for it.
    StandIn,
}

/// One package of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The archive's SHA-256; of a stand-in what the project's lock file has, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// The features that are asked of a stand-in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// What it needs, as `name version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
}

/// One package of the project itself, as its lock file lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What it needs, as `name version`.
    pub dependencies: Vec<String>,
}

/// Packages under one licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Licensed {
    /// SPDX, as the authors wrote it; `None`: they wrote none.
    pub license: Option<String>,
    /// As `name version`.
    pub packages: Vec<String>,
}

/// Everything that the target needs once the asset is in it (M070, M058).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    /// The packages of the project itself.
    pub locals: Vec<LocalPackage>,
    /// All others, by name and version.
    pub packages: Vec<GraphPackage>,
    /// The licences of what is to be added.
    pub licenses: Vec<Licensed>,
}

/// One applied package: where it came from and why it is there (M075).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstalledArtifactRef {
    /// The asset for whose sake it is there.
    pub asset_id: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The archive's SHA-256; `None` for a stand-in.
    pub checksum: Option<String>,
    /// Where it lies, relative to the target.
    pub path: String,
    /// SPDX, as its author wrote it.
    pub license: Option<String>,
    /// When the installation began.
    pub installed_at: Time,
    /// The saga that did it.
    pub saga: String,
}
