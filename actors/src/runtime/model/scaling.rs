//! The policy that owns a service's replicas.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::fault::{self, Fault};
use super::ids::{PolicyId, ServiceId};
use super::millis;
use super::service::{REPLICAS_MAX, TargetKind};

/// How far a metric may be from its target, in parts of it, before anything moves (D302: 10 %).
pub const TOLERANCE: f64 = 0.1;
/// How long the largest recommendation of the past keeps replicas from going (D303: 300 s).
pub const STABILIZATION_DOWN: Duration = Duration::from_secs(300);
/// How long the smallest recommendation of the past keeps replicas from coming (D303: 0 s).
pub const STABILIZATION_UP: Duration = Duration::ZERO;
/// The time between two changes by one policy (R088): a new replica is first seen well one to two
/// health windows of 30 s after its start, and only then shows in the figures.
pub const COOLDOWN: Duration = Duration::from_secs(60);
/// How long there must be nothing to do before the last replica goes (D306: 300 s).
pub const ZERO_AFTER: Duration = Duration::from_secs(300);
/// How long the wanted count must be out of reach before it is told (R089, H18): the time in which
/// a scale-up and a new machine would have come.
pub const VIOLATED_AFTER: Duration = Duration::from_secs(300);
/// The most metrics of one policy.
pub const METRICS_MAX: usize = 16;
/// The most limits per direction.
pub const LIMITS_MAX: usize = 8;
/// The longest window or cooldown.
pub const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// What is looked at (R078).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum Metric {
    /// Mean use of the ready replicas, in percent of one core.
    Cpu,
    /// Messages that wait, in all.
    Queue,
    /// Requests per second, in all.
    Rps,
}

/// A metric and what one replica should have of it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Which.
    pub metric: Metric,
    /// How much per replica.
    pub per_replica: f64,
    /// Above this there is something to do (D307); only asked when nothing runs or may run.
    #[serde(default)]
    pub activation: f64,
}

/// How fast it may go in one direction (D304).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// So many replicas, or so many of a hundred, per period.
    pub by: Step,
    /// The period.
    #[serde(rename = "periodMs", with = "millis")]
    pub period: Duration,
}

/// The size of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Replicas.
    Count(u32),
    /// Of what there was at the start of the period, in percent.
    Percent(u32),
}

/// Which of several limits counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Select {
    /// The one that lets most happen.
    Max,
    /// The one that lets least happen.
    Min,
    /// Nothing may happen in this direction.
    Disabled,
}

/// How one direction behaves.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Behaviour {
    /// How far a metric may be from its target, in parts of it.
    pub tolerance: f64,
    /// How far back recommendations count.
    #[serde(rename = "stabilizationMs", with = "millis")]
    pub stabilization: Duration,
    /// How fast.
    pub limits: Vec<Limit>,
    /// Which limit counts.
    pub select: Select,
}

/// What to do when every metric is missing for long (D308).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// After how many reads in a row without any figure.
    pub after: u32,
    /// How many replicas then, if there are fewer. More than these stay: nothing goes blindly (F47).
    pub replicas: u32,
}

/// What the policy turns (R081).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Knob {
    /// The number of replicas.
    #[default]
    Replicas,
    /// Units of throughput of a managed service; they are counted and bounded like replicas.
    Throughput,
}

/// The bounds within which a policy owns the replicas of its service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaRange {
    /// Never fewer (R085); 0 when it may sleep.
    pub min: u32,
    /// Never more (R086).
    pub max: u32,
}

impl ReplicaRange {
    /// Whether `replicas` lie within: then they are no drift (H02).
    pub const fn holds(self, replicas: u32) -> bool {
        self.min <= replicas && replicas <= self.max
    }

    /// The nearest number within.
    pub fn nearest(self, replicas: u32) -> u32 {
        replicas.max(self.min).min(self.max)
    }
}

