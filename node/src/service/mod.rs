//! The command service: checks what comes in over NATS, brings it to the owner of the shard, and
//! answers. It decides nothing about sagas.

mod definitions;
mod dispatch;
mod fitting;
mod gather;
mod query;
mod room;
mod routing;
mod serve;
mod triggers;
mod workers;

pub use definitions::{DefinitionLibrary, DefinitionLimits};
pub use dispatch::Dispatcher;
pub use query::{About, QueryService};
pub(crate) use room::{Room, Size};
pub use routing::{NatsPeers, Router, serve_peers};
pub(crate) use serve::fresh_traceparent;
pub use serve::{CommandService, Door, ServiceLimits};
pub use triggers::Triggers;

use protocol::{Code, Problem};

/// The target of log lines that say who changed what, or was refused.
pub const AUDIT: &str = "skald::audit";

/// The answer to a body whose key or name is not usable.
pub(crate) fn unusable(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::BadRequest, error.to_string())
}
