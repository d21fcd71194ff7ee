//! How many of all requests under way may be those of one environment.
//!
//! As many as there are places left: one that takes all it can get leaves half of them, two leave a third
//! (dynamic thresholds, Choudhury and Hahne 1998). So nobody has to say in advance how many there will be, and
//! requests without end to the services of one environment keep none of another from being answered.

use std::sync::Arc;

use crate::permits::{Permit, Permits};

/// The requests under way of all gateways of a node.
#[derive(Clone, Debug)]
pub struct UnderWay {
    most: usize,
    permits: Arc<Permits>,
}

impl UnderWay {
    /// Permits for `most` requests.
    pub fn new(most: usize) -> Self {
        Self { most, permits: Arc::default() }
    }

    /// A permit for a request to a service of `environment`, if it has fewer than are left.
    pub fn enter(&self, environment: &str) -> Option<Permit> {
        let fewer = |own, all| (own < self.most.saturating_sub(all)).then_some(()).ok_or(());
        self.permits.acquire(environment, fewer).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(under_way: &UnderWay, environment: &str) -> Vec<Permit> {
        std::iter::from_fn(|| under_way.enter(environment)).collect()
    }

    #[test]
    fn however_many_take_all_they_can_get_there_is_room_for_one_more() {
        let under_way = UnderWay::new(1_024);
        let first = all(&under_way, "a");
        assert_eq!(first.len(), 512);
        let rest: Vec<Vec<Permit>> = ["b", "c", "d", "e"].into_iter().map(|it| all(&under_way, it)).collect();
        assert!(rest.iter().all(|parts| !parts.is_empty()), "{rest:?}");
        assert!(!all(&under_way, "quiet").is_empty());
        drop((first, rest));
        assert_eq!(all(&under_way, "a").len(), 512, "permits are given back");
    }

    #[test]
    fn alone_an_environment_with_one_place_has_it() {
        assert_eq!(all(&UnderWay::new(1), "a").len(), 1);
    }
}