/// Governs the replicas of exactly one service (B.3).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// Its name.
    pub policy_id: PolicyId,
    /// Of which service.
    pub service_id: ServiceId,
    /// What it turns.
    #[serde(default)]
    pub knob: Knob,
    /// Never fewer while awake (R085).
    pub min_replicas: u32,
    /// Never more (R086).
    pub max_replicas: u32,
    /// Whether the last replica may go (R087).
    #[serde(default)]
    pub scale_to_zero: bool,
    /// What is looked at; the metric that asks for most wins (D305).
    pub targets: Vec<Target>,
    /// The time between two changes (R088).
    #[serde(rename = "cooldownMs", with = "millis", default = "cooldown")]
    pub cooldown: Duration,
    /// How it grows.
    #[serde(default = "up", deserialize_with = "up_with")]
    pub up: Behaviour,
    /// How it shrinks.
    #[serde(default = "down", deserialize_with = "down_with")]
    pub down: Behaviour,
    /// How long there must be nothing to do before the last replica goes.
    #[serde(rename = "zeroAfterMs", with = "millis", default = "zero_after")]
    pub zero_after: Duration,
    /// How long the wanted count must be out of reach before it is told.
    #[serde(rename = "violatedAfterMs", with = "millis", default = "violated_after")]
    pub violated_after: Duration,
    /// What to do when every metric is missing for long. `None`: hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Whether it only says what it would do (F48).
    #[serde(default)]
    pub dry_run: bool,
    /// Whether it leaves everything as it is (D309).
    #[serde(default)]
    pub paused: bool,
}

const fn cooldown() -> Duration {
    COOLDOWN
}
const fn zero_after() -> Duration {
    ZERO_AFTER
}
const fn violated_after() -> Duration {
    VIOLATED_AFTER
}

/// How a policy grows unless told otherwise: doubling or four more per 15 s, whichever is more.
pub fn up() -> Behaviour {
    let period = Duration::from_secs(15);
    let limits = vec![Limit { by: Step::Percent(100), period }, Limit { by: Step::Count(4), period }];
    Behaviour { tolerance: TOLERANCE, stabilization: STABILIZATION_UP, limits, select: Select::Max }
}

/// How it shrinks unless told otherwise: at once, but only to the most that was recommended in the
/// last five minutes.
pub fn down() -> Behaviour {
    let limits = vec![Limit { by: Step::Percent(100), period: Duration::from_secs(15) }];
    Behaviour { tolerance: TOLERANCE, stabilization: STABILIZATION_DOWN, limits, select: Select::Max }
}

/// What is written of a behaviour; the rest is as it is unless told otherwise.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    tolerance: Option<f64>,
    stabilization_ms: Option<u64>,
    limits: Option<Vec<Limit>>,
    select: Option<Select>,
}

impl Written {
    fn over(self, otherwise: Behaviour) -> Behaviour {
        Behaviour {
            tolerance: self.tolerance.unwrap_or(otherwise.tolerance),
            stabilization: self.stabilization_ms.map_or(otherwise.stabilization, Duration::from_millis),
            limits: self.limits.unwrap_or(otherwise.limits),
            select: self.select.unwrap_or(otherwise.select),
        }
    }
}

fn up_with<'de, D: Deserializer<'de>>(from: D) -> Result<Behaviour, D::Error> {
    Written::deserialize(from).map(|written| written.over(up()))
}

fn down_with<'de, D: Deserializer<'de>>(from: D) -> Result<Behaviour, D::Error> {
    Written::deserialize(from).map(|written| written.over(down()))
}

impl ScalingPolicy {
    /// A policy with the defaults.
    pub fn new(policy_id: PolicyId, service_id: ServiceId, range: ReplicaRange, targets: Vec<Target>) -> Self {
        Self {
            policy_id,
            service_id,
            knob: Knob::Replicas,
            min_replicas: range.min,
            max_replicas: range.max,
            scale_to_zero: false,
            targets,
            cooldown: COOLDOWN,
            up: up(),
            down: down(),
            zero_after: ZERO_AFTER,
            violated_after: VIOLATED_AFTER,
            fallback: None,
            dry_run: false,
            paused: false,
        }
    }

