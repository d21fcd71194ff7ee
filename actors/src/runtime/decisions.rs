//! Decisions about changes of production: four eyes, before anything is done.
//!
//! Who wants a change asks for it as if it were decided; it is refused and written down under a name
//! that stands for exactly this change. Somebody else of the tenant approves the name, and the change
//! is asked for again. A decision is good for one request and for a day: a change that was approved
//! last month is not the one that anybody looked at.

use std::time::Duration;

use protocol::{Principal, Tenant, Time, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

use super::store::{self, RuntimeStore, Space};

/// How long a decision is good, and how long one is waited for.
pub const GOOD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// The most changes of one tenant that wait for a decision; older ones are forgotten by then.
pub const WAITING_MAX: usize = 1_000;

/// The error name of a change that nobody has decided about.
pub const UNDECIDED: &str = "Undecided";
/// The error name of a decision that is not there.
pub const UNKNOWN: &str = "UnknownDecision";
/// The error name of an approval by whoever asked.
pub const OWN: &str = "OwnChange";

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
    /// Who wants it.
    pub by: Principal,
    /// Since when.
    pub at: Time,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Principal>,
    /// The request that it was used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_for: Option<String>,
}

impl Decision {
    fn is_old(&self, now: Time) -> bool {
        now.since(self.at) >= GOOD_FOR
    }
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Whose.
    pub tenant: &'a Tenant,
    /// Who asks.
    pub by: &'a Principal,
    /// What, in a few words.
    pub what: &'a str,
    /// In which environment.
    pub environment: &'a str,
    /// All of it, but for the values of secrets.
    pub body: &'a Value,
    /// Names the request: the same request again needs no other decision.
    pub request: &'a str,
}

impl Change<'_> {
    /// Stands for exactly this change of this asker.
    fn name(&self) -> String {
        let mut hash = Sha256::new();
        let body = self.body.to_string();
        for part in [self.by.as_str(), self.what, self.environment, &body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hex::encode(&hash.finalize()[..16])
    }
}

const BELOW: &str = "decision";

fn place(decision: &str) -> String {
    format!("{BELOW}/{decision}")
}

/// Lets a change through that was decided. Otherwise it is refused as [`UNDECIDED`] and waits.
pub async fn enter(store: &dyn RuntimeStore, change: &Change<'_>, now: Time) -> Result<(), Failure> {
    let (name, space) = (change.name(), Space::Of(change.tenant.clone()));
    tidy(store, &space, now).await?;
    let mut good = false;
    store::change(store, &space, &place(&name), |there: Option<&Decision>| {
        let there = there.filter(|there| !there.is_old(now));
        let used = there.is_some_and(|there| there.used_for.as_deref().is_some_and(|used| used != change.request));
        good = there.is_some_and(|there| there.approved_by.is_some()) && !used;
        match there {
            Some(there) if good && there.used_for.is_none() => {
                Some(Decision { used_for: Some(change.request.to_owned()), ..there.clone() })
            }
            Some(_) if !used => None,
            Some(_) | None => Some(Decision {
                decision: name.clone(),
                what: change.what.to_owned(),
                environment: change.environment.to_owned(),
                by: change.by.clone(),
                at: now,
                approved_by: None,
                used_for: None,
            }),
        }
    })
    .await?;
    if good {
        return Ok(());
    }
    let why =
        format!("{} is production, and nobody has approved this change; its decision is {name}", change.environment);
    Err(Failure::named(UNDECIDED, why))
}

