//! The way back (D110): traffic first, replicas later.

use protocol::Time;

use super::rolling::{bounds, shift};
use super::{Action, Move, Phase, RolloutState, Seen, Strategy, Which, replicas, weight};

pub(super) fn abort(state: &RolloutState, why: &str, seen: &Seen, now: Time, actions: &mut Vec<Action>) -> Move {
    let wanted = state.plan.replicas;
    if state.plan.same {
        // What serves goes on serving; whoever began it sets the number that was.
        return ended(true, why);
    }
    if !state.plan.stable {
        // H08: there is nothing to go back to, so nobody is sent there any more.
        let gone = weight(actions, seen, 0);
        replicas(actions, Which::New, seen.new, 0);
        return ended(gone && seen.new.total == 0, why);
    }
    match &state.plan.strategy {
        Strategy::RollingHealthGated(rolling) => {
            // Old replicas went while new ones came. While not one of them is back, what is bad is
            // better than nothing; from the first one on they get everything.
            let back = match seen.old.ready {
                0 => seen.weight == 0,
                1.. => weight(actions, seen, 0),
            };
            let (old, new) = shift(bounds(rolling, wanted), wanted, seen.old, seen.new, wanted);
            replicas(actions, Which::Old, seen.old, old);
            replicas(actions, Which::New, seen.new, new);
            ended(back && seen.new.total == 0 && seen.old.available >= wanted, why)
        }
        Strategy::Canary(canary) => whole(state, canary.scale_down_delay, why, seen, now, actions),
        Strategy::BlueGreen(both) => whole(state, both.scale_down_delay, why, seen, now, actions),
    }
}

/// The old set is complete: all traffic goes back at once, and the new set goes after a while.
fn whole(
    state: &RolloutState,
    delay: std::time::Duration,
    why: &str,
    seen: &Seen,
    now: Time,
    actions: &mut Vec<Action>,
) -> Move {
    let back = weight(actions, seen, 0);
    if back && now.since(state.since) >= delay {
        replicas(actions, Which::New, seen.new, 0);
    }
    ended(back && seen.new.total == 0, why)
}

fn ended(ended: bool, why: &str) -> Move {
    match ended {
        true => Move::To(Phase::Aborted { why: why.to_owned() }),
        false => Move::Stay,
    }
}
