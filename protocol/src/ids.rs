//! Names of things. Each is checked when it is made, so that a name can always stand in a NATS
//! subject or a key without escaping.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest tenant, principal or node name, in bytes: subjects stay readable and well under
/// the server's limit for control lines (4 KiB).
pub const NAME_MAX_BYTES: usize = 64;
/// The longest saga key, in bytes.
pub const KEY_MAX_BYTES: usize = 128;
/// Stands in the keys of children and in no others: a start from outside is refused with it, so that
/// nobody takes the key of a child that is yet to be born.
pub const CHILD_MARK: char = '~';

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not usable: {why}")]
pub struct BadName {
    what: &'static str,
    text: String,
    why: String,
}

fn check(what: &'static str, text: &str, max: usize, also: &str) -> Result<(), BadName> {
    let bad = |why: String| {
        let shown: String = text.chars().take(80).collect();
        Err(BadName { what, text: shown, why })
    };
    if text.is_empty() {
        return bad("it is empty".into());
    }
    if text.len() > max {
        return bad(format!("it has {} bytes, the limit is {max}", text.len()));
    }
    if let Some(wrong) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c) && !also.contains(*c)) {
        // The mark of children can be read, and is not offered.
        let also = also.trim_end_matches(CHILD_MARK);
        return bad(format!("{wrong:?} is not allowed, use letters, digits and any of \"-_{also}\""));
    }
    if text.starts_with(['.', '/']) || text.ends_with(['.', '/']) || text.contains("..") || text.contains("//") {
        return bad("separators stand between other characters, one at a time".into());
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $also:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes it a name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, BadName> {
                let text = text.as_ref();
                check($what, text, $max, $also)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
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

name!(
    /// Whose data something is. Every access is checked against it.
    Tenant, "tenant", NAME_MAX_BYTES, ""
);
name!(
    /// Who speaks: a user, an agent or a service, as the bus authenticated it.
    Principal, "principal", NAME_MAX_BYTES, ""
);
name!(
    /// One node of the cluster, as configured; unique in it.
    NodeId, "node", NAME_MAX_BYTES, ""
);
name!(
    /// The name of one saga within its tenant, and the idempotency key of its start: the same key
    /// is the same saga. A child's has a [`CHILD_MARK`] in it.
    SagaKey, "saga key", KEY_MAX_BYTES, "./=~"
);
name!(
    /// The identity of one event; the same through every repetition of its publication.
    EventId, "event id", KEY_MAX_BYTES, ".:"
);
name!(
    /// One trace from a command to the last event it caused: 32 hexadecimal digits when it is a
    /// W3C trace id, but any name is carried.
    TraceId, "trace id", NAME_MAX_BYTES, ".:"
);
name!(
    /// One kind of worker: `health`, `drift`.
    WorkerKind, "worker kind", NAME_MAX_BYTES, ""
);
name!(
    /// One environment of a tenant: what a worker looks after.
    Environment, "environment", NAME_MAX_BYTES, "."
);

impl SagaKey {
    /// Whether only a parent gives such a key.
    pub fn is_a_childs(&self) -> bool {
        self.as_str().contains(CHILD_MARK)
    }
}

/// One saga: a tenant and a key. Written `tenant/key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SagaId {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its name within the tenant.
    pub key: SagaKey,
}

impl SagaId {
    /// The saga `key` of `tenant`.
    pub fn new(tenant: Tenant, key: SagaKey) -> Self {
        Self { tenant, key }
    }

    /// The shard this saga lives on, of `shards`. Stable for the life of a cluster: FNV-1a over
    /// tenant and key, so that any language can compute it.
    pub fn shard(&self, shards: u16) -> ShardId {
        let bytes = self.tenant.as_str().bytes().chain([0]).chain(self.key.as_str().bytes());
        shard_of(fnv(bytes), shards)
    }
}

/// FNV-1a.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn shard_of(hash: u64, shards: u16) -> ShardId {
    // FNV's low bits are weak for short keys; fold the high half in.
    let folded = hash ^ (hash >> 32);
    ShardId((folded % u64::from(shards.max(1))) as u16)
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.key)
    }
}
impl fmt::Debug for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for SagaId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (tenant, key) = text.split_once('/').ok_or_else(|| BadName {
            what: "saga",
            text: text.chars().take(80).collect(),
            why: "it must be written tenant/key".into(),
        })?;
        Ok(Self { tenant: Tenant::new(tenant)?, key: SagaKey::new(key)? })
    }
}

