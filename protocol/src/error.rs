//! What a caller is told when something is refused.

use serde::{Deserialize, Serialize};

/// Why something was refused, for programs. Codes are never reused for another meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be understood: wrong type, unknown field, too deep, not decodable.
    BadRequest,
    /// No such command.
    UnknownCommand,
    /// The saga, definition, task or package does not exist.
    NotFound,
    /// The caller may not do this, or the tenant does not match.
    Forbidden,
    /// The key or name is taken by something different.
    Conflict,
    /// The state of the thing does not allow this now.
    NotNow,
    /// The definition has faults; each is listed in the message.
    BadDefinition,
    /// The message is larger than the limit.
    TooLarge,
    /// A limit is reached; try again after `retryAfterMs`.
    Busy,
    /// The tenant, or a family of sagas, has as many as it may; some must end or be removed first.
    Quota,
    /// The owner of the shard changed or cannot be reached; nothing is lost, try again.
    Unavailable,
    /// The time the caller gave ran out; what was accepted goes on.
    Timeout,
    /// A bug in Skald.
    Internal,
}

impl Code {
    /// The number used where a protocol wants one (NATS micro services, HTTP).
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadDefinition => 400,
            Self::Forbidden => 403,
            Self::NotFound | Self::UnknownCommand => 404,
            Self::Conflict | Self::NotNow => 409,
            Self::TooLarge => 413,
            Self::Busy | Self::Quota => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// A refusal: what failed, why, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// What failed and why, for a person.
    pub message: String,
    /// What the caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A refusal with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), mend: None, retry_after_ms: None }
    }

    /// Adds what the caller can do.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}
