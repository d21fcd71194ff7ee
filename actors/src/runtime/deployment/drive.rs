//! Carries a rollout from one gate of the saga to the next: look, think, write down, act. The thought
//! is [`rollout::next`]; what it asks for is asked again at every look until it is seen, so that a
//! crash anywhere costs a look.

use std::fmt::Write as _;
use std::time::Duration;

use supervisor::activity::{Attempt, Failure};
use tracing::debug;

use super::desk::{Desk, Entered, request_key};
use super::look::{Look, Ready, look};
use crate::runtime::compute::Route;
use crate::runtime::records::deployments::{Record, Running};
use crate::runtime::rollout::{self, Action, Phase, Which, Word};
use crate::runtime::store::Read;

/// How often a rollout is looked at: replicas start in some hundred milliseconds, and a bad canary
/// should not get traffic for much longer than one analysis.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The error name of a rollout that its own plan ended.
pub(super) const ROLLOUT_FAILED: &str = "RolloutFailed";
/// The error name of a rollout that somebody stopped.
pub(super) const STOPPED: &str = "Stopped";

/// Where it stops being driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// The first new replicas are there; no traffic has moved.
    Started,
    /// Everything that judges it before it takes all has been passed.
    Gated,
    /// The new set runs alone.
    Done,
    /// The old set runs alone, or nothing.
    Back,
}

