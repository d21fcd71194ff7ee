//! What a deployment is to do, from what is wanted and what the arbiter knows: read on one state, so
//! that it fits the decision made on the same state.

use std::collections::BTreeMap;

use protocol::{Principal, Time, Value};
use supervisor::activity::{Attempt, Failure};

use super::claim::{Asks, Input, Kind};
use super::desk::{Desk, Entered, deployment_id, faulty, request_key};
use crate::runtime::arbiter::{Action, Command, Hold, Refusal, Request, ServiceState};
use crate::runtime::arbitration::refused;
use crate::runtime::model::{
    ConfigurationRef, Deployment, DeploymentId, DeploymentKind, DeploymentState, Digest, Fault, Release, Revision,
    RuntimeConfiguration, SecretBindingId, ServiceId,
};
use crate::runtime::records::configurations;
use crate::runtime::records::deployments::{Baseline, Record, Running, Wanted, hex_of};
use crate::runtime::records::docket::Docket;
use crate::runtime::records::findings;
use crate::runtime::records::ownership::{self, Owned};
use crate::runtime::records::place::Place;
use crate::runtime::records::secrets::bindings;

/// Replicas of a service that was never told how many.
const REPLICAS: u32 = 1;
/// How much of a digest people are shown.
const SHORT: usize = 12;

/// A plan and what to ask for it. Nothing of it is written yet.
pub(super) struct Planned {
    pub(super) record: Record,
    pub(super) request: Request,
    /// The configuration that comes with it; to be kept once the arbiter lets it come.
    pub(super) configuration: Option<configurations::Next>,
}

/// Plans on `seen`. `at` is when it was first asked.
pub(super) async fn plan(
    desk: &Desk,
    attempt: &Attempt,
    entered: &Entered,
    seen: &Docket,
    input: &Input,
    at: Time,
) -> Result<Planned, Failure> {
    let id = deployment_id(attempt)?;
    let state = &seen.state;
    let begin = Begin { attempt, place: &entered.place, id: &id, at };
    let (record, configuration, command) = match input.kind {
        Kind::Deploy => {
            let (record, next) = deploy(desk, entered, seen, &input.wanted, DeploymentKind::Deploy, &begin).await?;
            let to = record.comes.revision.clone();
            (record, next, Command::Deploy { to, anew: false })
        }
        Kind::Remediate => {
            let wanted = as_it_ran(desk, entered, state, &input.wanted).await?;
            let (record, next) = deploy(desk, entered, seen, &wanted, DeploymentKind::Remediate, &begin).await?;
            let (to, kinds) = (record.comes.revision.clone(), input.kinds.clone());
            let approved_by = approval(desk, entered, state, input, &to).await?;
            (record, next, Command::RemediateDrift { to, kinds, approved_by })
        }
        Kind::Restore => {
            let (record, command) = restore(desk, entered, state, input, &begin).await?;
            (record, None, command)
        }
    };
    let record = Record { asked: Some(replayable(input, &record)?), ..record };
    let request = Request {
        key: request_key("deploy", &id)?,
        source: input.source.into(),
        by: attempt.principal.clone(),
        asked_at: at,
        command,
    };
    Ok(Planned { record, request, configuration })
}

/// Who approved that the service is brought to `to`. That is what the findings say; who asks cannot say it.
async fn approval(
    desk: &Desk,
    entered: &Entered,
    state: &ServiceState,
    input: &Input,
    to: &Revision,
) -> Result<Option<Principal>, Failure> {
    let runs = state.current.as_ref().map(|current| &current.image);
    let approved = findings::approval(&*desk.ports.store, &entered.place, &input.kinds, runs, to).await?;
    match &input.approved_by {
        // Sagas of earlier releases say it, and what they say is what the findings say.
        Some(said) if approved.as_ref() != Some(said) => {
            let why = format!(
                "approvedBy is not said but read from the findings of {}, and they do not say {said}; leave it out, and have the drift approved: `skald drift approve`",
                entered.place
            );
            Err(Failure::named(findings::NOT_APPROVED, why))
        }
        Some(_) | None => Ok(approved),
    }
}

/// What was asked, as it can be asked again: a configuration that came with it has a version by now.
fn replayable(input: &Input, record: &Record) -> Result<Value, Failure> {
    let mut input = Input { approved_by: None, ..input.clone() };
    if input.wanted.configuration.as_ref().is_some_and(|entries| !entries.is_empty()) {
        input.wanted.configuration = None;
        input.wanted.configuration_at = record.comes.revision.configuration.clone();
    }
    serde_json::to_value(&input).map_err(|error| Failure::permanent("keeping what was asked", error))
}

