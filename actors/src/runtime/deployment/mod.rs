//! The deployment saga's activities: from an environment that is there to traffic that goes to the
//! new revision, or back to the one before (R036–R059).
//!
//! ```text
//! environment.ensure -> deployment.claim -> configuration.bind -> workloads.rollout -> health.gate
//!                       deployment.release  configuration.unbind  workloads.takeback
//!                    -> traffic.promote -> deployment.finish, deployment.review
//!                 or -> deployment.rollback, deployment.strand
//! ```
//!
//! What a deployment is to do, and how far it is, stands in one [`record`] of the store; what it may
//! do, in the state of the service's arbiter. Every activity looks there first and at what runs, and
//! does what is missing, so that it does not matter who began it. Each asks first whether its tenant
//! may be here at all.
//!
//! A deployment that needs nothing done goes through the same states and does nothing in them.

use std::sync::Arc;

use supervisor::activity::Activity;

pub(super) mod back;
pub mod bind;
pub mod claim;
pub mod desk;
pub mod door;
mod drive;
pub mod environment;
pub mod finish;
pub mod gate;
mod inventory;
pub mod logs;
mod look;
pub mod observe;
mod plan;
pub mod promote;
pub mod rollback;
pub mod rollout;
mod tidy;

pub use crate::runtime::records::deployments::DEFINITION;
pub use desk::{Desk, Ports};
pub use inventory::observed_service;

/// The activities of the runtime platform's deployments.
pub fn activities(ports: Ports) -> Vec<Arc<dyn Activity>> {
    let desk = Desk::new(ports);
    vec![
        Arc::new(environment::Ensure { desk: desk.clone() }),
        Arc::new(claim::Claim { desk: desk.clone() }),
        Arc::new(bind::Bind { desk: desk.clone() }),
        Arc::new(rollout::Rollout { desk: desk.clone() }),
        Arc::new(gate::Gate { desk: desk.clone() }),
        Arc::new(promote::Promote { desk: desk.clone() }),
        Arc::new(finish::Finish { desk: desk.clone() }),
        Arc::new(finish::Review { desk: desk.clone() }),
        Arc::new(rollback::Rollback { desk: desk.clone() }),
        Arc::new(rollback::Strand { desk: desk.clone() }),
        Arc::new(observe::Observe { desk: desk.clone() }),
        Arc::new(logs::Logs { desk }),
    ]
}
