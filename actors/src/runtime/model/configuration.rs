//! Versions of a runtime configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::fault::{self, Fault};
use super::ids::{ConfigurationId, Digest, EnvironmentId};

/// The most entries of one version: more belongs into a file of the image.
pub const ENTRIES_MAX: usize = 512;
/// The longest name of an entry, in bytes.
pub const NAME_MAX_BYTES: usize = 256;
/// The longest value of an entry, in bytes: all of a version stays under a message's 1 MiB.
pub const VALUE_MAX_BYTES: usize = 16 * 1024;
/// All names and values of one version together, in bytes.
pub const TOTAL_MAX_BYTES: usize = 512 * 1024;

/// Variables that begin like this are ours: they say whose a process is.
const RESERVED: &str = "SKALD_";

/// Whether a program may be given a variable of this name and value.
pub fn check_variable(name: &str, value: &str) -> Result<(), Fault> {
    let why = if name.is_empty() {
        "the name is empty"
    } else if name.contains(|it: char| it == '=' || it.is_control() || it.is_whitespace()) {
        "a name holds no `=`, no space and no control character"
    } else if name == "PORT" || name.starts_with("PORT_") || name.starts_with(RESERVED) {
        "this name is set by the runtime itself"
    } else if value.contains('\0') {
        "a value holds no zero byte"
    } else {
        return Ok(());
    };
    Err(Fault::new("variable", format!("{name:?}: {why}"), "choose another name, or keep the value in a file"))
}

/// One version of one configuration. A version never changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationRef {
    /// Which configuration.
    pub configuration_id: ConfigurationId,
    /// Which version, counted from 1.
    pub version: u64,
}

impl std::fmt::Display for ConfigurationRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{}", self.configuration_id, self.version)
    }
}

/// One version with its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfiguration {
    /// Which.
    #[serde(flatten)]
    pub at: ConfigurationRef,
    /// Whose environment.
    pub environment_id: EnvironmentId,
    /// Names and values.
    pub entries: BTreeMap<String, String>,
}

impl RuntimeConfiguration {
    /// Refuses what can be no variable of a program, and what is too large.
    pub fn check(&self) -> Result<(), Fault> {
        if self.at.version == 0 {
            return Err(Fault::new("version", "it is 0", "versions are counted from 1"));
        }
        fault::at_most("entries", self.entries.len(), ENTRIES_MAX, "entries")?;
        let mut total = 0;
        for (name, value) in &self.entries {
            fault::text("entries", name, NAME_MAX_BYTES)?;
            check_variable(name, value)?;
            fault::at_most(&format!("entries.{name}"), value.len(), VALUE_MAX_BYTES, "bytes")?;
            total += name.len() + value.len();
        }
        fault::at_most("entries", total, TOTAL_MAX_BYTES, "bytes")
    }

    /// What the content is: the same content has the same digest, whatever its version (D502).
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for (name, value) in &self.entries {
            // Lengths go in, or `a=bc` and `ab=c` would be the same.
            for part in [name, value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        sha256(hash)
    }
}

/// The finished hash as a digest.
pub(in crate::runtime) fn sha256<T: TryFrom<String, Error = Fault>>(hash: Sha256) -> T {
    match T::try_from(format!("sha256:{}", hex::encode(hash.finalize()))) {
        Ok(digest) => digest,
        Err(fault) => unreachable!("a hash is written as a digest: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_variable_is_refused_when_it_is_published() {
        let check = |name: &str, value: &str| {
            RuntimeConfiguration {
                at: ConfigurationRef { configuration_id: ConfigurationId::new("web").unwrap(), version: 1 },
                environment_id: EnvironmentId::new("prod").unwrap(),
                entries: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            }
            .check()
        };
        for name in ["COLOUR", "a.b-c", "PORTAL", "ä"] {
            assert_eq!(check(name, "a=b\n"), Ok(()), "{name}");
        }
        for name in ["", "a=b", "=", "a\0", "a b", "A\nB", "a\u{85}", "PORT", "PORT_ADMIN", "SKALD_NODE"] {
            assert!(check(name, "x").is_err(), "{name:?}");
        }
        assert!(check("COLOUR", "a\0").is_err());
    }
}
