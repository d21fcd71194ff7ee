//! What the seven [`workers`](super::workers) share.
//!
//! ```text
//! desk        what all of them work with, and whose services an environment has
//! cards       when each is woken, how often it tries, and what it says
//! asking      the arbiter's word, as a type
//! carrying    the small actions: scaling, configuring, refreshing, draining
//! switching   from one set to another, for those of them that change what runs
//! loop_alarm  what stops a loop that turns without effect
//! replicas    where the replicas of a service are, for their metrics
//! telling     what a worker says, so that saying it again is saying nothing
//! probes      which probes a workload has, and where its replicas answer them
//! sagas       the port to what is larger: a deployment, a restore
//! ```

pub mod asking;
pub mod cards;
pub mod carrying;
pub mod desk;
pub mod loop_alarm;
pub mod probes;
pub mod replicas;
pub mod sagas;
#[cfg(test)]
pub(super) mod stage;
pub(super) mod switching;
pub(super) mod telling;
#[cfg(test)]
pub(super) mod world;

pub use asking::Said;
pub use carrying::Carried;
pub use desk::{Desk, Look, Ports, Service};
pub use sagas::{Became, Sagas, Starting};

use crate::runtime::records::deployments::Running;
