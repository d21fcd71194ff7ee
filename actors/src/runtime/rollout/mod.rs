//! What is the next move of a rollout? One pure step: the state, what is seen, and the moment come
//! in; the state and what to do come out.
//!
//! Every move is level-triggered: it is asked for again until it is seen, so a lost answer or a
//! crash costs nothing. Traffic moves only after the replicas for it are seen, and the next step is
//! taken only after the traffic is seen where it should be. What judges a revision is in
//! [`analysis`]; which deployment this is, and what follows from its end, is not known here.
//!
//! The promises, held by `tests/properties.rs`:
//!
//! - It is done when what was asked is seen: as many replicas, no more, all of the traffic, and nothing of what
//!   was.
//! - The new set never gets more traffic than its step says (F33, R109).
//! - While rolling, our own moves never leave fewer ready replicas than `maxUnavailable` allows, nor
//!   more than `maxSurge` allows (D103).
//! - After an abort the new set gets no traffic (F33, D110).

pub mod analysis;
mod back;
mod blue_green;
mod canary;
mod judge;
mod measured;
mod rolling;
mod state;
#[cfg(test)]
mod tests;

use protocol::Time;

use self::analysis::Verdict;
pub use self::state::{Action, Phase, Plan, RolloutState, Seen, Set, Which, Word};
use crate::runtime::model::Strategy;

/// What one phase says.
enum Move {
    /// It is not over.
    Stay,
    /// It is over; this comes.
    To(Phase),
}

/// The next moves. To be asked after every change that is seen, and at least at every tick.
pub fn next(state: &RolloutState, seen: &Seen, now: Time) -> (RolloutState, Vec<Action>) {
    let mut state = state.clone();
    let mut actions = Vec::new();
    let mut resumed = state.hear(&seen.word, now);
    // Each phase can end at most once in a row, so this ends; the count is for whoever changes it.
    for _ in 0..=state.plan.phases() {
        if state.phase.ended() || state.suspended_since.is_some() {
            break;
        }
        state.note_progress(seen, now);
        match phase(&mut state, seen, resumed, now, &mut actions) {
            Move::Stay => break,
            Move::To(next) => state.enter(next, now),
        }
        // One word resumes one pause.
        resumed = false;
    }
    if let Some(late) = state.late(now) {
        state.enter(late, now);
        // What was just asked for is not wanted any more, and must not stand beside its contrary.
        actions.clear();
        // The way back begins at once, not at the next tick.
        if let Move::To(next) = phase(&mut state, seen, false, now, &mut actions) {
            state.enter(next, now);
        }
    }
    (state, actions)
}

fn phase(state: &mut RolloutState, seen: &Seen, resumed: bool, now: Time, actions: &mut Vec<Action>) -> Move {
    match state.phase.clone() {
        Phase::Rolling => rolling::roll(state, seen, resumed, now, actions),
        Phase::Step { index } => canary::step(state, index, seen, resumed, now, actions),
        Phase::Promoting => canary::promote(state, seen, now, actions),
        Phase::Preview => blue_green::preview(state, seen, actions),
        Phase::Before => blue_green::before(state, seen, resumed, now),
        Phase::AwaitSwitch => blue_green::wait(state, resumed, now),
        Phase::Switching => blue_green::switch(state, seen, actions),
        Phase::After => blue_green::after(state, seen, resumed, now, actions),
        Phase::Retiring => canary::retire(state, seen, now, actions),
        Phase::Aborting { why } => back::abort(state, &why, seen, now, actions),
        Phase::Done | Phase::Aborted { .. } | Phase::Stuck { .. } => Move::Stay,
    }
}

/// Asks for so many new replicas, unless that is what is seen. Nobody can be sent to a set that compute does not
/// know, so that one of none is asked for too.
fn new_replicas(actions: &mut Vec<Action>, seen: &Seen, to: u32) {
    if seen.new.total != to || !seen.applied {
        actions.push(Action::SetReplicas { which: Which::New, to });
    }
}

/// Whether what was asked is what is seen.
fn is_as_asked(state: &RolloutState, seen: &Seen) -> bool {
    let wanted = state.plan.replicas;
    let whole = seen.applied && seen.new.total == wanted && seen.new.available == wanted;
    whole && seen.weight == 100 && seen.old.total == 0
}

/// Asks for so many replicas, unless that is what is seen.
fn replicas(actions: &mut Vec<Action>, which: Which, seen: Set, to: u32) {
    if seen.total != to {
        actions.push(Action::SetReplicas { which, to });
    }
}

/// Asks for so much traffic to the new set, unless that is what is seen. Answers whether it is.
fn weight(actions: &mut Vec<Action>, seen: &Seen, percent: u8) -> bool {
    if seen.weight != percent {
        actions.push(Action::SetWeight { percent });
    }
    seen.weight == percent
}

/// Where a judged phase goes.
fn after_verdict(verdict: Option<Verdict>, what: &str, passed: Phase) -> Move {
    match verdict {
        Some(Verdict::Passed) => Move::To(passed),
        Some(Verdict::Failed) => Move::To(Phase::Aborting { why: format!("{what} failed") }),
        // Somebody must say; the phase asks for that.
        Some(Verdict::Inconclusive) | None => Move::Stay,
    }
}
