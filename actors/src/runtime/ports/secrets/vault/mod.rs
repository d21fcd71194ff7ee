//! Secrets in a key-value store of Vault or OpenBao, version 2 of its interface.
//!
//! ```text
//! <mount>/<prefix>/<name>/value   the values; the store's version is ours, and beside the value
//!                                 stands the token that made it
//! <mount>/<prefix>/<name>/book    labels, tokens and states, replaced with check-and-set
//! ```
//!
//! The book is the truth: the store itself can move no label with a condition. A value that no book
//! speaks of was made by somebody who stopped half-way; whoever looks next enters it.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use supervisor::activity::Failure;
use zeroize::Zeroizing;

mod book;
mod kv;

use super::{Described, Labels, Secret, SecretName, SecretStore, State, VALUE_MAX_BYTES, VERSIONS_MAX, Version, Which};
use crate::runtime::model::RequestKey;
use book::Book;
use kv::{Kv, Written};

/// How often something is tried again that somebody else changed meanwhile. Each time somebody made
/// progress; more than this is a quarrel.
const TRIES: usize = 16;

/// Where the store is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server, as in `https://vault:8200`.
    pub address: String,
    /// What is said to it.
    pub token: Secret,
    /// The namespace, where the server has them.
    pub namespace: Option<String>,
    /// Where the key-value store is mounted.
    pub mount: String,
    /// What stands before every name.
    pub prefix: String,
}

impl Settings {
    /// The store mounted at `secret`, below `skald`.
    pub fn new(address: impl Into<String>, token: Secret) -> Self {
        Self { address: address.into(), token, namespace: None, mount: "secret".into(), prefix: "skald".into() }
    }
}

/// The store.
pub struct Vault {
    kv: Kv,
}

/// What is known of a secret.
struct Known {
    book: Book,
    /// The version of the book, for check-and-set.
    edition: u64,
    /// The version of the value that was written last.
    last: u64,
    created: Vec<(u64, protocol::Time)>,
}

fn unknown(name: &SecretName) -> Failure {
    Failure::named("UnknownSecret", format!("there is no secret {name}; list the names, or create a version"))
}

fn quarrel(name: &SecretName) -> Failure {
    Failure::transient("changing a secret", format!("others changed {name} {TRIES} times meanwhile"))
}

fn odd(name: &SecretName) -> Failure {
    let why = format!("what Vault keeps for {name} was not written here; move it away, or name another");
    Failure::named("SecretDamaged", why)
}

impl Vault {
    /// The store that `settings` name. Nothing is asked yet.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        Ok(Self { kv: Kv::new(settings)? })
    }

    /// `None`: there is no version of it.
    async fn known(&self, name: &SecretName) -> Result<Option<Known>, Failure> {
        let (value, book) = (format!("{name}/value"), format!("{name}/book"));
        let kept = self.kv.read(&book, None).await?;
        let Some(versions) = self.kv.versions(&value).await?.filter(|versions| versions.last > 0) else {
            return Ok(None);
        };
        let (mut book, edition) = match kept {
            Some((edition, kept)) => (serde_json::from_value(kept).map_err(|_| odd(name))?, edition),
            None => (Book::default(), 0),
        };
        let unheard: Vec<u64> =
            versions.created.iter().map(|(number, _)| *number).filter(|number| !book.knows(*number)).collect();
        for number in unheard {
            let token = self
                .kv
                .read(&value, Some(number))
                .await?
                .and_then(|(_, data)| RequestKey::new(data.get("token")?.as_str()?).ok());
            book.enter(number, token.ok_or_else(|| odd(name))?);
        }
        Ok(Some(Known { book, edition, last: versions.last, created: versions.created }))
    }

    /// Writes the book down. `false`: somebody else did meanwhile.
    async fn keep(&self, name: &SecretName, known: &Known) -> Result<bool, Failure> {
        let book = serde_json::to_value(&known.book).map_err(|error| Failure::permanent("writing the book", error))?;
        match self.kv.write(&format!("{name}/book"), book, known.edition).await? {
            Written::As(_) => Ok(true),
            Written::Meanwhile => Ok(false),
        }
    }

    /// Changes the book of a secret that is there.
    async fn change(
        &self,
        name: &SecretName,
        change: impl Fn(&mut Book) -> Result<(), Failure> + Send + Sync,
    ) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let mut known = self.known(name).await?.ok_or_else(|| unknown(name))?;
            let before = known.book.clone();
            change(&mut known.book)?;
            if known.book == before || self.keep(name, &known).await? {
                return Ok(());
            }
        }
        Err(quarrel(name))
    }
}

