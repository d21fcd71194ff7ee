//! The runtime platform: services in environments, deployed, watched, scaled and held to what is
//! wanted.
//!
//! ```text
//! model        what things are              no behaviour but their invariants
//! arbiter      may this happen now?         one per service; every action passes through it
//! rollout      what is the next move?       of a strategy that is under way
//! workers      what follows from a look?    one file per control loop
//! compute      where workloads run          the port, and processes behind a gateway
//! ports        what else the work needs     desired state, secrets, metrics, probes, provisioning
//! store        what is remembered           values with compare-and-set
//! arbitration  the arbiter's shell          decide, make durable, tell
//! deployment   the saga's activities        one file each
//! control      the workers                  look, let decide, ask the arbiter, carry out
//! ```
//!
//! What people publish, keep, decide and set stands in `configurations`, `secrets`, `findings` and
//! `policies`, and what is kept of what went wrong in `incidents`. Whose all of that is says `ownership`.
//!
//! The first four are pure: what was seen, what is remembered and the moment come in, what to do
//! comes out. There is deliberately no clock, no socket, no file and no task in them.

pub mod arbiter;
pub mod arbitration;
pub mod compute;
pub mod configurations;
pub mod control;
pub mod decisions;
pub mod deployment;
pub mod durable;
pub mod environments;
pub mod findings;
pub mod incidents;
pub mod model;
pub mod ownership;
pub mod place;
pub mod policies;
pub mod ports;
pub mod probing;
pub mod rollout;
pub mod secrets;
pub mod store;
pub mod tenancy;
pub mod workers;