/// Drives the rollout of `read` on.
pub(super) async fn drive(
    desk: &Desk,
    attempt: &Attempt,
    entered: &Entered,
    read: &mut Read<Record>,
    until: Until,
) -> Result<(), Failure> {
    loop {
        attempt.heartbeat.beat();
        // Somebody may have said something meanwhile.
        *read = desk.begun(attempt, &entered.place).await?;
        if until != Until::Back {
            ours(desk, entered, &read.value).await?;
        }
        let Some(state) = read.value.rollout.clone() else {
            return Err(Failure::named(ROLLOUT_FAILED, "it has not begun"));
        };
        let ready = match until {
            Until::Started => Ready::Connects,
            Until::Gated | Until::Done | Until::Back => Ready::Answers,
        };
        let mut looked = look(desk, &entered.place, &read.value, ready).await?;
        let said = read.value.resumes;
        looked.seen.word = word(&read.value, &state.phase, until);
        let (next, actions) = rollout::next(&state, &looked.seen, desk.ports.clock.now());
        let measured = next.measured_at() != state.measured_at();
        let counted = looked.counted.clone();
        desk.change(&entered.place, read, |record| {
            record.rollout = Some(next.clone());
            if measured {
                record.baseline = counted.clone();
            }
            record.heard = said;
        })
        .await?;
        match stop(&next.phase, until, &looked, &actions) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(failed) => {
                // What is bad gets no traffic from now on, and not only when the saga has gone on. What
                // cannot be done here is done on the way back.
                let back = matches!(next.phase, Phase::Aborting { .. });
                for action in actions.iter().filter(|_| back) {
                    if let Err(error) = act(desk, entered, &read.value, &looked, action).await {
                        debug!(place = %entered.place, %error, "left to the way back");
                    }
                }
                return Err(failed);
            }
        }
        for action in actions.iter().filter(|action| allowed(until, action)) {
            match act(desk, entered, &read.value, &looked, action).await {
                Ok(()) => {}
                // It is asked for again at the next look; when it never comes, the deadline says so.
                Err(error) if !error.permanent => debug!(place = %entered.place, %error, "not possible yet"),
                Err(error) => return Err(error),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is said to it now: to go on, once for each time that a person said it; to stand still, as long as
/// nobody does; to go back, until it does.
fn word(record: &Record, phase: &Phase, until: Until) -> Word {
    let goes_back = match phase {
        Phase::Aborting { .. } | Phase::Aborted { .. } => true,
        Phase::Rolling
        | Phase::Step { .. }
        | Phase::Promoting
        | Phase::Preview
        | Phase::Before
        | Phase::AwaitSwitch
        | Phase::Switching
        | Phase::After
        | Phase::Retiring
        | Phase::Done
        | Phase::Stuck { .. } => false,
    };
    match until {
        Until::Back if goes_back => Word::None,
        Until::Back => Word::Abort { why: record.deployment.why.clone().unwrap_or_default() },
        Until::Started | Until::Gated | Until::Done if record.is_told_to_go_on() => Word::Resume,
        Until::Started | Until::Gated | Until::Done if record.suspended => Word::Suspend,
        Until::Started | Until::Gated | Until::Done => Word::None,
    }
}

/// Whether it is where it should be driven to; an error when it will not get there.
fn stop(phase: &Phase, until: Until, looked: &Look, actions: &[Action]) -> Result<bool, Failure> {
    let failed = |why: &str| Err(Failure::named(ROLLOUT_FAILED, described(why, looked)));
    match (phase, until) {
        (Phase::Aborted { .. }, Until::Back) => Ok(true),
        (Phase::Stuck { why }, _) => failed(why),
        (Phase::Aborting { why } | Phase::Aborted { why }, Until::Started | Until::Gated | Until::Done) => failed(why),
        (Phase::Done, _) => Ok(true),
        (_, Until::Back) => Ok(false),
        (_, Until::Started) => match &looked.crashing {
            Some(why) => failed(why),
            // Whatever it asks for next needs the gate: traffic, or fewer old replicas.
            None => {
                let grows = |action: &Action| matches!(action, Action::SetReplicas { which: Which::New, .. });
                Ok(looked.seen.new.available >= looked.seen.new.total && !actions.iter().any(grows))
            }
        },
        (Phase::Rolling | Phase::Promoting | Phase::Switching | Phase::After | Phase::Retiring, Until::Gated) => {
            Ok(true)
        }
        (Phase::Step { .. } | Phase::Preview | Phase::Before | Phase::AwaitSwitch, Until::Gated) => {
            match &looked.crashing {
                Some(why) => failed(why),
                None => Ok(false),
            }
        }
        (
            Phase::Rolling
            | Phase::Step { .. }
            | Phase::Promoting
            | Phase::Preview
            | Phase::Before
            | Phase::AwaitSwitch
            | Phase::Switching
            | Phase::After
            | Phase::Retiring,
            Until::Done,
        ) => Ok(false),
    }
}

/// Why it failed, with what was seen of it last.
fn described(why: &str, looked: &Look) -> String {
    let figures = looked.seen.figures.unwrap_or_default();
    let mut text = format!("{why}; {} of {} new replicas are ready", looked.seen.new.ready, looked.seen.new.total);
    if figures.requests > 0 {
        let _ = write!(text, ", {} of the last {} requests to them failed", figures.failures, figures.requests);
    }
    for fault in looked.faults.iter().take(3) {
        text.push_str("; ");
        text.push_str(fault);
    }
    text
}

/// Before the gate nothing but new replicas may come.
fn allowed(until: Until, action: &Action) -> bool {
    match (until, action) {
        (Until::Started, Action::SetReplicas { which: Which::New, .. }) => true,
        (
            Until::Started,
            Action::SetReplicas { which: Which::Old, .. } | Action::SetWeight { .. } | Action::Promote,
        ) => false,
        (Until::Gated | Until::Done | Until::Back, _) => true,
    }
}

/// Whether the service still is this deployment's, and nobody wants it to stop.
async fn ours(desk: &Desk, entered: &Entered, record: &Record) -> Result<(), Failure> {
    let id = &record.deployment.deployment_id;
    let claimed = request_key("deploy", id)?;
    let seen = desk.arbitration.look(&entered.place).await?;
    let under_way = seen.and_then(|seen| seen.value.state.under_way).filter(|under_way| under_way.key == claimed);
    match under_way {
        Some(under_way) => match under_way.stopping {
            None => Ok(()),
            Some(why) => Err(Failure::named(STOPPED, why)),
        },
        None => Err(Failure::named(STOPPED, format!("the deployment {id} of {} was given up", entered.place))),
    }
}

async fn act(desk: &Desk, entered: &Entered, record: &Record, looked: &Look, action: &Action) -> Result<(), Failure> {
    let (place, store, compute) = (&entered.place, &desk.ports.store, &desk.ports.compute);
    match action {
        Action::SetReplicas { which, to } => {
            let running: Option<&Running> = match which {
                Which::New => Some(&record.comes),
                Which::Old => record.previous.as_ref(),
            };
            let Some(running) = running else { return Ok(()) };
            let mut set = running.set(&**store, place, &record.tenant).await?;
            set.replicas = *to;
            compute.apply(&set).await
        }
        Action::SetWeight { percent } => {
            let new = u32::from(*percent);
            let old = record.previous.as_ref().filter(|_| looked.old_there);
            let routes = match old {
                Some(old) => vec![Route::new(&old.set, 100 - new), Route::new(&record.comes.set, new)],
                None if new > 0 => vec![Route::new(&record.comes.set, 100)],
                None => Vec::new(),
            };
            compute.route(place.environment.as_str(), place.service.as_str(), &routes).await
        }
        // It is told by the saga and the arbiter, at the end.
        Action::Promote => Ok(()),
    }
}
