//! How a new revision takes over, and with which bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analysis::AnalysisSpec;
use super::fault::{self, Fault};
use super::millis;

/// Replicas above the wanted number while rolling (D103; Kubernetes has 25 %).
pub const MAX_SURGE: Portion = Portion::Percent(25);
/// Replicas that may be missing while rolling (D103; Kubernetes has 25 %).
pub const MAX_UNAVAILABLE: Portion = Portion::Percent(25);
/// How long the old set is kept after traffic left it, for whoever still talks to it and for a
/// swift way back (D102, F34).
pub const SCALE_DOWN_DELAY: Duration = Duration::from_secs(30);
/// How long a rollout may stand still before it is taken back (D104); pauses do not count.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);
/// The most steps of a canary.
pub const STEPS_MAX: usize = 64;
/// The longest pause or delay.
pub const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A number of replicas, as such or as a part of the wanted number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Portion {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u8),
}

impl Portion {
    /// Of `replicas`, rounded up: for a surge.
    pub fn up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share_up(replicas, percent),
        }
    }

    /// Of `replicas`, rounded down: for what may be missing.
    pub fn down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(replicas) * u64::from(percent) / 100) as u32,
        }
    }

    fn check(self, field: &str) -> Result<(), Fault> {
        match self {
            Self::Count(_) => Ok(()),
            Self::Percent(percent) => fault::between(field, percent, 0, 100),
        }
    }
}

/// `percent` of `replicas`, rounded up.
pub fn share_up(replicas: u32, percent: u8) -> u32 {
    (u64::from(replicas) * u64::from(percent)).div_ceil(100) as u32
}

/// Replica by replica, as far as health allows (R106).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rolling {
    /// Replicas above the wanted number.
    pub max_surge: Portion,
    /// Replicas that may be missing.
    pub max_unavailable: Portion,
    /// Judges the new replicas while they take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisSpec>,
}

/// One step of a canary (D101).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum CanaryStep {
    /// So much traffic goes to the new set.
    Weight {
        /// Of a hundred.
        percent: u8,
    },
    /// Nothing moves.
    Pause {
        /// For how long; without: until somebody resumes.
        #[serde(rename = "durationMs", default, with = "millis::option", skip_serializing_if = "Option::is_none")]
        duration: Option<Duration>,
    },
    /// The figures of the new set decide.
    Analysis {
        /// How.
        analysis: AnalysisSpec,
    },
}

/// Traffic step by step (R107).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The steps; after the last one the new set takes everything.
    pub steps: Vec<CanaryStep>,
    /// Judges the new set from the first weight to the promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<AnalysisSpec>,
    /// How long the losing set is kept.
    #[serde(rename = "scaleDownDelayMs", with = "millis", default = "scale_down_delay")]
    pub scale_down_delay: Duration,
}

/// All traffic at once, after a preview (R108, D102).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreen {
    /// Judges the preview before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<AnalysisSpec>,
    /// Whether the switch waits for a person, or how long for nobody.
    #[serde(rename = "autoPromoteAfterMs", default, with = "millis::option", skip_serializing_if = "Option::is_none")]
    pub auto_promote_after: Option<Duration>,
    /// Judges the new set after the switch; a failure switches back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AnalysisSpec>,
    /// How long the losing set is kept.
    #[serde(rename = "scaleDownDelayMs", with = "millis", default = "scale_down_delay")]
    pub scale_down_delay: Duration,
}

const fn scale_down_delay() -> Duration {
    SCALE_DOWN_DELAY
}

/// A strategy with its settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum Strategy {
    /// Replica by replica (R106).
    RollingHealthGated(Rolling),
    /// Traffic step by step (R107).
    Canary(Canary),
    /// All traffic at once (R108).
    BlueGreen(BlueGreen),
}

impl Default for Strategy {
    fn default() -> Self {
        Self::RollingHealthGated(Rolling::default())
    }
}

impl Default for Rolling {
    fn default() -> Self {
        Self { max_surge: MAX_SURGE, max_unavailable: MAX_UNAVAILABLE, analysis: None }
    }
}

impl Strategy {
    /// Holds the settings to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        let judge = |field: &str, analysis: &Option<AnalysisSpec>| match analysis {
            Some(analysis) => analysis.check().map_err(|fault| fault.within(field)),
            None => Ok(()),
        };
        match self {
            Self::RollingHealthGated(rolling) => {
                rolling.max_surge.check("maxSurge")?;
                rolling.max_unavailable.check("maxUnavailable")?;
                if rolling.max_surge.up(100) == 0 && rolling.max_unavailable.down(100) == 0 {
                    let mend = "let one of maxSurge and maxUnavailable be more than 0, or nothing can ever move";
                    return Err(Fault::new("maxSurge", "it is 0, and so is maxUnavailable", mend));
                }
                judge("analysis", &rolling.analysis)
            }
            Self::Canary(canary) => {
                fault::at_most("steps", canary.steps.len(), STEPS_MAX, "steps")?;
                wait("scaleDownDelayMs", canary.scale_down_delay)?;
                for (number, step) in canary.steps.iter().enumerate() {
                    step.check().map_err(|fault| fault.within(format!("steps[{number}]")))?;
                }
                judge("background", &canary.background)
            }
            Self::BlueGreen(both) => {
                wait("scaleDownDelayMs", both.scale_down_delay)?;
                wait("autoPromoteAfterMs", both.auto_promote_after.unwrap_or_default())?;
                judge("before", &both.before)?;
                judge("after", &both.after)
            }
        }
    }
}

impl CanaryStep {
    fn check(&self) -> Result<(), Fault> {
        match self {
            Self::Weight { percent } => fault::between("percent", *percent, 0, 100),
            Self::Pause { duration } => wait("durationMs", duration.unwrap_or_default()),
            Self::Analysis { analysis } => analysis.check().map_err(|fault| fault.within("analysis")),
        }
    }
}

fn wait(field: &str, wait: Duration) -> Result<(), Fault> {
    fault::between(field, wait.as_millis(), 0, WAIT_MAX.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_round_to_the_safe_side() {
        assert_eq!((Portion::Percent(25).up(10), Portion::Percent(25).down(10)), (3, 2));
        assert_eq!((Portion::Count(4).up(10), Portion::Count(4).down(10)), (4, 4));
        assert_eq!(Portion::Percent(25).up(1), 1, "one replica can always be replaced by surging");
    }

    #[test]
    fn a_rollout_that_could_never_move_is_refused() {
        let still = Rolling { max_surge: Portion::Count(0), max_unavailable: Portion::Percent(0), analysis: None };
        assert!(Strategy::RollingHealthGated(still).check().unwrap_err().mend.contains("nothing can ever move"));
        assert!(Strategy::default().check().is_ok());
    }
}
