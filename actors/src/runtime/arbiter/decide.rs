//! The decision: who may, whether now, and what meets what.

use std::time::Duration;

use protocol::Time;

use super::command::{Asked, Command, Outcome, Request, Source};
use super::decision::{Act, Decision, Refusal};
use super::finish::finish;
use super::start::{Begin, Noted, begin, note};
use super::state::{Doing, ServiceState, Standing, UnderWay};
use crate::runtime::model::deployment::shortened;

/// How far a sender's clock may be ahead. What is asked further in the future would move the
/// horizon of what is forgotten there too.
pub const SKEW_MAX: Duration = Duration::from_secs(300);

/// What happens when something is asked while something is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Meeting {
    /// It may begin, if its own rules let it.
    Begin,
    /// It is taken down; nothing is carried out for it.
    Note,
    /// It comes too early.
    Wait,
    /// It stops what is under way, if it means that.
    Stop,
    /// It ends what is under way, if it means that.
    End,
    /// There is nothing it could be about.
    Void,
}

/// The table: what is under way, and what is asked.
pub const fn meeting(doing: Doing, asked: Asked) -> Meeting {
    match asked {
        Asked::DesiredState | Asked::Govern | Asked::ClearHold | Asked::Pause | Asked::Strand => Meeting::Note,
        Asked::Resume => match doing {
            Doing::Draining | Doing::Removing => Meeting::Wait,
            Doing::Nothing
            | Doing::Deploying
            | Doing::Remediating
            | Doing::Restoring
            | Doing::Stopping
            | Doing::Scaling
            | Doing::Configuring
            | Doing::Refreshing
            | Doing::Restarting => Meeting::Note,
        },
        Asked::Finished | Asked::Abandon => match doing {
            Doing::Nothing => Meeting::Void,
            Doing::Deploying
            | Doing::Remediating
            | Doing::Restoring
            | Doing::Stopping
            | Doing::Scaling
            | Doing::Configuring
            | Doing::Refreshing
            | Doing::Restarting
            | Doing::Draining
            | Doing::Removing => Meeting::End,
        },
        Asked::RollbackDeployment => match doing {
            Doing::Nothing => Meeting::Begin,
            // The way back from what comes is to stop it: its own runner takes it back.
            Doing::Deploying | Doing::Remediating => Meeting::Stop,
            Doing::Restoring
            | Doing::Stopping
            | Doing::Scaling
            | Doing::Configuring
            | Doing::Refreshing
            | Doing::Restarting
            | Doing::Draining
            | Doing::Removing => Meeting::Wait,
        },
        Asked::Deploy
        | Asked::RemediateDrift
        | Asked::Scale
        | Asked::ApplyConfiguration
        | Asked::RefreshSecret
        | Asked::Restart
        | Asked::Drain
        | Asked::Remove => match doing {
            Doing::Nothing => Meeting::Begin,
            Doing::Deploying
            | Doing::Remediating
            | Doing::Restoring
            | Doing::Stopping
            | Doing::Scaling
            | Doing::Configuring
            | Doing::Refreshing
            | Doing::Restarting
            | Doing::Draining
            | Doing::Removing => Meeting::Wait,
        },
    }
}

/// Decides about one request. Pure: the state handed in is not touched.
pub fn decide(state: &ServiceState, request: &Request, now: Time) -> Decision {
    let asked = request.command.asked();
    if let Some(answered) = state.answered.iter().find(|answered| answered.key == request.key) {
        return Decision::AlreadyDone { sequence: Some(answered.sequence) };
    }
    if let Err(refusal) = admit(state, request, asked, now) {
        return Decision::Refused(refusal);
    }
    match (meeting(state.doing(), asked), &state.under_way) {
        (Meeting::Begin, _) => match begin(state, request) {
            Ok(Begin::Nothing) => Decision::AlreadyDone { sequence: None },
            Ok(begun) => started(state, request, begun, now),
            Err(refusal) => Decision::Refused(refusal),
        },
        (Meeting::Note, _) => {
            let mut next = accepted(state, request, now);
            match note(&mut next, request, now) {
                Ok(Noted::Acts(acts)) => Decision::Accepted { state: next, acts },
                Ok(Noted::Nothing) => Decision::AlreadyDone { sequence: None },
                Ok(Noted::Begins(action)) => started(state, request, Begin::Action(*action), now),
                Err(refusal) => Decision::Refused(refusal),
            }
        }
        (Meeting::Stop, Some(under_way)) => stop(state, under_way, request, now),
        (Meeting::End, Some(under_way)) => end(state, under_way, request, now),
        (Meeting::Wait, Some(under_way)) => busy(under_way),
        // A late echo of something that ended: answering it twice would end something else.
        (Meeting::Void | Meeting::Stop | Meeting::End | Meeting::Wait, None) | (Meeting::Void, Some(_)) => {
            echo(state, &request.command)
        }
    }
}

