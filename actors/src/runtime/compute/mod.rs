//! Where workloads run: the port, in our words, and the gateway in front of them.
//!
//! A *set* is one revision of one service in one environment: some replicas of one artifact with
//! one configuration. What a revision is never changes; only how many of it run does. So a new
//! image, command or configuration is a new revision beside the old one, traffic moves from one to
//! the other by weight, and going back is moving it back.
//!
//! Nothing here judges whether a workload is healthy: a replica is *ready* when its port accepts a
//! connection. Probes, gates and the decision to shift traffic stand elsewhere.

use async_trait::async_trait;
use supervisor::activity::Failure;

pub mod artifacts;
#[cfg(target_os = "linux")]
pub mod confine;
pub mod gateway;
pub mod observed;
#[cfg(target_os = "linux")]
pub mod process;
pub mod set;
mod settling;
pub mod traffic;
pub mod written;

pub use artifacts::Artifacts;
pub use observed::Observed;
pub use set::{Set, SetId};
pub use settling::settle;
pub use traffic::{Route, ServiceTraffic};
pub use written::{Log, Reading};

/// Runs sets and leads traffic to them.
///
/// Every verb is safe to repeat; each says what repeating it does. What was answered with `Ok` is
/// durable: it holds after a crash of whoever keeps it. A failure named `Transient` may pass by
/// itself. These do not, and carry a name of their own:
///
/// | name | what it says |
/// |---|---|
/// | `BadSet`, `BadRoutes` | what was asked for makes no sense; the cause says what |
/// | `RevisionChanged` | the revision runs already, as something else |
/// | `ArtifactMissing` | the storage has no artifact of that digest |
/// | `ArtifactRefused` | it is not what its digest says, or nothing that may be unpacked |
/// | `UnknownRevision` | a route names a set that was never applied, or is being removed |
/// | `StillRouted` | the set to remove still gets traffic |
/// | `UnknownReplica` | there is no such replica, and no log of one |
/// | `OwnedElsewhere` | somebody else keeps what would change; the cause says who |
/// | `NotPermitted`, `NamespaceMissing` | the place where it should run does not let us; the cause says what to grant or make |
#[async_trait]
pub trait Compute: Send + Sync + 'static {
    /// Wants `set` to be as it says. Answers when that is recorded and its artifact is in place;
    /// the replicas follow and are seen with [`observe`](Self::observe).
    ///
    /// Again with the same set: nothing happens. With another number of replicas: the set grows,
    /// or its youngest replicas are drained and ended. With anything else changed: refused as
    /// `RevisionChanged`. While the set is being removed: refused as transient.
    async fn apply(&self, set: &Set) -> Result<(), Failure>;

    /// What is there in `environment`, looked at now: what was applied, what runs of it, and what
    /// runs without having been applied. An environment without anything is empty, not an error.
    /// Changes nothing.
    async fn observe(&self, environment: &str) -> Result<Observed, Failure>;

    /// Divides the requests for `service`: each route's weight is its percentage, and together
    /// they are 100. Of any hundred requests in a row each revision gets exactly its weight, as
    /// long as it has a ready replica; the share of one that has none goes to the others. No
    /// routes at all: the service is not reachable.
    ///
    /// Again with the same routes: nothing happens. Answers when new requests go the new way.
    async fn route(&self, environment: &str, service: &str, routes: &[Route]) -> Result<(), Failure>;

    /// Ends a set and forgets it. Its replicas get no more requests, finish those under way within
    /// the drain bound, and are asked to stop before they are killed. Answers when no process of
    /// it is left.
    ///
    /// Once begun it goes on by itself, also when nobody waits for the answer or the keeper
    /// restarts. Again: waits for the same end. A set that is not there: it succeeds. One that
    /// still has a route with a weight: refused as `StillRouted`.
    async fn remove(&self, set: &SetId) -> Result<(), Failure>;

    /// What a replica wrote to its standard output and error, the oldest line first. A replica that is
    /// gone is still read for a while. Changes nothing.
    async fn logs(&self, environment: &str, replica: &str, reading: &Reading) -> Result<Log, Failure>;

    /// Ends one replica as [`remove`](Self::remove) would, and starts it anew. `incarnation` is the
    /// one that was observed: so asking again, after the new one started, does nothing. Answers
    /// when the wish is recorded.
    async fn restart(&self, environment: &str, replica: &str, incarnation: u64) -> Result<(), Failure>;

    /// Removes what a service of `tenant` that does not run any more left here: what it wrote, its logs. Again: nothing
    /// happens. While a set of it is there: refused as transient.
    async fn erase(&self, environment: &str, service: &str, tenant: &str) -> Result<(), Failure>;

    /// Forgets an environment that is not there any more: what the place kept for its services is removed,
    /// and what was given to it can be given to another. Again: nothing happens. While a set of it is there:
    /// refused as transient.
    async fn forget(&self, environment: &str) -> Result<(), Failure>;

    /// What the gateway saw of the requests to each service of `environment`, counted since the
    /// moment that each figure names. Changes nothing.
    async fn traffic(&self, environment: &str) -> Result<Vec<ServiceTraffic>, Failure>;
}
