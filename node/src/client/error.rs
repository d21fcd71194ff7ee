//! Why a call was not answered as hoped.

use std::time::Duration;

use protocol::{Code, Principal, Problem, Tenant};

/// What a caller can tell apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No NATS server could be reached.
    #[error("no NATS server answers at {server}: {why}")]
    Unreachable {
        /// The addresses tried.
        server: String,
        /// What the connection said.
        why: String,
    },
    /// The server refused the credentials or the lack of them.
    #[error("the NATS server at {server} refused the connection: {why}")]
    Unauthorized {
        /// The addresses tried.
        server: String,
        /// What the server said.
        why: String,
    },
    /// The server does not let this connection say or hear it.
    #[error("the server does not let this connection do that: {said}")]
    NotAllowed {
        /// What the server said: publish or subscribe, and the subject.
        said: String,
        /// Whose data the call is about.
        tenant: Tenant,
        /// As whom it speaks.
        principal: Principal,
        /// Where answers to it would come.
        inbox: String,
    },
    /// The server is there, no node is.
    #[error("no node answers \"{what}\" on {server}")]
    NoNode {
        /// The command or the question.
        what: String,
        /// The server asked.
        server: String,
    },
    /// A node took the call and did not answer in time; it may have taken effect.
    #[error("no answer to \"{what}\" within {waited_ms} ms")]
    Timeout {
        /// The command or the question.
        what: String,
        /// How long was waited.
        waited_ms: u64,
    },
    /// The node refused.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// Something answered that does not speak our words.
    #[error("the answer to \"{what}\" cannot be read: {why}")]
    Unreadable {
        /// The command or the question.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The connection failed under way.
    #[error("the connection failed: {0}")]
    Connection(String),
}

impl Error {
    /// What the caller can do, if we know.
    pub fn mend(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("start a cluster on this machine with `skald up`, or name a server with --server".into())
            }
            Self::Unauthorized { .. } => {
                Some("name a credentials file with --creds, or ask who runs the server".into())
            }
            Self::NotAllowed { tenant, principal, inbox, .. } => Some(format!(
                "ask who runs the server for credentials of {principal} in tenant {tenant} that allow it, and name \
                 them with --creds (`skald nats config --user {tenant}:{principal}` writes them); answers come \
                 below {inbox}"
            )),
            Self::NoNode { .. } => Some(
                "is a node running? Start one with `skald up`, or join this server with `skald node`; \
                 `skald doctor` checks the rest"
                    .into(),
            ),
            Self::Timeout { .. } => Some(
                "look before you repeat it: `skald show KEY`. `skald doctor` says whether the cluster is well".into(),
            ),
            Self::Refused(problem) => problem.mend.clone(),
            Self::Unreadable { .. } => {
                Some("client and nodes may be of different releases: compare `skald --version`".into())
            }
            Self::Connection(_) => None,
        }
    }

    /// The problem's code, when a node refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// The same after `waited` in all.
    pub(super) fn waited(self, waited: Duration) -> Self {
        match self {
            Self::Timeout { what, .. } => {
                Self::Timeout { what, waited_ms: waited.as_millis().try_into().unwrap_or(u64::MAX) }
            }
            other => other,
        }
    }

    /// Whether the same call may well succeed a moment later, and after how long at the earliest.
    pub(super) fn passing(&self) -> Option<u64> {
        match self {
            Self::Refused(problem) => match problem.code {
                Code::Busy | Code::Unavailable => Some(problem.retry_after_ms.unwrap_or(0)),
                Code::BadRequest
                | Code::UnknownCommand
                | Code::NotFound
                | Code::Forbidden
                | Code::Conflict
                | Code::NotNow
                | Code::BadDefinition
                | Code::TooLarge
                | Code::Timeout
                | Code::Quota
                | Code::Internal => None,
            },
            // Nobody answers for a moment while the only node that serves hands over.
            Self::NoNode { .. } => Some(0),
            Self::Unreachable { .. }
            | Self::Unauthorized { .. }
            | Self::NotAllowed { .. }
            | Self::Timeout { .. }
            | Self::Unreadable { .. }
            | Self::Connection(_) => None,
        }
    }
}