async fn deploy(
    desk: &Desk,
    entered: &Entered,
    seen: &Docket,
    wanted: &Wanted,
    kind: DeploymentKind,
    begin: &Begin<'_>,
) -> Result<(Record, Option<configurations::Next>), Failure> {
    let state = &seen.state;
    wanted.workload.check().map_err(faulty)?;
    let Some(image) = wanted.artifact.clone() else {
        return Err(faulty(Fault::new("artifact", "it is missing", "name what to deploy")));
    };
    let current = state.current.as_ref();
    let entries = wanted.configuration.as_ref().filter(|_| wanted.configuration_at.is_none());
    let store = &*desk.ports.store;
    let mut next = None;
    let configuration = match entries {
        None if wanted.configuration_at.is_some() => {
            let at = wanted.configuration_at.clone();
            readable(desk, entered, seen, at.as_ref()).await?;
            at
        }
        None => match current {
            Some(current) => current.configuration.clone(),
            // What was published before there was anything that could run on it.
            None => configurations::newest(store, &entered.place).await?.map(|sync| sync.newest),
        },
        Some(entries) if entries.is_empty() => None,
        Some(entries) => {
            let coming = next.insert(configurations::next(store, &entered.place, entries).await?);
            Some(coming.version.at.clone())
        }
    };
    let secrets = secrets(desk, entered, seen, &wanted.secrets).await?;
    let before = if current.is_some() { state.replicas } else { REPLICAS };
    let revision = Revision {
        deployment_id: begin.id.clone(),
        version: wanted.version.clone().unwrap_or_else(|| hex_of(&image)[..SHORT].to_owned()),
        image,
        replicas: wanted.replicas.unwrap_or(before),
        configuration,
        secrets,
        restarts: 0,
    };
    held_before(desk, entered, state, &revision, next.as_ref()).await?;
    let previous = match current {
        Some(current) => {
            // As many as it was given last, whatever its deployment asked for.
            let current = Revision { replicas: state.replicas, ..current.clone() };
            Some(running(desk, entered, &current, &current.deployment_id).await?)
        }
        None => None,
    };
    let from = current.map(|current| current.image.clone());
    let comes = Running::new(revision, wanted.workload.clone());
    // What cannot run is refused before anything of it is written.
    let set = match &next {
        Some(next) => comes.set_with(Some(next.version.clone()), &entered.place, &seen.tenant)?,
        None => comes.set(store, &entered.place, &seen.tenant).await?,
    };
    set.check()?;
    Ok((begin.record(kind, from, comes, previous), next))
}

/// Refuses what was rolled back under an older number of the same configuration: numbers only grow, and what fails
/// does not because it is said again.
async fn held_before(
    desk: &Desk,
    entered: &Entered,
    state: &ServiceState,
    coming: &Revision,
    next: Option<&configurations::Next>,
) -> Result<(), Failure> {
    let Some(at) = &coming.configuration else { return Ok(()) };
    let as_held = |hold: &&Hold| {
        let Release { image, configuration, secrets } = &hold.what;
        *image == coming.image && *secrets == coming.secrets && configuration.as_ref().is_some_and(|held| held != at)
    };
    let held: Vec<&Hold> = state.held.iter().filter(as_held).collect();
    if held.is_empty() {
        return Ok(());
    }
    let known = configurations::versions(&*desk.ports.store, &entered.place).await?;
    let of = |at: &ConfigurationRef| known.iter().find(|version| version.at == *at).map(RuntimeConfiguration::digest);
    let Some(content) = next.map(|next| next.version.digest()).or_else(|| of(at)) else { return Ok(()) };
    let same = |hold: &&&Hold| hold.what.configuration.as_ref().and_then(of).as_ref() == Some(&content);
    match held.iter().find(same) {
        Some(hold) => Err(refused(&entered.place, &Refusal::Held((*hold).clone()))),
        None => Ok(()),
    }
}

/// What is wanted, with all that nobody wrote down as it ran: ports and limits are no drift.
async fn as_it_ran(desk: &Desk, entered: &Entered, state: &ServiceState, wanted: &Wanted) -> Result<Wanted, Failure> {
    let Some(current) = &state.current else { return Ok(wanted.clone()) };
    let ran = running(desk, entered, current, &current.deployment_id).await?.workload;
    let mut wanted = wanted.clone();
    let given = std::mem::replace(&mut wanted.workload, ran);
    if !given.command.is_empty() {
        wanted.workload.command = given.command;
    }
    wanted.workload.probe = given.probe.or(wanted.workload.probe);
    (wanted.workload.strategy, wanted.workload.target) = (given.strategy, given.target);
    Ok(wanted)
}

/// A version that is named is one of the service's own, or of another service of the same tenant.
async fn readable(desk: &Desk, entered: &Entered, seen: &Docket, at: Option<&ConfigurationRef>) -> Result<(), Failure> {
    let Some(at) = at else { return Ok(()) };
    let service = ServiceId::new(at.configuration_id.as_str()).map_err(faulty)?;
    let of = Place { service, ..entered.place.clone() };
    match ownership::whose(&*desk.ports.store, &of, &seen.tenant).await? {
        Owned::Ours => Ok(()),
        Owned::Free | Owned::Theirs => {
            let why = format!("the configuration {at} is not there for {}; name one of its own", entered.place);
            Err(Failure::named("ConfigurationMissing", why))
        }
    }
}

