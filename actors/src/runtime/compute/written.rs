//! What of a log is read, and what was read of it.

use serde::{Deserialize, Serialize};

/// What is read of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// The last lines, no more than so many, where `after` is absent.
    pub lines: usize,
    /// The most bytes.
    pub bytes: usize,
    /// What came after an answer that had this as its `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Reading {
    /// The last `lines` lines.
    pub const fn last(lines: usize) -> Self {
        Self { lines, bytes: 1 << 20, after: None }
    }
}

/// What was read of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Its lines, the oldest first.
    pub lines: Vec<String>,
    /// Where the next reading goes on.
    pub next: String,
    /// Whether something is left out before the first line: what came since the former answer is not kept any more, or
    /// the last lines are more than the bounds take.
    pub missed: bool,
}
