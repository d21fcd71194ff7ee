//! Secrets: values in versions, and labels that say which version counts.
//!
//! A rotation is four steps (D601): create a version, which is *pending*; make the other side know
//! it; try it; and move *current* to it. That last move is the commit (D602): before it the old
//! version counts, after it the new one, and the old one stays *previous* until no workload uses it.
//!
//! A [`SecretStore`] has the values; [`SecretVersions`] is what everybody else has, on any node.

use async_trait::async_trait;
use supervisor::activity::Failure;

#[cfg(test)]
mod contract;
mod labels;
mod name;
pub mod sealed;
mod value;
pub mod vault;
mod version;
mod versions;

pub use labels::{Label, Labels};
pub use name::SecretName;
pub use value::Secret;
pub use version::{Described, State, Version, Which};
pub use versions::{BAD_VALUE, Opens, SecretVersions, Shared, StoredVersions, usable};

use crate::runtime::model::RequestKey;

/// The largest value, in bytes: keys and certificates with their chains fit, files do not. What
/// the large clouds allow is between 25 and 64 KiB.
pub const VALUE_MAX_BYTES: usize = 64 << 10;
/// The most versions of one secret that are remembered, destroyed ones included. A daily rotation
/// fills it in three months; then destroyed ones are forgotten, the oldest first.
pub const VERSIONS_MAX: usize = 100;

/// Keeps secrets.
///
/// What was answered with `Ok` is durable. No value is ever part of an error, a log or a listing. A
/// failure named `Transient` may pass by itself; the others do not:
///
/// | name | what it says |
/// |---|---|
/// | `UnknownSecret`, `UnknownVersion`, `UnknownLabel` | there is nothing of that name, number or label |
/// | `VersionRetired`, `VersionDestroyed` | the version is there no more to be read or labelled |
/// | `LabelsChanged` | somebody moved the labels since they were looked at; the cause says where they are |
/// | `StillCurrent` | the version counts; move `current` first |
/// | `SecretTooLarge` | the value is larger than [`VALUE_MAX_BYTES`] |
/// | `TooManyVersions` | [`VERSIONS_MAX`] are kept, and none of them is destroyed |
/// | `TooManySecrets` | the store is full |
/// | `SecretDamaged` | what is kept was changed from outside, or its key is lost |
#[async_trait]
pub trait SecretStore: Send + Sync + 'static {
    /// Adds a version with `value`, and labels it pending; the version that was pending before
    /// loses the label and stays. Answers its number, which is higher than any before. The first
    /// version makes the secret.
    ///
    /// Again with the same `token`: nothing happens, and the version of the first time is
    /// answered, whatever the value. So whoever does not know whether it was made reads the
    /// version back instead of trusting the value in hand.
    async fn create_version(&self, name: &SecretName, token: &RequestKey, value: Secret) -> Result<u64, Failure>;

    /// A version, by its number or label: its number and value.
    async fn get(&self, name: &SecretName, which: Which) -> Result<(u64, Secret), Failure>;

    /// Moves the labels from where they were seen to where they should be, all at once. This is
    /// the commit of a rotation, and its way back.
    ///
    /// Labels that are where they should be already: nothing happens, whatever was seen. A label
    /// can be put on versions that are active only.
    async fn set_labels(&self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure>;

    /// Keeps a version from being read; [`reinstate`](Self::reinstate) takes that back. It loses
    /// its labels; with `current` on it this is refused. Again: nothing happens.
    async fn retire(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Lets a retired version be read again, without a label. Again: nothing happens.
    async fn reinstate(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Removes the value of a version for good; that it was there is remembered. It loses its
    /// labels; with `current` on it this is refused. Again: nothing happens.
    async fn destroy(&self, name: &SecretName, version: u64) -> Result<(), Failure>;

    /// Removes a secret with all its versions and values, for good; a new one of that name begins anew. What is not
    /// there: nothing happens.
    async fn remove(&self, name: &SecretName) -> Result<(), Failure>;

    /// What is known of a secret besides its values. `None`: there is none of that name.
    async fn describe(&self, name: &SecretName) -> Result<Option<Described>, Failure>;

    /// All names, in order. Changes nothing.
    async fn list(&self) -> Result<Vec<SecretName>, Failure>;
}
