//! Judges a revision by the figures of its requests (D105).
//!
//! A run measures so many times at an interval. Each measurement is a success, a failure, open, or
//! could not be made; the limits say how much of each is borne.

use protocol::Time;
use serde::{Deserialize, Serialize};

use crate::runtime::model::analysis::{AnalysisSpec, Figures, Measured};

/// Measurements in a row that may fail to be made (Argo Rollouts has 4).
pub const ERRORS_MAX: u32 = 4;

/// What a run says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Go on.
    Passed,
    /// Go back.
    Failed,
    /// Somebody must say.
    Inconclusive,
}

/// A run so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// When it is measured next.
    pub next_at: Time,
    /// Measurements that were made.
    pub measured: u32,
    /// Failures in all.
    pub failures: u32,
    /// Open ones in all.
    pub inconclusive: u32,
    /// Successes in a row.
    pub successes_in_a_row: u32,
    /// Measurements in a row that could not be made.
    pub errors_in_a_row: u32,
    /// What the run says, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl Run {
    /// A run that begins now; its first measurement is after one interval, when there is something
    /// to measure.
    pub fn begin(spec: &AnalysisSpec, now: Time) -> Self {
        Self {
            next_at: now.after(spec.interval),
            measured: 0,
            failures: 0,
            inconclusive: 0,
            successes_in_a_row: 0,
            errors_in_a_row: 0,
            verdict: None,
        }
    }

    /// The run after a look at `figures` (of the interval that ends now). After the end it stays as it is, and too
    /// early too, unless all requests fail: what is bad without exception is not sent users for the rest of the
    /// interval. A dry run never says anything but Passed.
    #[must_use]
    pub fn look(&self, spec: &AnalysisSpec, figures: Option<&Figures>, now: Time) -> Self {
        let mut run = self.clone();
        if run.verdict.is_some() || (now < run.next_at && !spec.is_hopeless(figures)) {
            return run;
        }
        // From now, not from when it was due: figures of one interval are not counted twice after a
        // late look.
        run.next_at = now.after(spec.interval);
        let measured = spec.measure(figures);
        match measured {
            Measured::Success => run.successes_in_a_row += 1,
            Measured::Failure => run.failures += 1,
            Measured::Inconclusive => run.inconclusive += 1,
            Measured::Error => run.errors_in_a_row += 1,
        }
        match measured {
            Measured::Success => run.errors_in_a_row = 0,
            Measured::Failure | Measured::Inconclusive => (run.successes_in_a_row, run.errors_in_a_row) = (0, 0),
            Measured::Error => run.successes_in_a_row = 0,
        }
        // What could not be measured is measured again: it does not use up the count.
        if measured != Measured::Error {
            run.measured += 1;
        }
        let early = spec.consecutive_success_limit > 0 && run.successes_in_a_row >= spec.consecutive_success_limit;
        run.verdict = if run.failures > spec.failure_limit {
            Some(Verdict::Failed)
        } else if run.inconclusive > spec.inconclusive_limit || run.errors_in_a_row > ERRORS_MAX {
            Some(Verdict::Inconclusive)
        } else if early || run.measured >= spec.count {
            Some(Verdict::Passed)
        } else {
            None
        };
        if spec.dry_run && (run.verdict.is_some() || run.measured >= spec.count) {
            run.verdict = Some(Verdict::Passed);
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::model::analysis::{Condition, Figure, Is};

    fn figures(requests: u64, failures: u64) -> Option<Figures> {
        Some(Figures { requests, failures, p50_ms: None, p99_ms: Some(40.0) })
    }

    fn run(spec: &AnalysisSpec, looks: &[Option<Figures>]) -> Run {
        let mut now = Time::from_micros(0);
        let mut run = Run::begin(spec, now);
        for look in looks {
            now = now.after(spec.interval);
            run = run.look(spec, look.as_ref(), now);
        }
        run
    }

    #[test]
    fn d105_limits() {
        let spec = AnalysisSpec::failures_at_most(1.0, 3);
        let (good, bad, few) = (figures(100, 0), figures(100, 50), figures(1, 0));
        assert_eq!(run(&spec, &[good, good]).verdict, None);
        assert_eq!(run(&spec, &[good, good, good]).verdict, Some(Verdict::Passed));
        assert_eq!(run(&spec, &[good, bad]).verdict, Some(Verdict::Failed), "failureLimit 0: none tolerated");
        let bears = AnalysisSpec { failure_limit: 1, ..spec.clone() };
        assert_eq!(run(&bears, &[bad, good, good]).verdict, Some(Verdict::Passed));
        assert_eq!(run(&bears, &[bad, good, bad]).verdict, Some(Verdict::Failed));
        assert_eq!(run(&spec, &[good, few]).verdict, Some(Verdict::Inconclusive));
        let early = AnalysisSpec { consecutive_success_limit: 2, count: 100, ..spec.clone() };
        assert_eq!(run(&early, &[good, None, good]).verdict, None, "a gap breaks the row");
        assert_eq!(run(&early, &[good, None, good, good]).verdict, Some(Verdict::Passed));
        assert_eq!(run(&spec, &[None; 4]).verdict, None, "four reads may fail");
        assert_eq!(run(&spec, &[None; 5]).verdict, Some(Verdict::Inconclusive), "blind is not bad");
        let dry = AnalysisSpec { dry_run: true, ..spec.clone() };
        assert_eq!(run(&dry, &[bad]).verdict, Some(Verdict::Passed), "a dry run stops nothing");
    }

    #[test]
    fn what_fails_without_exception_is_not_waited_for() {
        let now = Time::from_micros(1);
        let spec = AnalysisSpec::failures_at_most(1.0, 3);
        let begun = Run::begin(&spec, Time::from_micros(0));
        assert_eq!(begun.look(&spec, figures(20, 20).as_ref(), now).verdict, Some(Verdict::Failed));
        for (story, seen) in [("too few", figures(19, 19)), ("one went well", figures(200, 199)), ("none", None)] {
            assert_eq!(begun.look(&spec, seen.as_ref(), now), begun, "{story}");
        }
        let bears = AnalysisSpec { failure_limit: 1, ..spec.clone() };
        let once = begun.look(&bears, figures(20, 20).as_ref(), now);
        assert_eq!((once.verdict, once.failures), (None, 1));
        assert_eq!(once.look(&bears, figures(20, 20).as_ref(), now).verdict, Some(Verdict::Failed));
        let bears_all = AnalysisSpec::failures_at_most(100.0, 3);
        assert_eq!(begun.look(&bears_all, figures(20, 20).as_ref(), now), begun);
        // Something that no request says is not failed by requests.
        let slow = Condition { figure: Figure::P50Ms, is: Is::AtMost, bound: 5.0 };
        let slow = AnalysisSpec { success: vec![slow], ..spec };
        assert_eq!(begun.look(&slow, figures(20, 20).as_ref(), now), begun);
    }

    #[test]
    fn looking_too_early_or_too_late_changes_nothing() {
        let spec = AnalysisSpec::failures_at_most(1.0, 1);
        let begun = Run::begin(&spec, Time::from_micros(0));
        assert_eq!(begun.look(&spec, figures(100, 99).as_ref(), Time::from_micros(1)), begun);
        let ended = run(&spec, &[figures(100, 0)]);
        assert_eq!(ended.look(&spec, figures(100, 100).as_ref(), Time::from_micros(i64::MAX)), ended);
    }
}
