//! What was published of a configuration, and has to reach those who use it (F51).

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::configuration::ConfigurationRef;
use super::ids::Digest;

/// What is remembered of one configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    /// The newest version that was published.
    pub newest: ConfigurationRef,
    /// What its content is.
    pub digest: Digest,
    /// When the burst began that has not been rolled out yet.
    pub burst_since: Time,
    /// When its last version was published.
    pub published_at: Time,
    /// The version about which `ConfigurationSynced` was said; 0: none.
    pub told: u64,
}

/// A version was published. `None`: it is known, or older than what is known (W042).
pub fn published(known: Option<&Sync>, at: &ConfigurationRef, digest: &Digest, now: Time) -> Option<Sync> {
    let fresh = |told| Sync { newest: at.clone(), digest: digest.clone(), burst_since: now, published_at: now, told };
    match known {
        None => Some(fresh(0)),
        Some(known) if known.newest.version >= at.version => None,
        // The last one was said already: a new burst begins.
        Some(known) if known.told == known.newest.version => Some(fresh(known.told)),
        Some(known) => Some(Sync { burst_since: known.burst_since, ..fresh(known.told) }),
    }
}
