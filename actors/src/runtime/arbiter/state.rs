//! What an arbiter remembers of its service.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use protocol::{Principal, Time};
use serde::{Deserialize, Serialize};

use super::command::{Asked, Outcome, Source};
use crate::runtime::model::{
    ConfigurationRef, Digest, Release, ReplicaRange, RequestKey, Revision, SecretBindingId, ServiceId, Stage,
};

/// How many accepted requests are remembered by key: at one a minute two hours, and some 15 KiB of
/// state. Whatever was asked before the oldest of them is refused, so a repetition is never taken
/// for something new, however late it comes (H15).
pub const ANSWERED_MAX: usize = 128;
/// How many completed revisions are remembered as ways back.
pub const COMPLETED_MAX: usize = 10;
/// How many holds at most. When there are more, the oldest that is not desired ends: drift and sync
/// do not bring what is not desired anyway.
pub const HELD_MAX: usize = 64;

/// One service, as its arbiter knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    /// Which.
    pub service_id: ServiceId,
    /// How far from users; production asks for approval (R073).
    pub stage: Stage,
    /// The number of the last accepted request; only grows.
    pub sequence: u64,
    /// What runs.
    #[serde(default)]
    pub current: Option<Revision>,
    /// How many replicas it was last given.
    #[serde(default)]
    pub replicas: u32,
    /// Revisions that were completed, oldest first; what was rolled back is taken out (R105).
    #[serde(default)]
    pub completed: VecDeque<Revision>,
    /// What is wanted, as last read.
    #[serde(default)]
    pub desired: Option<(Desired, Time)>,
    /// What may not come again, oldest first (H01).
    #[serde(default)]
    pub held: Vec<Hold>,
    /// Who owns the replicas: a scaling policy, or desired state (H02).
    #[serde(default)]
    pub governed: Option<ReplicaRange>,
    /// The one thing that is under way.
    #[serde(default)]
    pub under_way: Option<UnderWay>,
    /// Whether things happen by themselves.
    #[serde(default)]
    pub standing: Standing,
    /// Accepted requests, oldest first.
    #[serde(default)]
    pub answered: VecDeque<Answered>,
    /// When the youngest forgotten request was asked.
    #[serde(default)]
    pub forgotten_until: Option<Time>,
}

/// What desired state says about the service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The image.
    pub image: Digest,
    /// The configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationRef>,
}

impl Desired {
    /// Whether it is `release` that it says; where it says no configuration, any is.
    pub(super) fn is(&self, release: &Release) -> bool {
        self.image == release.image && (self.configuration.is_none() || self.configuration == release.configuration)
    }
}

/// What may not come again, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// What.
    pub what: Release,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Time,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnderWay {
    /// Its number: the runner names it when it reports the end.
    pub sequence: u64,
    /// Under which key it was asked.
    pub key: RequestKey,
    /// By which part.
    pub source: Source,
    /// By whom.
    pub by: Principal,
    /// Since when.
    pub since: Time,
    /// What.
    pub action: Action,
    /// Why it is being stopped, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
}

/// What is carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Action {
    /// A revision comes.
    Deploying {
        /// What ran before.
        from: Option<Revision>,
        /// What comes.
        to: Revision,
    },
    /// What is wanted comes back.
    Remediating {
        /// What ran before.
        from: Option<Revision>,
        /// What comes.
        to: Revision,
    },
    /// The last good revision comes back.
    Restoring {
        /// What goes.
        from: Revision,
        /// What comes.
        to: Revision,
    },
    /// There is no good revision to go back to: traffic is taken away (H08).
    Stopping {
        /// What goes.
        from: Revision,
    },
    /// Replicas change.
    Scaling {
        /// From how many.
        from: u32,
        /// To how many.
        to: u32,
    },
    /// The configuration changes.
    Configuring {
        /// What it was.
        from: Option<ConfigurationRef>,
        /// What it becomes.
        to: ConfigurationRef,
    },
    /// A secret's version changes.
    Refreshing {
        /// Which secret.
        secret_binding_id: SecretBindingId,
        /// What it was.
        from: u64,
        /// What it becomes.
        to: u64,
    },
    /// New replicas of the same take over.
    Restarting {
        /// Which restart of it this is.
        to: u64,
    },
    /// Traffic and replicas are taken away.
    Draining {
        /// Why.
        why: String,
    },
    /// It goes, with all that is kept of it.
    Removing {
        /// The saga that takes it away, as `tenant/key`.
        saga: String,
    },
}

/// The kind of what is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, strum::Display)]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs)]
pub enum Doing {
    Nothing,
    Deploying,
    Remediating,
    Restoring,
    Stopping,
    Scaling,
    Configuring,
    Refreshing,
    Restarting,
    Draining,
    Removing,
}

impl Doing {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::Deploying,
        Self::Remediating,
        Self::Restoring,
        Self::Stopping,
        Self::Scaling,
        Self::Configuring,
        Self::Refreshing,
        Self::Restarting,
        Self::Draining,
        Self::Removing,
    ];

    /// How long it may take before somebody should look (H06). Nothing is given up by itself: what is
    /// carried out may still act. A canary has pauses, so a deployment has a day.
    pub const fn deadline(self) -> Duration {
        match self {
            Self::Nothing => Duration::MAX,
            Self::Deploying | Self::Remediating => Duration::from_secs(24 * 3600),
            Self::Restoring | Self::Stopping | Self::Draining | Self::Removing => Duration::from_secs(1800),
            Self::Scaling | Self::Configuring | Self::Refreshing | Self::Restarting => Duration::from_secs(1800),
        }
    }
}

