//! Room for commands that wait for an outcome. They wait for minutes and cost next to nothing, so
//! they do not stand in the way of those that are done at once; and no tenant takes all of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::{Code, Problem, Tenant};

/// When to come again: a place becomes free when a saga ends or a minute is over.
const RETRY_AFTER_MS: u64 = 1_000;

/// The room, with who is in it.
#[derive(Debug)]
pub struct Waiting {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Tenant, usize>,
}

/// A place in the room, free again when dropped.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Waiting>,
    tenant: Tenant,
}

impl Waiting {
    /// Room for `all` at once, and for `each` of one tenant.
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    /// Takes a place for `tenant`.
    pub fn enter(self: &Arc<Self>, tenant: &Tenant) -> Result<Place, Problem> {
        let mut taken = self.taken();
        let own = taken.by.get(tenant).copied().unwrap_or(0);
        let full = |who: String, limit: &str| {
            Err(Problem::new(Code::Busy, format!("{who} as many outcomes as limits.{limit} allows"))
                .mend("ask again, or do without waiting: `skald show` and `skald events` tell how it ends")
                .retry_after_ms(RETRY_AFTER_MS))
        };
        if own >= self.each {
            return full(format!("{tenant} waits on this node for"), "waits_per_tenant");
        }
        if taken.all >= self.all {
            return full("this node waits for".to_owned(), "waits_in_flight");
        }
        taken.all += 1;
        taken.by.insert(tenant.clone(), own + 1);
        Ok(Place { waiting: self.clone(), tenant: tenant.clone() })
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.taken().all == 0
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.waiting.taken();
        taken.all -= 1;
        let left = taken.by.get(&self.tenant).map_or(0, |own| own - 1);
        if left == 0 {
            taken.by.remove(&self.tenant);
        } else {
            taken.by.insert(self.tenant.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_does_not_take_all_the_room() {
        let (acme, other) = (Tenant::new("acme").unwrap(), Tenant::new("other").unwrap());
        let room = Waiting::new(3, 2);
        let first = room.enter(&acme).unwrap();
        let _second = room.enter(&acme).unwrap();
        let refused = room.enter(&acme).unwrap_err();
        assert_eq!(refused.code, Code::Busy);
        assert!(refused.message.contains("acme") && refused.message.contains("limits.waits_per_tenant"), "{refused:?}");
        let _third = room.enter(&other).unwrap();
        assert!(room.enter(&other).unwrap_err().message.contains("limits.waits_in_flight"));
        drop(first);
        let fourth = room.enter(&acme).unwrap();
        drop((_second, _third, fourth));
        assert!(room.is_empty() && room.taken().by.is_empty());
    }
}
