//! Where requests should go, and what became of them.

use std::time::Duration;

use protocol::Time;
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

/// The upper ends of the latency classes, in milliseconds; one more class holds what took longer.
pub const LATENCY_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// The share of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The revision.
    pub revision: String,
    /// Percent of the requests.
    pub weight: u32,
}

impl Route {
    /// `weight` percent to `revision`.
    pub fn new(revision: impl Into<String>, weight: u32) -> Self {
        Self { revision: revision.into(), weight }
    }
}

/// Whether the weights of `routes` divide a whole.
pub fn check_routes(routes: &[Route]) -> Result<(), Failure> {
    let bad = |why: String| Err(Failure::named("BadRoutes", why));
    let sum: u64 = routes.iter().map(|route| u64::from(route.weight)).sum();
    if !routes.is_empty() && sum != 100 {
        return bad(format!("the weights add up to {sum} and not to 100"));
    }
    for (n, route) in routes.iter().enumerate() {
        if routes[..n].iter().any(|other| other.revision == route.revision) {
            return bad(format!("the revision {:?} stands in it twice", route.revision));
        }
    }
    Ok(())
}

/// What the gateway saw of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTraffic {
    /// The service.
    pub service: String,
    /// Where its requests go.
    pub routes: Vec<Route>,
    /// Since when the figures are counted: they begin anew when the gateway does.
    pub since: Time,
    /// Requests that wait for a ready replica now: the demand a service scaled to zero is woken by.
    pub waiting: u64,
    /// When a request last found no ready replica.
    pub unserved_at: Option<Time>,
    /// Requests that waited in vain or found too many waiting.
    pub turned_away: u64,
    /// By revision, also those that get no more requests.
    pub revisions: Vec<RevisionTraffic>,
}

/// What the gateway saw of one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionTraffic {
    /// The revision.
    pub revision: String,
    /// Requests that it was given and that came to an end.
    pub requests: u64,
    /// Those it answered with 5xx or not at all.
    pub failures: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// The time until the head of the answer, of all requests together.
    pub latency_sum: Duration,
    /// Requests by latency, one class per figure of [`LATENCY_MS`] and one for what took longer.
    pub latency_classes: Vec<u64>,
}

impl RevisionTraffic {
    /// Nothing yet.
    pub fn new(revision: impl Into<String>) -> Self {
        Self { revision: revision.into(), latency_classes: vec![0; LATENCY_MS.len() + 1], ..Self::default() }
    }

    /// Counts a request that ended.
    pub fn count(&mut self, latency: Duration, failed: bool) {
        self.requests += 1;
        self.failures += u64::from(failed);
        self.latency_sum += latency;
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        let class = LATENCY_MS.iter().position(|most| millis <= *most).unwrap_or(LATENCY_MS.len());
        if let Some(count) = self.latency_classes.get_mut(class) {
            *count += 1;
        }
    }
}
