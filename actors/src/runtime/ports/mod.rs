//! What the runtime platform needs from the world besides compute, in its own words.
//!
//! ```text
//! desired       what is wanted, from a git repository
//! secrets       values in versions, and which version is current
//! probes        one question to one workload: are you well?
//! metrics       cpu, queue and rps of a service, with the moment they were sampled
//! provisioning  environments: what would change, and the change
//! ```
//!
//! Each port has an adapter that needs nothing but this machine, which is a feature of the product,
//! and a contract suite that every adapter must pass. Errors are `Failure`s: `Transient` may pass by
//! itself; whatever has another name does not, and the port's table says what to do.

mod blocking;
pub mod desired;
mod http_api;
pub(super) mod http_get;
pub mod metrics;
pub mod probe_policy;
pub mod probes;
pub mod provisioning;
pub mod secrets;
