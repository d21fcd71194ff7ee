//! What the end of something means for the service.

use protocol::Time;

use super::command::Outcome;
use super::decision::Act;
use super::state::{Action, COMPLETED_MAX, HELD_MAX, Hold, ServiceState, Standing, UnderWay};
use crate::runtime::model::deployment::shortened;
use crate::runtime::model::{Release, Revision};

/// Takes the end of what was under way into the state.
pub(super) fn finish(state: &mut ServiceState, ended: &UnderWay, outcome: &Outcome, now: Time) -> Vec<Act> {
    state.under_way = None;
    if let Some(answered) = state.answered.iter_mut().find(|answered| answered.sequence == ended.sequence) {
        answered.outcome = Some(short(outcome));
    }
    let mut acts = Vec::new();
    match (&ended.action, outcome) {
        (Action::Deploying { to, .. } | Action::Remediating { to, .. }, Outcome::Succeeded) => {
            state.replicas = state.governed.map_or(to.replicas, |range| match state.current {
                Some(_) => range.nearest(state.replicas),
                None => range.nearest(to.replicas),
            });
            state.complete(to);
            acts.extend(state.recovered());
        }
        (
            Action::Deploying { from, to } | Action::Remediating { from, to },
            Outcome::RolledBack { why } | Outcome::Stuck { why } | Outcome::Differs { why },
        ) => {
            // R105, H01: it stays away until desired state moves on.
            let held = ServiceState::what_to_hold(from.as_ref(), to);
            if let Some(hold) = held.and_then(|held| state.hold(held, why, now)) {
                acts.push(Act::SayHeld { hold });
            }
            // H08: what was before a first deployment is nothing.
            let stuck = matches!(outcome, Outcome::Stuck { .. } | Outcome::Differs { .. });
            if stuck || from.is_none() {
                acts.push(state.incident(why, now));
            }
        }
        // R058: it ended before anything was rolled out, which is not the release's fault.
        (Action::Deploying { .. } | Action::Remediating { .. }, Outcome::Failed { .. }) => {}
        (Action::Restoring { to, .. }, Outcome::Succeeded) => {
            state.replicas = state.governed.map_or(to.replicas, |range| range.nearest(state.replicas));
            let gone = state.current.clone();
            state.completed.retain(|revision| gone.as_ref().is_none_or(|gone| !gone.same_release(revision)));
            state.complete(to);
            acts.extend(state.recovered());
        }
        // R101.
        (
            Action::Restoring { .. },
            Outcome::RolledBack { why } | Outcome::Failed { why } | Outcome::Stuck { why } | Outcome::Differs { why },
        ) => acts.push(state.incident(why, now)),
        (Action::Stopping { from }, Outcome::Succeeded) => {
            state.completed.retain(|revision| !from.same_release(revision));
            state.current = None;
            let why = format!("{} was taken out of the traffic, and nothing good is known", from.version);
            // The incident was raised when it was begun; the service stays one.
            state.standing = Standing::Incident { why, since: now };
        }
        (
            Action::Stopping { .. },
            Outcome::RolledBack { why } | Outcome::Failed { why } | Outcome::Stuck { why } | Outcome::Differs { why },
        ) => acts.push(state.incident(why, now)),
        (Action::Scaling { to, .. }, Outcome::Succeeded) => {
            state.replicas = *to;
            // Nothing else is carried out for what is drained.
            if let Standing::Drained { .. } = state.standing {
                state.standing = Standing::Open;
            }
        }
        (Action::Configuring { to, .. }, Outcome::Succeeded) => {
            if let Some(current) = state.current.clone() {
                state.complete(&Revision { configuration: Some(to.clone()), ..current });
            }
        }
        (Action::Configuring { to, .. }, Outcome::RolledBack { why }) => {
            let failed = state.current.clone().map(|current| Revision { configuration: Some(to.clone()), ..current });
            if let Some(hold) = failed.and_then(|failed| state.hold(failed.release(), why, now)) {
                acts.push(Act::SayHeld { hold });
            }
        }
        (Action::Refreshing { .. } | Action::Restarting { .. }, Outcome::Succeeded) => state.takes_over(&ended.action),
        // It is what runs, and no way back from whatever comes next.
        (
            Action::Configuring { .. } | Action::Refreshing { .. } | Action::Restarting { .. },
            Outcome::Differs { why },
        ) => {
            state.takes_over(&ended.action);
            acts.push(state.incident(why, now));
        }
        (Action::Draining { why }, Outcome::Succeeded) => {
            let replicas = Some(std::mem::take(&mut state.replicas));
            state.standing = Standing::Drained { why: why.clone(), since: now, replicas };
        }
        // What was before is still so. A service that was removed has no arbiter to hear of it.
        (
            Action::Scaling { .. }
            | Action::Refreshing { .. }
            | Action::Restarting { .. }
            | Action::Draining { .. }
            | Action::Removing { .. },
            Outcome::RolledBack { .. } | Outcome::Failed { .. },
        )
        | (Action::Configuring { .. }, Outcome::Failed { .. })
        | (Action::Removing { .. }, Outcome::Succeeded) => {}
        (
            Action::Scaling { .. }
            | Action::Configuring { .. }
            | Action::Refreshing { .. }
            | Action::Restarting { .. }
            | Action::Draining { .. }
            | Action::Removing { .. },
            Outcome::Stuck { why },
        )
        | (Action::Scaling { .. } | Action::Draining { .. } | Action::Removing { .. }, Outcome::Differs { why }) => {
            acts.push(state.incident(why, now))
        }
    }
    acts
}

