//! What may begin, and what is only taken down.

use protocol::Time;

use super::command::{Command, Request, Source};
use super::decision::{Act, Refusal};
use super::state::{Action, ServiceState, Standing};
use crate::runtime::model::deployment::shortened;
use crate::runtime::model::service::REPLICAS_MAX;
use crate::runtime::model::{DriftKind, Fault, Release, Revision, Stage};

/// What a request begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// Nothing: it is so already.
    Nothing,
    /// This.
    Action(Action),
    /// This, and what goes may not come again.
    Away {
        /// What.
        action: Action,
        /// What may not come again, and why.
        hold: (Release, String),
        /// Why somebody must look, when they must.
        incident: Option<String>,
    },
}

/// What `request` begins while nothing is under way.
pub(super) fn begin(state: &ServiceState, request: &Request) -> Result<Begin, Refusal> {
    match &request.command {
        Command::Deploy { to, anew } => deploy(state, request.source, to, *anew),
        Command::RollbackDeployment { of, deployment_id, why } => {
            let current = state.current.as_ref().ok_or(Refusal::NothingRuns)?;
            if current.deployment_id != *of {
                return Err(Refusal::NotRunning);
            }
            let back = state.way_back().map(|to| Revision { deployment_id: deployment_id.clone(), ..to });
            Ok(away(current, back, why))
        }
        Command::RemediateDrift { to, kinds, approved_by } => {
            remediate(state, request.source, to, kinds, approved_by.is_some())
        }
        Command::Scale { to, observed } => scale(state, request.source, *to, *observed),
        Command::ApplyConfiguration { to } => {
            let current = state.current.as_ref().ok_or(Refusal::NothingRuns)?;
            match &current.configuration {
                Some(runs) if runs == to => return Ok(Begin::Nothing),
                Some(runs) if runs.configuration_id == to.configuration_id && runs.version > to.version => {
                    return Err(Refusal::Older { running: runs.version, asked: to.version });
                }
                Some(_) | None => {}
            }
            let coming = Revision { configuration: Some(to.clone()), ..current.clone() };
            if let Some(hold) = state.hold_on(&coming) {
                return Err(Refusal::Held(hold.clone()));
            }
            Ok(Begin::Action(Action::Configuring { from: current.configuration.clone(), to: to.clone() }))
        }
        Command::RefreshSecret { secret_binding_id, version } => {
            let current = state.current.as_ref().ok_or(Refusal::NothingRuns)?;
            let runs = *current.secrets.get(secret_binding_id).ok_or(Refusal::NotBound)?;
            match runs.cmp(version) {
                std::cmp::Ordering::Equal => Ok(Begin::Nothing),
                std::cmp::Ordering::Greater => Err(Refusal::Older { running: runs, asked: *version }),
                std::cmp::Ordering::Less => {
                    let secret_binding_id = secret_binding_id.clone();
                    Ok(Begin::Action(Action::Refreshing { secret_binding_id, from: runs, to: *version }))
                }
            }
        }
        Command::Restart => {
            let current = state.current.as_ref().ok_or(Refusal::NothingRuns)?;
            Ok(Begin::Action(Action::Restarting { to: current.restarts + 1 }))
        }
        Command::Drain { why } => match state.current {
            Some(_) if matches!(state.standing, Standing::Drained { .. }) => Ok(Begin::Nothing),
            Some(_) => Ok(Begin::Action(Action::Draining { why: shortened(why) })),
            None => Err(Refusal::NothingRuns),
        },
        Command::Remove { saga } => Ok(Begin::Action(Action::Removing { saga: saga.clone() })),
        // The table never sends these here.
        Command::Finished { .. }
        | Command::Abandon { .. }
        | Command::DesiredState { .. }
        | Command::Govern { .. }
        | Command::ClearHold { .. }
        | Command::Pause { .. }
        | Command::Strand { .. }
        | Command::Resume => Err(Refusal::NotUnderWay),
    }
}

fn deploy(state: &ServiceState, source: Source, to: &Revision, anew: bool) -> Result<Begin, Refusal> {
    may_come(state, source, to)?;
    let same = state.current.as_ref().is_some_and(|current| {
        // Replicas that a policy owns are no reason to deploy (H02).
        current.runs_as(to) && (state.governed.is_some() || state.replicas == to.replicas)
    });
    match same && !anew {
        true => Ok(Begin::Nothing),
        false => Ok(Begin::Action(Action::Deploying { from: state.current.clone(), to: to.clone() })),
    }
}

