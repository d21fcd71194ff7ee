//! How far a rollout is, what is seen of it, and what it asks for.

use std::time::Duration;

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::Strategy;
use super::analysis::Run;
use crate::runtime::model::analysis::Figures;
use crate::runtime::model::millis;
use crate::runtime::model::strategy::PROGRESS_DEADLINE;

/// What is to be rolled out, and how.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How.
    pub strategy: Strategy,
    /// How many replicas it should have in the end.
    pub replicas: u32,
    /// Whether there is an old set to go back to. Without one, going back means no traffic (H08).
    pub stable: bool,
    /// How long nothing may move, pauses apart (F35).
    #[serde(rename = "progressDeadlineMs", with = "millis")]
    pub progress_deadline: Duration,
    /// Steps and analysis are skipped: it goes back to one of the last good revisions (D109).
    pub skip: bool,
    /// Only the number of replicas changes: there is no other set, and going back is another number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same: bool,
}

impl Plan {
    /// A plan with the default deadline that skips nothing.
    pub const fn new(strategy: Strategy, replicas: u32, stable: bool) -> Self {
        Self { strategy, replicas, stable, progress_deadline: PROGRESS_DEADLINE, skip: false, same: false }
    }

    /// How many phases it can have.
    pub(super) fn phases(&self) -> usize {
        8 + match &self.strategy {
            Strategy::Canary(canary) => canary.steps.len(),
            Strategy::RollingHealthGated(_) | Strategy::BlueGreen(_) => 0,
        }
    }
}

/// Replicas of one revision.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Set {
    /// They exist.
    pub total: u32,
    /// They pass their readiness probes.
    pub ready: u32,
    /// They have done so for the minimum time (D104 `minReadySeconds`).
    pub available: u32,
}

/// One of the two sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Which {
    /// The revision that comes.
    New,
    /// The revision that was.
    Old,
}

/// What somebody says to a rollout.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Word {
    /// Nothing.
    #[default]
    None,
    /// Go on: after a suspension, a pause, or an analysis that was left open.
    Resume,
    /// Let nothing move, and disturb nothing (D111).
    Suspend,
    /// Go back.
    Abort {
        /// Why.
        why: String,
    },
}

/// What is seen.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seen {
    /// Whether compute knows the set that comes, and be it as one without replicas.
    pub applied: bool,
    /// The revision that comes.
    pub new: Set,
    /// The revision that was.
    pub old: Set,
    /// How much of the traffic goes to the new set, in percent.
    pub weight: u8,
    /// What the requests to the new set showed since the last measurement.
    pub figures: Option<Figures>,
    /// What somebody says. One word is given once.
    pub word: Word,
}

impl Seen {
    /// Whether so many replicas of the set that comes are available, and requests can be sent to it.
    pub(super) fn serves(&self, replicas: u32) -> bool {
        self.applied && self.new.available >= replicas
    }
}

/// What a rollout asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Action {
    /// So many replicas. When some go, those that are not ready go first.
    SetReplicas {
        /// Of which set.
        which: Which,
        /// How many.
        to: u32,
    },
    /// So much of the traffic goes to the new set, in percent.
    SetWeight {
        /// Of a hundred.
        percent: u8,
    },
    /// The new set is the stable one from now on.
    Promote,
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Phase {
    /// Replica by replica.
    Rolling,
    /// A step of a canary.
    Step {
        /// Which, counted from 0.
        index: usize,
    },
    /// A canary passed all its steps and takes everything.
    Promoting,
    /// Blue/green: the new set starts without traffic.
    Preview,
    /// Blue/green: it is judged before the switch.
    Before,
    /// Blue/green: it waits for the switch.
    AwaitSwitch,
    /// Blue/green: traffic moves.
    Switching,
    /// Blue/green: it is judged after the switch.
    After,
    /// The old set is kept for a while, and goes.
    Retiring,
    /// Traffic goes back, then the new set goes.
    Aborting {
        /// Why.
        why: String,
    },
    /// The new set runs alone.
    Done,
    /// The old set runs alone.
    Aborted {
        /// Why.
        why: String,
    },
    /// It could not go back, or took over and did not become whole; its saga takes it back, or somebody must
    /// look (H06).
    Stuck {
        /// Why.
        why: String,
    },
}

impl Phase {
    /// Whether nothing comes after it.
    pub const fn ended(&self) -> bool {
        match self {
            Self::Done | Self::Aborted { .. } | Self::Stuck { .. } => true,
            Self::Rolling
            | Self::Step { .. }
            | Self::Promoting
            | Self::Preview
            | Self::Before
            | Self::AwaitSwitch
            | Self::Switching
            | Self::After
            | Self::Retiring
            | Self::Aborting { .. } => false,
        }
    }
}

/// A rollout so far.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutState {
    /// What is rolled out, and how.
    pub plan: Plan,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since: Time,
    /// When something last moved.
    pub progressed_at: Time,
    /// How far it was then: new replicas that are available, less old ones that exist. In an abort
    /// the other way round.
    best: Option<i64>,
    /// The analysis of this phase.
    pub(super) run: Option<Run>,
    /// The analysis of the whole rollout.
    pub(super) background: Option<Run>,
    /// Whether an analysis was left open and somebody must say how to go on.
    pub asking: bool,
    /// Since when nothing may move, when somebody said so.
    pub suspended_since: Option<Time>,
}

impl RolloutState {
    /// A rollout that begins now.
    pub fn begin(plan: Plan, now: Time) -> Self {
        let phase = match &plan.strategy {
            Strategy::RollingHealthGated(_) => Phase::Rolling,
            Strategy::Canary(_) if plan.skip => Phase::Promoting,
            Strategy::Canary(_) => Phase::Step { index: 0 },
            Strategy::BlueGreen(_) => Phase::Preview,
        };
        Self {
            plan,
            phase,
            since: now,
            progressed_at: now,
            best: None,
            run: None,
            background: None,
            asking: false,
            suspended_since: None,
        }
    }

