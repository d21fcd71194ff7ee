//! How many replicas a service should have now (R077–R089, D301–D310).
//!
//! ```text
//! per metric    ceil(current × value / target), nothing within the tolerance
//! of several    the largest; a missing one keeps replicas from going
//! over time     the safest of the window: up the smallest, down the largest
//! limits        how much per period; min and max
//! cooldown      nothing twice within it
//! ```
//!
//! The memory changes only when something changes: a recommendation counts from when it was first
//! made until the next one, so a second run over the same figures writes nothing (W074).

use std::collections::VecDeque;

use protocol::Time;
use serde::{Deserialize, Serialize};

use crate::runtime::model::ids::{PolicyId, RequestKey, ServiceId};
use crate::runtime::model::scaling::{Knob, Metric, ScalingPolicy};
use crate::runtime::model::{Fault, ReplicaRange};
use crate::runtime::workers::scaling::read::{Read, read};
use crate::runtime::workers::scaling::speed::{limit_down, limit_up};

/// How many recommendations are remembered: one every 15 s of the longest window, twice over.
pub const REMEMBERED_MAX: usize = 480;

/// One metric as it was read; `None` when it could not be.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// Which.
    pub metric: Metric,
    /// Its value: for cpu the mean of the ready replicas, otherwise the sum.
    pub value: Option<f64>,
}

/// What is seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Replicas that exist.
    pub replicas: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// The metrics of the policy.
    pub readings: Vec<Reading>,
}

/// What is remembered from run to run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The number of the last decision that was stored (H20).
    pub number: u64,
    /// Recommendations, oldest first; each counts until the next.
    pub recommended: VecDeque<(Time, u32)>,
    /// Changes that were made: when, from how many, to how many.
    pub changes: VecDeque<(Time, u32, u32)>,
    /// Reads in a row without any figure; counted up to the policy's limit only.
    pub blind: u32,
    /// Since when there is nothing to do.
    pub idle_since: Option<Time>,
    /// Since when more is wanted than may be had.
    pub short_since: Option<Time>,
    /// Whether that was told.
    pub told: bool,
    /// The last decision that was stored.
    pub last: Option<(Rule, u32)>,
}

/// The rule that settled a decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The policy is paused (D309).
    Paused,
    /// There are fewer than min or more than max (R085, R086).
    Bounds,
    /// No figure could be read; it is held (F47).
    NoFigures,
    /// No figure could be read for long; the fallback counts (D308).
    Fallback,
    /// A figure is missing, so replicas may not go (D305).
    Partial,
    /// Within the tolerance, or already right (F46).
    Steady,
    /// The window still remembers another recommendation (D303).
    Stabilizing,
    /// It changed a short while ago (R088).
    Cooldown,
    /// The direction is disabled (D304).
    Disabled,
    /// There is nothing to do, but not for long enough (D306).
    Idle,
    /// There is nothing to do: the last replica goes (R087).
    ToZero,
    /// There is something to do again (D307).
    FromZero,
    /// The figures ask for it.
    Target,
}

/// One decision, as it is stored (F48).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingDecision {
    /// Counted per service.
    pub number: u64,
    /// Of which service.
    pub service_id: ServiceId,
    /// By which policy.
    pub policy_id: PolicyId,
    /// When.
    pub at: Time,
    /// What it turns.
    pub knob: Knob,
    /// How many there were.
    pub from: u32,
    /// How many there should be; the same for a decision to hold.
    pub to: u32,
    /// The rule that settled it.
    pub rule: Rule,
    /// Why, for a person.
    pub reason: String,
    /// What it was decided on.
    pub inputs: Seen,
    /// Whether it is only said.
    pub dry_run: bool,
}

/// What follows from a look.
#[derive(Clone, PartialEq, Debug)]
pub struct Scaling {
    /// The memory from now on.
    pub memory: Memory,
    /// The decision.
    pub decision: ScalingDecision,
    /// Whether it is stored: it is another one than the last (W074).
    pub store: bool,
    /// Whether the arbiter is asked to change the replicas.
    pub act: bool,
    /// Whether `ScalingPolicyViolated` is said: for long more is wanted than may be had (R089). Once
    /// per episode.
    pub violated: bool,
}

impl ScalingDecision {
    /// The key of the change (W029): service and wanted count, and the number, because 3 → 5 → 3 → 5
    /// are three changes (H20).
    pub fn key(&self) -> Result<RequestKey, Fault> {
        RequestKey::new(format!("scale/{}/{}/{}", self.service_id, self.to, self.number))
    }
}

