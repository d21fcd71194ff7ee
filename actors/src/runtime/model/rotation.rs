//! A rotation of a secret, as far as it got (D601, D602, F53).

use std::collections::BTreeSet;

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::ids::{SecretBindingId, ServiceId};

/// A step that is carried out at the secret store and at what the secret opens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Make the new version and keep it as pending.
    Create,
    /// Have what it opens accept it too.
    Set,
    /// Try whether it opens.
    Test,
    /// Make it current. This is the commit (D602).
    Finish,
    /// Have the old version accepted no more.
    Retire,
    /// Throw the new version away.
    Discard,
}

/// How far a rotation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum Phase {
    /// A step is carried out.
    Doing {
        /// Which.
        step: Step,
        /// How often it failed.
        failed: u32,
    },
    /// The new version is current; these workloads do not run on it yet.
    Confirming {
        /// Since when.
        since: Time,
        /// Whether it was told that it takes long.
        told: bool,
    },
    /// The old version is retired.
    Done,
    /// The old version is current as before.
    Kept {
        /// Why.
        why: String,
    },
}

/// One rotation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Of which secret.
    pub secret_binding_id: SecretBindingId,
    /// The version that was current.
    pub from: u64,
    /// The version that comes.
    pub to: u64,
    /// How far it is.
    pub phase: Phase,
    /// The workloads that use the secret.
    pub bound: BTreeSet<ServiceId>,
    /// Those of them that said they run on the new version.
    pub confirmed: BTreeSet<ServiceId>,
    /// Why the new version is being thrown away, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Rotation {
    /// Whether it has not ended.
    pub const fn goes_on(&self) -> bool {
        match self.phase {
            Phase::Doing { .. } | Phase::Confirming { .. } => true,
            Phase::Done | Phase::Kept { .. } => false,
        }
    }

    /// The workloads that do not run on the new version yet.
    pub fn waiting(&self) -> BTreeSet<ServiceId> {
        self.bound.difference(&self.confirmed).cloned().collect()
    }
}
