//! The key-value store's interface, version 2, as far as it is needed.

use protocol::Time;
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use supervisor::activity::Failure;
use zeroize::Zeroizing;

use super::super::{SecretName, VALUE_MAX_BYTES};
use super::Settings;
use crate::runtime::ports::http_api;

/// The largest answer, in bytes: a value in Base64, or what is known of a hundred versions.
const ANSWER_MAX_BYTES: usize = 2 * VALUE_MAX_BYTES + (128 << 10);
/// The most directories that are looked into for a listing.
const DIRECTORIES_MAX: usize = 20_000;

/// What came of writing.
pub enum Written {
    /// It is there, as this version.
    As(u64),
    /// Somebody else wrote since.
    Meanwhile,
}

/// The versions of a value.
pub struct Versions {
    /// The one that was written last; 0: there is none.
    pub last: u64,
    /// Those that are remembered, with when they were made.
    pub created: Vec<(u64, Time)>,
}

/// The store.
pub struct Kv {
    settings: Settings,
    base: String,
    client: Client,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Read {
    data: Option<Value>,
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    version: u64,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    versions: std::collections::BTreeMap<String, Made>,
}

#[derive(Deserialize)]
struct Made {
    created_time: String,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Kv {
    /// The store that `settings` name.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let part = |what: &str, text: &str| match SecretName::new(text) {
            Ok(_) => Ok(()),
            Err(fault) => Err(Failure::named("BadAddress", format!("the {what}: {}; {}", fault.fault, fault.mend))),
        };
        part("mount", &settings.mount)?;
        part("prefix", &settings.prefix)?;
        let base = format!("{}/v1/{}", http_api::base(&settings.address)?, settings.mount);
        Ok(Self { base, client: http_api::client()?, settings })
    }

