//! Which version counts.

use serde::{Deserialize, Serialize};

/// A mark on at most one version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Label {
    /// Made and not in use yet.
    Pending,
    /// The one that counts.
    Current,
    /// The one that counted before, and that some workloads may still use.
    Previous,
}

/// Where the labels are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Labels {
    /// The version that is pending.
    #[serde(default)]
    pub pending: Option<u64>,
    /// The one that counts.
    #[serde(default)]
    pub current: Option<u64>,
    /// The one that counted before.
    #[serde(default)]
    pub previous: Option<u64>,
}

impl Labels {
    /// The version with `label`.
    pub fn at(&self, label: Label) -> Option<u64> {
        match label {
            Label::Pending => self.pending,
            Label::Current => self.current,
            Label::Previous => self.previous,
        }
    }

    /// After `version` was made current: what counted before is previous, and the version is not
    /// pending any more. A version that is current already: nothing changes.
    #[must_use]
    pub fn with_current(self, version: u64) -> Self {
        if self.current == Some(version) {
            return self;
        }
        Self {
            pending: self.pending.filter(|pending| *pending != version),
            current: Some(version),
            previous: self.current.or(self.previous),
        }
    }

    /// After all labels were taken from `version`.
    #[must_use]
    pub fn without(self, version: u64) -> Self {
        let other = |at: Option<u64>| at.filter(|at| *at != version);
        Self { pending: other(self.pending), current: other(self.current), previous: other(self.previous) }
    }

    /// The versions that have any.
    pub fn versions(&self) -> impl Iterator<Item = u64> {
        [self.pending, self.current, self.previous].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_moves_all_three() {
        let made = Labels { pending: Some(2), current: Some(1), previous: None };
        let done = made.with_current(2);
        assert_eq!(done, Labels { pending: None, current: Some(2), previous: Some(1) });
        assert_eq!(done.with_current(2), done, "already current: nothing happens");
        assert_eq!(done.with_current(1), Labels { pending: None, current: Some(1), previous: Some(2) }, "the way back");
        let first = Labels { pending: Some(1), ..Labels::default() };
        assert_eq!(first.with_current(1), Labels { current: Some(1), ..Labels::default() });
    }
}
