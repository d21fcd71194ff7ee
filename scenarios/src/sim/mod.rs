//! The deterministic simulator: the engine's own tree (roots, shards, sagas, relays, sweeps, the
//! membership and the takeover) on a simulated server, network and clock. One thread, one seed: the
//! same seed is the same run, to the last record.
//!
//! Time is tokio's paused clock, which jumps to the next thing that happens; a run of a simulated
//! minute takes some milliseconds. What a node asks of the world goes through its [`link::Link`],
//! which delays, loses and repeats; the [`server::Server`] keeps what it acknowledged. Local
//! activities act on a world outside ([`world::World`]), which writes the ledger. At the end the
//! checker reads everything.

pub mod activities;
pub mod client;
pub mod definitions;
pub mod faults;
pub mod link;
pub mod node;
pub mod plan;
pub mod ports;
pub mod run;
pub mod server;
pub mod shrink;
pub mod world;

pub use plan::Plan;
pub use run::{Outcome, run};
