//! How a revision is judged by the figures of its requests (D105): what counts as good and bad, how often it is
//! measured, and how much of each is borne.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::millis;

/// The time between two measurements (D106: Flagger has 60 s).
pub const INTERVAL: Duration = Duration::from_secs(60);
/// Fewer requests than this say nothing: one failure of ten would be 10 %.
pub const REQUESTS_MIN: u64 = 20;
/// The most measurements of one run.
pub const COUNT_MAX: u32 = 10_000;
/// The most conditions of one side.
pub const CONDITIONS_MAX: usize = 16;

/// What requests to one set showed during one interval.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Requests that were answered or given up.
    pub requests: u64,
    /// Of these, the ones that failed.
    pub failures: u64,
    /// The time within which half were answered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The time within which 99 of 100 were answered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// One of the figures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Figure {
    /// Failed requests, of a hundred.
    FailurePercent,
    /// Half of the requests are answered within, in milliseconds.
    P50Ms,
    /// 99 of 100 are answered within, in milliseconds.
    P99Ms,
    /// Requests in the interval.
    Requests,
}

impl Figure {
    /// Its value, when there is one.
    pub fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::FailurePercent if figures.requests == 0 => None,
            Self::FailurePercent => Some(100.0 * figures.failures as f64 / figures.requests as f64),
            Self::P50Ms => figures.p50_ms,
            Self::P99Ms => figures.p99_ms,
            Self::Requests => Some(figures.requests as f64),
        }
    }
}

/// A figure against a bound.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which figure.
    pub figure: Figure,
    /// How it is compared.
    pub is: Is,
    /// With what, in the figure's unit.
    pub bound: f64,
}

/// How a figure is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Is {
    /// Not more than the bound.
    AtMost,
    /// More than the bound.
    Above,
    /// Not less than the bound.
    AtLeast,
    /// Less than the bound.
    Below,
}

impl Condition {
    /// Whether it holds; `None` when the figure is missing.
    pub fn holds(&self, figures: &Figures) -> Option<bool> {
        let value = self.figure.of(figures)?;
        Some(match self.is {
            Is::AtMost => value <= self.bound,
            Is::Above => value > self.bound,
            Is::AtLeast => value >= self.bound,
            Is::Below => value < self.bound,
        })
    }
}

/// How a revision is judged.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisSpec {
    /// The time between two measurements.
    #[serde(rename = "intervalMs", with = "millis", default = "interval")]
    pub interval: Duration,
    /// How many measurements.
    pub count: u32,
    /// All of these make a measurement a success.
    #[serde(default)]
    pub success: Vec<Condition>,
    /// Any of these makes it a failure.
    #[serde(default)]
    pub failure: Vec<Condition>,
    /// How many failures are borne; one more ends the run. 0: none.
    #[serde(default)]
    pub failure_limit: u32,
    /// How many open measurements are borne; one more leaves the run open.
    #[serde(default)]
    pub inconclusive_limit: u32,
    /// So many successes in a row end the run early. 0: it is measured to the end.
    #[serde(default)]
    pub consecutive_success_limit: u32,
    /// Fewer requests than this leave a measurement open.
    #[serde(default = "requests_min")]
    pub requests_min: u64,
    /// Whether it only says what it would have found.
    #[serde(default)]
    pub dry_run: bool,
}

const fn interval() -> Duration {
    INTERVAL
}
const fn requests_min() -> u64 {
    REQUESTS_MIN
}

impl AnalysisSpec {
    /// `count` measurements of which none may have more failed requests than `percent`.
    pub fn failures_at_most(percent: f64, count: u32) -> Self {
        Self {
            interval: INTERVAL,
            count,
            success: vec![Condition { figure: Figure::FailurePercent, is: Is::AtMost, bound: percent }],
            failure: Vec::new(),
            failure_limit: 0,
            inconclusive_limit: 0,
            consecutive_success_limit: 0,
            requests_min: REQUESTS_MIN,
            dry_run: false,
        }
    }

