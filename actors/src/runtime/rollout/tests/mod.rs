//! Rollouts in a small world in which replicas come and go.

mod properties;
mod stories;

use std::time::Duration;

use protocol::Time;

use super::*;
use crate::runtime::model::analysis::Figures;

/// Two sets, a proxy and a clock.
pub(super) struct World {
    pub state: RolloutState,
    pub seen: Seen,
    pub now: Time,
    /// Whether new replicas become ready by themselves.
    pub starts: bool,
    /// Everything that was asked for, in order.
    pub log: Vec<String>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let old = match plan.stable {
            true => Set { total: plan.replicas, ready: plan.replicas, available: plan.replicas },
            false => Set::default(),
        };
        let now = Time::from_micros(0);
        let seen = Seen { old, ..Seen::default() };
        Self { state: RolloutState::begin(plan, now), seen, now, starts: true, log: Vec::new() }
    }

    /// One look, whose moves are done at once; replicas that were asked for start later.
    pub fn look(&mut self) -> Vec<Action> {
        let (state, actions) = next(&self.state, &self.seen, self.now);
        if state.phase == Phase::Done && self.state.phase != Phase::Done {
            let wanted = state.plan.replicas;
            let Seen { applied, new, old, weight, .. } = &self.seen;
            let asked = (true, wanted, wanted, 0, 100);
            assert_eq!((*applied, new.total, new.available, old.total, *weight), asked, "done, and not as asked");
        }
        self.state = state;
        self.seen.word = Word::None;
        for action in &actions {
            self.apply(action);
        }
        actions
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::SetReplicas { which, to } => {
                self.seen.applied |= *which == Which::New;
                let set = match which {
                    Which::New => &mut self.seen.new,
                    Which::Old => &mut self.seen.old,
                };
                set.total = *to;
                // The promise of the compute port: those that are not ready go first.
                set.ready = set.ready.min(*to);
                set.available = set.available.min(*to);
                self.log.push(format!("{which:?} {to}"));
            }
            Action::SetWeight { percent } => {
                assert!(self.seen.applied || *percent == 0, "traffic to a set that compute does not know");
                self.seen.weight = *percent;
                self.log.push(format!("weight {percent}"));
            }
            Action::Promote => self.log.push("promote".into()),
        }
    }

    /// Everything that starts has started.
    pub fn settle(&mut self) {
        let old = self.seen.old.total;
        self.seen.old = Set { total: old, ready: old, available: old };
        if self.starts {
            let new = self.seen.new.total;
            self.seen.new = Set { total: new, ready: new, available: new };
        }
    }

    /// Looks every ten seconds for so long, or until it has ended.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds / 10 {
            self.look();
            self.settle();
            self.now = self.now.after(Duration::from_secs(10));
            if self.state.phase.ended() {
                return;
            }
        }
    }

    pub fn say(&mut self, word: Word) {
        self.seen.word = word;
        self.look();
    }

    pub fn taken(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }
}

pub(super) fn figures(failures: u64) -> Option<Figures> {
    Some(Figures { requests: 100, failures, p50_ms: None, p99_ms: None })
}
