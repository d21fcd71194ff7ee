//! `deployment.claim` and `deployment.release`: the service's arbiter is asked for the deployment,
//! and told its end when it does not end well.
//!
//! What is to be done is written down before the arbiter is asked, so that whoever finds the claim
//! accepted finds the plan too. The undo tells the arbiter how it ended: as failed when nothing had
//! been rolled out, as rolled back otherwise, after which what it brought stays away (H01).

use std::time::Duration;

use async_trait::async_trait;
use protocol::{Principal, Value};
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};
use tracing::info;

use super::desk::{Desk, Entered, request_key, undo_id};
use super::inventory;
use super::plan::{Planned, plan};
use super::rollout::GIVEN_UP;
use crate::runtime::arbiter::{Action, Command, Decision, Outcome, Request, ServiceState, Source};
use crate::runtime::arbitration::{BUSY, REFUSED, Written};
use crate::runtime::model::{DeploymentId, DeploymentKind, DeploymentState, DriftKind, EnvironmentId, ServiceId};
use crate::runtime::records::deployments::{Record, Wanted};
use crate::runtime::records::place::Place;
use crate::runtime::records::{configurations, ownership};
use crate::runtime::store::{self, Error, TRIES};

/// How often something that was told to stop is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What kind of deployment it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Something comes.
    #[default]
    Deploy,
    /// The last good revision comes back (H07).
    Restore,
    /// What is wanted comes back (R064).
    Remediate,
}

/// For which part it is asked. A body may claim to be less than a person, never more: a person may
/// do all that these may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Asks {
    /// A person.
    #[default]
    Operator,
    /// The reader of desired state.
    Sync,
    /// `RuntimeHealthWorker`.
    Health,
    /// `DriftDetectionWorker`.
    Drift,
}

impl From<Asks> for Source {
    fn from(asks: Asks) -> Self {
        match asks {
            Asks::Operator => Self::Operator,
            Asks::Sync => Self::Sync,
            Asks::Health => Self::Health,
            Asks::Drift => Self::Drift,
        }
    }
}

/// What is asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Where.
    pub environment: EnvironmentId,
    /// What.
    pub service: ServiceId,
    /// Which kind.
    #[serde(default)]
    pub kind: Kind,
    /// For which part.
    #[serde(default)]
    pub source: Asks,
    /// Which deployment must go; the one that comes or runs when absent.
    #[serde(default)]
    pub of: Option<DeploymentId>,
    /// Why it must go.
    #[serde(default)]
    pub why: Option<String>,
    /// What differs from what is wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<DriftKind>,
    /// Who approved that it is put right, as earlier releases said it. The findings say it (R073), and
    /// anything else is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Principal>,
    /// What comes.
    #[serde(flatten)]
    pub wanted: Wanted,
}

/// What was claimed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The version that comes; where all there is to do is to stop another deployment, the one that runs. Empty: none.
    pub version: String,
    /// The version that goes; empty: none.
    pub previous: String,
    /// Whether anything is to be done.
    pub changes: bool,
}

