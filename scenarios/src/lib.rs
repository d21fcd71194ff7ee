//! The proof: stories on real clusters, fault injection and benches.

pub mod activities;
pub mod check;
pub mod cluster;
pub mod definitions;
pub mod dice;
pub mod faults;
pub mod fleet;
pub mod fourfold;
pub mod hostile;
pub mod ledger;
pub mod load;
pub mod platform;
pub mod service;
pub mod sim;
pub mod stage;
pub mod under_test;
pub mod watching;