/// Decides. `change` in the memory is noted as made when it is asked for; what was really made is
/// seen at the next look.
pub fn decide(policy: &ScalingPolicy, memory: &Memory, seen: &Seen, now: Time) -> Scaling {
    let mut memory = memory.clone();
    let verdict = judge(policy, &mut memory, seen, now);
    let Verdict { to, rule, reason, wanted } = verdict;
    let violated = short(policy, &mut memory, wanted, now);
    let changes = to != seen.replicas;
    let store = changes || memory.last != Some((rule, to));
    if store {
        memory.number += 1;
        memory.last = Some((rule, to));
    }
    let act = changes && !policy.dry_run;
    if act {
        memory.changes.push_back((now, seen.replicas, to));
    }
    forget(policy, &mut memory, now);
    let decision = ScalingDecision {
        number: memory.number,
        service_id: policy.service_id.clone(),
        policy_id: policy.policy_id.clone(),
        at: now,
        knob: policy.knob,
        from: seen.replicas,
        to,
        rule,
        reason,
        inputs: seen.clone(),
        dry_run: policy.dry_run,
    };
    Scaling { memory, decision, store, act, violated }
}

struct Verdict {
    to: u32,
    rule: Rule,
    reason: String,
    /// What the figures ask for, whatever may be had.
    wanted: Option<u32>,
}

fn judge(policy: &ScalingPolicy, memory: &mut Memory, seen: &Seen, now: Time) -> Verdict {
    let current = seen.replicas;
    let stay = |rule, reason: String, wanted| Verdict { to: current, rule, reason, wanted };
    if policy.paused {
        return stay(Rule::Paused, "the policy is paused".into(), None);
    }
    let read = read(policy, seen);
    if read.present == 0 {
        let verdict = blind(policy, memory, current);
        let cooling = cooling(policy, memory, now).filter(|_| verdict.to != current);
        return cooling.map_or(verdict, |left| cooled(current, "no figure could be read", left, None));
    }
    memory.blind = 0;
    if let Some(verdict) = sleep(policy, memory, &read, current, now) {
        return verdict;
    }
    let awake = ReplicaRange { min: policy.min_replicas, max: policy.max_replicas };
    // F45: outside the bounds it is put right at once; only a change of the policy or of the world
    // can bring it there, so this cannot flap.
    if !awake.holds(current) {
        let to = awake.nearest(current);
        let reason = format!("{current} lies outside {} to {}", awake.min, awake.max);
        return Verdict { to, rule: Rule::Bounds, reason, wanted: Some(read.wanted) };
    }
    let wanted = awake.nearest(read.wanted);
    if memory.recommended.back().is_none_or(|(_, last)| *last != wanted) {
        memory.recommended.push_back((now, wanted));
    }
    let all = Some(read.wanted);
    if wanted < current && read.missing > 0 {
        let reason = format!("{wanted} would do, but {} figures are missing", read.missing);
        return stay(Rule::Partial, reason, all);
    }
    if wanted == current {
        return stay(Rule::Steady, read.why, all);
    }
    let stable = stabilized(policy, memory, current, now);
    if stable == current {
        let reason = format!("{}; the window still remembers another count", read.why);
        return stay(Rule::Stabilizing, reason, all);
    }
    let limited = match stable > current {
        true => limit_up(policy, memory, current, now).map(|most| stable.min(most)),
        false => limit_down(policy, memory, current, now).map(|least| stable.max(least)),
    };
    let Some(to) = limited else {
        return stay(Rule::Disabled, format!("{}; this direction is disabled", read.why), all);
    };
    if to == current {
        return stay(Rule::Stabilizing, format!("{}; the limit of the period is used up", read.why), all);
    }
    if let Some(left) = cooling(policy, memory, now) {
        return cooled(current, &read.why, left, all);
    }
    Verdict { to, rule: Rule::Target, reason: read.why, wanted: all }
}

/// F47: without any figure it is held; after a while the fallback counts, but nothing ever goes.
fn blind(policy: &ScalingPolicy, memory: &mut Memory, current: u32) -> Verdict {
    let held = |reason: &str| Verdict { to: current, rule: Rule::NoFigures, reason: reason.into(), wanted: None };
    let Some(fallback) = policy.fallback else { return held("no figure could be read; it is held") };
    memory.blind = memory.blind.saturating_add(1).min(fallback.after);
    if memory.blind < fallback.after {
        return held("no figure could be read; it is held");
    }
    let to = fallback.replicas.min(policy.max_replicas).max(current);
    let reason = format!("no figure could be read {} times; at least {} then", fallback.after, fallback.replicas);
    Verdict { to, rule: Rule::Fallback, reason, wanted: None }
}

