//! Having one service put right: by a saga of its own, once the arbiter said that it would let it.

use std::collections::BTreeMap;

use protocol::{SagaKey, Tenant, Time};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::Run;

use super::{Done, DriftDetection, Memory, wanted, whose_service};
use crate::runtime::arbiter::{Command, Decision, Request, Source};
use crate::runtime::arbitration::{Asker, explained};
use crate::runtime::control::loop_alarm::{self, May};
use crate::runtime::control::sagas::{Became, Starting};
use crate::runtime::control::telling::ALARM;
use crate::runtime::deployment::DEFINITION;
use crate::runtime::deployment::claim::{Asks, Input, Kind};
use crate::runtime::model::{DeploymentId, DriftFinding, FindingHash, FindingState, RequestKey, Revision, ServiceSpec};
use crate::runtime::records::ownership::NAME_TAKEN;
use crate::runtime::records::place::Place;
use crate::runtime::workers::drift::decide::Correction;
use crate::runtime::workers::drift::seen::Seen;

impl DriftDetection {
    /// Has one service put right, unless that is under way, or waits for somebody.
    #[allow(clippy::too_many_arguments, reason = "one run's view, handed on as it is")]
    pub(super) async fn correct(
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
                May::AndTell(_) => {
                    let why = without_effect(correction, open, row.times);
                    self.give_up(run, seen, &place, &tenant, (correction.key.as_str(), row.at, why)).await?;
                    // Whoever closes the incident lets it be tried again.
                    memory.loops.remove(service);
                    done.did.push(format!("gave {service} up: it was put right {} times without effect", row.times));
                    return Ok(());
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
        let kinds: Vec<_> = correction.kinds.iter().map(ToString::to_string).collect();
        done.why.push(format!("{} differ", kinds.join(", ")));
        Ok(())
    }

    /// Tells people that what was `last` done about a service does not help, and leaves it to them.
    async fn give_up(
        &self,
        run: &Run,
        seen: &Seen,
        place: &Place,
        tenant: &Tenant,
        (about, last, why): (&str, Time, String),
    ) -> Result<(), Failure> {
        let payload = json!({ "environmentId": place.environment, "serviceId": place.service, "why": why });
        self.desk.tell(run, tenant, ALARM, &[about, &last.to_string()], payload).await?;
        let request = Request {
            key: RequestKey::new(format!("{about}/{}", last.as_micros())).map_err(faulty)?,
            source: Source::Drift,
            by: self.desk.principal()?,
            asked_at: run.now(),
            command: Command::Strand { why },
        };
        let asker = Asker { tenant: tenant.clone(), trace: run.trace.clone(), saga: run.key.clone() };
        self.desk.arbitration.ask(place, &asker, seen.look.environment.stage, &request).await?;
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
        Input {
            environment: spec.environment_id.clone(),
            service: spec.service_id.clone(),
            kind: Kind::Remediate,
            source: Asks::Drift,
            of: None,
            why: None,
            kinds: correction.kinds.clone(),
            approved_by: None,
            wanted: wanted(spec, service.map(|service| &service.docket.state)),
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
        let docket = match self.desk.arbitration.open(place, tenant, stage).await {
            Ok(docket) => docket,
            Err(taken) if taken.error == NAME_TAKEN => return Ok(Some(taken.cause)),
            Err(error) => return Err(error),
        };
        let Some(image) = input.wanted.artifact.clone() else { return Ok(None) };
        let to = Revision {
            deployment_id: DeploymentId::new("asked").map_err(faulty)?,
            image,
            version: input.wanted.version.clone().unwrap_or_default(),
            replicas: input.wanted.replicas.unwrap_or(1),
            configuration: input.wanted.configuration_at.clone(),
            secrets: input.wanted.secrets.clone(),
            restarts: 0,
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
            Decision::Busy { doing, .. } => Some(format!("{place} is busy: {doing}")),
            Decision::Refused(refusal) => Some(explained(place, &refusal)),
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

/// What is as before, although it was put right.
fn without_effect(correction: &Correction, open: &BTreeMap<FindingHash, DriftFinding>, times: u32) -> String {
    let findings = correction.findings.iter().filter_map(|hash| open.get(hash));
    let differs = findings.map(|finding| {
        let DriftFinding { kind, desired, observed, .. } = finding;
        format!("{kind}: {desired} is wanted, {observed} is there")
    });
    let differs: Vec<_> = differs.collect();
    format!("drift was corrected {times} times without effect; {}", differs.join("; "))
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
