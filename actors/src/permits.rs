//! Permits that many share, counted by holder. Who owns the permits decides who may take another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The permits that are taken.
#[derive(Debug, Default)]
pub struct Permits(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Arc<str>, usize>,
}

/// One permit, free again when dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    who: Arc<str>,
}

impl Permits {
    /// Takes a permit for `who` if `may` allows it. `may` gets how many `who` holds, and how many are held in all.
    pub fn acquire<E>(
        self: &Arc<Self>,
        who: &str,
        may: impl FnOnce(usize, usize) -> Result<(), E>,
    ) -> Result<Permit, E> {
        let mut taken = self.taken();
        let own = taken.by.get(who).copied().unwrap_or(0);
        may(own, taken.all)?;
        let who: Arc<str> = who.into();
        taken.all += 1;
        taken.by.insert(who.clone(), own + 1);
        Ok(Permit { permits: self.clone(), who })
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.taken().all == 0
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        taken.all -= 1;
        if let Some(own) = taken.by.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_nothing_is_forgotten() {
        let permits = Arc::new(Permits::default());
        let acquire = |who: &str| permits.acquire(who, |own, all| if own < 2 { Ok(()) } else { Err((own, all)) });
        let (first, second) = (acquire("acme").unwrap(), acquire("acme").unwrap());
        let third = acquire("other").unwrap();
        assert_eq!(acquire("acme").unwrap_err(), (2, 3));
        drop(first);
        let fourth = acquire("acme").unwrap();
        drop((second, third, fourth));
        assert!(permits.is_empty() && permits.taken().by.is_empty());
    }
}
