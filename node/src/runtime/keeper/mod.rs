//! The keeper's desk: a worker runs on the node that owns its shard, and replicas are on the machine
//! of the keeper. What the worker asks of compute, probes and metrics goes there over the bus.
//!
//! Only nodes may publish on the subject ([`permissions`](crate::permissions)): it is deliberately no
//! activity, because a tenant's definition may name any of those.
//!
//! Answers are packed: what is observed of a large environment is many times what one message may
//! carry, and most of it repeats.

mod ask;
mod serve;
mod words;

pub use ask::FarKeeper;
pub use serve::{Kept, serve};
