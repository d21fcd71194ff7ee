//! The saga machine: pure. A fact comes in, a record comes out, and effects are handed out only
//! after the record is in the journal. There is no clock, no randomness, no IO and no async here:
//! a fact carries its time, and jitter and ids come from the seed in it.

pub mod effect;
pub mod fact;
pub mod record;

pub use effect::{ActivityCall, Effect};
pub use fact::{AttemptRef, Fact, FactKind, Operator, Start, StepError};
pub use record::Record;
