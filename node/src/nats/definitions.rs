//! Deployed definitions: one key per name and version in the bucket `skald_definitions`,
//! `name.version` for what is built in and `tenant.name.version` for a tenant's. A version never
//! changes. The source is kept as it was given; reading it is the caller's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use protocol::{DefinitionRef, Tenant, Time};
use supervisor::ports::Unavailable;

use super::bucket::{Bucket, Entry, Write, WriteError};
use super::connect::Bus;
use super::names::{decode, encode, one_line};
use super::streams::{Replicas, SetupError, born, look};

/// The bucket.
pub(super) const BUCKET: &str = "skald_definitions";
/// Header: the digest of the source.
const DIGEST: &str = "Skald-Digest";
/// Header: who deployed it.
const BY: &str = "Skald-Deployed-By";
/// Header: when.
const AT: &str = "Skald-Deployed-At";
/// Header: a node put it back after the store was lost.
const PUT_BACK: &str = "Skald-Put-Back";
/// Header: the versions of its children, by name, as JSON; absent without any.
const PINS: &str = "Skald-Pins";
/// How long nodes may take to put back what they know into a bucket that was made again: they look every
/// second, and try again.
const REFILLED_WITHIN: Duration = Duration::from_secs(10);
/// How often a deployment that meets another one of the same name is tried again.
const TRIES: usize = 16;

/// One version of a definition, as it was deployed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredDefinition {
    /// Whose it is; `None`: built in.
    pub tenant: Option<Tenant>,
    /// Its name.
    pub name: String,
    /// Its version, counted from 1.
    pub version: u32,
    /// The digest of its source.
    pub digest: String,
    /// Who deployed it; empty when a release did that did not write it down.
    pub deployed_by: String,
    /// When, by the clock of the node that took the command.
    pub deployed_at: Option<Time>,
    /// Whether a node put it back after the store was lost.
    pub put_back: bool,
    /// The versions of its children, by name.
    pub pins: Pins,
    /// Its source; empty in lists.
    pub source: Bytes,
}

/// Versions of children, by name. A definition that starts itself is there with version 0, because its
/// own is known only once it is stored.
pub type Pins = BTreeMap<Arc<str>, DefinitionRef>;

/// Who deploys, and when; kept with the version that it makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployer {
    /// `tenant/principal`, or `node NAME` for what comes with the program.
    pub by: String,
    /// When the command came.
    pub at: Time,
}

/// What a deployment led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deployed {
    /// The version that now is the latest.
    pub version: u32,
    /// Whether it is new; `false` when the latest one already had this digest.
    pub new: bool,
}

/// The store of definitions.
#[derive(Debug)]
pub struct KvDefinitions {
    bucket: Bucket,
    /// When the bucket was made that was opened.
    born: Option<Time>,
}

impl KvDefinitions {
    /// Opens the bucket, making it if it is missing.
    pub async fn open(bus: &Bus, replicas: Replicas) -> Result<Self, SetupError> {
        let about = "Skald's definitions, by name and version";
        let bucket = Bucket::open(bus, BUCKET, about, replicas, None).await?;
        Ok(Self { bucket, born: bus.ground.born(super::DEFINITIONS) })
    }

    /// Whether the bucket is gone, or was made again so short a time before `now` that nodes may still be
    /// putting back what they know.
    pub async fn is_being_refilled(&self, now: Time) -> Result<bool, Unavailable> {
        let Some(found) = look(&self.bucket.bus, super::DEFINITIONS).await? else { return Ok(true) };
        let born = born(&found);
        Ok(self.born.is_some_and(|before| before != born) && now.since(born) < REFILLED_WITHIN)
    }

    /// Deploys `source` as the next version of the tenant's `name`, unless the latest version has
    /// the same digest and the same pins. Safe to repeat, and safe against others who deploy at the same time.
    pub async fn deploy(
        &self,
        tenant: Option<&Tenant>,
        name: &str,
        source: Bytes,
        made: (&str, &Pins),
        by: &Deployer,
    ) -> Result<Deployed, Unavailable> {
        let (digest, pins) = made;
        for _ in 0..TRIES {
            let latest = self.latest(tenant, name).await?;
            if let Some(latest) = latest.as_ref().filter(|it| it.digest == digest && it.pins == *pins) {
                return Ok(Deployed { version: latest.version, new: false });
            }
            let version = latest.map_or(0, |it| it.version) + 1;
            let how = Write { expected: Some(0), headers: about(made, by)?, ..Write::default() };
            match self.bucket.write(&key(tenant, name, version), source.clone(), how).await {
                Ok(_) => return Ok(Deployed { version, new: true }),
                Err(WriteError::Stale(_)) => {}
                Err(WriteError::Refused(why)) => return Err(Unavailable(why)),
                Err(WriteError::Unavailable(unavailable)) => return Err(unavailable),
            }
        }
        Err(Unavailable(format!("{name} is being deployed by others all the time")))
    }

    /// The built-in version of `name` that has this digest and these pins, be it the latest or not: an
    /// older node that starts again does not make its copy the newest.
    pub async fn built_in(&self, name: &str, digest: &str, pins: &Pins) -> Result<Option<u32>, Unavailable> {
        let versions = self.versions(None, name).await?;
        Ok(versions.into_iter().filter(|it| it.digest == digest && it.pins == *pins).map(|it| it.version).max())
    }

