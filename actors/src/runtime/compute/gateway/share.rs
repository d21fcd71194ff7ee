//! How many of all requests under way may be those of one environment.
//!
//! As many as there are places left: one that takes all it can get leaves half of them, two leave a third
//! (dynamic thresholds, Choudhury and Hahne 1998). So nobody has to say in advance how many there will be, and
//! requests without end to the services of one environment keep none of another from being answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The requests under way of all gateways of a node.
#[derive(Debug)]
pub struct Share {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Arc<str>, usize>,
}

/// One request's place, free again when it is dropped.
#[derive(Debug)]
pub struct Part {
    share: Arc<Share>,
    environment: Arc<str>,
}

impl Share {
    /// Places for `most` requests.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a request to a service of `environment`, if it has fewer than are left.
    pub fn enter(self: &Arc<Self>, environment: &Arc<str>) -> Option<Part> {
        let mut taken = self.taken();
        let own = taken.by.get(environment).copied().unwrap_or(0);
        if own >= self.most.saturating_sub(taken.all) {
            return None;
        }
        taken.all += 1;
        taken.by.insert(environment.clone(), own + 1);
        Some(Part { share: self.clone(), environment: environment.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.share.taken();
        taken.all -= 1;
        if let Some(own) = taken.by.get_mut(&self.environment) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.environment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(share: &Arc<Share>, environment: &str) -> Vec<Part> {
        std::iter::from_fn(|| share.enter(&environment.into())).collect()
    }

    #[test]
    fn however_many_take_all_they_can_get_there_is_room_for_one_more() {
        let share = Share::new(1_024);
        let first = all(&share, "a");
        assert_eq!(first.len(), 512);
        let rest: Vec<Vec<Part>> = ["b", "c", "d", "e"].into_iter().map(|it| all(&share, it)).collect();
        assert!(rest.iter().all(|parts| !parts.is_empty()), "{rest:?}");
        assert!(!all(&share, "quiet").is_empty());
        drop((first, rest));
        assert_eq!(all(&share, "a").len(), 512, "places are given back");
    }

    #[test]
    fn alone_an_environment_with_one_place_has_it() {
        assert_eq!(all(&Share::new(1), "a").len(), 1);
    }
}
