//! Names of things. Each is checked when it is made, so that it can stand in a key or a subject.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};

/// The longest name, in bytes: a key of several stays under the 128 bytes of a saga's key with
/// room for the worker's name.
pub const NAME_MAX_BYTES: usize = 64;
/// The longest idempotency key, in bytes: it holds a name, a digest and a counter.
pub const KEY_MAX_BYTES: usize = 256;

/// The longest label of a host name, in bytes (RFC 1035).
pub const LABEL_MAX_BYTES: usize = 63;

/// What environments, services and secrets may be called, whoever names them and with whichever verb: a
/// configuration and a scaling policy go by the name of their service. Names become labels of host names,
/// parts of paths and, in capitals, variables.
///
/// The types below let more through, because earlier releases kept more: it is asked when a name comes up
/// that is not there yet.
pub fn label(what: &str, text: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > LABEL_MAX_BYTES || text.starts_with('-') || !text.bytes().all(plain) {
        let shown: String = text.chars().take(80).collect();
        let mend = format!("use up to {LABEL_MAX_BYTES} lower-case letters, digits and hyphens, no hyphen first");
        return Err(Fault::new(what, format!("{shown:?} cannot be its name"), mend));
    }
    Ok(())
}

fn name(what: &str, text: &str, max: usize, also: &str) -> Result<(), Fault> {
    fault::text(what, text, max)?;
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c) && !also.contains(*c)) {
        Some(wrong) => {
            let mend = format!("use letters, digits and any of \"-_{also}\"");
            Err(Fault::new(what, format!("{wrong:?} is not allowed in it"), mend))
        }
        None => Ok(()),
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
fn digest(what: &str, text: &str) -> Result<(), Fault> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(Fault::new(what, format!("{shown:?} is not a digest"), "write sha256: and 64 lower-case hexadecimal digits"))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes it a name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Fault> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), Fault> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Fault;
            fn try_from(text: String) -> Result<Self, Fault> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl FromStr for $name {
            type Err = Fault;
            fn from_str(text: &str) -> Result<Self, Fault> {
                Self::new(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One service of one environment.
    ServiceId, |text| name("serviceId", text, NAME_MAX_BYTES, ".")
);
id!(
    /// One environment.
    EnvironmentId, |text| name("environmentId", text, NAME_MAX_BYTES, ".")
);
id!(
    /// One deployment: one attempt to bring one revision to one service.
    DeploymentId, |text| name("deploymentId", text, NAME_MAX_BYTES, ".")
);
id!(
    /// One configuration; its versions are counted from 1.
    ConfigurationId, |text| name("configurationId", text, NAME_MAX_BYTES, ".")
);
id!(
    /// One secret as workloads are bound to it; its versions are counted from 1.
    SecretBindingId, |text| name("secretBindingId", text, NAME_MAX_BYTES, ".")
);
id!(
    /// One scaling policy.
    PolicyId, |text| name("policyId", text, NAME_MAX_BYTES, ".")
);
id!(
    /// The idempotency key of a request: the same key is the same request.
    RequestKey, |text| name("key", text, KEY_MAX_BYTES, "./:=")
);
id!(
    /// What an image or a package is, by its content.
    Digest, |text| digest("digest", text)
);
id!(
    /// What a drift finding is about; the same drift has the same hash.
    FindingHash, |text| digest("findingHash", text)
);

/// A stable 64-bit hash (FNV-1a, high half folded in), for spreading work and for jitter. The same
/// on every machine and in every release.
pub fn spread(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    // FNV's low bits are weak for short names that differ in their end only.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_of_a_host_name() {
        for good in ["web", "db-password", "7", &"x".repeat(63)] {
            assert_eq!(label("service", good), Ok(()));
        }
        for bad in ["", "MSVC", "a_b", "a.b", "-a", "ä", "a b", &"x".repeat(64)] {
            assert!(label("service", bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn names_and_digests_refuse_what_a_key_cannot_carry() {
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(ServiceId::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert_eq!(
            ServiceId::new("a b").unwrap_err().to_string(),
            "serviceId: ' ' is not allowed in it; use letters, digits and any of \"-_.\""
        );
        for bad in ["", "latest", "sha256:12", &format!("sha256:{}", "A".repeat(64))] {
            assert!(Digest::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(Digest::new(format!("sha256:{}", "a0".repeat(32))).is_ok());
        assert!(serde_json::from_str::<Digest>("\"latest\"").is_err(), "the edge checks too");
    }
}