/// R087, D306, D307: to sleep when there is nothing to do for long, and back at once.
fn sleep(policy: &ScalingPolicy, memory: &mut Memory, read: &Read, current: u32, now: Time) -> Option<Verdict> {
    if !policy.scale_to_zero {
        memory.idle_since = None;
        return None;
    }
    let verdict = |to, rule, reason| Some(Verdict { to, rule, reason, wanted: None });
    match (read.busy, current) {
        (Some(true), 0) => {
            memory.idle_since = None;
            let to = read.wanted.max(policy.min_replicas).min(policy.max_replicas);
            verdict(to, Rule::FromZero, format!("there is something to do; {}", read.why))
        }
        (Some(true), 1..) => {
            memory.idle_since = None;
            None
        }
        // What sleeps is woken by a figure only.
        (Some(false), 0) => verdict(0, Rule::Steady, "there is nothing to do".into()),
        (None, 0) => verdict(0, Rule::NoFigures, "it sleeps, and no figure could tell whether to wake it".into()),
        (Some(false), 1..) if read.missing == 0 => {
            let since = *memory.idle_since.get_or_insert(now);
            let idle = now.since(since);
            if idle >= policy.zero_after {
                if let Some(left) = cooling(policy, memory, now) {
                    return Some(cooled(current, "there is nothing to do", left, None));
                }
                return verdict(0, Rule::ToZero, format!("there was nothing to do for {} s", idle.as_secs()));
            }
            // Down to the minimum it goes like any other service.
            match current > policy.min_replicas {
                true => None,
                false => verdict(current, Rule::Idle, "there is nothing to do, but not for long enough".into()),
            }
        }
        // A figure is missing: nobody knows whether there is nothing to do.
        (Some(false) | None, 1..) => {
            memory.idle_since = None;
            None
        }
    }
}

/// D303: the safest count of the window in each direction.
fn stabilized(policy: &ScalingPolicy, memory: &Memory, current: u32, now: Time) -> u32 {
    let window = |back: std::time::Duration| {
        let ends = memory.recommended.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let counts = memory.recommended.iter().map(|(_, count)| *count);
        // The last one counts even with a window of nothing.
        let last = memory.recommended.len().saturating_sub(1);
        counts
            .zip(ends)
            .enumerate()
            .filter(move |(n, (_, end))| *n == last || now.since(*end) < back)
            .map(|(_, (count, _))| count)
    };
    let up = window(policy.up.stabilization).min().unwrap_or(current);
    let down = window(policy.down.stabilization).max().unwrap_or(current);
    if up > current {
        up
    } else if down < current {
        down
    } else {
        current
    }
}

/// R080, R088: seconds since the last change, when they are too few.
fn cooling(policy: &ScalingPolicy, memory: &Memory, now: Time) -> Option<u64> {
    let (at, _, _) = memory.changes.back()?;
    let since = now.since(*at);
    (since < policy.cooldown).then_some(since.as_secs())
}

fn cooled(current: u32, why: &str, ago: u64, wanted: Option<u32>) -> Verdict {
    Verdict { to: current, rule: Rule::Cooldown, reason: format!("{why}; it changed {ago} s ago"), wanted }
}

/// R089, H18: for how long more is wanted than may be had.
fn short(policy: &ScalingPolicy, memory: &mut Memory, wanted: Option<u32>, now: Time) -> bool {
    match wanted {
        // Nothing was seen, so nothing is known either way.
        None => false,
        Some(wanted) if wanted <= policy.max_replicas => {
            memory.short_since = None;
            memory.told = false;
            false
        }
        Some(_) => {
            let since = *memory.short_since.get_or_insert(now);
            let tell = now.since(since) >= policy.violated_after && !memory.told;
            memory.told |= tell;
            tell
        }
    }
}

/// Lets go of what no window reaches any more.
fn forget(policy: &ScalingPolicy, memory: &mut Memory, now: Time) {
    let back = policy.up.stabilization.max(policy.down.stabilization);
    while memory.recommended.len() > 1
        && (memory.recommended.len() > REMEMBERED_MAX
            || memory.recommended.get(1).is_some_and(|(at, _)| now.since(*at) >= back))
    {
        memory.recommended.pop_front();
    }
    let limits = policy.up.limits.iter().chain(&policy.down.limits);
    let back = limits.map(|limit| limit.period).max().unwrap_or_default().max(policy.cooldown);
    // The last one stays: nothing is written when it merely grows old.
    while memory.changes.len() > 1
        && (memory.changes.len() > REMEMBERED_MAX
            || memory.changes.front().is_some_and(|(at, _, _)| now.since(*at) >= back))
    {
        memory.changes.pop_front();
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