fn remediate(
    state: &ServiceState,
    source: Source,
    to: &Revision,
    kinds: &[DriftKind],
    approved: bool,
) -> Result<Begin, Refusal> {
    may_come(state, source, to)?;
    let production = match state.stage {
        Stage::Prod => true,
        Stage::Dev | Stage::Test | Stage::Staging => false,
    };
    // The worker has asked the policy; that production and unclear cases need a yes holds here too.
    let unclear = kinds.iter().any(|kind| match kind {
        DriftKind::Unmanaged | DriftKind::Missing | DriftKind::Held => true,
        DriftKind::Image | DriftKind::Replicas | DriftKind::Configuration | DriftKind::Secret => false,
    });
    if (production || unclear) && !approved {
        return Err(Refusal::NotApproved);
    }
    match state.governed {
        Some(range) if kinds.iter().all(|kind| *kind == DriftKind::Replicas) && range.holds(state.replicas) => {
            Err(Refusal::Owned(range))
        }
        // That our own record says it runs is no reason not to act: what was seen says otherwise.
        Some(_) | None => Ok(Begin::Action(Action::Remediating { from: state.current.clone(), to: to.clone() })),
    }
}

/// What neither drift nor sync nor a person may bring.
fn may_come(state: &ServiceState, source: Source, to: &Revision) -> Result<(), Refusal> {
    to.check().map_err(Refusal::Faulty)?;
    if let Some(hold) = state.hold_on(to) {
        return Err(Refusal::Held(hold.clone()));
    }
    match (source, &state.desired) {
        // Decided on a desired state that has moved on meanwhile.
        (Source::Sync | Source::Drift, Some((desired, _))) if desired.image != to.image => {
            Err(Refusal::NotDesired { asked: to.image.clone(), desired: desired.image.clone() })
        }
        (
            Source::Operator
            | Source::Sync
            | Source::Drift
            | Source::Health
            | Source::Scaling
            | Source::Configuration
            | Source::Secrets
            | Source::Runner,
            Some(_) | None,
        ) => Ok(()),
    }
}

fn scale(state: &ServiceState, source: Source, to: u32, observed: u32) -> Result<Begin, Refusal> {
    if state.current.is_none() {
        return Err(Refusal::NothingRuns);
    }
    let by_policy = match source {
        Source::Scaling => true,
        Source::Operator
        | Source::Sync
        | Source::Drift
        | Source::Health
        | Source::Configuration
        | Source::Secrets
        | Source::Runner => false,
    };
    match (state.governed, by_policy) {
        (None, true) => return Err(Refusal::NotGoverned),
        (Some(range), false) => return Err(Refusal::Owned(range)),
        (Some(range), true) if !range.holds(to) => return Err(Refusal::OutOfRange { asked: to, range }),
        (None, false) if to > REPLICAS_MAX => {
            let mend = format!("use 0 to {REPLICAS_MAX}");
            return Err(Refusal::Faulty(Fault::new("replicas", format!("{to} are asked for"), mend)));
        }
        (Some(_), true) | (None, false) => {}
    }
    // H20: what was seen counts, not only what was last asked for.
    match to == state.replicas && to == observed {
        true => Ok(Begin::Nothing),
        false => Ok(Begin::Action(Action::Scaling { from: observed, to })),
    }
}

/// Away from `current`: back to what was good, or, where nothing was, out of the traffic (H08).
fn away(current: &Revision, back: Option<Revision>, why: &str) -> Begin {
    let hold = (ServiceState::what_to_hold(back.as_ref(), current), why.to_owned());
    match (back, hold) {
        (Some(to), (Some(held), why)) => {
            let action = Action::Restoring { from: current.clone(), to };
            Begin::Away { action, hold: (held, why), incident: None }
        }
        (Some(to), (None, _)) => Begin::Action(Action::Restoring { from: current.clone(), to }),
        (None, (held, why)) => {
            let incident = Some(format!("there is no completed deployment to go back to: {why}"));
            let held = held.unwrap_or_else(|| current.release());
            Begin::Away { action: Action::Stopping { from: current.clone() }, hold: (held, why), incident }
        }
    }
}

