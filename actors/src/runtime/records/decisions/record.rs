//! A decision as it is kept, and the change that it is about.

use protocol::{Principal, Tenant, Time, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::runtime::records::decisions::GOOD_FOR;
use crate::runtime::records::decisions::state::{Concern, Stood};

/// A change that waits for a decision, or was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Its name.
    pub decision: String,
    /// What is to be done, without any value of a secret.
    pub what: String,
    /// In which environment.
    pub environment: String,
    /// The tenant of whoever wants it; absent: an earlier release asked, and nobody can use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Who wants it.
    pub by: Principal,
    /// Since when.
    pub at: Time,
    /// Stands for exactly this request.
    #[serde(default)]
    pub(super) seal: Seal,
    /// How the records that it is about stood.
    #[serde(default)]
    pub(super) stood: Vec<Stood>,
    /// Who approved it: the principal of the connection that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Principal>,
    /// The request that it was used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_for: Option<String>,
    /// Since when that is carried out; absent: it could not be done, and may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) begun: Option<Time>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answered: Option<Answered>,
}

/// What came of a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answered {
    /// The answer; absent: it was too large to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Value>,
    /// How it left the records.
    pub(super) left: Vec<Stood>,
}

/// A digest of a request, with salt: a request may hold the value of a secret, and a name made of that
/// could be guessed from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seal {
    salt: String,
    digest: String,
}

impl Seal {
    fn new(change: &Change<'_>) -> Self {
        let salt = uuid::Uuid::new_v4().simple().to_string();
        Self { digest: Self::digest(&salt, change), salt }
    }

    fn is_of(&self, change: &Change<'_>) -> bool {
        self.digest == Self::digest(&self.salt, change)
    }

    fn digest(salt: &str, change: &Change<'_>) -> String {
        let mut hash = Sha256::new();
        let body = change.body.to_string();
        for part in [salt, change.tenant.as_str(), change.by.as_str(), change.what, change.environment, &body] {
            // Lengths go in, or `a` and `bc` would be `ab` and `c`.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }
}

impl Decision {
    /// A change that was asked for now, of records that stand so.
    pub(super) fn asked(change: &Change<'_>, stood: Vec<Stood>, now: Time) -> Self {
        Self {
            decision: uuid::Uuid::new_v4().simple().to_string(),
            what: change.what.to_owned(),
            environment: change.environment.to_owned(),
            tenant: Some(change.tenant.clone()),
            by: change.by.clone(),
            at: now,
            seal: Seal::new(change),
            stood,
            approved_by: None,
            used_for: None,
            begun: None,
            answered: None,
        }
    }

    pub(super) fn is_old(&self, now: Time) -> bool {
        now.since(self.at) >= GOOD_FOR
    }

    pub(super) fn is_of(&self, change: &Change<'_>) -> bool {
        self.tenant.as_ref() == Some(change.tenant) && self.by == *change.by && self.seal.is_of(change)
    }

    pub(super) fn was_used_for(&self, change: &Change<'_>) -> bool {
        let asked = self.tenant.as_ref() == Some(change.tenant) && self.by == *change.by;
        asked && self.used_for.as_deref() == Some(change.request)
    }
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Whose environment it is; what is decided about it is kept among this tenant's values.
    pub owner: &'a Tenant,
    /// Whose principal asks.
    pub tenant: &'a Tenant,
    /// Who asks.
    pub by: &'a Principal,
    /// What, in a few words.
    pub what: &'a str,
    /// In which environment.
    pub environment: &'a str,
    /// All of it, but for what names the request ([`content`]).
    pub body: &'a Value,
    /// Names the request: the same request again is answered as it was first.
    pub request: &'a str,
    /// The records that it is about.
    pub concerns: Vec<Concern>,
}
