//! `DriftDetectionWorker`: compares what runs with what is written down, keeps what it found, and has
//! put right what may be (R060–R076, W030–W036).
//!
//! What desired state does not name has another owner and is no drift: a configuration that was
//! published, secrets that are bound and rotated, replicas of a policy (H02). A correction is a
//! deployment of kind remediate: its saga asks the arbiter by `RemediateDrift`, and only after the
//! arbiter was asked here whether it would let it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use protocol::{SagaKey, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::{Report, Rhythm, Run, Worker};

use super::desk::{Desk, Ports};
use super::sagas::{Became, Starting};
use super::seen::Seen;
use super::telling::ALARM;
use crate::runtime::arbiter::{Command, Decision, Held, Request, Source};
use crate::runtime::compute::set::Limits;
use crate::runtime::deployment::claim::{Asks, Input, Kind};
use crate::runtime::deployment::record::{Wanted, Workload};
use crate::runtime::findings;
use crate::runtime::model::strategy::PROGRESS_DEADLINE;
use crate::runtime::model::{
    DeploymentId, DriftFinding, FindingHash, FindingState, Probe, ProbeSpec, RequestKey, Revision, SecretBinding,
    SecretBindingId, ServiceId, ServiceSpec,
};
use crate::runtime::place::{self, Place};
use crate::runtime::ports::desired::Empty;
use crate::runtime::probing::HealthProbe;
use crate::runtime::secrets;
use crate::runtime::store::{self, Space};
use crate::runtime::workers::drift::{Correction, Drift, DriftPolicy, Known, Look, detect};
use crate::runtime::workers::loop_alarm::{self, May, Row};
use crate::runtime::workers::triggers::Worker as Which;

/// The saga that puts things right.
pub(super) const DEFINITION: &str = "runtime_deployment";