#[async_trait]
impl SecretStore for Vault {
    async fn create_version(&self, name: &SecretName, token: &RequestKey, value: Secret) -> Result<u64, Failure> {
        if value.len() > VALUE_MAX_BYTES {
            let why = format!("the value for {name} is larger than {VALUE_MAX_BYTES} bytes; keep it elsewhere");
            return Err(Failure::named("SecretTooLarge", why));
        }
        let path = format!("{name}/value");
        for _ in 0..TRIES {
            let mut known = match self.known(name).await? {
                Some(known) => known,
                None => {
                    // The store keeps ten versions unless it is told otherwise.
                    self.kv.keep_versions(&path, VERSIONS_MAX).await?;
                    Known { book: Book::default(), edition: 0, last: 0, created: Vec::new() }
                }
            };
            if let Some(number) = known.book.made_by(name, token)? {
                if self.keep(name, &known).await? {
                    return Ok(number);
                }
                continue;
            }
            if known.book.readable() >= VERSIONS_MAX {
                let why = format!("{name} has {VERSIONS_MAX} versions; destroy some that nobody uses");
                return Err(Failure::named("TooManyVersions", why));
            }
            let data = json!({ "value": STANDARD.encode(value.reveal()), "token": token });
            if let Written::As(number) = self.kv.write(&path, data, known.last).await? {
                known.book.enter(number, token.clone());
                if self.keep(name, &known).await? {
                    return Ok(number);
                }
            }
        }
        Err(quarrel(name))
    }

    async fn get(&self, name: &SecretName, which: Which) -> Result<(u64, Secret), Failure> {
        let known = self.known(name).await?.ok_or_else(|| unknown(name))?;
        let number = known.book.number(name, which)?;
        let data = self.kv.read(&format!("{name}/value"), Some(number)).await?;
        let text = match data.as_ref().and_then(|(_, data)| data.get("value")) {
            Some(Value::String(text)) => Zeroizing::new(text.clone()),
            Some(_) | None => return Err(odd(name)),
        };
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| odd(name))?;
        Ok((number, Secret::new(bytes)))
    }

    async fn set_labels(&self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure> {
        self.change(name, |book| book.set_labels(name, seen, wanted)).await
    }

    async fn retire(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        // The book first: from then on no label can be put on it.
        self.change(name, |book| book.retire(name, version)).await?;
        self.kv.delete(&format!("{name}/value"), version).await
    }

    async fn reinstate(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        let known = self.known(name).await?.ok_or_else(|| unknown(name))?;
        known.book.clone().reinstate(name, version)?;
        // The value first: what the book calls active can be read.
        self.kv.undelete(&format!("{name}/value"), version).await?;
        self.change(name, |book| book.reinstate(name, version)).await
    }

    async fn destroy(&self, name: &SecretName, version: u64) -> Result<(), Failure> {
        self.change(name, |book| book.destroy(name, version)).await?;
        self.kv.destroy(&format!("{name}/value"), version).await
    }

    async fn remove(&self, name: &SecretName) -> Result<(), Failure> {
        // The book first: values without one are found again, and a book without values would be another secret's.
        self.kv.forget(&format!("{name}/book")).await?;
        self.kv.forget(&format!("{name}/value")).await
    }

    async fn describe(&self, name: &SecretName) -> Result<Option<Described>, Failure> {
        let Some(known) = self.known(name).await? else { return Ok(None) };
        let created = |number| known.created.iter().find(|(n, _)| *n == number).map(|(_, at)| *at);
        let versions = known.book.versions().map(|(number, token, state)| Version {
            number,
            token: token.clone(),
            created: created(number).unwrap_or_default(),
            state,
        });
        Ok(Some(Described { name: name.clone(), labels: known.book.labels(), versions: versions.collect() }))
    }

    async fn list(&self) -> Result<Vec<SecretName>, Failure> {
        let mut names = self.kv.names_with("value").await?;
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests;
