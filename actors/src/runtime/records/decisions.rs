//! Decisions about changes of production: four eyes, before anything is done.
//!
//! Who wants a change asks for it as if it were decided; it is refused and written down under a name.
//! Somebody else, of the tenant whose environment it is, approves the name, and the change is asked for
//! again. One approval is for one effect: for exactly this request, down to the value of a secret, and for
//! the state that the records concerned were in ([`state`]). It is used up before the effect begins, and
//! the effect is held to that state ([`Fence`]). The same request again, under the same key, is answered
//! with what it was answered first, and does nothing.
//!
//! ```text
//! asked     -> approved            by somebody else, while the records stand as they stood
//! asked     -> (gone)              the records changed: it is another change now, and asked for anew
//! approved  -> used for a request  compare-and-set; of two requests one has it
//! approved  -> (gone)              the records changed
//! used      -> used, answered      the effect is there
//! used      -> approved            it was refused for good, and nothing was done
//! used      -> used, may try again it could not be done now; for this request alone
//! ```
//!
//! What was used and never answered ended with its node, and nobody does it again: that takes a new
//! decision by whoever has looked. Decisions are good for a day: a change that was approved last month is
//! not the one that anybody looked at.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Principal, Tenant, Time, Value};
use supervisor::activity::Failure;

use crate::runtime::records::place::Place;
use crate::runtime::store::{self, RuntimeStore, Space, TRIES};

mod fence;
mod record;
pub mod state;

pub use fence::Fence;
use record::Answered;
pub use record::{Change, Decision};
use state::{Concern, Stood, stand, stands};

/// How long a decision is good, how long one is waited for, and how long a request is known by its key.
pub const GOOD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// The most changes of one tenant in one owner's environments that wait for a decision; older ones are
/// forgotten by then.
pub const WAITING_MAX: usize = 1_000;
/// How long a change that was begun may take: several times what a door lets an answer take.
pub const WITHIN: Duration = Duration::from_secs(120);
/// The largest answer that is kept for repetitions, in bytes: commands answer with a few lines.
pub const ANSWER_MAX_BYTES: usize = 64 * 1_024;

/// The error name of a change that nobody has decided about.
pub const UNDECIDED: &str = "Undecided";
/// The error name of a decision that is not there.
pub const UNKNOWN: &str = "UnknownDecision";
/// The error name of an approval by whoever asked.
pub const OWN: &str = "OwnChange";
/// The error name of a change of something that is not any more as it was.
pub const MOVED: &str = store::MOVED;
/// The error name of a request that is carried out right now.
pub const UNDER_WAY: &str = "UnderWay";
/// The error name of a key that named another request before.
pub const KEY_TAKEN: &str = "KeyTaken";

/// What is to be done about a change that was asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// It is to be made, once, and [`settle`]d.
    Go(Pass),
    /// It was made, and this was the answer.
    Done(Value),
}

/// The right to make one change, now.
#[derive(Clone, PartialEq, Debug)]
pub struct Pass {
    owner: Tenant,
    decision: String,
    concerns: Vec<Concern>,
    stood: Vec<Stood>,
    later: bool,
}

impl Pass {
    /// `store`, as long as what the change is about stands as it stood when somebody approved it.
    pub fn fence(&self, store: Arc<dyn RuntimeStore>) -> Arc<dyn RuntimeStore> {
        Arc::new(Fence::new(store, self.stood.clone()))
    }

    /// The change goes on after its answer, as a deployment does: repetitions hear the answer, however
    /// the records stand by then.
    #[must_use]
    pub fn goes_on(self) -> Self {
        Self { later: true, ..self }
    }
}

/// How making a change ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It was made, with this answer.
    Made(&'a Value),
    /// It was refused, and nothing was done.
    Refused,
    /// It could not be done now, or nobody knows whether it was.
    Open,
}

/// What a request is about, without what names it.
pub fn content(body: &Value) -> Value {
    let mut content = body.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("id");
        fields.remove("key");
    }
    content
}

/// Whether a change of what stands under the name of a service waits for a decision, or for being made.
pub async fn concern(store: &dyn RuntimeStore, at: &Place, now: Time) -> Result<bool, Failure> {
    let about = [at.docket(), at.policy(), at.configurations()];
    let all = store::read_all::<Decision>(store, &at.space(), BELOW).await?;
    let open = all.iter().filter(|(_, one)| !one.is_old(now) && one.answered.is_none());
    let mut concerned = open.flat_map(|(_, one)| one.stood.iter().map(|stood| &stood.concern));
    Ok(concerned.any(|concern| concern.of == at.owner && about.contains(&concern.name)))
}

