//! `RuntimeDeploymentWorker`: brings what is written down (W009–W015).
//!
//! A deployment that somebody began is a saga, and the engine carries it on wherever it stands; no event
//! makes this worker begin one (H04). It frees services that a saga left busy, and it looks at the
//! repository: it tells each arbiter what is wanted, which ends holds that desired state has moved on
//! from (H01), and brings a service once per change of its file. What differs without a change of the
//! file is drift, and drift detection's.

mod abandoned;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use protocol::SagaKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;
use supervisor::worker::{Report, Retry, Rhythm, Run, Worker};

use crate::runtime::arbiter::{Command, Desired, Source, Standing};
use crate::runtime::arbitration::explained;
use crate::runtime::control::Said;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::desk::{Desk, Look, Ports, Service};
use crate::runtime::control::sagas::Starting;
use crate::runtime::deployment::DEFINITION;
use crate::runtime::deployment::claim::{Asks, Input, Kind};
use crate::runtime::model::{RequestKey, ServiceId, ServiceSpec};
use crate::runtime::ports::desired::Empty;
use crate::runtime::records::ownership::NAME_TAKEN;
use crate::runtime::records::place::Place;
use crate::runtime::store;
use crate::runtime::workers::drift;

/// How often it looks: neither the repository that moved tells it, nor a saga that left a service behind.
const EVERY: Duration = Duration::from_secs(60);

/// The worker.
pub struct RuntimeDeployment {
    desk: Desk,
    triggers: Vec<&'static str>,
}

/// What it remembers from one run to the next; losing it costs an alarm that is told again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Memory {
    /// What is busy for too long and was told, by its number.
    late: BTreeMap<ServiceId, u64>,
}

/// What was last brought from the repository.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Synced {
    /// The content of the file.
    spec: String,
    /// The saga that brought it.
    saga: SagaKey,
}

impl RuntimeDeployment {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Which::RuntimeDeploymentWorker;
        Self { desk: Desk::new(ports.clone(), which), triggers: which.events() }
    }
}

#[async_trait]
impl Worker for RuntimeDeployment {
    fn kind(&self) -> &str {
        self.desk.worker.kind()
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm::every(EVERY).retry(Retry::max(self.desk.worker.card().attempts))
    }

    fn triggers(&self) -> &[&str] {
        &self.triggers
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        let Some(look) = self.desk.look(run).await? else {
            return Ok(Report::unchanged("", "the environment is not there"));
        };
        let under_way = look.services.iter().filter(|it| it.docket.state.under_way.is_some()).count();
        let saw = format!("{} services, {under_way} of them changing", look.services.len());
        let mut memory: Memory = serde_json::from_value(run.remembered.clone()).unwrap_or_default();
        let (before, mut did, mut why) = (memory.clone(), Vec::new(), Vec::new());
        self.free(run, &look, &mut memory, &mut did).await?;
        let remember = serde_json::to_value(&memory).map_err(|error| Failure::permanent("remembering", error))?;
        let remembering = |report: Report| if memory == before { report } else { report.remember(remember) };
        let Some(desired) = &self.desk.ports.desired else {
            return Ok(remembering(match did.is_empty() {
                true => Report::unchanged(saw, "deployments that were begun go on by themselves"),
                false => Report::changed(saw, did.join(", "), "nobody carried it out any more, or it takes too long"),
            }));
        };
        let read = desired.read(&look.environment.environment_id, Empty::Allowed).await?;
        for (wave, specs) in waves(read.services.values()) {
            let mut unsettled = Vec::new();
            for spec in specs {
                if !self.bring(run, &look, spec, &mut did, &mut why).await? {
                    unsettled.push(spec.service_id.as_str());
                }
            }
            if read.services.values().any(|spec| spec.wave > wave) && !unsettled.is_empty() {
                why.push(format!("what comes after wave {wave} waits for {}", unsettled.join(", ")));
                break;
            }
        }
        let saw = format!("{saw}, {} wanted at {}", read.services.len(), &read.commit.as_str()[..12]);
        Ok(remembering(match did.is_empty() {
            true if why.is_empty() => Report::unchanged(saw, "what is written down was brought before"),
            true => Report::unchanged(saw, why.join("; ")),
            false => Report::changed(saw, did.join(", "), why.join("; ")),
        }))
    }
}

