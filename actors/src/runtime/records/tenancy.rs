//! Which tenant may use which environment: asked before anything of the environment is read or
//! written (W073, F56). What is asked stands among the asker's own values, so that a refusal has
//! touched nobody else's.
//!
//! A refusal is final (H24): it is told as an event of the asker and kept as a dead letter with all
//! that was asked, and nobody tries it again.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{Envelope, Principal, Tenant, TraceId, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::ports::{Clock, Outbox};

use crate::runtime::model::{Environment, EnvironmentId, TenantBinding, environment};
use crate::runtime::records::docket::Docket;
use crate::runtime::records::events::event_id;
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, Read, RuntimeStore, Space};

/// The error name of a refusal.
pub const TENANT_REFUSED: &str = "TenantRefused";
/// The error name of a refusal for want of room.
pub const QUOTA: &str = "QuotaExceeded";

/// A tenant's right to use an environment, as it is kept among that tenant's values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// Whose environment it is.
    pub owner: Tenant,
    /// The right.
    pub binding: TenantBinding,
}

/// Who asks for what, for the audit.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Whose data.
    pub tenant: Tenant,
    /// Who.
    pub principal: Principal,
    /// The trace.
    pub trace: TraceId,
    /// What it belongs to, as `tenant/key`.
    pub saga: String,
    /// The same for every repetition.
    pub key: String,
    /// What was to be done, as in `deployment.claim`.
    pub what: &'static str,
    /// All that was asked.
    pub input: Value,
}

/// An environment that the asker may use.
#[derive(Clone, PartialEq, Debug)]
pub struct Granted {
    /// Whose it is.
    pub owner: Tenant,
    /// The environment, as it stands.
    pub environment: Read<Environment>,
    /// The asker's right, where there is one.
    pub binding: Option<TenantBinding>,
}

/// Asks about tenants.
#[derive(Clone)]
pub struct Tenancy {
    store: Arc<dyn RuntimeStore>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
}

impl Tenancy {
    /// Asks in `store`, and audits through `outbox`.
    pub fn new(store: Arc<dyn RuntimeStore>, outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>) -> Self {
        Self { store, outbox, clock }
    }

    /// The environment, if the asker's tenant may use it; whether it is provisioned is not asked.
    pub async fn grant(&self, asking: &Asking, environment: &EnvironmentId) -> Result<Granted, Failure> {
        let own = Space::Of(asking.tenant.clone());
        let bound: Option<Read<Bound>> = store::read(&*self.store, &own, &place::binding(environment)).await?;
        let name = place::environment(environment);
        let mine: Option<Read<Environment>> = store::read(&*self.store, &own, &name).await?;
        let (owner, found) = match (mine, &bound) {
            (Some(found), _) => (asking.tenant.clone(), Some(found)),
            (None, Some(bound)) => {
                let owner = bound.value.owner.clone();
                (owner.clone(), store::read(&*self.store, &Space::Of(owner), &name).await?)
            }
            (None, None) => {
                let why = format!(
                    "{} is not bound to environment {environment}; create it with `skald environment create`, or have its \
                     owner bind the tenant",
                    asking.tenant
                );
                return Err(self.refuse(asking, environment, why).await?);
            }
        };
        let Some(found) = found else {
            let why = format!("the environment {environment} is not there any more; name another one");
            return Err(Failure::named("UnknownEnvironment", why));
        };
        if let Some(saga) = found.value.removed_by.as_ref().filter(|saga| **saga != asking.saga) {
            let why = format!("the environment {environment} is being removed by {saga}; name another one");
            return Err(Failure::named("EnvironmentClosed", why));
        }
        let binding = bound.map(|bound| bound.value.binding);
        match environment::guard(&found.value, &asking.tenant, binding.as_ref()) {
            Ok(()) => Ok(Granted { owner, environment: found, binding }),
            Err(fault) => Err(self.refuse(asking, environment, fault.to_string()).await?),
        }
    }

    /// Whether a service of `tenant` may have `wanted` replicas: all services of the environment together
    /// no more than it was provisioned for, and those of a guest no more than it was bound with (B.3).
    /// What a service has it may keep. Of two that grow in the same moment both may be let in.
    pub async fn room(&self, granted: &Granted, place: &Place, tenant: &Tenant, wanted: u32) -> Result<(), Failure> {
        let bound = granted.binding.as_ref().map(|binding| binding.max_replicas);
        let provisioned = granted.environment.value.max_replicas;
        if bound.is_none() && provisioned.is_none() {
            return Ok(());
        }
        let all = store::read_all::<Docket>(&*self.store, &place.space(), &place::dockets(&place.environment)).await?;
        let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| *name == place.docket());
        if own.iter().any(|(_, docket)| wanted <= docket.state.replicas) {
            return Ok(());
        }
        let taken = |theirs: &dyn Fn(&Docket) -> bool| -> u32 {
            others.iter().filter(|(_, docket)| theirs(docket)).map(|(_, docket)| docket.state.replicas).sum()
        };
        let environment = &place.environment;
        let full = |who: &str, most: Option<u32>, taken: u32, mend: &str| match most {
            Some(most) if taken.saturating_add(wanted) > most => Err(Failure::named(
                QUOTA,
                format!(
                    "{who} may have {most} replicas in {environment}, and other services have {taken} of them; {mend}"
                ),
            )),
            Some(_) | None => Ok(()),
        };
        let theirs = taken(&|docket| docket.tenant == *tenant);
        full(tenant.as_str(), bound, theirs, "ask its owner for more, or scale others down")?;
        let more = format!("`skald environment provision {environment} --replicas N` makes room");
        full("all services together", provisioned, taken(&|_| true), &more)
    }

    /// The refusal, once it is on record.
    async fn refuse(&self, asking: &Asking, environment: &EnvironmentId, why: String) -> Result<Failure, Failure> {
        let audit = |error| Failure::transient("auditing a refused tenant", error);
        let event = Envelope {
            event_id: event_id("refused", &[asking.key.as_str(), asking.what], 1)?,
            event_type: "RuntimeAccessRefused".into(),
            tenant_id: asking.tenant.clone(),
            project_id: None,
            module_id: None,
            trace_id: asking.trace.clone(),
            correlation_id: asking.saga.clone(),
            causation_id: asking.saga.clone(),
            causes: 0,
            sequence: 0,
            occurred_at: self.clock.now(),
            payload: json!({
                "environmentId": environment, "by": asking.principal, "what": asking.what, "why": why,
            }),
        };
        self.outbox.publish(&event).await.map_err(audit)?;
        let whole = json!({ "event": event, "input": asking.input }).to_string();
        self.outbox.bury(asking.tenant.as_str(), "tenant-refused", &why, Bytes::from(whole)).await.map_err(audit)?;
        Ok(Failure::named(TENANT_REFUSED, why))
    }
}
