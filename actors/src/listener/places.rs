//! Places that many share, counted by who holds them. Who may take another one is for the owner of the
//! places to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places that are taken.
#[derive(Debug, Default)]
pub struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Arc<str>, usize>,
}

/// One place, free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    who: Arc<str>,
}

impl Places {
    /// Takes a place for `who`, if `may` lets it: it hears how many `who` holds, and all together.
    pub fn enter<E>(self: &Arc<Self>, who: &str, may: impl FnOnce(usize, usize) -> Result<(), E>) -> Result<Place, E> {
        let mut taken = self.taken();
        let own = taken.by.get(who).copied().unwrap_or(0);
        may(own, taken.all)?;
        let who: Arc<str> = who.into();
        taken.all += 1;
        taken.by.insert(who.clone(), own + 1);
        Ok(Place { places: self.clone(), who })
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.taken().all == 0
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
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
        let places = Arc::new(Places::default());
        let enter = |who: &str| places.enter(who, |own, all| if own < 2 { Ok(()) } else { Err((own, all)) });
        let (first, second) = (enter("acme").unwrap(), enter("acme").unwrap());
        let third = enter("other").unwrap();
        assert_eq!(enter("acme").unwrap_err(), (2, 3));
        drop(first);
        let fourth = enter("acme").unwrap();
        drop((second, third, fourth));
        assert!(places.is_empty() && places.taken().by.is_empty());
    }
}
