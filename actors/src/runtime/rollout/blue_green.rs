//! All traffic at once, after a preview (R108, D102, F34). Both sets are complete while traffic
//! moves, in either direction.

use std::time::Duration;

use protocol::Time;

use super::{Action, Move, Phase, RolloutState, Seen, Strategy, after_verdict, judge, new_replicas, weight};
use crate::runtime::model::strategy::BlueGreen;

fn settings(state: &RolloutState) -> BlueGreen {
    match &state.plan.strategy {
        Strategy::BlueGreen(both) => both.clone(),
        Strategy::RollingHealthGated(_) | Strategy::Canary(_) => {
            BlueGreen { before: None, auto_promote_after: None, after: None, scale_down_delay: Duration::ZERO }
        }
    }
}

/// The new set starts without traffic.
pub(super) fn preview(state: &RolloutState, seen: &Seen, actions: &mut Vec<Action>) -> Move {
    new_replicas(actions, seen, state.plan.replicas);
    match seen.serves(state.plan.replicas) {
        true if state.plan.skip => Move::To(Phase::Switching),
        true => Move::To(Phase::Before),
        false => Move::Stay,
    }
}

/// It is judged before the switch.
pub(super) fn before(state: &mut RolloutState, seen: &Seen, resumed: bool, now: Time) -> Move {
    match settings(state).before {
        None => Move::To(Phase::AwaitSwitch),
        Some(spec) => {
            let verdict = judge::of_phase(state, &spec, seen, resumed, now);
            after_verdict(verdict, "the analysis before the switch", Phase::AwaitSwitch)
        }
    }
}

/// It waits for a person, or for the time after which nobody is asked.
pub(super) fn wait(state: &RolloutState, resumed: bool, now: Time) -> Move {
    match settings(state).auto_promote_after {
        _ if resumed => Move::To(Phase::Switching),
        Some(after) if now.since(state.since) >= after => Move::To(Phase::Switching),
        Some(_) | None => Move::Stay,
    }
}

/// All traffic moves, when there is somebody to take it.
pub(super) fn switch(state: &RolloutState, seen: &Seen, actions: &mut Vec<Action>) -> Move {
    new_replicas(actions, seen, state.plan.replicas);
    match seen.serves(state.plan.replicas) && weight(actions, seen, 100) {
        true => Move::To(Phase::After),
        false => Move::Stay,
    }
}

/// It is judged after the switch; a failure switches back.
pub(super) fn after(
    state: &mut RolloutState,
    seen: &Seen,
    resumed: bool,
    now: Time,
    actions: &mut Vec<Action>,
) -> Move {
    let go = match settings(state).after {
        Some(spec) if !state.plan.skip => {
            let verdict = judge::of_phase(state, &spec, seen, resumed, now);
            after_verdict(verdict, "the analysis after the switch", Phase::Retiring)
        }
        Some(_) | None => Move::To(Phase::Retiring),
    };
    match go {
        Move::To(Phase::Retiring) => {
            actions.push(Action::Promote);
            Move::To(Phase::Retiring)
        }
        Move::To(other) => Move::To(other),
        Move::Stay => Move::Stay,
    }
}
