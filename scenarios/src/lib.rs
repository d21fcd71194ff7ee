//! The proof: stories on real clusters, fault injection and benches.

pub mod activities;
pub mod cluster;
pub mod definitions;
pub mod dice;
pub mod fleet;
pub mod hostile;
pub mod ledger;
pub mod load;
pub mod stage;