fn short(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Succeeded => Outcome::Succeeded,
        Outcome::RolledBack { why } => Outcome::RolledBack { why: shortened(why) },
        Outcome::Failed { why } => Outcome::Failed { why: shortened(why) },
        Outcome::Stuck { why } => Outcome::Stuck { why: shortened(why) },
        Outcome::Differs { why } => Outcome::Differs { why: shortened(why) },
    }
}

impl Action {
    /// What comes, when a revision comes.
    pub const fn coming(&self) -> Option<&Revision> {
        match self {
            Self::Deploying { to, .. } | Self::Remediating { to, .. } | Self::Restoring { to, .. } => Some(to),
            Self::Stopping { .. }
            | Self::Scaling { .. }
            | Self::Configuring { .. }
            | Self::Refreshing { .. }
            | Self::Restarting { .. }
            | Self::Draining { .. }
            | Self::Removing { .. } => None,
        }
    }
}

impl ServiceState {
    /// `revision` runs, and is a way back from whatever comes next.
    fn complete(&mut self, revision: &Revision) {
        self.current = Some(revision.clone());
        self.completed.retain(|known| !known.same_release(revision));
        self.completed.push_back(revision.clone());
        while self.completed.len() > COMPLETED_MAX {
            self.completed.pop_front();
        }
    }

    /// What `action` brought of what runs already.
    fn takes_over(&mut self, action: &Action) {
        let Some(current) = &mut self.current else { return };
        match action {
            Action::Configuring { to, .. } => current.configuration = Some(to.clone()),
            Action::Refreshing { secret_binding_id, to, .. } => {
                current.secrets.insert(secret_binding_id.clone(), *to);
            }
            Action::Restarting { to } => current.restarts = *to,
            Action::Deploying { .. }
            | Action::Remediating { .. }
            | Action::Restoring { .. }
            | Action::Stopping { .. }
            | Action::Scaling { .. }
            | Action::Draining { .. }
            | Action::Removing { .. } => {}
        }
    }

    /// What of `bad` must not come again, when `good` runs instead: all of it, unless it is the same.
    pub(super) fn what_to_hold(good: Option<&Revision>, bad: &Revision) -> Option<Release> {
        let same = good.is_some_and(|good| good.runs_as(bad));
        (!same).then(|| bad.release())
    }

    /// Holds `what`; `None` when it is held already.
    pub(super) fn hold(&mut self, what: Release, why: &str, since: Time) -> Option<Hold> {
        if self.held.iter().any(|hold| hold.what == what) {
            return None;
        }
        let hold = Hold { what, why: shortened(why), since };
        self.held.push(hold.clone());
        if self.held.len() > HELD_MAX {
            let desired = self.desired.as_ref().map(|(desired, _)| desired);
            let is_desired = |hold: &Hold| desired.is_some_and(|desired| desired.is(&hold.what));
            if let Some(oldest) = self.held.iter().position(|hold| !is_desired(hold)) {
                self.held.remove(oldest);
            }
        }
        Some(hold)
    }

    /// That it is no incident any more, if it is one.
    pub(super) fn closed(&self) -> Option<Act> {
        match &self.standing {
            Standing::Incident { why, since } => Some(Act::CloseIncident { why: why.clone(), since: *since }),
            Standing::Open | Standing::Paused { .. } | Standing::Drained { .. } => None,
        }
    }

    /// Something good runs, which is what an incident waits for.
    fn recovered(&mut self) -> Option<Act> {
        let closed = self.closed()?;
        self.standing = Standing::Open;
        Some(closed)
    }

    /// Nothing good could be reached: people must act (R094, R110).
    pub(super) fn incident(&mut self, why: &str, since: Time) -> Act {
        let why = shortened(why);
        // Whoever closes it has again what was there before it was drained.
        if let Standing::Drained { replicas: Some(replicas), .. } = self.standing {
            self.replicas = replicas;
        }
        self.standing = Standing::Incident { why: why.clone(), since };
        Act::RaiseIncident { why }
    }
}