    /// Whether it waits for a person, and what for.
    pub fn waits_for(&self) -> Option<&'static str> {
        match (&self.suspended_since, self.asking) {
            (Some(_), _) => Some("it is paused: `skald services resume` goes on, `skald rollback` goes back"),
            (None, true) => {
                Some("an analysis could not tell: `skald services resume` goes on, `skald rollback` goes back")
            }
            (None, false) => self
                .paused()
                .filter(|duration| duration.is_none())
                .map(|_| "a pause: `skald services resume` goes on, `skald rollback` goes back"),
        }
    }

    /// The pause it is in, if it is in one, with its length if it has one.
    pub(super) fn paused(&self) -> Option<Option<Duration>> {
        match (&self.phase, &self.plan.strategy) {
            (Phase::Step { index }, Strategy::Canary(canary)) => match canary.steps.get(*index)? {
                crate::runtime::model::strategy::CanaryStep::Pause { duration } => Some(*duration),
                crate::runtime::model::strategy::CanaryStep::Weight { .. }
                | crate::runtime::model::strategy::CanaryStep::Analysis { .. } => None,
            },
            (Phase::AwaitSwitch, Strategy::BlueGreen(both)) => Some(both.auto_promote_after),
            (
                Phase::Rolling
                | Phase::Step { .. }
                | Phase::Promoting
                | Phase::Preview
                | Phase::Before
                | Phase::AwaitSwitch
                | Phase::Switching
                | Phase::After
                | Phase::Retiring
                | Phase::Aborting { .. }
                | Phase::Done
                | Phase::Aborted { .. }
                | Phase::Stuck { .. },
                Strategy::RollingHealthGated(_) | Strategy::Canary(_) | Strategy::BlueGreen(_),
            ) => None,
        }
    }

    /// Takes a word. Answers whether it resumes what waits.
    pub(super) fn hear(&mut self, word: &Word, now: Time) -> bool {
        match (word, self.suspended_since) {
            (Word::None, _) | (Word::Suspend, Some(_)) => false,
            (Word::Suspend, None) => {
                // The way back is not held up: traffic would stay with what is known to be bad.
                let back = matches!(self.phase, Phase::Aborting { .. });
                self.suspended_since = (!back).then_some(now);
                false
            }
            (Word::Resume, Some(since)) => {
                // What was suspended does not count, neither for a pause nor for a deadline.
                let away = now.since(since);
                self.since = self.since.after(away);
                self.progressed_at = self.progressed_at.after(away);
                for run in [&mut self.run, &mut self.background].into_iter().flatten() {
                    run.next_at = run.next_at.after(away);
                }
                self.suspended_since = None;
                false
            }
            (Word::Resume, None) => true,
            (Word::Abort { why }, _) => {
                match self.phase {
                    // The new set is the stable one already: going back is another rollout.
                    Phase::Retiring => {}
                    Phase::Aborting { .. } | Phase::Done | Phase::Aborted { .. } | Phase::Stuck { .. } => {}
                    Phase::Rolling
                    | Phase::Step { .. }
                    | Phase::Promoting
                    | Phase::Preview
                    | Phase::Before
                    | Phase::AwaitSwitch
                    | Phase::Switching
                    | Phase::After => {
                        self.suspended_since = None;
                        self.enter(Phase::Aborting { why: why.clone() }, now);
                    }
                }
                false
            }
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.since = now;
        self.progressed_at = now;
        self.best = None;
        self.run = None;
        self.asking = false;
    }

    /// Progress is that more of what comes is available, or less of what goes is there.
    pub(super) fn note_progress(&mut self, seen: &Seen, now: Time) {
        let (comes, goes) = match self.phase {
            Phase::Aborting { .. } => (seen.old, seen.new),
            Phase::Rolling
            | Phase::Step { .. }
            | Phase::Promoting
            | Phase::Preview
            | Phase::Before
            | Phase::AwaitSwitch
            | Phase::Switching
            | Phase::After
            | Phase::Retiring
            | Phase::Done
            | Phase::Aborted { .. }
            | Phase::Stuck { .. } => (seen.new, seen.old),
        };
        let score = i64::from(comes.available) - i64::from(goes.total);
        if self.best.is_none_or(|best| score > best) {
            if self.best.is_some() {
                self.progressed_at = now;
            }
            self.best = Some(score);
        }
    }

    /// Where it goes when nothing moved for too long (F35). What waits on purpose is never late.
    pub(super) fn late(&self, now: Time) -> Option<Phase> {
        let judged = self.run.is_some();
        let waits = self.asking || self.suspended_since.is_some() || self.paused().is_some() || judged;
        if waits || now.since(self.progressed_at) <= self.plan.progress_deadline {
            return None;
        }
        let why = format!("nothing moved for {} s", self.plan.progress_deadline.as_secs());
        match &self.phase {
            Phase::Rolling
            | Phase::Step { .. }
            | Phase::Promoting
            | Phase::Preview
            | Phase::Before
            | Phase::AwaitSwitch
            | Phase::Switching
            | Phase::After => Some(Phase::Aborting { why }),
            Phase::Aborting { why: first } => Some(Phase::Stuck { why: format!("{first}; on the way back {why}") }),
            // The old set takes its time; it has no traffic.
            Phase::Retiring | Phase::Done | Phase::Aborted { .. } | Phase::Stuck { .. } => None,
        }
    }
}
