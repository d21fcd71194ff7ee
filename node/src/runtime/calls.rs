//! Tells that a service is called while none of its replicas is ready, so that whoever scales looks at
//! once: a service that sleeps is woken by its first request, and not by a timer (D307).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::runtime::compute::gateway::Call;
use actors::runtime::model::EnvironmentId;
use actors::runtime::records::environments::Environments;
use actors::runtime::records::events::event_id;
use protocol::{Envelope, Tenant, Time, TraceId};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::ports::{Clock, Outbox};
use tokio::sync::mpsc::Receiver;
use tracing::{debug, warn};

/// Calls that wait to be told: more services than one machine wakes in a moment.
pub(super) const CALLS_MAX: usize = 256;

/// How long one service is not told of again: what is broken and not asleep is called all the time.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The event.
const AWAITED: &str = "RuntimeServiceAwaited";

/// Who tells it.
pub(super) struct Crier {
    pub(super) environments: Environments,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Crier {
    /// Tells of every call, until there are no more gateways.
    pub(super) async fn serve(self, mut calls: Receiver<Call>) {
        let mut told: BTreeMap<Call, Time> = BTreeMap::new();
        while let Some(call) = calls.recv().await {
            let now = self.clock.now();
            told.retain(|_, at| now.since(*at) < AGAIN_AFTER);
            if told.contains_key(&call) {
                continue;
            }
            match self.tell(&call, now).await {
                Ok(true) => drop(told.insert(call, now)),
                Ok(false) => debug!(?call, "nobody owns the environment"),
                // The next request, or the worker's own time, makes up for it.
                Err(failure) => warn!(?call, %failure, "a call could not be told"),
            }
        }
    }

    async fn tell(&self, call: &Call, now: Time) -> Result<bool, Failure> {
        let environment = EnvironmentId::new(call.environment.as_str())
            .map_err(|fault| Failure::permanent("reading an environment's name", fault))?;
        let owner = self.environments.owner(&environment).await;
        let owner = owner.map_err(|error| Failure::transient("looking whose the environment is", error))?;
        let Some(owner) = owner else { return Ok(false) };
        let event = event(call, owner, now)?;
        let published = self.outbox.publish(&event).await;
        published.map_err(|error| Failure::transient("telling of a call", error))?;
        Ok(true)
    }
}

fn event(call: &Call, owner: Tenant, now: Time) -> Result<Envelope, Failure> {
    let about = [call.environment.as_str(), call.service.as_str(), &now.as_micros().to_string()];
    let event_id = event_id(AWAITED, &about, 1)?;
    let trace_id = TraceId::new(uuid::Uuid::new_v4().simple().to_string());
    Ok(Envelope {
        event_type: AWAITED.to_owned(),
        tenant_id: owner,
        project_id: None,
        module_id: None,
        trace_id: trace_id.map_err(|error| Failure::permanent("naming a trace", error))?,
        correlation_id: event_id.to_string(),
        causation_id: event_id.to_string(),
        causes: 0,
        event_id,
        sequence: 0,
        occurred_at: now,
        payload: json!({ "environmentId": call.environment, "serviceId": call.service }),
    })
}
