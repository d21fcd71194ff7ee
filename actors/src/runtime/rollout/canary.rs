//! Traffic step by step (R107, D101). The old set keeps all its replicas until the new one has been
//! promoted, so that going back takes nothing but the traffic.

use protocol::Time;

use super::analysis::{Run, Verdict};
use super::{
    Action, Move, Phase, RolloutState, Seen, Strategy, Which, after_verdict, is_as_asked, judge, new_replicas,
    replicas, weight,
};
use crate::runtime::model::strategy::{Canary, CanaryStep, SCALE_DOWN_DELAY, share_up};

/// How many new replicas so much traffic needs.
fn needed(replicas: u32, percent: u8) -> u32 {
    share_up(replicas, percent).max(u32::from(percent > 0 && replicas > 0))
}

pub(super) fn step(
    state: &mut RolloutState,
    index: usize,
    seen: &Seen,
    resumed: bool,
    now: Time,
    actions: &mut Vec<Action>,
) -> Move {
    let Strategy::Canary(canary) = state.plan.strategy.clone() else {
        return Move::To(Phase::Stuck { why: "it has another strategy".into() });
    };
    match judged(state, &canary, seen, resumed, now) {
        Some(Verdict::Failed) => {
            let why = format!("the background analysis failed at {}", at(&canary, index, seen));
            return Move::To(Phase::Aborting { why });
        }
        // Nothing moves until somebody says.
        Some(Verdict::Inconclusive) => return Move::Stay,
        Some(Verdict::Passed) | None => {}
    }
    let following = match index + 1 < canary.steps.len() {
        true => Phase::Step { index: index + 1 },
        false => Phase::Promoting,
    };
    match canary.steps.get(index) {
        None => Move::To(Phase::Promoting),
        Some(CanaryStep::Weight { percent }) => {
            let needed = needed(state.plan.replicas, *percent);
            if seen.new.total < needed || !seen.applied {
                new_replicas(actions, seen, needed);
            }
            // Less traffic can be had at once; more only when there are replicas for it.
            let may = seen.weight > *percent || seen.serves(needed);
            match may && weight(actions, seen, *percent) {
                true => Move::To(following),
                false => Move::Stay,
            }
        }
        Some(CanaryStep::Pause { duration }) => match duration {
            _ if resumed => Move::To(following),
            Some(duration) if now.since(state.since) >= *duration => Move::To(following),
            Some(_) | None => Move::Stay,
        },
        Some(CanaryStep::Analysis { analysis }) => {
            let verdict = judge::of_phase(state, analysis, seen, resumed, now);
            after_verdict(verdict, &format!("the analysis of {}", at(&canary, index, seen)), following)
        }
    }
}

/// Which step of all that the strategy has, its pauses and analyses counted, and what goes to the new set meanwhile.
fn at(canary: &Canary, index: usize, seen: &Seen) -> String {
    format!("step {} of {} with {} % of the traffic", index + 1, canary.steps.len(), seen.weight)
}

/// The analysis of the whole canary, from the first weight on.
fn judged(state: &mut RolloutState, canary: &Canary, seen: &Seen, resumed: bool, now: Time) -> Option<Verdict> {
    let spec = canary.background.as_ref()?;
    if state.plan.skip || (seen.weight == 0 && state.background.is_none()) {
        return None;
    }
    let verdict = judge::of_all(state, spec, seen, resumed, now);
    if verdict == Some(Verdict::Passed) {
        // It goes on as long as the canary does.
        state.background = Some(Run::begin(spec, now));
    }
    verdict
}

/// The new set takes everything: first the replicas, then the traffic.
pub(super) fn promote(state: &mut RolloutState, seen: &Seen, now: Time, actions: &mut Vec<Action>) -> Move {
    if let Strategy::Canary(canary) = state.plan.strategy.clone() {
        match judged(state, &canary, seen, false, now) {
            Some(Verdict::Failed) => {
                let why =
                    format!("the background analysis failed at the promotion with {} % of the traffic", seen.weight);
                return Move::To(Phase::Aborting { why });
            }
            // All steps were passed; an open figure does not stop it here.
            Some(Verdict::Inconclusive | Verdict::Passed) | None => state.asking = false,
        }
    }
    let wanted = state.plan.replicas;
    new_replicas(actions, seen, wanted);
    if seen.serves(wanted) && weight(actions, seen, 100) {
        actions.push(Action::Promote);
        return Move::To(Phase::Retiring);
    }
    Move::Stay
}

/// The old set is kept for whoever still talks to it, and goes (D102).
pub(super) fn retire(state: &RolloutState, seen: &Seen, now: Time, actions: &mut Vec<Action>) -> Move {
    let delay = match &state.plan.strategy {
        Strategy::Canary(canary) => canary.scale_down_delay,
        Strategy::BlueGreen(both) => both.scale_down_delay,
        Strategy::RollingHealthGated(_) => SCALE_DOWN_DELAY,
    };
    if seen.old.total == 0 {
        if is_as_asked(state, seen) {
            return Move::To(Phase::Done);
        }
        new_replicas(actions, seen, state.plan.replicas);
        if seen.serves(state.plan.replicas) {
            weight(actions, seen, 100);
        }
        let why = format!("it took over, and then nothing moved for {} s", state.plan.progress_deadline.as_secs());
        let late = now.since(state.progressed_at) > state.plan.progress_deadline;
        return if late { Move::To(Phase::Stuck { why }) } else { Move::Stay };
    }
    if now.since(state.since) >= delay {
        replicas(actions, Which::Old, seen.old, 0);
    }
    Move::Stay
}