    /// What it was told.
    #[cfg(test)]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `Ok(None)`: it is not there.
    async fn ask(
        &self,
        method: Method,
        verb: &str,
        path: &str,
        query: &str,
        body: Option<Value>,
    ) -> Result<Option<(StatusCode, Zeroizing<Vec<u8>>)>, Failure> {
        let url = format!("{}/{verb}/{}/{path}{query}", self.base, self.settings.prefix);
        let token = String::from_utf8_lossy(self.settings.token.reveal());
        let mut request = self.client.request(method, url).header("X-Vault-Token", &*token);
        if let Some(namespace) = &self.settings.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let (status, body) = http_api::answer("asking Vault", request, ANSWER_MAX_BYTES).await?;
        let body = Zeroizing::new(body);
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::FORBIDDEN => {
                let why = format!("Vault forbids {verb} of {path}; check the token and its policy");
                Err(Failure::named("VaultForbidden", why))
            }
            StatusCode::SERVICE_UNAVAILABLE => Err(Failure::transient("asking Vault", "it is sealed or in standby")),
            status if status.is_success() || status == StatusCode::BAD_REQUEST => Ok(Some((status, body))),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::transient("asking Vault", format!("it answered with {status}")))
            }
            status => Err(Failure::permanent("asking Vault", format!("{verb} of {path} is answered with {status}"))),
        }
    }

    fn parsed<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Failure> {
        // The parser's own error may show what it read.
        serde_json::from_slice::<Data<T>>(body).map(|data| data.data).map_err(|_| {
            Failure::permanent("asking Vault", "its answer has another shape; is it a store of version 2?")
        })
    }

    fn refused<T>(verb: &str, path: &str) -> Result<T, Failure> {
        Err(Failure::permanent("asking Vault", format!("it refuses {verb} of {path}; is it a store of version 2?")))
    }

    /// The version and content at `path`. `None`: it is not there, or can be read no more.
    pub async fn read(&self, path: &str, version: Option<u64>) -> Result<Option<(u64, Value)>, Failure> {
        let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
        match self.ask(Method::GET, "data", path, &query, None).await? {
            None => Ok(None),
            Some((StatusCode::BAD_REQUEST, _)) => Self::refused("data", path),
            Some((_, body)) => {
                let read: Read = Self::parsed(&body)?;
                Ok(read.data.map(|data| (read.metadata.version, data)))
            }
        }
    }

    /// Writes `data` to `path`, if the version there still is `last` (0: there is none).
    pub async fn write(&self, path: &str, data: Value, last: u64) -> Result<Written, Failure> {
        let body = json!({ "options": { "cas": last }, "data": data });
        match self.ask(Method::POST, "data", path, "", Some(body)).await? {
            Some((StatusCode::BAD_REQUEST, body)) => {
                let errors: Errors = serde_json::from_slice(&body).unwrap_or(Errors { errors: Vec::new() });
                match errors.errors.iter().any(|error| error.contains("check-and-set")) {
                    true => Ok(Written::Meanwhile),
                    false => Self::refused("data", path),
                }
            }
            Some((_, body)) => Ok(Written::As(Self::parsed::<Meta>(&body)?.version)),
            None => Err(Failure::named("VaultMissing", "there is no key-value store at the mount; enable one there")),
        }
    }

    /// The versions of `path`. `None`: it is not there.
    pub async fn versions(&self, path: &str) -> Result<Option<Versions>, Failure> {
        match self.ask(Method::GET, "metadata", path, "", None).await? {
            None => Ok(None),
            Some((StatusCode::BAD_REQUEST, _)) => Self::refused("metadata", path),
            Some((_, body)) => {
                let metadata: Metadata = Self::parsed(&body)?;
                let made = |(number, made): (&String, &Made)| {
                    Some((number.parse().ok()?, made.created_time.parse().unwrap_or_default()))
                };
                let mut created: Vec<(u64, Time)> = metadata.versions.iter().filter_map(made).collect();
                created.sort();
                Ok(Some(Versions { last: metadata.current_version, created }))
            }
        }
    }

    /// Has the store keep so many versions of `path`.
    pub async fn keep_versions(&self, path: &str, versions: usize) -> Result<(), Failure> {
        // One more than there may be, or the newest would push out one that somebody still uses.
        self.tell("metadata", path, json!({ "max_versions": versions + 1 })).await
    }

    /// Keeps a version from being read.
    pub async fn delete(&self, path: &str, version: u64) -> Result<(), Failure> {
        self.tell("delete", path, json!({ "versions": [version] })).await
    }

    /// Lets a deleted version be read again.
    pub async fn undelete(&self, path: &str, version: u64) -> Result<(), Failure> {
        self.tell("undelete", path, json!({ "versions": [version] })).await
    }

    /// Removes a version for good.
    pub async fn destroy(&self, path: &str, version: u64) -> Result<(), Failure> {
        self.tell("destroy", path, json!({ "versions": [version] })).await
    }

    /// Removes everything at `path` for good.
    pub async fn forget(&self, path: &str) -> Result<(), Failure> {
        match self.ask(Method::DELETE, "metadata", path, "", None).await? {
            Some((StatusCode::BAD_REQUEST, _)) => Self::refused("metadata", path),
            Some(_) | None => Ok(()),
        }
    }

    async fn tell(&self, verb: &str, path: &str, body: Value) -> Result<(), Failure> {
        match self.ask(Method::POST, verb, path, "", Some(body)).await? {
            Some((StatusCode::BAD_REQUEST, _)) => Self::refused(verb, path),
            Some(_) | None => Ok(()),
        }
    }

    /// The names below which there is something called `leaf`.
    pub async fn names_with(&self, leaf: &str) -> Result<Vec<SecretName>, Failure> {
        let (mut names, mut open, mut seen) = (Vec::new(), vec![String::new()], 0);
        while let Some(dir) = open.pop() {
            seen += 1;
            if seen > DIRECTORIES_MAX {
                let why = format!("there are more than {DIRECTORIES_MAX} names; use another prefix");
                return Err(Failure::named("TooManySecrets", why));
            }
            let keys = match self.ask(Method::GET, "metadata", &dir, "?list=true", None).await? {
                None => continue,
                Some((StatusCode::BAD_REQUEST, _)) => return Self::refused("listing", &dir),
                Some((_, body)) => Self::parsed::<Keys>(&body)?.keys,
            };
            for key in keys {
                if key == leaf {
                    names.extend(SecretName::new(dir.trim_end_matches('/')).ok());
                } else if key.ends_with('/') {
                    open.push(format!("{dir}{key}"));
                }
            }
        }
        Ok(names)
    }
}
