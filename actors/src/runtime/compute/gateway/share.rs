//! How many of all requests under way may be those of one environment.
//!
//! As many as there are places left: one that takes all it can get leaves half of them, two leave a third
//! (dynamic thresholds, Choudhury and Hahne 1998). So nobody has to say in advance how many there will be, and
//! requests without end to the services of one environment keep none of another from being answered.

use std::sync::Arc;

use crate::listener::{Place, Places};

/// The requests under way of all gateways of a node.
#[derive(Clone, Debug)]
pub struct Share {
    most: usize,
    places: Arc<Places>,
}

impl Share {
    /// Places for `most` requests.
    pub fn new(most: usize) -> Self {
        Self { most, places: Arc::default() }
    }

    /// A place for a request to a service of `environment`, if it has fewer than are left.
    pub fn enter(&self, environment: &str) -> Option<Place> {
        let fewer = |own, all| (own < self.most.saturating_sub(all)).then_some(()).ok_or(());
        self.places.enter(environment, fewer).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(share: &Share, environment: &str) -> Vec<Place> {
        std::iter::from_fn(|| share.enter(environment)).collect()
    }

    #[test]
    fn however_many_take_all_they_can_get_there_is_room_for_one_more() {
        let share = Share::new(1_024);
        let first = all(&share, "a");
        assert_eq!(first.len(), 512);
        let rest: Vec<Vec<Place>> = ["b", "c", "d", "e"].into_iter().map(|it| all(&share, it)).collect();
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