impl ServiceState {
    /// What brings a drained service back, when it is resumed: the replicas that it had, with all the traffic.
    pub fn comes_back(&self) -> Option<Action> {
        let Standing::Drained { replicas, .. } = &self.standing else { return None };
        let current = self.current.as_ref()?;
        let before = replicas.unwrap_or(current.replicas);
        let to = self.governed.map_or(before, |range| range.nearest(before));
        Some(Action::Scaling { from: self.replicas, to })
    }
}

/// What a word comes to that meets nothing.
pub(super) enum Noted {
    /// It is so already.
    Nothing,
    /// It is taken down; this is to be told.
    Acts(Vec<Act>),
    /// It takes carrying out.
    Begins(Box<Action>),
}

/// Takes down what needs no carrying out.
pub(super) fn note(state: &mut ServiceState, request: &Request, now: Time) -> Result<Noted, Refusal> {
    match &request.command {
        Command::DesiredState { desired } => {
            let before = match &state.desired {
                Some((known, _)) if known == desired => return Ok(Noted::Nothing),
                // Read before what is known by now.
                Some((_, at)) if *at >= request.asked_at => return Ok(Noted::Nothing),
                Some((known, _)) => Some(known.clone()),
                None => None,
            };
            state.desired = Some((desired.clone(), request.asked_at));
            // H01: a hold ends when desired state moves on from what is held.
            let left = |held: &Release| before.as_ref().is_some_and(|before| before.is(held)) && !desired.is(held);
            let released = |held: &Release| Act::SayReleased { held: held.clone() };
            let acts = state.held.iter().map(|hold| &hold.what).filter(|held| left(held)).map(released).collect();
            state.held.retain(|hold| !left(&hold.what));
            Ok(Noted::Acts(acts))
        }
        Command::Govern { range } => {
            if state.governed == *range {
                return Ok(Noted::Nothing);
            }
            match range {
                Some(range) if range.min > range.max || range.max > REPLICAS_MAX => {
                    let fault = format!("it is {} to {}", range.min, range.max);
                    let mend = format!("let min be at most max, and max at most {REPLICAS_MAX}");
                    return Err(Refusal::Faulty(Fault::new("range", fault, mend)));
                }
                Some(_) | None => {}
            }
            state.governed = *range;
            Ok(Noted::Acts(Vec::new()))
        }
        Command::ClearHold { held } => {
            let before = state.held.len();
            state.held.retain(|hold| hold.what != *held);
            match state.held.len() == before {
                true => Err(Refusal::NotHeld),
                false => Ok(Noted::Acts(vec![Act::SayReleased { held: held.clone() }])),
            }
        }
        Command::Pause { why } => match &state.standing {
            Standing::Open => {
                state.standing = Standing::Paused { by: request.by.clone(), why: shortened(why), since: now };
                Ok(Noted::Acts(Vec::new()))
            }
            // It does not happen by itself already.
            Standing::Paused { .. } | Standing::Drained { .. } | Standing::Incident { .. } => Ok(Noted::Nothing),
        },
        Command::Strand { why } => match &state.standing {
            Standing::Open | Standing::Paused { .. } | Standing::Drained { .. } => {
                Ok(Noted::Acts(vec![state.incident(why, now)]))
            }
            Standing::Incident { .. } => Ok(Noted::Nothing),
        },
        Command::Resume => match &state.standing {
            Standing::Open => Ok(Noted::Nothing),
            // It stays drained until it has again what it had, and is on its way there.
            Standing::Drained { .. } if state.under_way.is_some() => Ok(Noted::Nothing),
            Standing::Drained { .. } if let Some(back) = state.comes_back() => Ok(Noted::Begins(Box::new(back))),
            Standing::Paused { .. } | Standing::Drained { .. } | Standing::Incident { .. } => {
                let closed = state.closed();
                state.standing = Standing::Open;
                Ok(Noted::Acts(closed.into_iter().collect()))
            }
        },
        Command::Deploy { .. }
        | Command::RollbackDeployment { .. }
        | Command::RemediateDrift { .. }
        | Command::Scale { .. }
        | Command::ApplyConfiguration { .. }
        | Command::RefreshSecret { .. }
        | Command::Restart
        | Command::Drain { .. }
        | Command::Remove { .. }
        | Command::Finished { .. }
        | Command::Abandon { .. } => Err(Refusal::NotUnderWay),
    }
}
