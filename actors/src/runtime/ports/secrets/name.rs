//! What a secret is called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::runtime::model::Fault;

/// The longest name, in bytes: a file's name takes 255.
const NAME_MAX_BYTES: usize = 200;

/// Names a secret, as in `prod/orders/database`: parts of letters, digits, `-`, `_` and `.` with
/// slashes between them. It is what a binding's `reference` holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(Arc<str>);

impl SecretName {
    /// Checks `text` and makes it a name.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Fault> {
        let text = text.as_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
        if text.len() > NAME_MAX_BYTES || !text.split('/').all(good) {
            // It may be a value in the wrong place: it is not repeated.
            let mend = format!("use parts of letters, digits and \"-_.\" with / between, up to {NAME_MAX_BYTES} bytes");
            return Err(Fault::new("reference", "it is no name of a secret", mend));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SecretName {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        Self::new(text)
    }
}

impl FromStr for SecretName {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        Self::new(text)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_directory() {
        assert!(SecretName::new("prod/orders/data-base_1.key").is_ok());
        for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "a b", "ä", "a+b", &"x".repeat(201)] {
            assert!(SecretName::new(bad).is_err(), "{bad:?}");
        }
        let refused = SecretName::new("my password!").unwrap_err().to_string();
        assert!(!refused.contains("my password!"), "{refused}");
    }
}
