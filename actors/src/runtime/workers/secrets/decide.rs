//! Rotating a secret in four steps (W043–W049, D601, D602, H23).
//!
//! ```text
//! Create → Set → Test → Finish → every bound workload confirms → Retire → Done
//!           ↘ a failed test: the new version is thrown away, the old one was current all along
//! ```
//!
//! Up to Finish the old version is current; from Finish on the new one is, and both work. The old one
//! is retired only after every bound workload has said that it runs on the new one (F53).

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::Time;

use crate::runtime::model::deployment::shortened;
use crate::runtime::model::rotation::{Phase, Rotation, Step};
use crate::runtime::model::{Fault, RequestKey, SecretBinding, ServiceId};

/// How often a step is tried in all (W048 "max 5").
pub const ATTEMPTS_MAX: u32 = 5;
/// How long the workloads may take to confirm before somebody is told (H18): a rolling restart of a
/// large service takes minutes.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(1800);

/// What is heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A step is done. Done before counts as done (D601).
    Done(Step),
    /// A step failed and may be tried again.
    Failed(Step, String),
    /// A step failed and will always fail; a test that does not open is one.
    Refused(Step, String),
    /// A workload runs on this version.
    Confirmed(ServiceId, u64),
    /// These workloads use the secret now.
    Bound(BTreeSet<ServiceId>),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Do {
    /// Carry this out, under a key of binding, version and step.
    Step(Step),
    /// Have these workloads use this version.
    Refresh(BTreeSet<ServiceId>, u64),
    /// Say `SecretRotated`: the new version is current.
    SayRotated(u64),
    /// Tell people (W048).
    Alert(String),
}

/// Whether a rotation is due by the binding's own schedule (W044).
pub fn due(binding: &SecretBinding, now: Time) -> bool {
    binding.rotation_period.is_some_and(|period| now.since(binding.rotated_at) >= period)
}

impl Rotation {
    /// A rotation to the version after the current one, with what to do first. Asked for again while
    /// it runs or after it, the version is the same or current already, and nothing is begun (W049).
    pub fn begin(binding: &SecretBinding) -> (Self, Vec<Do>) {
        let rotation = Self {
            secret_binding_id: binding.secret_binding_id.clone(),
            from: binding.version,
            to: binding.version + 1,
            phase: Phase::Doing { step: Step::Create, failed: 0 },
            bound: binding.bound.clone(),
            confirmed: BTreeSet::new(),
            why: None,
        };
        (rotation, vec![Do::Step(Step::Create)])
    }

    /// The idempotency key of a step (W049, D601): the same for every attempt.
    pub fn key(&self, step: Step) -> Result<RequestKey, Fault> {
        RequestKey::new(format!("rotate/{}/{}/{step:?}", self.secret_binding_id, self.to))
    }

    /// The version that is current.
    pub fn current(&self) -> u64 {
        match &self.phase {
            Phase::Doing { step: Step::Create | Step::Set | Step::Test | Step::Finish | Step::Discard, .. } => {
                self.from
            }
            Phase::Kept { .. } => self.from,
            Phase::Doing { step: Step::Retire, .. } | Phase::Confirming { .. } | Phase::Done => self.to,
        }
    }

    /// What follows from what is heard.
    pub fn hear(&self, heard: Heard, now: Time) -> (Self, Vec<Do>) {
        let mut next = self.clone();
        let acts = match (self.phase.clone(), heard) {
            (Phase::Doing { step, .. }, Heard::Done(done)) if step == done => next.after(step, now),
            (Phase::Doing { step, failed }, Heard::Failed(which, why)) if step == which => {
                next.failed(step, failed + 1, false, &why)
            }
            (Phase::Doing { step, failed }, Heard::Refused(which, why)) if step == which => {
                next.failed(step, failed + 1, true, &why)
            }
            // A late echo of a step that is behind us.
            (
                Phase::Doing { .. } | Phase::Confirming { .. } | Phase::Done | Phase::Kept { .. },
                Heard::Done(_) | Heard::Failed(..) | Heard::Refused(..),
            ) => Vec::new(),
            (Phase::Confirming { .. } | Phase::Doing { .. }, Heard::Confirmed(service, version)) => {
                // Whoever still runs on the old version may have said so before.
                if version == self.to && self.bound.contains(&service) {
                    next.confirmed.insert(service);
                }
                next.retire_when_all()
            }
            (Phase::Confirming { .. } | Phase::Doing { .. }, Heard::Bound(bound)) => {
                let new: BTreeSet<ServiceId> = bound.difference(&self.bound).cloned().collect();
                next.confirmed.retain(|service| bound.contains(service));
                next.bound = bound;
                let mut acts = match self.phase {
                    // It may have been bound to the old version.
                    Phase::Confirming { .. } if !new.is_empty() => vec![Do::Refresh(new, self.to)],
                    Phase::Confirming { .. } | Phase::Doing { .. } | Phase::Done | Phase::Kept { .. } => Vec::new(),
                };
                acts.extend(next.retire_when_all());
                acts
            }
            (Phase::Confirming { since, told: false }, Heard::Tick) if now.since(since) >= CONFIRM_WITHIN => {
                next.phase = Phase::Confirming { since, told: true };
                let waiting: Vec<_> = self.waiting().iter().take(5).map(ToString::to_string).collect();
                let why = format!(
                    "{} of {} workloads do not run on version {} of {} yet ({}); the old version stays valid",
                    self.waiting().len(),
                    self.bound.len(),
                    self.to,
                    self.secret_binding_id,
                    waiting.join(", ")
                );
                vec![Do::Alert(why)]
            }
            (Phase::Doing { .. } | Phase::Confirming { .. } | Phase::Done | Phase::Kept { .. }, Heard::Tick)
            | (Phase::Done | Phase::Kept { .. }, Heard::Confirmed(..) | Heard::Bound(_)) => Vec::new(),
        };
        (next, acts)
    }

