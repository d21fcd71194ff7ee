//! Taking a service away: its traffic, its processes, and what is kept of it.
//!
//! ```text
//! removal.claim -> service.stop -> service.forget, removal.review
//! removal.release  service.start
//! ```
//!
//! From the claim on the service's arbiter lets nothing else be done to it. What was stopped is started again when the
//! removal is given up; forgetting is the last step and has no way back: the arbiter's own state goes last, and with
//! it the claim.

mod claim;
mod desk;
mod forget;
mod stop;

use std::sync::Arc;

use serde_json::Value;
use supervisor::activity::Activity;

use super::deployment::{Desk, Ports};
use super::model::Fault;

/// Name of the definition whose saga takes a service away.
pub const DEFINITION: &str = "service_removal";

/// Whether `input` names a service.
pub fn check(input: &Value) -> Result<(), Fault> {
    serde_json::from_value::<desk::Input>(input.clone())
        .map(drop)
        .map_err(|error| Fault::new("input", error.to_string(), "name environment and service, and nothing else"))
}

/// Its activities.
pub fn activities(ports: Ports) -> Vec<Arc<dyn Activity>> {
    let desk = Desk::new(ports);
    vec![
        Arc::new(claim::Claim { desk: desk.clone() }),
        Arc::new(stop::Stop { desk: desk.clone() }),
        Arc::new(forget::Forget { desk: desk.clone() }),
        Arc::new(forget::Review { desk }),
    ]
}
