//! Skald over NATS: the adapters of the engine's ports.
//!
//! JetStream is the only thing that must outlive a node, so every promise of the ports rests on
//! one of its abilities: the fence and every compare-and-set on "expected last sequence of the
//! subject", leases on per-message time to live, the order of epochs on stream sequences. No clock
//! is asked anywhere for safety.
//!
//! Whatever must be true is read from a stream's leader; consumers and direct gets may be answered
//! by a replica that lags behind and are used only where that is checked.

mod activities;
mod bucket;
mod cluster;
mod connect;
mod definitions;
pub(crate) mod denied;
mod events;
mod ground;
mod hello;
mod journal;
mod layout;
mod letters;
pub(crate) mod login;
pub(crate) mod mooring;
pub(crate) mod names;
mod outbox;
pub mod process;
mod publish;
mod runtime_store;
mod said;
mod scan;
mod snapshots;
mod streams;
mod sync;
mod workers;

/// The buckets, by their names.
pub const BUCKETS: [&str; 5] =
    [cluster::BUCKET, snapshots::BUCKET, definitions::BUCKET, runtime_store::BUCKET, workers::BUCKET];

pub use activities::{BusActivities, NO_WORKER, read_answer};
pub use cluster::KvCluster;
pub(crate) use connect::chain;
pub use connect::{Bus, ConnectConfig, ConnectError, connect};
/// The stream of the definitions.
pub const DEFINITIONS: &str = "KV_skald_definitions";
/// The stream of the bucket of nodes and leases.
pub const CLUSTER: &str = "KV_skald_cluster";
/// The stream of the bucket of snapshots and pages.
pub const SNAPSHOTS: &str = "KV_skald_snapshots";

pub use definitions::{Deployed, Deployer, KvDefinitions, Pins, StoredDefinition};
pub use events::EventReader;
pub use ground::{Known, Lost, Of, accept_loss, told, watch};
pub use journal::JetStreamJournal;
pub use layout::{DEFAULT_SHARDS, JournalConfig, Shape, default_streams};
pub use letters::LetterLimits;
pub use login::{About, Auth, INBOX, Tls, credentials_file, seed_of};
pub use outbox::{DEAD, EVENTS, OutboxConfig, REASON, StreamOutbox, WHY};
pub use runtime_store::KvRuntime;
pub use snapshots::KvSnapshots;
pub(crate) use streams::setting_up;
pub use streams::{Replicas, SetupError};
pub use sync::{SyncMode, complaints, sync_mode};
pub use workers::KvWorkerMemory;
