//! Secrets: keeping a value, who uses it, and changing it. No answer ever holds a value.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::Time;

/// A value that does not show itself. It travels in a command's body and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SecretValue(pub String);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What the format says about a wrong type shows what it found.
        String::deserialize(deserializer).map(Self).map_err(|_| de::Error::custom("the value of a secret is text"))
    }
}

/// `secret.put`: keeps a value. The first one is current at once; a later one comes into use by a
/// rotation, which tests it first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutSecret {
    /// Where.
    pub environment: String,
    /// What it is called.
    pub secret: String,
    /// The value.
    pub value: SecretValue,
    /// Names this very command: the same id again keeps the value once. A fresh one is made when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// `secret.bind`: says how often a secret changes by itself, and lets a service use it from its next
/// deployment on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindSecret {
    /// Where.
    pub environment: String,
    /// Which secret.
    pub secret: String,
    /// Which service is to use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How often it is changed by itself, in milliseconds; 0: on request only. As it was when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every_ms: Option<u64>,
}

/// `secret.unbind`: a service uses a secret no more from its next deployment on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnbindSecret {
    /// Where.
    pub environment: String,
    /// Which secret.
    pub secret: String,
    /// Which service.
    pub service: String,
}

/// `secret.remove`: removes a secret that no service uses, with all its values.
/// `secret.rotate`: changes a secret: to the value that was put last, or to one that is made up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfSecret {
    /// Where.
    pub environment: String,
    /// Which secret.
    pub secret: String,
}

/// `secret.list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListSecrets {
    /// Where.
    pub environment: String,
}

/// The answer to `secret.list`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secrets {
    /// One row each.
    pub secrets: Vec<SecretRow>,
}

/// A secret, without its values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRow {
    /// Where.
    pub environment: String,
    /// What it is called.
    pub secret: String,
    /// The variable in which processes find it.
    pub variable: String,
    /// The version that counts.
    pub version: u64,
    /// Since when.
    pub rotated_at: Time,
    /// How often it changes by itself, in milliseconds; absent: on request only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every_ms: Option<u64>,
    /// The services that use it, with the version that each runs on; 0: none yet.
    #[serde(default)]
    pub bound: BTreeMap<String, u64>,
    /// How far a rotation is; absent: none goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_shows_itself_neither_in_a_debug_line_nor_in_a_fault() {
        let put: PutSecret = serde_json::from_str(r#"{"environment":"dev","secret":"db","value":"hunter2"}"#).unwrap();
        assert!(!format!("{put:?}").contains("hunter2"));
        let fault = serde_json::from_str::<PutSecret>(r#"{"environment":"dev","secret":"db","value":4711}"#);
        assert!(!fault.unwrap_err().to_string().contains("4711"));
    }
}