/// Whether the request can be told from a repetition, and whether the asker has a say at all.
fn admit(state: &ServiceState, request: &Request, asked: Asked, now: Time) -> Result<(), Refusal> {
    if !asked.by().contains(&request.source) {
        return Err(Refusal::NotYours { source: request.source, asked });
    }
    // The end of something is known by its number, and must be heard whatever stands.
    if asked == Asked::Finished {
        return Ok(());
    }
    if request.asked_at > now.after(SKEW_MAX) {
        return Err(Refusal::TooYoung);
    }
    match state.forgotten_until {
        Some(forgotten_until) if request.asked_at <= forgotten_until => {
            return Err(Refusal::TooOld { forgotten_until });
        }
        Some(_) | None => {}
    }
    match meeting(Doing::Nothing, asked) {
        // Notes are always taken, and what is under way can always be given up.
        Meeting::Note | Meeting::Void => return Ok(()),
        Meeting::Begin | Meeting::Wait | Meeting::Stop | Meeting::End => {}
    }
    let person = match request.source {
        Source::Operator => true,
        Source::Sync
        | Source::Drift
        | Source::Health
        | Source::Scaling
        | Source::Configuration
        | Source::Secrets
        | Source::Runner => false,
    };
    match &state.standing {
        Standing::Open => Ok(()),
        Standing::Drained { .. } if matches!(asked, Asked::Drain | Asked::Remove) => Ok(()),
        Standing::Paused { .. } | Standing::Incident { .. } if person => Ok(()),
        Standing::Paused { by, why, .. } => Err(Refusal::Paused { by: by.clone(), why: why.clone() }),
        Standing::Incident { why, .. } => Err(Refusal::Incident { why: why.clone() }),
        Standing::Drained { why, .. } => Err(Refusal::Drained { why: why.clone() }),
    }
}

fn busy(under_way: &UnderWay) -> Decision {
    Decision::Busy {
        doing: under_way.action.doing(),
        sequence: under_way.sequence,
        by: under_way.by.clone(),
        since: under_way.since,
    }
}

/// The state with the request in it, numbered and remembered.
fn accepted(state: &ServiceState, request: &Request, now: Time) -> Box<ServiceState> {
    let mut next = Box::new(state.clone());
    next.sequence += 1;
    next.remember(request.command.asked(), &request.key, &request.by, request.asked_at, now);
    next
}

fn started(state: &ServiceState, request: &Request, begun: Begin, now: Time) -> Decision {
    let mut next = accepted(state, request, now);
    let (action, hold, mut acts) = match begun {
        Begin::Nothing => return Decision::AlreadyDone { sequence: None },
        Begin::Action(action) => (action, None, Vec::new()),
        Begin::Away { action, hold, incident } => {
            let acts = incident.map(|why| Act::RaiseIncident { why }).into_iter().collect();
            (action, Some(hold), acts)
        }
    };
    if let Some(hold) = hold.and_then(|(what, why)| next.hold(what, &why, now)) {
        acts.push(Act::SayHeld { hold });
    }
    let sequence = next.sequence;
    next.under_way = Some(UnderWay {
        sequence,
        key: request.key.clone(),
        source: request.source,
        by: request.by.clone(),
        since: now,
        action: action.clone(),
        stopping: None,
    });
    acts.push(Act::Start { sequence, action });
    Decision::Accepted { state: next, acts }
}

fn stop(state: &ServiceState, under_way: &UnderWay, request: &Request, now: Time) -> Decision {
    let Command::RollbackDeployment { of, why, .. } = &request.command else { return busy(under_way) };
    match under_way.action.coming() {
        Some(to) if to.deployment_id == *of => {}
        Some(_) | None => return busy(under_way),
    }
    if under_way.stopping.is_some() {
        return Decision::AlreadyDone { sequence: Some(under_way.sequence) };
    }
    let why = shortened(why);
    let mut next = accepted(state, request, now);
    next.under_way = Some(UnderWay { stopping: Some(why.clone()), ..under_way.clone() });
    Decision::Accepted { state: next, acts: vec![Act::Abort { sequence: under_way.sequence, why }] }
}

fn end(state: &ServiceState, under_way: &UnderWay, request: &Request, now: Time) -> Decision {
    match &request.command {
        Command::Finished { sequence, outcome } if *sequence == under_way.sequence => {
            let mut next = Box::new(state.clone());
            next.sequence += 1;
            let acts = finish(&mut next, under_way, outcome, now);
            Decision::Accepted { state: next, acts }
        }
        Command::Abandon { sequence, why } if *sequence == under_way.sequence => {
            let mut next = accepted(state, request, now);
            let why = format!("given up by {}: {why}", request.by);
            let mut acts = vec![Act::Abort { sequence: *sequence, why: shortened(&why) }];
            acts.extend(finish(&mut next, under_way, &Outcome::Stuck { why }, now));
            Decision::Accepted { state: next, acts }
        }
        other => echo(state, other),
    }
}

/// The answer to the end of something that is not under way.
fn echo(state: &ServiceState, command: &Command) -> Decision {
    match command {
        Command::Finished { sequence, .. } if *sequence > 0 && *sequence <= state.sequence => {
            Decision::AlreadyDone { sequence: Some(*sequence) }
        }
        Command::Finished { .. }
        | Command::Abandon { .. }
        | Command::Deploy { .. }
        | Command::RollbackDeployment { .. }
        | Command::RemediateDrift { .. }
        | Command::Scale { .. }
        | Command::ApplyConfiguration { .. }
        | Command::RefreshSecret { .. }
        | Command::Restart
        | Command::Drain { .. }
        | Command::Remove { .. }
        | Command::DesiredState { .. }
        | Command::Govern { .. }
        | Command::ClearHold { .. }
        | Command::Pause { .. }
        | Command::Strand { .. }
        | Command::Resume => Decision::Refused(Refusal::NotUnderWay),
    }
}
