//! May this happen now? One arbiter per service; deploy, rollback, drift, scale, configuration and
//! secret actions all pass through it (F55).
//!
//! It settles what two control loops would otherwise settle by turns:
//!
//! - What was rolled back is *held*: neither drift nor sync brings it again until desired state has
//!   moved on from it, or a person clears the hold (H01, F36).
//! - Every field has one owner: while a scaling policy governs the service, replicas are its own
//!   (H02, F41).
//! - Only a command acts. Events are looked at by workers; there is no request here that an event
//!   could be mistaken for (H04).
//! - What is already so is `AlreadyDone`: nothing is started and nothing is said (H05).
//!
//! One thing is under way at a time. Whoever else comes is told what, whose and since when, and
//! comes again: there is deliberately no queue, because what waited in it was decided on a world
//! that is gone when its turn comes.
//!
//! All of it is pure; [`arbitration`](super::arbitration) reads, has it decide, makes that durable and tells it.

mod command;
mod decide;
mod decision;
mod finish;
mod start;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Asked, Command, Outcome, Request, Source};
pub use decide::{Meeting, decide, meeting};
pub use decision::{Act, Decision, Refusal};
pub use state::{
    ANSWERED_MAX, Action, Answered, COMPLETED_MAX, Desired, Doing, HELD_MAX, Hold, ServiceState, Standing, UnderWay,
};
