//! Real faults on a real cluster: servers and nodes in network namespaces of their own, killed,
//! frozen, cut off, filled up and restarted while sagas run; then everything that was acknowledged,
//! done and written is compared.
//!
//! The outer half ([`guard`]) makes the network and removes it; the inner half ([`run`]) lives on a
//! host of that network, as a client does. Nodes are this same program in another role, so that
//! what is tested is always what was built.
//!
//! Deliberately absent: power cuts, which need a machine of their own, and corrupted disks.

pub mod cluster;
pub mod guard;
mod inject;
pub mod judge;
pub mod kinds;
pub mod net;
pub mod nodes;
pub mod options;
pub mod progress;
pub mod read;
pub mod report;
pub mod run;
pub mod servers;
pub mod strict;
pub mod timeline;
pub mod tools;
