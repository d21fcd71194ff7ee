//! Decisions about changes of production: somebody else looks before it happens.

use serde::{Deserialize, Serialize};

use crate::{Principal, Tenant, Time};

/// `decision.approve`: a change that somebody else wants in an environment of the approver's tenant may be
/// made, once and within a day, as long as what it is about stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveDecision {
    /// Which, as the refusal named it.
    pub decision: String,
}

/// The answer to `decision.list`: what waits for a decision, and what was decided within a day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Decisions {
    /// One row each, oldest first.
    pub decisions: Vec<DecisionRow>,
}

/// A change, and whether it may be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRow {
    /// Stands for exactly this change of this asker.
    pub decision: String,
    /// What is to be done.
    pub what: String,
    /// Where.
    pub environment: String,
    /// The tenant of whoever wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Who wants it.
    pub by: Principal,
    /// Since when.
    pub at: Time,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Principal>,
    /// Whether it was made.
    pub used: bool,
}
