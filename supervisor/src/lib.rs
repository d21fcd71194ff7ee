//! The engine of Skald.
//!
//! `machine` is pure: definitions, the saga machine, placement; facts in, decisions out. The rest
//! is the tree that carries it: shards, saga actors, step actors, workers, the journal and its ports. There
//! is deliberately no NATS here and no rule of the marketplace or of deployments.

pub mod activities;
pub mod activity;
pub mod journal;
pub mod machine;
pub mod ports;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod tree;
pub mod worker;
