//! `SecretRotationWorker`: rotates secrets that are due or that somebody wants rotated: create, set,
//! test, finish, and retire when every bound workload runs on the new version (W043–W049, F52, F53,
//! H23).
//!
//! What is told about a step is told before the step is remembered as taken, under an id of its own;
//! each step is safe to repeat. A step that fails ends the run, and the run's own tries come with
//! pauses; how often it failed stands in the rotation, so that no crash grants more (W048).

pub mod decide;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::{Report, Retry, Rhythm, Run, Worker};

use crate::runtime::arbiter::{Answered, Command, Doing, Outcome, Refusal, Source};
use crate::runtime::arbitration::explained;
use crate::runtime::control::cards::Worker as Kind;
use crate::runtime::control::desk::{Desk, Look, Ports, Service};
use crate::runtime::control::loop_alarm::PAUSE_MAX;
use crate::runtime::control::telling::ALARM;
use crate::runtime::control::{Carried, Said};
use crate::runtime::model::rotation::{Phase, Rotation, Step};
use crate::runtime::model::{EnvironmentId, RequestKey, SecretBinding, ServiceId};
use crate::runtime::ports::secrets::{SecretName, SecretVersions};
use crate::runtime::records::place;
use crate::runtime::records::secrets::{bindings, reference};
use crate::runtime::store::{self, Space};
use crate::runtime::workers::configuration::{asked, numbered};
use crate::runtime::workers::secrets::decide::{Do, Heard, due};

/// How often it looks whether a secret is due, or a workload came to confirm.
const EVERY: Duration = Duration::from_secs(30);

/// The shortest pause before a workload that did not take a version is asked again; doubled each time.
const PAUSE: Duration = Duration::from_secs(15);

/// The worker.
pub struct SecretRotation {
    desk: Desk,
    triggers: Vec<&'static str>,
}

/// One secret in one run.
struct Turn<'a> {
    run: &'a Run,
    look: &'a Look,
    values: &'a dyn SecretVersions,
    binding: SecretBinding,
    at: SecretName,
    rotation: Rotation,
}

/// What a run did, for its report.
#[derive(Default)]
struct Done {
    did: Vec<String>,
    why: Vec<String>,
    /// The step that is to be tried again by the run's next attempt.
    failed: Option<Failure>,
}

impl SecretRotation {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Kind::SecretRotationWorker;
        Self { desk: Desk::new(ports.clone(), which), triggers: which.events() }
    }
}

#[async_trait]
impl Worker for SecretRotation {
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
        let environment = look.environment.environment_id.clone();
        let all = bindings(&*self.desk.ports.store, &run.worker.tenant, &environment).await?;
        let saw = format!("{} secrets", all.len());
        let values = &*self.desk.ports.secrets;
        let mut done = Done::default();
        for mut binding in all.into_values() {
            // What an earlier release let another tenant's service use, reaches it no more.
            let ours = |service: &ServiceId| {
                let known = look.services.iter().find(|it| it.place.service == *service);
                known.is_none_or(|known| known.docket.tenant == run.worker.tenant)
            };
            binding.bound.retain(ours);
            let at = reference(&environment, &binding.secret_binding_id)?;
            if let Some(mut turn) = self.turn(run, &look, values, binding, at).await? {
                self.go_on(&mut turn, &mut done).await?;
            }
        }
        match (done.failed, done.did.is_empty()) {
            (Some(failed), _) => Err(failed),
            (None, true) if done.why.is_empty() => Ok(Report::unchanged(saw, "none is due")),
            (None, true) => Ok(Report::unchanged(saw, done.why.join("; "))),
            (None, false) => Ok(Report::changed(saw, done.did.join(", "), done.why.join("; "))),
        }
    }
}