impl Action {
    /// Its kind.
    pub const fn doing(&self) -> Doing {
        match self {
            Self::Deploying { .. } => Doing::Deploying,
            Self::Remediating { .. } => Doing::Remediating,
            Self::Restoring { .. } => Doing::Restoring,
            Self::Stopping { .. } => Doing::Stopping,
            Self::Scaling { .. } => Doing::Scaling,
            Self::Configuring { .. } => Doing::Configuring,
            Self::Refreshing { .. } => Doing::Refreshing,
            Self::Restarting { .. } => Doing::Restarting,
            Self::Draining { .. } => Doing::Draining,
            Self::Removing { .. } => Doing::Removing,
        }
    }
}

/// Whether things happen by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum Standing {
    /// Yes.
    #[default]
    Open,
    /// No: a person wants it left alone; people may still act.
    Paused {
        /// Who.
        by: Principal,
        /// Why.
        why: String,
        /// Since when.
        since: Time,
    },
    /// No, and nobody may: it has no traffic and no replicas.
    Drained {
        /// Why.
        why: String,
        /// Since when.
        since: Time,
        /// How many replicas it had, and has again when it is resumed. Absent in records of earlier releases.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replicas: Option<u32>,
    },
    /// No: it could not be brought back to a good state; people may act (R094).
    Incident {
        /// Why.
        why: String,
        /// Since when.
        since: Time,
    },
}

/// A request that was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// Its key.
    pub key: RequestKey,
    /// Its number.
    pub sequence: u64,
    /// What it was, for the history.
    pub what: String,
    /// Who asked.
    pub by: Principal,
    /// When it was asked.
    pub asked_at: Time,
    /// When it was accepted.
    pub at: Time,
    /// How it ended, once it has; what starts nothing has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl ServiceState {
    /// A service of which nothing is known yet.
    pub fn new(service_id: ServiceId, stage: Stage) -> Self {
        Self {
            service_id,
            stage,
            sequence: 0,
            current: None,
            replicas: 0,
            completed: VecDeque::new(),
            desired: None,
            held: Vec::new(),
            governed: None,
            under_way: None,
            standing: Standing::Open,
            answered: VecDeque::new(),
            forgotten_until: None,
        }
    }

    /// The kind of what is under way.
    pub fn doing(&self) -> Doing {
        self.under_way.as_ref().map_or(Doing::Nothing, |under_way| under_way.action.doing())
    }

    /// What was asked last, and why it ended, where it did not succeed.
    pub fn gave_up(&self) -> Option<String> {
        let last = self.answered.back()?;
        match last.outcome.as_ref()? {
            Outcome::Succeeded => None,
            Outcome::RolledBack { why }
            | Outcome::Failed { why }
            | Outcome::Stuck { why }
            | Outcome::Differs { why } => Some(format!("{} by {}: {why}", last.what, last.by)),
        }
    }

    /// The saga that takes the service away, as `tenant/key`, while one does.
    pub fn removed_by(&self) -> Option<&str> {
        match &self.under_way.as_ref()?.action {
            Action::Removing { saga } => Some(saga),
            Action::Deploying { .. }
            | Action::Remediating { .. }
            | Action::Restoring { .. }
            | Action::Stopping { .. }
            | Action::Scaling { .. }
            | Action::Configuring { .. }
            | Action::Refreshing { .. }
            | Action::Restarting { .. }
            | Action::Draining { .. } => None,
        }
    }

    /// What holds `revision` back, if anything does.
    pub fn hold_on(&self, revision: &Revision) -> Option<&Hold> {
        let release = revision.release();
        self.held.iter().find(|hold| hold.what == release)
    }

    /// What is under way for longer than it should: somebody should look.
    pub fn overdue(&self, now: Time) -> Option<&UnderWay> {
        self.under_way.as_ref().filter(|under_way| now.since(under_way.since) > under_way.action.doing().deadline())
    }

    /// Where a rollback from what runs would lead: the last completed revision that is another
    /// release and is not held (R105), with the secrets of today, because those of then may be
    /// retired.
    pub fn way_back(&self) -> Option<Revision> {
        let current = self.current.as_ref()?;
        let good = |revision: &&Revision| !revision.same_release(current) && self.hold_on(revision).is_none();
        let mut back = self.completed.iter().rev().find(good)?.clone();
        for (binding, version) in &mut back.secrets {
            *version = (*version).max(current.secrets.get(binding).copied().unwrap_or(0));
        }
        Some(back)
    }

    /// Remembers an accepted request, and forgets the oldest when there are too many.
    pub(super) fn remember(&mut self, asked: Asked, key: &RequestKey, by: &Principal, asked_at: Time, at: Time) {
        let (key, by, sequence) = (key.clone(), by.clone(), self.sequence);
        let what = asked.to_string();
        self.answered.push_back(Answered { key, sequence, what, by, asked_at, at, outcome: None });
        while self.answered.len() > ANSWERED_MAX {
            if let Some(forgotten) = self.answered.pop_front() {
                self.forgotten_until = self.forgotten_until.max(Some(forgotten.asked_at));
            }
        }
    }
}
