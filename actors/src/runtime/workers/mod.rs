//! The seven workers, a folder each: `mod.rs` looks at one environment, `decide.rs` is a pure function of what
//! was seen and what is remembered, `tests.rs` plays it on a stage.
//!
//! | worker | looks after |
//! |---|---|
//! | `RuntimeDeploymentWorker` | [`deployment`]: what the repository asks for, and deployments that nobody carries on |
//! | `RuntimeHealthWorker` | [`health`]: probes, the failure machine, restores and incidents |
//! | `ScalingPolicyWorker` | [`scaling`]: how many replicas |
//! | `DriftDetectionWorker` | [`drift`]: what differs from what is wanted |
//! | `ConfigurationSyncWorker` | [`configuration`]: which version each service runs with |
//! | `SecretRotationWorker` | [`secrets`]: a new version in four steps |
//! | `RuntimeInventoryWorker` | [`inventory`]: what runs, as last seen |
//!
//! A worker lets its function decide, asks the arbiter of each service for what follows, and carries out what
//! was accepted. It is convergent: a second run over an unchanged world writes nothing and says nothing (W074).
//! No event starts an action: events wake a worker, and it looks (H04).
//!
//! A worker may run on any node, and for a moment on two. Nothing here relies on being alone: the arbiter
//! serialises what is done, its number names what was accepted, and what a node that died left under way is
//! carried on by the next run. A worker that lost a race does what is done already.
//!
//! To write another: copy the smallest, [`inventory`], give it a card in
//! [`cards`](crate::runtime::control::cards), and name it in [`all`].

use std::sync::Arc;

use supervisor::worker::Worker;

use super::control::Ports;

pub mod configuration;
pub mod deployment;
pub mod drift;
pub mod health;
pub mod inventory;
pub mod scaling;
pub mod secrets;

/// The workers. Every node of a cluster has the same.
pub fn all(ports: &Ports) -> Vec<Arc<dyn Worker>> {
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
    use crate::runtime::control::cards::WORKERS;
    use crate::runtime::control::stage;

    /// H03: each is woken by what its card says, as often as it says, and tries as often. A worker
    /// whose card names no interval may have one of its own, to go on with what is under way.
    #[tokio::test(start_paused = true)]
    async fn every_worker_works_as_its_card_says() {
        let stage = stage::Stage::new().await;
        for worker in all(&stage.ports) {
            let card = WORKERS.into_iter().find(|card| card.kind() == worker.kind()).unwrap();
            assert_eq!(worker.triggers(), card.events(), "{card:?}");
            let (rhythm, said) = (worker.rhythm(), card.rhythm());
            assert_eq!((said.every.or(rhythm.every), said.retry), (rhythm.every, rhythm.retry), "{card:?}");
        }
    }
}
