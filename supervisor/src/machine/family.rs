//! What makes a saga a child: the key it gets, and what it knows of its parent.
//!
//! A key alone proves nothing: another saga may have it. So a child carries its parent's key and
//! waiting step in its own record, and whatever passes between the two is compared with them.

use protocol::SagaKey;
use protocol::ids::{CHILD_MARK, KEY_MAX_BYTES};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The step's name, as a child knows it: the parent's key and the number of the waiting step. A retry
/// of the step starts another child, under another key.
pub type Parent = (SagaKey, u64);

/// Error name: another saga has the key that the child would get.
pub const KEY_TAKEN: &str = "Saga.KeyTaken";
/// Error name: a child would be one too many, or one too deep.
pub const LIMIT_EXCEEDED: &str = "Saga.LimitExceeded";

/// How much of a long parent's key its children's keys begin with.
const HEAD_BYTES: usize = 62;
/// Hexadecimal digits of the digest that stands for the rest: two keys that share it do not happen.
const DIGEST_DIGITS: usize = 32;

/// The key of the child that `step` of `parent` starts in its try number `attempt`: `parent~3`, then
/// `parent~3.2`. Where that is too long, the parent's key is cut and a digest of it put in place of what
/// is missing: `beginning~x0123…~3`. No two of them are the same, because a step is a number.
pub fn child_key(parent: &SagaKey, step: u64, attempt: u32) -> SagaKey {
    let again = if attempt <= 1 { String::new() } else { format!(".{attempt}") };
    let tail = format!("{CHILD_MARK}{step}{again}");
    let parent = parent.as_str();
    let key = if parent.len() + tail.len() <= KEY_MAX_BYTES {
        format!("{parent}{tail}")
    } else {
        let digest = format!("{:x}", Sha256::digest(parent));
        format!("{}{CHILD_MARK}x{}{tail}", &parent[..HEAD_BYTES], &digest[..DIGEST_DIGITS])
    };
    SagaKey::new(key).expect("the head of a key, a digest and two numbers are a key and fit")
}

/// Where a saga stands among its own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Family {
    /// The saga that was started from outside and has all of these below it. Absent for that one
    /// itself, and in what the first releases wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<SagaKey>,
    /// How many parents there are above; 0 for one that was started from outside.
    #[serde(default, skip_serializing_if = "protocol::envelope::is_zero")]
    pub depth: u32,
}

impl Family {
    /// Whether it says nothing.
    pub fn is_new(&self) -> bool {
        *self == Self::default()
    }

    /// That of a child of the saga `key`.
    pub fn below(&self, key: &SagaKey) -> Self {
        Self { root: Some(self.root.as_ref().unwrap_or(key).clone()), depth: self.depth.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SagaKey {
        SagaKey::new(text).unwrap()
    }

    #[test]
    fn no_two_children_share_a_key() {
        let mut keys = std::collections::BTreeSet::new();
        let mut parents = vec![key("trip"), key("trip.1"), key(&"x".repeat(KEY_MAX_BYTES))];
        parents.push(key(&format!("{}y", "x".repeat(KEY_MAX_BYTES - 1))));
        // Steps and tries that look alike when they are written one after the other.
        for generation in 0..3 {
            let mut born = Vec::new();
            for parent in &parents {
                for (step, attempt) in [(1, 1), (1, 2), (2, 1), (12, 1), (u64::MAX, u32::MAX)] {
                    let child = child_key(parent, step, attempt);
                    assert!(child.is_a_childs() && keys.insert(child.clone()), "{child} in generation {generation}");
                    born.push(child);
                }
            }
            parents = born;
        }
        assert!(keys.contains(&key("trip~1.2")) && keys.contains(&key("trip~1~2")));
    }

    #[test]
    fn the_longest_key_has_room_for_a_family() {
        let mut parent = key(&"k".repeat(KEY_MAX_BYTES));
        for step in 0..40 {
            let child = child_key(&parent, step, 3);
            assert!(
                child.as_str().len() <= KEY_MAX_BYTES && child.as_str().ends_with(&format!("~{step}.3")),
                "{child}"
            );
            parent = child;
        }
    }

    #[test]
    fn a_family_has_one_root() {
        let child = Family::default().below(&key("trip"));
        let grandchild = child.below(&key("trip~1"));
        assert_eq!((grandchild.root, grandchild.depth), (Some(key("trip")), 2));
    }
}
