//! Incidents: services that could not be brought back to a good state.

use serde::{Deserialize, Serialize};

use super::ServiceRow;
use crate::view::History;
use crate::{Envelope, Principal, SagaKey, Time, TraceId};

/// The answer to `incident.list`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Incidents {
    /// One row each, oldest first.
    pub incidents: Vec<IncidentRow>,
}

/// An incident.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentRow {
    /// Where.
    pub environment: String,
    /// Which service.
    pub service: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Time,
    /// What may not come again, with the reason.
    #[serde(default)]
    pub held: Vec<String>,
    /// What is seen of the service now; absent where nobody can see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// The answer to `incident.show`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentView {
    /// The incident.
    #[serde(flatten)]
    pub incident: IncidentRow,
    /// The service.
    pub row: ServiceRow,
    /// What was asked last of the service, newest first: what, by whom, when, and how it ended.
    #[serde(default)]
    pub trail: Vec<String>,
    /// The saga of the last deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saga: Option<SagaKey>,
    /// On whose word what failed was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
    /// The saga that failed, or what else did, as `tenant/key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The trace of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What was asked, whole. Its payload holds `definition` and `input`: a start with them asks the
    /// same again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Envelope>,
    /// What happened to the saga that failed, record by record, as far as it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// `incident.close`: the service acts by itself again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloseIncident {
    /// Where.
    pub environment: String,
    /// Which service.
    pub service: String,
    /// Whether what is held may come again too.
    #[serde(default)]
    pub unhold: bool,
}