    /// The latest version of the tenant's `name`: versions are only ever added, so it is the one
    /// that was written last. Where the store was lost, versions that were put back may stand behind
    /// a later one; the next number tells.
    pub async fn latest(&self, tenant: Option<&Tenant>, name: &str) -> Result<Option<StoredDefinition>, Unavailable> {
        let entry = self.bucket.last(&pattern(tenant, &encode(name))).await?;
        let Some(last) = entry.filter(|it| !it.gone).and_then(stored) else { return Ok(None) };
        match last.put_back {
            false => Ok(Some(last)),
            true => {
                let highest = self.versions(tenant, name).await?.into_iter().map(|it| it.version).max();
                self.get(tenant, name, highest.unwrap_or(last.version)).await
            }
        }
    }

    /// Every version of the tenant's `name`, without their sources.
    async fn versions(&self, tenant: Option<&Tenant>, name: &str) -> Result<Vec<StoredDefinition>, Unavailable> {
        let (entries, _) = self.bucket.all(&pattern(tenant, &encode(name)), true).await?;
        Ok(entries.into_iter().filter_map(stored).collect())
    }

    /// Puts a version back that this node knows and the store lost. `false`: it is there, or another
    /// one is in its place.
    pub async fn put_back(
        &self,
        tenant: Option<&Tenant>,
        name: &str,
        version: u32,
        source: Bytes,
        made: (&str, &Pins),
        by: &Deployer,
    ) -> Result<bool, Unavailable> {
        let mut headers = about(made, by)?;
        headers.insert(PUT_BACK, "1");
        let how = Write { expected: Some(0), headers, ..Write::default() };
        match self.bucket.write(&key(tenant, name, version), source, how).await {
            Ok(_) => Ok(true),
            Err(WriteError::Stale(_)) => Ok(false),
            Err(WriteError::Refused(why)) => Err(Unavailable(why)),
            Err(WriteError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// A version of the tenant's `name` with this digest, whatever its number.
    pub async fn with_digest(
        &self,
        tenant: Option<&Tenant>,
        name: &str,
        digest: &str,
    ) -> Result<Option<StoredDefinition>, Unavailable> {
        let all = self.versions(tenant, name).await?;
        let Some(found) = all.into_iter().find(|it| it.digest == digest) else { return Ok(None) };
        self.get(tenant, name, found.version).await
    }

    /// Version `version` of the tenant's `name`.
    pub async fn get(
        &self,
        tenant: Option<&Tenant>,
        name: &str,
        version: u32,
    ) -> Result<Option<StoredDefinition>, Unavailable> {
        let entry = self.bucket.get(&key(tenant, name, version)).await?;
        Ok(entry.filter(|it| !it.gone).and_then(stored))
    }

    /// Every version of every definition that is built in or the tenant's, by name and version,
    /// without their sources.
    pub async fn list(&self, tenant: &Tenant) -> Result<Vec<StoredDefinition>, Unavailable> {
        let (built_in, own) = (pattern(None, "*"), pattern(Some(tenant), "*"));
        let (built_in, own) = futures::try_join!(self.bucket.all(&built_in, true), self.bucket.all(&own, true))?;
        let mut all: Vec<_> = built_in.0.into_iter().chain(own.0).filter_map(stored).collect();
        all.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        Ok(all)
    }
}

/// What stands beside a source.
fn about((digest, pins): (&str, &Pins), by: &Deployer) -> Result<HeaderMap, Unavailable> {
    let mut headers = HeaderMap::new();
    headers.insert(DIGEST, one_line(digest));
    headers.insert(BY, one_line(&by.by));
    headers.insert(AT, by.at.to_string());
    if !pins.is_empty() {
        headers.insert(PINS, serde_json::to_string(pins).map_err(|error| Unavailable(error.to_string()))?);
    }
    Ok(headers)
}

fn key(tenant: Option<&Tenant>, name: &str, version: u32) -> String {
    let name = encode(name);
    tenant.map_or_else(|| format!("{name}.{version}"), |tenant| format!("{tenant}.{name}.{version}"))
}

/// All versions of `name`, which is encoded, or `*`.
fn pattern(tenant: Option<&Tenant>, name: &str) -> String {
    tenant.map_or_else(|| format!("{name}.*"), |tenant| format!("{tenant}.{name}.*"))
}

fn stored(entry: Entry) -> Option<StoredDefinition> {
    let (name, version) = entry.key.rsplit_once('.')?;
    let (tenant, name) = match name.split_once('.') {
        Some((tenant, name)) => (Some(Tenant::new(tenant).ok()?), name),
        None => (None, name),
    };
    let digest = entry.headers.get(DIGEST)?.as_str().to_owned();
    let said = |header: &str| entry.headers.get(header).map(|it| it.as_str()).unwrap_or_default();
    let pins = match entry.headers.get(PINS) {
        Some(pins) => serde_json::from_str(pins.as_str()).ok()?,
        None => Pins::new(),
    };
    Some(StoredDefinition {
        tenant,
        name: decode(name)?,
        version: version.parse().ok()?,
        digest,
        deployed_by: said(BY).to_owned(),
        deployed_at: said(AT).parse().ok(),
        put_back: entry.headers.get(PUT_BACK).is_some(),
        pins,
        source: entry.bytes,
    })
}
