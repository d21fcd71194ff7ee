//! The runtime platform: services in environments, deployed, watched, scaled and held to what is
//! wanted.
//!
//! ```text
//! model        what things are              no behaviour but their invariants
//! store        what is remembered           values with compare-and-set
//! rollout      what is the next move?       of a strategy that is under way
//! arbiter      may this happen now?         one per service; every action passes through it
//! ports        what else the work needs     desired state, secrets, metrics, probes, provisioning
//! compute      where workloads run          the port, and processes behind a gateway
//! records      what people publish, keep and set, what went wrong, and whose all of it is
//! arbitration  the arbiter on the store     decides, makes it durable, tells it
//! deployment   the saga's activities        one file each
//! removal      another saga's               a service goes, with all that is kept of it
//! decommission the last one's               an environment goes, once it has no services
//! control      what the workers share       the desk, asking, carrying out, telling
//! workers      the seven                    a folder each: its look, its pure decision, its tests
//! ```
//!
//! Each knows those above it in this list; `scenarios/tests/layout.rs` holds them to it.
//!
//! `model`, `rollout`, `arbiter` and each worker's `decide` are pure: what was seen, what is remembered and the moment
//! come in, what to do comes out. There is deliberately no clock, no socket, no file and no task in them.

pub mod arbiter;
pub mod arbitration;
pub mod compute;
pub mod control;
pub mod decommission;
pub mod deployment;
pub mod durable;
pub mod model;
pub mod ports;
pub mod probing;
pub mod records;
pub mod removal;
pub mod rollout;
pub mod store;
pub mod workers;