/// The activity.
pub struct Claim {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Claim {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "deployment.claim";
    const UNDO: Option<&'static str> = Some("deployment.release");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let body = serde_json::to_value(&input).unwrap_or(Value::Null);
        let entered = self.desk.enter(attempt, Self::NAME, &input.environment, &input.service, body).await?;
        let (environment, binding) = (&entered.granted.environment.value, entered.granted.binding.as_ref());
        if let Err(fault) = environment.may_deploy(&attempt.saga.tenant, binding) {
            return Err(Failure::named("NotProvisioned", fault.to_string()));
        }
        // Before anything is written under the name, and were it only a version of its configuration.
        let (store, clock) = (&*self.desk.ports.store, &*self.desk.ports.clock);
        let claim = self.claim(attempt, &entered, &input);
        let record = ownership::writing(store, clock, &entered.place, &attempt.saga.tenant, claim).await??;
        let (deployment, changes) = (record.deployment.deployment_id.clone(), !record.idle());
        let comes = record.comes.revision.version;
        let Some(stops) = record.stops else {
            let previous = record.previous.map(|there| there.revision.version).unwrap_or_default();
            return Ok(Output { deployment, version: comes, previous, changes });
        };
        self.stopped(attempt, &entered, stops).await?;
        let seen = self.desk.arbitration.look(&entered.place).await?;
        let runs = seen.and_then(|seen| seen.value.state.current);
        let version = runs.map(|runs| runs.version).unwrap_or_default();
        Ok(Output { deployment, version, previous: comes, changes })
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        let body = serde_json::to_value(&input).unwrap_or(Value::Null);
        let what = "deployment.release";
        let entered = self.desk.enter_back(attempt, what, &input.environment, &input.service, body).await;
        let entered = match entered {
            Ok(entered) => entered,
            // Who was not let in has claimed nothing.
            Err(refused) if refused.permanent => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(mut read) = self.desk.record(attempt, &entered.place).await? else { return Ok(()) };
        if read.value.idle() {
            return Ok(());
        }
        let why = read.value.deployment.why.clone().unwrap_or_else(|| GIVEN_UP.to_owned());
        let outcome = |under: &Action| match under {
            // What goes has gone.
            Action::Stopping { .. } => Outcome::Succeeded,
            Action::Deploying { .. }
            | Action::Remediating { .. }
            | Action::Restoring { .. }
            | Action::Scaling { .. }
            | Action::Configuring { .. }
            | Action::Refreshing { .. }
            | Action::Restarting { .. }
            | Action::Draining { .. }
            | Action::Removing { .. } => match read.value.rollout {
                Some(_) if !read.value.given_up => Outcome::RolledBack { why: why.clone() },
                Some(_) | None => Outcome::Failed { why: why.clone() },
            },
        };
        finish(&self.desk, &entered, &read.value, outcome).await?;
        inventory::update(&self.desk, &entered.place, &attempt.saga.tenant).await?;
        let ended = match read.value.rollout.is_some() && read.value.previous.is_some() {
            true => DeploymentState::RolledBack,
            false => DeploymentState::Failed,
        };
        self.desk.change(&entered.place, &mut read, |record| record.deployment.state = ended).await
    }
}

impl Claim {
    async fn claim(&self, attempt: &Attempt, entered: &Entered, input: &Input) -> Result<Record, Failure> {
        let (place, desk) = (&entered.place, &self.desk);
        let stage = entered.granted.environment.value.stage;
        let mut lost = Error::Stale { name: place.docket() };
        for _ in 0..TRIES {
            let seen = desk.arbitration.open(place, &attempt.saga.tenant, stage).await?;
            let known = desk.record(attempt, place).await?;
            if let Some(known) = &known
                && (known.value.idle() || accepted(&seen.value.state, &known.value)?)
            {
                return Ok(known.value.clone());
            }
            let at = known.as_ref().map_or_else(|| desk.ports.clock.now(), |known| known.value.deployment.at);
            let Planned { mut record, mut request, configuration } =
                plan(desk, attempt, entered, &seen.value, input, at).await?;
            let mut decision = desk.arbitration.decide(&seen, &request);
            if let (Decision::AlreadyDone { sequence: None }, Command::Deploy { anew, .. }) =
                (&decision, &mut request.command)
                && !self.runs(place, &seen.value.state, &record).await?
            {
                *anew = true;
                decision = desk.arbitration.decide(&seen, &request);
            }
            match &decision {
                Decision::Accepted { .. } => {
                    let wanted = record.comes.revision.replicas;
                    desk.tenancy.room(&entered.granted, place, &attempt.saga.tenant, wanted).await?;
                }
                Decision::AlreadyDone { .. } => record.unchanged = true,
                Decision::Busy { .. } | Decision::Refused(_) => {}
            }
            match &decision {
                Decision::Accepted { .. } | Decision::AlreadyDone { .. } => {
                    if let Some(next) = &configuration {
                        match configurations::keep(&*desk.ports.store, place, next).await {
                            Ok(()) => {}
                            Err(stale @ Error::Stale { .. }) => {
                                lost = stale;
                                continue;
                            }
                            Err(error) => return Err(error.into()),
                        }
                    }
                    let (name, revision) =
                        (place.deployment(&record.deployment.deployment_id), known.map_or(0, |it| it.revision));
                    match store::write(&*desk.ports.store, &place.space(), &name, &record, revision).await {
                        Ok(_) => {}
                        Err(stale @ Error::Stale { .. }) => {
                            lost = stale;
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Decision::Busy { .. } | Decision::Refused(_) => {}
            }
            match desk.arbitration.write(place, &entered.asker, &seen, &request, decision).await? {
                Written::Done(_) => return Ok(record),
                Written::Lost(stale) => lost = stale,
            }
        }
        Err(lost.into())
    }

    /// Whether what the arbiter knows as running is seen running: a deployment of the same brings what is not.
    async fn runs(&self, place: &Place, state: &ServiceState, record: &Record) -> Result<bool, Failure> {
        let Some(running) = &record.previous else { return Ok(true) };
        let observed = self.desk.ports.compute.observe(place.environment.as_str()).await?;
        let differs = observed.differs(&running.asked(place, state));
        if let Some(differs) = &differs {
            info!(%place, differs.why, "it is recorded as running, and is brought anew");
        }
        Ok(differs.is_none())
    }

    /// Waits until what was told to stop has ended, and says whether that is what was wanted.
    async fn stopped(&self, attempt: &Attempt, entered: &Entered, sequence: u64) -> Result<(), Failure> {
        loop {
            attempt.heartbeat.beat();
            let Some(seen) = self.desk.arbitration.look(&entered.place).await? else { return Ok(()) };
            let state = seen.value.state;
            if state.under_way.as_ref().is_none_or(|under_way| under_way.sequence != sequence) {
                let answered = state.answered.iter().find(|answered| answered.sequence == sequence);
                return match answered.and_then(|answered| answered.outcome.clone()) {
                    Some(Outcome::Succeeded) => {
                        let why = "it was completed before it could be stopped; roll back once more";
                        Err(Failure::named(REFUSED, format!("{}: {why}", entered.place)))
                    }
                    Some(Outcome::Stuck { why } | Outcome::Differs { why }) => {
                        Err(Failure::named(REFUSED, format!("{}: {why}", entered.place)))
                    }
                    Some(Outcome::RolledBack { .. } | Outcome::Failed { .. }) | None => Ok(()),
                };
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether the arbiter has accepted the deployment before.
fn accepted(state: &ServiceState, record: &Record) -> Result<bool, Failure> {
    let key = request_key("deploy", &record.deployment.deployment_id)?;
    Ok(state.answered.iter().any(|answered| answered.key == key))
}

/// Tells the arbiter the end of whatever it has under way for this deployment.
pub(super) async fn finish(
    desk: &Desk,
    entered: &Entered,
    record: &Record,
    outcome: impl Fn(&Action) -> Outcome,
) -> Result<(), Failure> {
    let Some(seen) = desk.arbitration.look(&entered.place).await? else { return Ok(()) };
    let id = &record.deployment.deployment_id;
    let (claimed, taken_back) = (request_key("deploy", id)?, request_key("undo", id)?);
    let Some(under_way) = seen.value.state.under_way else { return Ok(()) };
    let outcome = match &under_way.key {
        key if *key == claimed => outcome(&under_way.action),
        // It had been completed, and was taken back nevertheless.
        key if *key == taken_back => match outcome(&under_way.action) {
            Outcome::Stuck { why } | Outcome::Differs { why } => Outcome::Stuck { why },
            Outcome::Succeeded | Outcome::RolledBack { .. } | Outcome::Failed { .. } => Outcome::Succeeded,
        },
        _ => return Ok(()),
    };
    let request = Request {
        key: request_key(
            "finish",
            &DeploymentId::new(format!("{}.{}", id, under_way.sequence)).map_err(super::desk::faulty)?,
        )?,
        source: Source::Runner,
        by: record.deployment.by.clone(),
        asked_at: desk.ports.clock.now(),
        command: Command::Finished { sequence: under_way.sequence, outcome },
    };
    let stage = entered.granted.environment.value.stage;
    desk.arbitration.ask(&entered.place, &entered.asker, stage, &request).await?;
    Ok(())
}

/// Whose the service is, when something is to be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// This deployment's: nobody else acts on it.
    Ours,
    /// Somebody else's, or nobody's any more: what is there is none of our business.
    Gone,
}

/// Makes sure that the service is this deployment's to take back: it is under way, or it was
/// completed and its way back is claimed now.
pub(super) async fn own(desk: &Desk, entered: &Entered, record: &Record, why: &str) -> Result<Whose, Failure> {
    let place = &entered.place;
    let id = &record.deployment.deployment_id;
    let Some(seen) = desk.arbitration.look(place).await? else { return Ok(Whose::Gone) };
    let (claimed, taken_back) = (request_key("deploy", id)?, request_key("undo", id)?);
    let state = seen.value.state;
    match &state.under_way {
        Some(under_way) if under_way.key == claimed || under_way.key == taken_back => return Ok(Whose::Ours),
        Some(_) | None => {}
    }
    let back_already = match record.deployment.kind {
        // The last good revision is back; nobody wants the bad one again.
        DeploymentKind::Restore => true,
        DeploymentKind::Deploy | DeploymentKind::Remediate => false,
    };
    if back_already || state.current.as_ref().is_none_or(|current| current.deployment_id != *id) {
        return Ok(Whose::Gone);
    }
    let back = undo_id(id)?;
    if let Some(previous) = &record.previous {
        // What the arbiter will call it from then on must be known when it is asked for.
        let mut copy = record.clone();
        copy.comes = previous.clone();
        copy.comes.revision.deployment_id = back.clone();
        copy.deployment.deployment_id = back.clone();
        copy.deployment.to = copy.comes.revision.clone();
        let name = place.deployment(&back);
        store::change(&*desk.ports.store, &place.space(), &name, |there: Option<&Record>| match there {
            Some(_) => None,
            None => Some(copy.clone()),
        })
        .await?;
    }
    let request = Request {
        key: taken_back.clone(),
        source: Source::Operator,
        by: record.deployment.by.clone(),
        asked_at: desk.ports.clock.now(),
        command: Command::RollbackDeployment { of: id.clone(), deployment_id: back, why: why.to_owned() },
    };
    let stage = entered.granted.environment.value.stage;
    let answer = desk.arbitration.ask(place, &entered.asker, stage, &request).await;
    match answer {
        Ok(answer) if answer.state.under_way.as_ref().is_some_and(|it| it.key == taken_back) => Ok(Whose::Ours),
        Ok(_) => Ok(Whose::Gone),
        // Somebody else acts on it just now; afterwards it is looked at again.
        Err(busy) if busy.error == BUSY => Err(Failure::transient("taking it back", busy.cause)),
        Err(other) => Err(other),
    }
}
