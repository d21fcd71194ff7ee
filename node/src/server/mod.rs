//! A nats-server of Skald's own: found or obtained once, started on loopback with every
//! acknowledged write on disk, watched, and stopped together with the node.
//!
//! There is deliberately nothing here about streams or subjects; a server that somebody else runs
//! is reached through [`crate::nats`] and needs nothing from this module.

mod cluster;
mod config;
mod find;
mod keeper;
mod obtain;
mod process;
mod ready;

pub use cluster::ServerCluster;
pub use config::{ClusterRoutes, JetStreamConfig, MAX_PAYLOAD_BYTES, ServerConfig, SyncInterval};
pub use find::{FindError, Finder, Found, OLDEST_SERVER, Origin, Version};
pub use obtain::{ObtainError, PINNED_VERSION};
pub use process::{Server, StartError};