    /// Holds the settings to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        fault::between("intervalMs", self.interval.as_millis(), 1, 24 * 3_600_000)?;
        fault::between("count", self.count, 1, COUNT_MAX)?;
        if self.success.is_empty() && self.failure.is_empty() {
            return Err(Fault::new(
                "success",
                "there is no condition on either side",
                "say what is good or what is bad",
            ));
        }
        for (field, conditions) in [("success", &self.success), ("failure", &self.failure)] {
            fault::at_most(field, conditions.len(), CONDITIONS_MAX, "conditions")?;
            if let Some(odd) = conditions.iter().find(|condition| !condition.bound.is_finite()) {
                return Err(Fault::new(field, format!("{:?} has no finite bound", odd.figure), "give it a number"));
            }
            let percent = conditions.iter().find(|condition| condition.figure == Figure::FailurePercent);
            if let Some(odd) = percent.filter(|condition| !(0.0..=100.0).contains(&condition.bound)) {
                let what = format!("{} is no percentage of the requests", odd.bound);
                return Err(Fault::new(field, what, "give a number from 0 to 100"));
            }
        }
        Ok(())
    }

    /// Whether there were requests enough to tell, and each of them failed. The first few of an interval say less
    /// than as many at its end, so that it takes the usual number at least.
    pub fn is_hopeless(&self, figures: Option<&Figures>) -> bool {
        let enough = self.requests_min.max(REQUESTS_MIN);
        let all_fail = |seen: &Figures| seen.requests >= enough && seen.failures >= seen.requests;
        figures.is_some_and(all_fail) && self.measure(figures) == Measured::Failure
    }

    /// One measurement.
    pub fn measure(&self, figures: Option<&Figures>) -> Measured {
        let Some(figures) = figures else { return Measured::Error };
        if figures.requests < self.requests_min {
            return Measured::Inconclusive;
        }
        let mut bad = Some(false);
        for condition in &self.failure {
            bad = match (bad, condition.holds(figures)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (None, _) | (_, None) => None,
                (Some(false), Some(false)) => Some(false),
            };
        }
        let good = self
            .success
            .iter()
            .map(|condition| condition.holds(figures))
            .try_fold(true, |all, holds| Some(all && holds?));
        match (bad, good, self.success.is_empty(), self.failure.is_empty()) {
            (Some(true), _, _, _) => Measured::Failure,
            (None, _, _, _) | (Some(false), None, _, _) => Measured::Error,
            (Some(false), Some(true), _, _) => Measured::Success,
            // Only what is good was named: all else is bad. Otherwise there is room between.
            (Some(false), Some(false), false, true) => Measured::Failure,
            (Some(false), Some(false), _, _) => Measured::Inconclusive,
        }
    }
}

/// What one measurement says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Measured {
    /// Good.
    Success,
    /// Bad.
    Failure,
    /// Neither, or too few requests to say.
    Inconclusive,
    /// There were no figures.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(requests: u64, failures: u64) -> Option<Figures> {
        Some(Figures { requests, failures, p50_ms: None, p99_ms: Some(40.0) })
    }

    #[test]
    fn a_percentage_of_the_requests_is_one() {
        for (bound, usable) in [(0.0, true), (100.0, true), (100.1, false), (-1.0, false), (f64::NAN, false)] {
            assert_eq!(AnalysisSpec::failures_at_most(bound, 3).check().is_ok(), usable, "{bound}");
        }
    }

    #[test]
    fn a_measurement() {
        let success = AnalysisSpec::failures_at_most(1.0, 3);
        let both = AnalysisSpec {
            failure: vec![Condition { figure: Figure::FailurePercent, is: Is::Above, bound: 10.0 }],
            ..success.clone()
        };
        let only_bad = AnalysisSpec { success: Vec::new(), ..both.clone() };
        let slow = AnalysisSpec {
            success: vec![Condition { figure: Figure::P50Ms, is: Is::AtMost, bound: 5.0 }],
            ..success.clone()
        };
        for (story, spec, seen, says) in [
            ("good", &success, figures(100, 1), Measured::Success),
            ("not good is bad when only good is named", &success, figures(100, 2), Measured::Failure),
            ("between good and bad", &both, figures(100, 2), Measured::Inconclusive),
            ("bad", &both, figures(100, 11), Measured::Failure),
            ("not bad is good when only bad is named", &only_bad, figures(100, 9), Measured::Success),
            ("too few to say", &success, figures(19, 19), Measured::Inconclusive),
            ("a figure is missing", &slow, figures(100, 0), Measured::Error),
            ("nothing was read", &success, None, Measured::Error),
        ] {
            assert_eq!(spec.measure(seen.as_ref()), says, "{story}");
        }
    }
}
