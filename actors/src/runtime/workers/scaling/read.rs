//! What the figures ask for, whatever happened before and whatever may be had (D301, D302, D305).

use crate::runtime::model::scaling::{Metric, ScalingPolicy, Target};
use crate::runtime::workers::scaling::decide::Seen;

/// What the figures say together.
pub(super) struct Read {
    /// Metrics with a figure.
    pub present: usize,
    /// Metrics without one.
    pub missing: usize,
    /// The replicas that the metric that asks for most wants.
    pub wanted: u32,
    /// Why.
    pub why: String,
    /// Whether there is something to do; `None` when no figure could tell.
    pub busy: Option<bool>,
}

/// Reads all metrics of the policy.
pub(super) fn read(policy: &ScalingPolicy, seen: &Seen) -> Read {
    let mut read = Read { present: 0, missing: 0, wanted: 0, why: String::new(), busy: None };
    for target in &policy.targets {
        let value = seen.readings.iter().find(|reading| reading.metric == target.metric);
        let value = value.and_then(|reading| reading.value).filter(|value| value.is_finite() && *value >= 0.0);
        let Some(value) = value else {
            read.missing += 1;
            continue;
        };
        read.present += 1;
        match target.metric {
            Metric::Cpu => {}
            Metric::Queue | Metric::Rps => {
                read.busy = Some(read.busy.unwrap_or(false) || value > target.activation);
            }
        }
        let wanted = recommended(policy, target, value, seen);
        // D305: the metric that asks for most wins.
        if read.present == 1 || wanted > read.wanted {
            read.wanted = wanted;
            read.why = format!("{} is {value}, {} per replica is wanted: {wanted}", target.metric, target.per_replica);
        }
    }
    read
}

/// D301, D302: what one metric asks for.
fn recommended(policy: &ScalingPolicy, target: &Target, value: f64, seen: &Seen) -> u32 {
    let current = seen.replicas;
    let (total, counted) = match target.metric {
        // The mean of those that are ready. Those that are not yet use nothing and will take a part.
        Metric::Cpu => (value * f64::from(seen.ready), seen.ready),
        Metric::Queue | Metric::Rps => (value, current),
    };
    if counted == 0 {
        return match target.metric {
            Metric::Cpu => current,
            Metric::Queue | Metric::Rps => whole(total / target.per_replica),
        };
    }
    let ratio = total / (target.per_replica * f64::from(counted));
    let beyond = |difference: f64, tolerance: f64| difference - tolerance > DUST;
    let (over, under) = (beyond(ratio - 1.0, policy.up.tolerance), beyond(1.0 - ratio, policy.down.tolerance));
    let wanted = whole(total / target.per_replica);
    match (over, under) {
        // Not ready replicas may turn "more" into "fewer", which was not what was seen.
        (true, _) => wanted.max(current),
        (false, true) => {
            let careful = whole(f64::from(current) * ratio);
            careful.min(current)
        }
        (false, false) => current,
    }
}

/// What floating point makes of nothing: a tenth above is 0.10000000000000009 above.
const DUST: f64 = 1e-9;

/// Rounded up, without the dust of floating point.
fn whole(count: f64) -> u32 {
    (count - DUST).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}