/// The secrets that are named, and those that the service is bound to. 0 stands for the version that
/// counts. Secrets are the environment's owner's, and reach no other tenant's processes.
async fn secrets(
    desk: &Desk,
    entered: &Entered,
    seen: &Docket,
    named: &BTreeMap<SecretBindingId, u64>,
) -> Result<BTreeMap<SecretBindingId, u64>, Failure> {
    let place = &entered.place;
    let known = bindings(&*desk.ports.store, &place.owner, &place.environment).await?;
    let own = seen.tenant == place.owner;
    let bound = known.values().filter(|known| own && known.bound.contains(&place.service));
    let mut secrets: BTreeMap<_, _> = bound.map(|known| (known.secret_binding_id.clone(), known.version)).collect();
    for (binding, version) in named {
        let Some(known) = known.get(binding).filter(|_| own) else {
            let mend = match own {
                true => "keep it first: `skald secret put`",
                false => "secrets of an environment are for its owner's own services",
            };
            let why = format!("there is no secret {binding} in {} for {}; {mend}", place.environment, place.service);
            return Err(Failure::named("SecretMissing", why));
        };
        secrets.insert(binding.clone(), if *version == 0 { known.version } else { *version });
    }
    Ok(secrets)
}

async fn restore(
    desk: &Desk,
    entered: &Entered,
    state: &ServiceState,
    input: &Input,
    begin: &Begin<'_>,
) -> Result<(Record, Command), Failure> {
    let coming = state.under_way.as_ref().and_then(|under_way| match &under_way.action {
        Action::Deploying { to, .. } | Action::Remediating { to, .. } => Some((under_way.sequence, to)),
        Action::Restoring { .. }
        | Action::Stopping { .. }
        | Action::Scaling { .. }
        | Action::Configuring { .. }
        | Action::Refreshing { .. }
        | Action::Restarting { .. }
        | Action::Draining { .. }
        | Action::Removing { .. } => None,
    });
    // What comes is what must go; else what runs.
    let goes = coming.map(|(_, to)| to).or(state.current.as_ref());
    let Some(goes) = goes else {
        let why = format!("nothing runs as {}; deploy it first", entered.place);
        return Err(Failure::named("NothingRuns", why));
    };
    let of = input.of.clone().unwrap_or_else(|| goes.deployment_id.clone());
    let why = input.why.clone().unwrap_or_else(|| format!("{} wants it back", begin.attempt.principal));
    let command = Command::RollbackDeployment { of: of.clone(), deployment_id: begin.id.clone(), why };
    let kind = DeploymentKind::Restore;
    let from = Some(goes.image.clone());
    if let Some((sequence, to)) = coming.filter(|(_, to)| to.deployment_id == of) {
        let there = running(desk, entered, to, &to.deployment_id).await?;
        let record = begin.record(kind, from, there, None);
        return Ok((Record { stops: Some(sequence), ..record }, command));
    }
    let now = running(desk, entered, goes, &goes.deployment_id).await?;
    let record = match state.way_back() {
        Some(back) => {
            let known = running(desk, entered, &back, &back.deployment_id).await?;
            let back = Revision { deployment_id: begin.id.clone(), ..back };
            begin.record(kind, from, Running::new(back, known.workload), Some(now))
        }
        // A person is asked first; whoever looks after health takes what is bad out of the traffic (H08).
        None if input.source == Asks::Operator => {
            let Place { environment, service, .. } = &entered.place;
            let why = format!(
                "no other revision of {} completed and is not held, so there is nothing to go back to; deploy one, or take it out of the traffic: `skald services drain {service} --environment {environment}`",
                entered.place
            );
            return Err(Failure::named("NoWayBack", why));
        }
        None => Record { nowhere: true, ..begin.record(kind, from, now, None) },
    };
    Ok((record, command))
}

/// A record that begins.
struct Begin<'a> {
    attempt: &'a Attempt,
    place: &'a Place,
    id: &'a DeploymentId,
    at: Time,
}

impl Begin<'_> {
    fn record(&self, kind: DeploymentKind, from: Option<Digest>, comes: Running, previous: Option<Running>) -> Record {
        let Self { attempt, place, id, at } = *self;
        let deployment = Deployment {
            deployment_id: id.clone(),
            service_id: place.service.clone(),
            kind,
            from,
            to: comes.revision.clone(),
            state: DeploymentState::Provisioning,
            by: attempt.principal.clone(),
            at,
            why: None,
        };
        Record {
            deployment,
            tenant: attempt.saga.tenant.clone(),
            saga: attempt.saga.to_string(),
            comes,
            previous,
            unchanged: false,
            stops: None,
            given_up: false,
            nowhere: false,
            rollout: None,
            baseline: Baseline::default(),
            suspended: false,
            resumes: 0,
            heard: 0,
            bound: Vec::new(),
            asked: None,
            trace: Some(attempt.trace.clone()),
        }
    }
}

/// What the deployment `id` brought, as `revision` says today.
async fn running(desk: &Desk, entered: &Entered, revision: &Revision, id: &DeploymentId) -> Result<Running, Failure> {
    match Running::of(&*desk.ports.store, &entered.place, revision, id).await? {
        Some(running) => Ok(running),
        None => {
            let why = format!("how {} {} ran is not known any more; deploy it anew", entered.place, revision.version);
            Err(Failure::named("RecordMissing", why))
        }
    }
}