    /// The replica counts that are nobody else's business (H02).
    pub const fn range(&self) -> ReplicaRange {
        let min = if self.scale_to_zero { 0 } else { self.min_replicas };
        ReplicaRange { min, max: self.max_replicas }
    }

    /// Holds the settings to their bounds, and to what the target can take (R087).
    pub fn check(&self, target: TargetKind) -> Result<(), Fault> {
        fault::between("minReplicas", self.min_replicas, 1, REPLICAS_MAX)?;
        fault::between("maxReplicas", self.max_replicas, self.min_replicas, REPLICAS_MAX)?;
        fault::at_most("targets", self.targets.len(), METRICS_MAX, "targets")?;
        if self.targets.is_empty() {
            return Err(Fault::new("targets", "there is none", "name a metric and what one replica should have of it"));
        }
        for (number, target) in self.targets.iter().enumerate() {
            let sound = target.per_replica.is_finite() && target.per_replica > 0.0;
            let awake = target.activation.is_finite() && target.activation >= 0.0;
            if !sound || !awake {
                let fault = format!("{} per replica, activation {}", target.per_replica, target.activation);
                return Err(Fault::new(
                    format!("targets[{number}]"),
                    fault,
                    "use finite numbers, more than 0 per replica",
                ));
            }
        }
        let wakes = self.targets.iter().any(|target| match target.metric {
            // What does not run uses no processor: it could never be woken by it.
            Metric::Cpu => false,
            Metric::Queue | Metric::Rps => true,
        });
        match (self.scale_to_zero, target) {
            (true, TargetKind::Continuous) => {
                let mend = "set it to false, or make the service event-driven";
                return Err(Fault::new("scaleToZero", "the service is not event-driven (R087)", mend));
            }
            (true, TargetKind::EventDriven) if !wakes => {
                return Err(Fault::new("scaleToZero", "no metric could wake the service", "add a queue or rps target"));
            }
            (true, TargetKind::EventDriven) | (false, TargetKind::EventDriven | TargetKind::Continuous) => {}
        }
        if let Some(fallback) = self.fallback {
            fault::between("fallback.after", fallback.after, 1, 1_000)?;
            fault::between("fallback.replicas", fallback.replicas, self.min_replicas, self.max_replicas)?;
        }
        for (field, wait) in [
            ("cooldownMs", self.cooldown),
            ("zeroAfterMs", self.zero_after),
            ("violatedAfterMs", self.violated_after),
            ("up.stabilizationMs", self.up.stabilization),
            ("down.stabilizationMs", self.down.stabilization),
        ] {
            fault::between(field, wait.as_millis(), 0, WINDOW_MAX.as_millis())?;
        }
        for (field, way) in [("up", &self.up), ("down", &self.down)] {
            fault::at_most(&format!("{field}.limits"), way.limits.len(), LIMITS_MAX, "limits")?;
            fault::between(&format!("{field}.tolerance"), way.tolerance, 0.0, 10.0)?;
            for limit in &way.limits {
                fault::between(&format!("{field}.periodMs"), limit.period.as_millis(), 1, WINDOW_MAX.as_millis())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is not written is as it is unless told otherwise, in each direction its own.
    #[test]
    fn a_behaviour_may_be_written_in_part() {
        let written = json!({
            "policyId": "p", "serviceId": "web", "minReplicas": 1, "maxReplicas": 2, "targets": [],
            "up": { "tolerance": 0.2 }, "down": { "stabilizationMs": 5_000 },
        });
        let policy: ScalingPolicy = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(policy.up, Behaviour { tolerance: 0.2, ..up() });
        assert_eq!(policy.down, Behaviour { stabilization: Duration::from_secs(5), ..down() });
        let again: ScalingPolicy = serde_json::from_value(serde_json::to_value(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
        let mut mistyped = written;
        mistyped["up"] = json!({ "tolerence": 0.2 });
        let error = serde_json::from_value::<ScalingPolicy>(mistyped).unwrap_err().to_string();
        assert!(error.contains("tolerence"), "{error}");
    }
}
