//! The tree: every actor, who answers for whom, and what they work with.
//!
//! ```text
//! node ┬ shard ─┬─ journal, relay, timers     (rest for one: without them the shard stops)
//!      │        └─ saga ── step, undo         (a saga restarts from the journal; a step's failure
//!      │                                       is a fact for its saga)
//!      └ workers ─ worker ── run              (a worker restarts from what is remembered; an
//!                                              attempt's failure is tried again, then recorded)
//! ```
//!
//! The files without an actor: what a takeover finds (`recovery`, `ground`, `load`), what a shard knows
//! (`slot`, `census`, `pages`, `sweep`, `pulse`), how the relay keeps count (`progress`, `ledger`, `say`),
//! who may decide at length (`turns`), and how tenants take turns wherever something waits (`fair`).

pub mod card;
pub mod census;
pub mod engine;
mod fair;
pub mod ground;
pub mod journal;
pub mod ledger;
pub mod load;
pub mod own;
pub mod pages;
pub mod progress;
pub mod pulse;
pub mod recovery;
pub mod relay;
pub mod reply;
pub mod root;
pub mod saga;
mod say;
pub mod service;
pub mod shard;
pub mod shards;
pub mod shell;
pub mod slot;
mod slots;
pub mod step;
pub mod sweep;
pub mod timers;
pub mod turns;
pub mod workers;
