//! The keeper's desk: a worker runs on the node that owns its shard, and replicas are on the machine
//! of the keeper. What the worker asks of compute, probes and metrics goes there over the bus, and so
//! does what any node is asked of secrets and environments.
//!
//! Only nodes may publish on the subject ([`permissions`](crate::permissions)): it is deliberately no
//! activity, because a tenant's definition may name any of those.
//!
//! Answers are packed: what is observed of a large environment is many times what one message may
//! carry, and most of it repeats.

//!
//! Values of secrets never leave the keeper. Rotations are decided anywhere and carried out there: it
//! makes the new value up, sets it and tests it, and answers numbers of versions. Only a value that a
//! person puts comes over the bus: once as the command that its client sent (in the open within its
//! connection: use TLS), and from the node that took the command to the keeper [sealed](seal).

mod ask;
mod environments;
mod seal;
mod secrets;
mod serve;
mod words;

pub use ask::FarKeeper;
pub use serve::{Kept, serve};
