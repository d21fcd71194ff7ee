//! What an arbiter is asked.

use std::fmt;

use protocol::{Principal, Time};
use serde::{Deserialize, Serialize};

use super::state::Desired;
use crate::runtime::model::{
    ConfigurationRef, DeploymentId, DriftKind, Release, ReplicaRange, RequestKey, Revision, SecretBindingId,
};

/// Who speaks, by its part. The shell takes it from the authenticated sender, never from the body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum Source {
    /// A person, or whoever acts for one.
    Operator,
    /// The reader of desired state.
    Sync,
    /// `DriftDetectionWorker`.
    Drift,
    /// `RuntimeHealthWorker`.
    Health,
    /// `ScalingPolicyWorker`.
    Scaling,
    /// `ConfigurationSyncWorker`.
    Configuration,
    /// `SecretRotationWorker`.
    Secrets,
    /// Whoever carries out what the arbiter started.
    Runner,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The same key is the same request.
    pub key: RequestKey,
    /// Who speaks, by its part.
    pub source: Source,
    /// Who speaks, by name.
    pub by: Principal,
    /// When it was first asked; the same in every repetition.
    pub asked_at: Time,
    /// What is asked.
    pub command: Command,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Command {
    /// Bring this revision (R017).
    Deploy {
        /// Which.
        to: Revision,
        /// Also where the arbiter knows it as what runs: what was seen says otherwise.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
    },
    /// Bring back the last completed revision (R103–R105). While `of` is being brought: stop and go
    /// back.
    RollbackDeployment {
        /// The deployment that must go; another one that runs meanwhile is left alone.
        of: DeploymentId,
        /// Names the new deployment, which is of kind restore (H07).
        deployment_id: DeploymentId,
        /// Why.
        why: String,
    },
    /// Bring what runs back to what is wanted (R064).
    RemediateDrift {
        /// What is wanted.
        to: Revision,
        /// What differs.
        kinds: Vec<DriftKind>,
        /// Who approved it, where that is needed (R073).
        approved_by: Option<Principal>,
    },
    /// Change the number of replicas (R081).
    Scale {
        /// To how many.
        to: u32,
        /// How many were seen when it was decided (H20).
        observed: u32,
    },
    /// Let it run under this configuration (W037).
    ApplyConfiguration {
        /// Which.
        to: ConfigurationRef,
    },
    /// Let it use this version of a secret (W043).
    RefreshSecret {
        /// Which secret.
        secret_binding_id: SecretBindingId,
        /// Which version.
        version: u64,
    },
    /// Let new replicas of the same take over.
    Restart,
    /// Take its traffic and its replicas away, until somebody resumes.
    Drain {
        /// Why.
        why: String,
    },
    /// Take it away, with all that is kept of it.
    Remove {
        /// The saga that does, as `tenant/key`.
        saga: String,
    },
    /// What was started has ended.
    Finished {
        /// Under which number it was started.
        sequence: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// What is under way is given up; nobody will report its end any more.
    Abandon {
        /// Under which number it was started.
        sequence: u64,
        /// Why.
        why: String,
    },
    /// This is wanted now. It informs and starts nothing (H04).
    DesiredState {
        /// What.
        desired: Desired,
    },
    /// A scaling policy governs the replicas from now on, or none does any more (H02).
    Govern {
        /// Within these bounds.
        range: Option<ReplicaRange>,
    },
    /// What is held may come again (H01).
    ClearHold {
        /// What.
        held: Release,
    },
    /// Nothing happens by itself any more.
    Pause {
        /// Why.
        why: String,
    },
    /// Nothing good could be reached, and people must act: a restore failed before it was the
    /// arbiter's (R101, R110).
    Strand {
        /// Why.
        why: String,
    },
    /// It goes on: after a pause, a drain or an incident.
    Resume,
}

/// How something ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Outcome {
    /// As asked.
    Succeeded,
    /// It was tried, and what was before runs again.
    RolledBack {
        /// Why.
        why: String,
    },
    /// It ended before it changed anything.
    Failed {
        /// Why.
        why: String,
    },
    /// It could be neither finished nor taken back (R101, H06).
    Stuck {
        /// Why.
        why: String,
    },
    /// What came has taken over, and is not seen as it was asked.
    Differs {
        /// What of it.
        why: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::RolledBack { why } => write!(f, "taken back, {why}"),
            Self::Failed { why } => write!(f, "failed, {why}"),
            Self::Stuck { why } => write!(f, "stuck, {why}"),
            Self::Differs { why } => write!(f, "took over and is not as asked, {why}"),
        }
    }
}

