//! What is kept of an incident, so that a person can see how it came about and have it replayed
//! (R110, R111, F37): the request that failed, whole, and the trace and the saga in which it did.
//!
//! One value per service: the last incident. It is written before the incident is told, and the same
//! incident told again is the same value.

use protocol::{Envelope, Principal, Tenant, Time, TraceId, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use supervisor::activity::Failure;

use crate::runtime::arbiter::Standing;
use crate::runtime::records::deployments::{DEFINITION, Record};
use crate::runtime::records::docket::{Docket, Due};
use crate::runtime::records::events::event_id;
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, RuntimeStore};

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
        // Whoever has it replayed begins a row of his own.
        causes: 0,
        sequence: 0,
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
pub(in crate::runtime) async fn raised(
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use bytes::Bytes;
    use supervisor::ports::{Clock, Outbox, Unavailable};

    use super::*;
    use crate::runtime::arbiter::{Command, Outcome, Request, Source};
    use crate::runtime::arbitration::{Arbitration, Asker};
    use crate::runtime::model::{DeploymentId, Digest, EnvironmentId, RequestKey, Revision, ServiceId, Stage};
    use crate::runtime::store::MemoryStore;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Time {
            Time::from_micros(1_700_000_000_000_000)
        }
    }

    #[derive(Default)]
    struct Ear(Mutex<Vec<Envelope>>);

    #[async_trait]
    impl Outbox for Ear {
        async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
            self.0.lock().unwrap().push(event.clone());
            Ok(())
        }

        async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
            Ok(())
        }
    }

    fn revision(deployment: &str, digit: &str) -> Revision {
        Revision {
            deployment_id: DeploymentId::new(deployment).unwrap(),
            image: Digest::new(format!("sha256:{}", digit.repeat(64))).unwrap(),
            version: digit.into(),
            replicas: 1,
            configuration: None,
            secrets: Default::default(),
            restarts: 0,
        }
    }

    /// F37: a restore that fails under way is one incident, and what was asked is in it, whole.
    #[tokio::test]
    async fn a_restore_that_fails_under_way_is_one_incident_with_what_was_asked() {
        let (store, ear) = (Arc::new(MemoryStore::new()), Arc::<Ear>::default());
        let arbitration = Arbitration::new(store.clone(), ear.clone(), Arc::new(Noon));
        let acme = Tenant::new("acme").unwrap();
        let (environment, service) = (EnvironmentId::new("dev").unwrap(), ServiceId::new("web").unwrap());
        let place = Place { owner: acme.clone(), environment, service };
        let trace = TraceId::new("b".repeat(32)).unwrap();
        let asker = Asker { tenant: acme, trace: trace.clone(), saga: "acme/restore-1".into() };
        let ask = async |source, key: &str, command| {
            let (key, by) = (RequestKey::new(key).unwrap(), Principal::new("ann").unwrap());
            let request = Request { key, source, by, asked_at: Noon.now(), command };
            arbitration.ask(&place, &asker, Stage::Dev, &request).await.unwrap().state
        };
        let finished = |sequence, outcome| Command::Finished { sequence, outcome };
        for (deployment, digit) in [("web-1", "1"), ("web-2", "2")] {
            let state =
                ask(Source::Operator, deployment, Command::Deploy { to: revision(deployment, digit), anew: false })
                    .await;
            let sequence = state.under_way.unwrap().sequence;
            ask(Source::Runner, &format!("{deployment}-end"), finished(sequence, Outcome::Succeeded)).await;
        }
        let back = DeploymentId::new("restore-1").unwrap();
        let input = json!({ "environment": "dev", "service": "web", "kind": "restore", "of": "web-2" });
        let record: Record = serde_json::from_value(json!({
            "deployment": {
                "deploymentId": back, "serviceId": "web", "kind": "restore", "from": null,
                "to": revision("restore-1", "1"), "state": "RollingOut", "by": "ann", "at": Noon.now(), "why": null,
            },
            "tenant": "acme", "saga": asker.saga, "asked": input, "trace": trace,
            "comes": { "revision": revision("restore-1", "1"), "workload": {}, "set": "" },
        }))
        .unwrap();
        store::write(&*store, &place.space(), &place.deployment(&back), &record, 0).await.unwrap();
        let of = DeploymentId::new("web-2").unwrap();
        let restore = Command::RollbackDeployment { of, deployment_id: back, why: "it is ill".into() };
        let sequence = ask(Source::Health, "back", restore).await.under_way.unwrap().sequence;
        for _ in 0..2 {
            let stuck = Outcome::Stuck { why: "the disk is full".into() };
            ask(Source::Runner, "stuck", finished(sequence, stuck)).await;
            arbitration.tell(&place).await.unwrap();
        }
        let heard = ear.0.lock().unwrap().clone();
        let raised: Vec<_> = heard.iter().filter(|event| event.event_type == "RuntimeIncidentRaised").collect();
        assert_eq!(raised.len(), 1, "one incident: {heard:?}");
        let kept = last(&*store, &place).await.unwrap().unwrap();
        let envelope = kept.envelope.unwrap();
        assert_eq!((kept.why.as_str(), kept.saga.as_str()), ("the disk is full", "acme/restore-1"));
        assert_eq!(envelope.payload, json!({ "definition": DEFINITION, "input": input, "by": "ann" }));
        assert_eq!((&envelope.trace_id, &kept.trace, &raised[0].trace_id), (&trace, &trace, &trace));
        assert_eq!(raised[0].payload["envelope"], serde_json::to_value(&envelope).unwrap());
    }
}