/// The worker.
pub struct DriftDetection {
    desk: Desk,
    policy: DriftPolicy,
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
        Self { desk: Desk::new(ports.clone(), which), policy: DriftPolicy::default(), triggers: which.events() }
    }

    /// The same with another policy.
    #[must_use]
    pub fn policy(self, policy: DriftPolicy) -> Self {
        Self { policy, ..self }
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
        let policy = policy.unwrap_or_else(|| self.policy.clone());
        let read = desired.read(&environment.environment_id, Empty::Allowed).await?;
        if read.services.is_empty() && !policy.allow_empty {
            if memory.wanted {
                let why = format!("commit {} wants nothing any more; look at the repository (D202)", read.commit);
                return Err(Failure::named("DesiredStateEmpty", why));
            }
            return Ok(Report::unchanged(
                format!("{} services", seen.services.len()),
                "nothing is written down for it",
            ));
        }
        let bound = secrets::bindings(&*self.desk.ports.store, &run.worker.tenant, &environment.environment_id).await?;
        let specs: Vec<ServiceSpec> = read.services.into_values().map(|spec| self.owned(spec, &seen, &bound)).collect();
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
        memory.loops.retain(|service, _| drift.corrections.iter().any(|one| one.service_id == *service));
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

impl DriftDetection {
    /// `spec`, but for what has another owner (H02).
    fn owned(
        &self,
        mut spec: ServiceSpec,
        seen: &Seen,
        bound: &BTreeMap<SecretBindingId, SecretBinding>,
    ) -> ServiceSpec {
        let service = seen.look.services.iter().find(|it| it.place.service == spec.service_id);
        let runs = seen.services.iter().find(|it| it.service_id == spec.service_id);
        let observed = || runs.and_then(|runs| runs.configuration.clone());
        let held = |spec: &ServiceSpec| {
            let wanted = spec.configuration.clone().map(Held::Configuration);
            let holds = |service: &super::desk::Service| {
                service.docket.state.held.iter().any(|hold| Some(&hold.what) == wanted.as_ref())
            };
            service.is_some_and(holds)
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

    /// Says what was found and keeps it, in this order: what is kept has been said.
    async fn keep(
        &self,
        run: &Run,
        seen: &Seen,
        (policy, drift): (&DriftPolicy, &Drift),
        done: &mut Done,
    ) -> Result<(), Failure> {
        for finding in &drift.opened {
            let remedy = policy.remedy(finding.kind, seen.look.environment.stage);
            let payload = json!({
                "environmentId": finding.environment_id, "serviceId": finding.service_id, "finding": finding.hash,
                "kind": finding.kind, "field": finding.field, "desired": finding.desired,
                "observed": finding.observed, "opened": finding.opened, "remedy": remedy,
            });
            let about = [finding.hash.as_str(), &finding.opened.to_string()];
            self.desk.tell(run, &whose(run, seen, finding), "RuntimeDriftDetected", &about, payload).await?;
            done.did.push(format!("found {:?} of {}", finding.kind, finding.service_id));
            done.why.push(format!("{} is wanted, {} is there", finding.desired, finding.observed));
        }
        for (finding, corrected) in &drift.resolved {
            if *corrected {
                let payload = json!({
                    "environmentId": finding.environment_id, "serviceId": finding.service_id,
                    "finding": finding.hash, "kind": finding.kind, "opened": finding.opened,
                });
                let about = [finding.hash.as_str(), &finding.opened.to_string()];
                self.desk.tell(run, &whose(run, seen, finding), "RuntimeDriftRemediated", &about, payload).await?;
            }
            done.did.push(format!("closed {:?} of {}", finding.kind, finding.service_id));
        }
        let resolved = drift.resolved.iter().map(|(finding, _)| finding);
        for finding in drift.opened.iter().chain(&drift.changed).chain(resolved) {
            self.write(&run.worker.tenant, finding).await?;
        }
        Ok(())
    }

    /// A decision that a person made meanwhile stands.
    async fn write(&self, owner: &Tenant, next: &DriftFinding) -> Result<(), Failure> {
        let (space, name) = (Space::Of(owner.clone()), place::finding(&next.environment_id, &next.hash));
        store::change(&*self.desk.ports.store, &space, &name, |there: Option<&DriftFinding>| {
            let state = match there {
                Some(there) if there.is_open() && next.is_open() => there.state.clone(),
                Some(_) | None => next.state.clone(),
            };
            let next = DriftFinding { state, ..next.clone() };
            (there != Some(&next)).then_some(next)
        })
        .await?;
        Ok(())
    }

    /// Has one service put right, unless that is under way, or waits for somebody.
    #[allow(clippy::too_many_arguments, reason = "one run's view, handed on as it is")]
    async fn correct(
        &self,
        run: &Run,
        seen: &Seen,
        spec: &ServiceSpec,
        correction: &Correction,
        open: &BTreeMap<FindingHash, DriftFinding>,
        memory: &mut Memory,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let service = &correction.service_id;
        if correction.needs_approval {
            done.why.push(format!("{service} waits for an approval: `skald drift approve`"));
            return Ok(());
        }
        // What was written down since is no drift: it is brought, in its wave and with its strategy.
        let taken = seen.look.services.iter().find(|it| it.place.service == *service);
        let taken = taken.and_then(|it| it.docket.state.desired.as_ref());
        if taken.is_some_and(|(taken, _)| taken.image != spec.image) {
            done.why.push(format!("{service}: its file moved on, and is not brought yet"));
            return Ok(());
        }
        let place = Place {
            owner: run.worker.tenant.clone(),
            environment: spec.environment_id.clone(),
            service: service.clone(),
        };
        let tenant = whose_service(seen, service).unwrap_or_else(|| spec.tenant_id.clone());
        let (key, again) = match self.asked(&tenant, correction, open).await? {
            Asked::Never(key) => (key, false),
            Asked::Lost(key) => (key, true),
            Asked::Ended(key) => (key, false),
            Asked::UnderWay(key) => {
                done.why.push(format!("{service} is being put right by {key}"));
                return Ok(());
            }
        };
        let input = self.input(seen, spec, correction);
        if let Some(refused) = self.would_refuse(seen, &place, &tenant, &key, correction, &input, run).await? {
            done.why.push(refused);
            return Ok(());
        }
        if !again {
            let row = memory.loops.get(service).cloned().unwrap_or_default();
            let (next, may) = loop_alarm::want(&row, service.as_str(), correction.key.as_str(), run.now());
            match may {
                May::NotBefore(at) => {
                    done.why.push(format!("{service} was put right without effect, it is tried again at {at}"));
                    return Ok(());
                }
                May::AndTell(why) => {
                    let payload = json!({ "environmentId": spec.environment_id, "serviceId": service, "why": why });
                    self.desk
                        .tell(run, &tenant, ALARM, &[correction.key.as_str(), &next.times.to_string()], payload)
                        .await?;
                }
                May::Now => {}
            }
            memory.loops.insert(service.clone(), next);
        }
        // Marked before it is begun: whoever finds the mark and no saga begins it under the same key.
        let state = FindingState::Remediating {
            key: RequestKey::new(key.as_str()).map_err(faulty)?,
            since: run.now(),
            approved_by: correction.approved_by.clone(),
        };
        for hash in &correction.findings {
            self.mark(&run.worker.tenant, &spec.environment_id, hash, &state).await?;
        }
        let starting = Starting {
            tenant,
            principal: self.desk.principal()?,
            definition: DEFINITION.to_owned(),
            key: key.clone(),
            input: serde_json::to_value(&input).map_err(|error| Failure::permanent("writing a deployment", error))?,
            trace: run.trace.clone(),
            causes: run.causes,
        };
        self.desk.ports.sagas.start(&starting).await?;
        done.did.push(format!("had {service} put right by {key}"));
        done.why.push(format!("{:?} differ", correction.kinds));
        Ok(())
    }

    async fn mark(
        &self,
        owner: &Tenant,
        environment: &crate::runtime::model::EnvironmentId,
        hash: &FindingHash,
        state: &FindingState,
    ) -> Result<(), Failure> {
        let (space, name) = (Space::Of(owner.clone()), place::finding(environment, hash));
        let key = |state: &FindingState| match state {
            FindingState::Remediating { key, .. } => Some(key.clone()),
            FindingState::Open
            | FindingState::Accepted { .. }
            | FindingState::Approved { .. }
            | FindingState::Resolved { .. } => None,
        };
        store::change(&*self.desk.ports.store, &space, &name, |there: Option<&DriftFinding>| {
            let there = there?;
            (key(&there.state) != key(state)).then(|| DriftFinding { state: state.clone(), ..there.clone() })
        })
        .await?;
        Ok(())
    }

    /// What became of the same correction before. Each try has a key of its own: a saga that ended is
    /// not begun again.
    async fn asked(
        &self,
        tenant: &Tenant,
        correction: &Correction,
        open: &BTreeMap<FindingHash, DriftFinding>,
    ) -> Result<Asked, Failure> {
        let marked = correction.findings.iter().filter_map(|hash| match &open.get(hash)?.state {
            FindingState::Remediating { key, .. } => Some(key.as_str().to_owned()),
            FindingState::Open
            | FindingState::Accepted { .. }
            | FindingState::Approved { .. }
            | FindingState::Resolved { .. } => None,
        });
        let base = saga_key(correction, 1)?;
        let Some(key) = marked.max().filter(|key| same_correction(key, base.as_str())) else {
            return Ok(Asked::Never(base));
        };
        let key = SagaKey::new(&key).map_err(|error| Failure::permanent("naming a correction", error))?;
        match self.desk.ports.sagas.became(tenant, &key).await? {
            None => Ok(Asked::Lost(key)),
            Some(Became::UnderWay) => Ok(Asked::UnderWay(key)),
            Some(Became::Ended(_)) => {
                let number = key.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(1u32);
                Ok(Asked::Ended(saga_key(correction, number.saturating_add(1))?))
            }
        }
    }

    /// What the saga is told.
    fn input(&self, seen: &Seen, spec: &ServiceSpec, correction: &Correction) -> Input {
        let service = seen.look.services.iter().find(|it| it.place.service == spec.service_id);
        let governed = service.and_then(|service| service.docket.state.governed);
        let has = service.map_or(spec.replicas, |service| service.docket.state.replicas);
        let secrets = spec.secrets.keys().map(|binding| (binding.clone(), 0)).collect();
        Input {
            environment: spec.environment_id.clone(),
            service: spec.service_id.clone(),
            kind: Kind::Remediate,
            source: Asks::Drift,
            of: None,
            why: None,
            kinds: correction.kinds.clone(),
            approved_by: correction.approved_by.clone(),
            wanted: Wanted {
                artifact: Some(spec.image.clone()),
                version: Some(spec.version.clone()),
                // H02.
                replicas: Some(governed.map_or(spec.replicas, |range| range.nearest(has))),
                workload: workload(spec),
                configuration: None,
                configuration_at: spec.configuration.clone(),
                secrets,
            },
        }
    }

    /// What the arbiter would say against it. Asked before a saga is begun, so that what is refused
    /// makes no noise; the saga asks again.
    #[allow(clippy::too_many_arguments, reason = "one question, with all that it is about")]
    async fn would_refuse(
        &self,
        seen: &Seen,
        place: &Place,
        tenant: &Tenant,
        key: &SagaKey,
        correction: &Correction,
        input: &Input,
        run: &Run,
    ) -> Result<Option<String>, Failure> {
        let stage = seen.look.environment.stage;
        let docket = self.desk.arbitration.open(place, tenant, stage).await?;
        let Some(image) = input.wanted.artifact.clone() else { return Ok(None) };
        let to = Revision {
            deployment_id: DeploymentId::new("asked").map_err(faulty)?,
            image,
            version: input.wanted.version.clone().unwrap_or_default(),
            replicas: input.wanted.replicas.unwrap_or(1),
            configuration: input.wanted.configuration_at.clone(),
            secrets: input.wanted.secrets.clone(),
        };
        let request = Request {
            key: RequestKey::new(format!("ask:{key}")).map_err(faulty)?,
            source: Source::Drift,
            by: self.desk.principal()?,
            asked_at: run.now(),
            command: Command::RemediateDrift {
                to,
                kinds: correction.kinds.clone(),
                approved_by: correction.approved_by.clone(),
            },
        };
        Ok(match self.desk.arbitration.decide(&docket, &request) {
            Decision::Accepted { .. } | Decision::AlreadyDone { .. } => None,
            Decision::Busy { doing, .. } => Some(format!("{place} is busy: {doing:?}")),
            Decision::Refused(refusal) => Some(format!("{place}: {refusal}; {}", refusal.mend())),
        })
    }
}

/// What became of a correction that was asked for before.
enum Asked {
    /// It never was; this is its key.
    Never(SagaKey),
    /// It was to be, and nobody began it.
    Lost(SagaKey),
    /// It goes on.
    UnderWay(SagaKey),
    /// It has ended without effect; this is the key of the next try.
    Ended(SagaKey),
}

fn faulty(fault: crate::runtime::model::Fault) -> Failure {
    Failure::permanent("naming a correction", fault)
}

/// A saga's key is shorter than the names in it may be together. The number of the try is at its end.
fn saga_key(correction: &Correction, number: u32) -> Result<SagaKey, Failure> {
    let what = correction.key.as_str().rsplit('/').next().unwrap_or_default();
    let service: String = correction.service_id.as_str().chars().take(48).collect();
    SagaKey::new(format!("drift-{service}-{what}-{number}"))
        .map_err(|error| Failure::permanent("naming a correction", error))
}

/// Whether both keys are of one correction, whatever the try.
fn same_correction(one: &str, other: &str) -> bool {
    let of = |key: &'_ str| key.rsplit_once('-').map(|(of, _)| of.to_owned());
    of(one) == of(other)
}

/// How a service runs, as it is written down.
pub(super) fn workload(spec: &ServiceSpec) -> Workload {
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
    let of = |service: &super::desk::Service| {
        let (state, name) = (&service.docket.state, service.place.service.clone());
        let held: BTreeSet<_> = state
            .held
            .iter()
            .filter_map(|hold| match &hold.what {
                Held::Image(image) => Some(image.clone()),
                Held::Configuration(_) => None,
            })
            .collect();
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
#[path = "drift_tests.rs"]
mod tests;
