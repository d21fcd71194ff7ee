//! The saga machine: pure. A fact comes in, a record comes out, and effects are handed out only
//! after the record is in the journal. There is no clock but the one by which a
//! decision's time is measured, no randomness, no IO and no async here: a fact carries its time, and
//! jitter and ids come from the seed in it.
//!
//! A fact is offered to the [`Driver`]; `decide` settles [`Change`]s, and `fold` folds each into
//! the [`Execution`] as it is made and names the [`Effect`]s. Replay folds the changes of a stored
//! [`Record`] and neither decides nor evaluates. What a saga runs is a [`Definition`], checked whole
//! before it can be had.

mod allowance;
pub mod amount;
mod bounds;
mod budget;
mod burial;
pub mod change;
mod decide;
pub mod definition;
pub mod describe;
mod driver;
pub mod effect;
mod exact;
pub mod execution;
pub mod expression;
pub mod fact;
pub mod family;
mod fold;
pub(crate) mod functions;
mod lanes;
pub mod membership;
pub mod placement;
pub mod record;
pub mod remains;
pub mod render;
pub mod restart;
pub mod retry;
pub mod stores;
pub mod text;
mod token;
mod view;
mod wanted;

pub use allowance::{Allowance, Spent};
pub use change::{Ahead, Alarm, Awaited, Change, Datum};
pub use definition::Definition;
pub use describe::describe;
pub use driver::{Driver, Offer, ReplayError};
pub use effect::{ActivityCall, Effect};
pub use execution::Execution;
pub use fact::{AttemptRef, Fact, FactKind, Operator, Start, StepError};
pub use family::{Family, Parent, child_key};
pub use record::Record;
pub use remains::Remains;
pub use render::render;
pub use token::read_token;
pub use view::OpenTask;
