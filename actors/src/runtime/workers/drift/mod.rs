//! `DriftDetectionWorker`: compares what runs with what is written down, keeps what it found, and has
//! put right what may be (R060–R076, W030–W036).
//!
//! What desired state does not name has another owner and is no drift: a configuration that was
//! published, secrets that are bound and rotated, replicas of a policy (H02). A correction is a
//! deployment of kind remediate: its saga asks the arbiter by `RemediateDrift`, and only after the
//! arbiter was asked here whether it would let it.

mod compare;
mod correcting;
pub mod decide;
mod keeping;
mod seen;

use std::collections::BTreeMap;

use async_trait::async_trait;
use protocol::Tenant;
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;
use supervisor::worker::{Report, Rhythm, Run, Worker};

use crate::runtime::arbiter::ServiceState;
use crate::runtime::compute::set::Limits;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::desk::{Desk, Ports};
use crate::runtime::control::loop_alarm::Row;
use crate::runtime::model::strategy::PROGRESS_DEADLINE;
use crate::runtime::model::{
    DriftFinding, FindingHash, Probe, ProbeSpec, SecretBinding, SecretBindingId, ServiceId, ServiceSpec,
};
use crate::runtime::ports::desired::Empty;
use crate::runtime::probing::HealthProbe;
use crate::runtime::records::deployments::{Wanted, Workload};
use crate::runtime::records::findings;
use crate::runtime::records::secrets;
use crate::runtime::workers::drift::decide::{Known, Look, detect};
use crate::runtime::workers::drift::seen::Seen;

/// The worker.
pub struct DriftDetection {
    desk: Desk,
    triggers: Vec<&'static str>,
}

/// What it remembers from one run to the next; losing it costs a look.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Memory {
    /// Whether anything was ever wanted here: then nothing at all is a mistake (D202).
    wanted: bool,
    /// How often the same correction was tried.
    loops: BTreeMap<ServiceId, Row>,
}

/// What a run did, for its report.
#[derive(Default)]
struct Done {
    did: Vec<String>,
    why: Vec<String>,
}

impl DriftDetection {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Which::DriftDetectionWorker;
        Self { desk: Desk::new(ports.clone(), which), triggers: which.events() }
    }
}

#[async_trait]
impl Worker for DriftDetection {
    fn kind(&self) -> &str {
        self.desk.worker.kind()
    }

    fn rhythm(&self) -> Rhythm {
        self.desk.worker.rhythm()
    }

    fn triggers(&self) -> &[&str] {
        &self.triggers
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        let Some(desired) = &self.desk.ports.desired else {
            return Ok(Report::unchanged("", "nobody says where desired state is written down"));
        };
        let Some(seen) = self.desk.seen(run).await? else {
            return Ok(Report::unchanged("", "the environment is not there"));
        };
        let environment = &seen.look.environment;
        let mut memory: Memory = serde_json::from_value(run.remembered.clone()).unwrap_or_default();
        let policy = findings::policy(&*self.desk.ports.store, &run.worker.tenant, &environment.environment_id).await?;
        let policy = policy.unwrap_or_default();
        let read = desired.read(&environment.environment_id, Empty::Allowed).await?;
        if read.services.is_empty() && !policy.allow_empty {
            if memory.wanted {
                let why = format!(
                    "commit {} wants nothing any more, which would leave what runs to nobody (D202); look at the repository, or allow it (`skald drift policy set --environment {} --allow-empty`)",
                    read.commit, environment.environment_id
                );
                return Err(Failure::named("DesiredStateEmpty", why));
            }
            return Ok(Report::unchanged(
                format!("{} services", seen.services.len()),
                "nothing is written down for it",
            ));
        }
        let bound = secrets::bindings(&*self.desk.ports.store, &run.worker.tenant, &environment.environment_id).await?;
        let specs: Vec<ServiceSpec> = read.services.into_values().map(|spec| owned(spec, &seen, &bound)).collect();
        let known = known(&seen);
        let findings = findings::all(&*self.desk.ports.store, &run.worker.tenant, &environment.environment_id).await?;
        let findings: BTreeMap<FindingHash, DriftFinding> =
            findings.into_iter().map(|finding| (finding.hash.clone(), finding)).collect();
        let drift = detect(
            &Look {
                environment: &environment.environment_id,
                stage: environment.stage,
                desired: &specs,
                observed: &seen.services,
                known: &known,
                findings: &findings,
                policy: &policy,
            },
            run.now(),
        )
        .map_err(|fault| Failure::named("DesiredStateEmpty", fault.to_string()))?;
        let mut done = Done::default();
        self.keep(run, &seen, (&policy, &drift), &mut done).await?;
        let before = memory.clone();
        memory.wanted = true;
        let opened = drift.opened.iter().map(|finding| (finding.hash.clone(), finding.clone()));
        let open: BTreeMap<_, _> = findings.into_iter().chain(opened).collect();
        for correction in &drift.corrections {
            let spec = specs.iter().find(|spec| spec.service_id == correction.service_id);
            if let Some(spec) = spec {
                self.correct(run, &seen, spec, correction, &open, &mut memory, &mut done).await?;
            }
        }
        // What is on its way may yet turn out to have changed nothing.
        let still = |service: &ServiceId| drift.corrections.iter().any(|one| one.service_id == *service);
        memory.loops.retain(|service, _| still(service) || drift.unsettled.contains(service));
        let saw = format!(
            "{} services, {} wanted at {}, {} findings open",
            seen.services.len(),
            specs.len(),
            &read.commit.as_str()[..12],
            open.len().saturating_sub(drift.resolved.len()),
        );
        let report = match done.did.is_empty() {
            true if done.why.is_empty() => Report::unchanged(saw, "all is as it was"),
            true => Report::unchanged(saw, done.why.join("; ")),
            false => Report::changed(saw, done.did.join(", "), done.why.join("; ")),
        };
        let report = report.count("opened", drift.opened.len() as u64).count("resolved", drift.resolved.len() as u64);
        if memory == before {
            return Ok(report);
        }
        let remember = serde_json::to_value(&memory).map_err(|error| Failure::permanent("remembering", error))?;
        Ok(report.remember(remember))
    }
}

