//! What drift detection found.

use protocol::{Principal, Time};
use serde::{Deserialize, Serialize};

use super::ids::{EnvironmentId, FindingHash, RequestKey, ServiceId};

/// The longest text that a finding keeps of a value, in bytes.
pub const VALUE_MAX_BYTES: usize = 1_024;

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum DriftKind {
    /// Another image runs than is wanted (R069).
    Image,
    /// Another number of replicas, where no policy owns them (R070).
    Replicas,
    /// Another configuration (R071).
    Configuration,
    /// Another version of a secret.
    Secret,
    /// Something runs that nobody asked for (R074).
    Unmanaged,
    /// Nothing runs of what is wanted (R075).
    Missing,
    /// What is wanted was rolled back here; it stays away until desired state moves on (H01).
    Held,
}

/// What becomes of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum FindingState {
    /// It is there.
    Open,
    /// Somebody decided to leave it (R076).
    Accepted {
        /// Who.
        by: Principal,
    },
    /// Somebody decided that it is to be put right (R073, R076).
    Approved {
        /// Who.
        by: Principal,
        /// When.
        at: Time,
    },
    /// Its correction was asked for.
    Remediating {
        /// Under which key.
        key: RequestKey,
        /// Since when.
        since: Time,
        /// Who approved it, where somebody had to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approved_by: Option<Principal>,
    },
    /// It is gone.
    Resolved {
        /// Since when.
        at: Time,
    },
}

/// One difference between what is wanted and what is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftFinding {
    /// What it is about: environment, service, kind, field and wanted value.
    pub hash: FindingHash,
    /// Where.
    pub environment_id: EnvironmentId,
    /// Of which service.
    pub service_id: ServiceId,
    /// What differs.
    pub kind: DriftKind,
    /// Which one, where there are several (a secret's name).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wanted.
    pub desired: String,
    /// What is there.
    pub observed: String,
    /// What becomes of it.
    pub state: FindingState,
    /// How often it was opened (H21). How often it was merely seen is not kept: it would be a write
    /// for every look that changes nothing (W074).
    pub opened: u32,
    /// When it was last opened.
    pub opened_at: Time,
}

impl FindingState {
    /// Who decided that it is to be put right.
    pub const fn approved_by(&self) -> Option<&Principal> {
        match self {
            Self::Approved { by, .. } | Self::Remediating { approved_by: Some(by), .. } => Some(by),
            Self::Open
            | Self::Accepted { .. }
            | Self::Remediating { approved_by: None, .. }
            | Self::Resolved { .. } => None,
        }
    }
}

impl DriftFinding {
    /// Whether it is still there.
    pub const fn is_open(&self) -> bool {
        match self.state {
            FindingState::Open
            | FindingState::Accepted { .. }
            | FindingState::Approved { .. }
            | FindingState::Remediating { .. } => true,
            FindingState::Resolved { .. } => false,
        }
    }
}
