//! What a look at a service comes to: what is heard of it, and what is stored then.

use std::collections::BTreeMap;

use protocol::{SagaKey, TraceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

use super::{ByService, Watched};
use crate::runtime::arbiter::{Action, Doing, Outcome, ServiceState, Standing};
use crate::runtime::control::desk::{Desk, Look, Service};
use crate::runtime::control::loop_alarm::Row;
use crate::runtime::deployment::desk::request_key;
use crate::runtime::model::{DeploymentId, ServiceId};
use crate::runtime::records::place;
use crate::runtime::store;
use crate::runtime::workers::health::decide::{Verdict, Window};
use crate::runtime::workers::health::failure::{Condition, Heard};
use crate::runtime::workers::health::probing::SeenService;

/// What is stored of a service that was ever unwell.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stored {
    /// How it is.
    pub(super) condition: Condition,
    /// What ran then.
    pub(super) deployment: Option<DeploymentId>,
    /// The saga that brings the last good release back, which is its deployment's name too.
    pub(super) restore: Option<SagaKey>,
    /// Its trace.
    pub(super) trace: Option<TraceId>,
    /// Whether the arbiter had it as an incident: then a person who resumes it ends that here too.
    pub(super) stood: bool,
    /// Replicas that were started anew and are not well since.
    pub(super) rows: BTreeMap<String, Row>,
}

/// How a service is, as far as it was ever unwell.
pub async fn condition(store: &dyn store::RuntimeStore, place: &place::Place) -> Result<Option<Condition>, Failure> {
    let stored = store::read::<Stored>(store, &place.space(), &place.condition()).await?;
    Ok(stored.map(|read| read.value.condition))
}

/// What is stored of the services of an environment.
pub(super) async fn stored(desk: &Desk, look: &Look) -> Result<ByService<Stored>, Failure> {
    let Some(first) = look.services.first() else { return Ok(ByService::new()) };
    let below = place::conditions(&first.place.environment);
    let all = store::read_all::<Stored>(&*desk.ports.store, &first.place.space(), &below).await?;
    let named = |(name, stored): (String, Stored)| {
        let service: ServiceId = name.rsplit('/').next().unwrap_or_default().parse().ok()?;
        Some((service, stored))
    };
    Ok(all.into_iter().filter_map(named).collect())
}

/// Whether a service is watched now: something runs, and nothing is under way that judges by itself
/// what it brings.
pub(super) fn watched(service: &Service) -> bool {
    let state = &service.docket.state;
    let quiet = match state.doing() {
        Doing::Nothing | Doing::Scaling | Doing::Restoring | Doing::Stopping => true,
        Doing::Deploying
        | Doing::Remediating
        | Doing::Configuring
        | Doing::Refreshing
        | Doing::Restarting
        | Doing::Draining
        | Doing::Removing => false,
    };
    let stands = match state.standing {
        Standing::Open | Standing::Paused { .. } | Standing::Incident { .. } => true,
        Standing::Drained { .. } => false,
    };
    quiet && stands && state.current.is_some()
}

/// Whether things may happen by themselves.
pub(super) fn open(state: &ServiceState) -> bool {
    match state.standing {
        Standing::Open => true,
        Standing::Paused { .. } | Standing::Drained { .. } | Standing::Incident { .. } => false,
    }
}

/// The name of the saga that takes `deployment` back, and of the deployment that it is.
pub(super) fn restore_key(service: &Service, deployment: &DeploymentId, since: Window) -> Result<SagaKey, Failure> {
    let of = format!("{}/{}/{deployment}/{}", service.place.owner, service.place, since.0);
    let digits = hex::encode(Sha256::digest(of));
    // As short as a deployment's own name may be.
    SagaKey::new(format!("restore-{}", &digits[..32])).map_err(|error| Failure::permanent("naming a restore", error))
}

/// What is heard of a restore from the arbiter, and of what people did meanwhile.
pub(super) fn of_the_arbiter(stored: &Stored, state: &ServiceState) -> Result<Option<Heard>, Failure> {
    let current = state.current.as_ref().map(|current| &current.deployment_id);
    let moved_on = stored.deployment.is_some() && stored.deployment.as_ref() != current;
    if stored.condition == Condition::Incident {
        // R102: nothing but a person leads out of it.
        return Ok((moved_on || stored.stood && open(state)).then_some(Heard::Reset));
    }
    let Some(restore) = &stored.restore else {
        return Ok(moved_on.then_some(Heard::Reset));
    };
    let id = DeploymentId::new(restore.as_str()).map_err(|fault| Failure::permanent("naming a restore", fault))?;
    let key = request_key("deploy", &id)?;
    if let Some(under_way) = state.under_way.as_ref().filter(|under_way| under_way.key == key) {
        return Ok(Some(match under_way.action {
            // H08: it leads nowhere, and the arbiter has said so.
            Action::Stopping { .. } => Heard::RestoreFailed,
            Action::Deploying { .. }
            | Action::Remediating { .. }
            | Action::Restoring { .. }
            | Action::Scaling { .. }
            | Action::Configuring { .. }
            | Action::Refreshing { .. }
            | Action::Restarting { .. }
            | Action::Draining { .. }
            | Action::Removing { .. } => Heard::RestoreBegun,
        }));
    }
    let answered = state.answered.iter().find(|answered| answered.key == key);
    Ok(match answered.and_then(|answered| answered.outcome.as_ref()) {
        Some(Outcome::Succeeded) if current == Some(&id) => Some(Heard::Restored),
        Some(
            Outcome::Succeeded
            | Outcome::RolledBack { .. }
            | Outcome::Failed { .. }
            | Outcome::Stuck { .. }
            | Outcome::Differs { .. },
        ) => Some(Heard::RestoreFailed),
        None => moved_on.then_some(Heard::Reset),
    })
}

/// What a window of probes says. `None`: nothing that could be relied on.
pub(super) fn of_the_window(seen: &SeenService, window: Window) -> Option<Heard> {
    let mut starting = 0;
    for replica in &seen.replicas {
        match replica.verdict {
            Verdict::Dead | Verdict::NotReady => return Some(Heard::Failed { window }),
            Verdict::Starting => starting += 1,
            Verdict::Ready => {}
        }
    }
    if seen.unasked.is_some() || starting > 0 {
        return None;
    }
    match seen.ready() >= seen.wanted {
        true => Some(Heard::Passed { window }),
        // They are not there at all.
        false => Some(Heard::Failed { window }),
    }
}

/// Why a service is not well, for a person.
pub(super) fn reason(watched: &Watched, seen: &SeenService) -> String {
    let first = seen.replicas.iter().find_map(|replica| replica.why.clone());
    let all = format!("{} of {} replicas of {} are well", seen.ready(), seen.wanted, watched.service.place);
    first.map_or_else(|| all.clone(), |first| format!("{all}; {first}"))
}
