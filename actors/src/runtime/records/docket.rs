//! What is remembered of one service besides what it runs: its arbiter's state, and what of it is to be told yet.

use protocol::{Principal, Tenant, TraceId};
use serde::{Deserialize, Serialize};

use crate::runtime::arbiter::{Act, ServiceState};

/// What is remembered of one service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Docket {
    /// Whose service it is.
    pub tenant: Tenant,
    /// What the arbiter knows.
    pub state: ServiceState,
    /// How many acts there were.
    #[serde(default)]
    pub acts: u64,
    /// Acts that may not have been done yet; those of one decision, at most.
    #[serde(default)]
    pub due: Vec<Due>,
}

/// An act that is to be told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Due {
    /// Counted from 1; the same in every repetition.
    pub number: u64,
    /// What.
    pub act: Act,
    /// On whose word.
    pub by: Principal,
    /// The trace that led to it.
    pub trace: TraceId,
    /// What it belongs to: the saga that asked, as `tenant/key`.
    pub saga: String,
}