/// The kind of a [`Command`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, strum::Display)]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs)]
pub enum Asked {
    Deploy,
    #[strum(serialize = "rollback")]
    RollbackDeployment,
    #[strum(serialize = "remediation")]
    RemediateDrift,
    Scale,
    #[strum(serialize = "configuration")]
    ApplyConfiguration,
    #[strum(serialize = "secret refresh")]
    RefreshSecret,
    Restart,
    Drain,
    Remove,
    #[strum(serialize = "end")]
    Finished,
    #[strum(serialize = "giving up")]
    Abandon,
    #[strum(serialize = "desired state")]
    DesiredState,
    #[strum(serialize = "scaling policy")]
    Govern,
    #[strum(serialize = "unhold")]
    ClearHold,
    Pause,
    #[strum(serialize = "incident")]
    Strand,
    Resume,
}

impl Asked {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Deploy,
        Self::RollbackDeployment,
        Self::RemediateDrift,
        Self::Scale,
        Self::ApplyConfiguration,
        Self::RefreshSecret,
        Self::Restart,
        Self::Drain,
        Self::Remove,
        Self::Finished,
        Self::Abandon,
        Self::DesiredState,
        Self::Govern,
        Self::ClearHold,
        Self::Pause,
        Self::Strand,
        Self::Resume,
    ];

    /// Who may ask it. A worker has one thing to say; a person may say all of it but the end of what
    /// is carried out, which is [`Asked::Abandon`] for them.
    pub const fn by(self) -> &'static [Source] {
        match self {
            Self::Deploy => &[Source::Operator, Source::Sync],
            Self::RollbackDeployment => &[Source::Operator, Source::Health],
            Self::RemediateDrift => &[Source::Operator, Source::Drift],
            Self::Scale => &[Source::Operator, Source::Scaling],
            Self::ApplyConfiguration => &[Source::Operator, Source::Configuration],
            Self::RefreshSecret => &[Source::Operator, Source::Secrets],
            Self::Finished => &[Source::Runner],
            Self::DesiredState => &[Source::Operator, Source::Sync],
            Self::Govern => &[Source::Operator, Source::Scaling],
            Self::Strand => &[Source::Operator, Source::Health, Source::Drift],
            Self::Abandon => &[Source::Operator, Source::Sync],
            Self::Restart | Self::Drain | Self::Remove | Self::ClearHold | Self::Pause | Self::Resume => {
                &[Source::Operator]
            }
        }
    }
}

impl Command {
    /// Its kind.
    pub const fn asked(&self) -> Asked {
        match self {
            Self::Deploy { .. } => Asked::Deploy,
            Self::RollbackDeployment { .. } => Asked::RollbackDeployment,
            Self::RemediateDrift { .. } => Asked::RemediateDrift,
            Self::Scale { .. } => Asked::Scale,
            Self::ApplyConfiguration { .. } => Asked::ApplyConfiguration,
            Self::RefreshSecret { .. } => Asked::RefreshSecret,
            Self::Restart => Asked::Restart,
            Self::Drain { .. } => Asked::Drain,
            Self::Remove { .. } => Asked::Remove,
            Self::Finished { .. } => Asked::Finished,
            Self::Abandon { .. } => Asked::Abandon,
            Self::DesiredState { .. } => Asked::DesiredState,
            Self::Govern { .. } => Asked::Govern,
            Self::ClearHold { .. } => Asked::ClearHold,
            Self::Pause { .. } => Asked::Pause,
            Self::Strand { .. } => Asked::Strand,
            Self::Resume => Asked::Resume,
        }
    }
}