/// One worker: a kind of control loop, for one environment of one tenant. Written
/// `kind/tenant/environment`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// Whose environment it is.
    pub tenant: Tenant,
    /// What it does.
    pub kind: WorkerKind,
    /// Where.
    pub environment: Environment,
}

impl WorkerId {
    /// The worker of `kind` for `environment` of `tenant`.
    pub fn new(kind: WorkerKind, tenant: Tenant, environment: Environment) -> Self {
        Self { tenant, kind, environment }
    }

    /// A number made of its name, the same everywhere and for ever: FNV-1a.
    pub fn digest(&self) -> u64 {
        let (tenant, kind) = (self.tenant.as_str().bytes(), self.kind.as_str().bytes());
        fnv(tenant.chain([0]).chain(kind).chain([0]).chain(self.environment.as_str().bytes()))
    }

    /// The shard whose owner runs this worker, of `shards`.
    pub fn shard(&self, shards: u16) -> ShardId {
        shard_of(self.digest(), shards)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.tenant, self.environment)
    }
}
impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One of the cluster's shards: a unit of ownership, with one journal subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which ownership of a shard wrote something. A later owner has a higher one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// One version of one definition, pinned by its content. A version never changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DefinitionRef {
    /// Whose it is. `None`: it is built in, and everybody's; so is what a release deployed that did
    /// not ask whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// The definition's name.
    pub name: Arc<str>,
    /// Its version, counted from 1.
    pub version: u32,
    /// The first 16 hexadecimal digits of the SHA-256 of its source.
    pub digest: Arc<str>,
}

impl fmt::Display for DefinitionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_a_subject_cannot_carry() {
        for bad in ["", "a b", "a.b", "a*", ">", "a/b", "ä", &"x".repeat(65)] {
            assert!(Tenant::new(bad).is_err(), "{bad:?} must be refused");
        }
        for bad in ["", ".", "a..b", "/a", "a/", "a b", "a*", "\u{0}"] {
            assert!(SagaKey::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(SagaKey::new("install/acme-7.2=x").is_ok_and(|key| !key.is_a_childs()));
        assert!(SagaKey::new("install~3").is_ok_and(|key| key.is_a_childs()));
        assert!(SagaKey::new("a b").unwrap_err().to_string().ends_with("use letters, digits and any of \"-_./=\""));
        assert_eq!(
            Tenant::new("a b").unwrap_err().to_string(),
            "tenant \"a b\" is not usable: ' ' is not allowed, use letters, digits and any of \"-_\""
        );
    }

    #[test]
    fn a_saga_is_read_back_from_its_text() {
        let saga: SagaId = "acme/install/7".parse().unwrap();
        assert_eq!((saga.tenant.as_str(), saga.key.as_str()), ("acme", "install/7"));
        assert!("acme".parse::<SagaId>().is_err());
    }

    #[test]
    fn a_definition_of_an_older_release_is_built_in() {
        let old = serde_json::json!({ "name": "order", "version": 3, "digest": "d" });
        let read: DefinitionRef = serde_json::from_value(old.clone()).unwrap();
        assert_eq!((read.tenant.as_ref(), serde_json::to_value(&read).unwrap()), (None, old));
        let own = DefinitionRef { tenant: Some(Tenant::new("acme").unwrap()), ..read.clone() };
        assert_ne!(own, read);
        assert_eq!(crate::codec::load::<DefinitionRef>(&crate::codec::store(&own)).unwrap(), own);
    }

    #[test]
    fn a_worker_keeps_its_shard_for_ever() {
        let worker = |kind: &str, tenant: &str, environment: &str| {
            let (kind, tenant) = (WorkerKind::new(kind).unwrap(), Tenant::new(tenant).unwrap());
            WorkerId::new(kind, tenant, Environment::new(environment).unwrap())
        };
        let prod = worker("health", "acme", "prod.eu");
        assert_eq!((prod.to_string().as_str(), prod.shard(64)), ("health/acme/prod.eu", ShardId(24)));
        assert_ne!(worker("a", "b", "c").digest(), worker("b", "a", "c").digest());
        assert_ne!(worker("ab", "c", "d").digest(), worker("a", "bc", "d").digest());
    }

    #[test]
    fn shards_are_used_evenly() {
        let mut counts = [0u32; 8];
        for n in 0..8_000 {
            let saga: SagaId = format!("acme/order-{n}").parse().unwrap();
            counts[usize::from(saga.shard(8).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
