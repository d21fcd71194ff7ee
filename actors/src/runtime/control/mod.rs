//! The control loops: each worker looks at one environment, lets a pure function decide
//! ([`super::workers`]), asks the arbiter of each service for what follows, and carries out what was
//! accepted.
//!
//! ```text
//! desk       what all of them work with, and whose services an environment has
//! asking     the arbiter's word, as a type
//! carrying   the small actions: scaling, configuring, refreshing, draining
//! switching  from one set to another, for those of them that change what runs
//! replicas   where the replicas of a service are, for their metrics
//! seen       what runs, in the words of drift detection
//! telling    what a worker says, so that saying it again is saying nothing
//! probes     which probes a workload has, and where its replicas answer them
//! sagas      the port to what is larger: a deployment, a restore
//! ```
//!
//! A worker may run on any node, and for a moment on two. Nothing here relies on being alone: the
//! arbiter serialises what is done, its number names what was accepted, and what a node that died
//! left under way is carried on by the next run. A worker that lost a race does what is done already.
//!
//! Deliberately absent: acting on an event. Events wake a worker, and it looks (H04).

use std::sync::Arc;

use supervisor::worker::Worker;

pub mod asking;
pub mod carrying;
pub mod configuration;
pub mod deployment;
pub mod desk;
pub mod drift;
pub mod health;
pub mod inventory;
pub mod probes;
pub mod replicas;
pub mod sagas;
pub mod scaling;
pub mod secrets;
mod seen;
#[cfg(test)]
mod stage;
mod switching;
mod telling;
#[cfg(test)]
pub(super) mod world;

pub use asking::Said;
pub use carrying::Carried;
pub use desk::{Desk, Look, Ports, Service};
pub use sagas::{Became, Sagas, Starting};

use super::deployment::record::Running;

/// The workers. Every node of a cluster has the same.
pub fn workers(ports: &Ports) -> Vec<Arc<dyn Worker>> {
    vec![
        Arc::new(deployment::RuntimeDeployment::new(ports)),
        Arc::new(health::Health::new(ports)),
        Arc::new(scaling::Scaling::new(ports)),
        Arc::new(drift::DriftDetection::new(ports)),
        Arc::new(configuration::ConfigurationSync::new(ports)),
        Arc::new(secrets::SecretRotation::new(ports)),
        Arc::new(inventory::Inventory::new(ports)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::workers::triggers::WORKERS;

    /// H03: each is woken by what its card says, as often as it says, and tries as often. A worker
    /// whose card names no interval may have one of its own, to go on with what is under way.
    #[tokio::test(start_paused = true)]
    async fn every_worker_works_as_its_card_says() {
        let stage = stage::Stage::new().await;
        for worker in workers(&stage.ports) {
            let card = WORKERS.into_iter().find(|card| card.kind() == worker.kind()).unwrap();
            assert_eq!(worker.triggers(), card.events(), "{card:?}");
            let (rhythm, said) = (worker.rhythm(), card.rhythm());
            assert_eq!((said.every.or(rhythm.every), said.retry), (rhythm.every, rhythm.retry), "{card:?}");
        }
    }
}