impl SecretRotation {
    /// The rotation that goes on, or one that begins now. `None`: there is nothing to do.
    async fn turn<'a>(
        &self,
        run: &'a Run,
        look: &'a Look,
        values: &'a dyn SecretVersions,
        binding: SecretBinding,
        at: SecretName,
    ) -> Result<Option<Turn<'a>>, Failure> {
        let known = self.rotation(run, &binding).await?;
        if let Some(rotation) = known.clone().filter(Rotation::goes_on) {
            return Ok(Some(Turn { run, look, values, binding, at, rotation }));
        }
        let Some(described) = values.describe(&at).await? else { return Ok(None) };
        let waits = described.labels.pending.filter(|pending| Some(*pending) > described.labels.current);
        if !due(&binding, run.now()) && binding.requested.is_none() && waits.is_none() {
            return Ok(None);
        }
        let (mut rotation, _) = Rotation::begin(&binding);
        // Numbers go on where versions were thrown away; one that was put is the one that comes.
        let next = described.versions.iter().map(|version| version.number).max().unwrap_or(0) + 1;
        rotation.to = waits.unwrap_or(next);
        let turn = Turn { run, look, values, binding, at, rotation };
        self.keep(&turn, known.as_ref()).await?;
        Ok(Some(turn))
    }

    async fn rotation(&self, run: &Run, binding: &SecretBinding) -> Result<Option<Rotation>, Failure> {
        let name = place::rotation(&binding.environment_id, &binding.secret_binding_id);
        let space = Space::Of(run.worker.tenant.clone());
        Ok(store::read(&*self.desk.ports.store, &space, &name).await?.map(|read| read.value))
    }

    /// Remembers where it stands, unless somebody else got on with it from `before`.
    async fn keep(&self, turn: &Turn<'_>, before: Option<&Rotation>) -> Result<(), Failure> {
        let name = place::rotation(&turn.binding.environment_id, &turn.binding.secret_binding_id);
        let (space, store) = (Space::Of(turn.run.worker.tenant.clone()), &*self.desk.ports.store);
        let there = store::read::<Rotation>(store, &space, &name).await?;
        if there.as_ref().map(|there| &there.value) != before {
            return Err(store::Error::Stale { name }.into());
        }
        if before != Some(&turn.rotation) {
            store::write(store, &space, &name, &turn.rotation, there.map_or(0, |there| there.revision)).await?;
        }
        Ok(())
    }

    /// Goes on with a rotation as far as it gets now.
    async fn go_on(&self, turn: &mut Turn<'_>, done: &mut Done) -> Result<(), Failure> {
        let mut acts: VecDeque<Do> = turn.rotation.resume().into();
        acts.extend(self.hear(turn, Heard::Bound(turn.binding.bound.clone()), done).await?);
        acts.extend(self.hear(turn, Heard::Tick, done).await?);
        acts.extend(self.confirmed(turn, done).await?);
        let mut taken = BTreeSet::new();
        while let Some(act) = acts.pop_front() {
            match act {
                Do::Step(step) => {
                    if !taken.insert(step) {
                        continue;
                    }
                    let heard = match self.step(turn, step).await {
                        Ok(()) => Heard::Done(step),
                        Err(failure) if failure.permanent => Heard::Refused(step, failure.cause),
                        Err(failure) => {
                            let cause = failure.cause.clone();
                            done.failed = Some(failure);
                            Heard::Failed(step, cause)
                        }
                    };
                    let again = matches!(heard, Heard::Failed(..));
                    if !again {
                        done.did.push(format!("{step:?} of version {} of {}", turn.rotation.to, turn.at));
                    }
                    let more = self.hear(turn, heard, done).await?;
                    // The same step again comes with the run's next attempt, after its pause.
                    acts.extend(more.into_iter().filter(|act| !again || *act != Do::Step(step)));
                }
                Do::Refresh(services, version) => {
                    for service in services {
                        self.refresh(turn, &service, version, done).await?;
                    }
                    acts.extend(self.confirmed(turn, done).await?);
                }
                // Said when they were heard of.
                Do::SayRotated(_) | Do::Alert(_) => {}
            }
        }
        Ok(())
    }

    /// Says what follows, and then remembers it.
    async fn hear(&self, turn: &mut Turn<'_>, heard: Heard, done: &mut Done) -> Result<Vec<Do>, Failure> {
        let (next, acts) = turn.rotation.hear(heard, turn.run.now());
        if next == turn.rotation {
            return Ok(acts);
        }
        let (environment, id) = (&turn.binding.environment_id, &turn.binding.secret_binding_id);
        let owner = &turn.run.worker.tenant;
        let number = next.to.to_string();
        for act in &acts {
            match act {
                Do::SayRotated(version) => {
                    let payload = json!({
                        "environmentId": environment, "secretBindingId": id, "version": version, "from": next.from,
                        "services": next.bound,
                    });
                    let about = [environment.as_str(), id.as_str(), &number];
                    self.desk.tell(turn.run, owner, "SecretRotated", &about, payload).await?;
                    done.why.push(format!("version {version} of {} opens", turn.at));
                }
                Do::Alert(why) => {
                    let payload = json!({ "environmentId": environment, "secretBindingId": id, "why": why });
                    let about = [environment.as_str(), id.as_str(), &number, why];
                    self.desk.tell(turn.run, owner, ALARM, &about, payload).await?;
                    done.why.push(why.clone());
                }
                Do::Step(_) | Do::Refresh(..) => {}
            }
        }
        let before = std::mem::replace(&mut turn.rotation, next);
        self.keep(turn, Some(&before)).await?;
        Ok(acts)
    }

    /// Carries out a step.
    async fn step(&self, turn: &Turn<'_>, step: Step) -> Result<(), Failure> {
        let (values, at, to) = (turn.values, &turn.at, turn.rotation.to);
        match step {
            Step::Create => {
                let described = values.describe(at).await?;
                if described.is_some_and(|known| known.versions.iter().any(|version| version.number == to)) {
                    return Ok(());
                }
                let token = turn.rotation.key(Step::Create);
                let token = token.map_err(|fault| Failure::permanent("naming a version", fault))?;
                match values.make(at, &token).await? {
                    number if number == to => Ok(()),
                    number => {
                        let why = format!("version {number} of {at} came instead of {to}; rotate it again");
                        Err(Failure::named("VersionTaken", why))
                    }
                }
            }
            Step::Set => values.set(at, to).await,
            Step::Test => values.test(at, to).await,
            Step::Finish => {
                let described = values.describe(at).await?;
                let seen = described.map(|known| known.labels).unwrap_or_default();
                values.set_labels(at, seen, seen.with_current(to)).await?;
                self.current(turn, to).await
            }
            Step::Retire => values.retire(at, turn.rotation.from).await,
            Step::Discard => {
                values.destroy(at, to).await?;
                self.current(turn, turn.rotation.from).await
            }
        }
    }

    /// The binding knows which version counts, and the wish is fulfilled.
    async fn current(&self, turn: &Turn<'_>, version: u64) -> Result<(), Failure> {
        let space = Space::Of(turn.run.worker.tenant.clone());
        let name = format!("{}/{}", place::secrets(&turn.binding.environment_id), turn.binding.secret_binding_id);
        let now = turn.run.now();
        store::change(&*self.desk.ports.store, &space, &name, |there: Option<&SecretBinding>| {
            let there = there?;
            let rotated_at = if there.version == version { there.rotated_at } else { now };
            let next = SecretBinding { version, rotated_at, requested: None, ..there.clone() };
            (*there != next).then_some(next)
        })
        .await?;
        Ok(())
    }

    /// Which workloads run on the new version, or will when they run at all.
    async fn confirmed(&self, turn: &mut Turn<'_>, done: &mut Done) -> Result<Vec<Do>, Failure> {
        let mut acts = Vec::new();
        match turn.rotation.phase {
            // Before the commit nothing is confirmed: what is deployed meanwhile gets the old version.
            Phase::Doing { .. } | Phase::Done | Phase::Kept { .. } => return Ok(acts),
            Phase::Confirming { .. } => {}
        }
        for service in turn.rotation.waiting() {
            let known = turn.look.services.iter().find(|it| it.place.service == service);
            let now = match known {
                Some(known) => self.desk.again(known).await?,
                None => None,
            };
            let id = &turn.binding.secret_binding_id;
            let state = now.as_ref().map(|now| &now.docket.state);
            // Something that comes may bring the version that was current when it was begun.
            let idle = state.is_none_or(|state| state.under_way.is_none());
            let runs = state.and_then(|state| state.current.as_ref()?.secrets.get(id).copied());
            let confirmed = runs.map_or(idle, |runs| runs >= turn.rotation.to && idle);
            if confirmed {
                let to = turn.rotation.to;
                acts.extend(self.hear(turn, Heard::Confirmed(service, to), done).await?);
            }
        }
        Ok(acts)
    }

    /// Has one workload use the version.
    async fn refresh(
        &self,
        turn: &Turn<'_>,
        service: &ServiceId,
        version: u64,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let Some(known) = turn.look.services.iter().find(|it| it.place.service == *service) else { return Ok(()) };
        let Some(now) = self.desk.again(known).await? else { return Ok(()) };
        let place = &now.place;
        let key = refresh_key(&place.environment, &turn.rotation, service)?;
        if let Carried::Done { outcome, .. } = self.desk.carry(turn.run, &now, &[Doing::Refreshing]).await? {
            done.did.push(format!("{place} and its secret: {}", outcome));
        }
        let Some(now) = self.desk.again(&now).await? else { return Ok(()) };
        let tries = tries(&now, &key);
        let (key, asked_at) = match tries.last() {
            None => (key, self.finished_at(turn).await?),
            Some(last) => {
                let times = u32::try_from(tries.len()).unwrap_or(u32::MAX);
                let again_at = last.at.after(PAUSE.saturating_mul(2u32.saturating_pow(times)).min(PAUSE_MAX));
                if again_at > turn.run.now() {
                    done.why.push(format!("{place} did not take it {times} times, it is tried again at {again_at}"));
                    return Ok(());
                }
                (numbered(&key, tries.len())?, last.at)
            }
        };
        let command = Command::RefreshSecret { secret_binding_id: turn.binding.secret_binding_id.clone(), version };
        match self.desk.ask(turn.run, &now, Source::Secrets, (key, asked_at), command).await? {
            Said::Accepted { .. } => match self.desk.carry(turn.run, &now, &[Doing::Refreshing]).await? {
                Carried::Done { outcome, .. } => {
                    done.did.push(format!("brought version {version} of {} to {place}: {}", turn.at, outcome));
                }
                Carried::Waiting { why, .. } => {
                    done.did.push(format!("began to bring version {version} of {} to {place}", turn.at));
                    done.why.push(why);
                }
                Carried::Nothing => {}
            },
            Said::AlreadyDone { .. } => {}
            Said::Busy { doing, .. } => done.why.push(format!("{place} is busy: {doing}")),
            // It takes the current version up when it is deployed.
            Said::Refused(refusal) if matches!(*refusal, Refusal::NotBound | Refusal::NothingRuns) => {}
            Said::Refused(refusal) => done.why.push(explained(place, &refusal)),
            Said::Forbidden(cause) => done.why.push(cause),
        }
        Ok(())
    }

    /// When the new version became current: the same in every repetition of what follows from it.
    async fn finished_at(&self, turn: &Turn<'_>) -> Result<protocol::Time, Failure> {
        let all = bindings(&*self.desk.ports.store, &turn.run.worker.tenant, &turn.binding.environment_id).await?;
        Ok(all.get(&turn.binding.secret_binding_id).map_or_else(|| turn.run.now(), |known| known.rotated_at))
    }
}

/// Tries that ended without the new version, oldest first; each has a key of its own.
fn tries<'a>(service: &'a Service, key: &RequestKey) -> Vec<&'a Answered> {
    let in_vain = |answered: &&Answered| match &answered.outcome {
        Some(Outcome::RolledBack { .. } | Outcome::Failed { .. } | Outcome::Stuck { .. }) => true,
        Some(Outcome::Succeeded | Outcome::Differs { .. }) | None => false,
    };
    asked(service, key).filter(in_vain).collect()
}

fn refresh_key(environment: &EnvironmentId, rotation: &Rotation, service: &ServiceId) -> Result<RequestKey, Failure> {
    RequestKey::new(format!("refresh/{environment}/{}/{}/{service}", rotation.secret_binding_id, rotation.to))
        .map_err(|fault| Failure::permanent("naming a refresh", fault))
}

#[cfg(test)]
mod tests;