/// `spec`, but for what has another owner (H02).
fn owned(mut spec: ServiceSpec, seen: &Seen, bound: &BTreeMap<SecretBindingId, SecretBinding>) -> ServiceSpec {
    let service = seen.look.services.iter().find(|it| it.place.service == spec.service_id);
    let runs = seen.services.iter().find(|it| it.service_id == spec.service_id);
    let observed = || runs.and_then(|runs| runs.configuration.clone());
    // Where the image runs, it is its configuration that was rolled back.
    let held = |spec: &ServiceSpec| {
        let runs = runs.is_some_and(|runs| runs.image == spec.image);
        let holds = |service: &crate::runtime::control::desk::Service| {
            service.docket.state.held.iter().any(|hold| hold.what.is_wanted_by(spec))
        };
        runs && service.is_some_and(holds)
    };
    if spec.configuration.is_none() || held(&spec) {
        spec.configuration = observed();
    }
    for (id, binding) in bound {
        // The version is the rotation's, whatever was current when somebody wrote it down.
        if binding.bound.contains(&spec.service_id) || spec.secrets.contains_key(id) {
            let runs = runs.and_then(|runs| runs.secrets.get(id).copied());
            // One that is bound comes with the next deployment.
            if runs.is_none() && binding.bound.contains(&spec.service_id) {
                spec.secrets.remove(id);
            } else {
                spec.secrets.insert(id.clone(), 0);
            }
        }
    }
    spec
}

/// What a deployment is told of a service that is written down. While a policy governs its replicas,
/// they are as many as there are, within the policy's bounds (H02).
pub(super) fn wanted(spec: &ServiceSpec, state: Option<&ServiceState>) -> Wanted {
    let governed = state.and_then(|state| Some(state.governed?.nearest(state.replicas)));
    Wanted {
        artifact: Some(spec.image.clone()),
        version: Some(spec.version.clone()),
        replicas: Some(governed.unwrap_or(spec.replicas)),
        workload: workload(spec),
        configuration: None,
        configuration_at: spec.configuration.clone(),
        secrets: spec.secrets.keys().map(|binding| (binding.clone(), 0)).collect(),
    }
}

fn workload(spec: &ServiceSpec) -> Workload {
    let http = |probe: &ProbeSpec| match &probe.probe {
        Probe::Http { path, .. } => Some(HealthProbe {
            path: path.clone(),
            timeout_ms: u64::try_from(probe.timeout.as_millis()).unwrap_or(u64::MAX),
        }),
        Probe::Tcp { .. } | Probe::Grpc { .. } | Probe::Command { .. } => None,
    };
    Workload {
        command: spec.command.clone(),
        ports: Vec::new(),
        limits: Limits::default(),
        probe: spec.probes.iter().find_map(http),
        probes: spec.probes.clone(),
        target: spec.target,
        strategy: spec.strategy.clone(),
        progress_deadline: PROGRESS_DEADLINE,
    }
}

/// What the arbiters know that is no drift.
fn known(seen: &Seen) -> BTreeMap<ServiceId, Known> {
    let of = |service: &crate::runtime::control::desk::Service| {
        let (state, name) = (&service.docket.state, service.place.service.clone());
        let held = state.held.iter().map(|hold| hold.what.clone()).collect();
        let under_way = state.under_way.is_some() || seen.moving.contains(&name);
        // Everything was looked at just now.
        let known = Known { governed: state.governed, held, under_way, settled_at: None };
        (name, known)
    };
    seen.look.services.iter().map(of).collect()
}

fn whose_service(seen: &Seen, service: &ServiceId) -> Option<Tenant> {
    seen.look.services.iter().find(|it| it.place.service == *service).map(|it| it.docket.tenant.clone())
}

/// Who hears about a finding: whose service it is, or else whose environment.
fn whose(run: &Run, seen: &Seen, finding: &DriftFinding) -> Tenant {
    whose_service(seen, &finding.service_id).unwrap_or_else(|| run.worker.tenant.clone())
}

#[cfg(test)]
mod tests;
