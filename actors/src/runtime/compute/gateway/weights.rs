//! Divides requests by weight, without chance: a share of ten percent is one of any ten.
//!
//! Smooth weighted round robin, as nginx does it: every share grows by its weight, the largest is
//! taken and pays the sum of all. The shares are spread evenly, and after as many requests as the
//! weights add up to (over their common divisor) it begins anew.

use super::super::traffic::Route;

/// The shares of a service.
#[derive(Debug, Default)]
pub struct Weights {
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    route: Route,
    credit: i64,
    eligible: bool,
}

impl Weights {
    /// Begins with `routes`.
    pub fn new(routes: &[Route]) -> Self {
        let share = |route: &Route| Share { route: route.clone(), credit: 0, eligible: true };
        Self { shares: routes.iter().map(share).collect() }
    }

    /// As they were given.
    pub fn routes(&self) -> Vec<Route> {
        self.shares.iter().map(|share| share.route.clone()).collect()
    }

    /// Whose turn it is, of those that are `eligible`. Begins anew when others are than before.
    pub fn take(&mut self, eligible: impl Fn(&str) -> bool) -> Option<&str> {
        let mut changed = false;
        for share in &mut self.shares {
            let now = share.route.weight > 0 && eligible(&share.route.revision);
            changed |= std::mem::replace(&mut share.eligible, now) != now;
        }
        let mut sum = 0;
        for share in &mut self.shares {
            if changed {
                share.credit = 0;
            }
            if share.eligible {
                share.credit += i64::from(share.route.weight);
                sum += i64::from(share.route.weight);
            }
        }
        let mut best: Option<&mut Share> = None;
        for share in self.shares.iter_mut().filter(|share| share.eligible) {
            if best.as_ref().is_none_or(|best| share.credit > best.credit) {
                best = Some(share);
            }
        }
        let best = best?;
        best.credit -= sum;
        Some(&best.route.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(weights: &mut Weights, count: usize, down: &str) -> String {
        (0..count).filter_map(|_| weights.take(|revision| revision != down).map(str::to_owned)).collect()
    }

    #[test]
    fn a_tenth_is_one_of_any_ten() {
        let mut weights = Weights::new(&[Route::new("a", 90), Route::new("b", 10)]);
        let taken = taken(&mut weights, 200, "");
        for begin in 0..190 {
            assert_eq!(taken[begin..begin + 10].matches('b').count(), 1, "{taken}");
        }
    }

    #[test]
    fn any_weights_are_exact_over_a_hundred() {
        let routes = [Route::new("a", 57), Route::new("b", 33), Route::new("c", 9), Route::new("d", 1)];
        let mut weights = Weights::new(&routes);
        let taken = taken(&mut weights, 300, "");
        for begin in 0..200 {
            for route in &routes {
                let count = taken[begin..begin + 100].matches(&route.revision).count();
                assert_eq!(count, route.weight as usize, "{} from {begin} on", route.revision);
            }
        }
    }

    #[test]
    fn the_share_of_one_that_is_down_goes_to_the_others() {
        let mut weights = Weights::new(&[Route::new("a", 50), Route::new("b", 50), Route::new("c", 0)]);
        assert_eq!(taken(&mut weights, 4, ""), "abab");
        assert_eq!(taken(&mut weights, 3, "a"), "bbb");
        assert_eq!(taken(&mut weights, 4, ""), "abab");
        assert_eq!(Weights::default().take(|_| true), None);
    }
}
