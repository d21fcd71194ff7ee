//! Versions of a service's configuration: what is the same as the newest has its version, and a
//! version never changes.
//!
//! A version comes with a deployment, or it is *published*: then it is to reach the service by
//! itself, which `ConfigurationSyncWorker` sees to. What was published is remembered with the
//! version, so that a worker that missed the event finds it (F51).

use std::collections::BTreeMap;

use protocol::Time;
use supervisor::activity::Failure;

use crate::runtime::model::published::{self, Sync};
use crate::runtime::model::{ConfigurationId, ConfigurationRef, Digest, Fault, RuntimeConfiguration};
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, Error, RuntimeStore, TRIES};

/// A version that has the content that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// Which.
    pub at: ConfigurationRef,
    /// What its content is.
    pub digest: Digest,
}

fn faulty(fault: Fault) -> Failure {
    Failure::named("BadArguments", fault.to_string())
}

/// What a service's configuration is called.
pub fn id(place: &Place) -> Result<ConfigurationId, Failure> {
    ConfigurationId::new(place.service.as_str()).map_err(faulty)
}

/// All versions, oldest first.
pub async fn versions(store: &dyn RuntimeStore, place: &Place) -> Result<Vec<RuntimeConfiguration>, Failure> {
    let below = place::configurations(&place.environment, id(place)?.as_str());
    let known = store::read_all::<RuntimeConfiguration>(store, &place.space(), &below).await?;
    let mut versions: Vec<_> = known.into_iter().map(|(_, known)| known).collect();
    versions.sort_by_key(|known| known.at.version);
    Ok(versions)
}

/// A version as it would be, or is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Next {
    /// The version.
    pub version: RuntimeConfiguration,
    /// Whether it is there.
    kept: bool,
}

/// The version that holds `entries`: the newest, or the next. An old one that held the same stays
/// old: whoever goes back says something new. Nothing is written.
pub async fn next(
    store: &dyn RuntimeStore,
    place: &Place,
    entries: &BTreeMap<String, String>,
) -> Result<Next, Failure> {
    let mut known = versions(store, place).await?;
    let last = known.pop();
    if let Some(version) = last.clone().filter(|known| known.entries == *entries) {
        return Ok(Next { version, kept: true });
    }
    let number = last.map_or(0, |known| known.at.version) + 1;
    let version = RuntimeConfiguration {
        at: ConfigurationRef { configuration_id: id(place)?, version: number },
        environment_id: place.environment.clone(),
        entries: entries.clone(),
    };
    version.check().map_err(faulty)?;
    Ok(Next { version, kept: false })
}

/// Keeps a version; [`Error::Stale`] where another has its number by now.
pub async fn keep(store: &dyn RuntimeStore, place: &Place, next: &Next) -> Result<(), Error> {
    if !next.kept {
        let name = place.configuration(&next.version.at);
        store::write(store, &place.space(), &name, &next.version, 0).await?;
    }
    Ok(())
}

/// Keeps `entries` as the newest version.
pub async fn publish(
    store: &dyn RuntimeStore,
    place: &Place,
    entries: &BTreeMap<String, String>,
) -> Result<Published, Failure> {
    let mut lost = Error::Stale { name: place::configurations(&place.environment, id(place)?.as_str()) };
    for _ in 0..TRIES {
        let next = next(store, place, entries).await?;
        match keep(store, place, &next).await {
            Ok(()) => return Ok(Published { digest: next.version.digest(), at: next.version.at }),
            Err(stale @ Error::Stale { .. }) => lost = stale,
            Err(error) => return Err(error.into()),
        }
    }
    Err(lost.into())
}

/// What was published last for a service, and how far it has come.
pub async fn newest(store: &dyn RuntimeStore, place: &Place) -> Result<Option<Sync>, Failure> {
    let name = place::published(&place.environment, id(place)?.as_str());
    Ok(store::read::<Sync>(store, &place.space(), &name).await?.map(|read| read.value))
}

/// Remembers that `published` is to reach the service; says whether that is new.
pub async fn remember(
    store: &dyn RuntimeStore,
    place: &Place,
    published: &Published,
    now: Time,
) -> Result<bool, Failure> {
    let name = place::published(&place.environment, published.at.configuration_id.as_str());
    let mut new = false;
    store::change(store, &place.space(), &name, |known: Option<&Sync>| {
        let next = published::published(known, &published.at, &published.digest, now);
        new = next.is_some();
        next
    })
    .await?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::store::MemoryStore;

    fn web() -> Place {
        let name = "web";
        Place {
            owner: protocol::Tenant::new("acme").unwrap(),
            environment: crate::runtime::model::EnvironmentId::new("dev").unwrap(),
            service: crate::runtime::model::ServiceId::new(name).unwrap(),
        }
    }

    fn entries(value: &str) -> BTreeMap<String, String> {
        [("COLOUR".to_owned(), value.to_owned())].into()
    }

    /// W042: the same again is the same version; going back is a new one, or nobody could tell it
    /// from an old message.
    #[tokio::test]
    async fn what_is_the_same_as_the_newest_has_its_version() {
        let (store, place) = (MemoryStore::new(), web());
        let mut seen = Vec::new();
        for value in ["red", "red", "blue", "red"] {
            seen.push(publish(&store, &place, &entries(value)).await.unwrap());
        }
        assert_eq!(seen.iter().map(|one| one.at.version).collect::<Vec<_>>(), [1, 1, 2, 3]);
        assert_eq!(seen[0].digest, seen[3].digest, "the content is the same, whatever its version");
    }

    #[tokio::test]
    async fn what_was_published_is_remembered_once() {
        let (store, place) = (MemoryStore::new(), web());
        let published = publish(&store, &place, &entries("red")).await.unwrap();
        let now = Time::from_micros(1);
        assert!(remember(&store, &place, &published, now).await.unwrap());
        assert!(!remember(&store, &place, &published, now).await.unwrap());
        assert_eq!(newest(&store, &place).await.unwrap().unwrap().newest, published.at);
    }
}