const BELOW: &str = "decision";

fn place(decision: &str) -> String {
    format!("{BELOW}/{decision}")
}

/// Lets a change through that was decided. Otherwise it is refused as [`UNDECIDED`] and waits.
pub async fn enter(store: &dyn RuntimeStore, change: Change<'_>, now: Time) -> Result<Entry, Failure> {
    let space = Space::Of(change.owner.clone());
    let mut lost = store::Error::Stale { name: BELOW.to_owned() };
    for _ in 0..TRIES {
        let known = tidied(store, &space, now).await?;
        if let Some(used) = known.iter().find(|known| known.was_used_for(&change)) {
            match again(store, &change, used, now).await? {
                Some(entry) => return Ok(entry),
                None => continue,
            }
        }
        let stood = stand(store, change.concerns.clone()).await?;
        let mut outdated = false;
        let mut waits = None;
        for one in known.iter().filter(|known| known.used_for.is_none() && known.is_of(&change)) {
            if one.stood == stood {
                // Of several that ask for the same, the one with a word on it counts.
                if waits.is_none_or(|other: &Decision| other.approved_by.is_none()) {
                    waits = Some(one);
                }
                continue;
            }
            // It was asked for, and maybe approved, on a state that is gone, and does not count when that
            // comes back.
            outdated |= one.approved_by.is_some();
            forget(store, &space, &one.decision).await?;
        }
        match waits {
            Some(approved) if approved.approved_by.is_some() => {
                match begin(store, &space, approved, &change, now).await {
                    Ok(pass) => return Ok(Entry::Go(pass)),
                    Err(store::Error::Stale { name }) => lost = store::Error::Stale { name },
                    Err(error) => return Err(error.into()),
                }
            }
            Some(waits) => return Err(undecided(&change, &waits.decision, outdated)),
            None => {
                let mine = known.iter().filter(|known| known.tenant.as_ref() == Some(change.tenant)).count();
                if mine >= WAITING_MAX {
                    let why = format!("{WAITING_MAX} changes wait; decide about some first");
                    return Err(Failure::named("TooManyDecisions", why));
                }
                let asked = Decision::asked(&change, stood, now);
                store::write(store, &space, &place(&asked.decision), &asked, 0).await?;
                return Err(undecided(&change, &asked.decision, outdated));
            }
        }
    }
    Err(lost.into())
}

fn undecided(change: &Change<'_>, decision: &str, outdated: bool) -> Failure {
    let Change { environment, .. } = change;
    let before = match outdated {
        true => "; it was approved before, but what it is about has changed since",
        false => "",
    };
    let why =
        format!("{environment} is production, and nobody has approved this change{before}; its decision is {decision}");
    Failure::named(UNDECIDED, why)
}

/// Uses an approval up for a request, unless somebody else has.
async fn begin(
    store: &dyn RuntimeStore,
    space: &Space,
    decision: &Decision,
    change: &Change<'_>,
    now: Time,
) -> Result<Pass, store::Error> {
    let name = place(&decision.decision);
    let stale = || store::Error::Stale { name: name.clone() };
    let there = store::read::<Decision>(store, space, &name).await?.ok_or_else(stale)?;
    if there.value != *decision {
        return Err(stale());
    }
    let used = Decision { used_for: Some(change.request.to_owned()), begun: Some(now), ..decision.clone() };
    store::write(store, space, &name, &used, there.revision).await?;
    Ok(Pass {
        owner: change.owner.clone(),
        decision: decision.decision.clone(),
        concerns: change.concerns.clone(),
        stood: decision.stood.clone(),
        later: false,
    })
}

