//! Secrets from any node: which versions there are, and what is done with them. No answer holds a
//! value. One that comes from outside is sealed for the keeper; one that a rotation needs is made up
//! at the keeper, which also tells and tries what the secret opens.

use actors::runtime::model::RequestKey;
use actors::runtime::ports::secrets::{Described, Labels, Secret, SecretName, SecretVersions};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use super::ask::{FarKeeper, strange};
use super::seal::{OTHER_KEEPER, SealKey, Sealed, seal};
use super::words::{Ask, Told};

/// What is asked about secrets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum SecretAsk {
    /// The key that values are sealed for.
    Key,
    Put {
        name: SecretName,
        token: RequestKey,
        sealed: Sealed,
    },
    Make {
        name: SecretName,
        token: RequestKey,
    },
    Set {
        name: SecretName,
        version: u64,
    },
    Test {
        name: SecretName,
        version: u64,
    },
    SetLabels {
        name: SecretName,
        seen: Labels,
        wanted: Labels,
    },
    Retire {
        name: SecretName,
        version: u64,
    },
    Destroy {
        name: SecretName,
        version: u64,
    },
    Remove {
        name: SecretName,
    },
    Describe {
        name: SecretName,
    },
}

impl SecretAsk {
    /// What it is called in an error.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Key => "show its key for values",
            Self::Put { .. } => "keep a value",
            Self::Make { .. } => "make a value up",
            Self::Set { .. } => "set a value",
            Self::Test { .. } => "test a value",
            Self::SetLabels { .. } => "move labels",
            Self::Retire { .. } => "retire a value",
            Self::Destroy { .. } => "destroy a value",
            Self::Remove { .. } => "remove a secret",
            Self::Describe { .. } => "describe a secret",
        }
    }
}

/// What is answered about secrets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum SecretTold {
    Key(#[serde(with = "serde_bytes")] Vec<u8>),
    Version(u64),
    Described(Option<Described>),
    Done,
}

/// The keeper's side.
pub(super) async fn carried_out(
    versions: &dyn SecretVersions,
    key: &SealKey,
    ask: SecretAsk,
) -> Result<SecretTold, Failure> {
    use SecretTold::{Described, Done, Key, Version};
    Ok(match ask {
        SecretAsk::Key => Key(key.public()),
        SecretAsk::Put { name, token, sealed } => {
            let value = key.open(&sealed, &(&name, &token))?;
            Version(versions.put(&name, &token, value).await?)
        }
        SecretAsk::Make { name, token } => Version(versions.make(&name, &token).await?),
        SecretAsk::Set { name, version } => versions.set(&name, version).await.map(|()| Done)?,
        SecretAsk::Test { name, version } => versions.test(&name, version).await.map(|()| Done)?,
        SecretAsk::SetLabels { name, seen, wanted } => versions.set_labels(&name, seen, wanted).await.map(|()| Done)?,
        SecretAsk::Retire { name, version } => versions.retire(&name, version).await.map(|()| Done)?,
        SecretAsk::Destroy { name, version } => versions.destroy(&name, version).await.map(|()| Done)?,
        SecretAsk::Remove { name } => versions.remove(&name).await.map(|()| Done)?,
        SecretAsk::Describe { name } => Described(versions.describe(&name).await?),
    })
}

impl FarKeeper {
    async fn secret(&self, ask: SecretAsk) -> Result<SecretTold, Failure> {
        match self.ask(Ask::Secret(ask)).await? {
            Told::Secret(told) => Ok(told),
            other => Err(strange(other.name())),
        }
    }

    async fn version(&self, ask: SecretAsk) -> Result<u64, Failure> {
        match self.secret(ask).await? {
            SecretTold::Version(number) => Ok(number),
            SecretTold::Key(_) | SecretTold::Described(_) | SecretTold::Done => Err(strange("something else")),
        }
    }

    async fn settled(&self, ask: SecretAsk) -> Result<(), Failure> {
        match self.secret(ask).await? {
            SecretTold::Done => Ok(()),
            SecretTold::Key(_) | SecretTold::Described(_) | SecretTold::Version(_) => Err(strange("something else")),
        }
    }

    /// Hands a value over to whoever is the keeper now.
    async fn hand_over(&self, name: &SecretName, token: &RequestKey, value: &Secret) -> Result<u64, Failure> {
        let key = match self.secret(SecretAsk::Key).await? {
            SecretTold::Key(key) => key,
            SecretTold::Version(_) | SecretTold::Described(_) | SecretTold::Done => {
                return Err(strange("something else"));
            }
        };
        let sealed = seal(key, value, &(name, token))?;
        self.version(SecretAsk::Put { name: name.clone(), token: token.clone(), sealed }).await
    }
}

#[async_trait]
impl SecretVersions for FarKeeper {
    async fn put(&self, name: &SecretName, token: &RequestKey, value: Secret) -> Result<u64, Failure> {
        match self.hand_over(name, token, &value).await {
            // Another one has taken over between the two questions.
            Err(failure) if failure.error == OTHER_KEEPER => self.hand_over(name, token, &value).await,
            other => other,
        }
    }

    async fn make(&self, name: &SecretName, token: &RequestKey) -> Result<u64, Failure> {
        self.version(SecretAsk::Make { name: name.clone(), token: token.clone() }).await
    }

    async fn set(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        self.settled(SecretAsk::Set { name: name.clone(), version }).await
    }

    async fn test(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        self.settled(SecretAsk::Test { name: name.clone(), version }).await
    }

    async fn set_labels(&self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure> {
        self.settled(SecretAsk::SetLabels { name: name.clone(), seen, wanted }).await
    }

    async fn retire(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        self.settled(SecretAsk::Retire { name: name.clone(), version }).await
    }

    async fn destroy(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        self.settled(SecretAsk::Destroy { name: name.clone(), version }).await
    }

    async fn remove(&self, name: &SecretName) -> Result<(), Failure> {
        self.settled(SecretAsk::Remove { name: name.clone() }).await
    }

    async fn describe(&self, name: &SecretName) -> Result<Option<Described>, Failure> {
        match self.secret(SecretAsk::Describe { name: name.clone() }).await? {
            SecretTold::Described(described) => Ok(described),
            SecretTold::Key(_) | SecretTold::Version(_) | SecretTold::Done => Err(strange("something else")),
        }
    }
}
