//! Who asks: a bearer token, of which the node knows nothing but its digest.
//!
//! The tokens stand in a file that `skald http token` writes and a person may edit. It is read again
//! when it has changed, so that taking a line out is taking the right away.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use protocol::{Principal, Tenant, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::routes::{ROUTES, Route};
use crate::secret::Secret;

/// The most bytes of a file of tokens: ten thousand and more of them.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// Whoever has the token is this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// SHA-256 of the token, in hexadecimal digits.
    pub sha256: String,
    /// Whose data.
    pub tenant: Tenant,
    /// As whom.
    pub principal: Principal,
    /// What it may: `runtime.<area>.read` and `runtime.<area>.write`.
    pub scopes: BTreeSet<String>,
    /// Until when; absent: until the line is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Holder {
    /// Whether it may use `route`.
    pub fn may(&self, route: &Route) -> bool {
        self.scopes.contains(&route.scope())
    }
}

/// A file of tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Holders {
    /// One each.
    pub token: Vec<Holder>,
}

impl Holders {
    /// What stands in a file; `Err` says what is wrong with it, and not what stands there.
    pub fn read(text: &str) -> Result<Self, String> {
        let holders: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        for (at, holder) in (1..).zip(&holders.token) {
            if holder.sha256.len() != 64 || !holder.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!("sha256 of token {at} is not 64 hexadecimal digits"));
            }
            if let Some(scope) = holder.scopes.iter().find(|scope| !scopes().contains(*scope)) {
                return Err(format!("token {at} has the scope {scope:?}; there are {}", all().join(", ")));
            }
        }
        Ok(holders)
    }
}

/// All scopes that there are.
pub fn scopes() -> BTreeSet<String> {
    ROUTES.iter().map(Route::scope).collect()
}

fn all() -> Vec<String> {
    scopes().into_iter().collect()
}

/// What is kept of a token instead of it.
pub fn digest(token: &Secret) -> String {
    hex::encode(Sha256::digest(token.reveal().as_bytes()))
}

/// The tokens of a node.
pub struct Tokens {
    file: PathBuf,
    read: Mutex<Option<(SystemTime, Arc<Holders>)>>,
}

impl Tokens {
    /// Those in `file`; it need not be there yet.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), read: Mutex::new(None) }
    }

    /// Who has this token. `Ok(None)`: nobody. `Err`: the file cannot be used, and says why.
    pub fn holder(&self, token: &Secret, now: Time) -> Result<Option<Holder>, String> {
        let holders = self.holders().map_err(|why| format!("{}: {why}", self.file.display()))?;
        // A digest, so that how long the comparison takes says nothing about any token.
        let digest = digest(token);
        let found = holders.token.iter().find(|holder| holder.sha256.eq_ignore_ascii_case(&digest));
        Ok(found.filter(|holder| holder.until.is_none_or(|until| now < until)).cloned())
    }

    fn holders(&self) -> Result<Arc<Holders>, String> {
        let about = match std::fs::metadata(&self.file) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(error.to_string()),
        };
        if about.len() > FILE_MAX_BYTES {
            return Err(format!("it has {} bytes, and may have {FILE_MAX_BYTES}", about.len()));
        }
        let changed = about.modified().map_err(|error| error.to_string())?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((at, holders)) if *at == changed => Ok(holders.clone()),
            Some(_) | None => {
                let text = std::fs::read_to_string(&self.file).map_err(|error| error.to_string())?;
                let holders = Arc::new(Holders::read(&text)?);
                *read = Some((changed, holders.clone()));
                Ok(holders)
            }
        }
    }
}
