//! What is kept of an incident, so that a person can see how it came about and have it replayed
//! (R110, R111, F37): the request that failed, whole, and the trace and the saga in which it did.
//!
//! One value per service: the last incident. It is written before the incident is told, and the same
//! incident told again is the same value.

use protocol::{Envelope, Principal, Tenant, Time, TraceId, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use supervisor::activity::Failure;

use super::arbiter::Standing;
use super::arbitration::{Docket, Due, event_id};
use super::deployment::record::Record;
use super::place::{self, Place};
use super::store::{self, RuntimeStore};

/// The saga whose input an envelope holds.
pub const DEFINITION: &str = "runtime_deployment";

/// An incident.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Time,
    /// On whose word what failed was done.
    pub by: Principal,
    /// The saga that failed, or what else did, as `tenant/key`.
    pub saga: String,
    /// The trace of all of it.
    pub trace: TraceId,
    /// What was asked, whole: its payload names the definition and holds the input with which the
    /// same is asked again. Absent where no deployment failed, but something else under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Envelope>,
}

/// The envelope of a request for a deployment that `saga` carried out.
pub fn requested(
    (tenant, saga): (&Tenant, &str),
    (by, trace, at): (&Principal, &TraceId, Time),
    input: &Value,
) -> Result<Envelope, Failure> {
    Ok(Envelope {
        event_id: event_id("requested", &[saga], 1)?,
        event_type: "RuntimeDeploymentRequested".to_owned(),
        tenant_id: tenant.clone(),
        project_id: None,
        module_id: None,
        trace_id: trace.clone(),
        correlation_id: saga.to_owned(),
        causation_id: saga.to_owned(),
        occurred_at: at,
        payload: json!({ "definition": DEFINITION, "input": input, "by": by }),
    })
}

/// What is kept of the last incident of a service.
pub async fn last(store: &dyn RuntimeStore, place: &Place) -> Result<Option<Incident>, Failure> {
    Ok(store::read(store, &place.space(), &place.incident()).await?.map(|read| read.value))
}

/// Keeps `incident`; again: nothing happens.
pub async fn keep(store: &dyn RuntimeStore, place: &Place, incident: &Incident) -> Result<(), Failure> {
    store::change(store, &place.space(), &place.incident(), |there: Option<&Incident>| {
        (there != Some(incident)).then(|| incident.clone())
    })
    .await?;
    Ok(())
}

/// Keeps the incident that the arbiter is about to tell.
pub(super) async fn raised(
    store: &dyn RuntimeStore,
    place: &Place,
    docket: &Docket,
    (due, why): (&Due, &str),
    now: Time,
) -> Result<Incident, Failure> {
    let since = match &docket.state.standing {
        Standing::Incident { since, .. } => *since,
        // A traffic stop has begun, and the service stands as an incident when it has ended (H08).
        Standing::Open | Standing::Paused { .. } | Standing::Drained { .. } => {
            docket.state.under_way.as_ref().map_or(now, |under_way| under_way.since)
        }
    };
    let below = place::deployments(&place.environment, &place.service);
    let records = store::read_all::<Record>(store, &place.space(), &below).await?;
    let failed = records.into_iter().map(|(_, record)| record).find(|record| record.saga == due.saga);
    let known = last(store, place).await?.filter(|known| known.saga == due.saga);
    let by = failed.as_ref().map_or(&due.by, |record| &record.deployment.by).clone();
    let trace = failed.as_ref().and_then(|record| record.trace.clone()).unwrap_or_else(|| due.trace.clone());
    let envelope = match failed.as_ref().and_then(|record| Some((record, record.asked.as_ref()?))) {
        Some((record, input)) => {
            Some(requested((&record.tenant, &record.saga), (&by, &trace, record.deployment.at), input)?)
        }
        None => known.and_then(|known| known.envelope),
    };
    let incident = Incident { why: why.to_owned(), since, by, saga: due.saga.clone(), trace, envelope };
    keep(store, place, &incident).await?;
    Ok(incident)
}
