//! Lets an analysis run beside a phase or a whole rollout.

use protocol::Time;

use super::analysis::{Run, Verdict};
use super::{RolloutState, Seen};
use crate::runtime::model::analysis::AnalysisSpec;

/// Looks at the analysis of this phase; begins it at the first look. A person's word settles what
/// the figures left open.
pub(super) fn of_phase(
    state: &mut RolloutState,
    spec: &AnalysisSpec,
    seen: &Seen,
    resumed: bool,
    now: Time,
) -> Option<Verdict> {
    let run = look(state.run.take(), spec, seen, now);
    let verdict = run.verdict;
    state.run = Some(run);
    settle(state, verdict, resumed)
}

/// The same for an analysis that goes on from phase to phase.
pub(super) fn of_all(
    state: &mut RolloutState,
    spec: &AnalysisSpec,
    seen: &Seen,
    resumed: bool,
    now: Time,
) -> Option<Verdict> {
    let run = look(state.background.take(), spec, seen, now);
    let verdict = run.verdict;
    state.background = Some(run);
    let settled = settle(state, verdict, resumed);
    if resumed && verdict == Some(Verdict::Inconclusive) {
        // It is judged anew from here on.
        state.background = Some(Run::begin(spec, now));
    }
    settled
}

fn look(run: Option<Run>, spec: &AnalysisSpec, seen: &Seen, now: Time) -> Run {
    run.map_or_else(|| Run::begin(spec, now), |run| run.look(spec, seen.figures.as_ref(), now))
}

fn settle(state: &mut RolloutState, verdict: Option<Verdict>, resumed: bool) -> Option<Verdict> {
    match verdict {
        Some(Verdict::Inconclusive) if resumed => {
            state.asking = false;
            Some(Verdict::Passed)
        }
        Some(Verdict::Inconclusive) => {
            state.asking = true;
            verdict
        }
        Some(Verdict::Passed | Verdict::Failed) | None => verdict,
    }
}
