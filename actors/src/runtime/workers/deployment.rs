//! What wakes the deployment worker, and what it may do about it (W009–W015, H04).
//!
//! Only a command acts. Of the four events that reach this worker in the table and in the diagram,
//! one makes it take up a deployment that was accepted, and three make it look, which means: make
//! sure that whoever owns the matter has been woken. None of them starts a deployment.

use serde::{Deserialize, Serialize};

use crate::runtime::model::{DeploymentId, DeploymentState, Fault, RequestKey};

/// What reached the worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Woken {
    /// The command (W010).
    Deploy,
    /// The command.
    RollbackDeployment,
    /// The command (R064).
    RemediateDrift,
    /// The event (W011).
    RuntimeDeploymentRequested,
    /// The event (W065).
    ConfigurationSynced,
    /// The event (W067).
    SecretRotated,
    /// The event (W069).
    RuntimeDriftDetected,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Answer {
    /// Ask the arbiter of the service.
    AskArbiter,
    /// Go on with the deployment that the arbiter accepted, where it stands.
    GoOn,
    /// Nothing: it is known already, or somebody else's.
    Nothing,
}

/// What follows. `accepted`: the state of the deployment that the message names, if its arbiter
/// accepted one.
pub fn answer(woken: Woken, accepted: Option<DeploymentState>) -> Answer {
    match (woken, accepted) {
        // A command is always put to the arbiter; it knows a repetition by its key.
        (Woken::Deploy | Woken::RollbackDeployment | Woken::RemediateDrift, _) => Answer::AskArbiter,
        (Woken::RuntimeDeploymentRequested, Some(state)) if !state.terminal() => Answer::GoOn,
        (Woken::RuntimeDeploymentRequested, Some(_)) => Answer::Nothing,
        // H04: an event about what nobody accepted starts nothing.
        (Woken::RuntimeDeploymentRequested, None) => Answer::Nothing,
        // The configuration worker and the secret worker asked the arbiters themselves; drift
        // detection asks by RemediateDrift, after the policy.
        (Woken::ConfigurationSynced | Woken::SecretRotated | Woken::RuntimeDriftDetected, _) => Answer::Nothing,
    }
}

/// The key of one step of a deployment (W015): doing it again is a no-op.
pub fn key(deployment: &DeploymentId, step: DeploymentState) -> Result<RequestKey, Fault> {
    RequestKey::new(format!("deploy/{deployment}/{step:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::model::deployment::STATES;

    /// H04: an event informs and only a command acts.
    #[test]
    fn no_event_starts_a_deployment() {
        let events = [
            Woken::RuntimeDeploymentRequested,
            Woken::ConfigurationSynced,
            Woken::SecretRotated,
            Woken::RuntimeDriftDetected,
        ];
        for woken in events {
            assert_eq!(answer(woken, None), Answer::Nothing, "{woken:?}");
            for state in STATES {
                assert_ne!(answer(woken, Some(state)), Answer::AskArbiter, "{woken:?} in {state:?}");
            }
        }
        for woken in [Woken::Deploy, Woken::RollbackDeployment, Woken::RemediateDrift] {
            assert_eq!(answer(woken, None), Answer::AskArbiter);
        }
    }

    /// W011, W015.
    #[test]
    fn a_requested_deployment_goes_on_where_it_stands() {
        let requested = Woken::RuntimeDeploymentRequested;
        assert_eq!(answer(requested, Some(DeploymentState::RollingOut)), Answer::GoOn);
        assert_eq!(answer(requested, Some(DeploymentState::Completed)), Answer::Nothing);
        let id = DeploymentId::new("d-7").unwrap();
        assert_eq!(key(&id, DeploymentState::RollingOut).unwrap().as_str(), "deploy/d-7/RollingOut");
    }
}