/// What a request hears that was let through before. `None`: somebody else got on with it; look again.
async fn again(
    store: &dyn RuntimeStore,
    change: &Change<'_>,
    used: &Decision,
    now: Time,
) -> Result<Option<Entry>, Failure> {
    if !used.is_of(change) {
        let why = "this key named another request before; ask under a new key";
        return Err(Failure::named(KEY_TAKEN, why));
    }
    let decision = &used.decision;
    let look = "see what is there, and ask under a new key, which takes a new decision";
    match (&used.answered, used.begun) {
        (Some(answered), _) if !stands(store, &answered.left).await? => {
            let why =
                format!("this change was made (decision {decision}), and what it is about has changed since; {look}");
            Err(Failure::named(MOVED, why))
        }
        (Some(Answered { answer: Some(answer), .. }), _) => Ok(Some(Entry::Done(answer.clone()))),
        (Some(Answered { answer: None, .. }), _) => {
            let why = format!(
                "this change was made (decision {decision}), and its answer was too large to keep; see what is there"
            );
            Err(Failure::named(KEY_TAKEN, why))
        }
        (None, Some(begun)) if now.since(begun) < WITHIN => {
            let why = format!("this change is being made (decision {decision}); ask again for its answer");
            Err(Failure { error: UNDER_WAY.into(), cause: why, permanent: false })
        }
        (None, Some(begun)) => {
            let why = format!(
                "this change was begun at {begun} (decision {decision}), and nobody knows how it ended; {look}"
            );
            Err(Failure::named(MOVED, why))
        }
        (None, None) if !stands(store, &used.stood).await? => {
            let why = format!(
                "this change could not be made (decision {decision}), and what it is about has changed since; {look}"
            );
            Err(Failure::named(MOVED, why))
        }
        (None, None) => match begin(store, &Space::Of(change.owner.clone()), used, change, now).await {
            Ok(pass) => Ok(Some(Entry::Go(pass))),
            Err(store::Error::Stale { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        },
    }
}

/// Keeps how making a change ended.
pub async fn settle(store: &dyn RuntimeStore, pass: &Pass, end: End<'_>) -> Result<(), Failure> {
    let answered = match end {
        End::Made(answer) => {
            let left = if pass.later { Vec::new() } else { stand(store, pass.concerns.clone()).await? };
            let fits = answer.to_string().len() <= ANSWER_MAX_BYTES;
            Some(Answered { answer: fits.then(|| answer.clone()), left })
        }
        End::Refused | End::Open => None,
    };
    store::change(store, &Space::Of(pass.owner.clone()), &place(&pass.decision), |there: Option<&Decision>| {
        let there = there.filter(|there| there.answered.is_none())?.clone();
        Some(match end {
            End::Made(_) => Decision { answered: answered.clone(), ..there },
            End::Refused => Decision { used_for: None, begun: None, ..there },
            End::Open => Decision { begun: None, ..there },
        })
    })
    .await?;
    Ok(())
}

/// Approves a change that somebody else wants in an environment of `tenant`, as long as what it is about
/// stands as it stood. Again: nothing happens.
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
    let space = Space::Of(tenant.clone());
    let there = store::read::<Decision>(store, &space, &place(decision)).await?;
    let there = there.map(|there| there.value).filter(|there| !there.is_old(now)).ok_or_else(unknown)?;
    if there.by == *by && there.tenant.as_ref().is_none_or(|asks| asks == tenant) {
        return Err(Failure::named(OWN, format!("{by} wants the change; somebody else approves it")));
    }
    if there.approved_by.is_none() && !stands(store, &there.stood).await? {
        forget(store, &space, decision).await?;
        let why = format!("what {} is about has changed since it was asked for; have it asked for again", there.what);
        return Err(Failure::named(MOVED, why));
    }
    let stands = store::change(store, &space, &place(decision), |now_there: Option<&Decision>| {
        let now_there = now_there.filter(|now_there| now_there.approved_by.is_none())?;
        Some(Decision { approved_by: Some(by.clone()), ..now_there.clone() })
    })
    .await?;
    stands.ok_or_else(unknown)
}

/// What waits for a decision of `owner`, and what was decided within a day; oldest first.
pub async fn list(store: &dyn RuntimeStore, owner: &Tenant, now: Time) -> Result<Vec<Decision>, Failure> {
    let all = store::read_all::<Decision>(store, &Space::Of(owner.clone()), BELOW).await?;
    let mut all: Vec<_> = all.into_iter().map(|(_, decision)| decision).filter(|one| !one.is_old(now)).collect();
    all.sort_by(|one, other| (one.at, &one.decision).cmp(&(other.at, &other.decision)));
    Ok(all)
}

async fn forget(store: &dyn RuntimeStore, space: &Space, decision: &str) -> Result<(), Failure> {
    let name = place(decision);
    if let Some(there) = store.get(space, &name).await? {
        store.remove(space, &name, there.revision).await?;
    }
    Ok(())
}

/// All that is not old; what is old is forgotten.
async fn tidied(store: &dyn RuntimeStore, space: &Space, now: Time) -> Result<Vec<Decision>, Failure> {
    let all = store::read_all::<Decision>(store, space, BELOW).await?;
    let (old, known): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, decision)| decision.is_old(now));
    for (_, old) in old {
        forget(store, space, &old.decision).await?;
    }
    Ok(known.into_iter().map(|(_, decision)| decision).collect())
}

#[cfg(test)]
#[path = "decisions_tests.rs"]
mod tests;