impl RuntimeDeployment {
    /// Begins to bring a service to what is written down. Answers whether it is there already.
    async fn bring(
        &self,
        run: &Run,
        look: &Look,
        spec: &ServiceSpec,
        did: &mut Vec<String>,
        why: &mut Vec<String>,
    ) -> Result<bool, Failure> {
        let place = Place {
            owner: run.worker.tenant.clone(),
            environment: spec.environment_id.clone(),
            service: spec.service_id.clone(),
        };
        let digest = digest(spec)?;
        let (space, name) = (place.space(), place.synced());
        let known = store::read::<Synced>(&*self.desk.ports.store, &space, &name).await?;
        let service = look.services.iter().find(|it| it.place.service == spec.service_id);
        if known.as_ref().is_some_and(|known| known.value.spec == digest) {
            return Ok(service.is_some_and(|service| settled(service, spec)));
        }
        let service = match service {
            Some(service) => service.clone(),
            None => match self.desk.arbitration.open(&place, &spec.tenant_id, look.environment.stage).await {
                Ok(open) => Service { place: place.clone(), docket: open.value },
                // One file that names what is another's holds up no other.
                Err(taken) if taken.error == NAME_TAKEN => {
                    why.push(taken.cause);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
        };
        let state = &service.docket.state;
        if let Some(under_way) = &state.under_way {
            why.push(format!("{place} changes already: {}", under_way.action.doing()));
            return Ok(false);
        }
        let wanted = Desired { image: spec.image.clone(), configuration: spec.configuration.clone() };
        if state.desired.as_ref().map(|(known, _)| known) != Some(&wanted) {
            let key = RequestKey::new(format!("desired/{place}/{}", run.now().as_micros()));
            let key = key.map_err(|fault| Failure::permanent("naming what is wanted", fault))?;
            let command = Command::DesiredState { desired: wanted };
            match self.desk.ask(run, &service, Source::Sync, (key, run.now()), command).await? {
                Said::Accepted { .. } | Said::AlreadyDone { .. } => {}
                Said::Busy { doing, .. } => {
                    why.push(format!("{place} is busy: {doing}"));
                    return Ok(false);
                }
                Said::Refused(refusal) => {
                    why.push(explained(&place, &refusal));
                    return Ok(false);
                }
                Said::Forbidden(cause) => {
                    why.push(cause);
                    return Ok(false);
                }
            }
        }
        // A file may say again what it said before; that is a deployment of its own.
        let number = known.as_ref().map_or(0, |known| known.revision);
        let key = SagaKey::new(format!("sync-{}-{}-{number}", short(spec), &digest[..16]));
        let key = key.map_err(|error| Failure::permanent("naming a deployment", error))?;
        if !as_written(&service, spec) {
            let input = Input {
                environment: spec.environment_id.clone(),
                service: spec.service_id.clone(),
                kind: Kind::Deploy,
                source: Asks::Sync,
                of: None,
                why: None,
                kinds: Vec::new(),
                approved_by: None,
                wanted: drift::wanted(spec, Some(state)),
            };
            let starting = Starting {
                tenant: service.docket.tenant.clone(),
                principal: self.desk.principal()?,
                definition: DEFINITION.to_owned(),
                key: key.clone(),
                input: serde_json::to_value(&input)
                    .map_err(|error| Failure::permanent("writing a deployment", error))?,
                trace: run.trace.clone(),
                causes: run.causes,
            };
            self.desk.ports.sagas.start(&starting).await?;
            did.push(format!("began to bring {place} as {key}"));
            why.push(format!("its file says {} now", spec.version));
        }
        // Begun before it is remembered as begun; a crash between the two begins the same saga.
        let next = Synced { spec: digest, saga: key };
        store::change(&*self.desk.ports.store, &space, &name, |there: Option<&Synced>| {
            (there != Some(&next)).then(|| next.clone())
        })
        .await?;
        Ok(settled(&service, spec))
    }
}

/// The services by wave, the first one first (F42). Nothing is ever taken away because it is written
/// down no more (F40), so there is no order for that.
fn waves<'a>(specs: impl Iterator<Item = &'a ServiceSpec>) -> BTreeMap<u32, Vec<&'a ServiceSpec>> {
    let mut waves: BTreeMap<u32, Vec<&ServiceSpec>> = BTreeMap::new();
    for spec in specs {
        waves.entry(spec.wave).or_default().push(spec);
    }
    waves
}

/// Whether what comes after it may come: it runs as written, nothing is under way, and nobody needs to
/// look after it.
fn settled(service: &Service, spec: &ServiceSpec) -> bool {
    let state = &service.docket.state;
    let stands = match state.standing {
        Standing::Open | Standing::Paused { .. } => true,
        Standing::Drained { .. } | Standing::Incident { .. } => false,
    };
    stands && state.under_way.is_none() && as_written(service, spec)
}

/// Whether the service runs as its file says, replicas of a policy apart.
fn as_written(service: &Service, spec: &ServiceSpec) -> bool {
    let state = &service.docket.state;
    state.current.as_ref().is_some_and(|current| {
        let replicas = state.governed.is_some() || state.replicas == spec.replicas;
        let configuration = spec.configuration.is_none() || current.configuration == spec.configuration;
        current.image == spec.image && replicas && configuration
    })
}

fn short(spec: &ServiceSpec) -> String {
    spec.service_id.as_str().chars().take(48).collect()
}

fn digest(spec: &ServiceSpec) -> Result<String, Failure> {
    let bytes = serde_json::to_vec(spec).map_err(|error| Failure::permanent("reading what is wanted", error))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests;
