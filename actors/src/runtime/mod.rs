//! The runtime platform: services in environments, deployed, watched, scaled and held to what is
//! wanted.
//!
//! ```text
//! model      what things are             no behaviour but their invariants
//! arbiter    may this happen now?        one per service; every action passes through it
//! rollout    what is the next move?      of a strategy that is under way
//! workers    what follows from a look?   one file per control loop
//! ```
//!
//! Everything named above is pure: what was seen, what is remembered and the moment come in, what
//! to do comes out. There is deliberately no clock, no socket, no file and no task in it.

pub mod arbiter;
pub mod compute;
pub mod model;
pub mod rollout;
pub mod workers;
