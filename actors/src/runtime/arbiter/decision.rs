//! What an arbiter answers.

use std::fmt;

use protocol::{Principal, Time};
use serde::{Deserialize, Serialize};

use super::command::{Asked, Source};
use super::state::{Action, Doing, Hold, ServiceState};
use crate::runtime::model::{Digest, Fault, Release, ReplicaRange};

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It happens. The state is to be made durable first, then the acts are done.
    Accepted {
        /// The state from now on.
        state: Box<ServiceState>,
        /// What to do.
        acts: Vec<Act>,
    },
    /// It was done or is being done already, or it is so anyway; nothing happens.
    AlreadyDone {
        /// The number under which it was accepted; `None`: it is so anyway.
        sequence: Option<u64>,
    },
    /// Something else is under way; ask again when it has ended.
    Busy {
        /// What.
        doing: Doing,
        /// Its number.
        sequence: u64,
        /// Whose.
        by: Principal,
        /// Since when.
        since: Time,
    },
    /// It does not happen, and asking again does not help.
    Refused(Refusal),
}

/// What to do after a decision is durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Act {
    /// Carry this out, and report its end under this number.
    Start {
        /// The number; part of the idempotency key of all that is done for it.
        sequence: u64,
        /// What.
        action: Action,
    },
    /// Stop what was started under this number, and go back.
    Abort {
        /// The number.
        sequence: u64,
        /// Why.
        why: String,
    },
    /// Tell that something may not come again.
    SayHeld {
        /// What and why.
        hold: Hold,
    },
    /// Tell that it may come again.
    SayReleased {
        /// What.
        held: Release,
    },
    /// Open an incident (R110).
    RaiseIncident {
        /// Why.
        why: String,
    },
    /// Tell that it is none any more: somebody closed it, or deployed what is good.
    CloseIncident {
        /// Why it was one.
        why: String,
        /// Since when.
        since: Time,
    },
}

/// Why something does not happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It was rolled back here (H01).
    Held(Hold),
    /// A person wants it left alone.
    Paused {
        /// Who.
        by: Principal,
        /// Why.
        why: String,
    },
    /// It was drained.
    Drained {
        /// Why.
        why: String,
    },
    /// It is an incident.
    Incident {
        /// Why.
        why: String,
    },
    /// This part has no say in it.
    NotYours {
        /// Which part.
        source: Source,
        /// What was asked.
        asked: Asked,
    },
    /// A scaling policy owns the replicas (H02).
    Owned(ReplicaRange),
    /// No scaling policy governs it.
    NotGoverned,
    /// It lies outside the bounds of the policy (R085, R086).
    OutOfRange {
        /// What was asked.
        asked: u32,
        /// The bounds.
        range: ReplicaRange,
    },
    /// Nobody approved it (R073, R074).
    NotApproved,
    /// Something else is wanted by now.
    NotDesired {
        /// What was asked.
        asked: Digest,
        /// What is wanted.
        desired: Digest,
    },
    /// A newer version runs.
    Older {
        /// The version that runs.
        running: u64,
        /// The version that was asked.
        asked: u64,
    },
    /// The service does not use that secret.
    NotBound,
    /// Nothing runs.
    NothingRuns,
    /// Nothing of that number is under way.
    NotUnderWay,
    /// The thing to be rolled back does not run.
    NotRunning,
    /// There is no such hold.
    NotHeld,
    /// It was asked so long ago that nobody remembers whether it was done (H15).
    TooOld {
        /// What was asked until then is forgotten.
        forgotten_until: Time,
    },
    /// It was asked in the future.
    TooYoung,
    /// Its content is faulty.
    Faulty(Fault),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Hold { what, why, since }) => write!(f, "{what} was rolled back at {since}: {why}"),
            Self::Paused { by, why } => write!(f, "the service was paused by {by}: {why}"),
            Self::Drained { why } => write!(f, "the service was drained: {why}"),
            Self::Incident { why } => write!(f, "the service is an incident: {why}"),
            Self::NotYours { source, asked } => write!(f, "{source} may not ask for {asked}"),
            Self::Owned(range) => {
                write!(f, "a scaling policy owns the replicas, {} to {}", range.min, range.max)
            }
            Self::NotGoverned => f.write_str("no scaling policy governs the service"),
            Self::OutOfRange { asked, range } => {
                write!(f, "{asked} replicas lie outside the policy's {} to {}", range.min, range.max)
            }
            Self::NotApproved => f.write_str("nobody approved it"),
            Self::NotDesired { asked, desired } => write!(f, "{desired} is wanted by now, not {asked}"),
            Self::Older { running, asked } => write!(f, "version {running} runs, which is newer than {asked}"),
            Self::NotBound => f.write_str("the service does not use that secret"),
            Self::NothingRuns => f.write_str("nothing was deployed yet"),
            Self::NotUnderWay => f.write_str("nothing of that number is under way"),
            Self::NotRunning => f.write_str("that deployment neither runs nor comes"),
            Self::NotHeld => f.write_str("it is not held"),
            Self::TooOld { forgotten_until } => {
                write!(f, "requests up to {forgotten_until} are forgotten, so it cannot be told whether it was done")
            }
            Self::TooYoung => f.write_str("it was asked in the future"),
            Self::Faulty(fault) => fmt::Display::fmt(fault, f),
        }
    }
}

impl Refusal {
    /// What the asker can do about it.
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Held(_) => {
                "deploy another image, configuration or secret, or let this one come again with `skald services unhold`"
            }
            Self::Paused { .. } | Self::Drained { .. } => "resume the service",
            Self::Incident { .. } => "deploy or roll back by hand, or resume the service",
            Self::NotYours { .. } => "send it as a command of the part that owns it",
            Self::Owned(_) => "change the scaling policy, or remove it",
            Self::NotGoverned => "attach a scaling policy, or scale by hand",
            Self::OutOfRange { .. } => "change the bounds of the scaling policy",
            Self::NotApproved => "have it approved (`skald drift approve`), and ask again",
            Self::NotDesired { .. } => "read desired state again",
            Self::Older { .. } => "publish the old content as a new version",
            Self::NotBound => "bind the secret in desired state, and deploy",
            Self::NothingRuns => "deploy it first",
            Self::NotUnderWay | Self::NotRunning | Self::NotHeld => "look at the service again",
            Self::TooOld { .. } => "look at the service, and ask again under a new key",
            Self::TooYoung => "set the sender's clock",
            Self::Faulty(_) => "correct it and ask again",
        }
    }
}
