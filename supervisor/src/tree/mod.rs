//! The tree: every actor, and who answers for whom.
//!
//! ```text
//! node ─ shard ─┬─ journal, relay, timers     (rest for one: without them the shard stops)
//!               └─ saga ── step, undo         (a saga restarts from the journal; a step's failure
//!                                              is a fact for its saga)
//! ```

pub mod card;
pub mod engine;
pub mod journal;
pub mod load;
pub mod recovery;
pub mod relay;
pub mod reply;
pub mod root;
pub mod saga;
pub mod shard;
pub mod shell;
pub mod slot;
pub mod step;
pub mod sweep;
pub mod timers;
