//! The words of Skald: what travels on the bus and what is stored.
//!
//! A client program depends on this crate alone. There is deliberately no clock, no socket, no
//! decision and no async runtime here.

pub mod activity;
pub mod codec;
pub mod command;
pub mod envelope;
pub mod error;
pub mod ids;
pub mod number;
pub mod query;
pub mod runtime;
pub mod subjects;
pub mod text;
pub mod time;
pub mod view;
pub mod worker;

pub use envelope::Envelope;
pub use error::{Code, Problem};
pub use ids::{
    DefinitionRef, Environment, Epoch, EventId, NodeId, Principal, SagaId, SagaKey, ShardId, Tenant, TraceId, WorkerId,
    WorkerKind,
};
pub use time::Time;

/// JSON, the data that definitions, activities and events speak.
pub type Value = serde_json::Value;