/// Approves a change that somebody else wants. Again: nothing happens.
pub async fn approve(
    store: &dyn RuntimeStore,
    tenant: &Tenant,
    decision: &str,
    by: &Principal,
    now: Time,
) -> Result<Decision, Failure> {
    let unknown = || Failure::named(UNKNOWN, format!("there is no decision {decision} to make; it may be too old"));
    // It becomes a part of a name.
    if decision.is_empty() || !decision.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let (space, mut own) = (Space::Of(tenant.clone()), false);
    let stands = store::change(store, &space, &place(decision), |there: Option<&Decision>| {
        let there = there.filter(|there| !there.is_old(now))?;
        own = there.by == *by;
        let next = Decision { approved_by: Some(by.clone()), ..there.clone() };
        (!own && there.approved_by.is_none()).then_some(next)
    })
    .await?;
    match stands.filter(|stands| !stands.is_old(now)) {
        _ if own => Err(Failure::named(OWN, format!("{by} wants the change; somebody else approves it"))),
        Some(stands) => Ok(stands),
        None => Err(unknown()),
    }
}

/// What waits for a decision, and what was decided within a day; oldest first.
pub async fn list(store: &dyn RuntimeStore, tenant: &Tenant, now: Time) -> Result<Vec<Decision>, Failure> {
    let all = store::read_all::<Decision>(store, &Space::Of(tenant.clone()), BELOW).await?;
    let mut all: Vec<_> = all.into_iter().map(|(_, decision)| decision).filter(|one| !one.is_old(now)).collect();
    all.sort_by(|one, other| (one.at, &one.decision).cmp(&(other.at, &other.decision)));
    Ok(all)
}

/// Forgets what is old; full is said.
async fn tidy(store: &dyn RuntimeStore, space: &Space, now: Time) -> Result<(), Failure> {
    let all = store::read_all::<Decision>(store, space, BELOW).await?;
    let (old, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, decision)| decision.is_old(now));
    for (name, _) in old {
        if let Some(there) = store.get(space, &name).await? {
            store.remove(space, &name, there.revision).await?;
        }
    }
    if waiting.len() >= WAITING_MAX {
        return Err(Failure::named("TooManyDecisions", format!("{WAITING_MAX} changes wait; decide about some first")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::store::MemoryStore;

    #[tokio::test]
    async fn a_change_needs_somebody_else_and_is_made_once() {
        let (store, acme) = (MemoryStore::new(), Tenant::new("acme").unwrap());
        let (ann, bob) = (Principal::new("ann").unwrap(), Principal::new("bob").unwrap());
        let noon = Time::from_micros(1_700_000_000_000_000);
        let body = json!({ "service": "web" });
        let ask = |request: &'static str| Change {
            tenant: &acme,
            by: &ann,
            what: "service.scale",
            environment: "prod",
            body: &body,
            request,
        };
        for _ in 0..2 {
            assert_eq!(enter(&store, &ask("r1"), noon).await.unwrap_err().error, UNDECIDED);
        }
        let waiting = list(&store, &acme, noon).await.unwrap().remove(0);
        assert_eq!((waiting.what.as_str(), &waiting.by), ("service.scale", &ann));
        let approve = |by: Principal, name: String| {
            let (store, acme) = (&store, &acme);
            async move { approve(store, acme, &name, &by, noon).await }
        };
        assert_eq!(approve(ann.clone(), waiting.decision.clone()).await.unwrap_err().error, OWN);
        assert_eq!(approve(bob.clone(), "../x".into()).await.unwrap_err().error, UNKNOWN);
        assert_eq!(approve(bob.clone(), waiting.decision).await.unwrap().approved_by, Some(bob));
        enter(&store, &ask("r1"), noon).await.unwrap();
        enter(&store, &ask("r1"), noon).await.unwrap();
        assert_eq!(
            enter(&store, &ask("r2"), noon).await.unwrap_err().error,
            UNDECIDED,
            "another request, another word"
        );
        let other = Change { body: &json!({ "service": "api" }), ..ask("r1") };
        assert_eq!(enter(&store, &other, noon).await.unwrap_err().error, UNDECIDED, "another change");
        let tomorrow = noon.after(GOOD_FOR);
        assert_eq!(enter(&store, &ask("r1"), tomorrow).await.unwrap_err().error, UNDECIDED, "too late");
    }
}
