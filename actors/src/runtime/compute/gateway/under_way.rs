//! How many of all requests under way may be those to the services of one tenant.
//!
//! As many as there are places left: one that takes all it can get leaves half of them, two leave a third
//! (dynamic thresholds, Choudhury and Hahne 1998). So nobody has to say in advance how many there will be, and
//! requests without end to the services of one tenant, in however many environments, keep none of another's from
//! being answered. Services of which nobody knows yet whose they are count by their environment.

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

    /// A permit for a request to a service of `tenant`, or of `environment` where nobody knows whose, if that
    /// has fewer than are left.
    pub fn enter(&self, tenant: Option<&str>, environment: &str) -> Option<Permit> {
        let fewer = |own, all| (own < self.most.saturating_sub(all)).then_some(()).ok_or(());
        // No tenant's name begins like this.
        let who = tenant.map_or_else(|| format!("in {environment}"), str::to_owned);
        self.permits.acquire(&who, fewer).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(under_way: &UnderWay, tenant: &str) -> Vec<Permit> {
        std::iter::from_fn(|| under_way.enter(Some(tenant), "shop")).collect()
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
    fn one_alone_with_one_permit_has_it() {
        assert_eq!(all(&UnderWay::new(1), "a").len(), 1);
    }
}
