//! Replica by replica, as far as health allows (R106).

use protocol::Time;

use super::analysis::Verdict;
use super::{
    Action, Move, Phase, RolloutState, Seen, Set, Strategy, Which, is_as_asked, judge, new_replicas, replicas, weight,
};
use crate::runtime::model::strategy::Rolling;

/// The most and the fewest replicas at every moment (D103).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    /// Never more in all.
    pub most: u32,
    /// Never fewer ready ones.
    pub fewest: u32,
    /// How many may come before they are judged.
    pub batch: u32,
}

pub(super) fn bounds(rolling: &Rolling, wanted: u32) -> Bounds {
    let missing = rolling.max_unavailable.down(wanted).min(wanted);
    // Both can round to nothing for few replicas; then one more is let in, or nothing could move.
    let surge = match (rolling.max_surge.up(wanted), missing) {
        (0, 0) => 1,
        (surge, _) => surge,
    };
    Bounds { most: wanted.saturating_add(surge), fewest: wanted - missing, batch: surge.max(missing).max(1) }
}

/// How many replicas of what comes and of what goes there should be now.
pub(super) fn shift(bounds: Bounds, wanted: u32, comes: Set, goes: Set, may_come: u32) -> (u32, u32) {
    let room = bounds.most.saturating_sub(comes.total.saturating_add(goes.total));
    let to_come = comes.total.saturating_add(room).min(wanted).min(may_come).max(comes.total.min(wanted));
    // Those that are not ready help nobody and go first; of the others only what is spare.
    let spare = goes.ready.saturating_add(comes.available).saturating_sub(bounds.fewest).min(goes.ready);
    (to_come, goes.ready - spare)
}

pub(super) fn roll(state: &mut RolloutState, seen: &Seen, resumed: bool, now: Time, actions: &mut Vec<Action>) -> Move {
    let Strategy::RollingHealthGated(rolling) = state.plan.strategy.clone() else {
        return Move::To(Phase::Stuck { why: "it has another strategy".into() });
    };
    let wanted = state.plan.replicas;
    let bounds = bounds(&rolling, wanted);
    // R109: until it is judged, no more than the first batch comes, and so no more traffic.
    let (passed, may_come) = match &rolling.analysis {
        Some(spec) if !state.plan.skip => {
            let verdict = match state.background.as_ref().and_then(|run| run.verdict) {
                Some(Verdict::Passed) => Some(Verdict::Passed),
                // It is measured once there is something to measure.
                Some(Verdict::Failed | Verdict::Inconclusive) | None
                    if seen.weight > 0 || state.background.is_some() =>
                {
                    judge::of_phase(state, spec, seen, resumed, now)
                }
                Some(Verdict::Failed | Verdict::Inconclusive) | None => None,
            };
            match verdict {
                Some(Verdict::Passed) => {
                    // It stays judged, and the deadline counts again.
                    if let Some(run) = state.run.take() {
                        state.background = Some(super::analysis::Run { verdict, ..run });
                        state.progressed_at = now;
                    }
                    (true, wanted)
                }
                Some(Verdict::Failed) => return Move::To(Phase::Aborting { why: "the analysis failed".into() }),
                Some(Verdict::Inconclusive) | None => (false, bounds.batch.min(wanted)),
            }
        }
        Some(_) | None => (true, wanted),
    };
    let (new, old) = shift(bounds, wanted, seen.new, seen.old, may_come);
    new_replicas(actions, seen, new);
    replicas(actions, Which::Old, seen.old, old);
    let even = weight(actions, seen, share(seen));
    if even && passed && is_as_asked(state, seen) {
        actions.push(Action::Promote);
        return Move::To(Phase::Done);
    }
    Move::Stay
}

/// The part of the traffic that the new set's part of the replicas stands for, rounded down.
fn share(seen: &Seen) -> u8 {
    if !seen.applied {
        return seen.weight;
    }
    let (new, all) = (u64::from(seen.new.available), u64::from(seen.new.available) + u64::from(seen.old.ready));
    match (all, seen.old.total) {
        // Nobody is ready, and nobody of the old set will be: whoever comes gets it.
        (0, 0) => 100,
        (0, 1..) => seen.weight,
        (1.., _) => (100 * new / all) as u8,
    }
}