    /// What to do about where it stands, after a crash hid what was done. Every step is safe to repeat.
    pub fn resume(&self) -> Vec<Do> {
        match &self.phase {
            Phase::Doing { step, .. } => vec![Do::Step(*step)],
            Phase::Confirming { .. } => vec![Do::Refresh(self.waiting(), self.to)],
            Phase::Done | Phase::Kept { .. } => Vec::new(),
        }
    }

    fn after(&mut self, step: Step, now: Time) -> Vec<Do> {
        let following = match step {
            Step::Create => Step::Set,
            Step::Set => Step::Test,
            Step::Test => Step::Finish,
            Step::Finish => {
                self.phase = Phase::Confirming { since: now, told: false };
                let mut acts = vec![Do::SayRotated(self.to)];
                match self.waiting() {
                    waiting if waiting.is_empty() => acts.extend(self.retire_when_all()),
                    waiting => acts.push(Do::Refresh(waiting, self.to)),
                }
                return acts;
            }
            Step::Retire => {
                self.phase = Phase::Done;
                return Vec::new();
            }
            Step::Discard => {
                self.phase = Phase::Kept { why: self.why.clone().unwrap_or_default() };
                return Vec::new();
            }
        };
        self.phase = Phase::Doing { step: following, failed: 0 };
        vec![Do::Step(following)]
    }

    fn failed(&mut self, step: Step, failed: u32, for_good: bool, why: &str) -> Vec<Do> {
        if !for_good && failed < ATTEMPTS_MAX {
            self.phase = Phase::Doing { step, failed };
            return vec![Do::Step(step)];
        }
        let told = format!("{step:?} of version {} of {} failed: {why}", self.to, self.secret_binding_id);
        match step {
            // Whether it committed is not known when the answer is lost, and throwing away what may be
            // current would lock everybody out. It is tried on; people are told once.
            Step::Finish if !for_good => {
                self.phase = Phase::Doing { step, failed: failed.min(ATTEMPTS_MAX + 1) };
                let alert = (failed == ATTEMPTS_MAX).then(|| Do::Alert(format!("{told}; it is tried on")));
                alert.into_iter().chain([Do::Step(step)]).collect()
            }
            // F52: before the commit the old version is current; the new one is thrown away. A Finish
            // that was refused has not committed.
            Step::Create | Step::Set | Step::Test | Step::Finish => {
                self.why = Some(shortened(&told));
                self.phase = Phase::Doing { step: Step::Discard, failed: 0 };
                vec![Do::Alert(format!("{told}; version {} stays current", self.from)), Do::Step(Step::Discard)]
            }
            // Nothing works worse: an old or an unused version is valid for longer than it should be.
            Step::Retire => {
                self.phase = Phase::Done;
                vec![Do::Alert(format!("{told}; version {} is still valid, retire it by hand", self.from))]
            }
            Step::Discard => {
                self.phase = Phase::Kept { why: self.why.clone().unwrap_or_default() };
                vec![Do::Alert(format!("{told}; remove it by hand"))]
            }
        }
    }

    /// F53: only when every bound workload confirmed.
    fn retire_when_all(&mut self) -> Vec<Do> {
        match self.phase {
            Phase::Confirming { .. } if self.waiting().is_empty() => {
                self.phase = Phase::Doing { step: Step::Retire, failed: 0 };
                vec![Do::Step(Step::Retire)]
            }
            Phase::Confirming { .. } | Phase::Doing { .. } | Phase::Done | Phase::Kept { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
