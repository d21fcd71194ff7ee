//! Taking an environment away, with what is kept of it and what was made for it.
//!
//! ```text
//! environment.close -> environment.forget, environment.review
//! environment.reopen
//! ```
//!
//! From closing on nobody is let in to the environment any more. One that still has services is refused: each of them
//! is removed by a saga of its own. Forgetting is the last step and has no way back: the values of secrets and the
//! environment's directory go with it.

mod close;
mod desk;
mod forget;

use std::sync::Arc;

use serde_json::Value;
use supervisor::activity::Activity;

pub use desk::Ports;

use super::model::Fault;

/// Name of the definition whose saga takes an environment away.
pub const DEFINITION: &str = "environment_removal";

/// Whether `input` names an environment.
pub fn check(input: &Value) -> Result<(), Fault> {
    serde_json::from_value::<desk::Input>(input.clone())
        .map(drop)
        .map_err(|error| Fault::new("input", error.to_string(), "name an environment, and nothing else"))
}

/// Its activities.
pub fn activities(ports: Ports) -> Vec<Arc<dyn Activity>> {
    let desk = desk::Desk::new(ports);
    vec![
        Arc::new(close::Close { desk: desk.clone() }),
        Arc::new(forget::Forget { desk: desk.clone() }),
        Arc::new(forget::Review { desk }),
    ]
}
