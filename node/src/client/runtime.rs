//! Commands about environments and services as calls.

use std::time::Duration;

use protocol::Value;
use protocol::command::name;
use protocol::runtime::{
    Accepted, ApplyScalingPolicy, BindEnvironment, BindSecret, CloseIncident, Configurations, CreateEnvironment,
    DriftPolicyView, DriftRow, Drifts, EnvironmentRow, IncidentRow, IncidentView, Incidents, ListDrift, ListPolicies,
    ListSecrets, ListServices, Logs, OfEnvironment, OfFinding, OfSecret, OfService, Policies, ProvisionEnvironment,
    Provisioned, PublishConfiguration, PublishedConfiguration, PutSecret, ReadLogs, ScaleService, SecretRow, Secrets,
    Services, SetDriftPolicy, ShowConfiguration, ShownConfiguration, SteerService, UnbindSecret,
};

use super::{Client, Error, Repeat};

/// How much longer than for others the answer about an environment is waited for: what a small stack
/// in a cloud takes.
const PROVISION_EXTRA: Duration = Duration::from_secs(120);

impl Client {
    /// Makes an environment. Again with the same changes nothing.
    pub async fn create_environment(&self, create: &CreateEnvironment) -> Result<EnvironmentRow, Error> {
        self.call(name::ENVIRONMENT_CREATE, create, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets a tenant use an environment.
    pub async fn bind_environment(&self, bind: &BindEnvironment) -> Result<Value, Error> {
        self.call(name::ENVIRONMENT_BIND, bind, Repeat::Safe, Duration::ZERO).await
    }

    /// Services of the tenant, and the environments it may use.
    pub async fn services(&self, list: &ListServices) -> Result<Services, Error> {
        self.call(name::SERVICE_LIST, list, Repeat::Safe, Duration::ZERO).await
    }

    /// What the replicas of a service wrote.
    pub async fn logs(&self, read: &ReadLogs) -> Result<Logs, Error> {
        self.call(name::SERVICE_LOGS, read, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets new replicas of the same take over. Said twice it may restart twice.
    pub async fn restart_service(&self, of: &OfService) -> Result<Accepted, Error> {
        self.call(name::SERVICE_RESTART, of, Repeat::Never, Duration::ZERO).await
    }

    /// Lets a rollout or a service go on. Said twice it may resume two pauses.
    pub async fn resume_service(&self, of: &OfService) -> Result<Accepted, Error> {
        self.call(name::SERVICE_RESUME, of, Repeat::Never, Duration::ZERO).await
    }

    /// Takes the traffic and the replicas of a service away.
    pub async fn drain_service(&self, steer: &SteerService) -> Result<Accepted, Error> {
        self.call(name::SERVICE_DRAIN, steer, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets a service act no more by itself; people still may.
    pub async fn pause_service(&self, steer: &SteerService) -> Result<Accepted, Error> {
        self.call(name::SERVICE_PAUSE, steer, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets releases come again that were rolled back.
    pub async fn unhold_service(&self, of: &OfService) -> Result<Value, Error> {
        self.call(name::SERVICE_UNHOLD, of, Repeat::Safe, Duration::ZERO).await
    }
}

/// Configurations.
impl Client {
    /// Publishes a configuration. The same again is the same version.
    pub async fn publish_configuration(&self, publish: &PublishConfiguration) -> Result<PublishedConfiguration, Error> {
        self.call(name::CONFIGURATION_PUBLISH, publish, Repeat::Safe, Duration::ZERO).await
    }

    /// One version with its content.
    pub async fn configuration(&self, show: &ShowConfiguration) -> Result<ShownConfiguration, Error> {
        self.call(name::CONFIGURATION_SHOW, show, Repeat::Safe, Duration::ZERO).await
    }

    /// All versions.
    pub async fn configurations(&self, of: &ShowConfiguration) -> Result<Configurations, Error> {
        self.call(name::CONFIGURATION_LIST, of, Repeat::Safe, Duration::ZERO).await
    }
}

/// Secrets.
impl Client {
    /// Keeps the value of a secret, once per `put.id`.
    pub async fn put_secret(&self, put: &PutSecret) -> Result<Value, Error> {
        let repeat = if put.id.is_some() { Repeat::Safe } else { Repeat::Never };
        self.call(name::SECRET_PUT, put, repeat, Duration::ZERO).await
    }

    /// Lets a service use a secret, and says how often it rotates.
    pub async fn bind_secret(&self, bind: &BindSecret) -> Result<SecretRow, Error> {
        self.call(name::SECRET_BIND, bind, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets a service use a secret no more.
    pub async fn unbind_secret(&self, unbind: &UnbindSecret) -> Result<SecretRow, Error> {
        self.call(name::SECRET_UNBIND, unbind, Repeat::Safe, Duration::ZERO).await
    }

    /// Removes a secret that no service uses, with all its values.
    pub async fn remove_secret(&self, of: &OfSecret) -> Result<Value, Error> {
        self.call(name::SECRET_REMOVE, of, Repeat::Never, Duration::ZERO).await
    }

    /// Wants a secret rotated.
    pub async fn rotate_secret(&self, of: &OfSecret) -> Result<Value, Error> {
        self.call(name::SECRET_ROTATE, of, Repeat::Safe, Duration::ZERO).await
    }

    /// The secrets of an environment, without their values.
    pub async fn secrets(&self, list: &ListSecrets) -> Result<Secrets, Error> {
        self.call(name::SECRET_LIST, list, Repeat::Safe, Duration::ZERO).await
    }
}

/// Scaling.
impl Client {
    /// Lets a policy own the replicas of a service.
    pub async fn apply_policy(&self, apply: &ApplyScalingPolicy) -> Result<Value, Error> {
        self.call(name::SCALING_APPLY, apply, Repeat::Safe, Duration::ZERO).await
    }

    /// Takes a policy away.
    pub async fn remove_policy(&self, of: &OfService) -> Result<Value, Error> {
        self.call(name::SCALING_REMOVE, of, Repeat::Safe, Duration::ZERO).await
    }

    /// The policies of the tenant's services.
    pub async fn policies(&self, list: &ListPolicies) -> Result<Policies, Error> {
        self.call(name::SCALING_LIST, list, Repeat::Safe, Duration::ZERO).await
    }

    /// Gives a service so many replicas. Said late it could undo a younger word.
    pub async fn scale_service(&self, scale: &ScaleService) -> Result<Accepted, Error> {
        self.call(name::SERVICE_SCALE, scale, Repeat::Never, Duration::ZERO).await
    }
}

/// Drift, incidents and environments.
impl Client {
    /// What differs from what is wanted.
    pub async fn drift(&self, list: &ListDrift) -> Result<Drifts, Error> {
        self.call(name::DRIFT_LIST, list, Repeat::Safe, Duration::ZERO).await
    }

    /// Has a finding put right.
    pub async fn approve_drift(&self, of: &OfFinding) -> Result<DriftRow, Error> {
        self.call(name::DRIFT_APPROVE, of, Repeat::Safe, Duration::ZERO).await
    }

    /// Has all that differs of a service put right.
    pub async fn remediate_drift(&self, of: &OfService) -> Result<Drifts, Error> {
        self.call(name::DRIFT_REMEDIATE, of, Repeat::Safe, Duration::ZERO).await
    }

    /// What is done about drift.
    pub async fn drift_policy(&self, of: &OfEnvironment) -> Result<DriftPolicyView, Error> {
        self.call(name::DRIFT_POLICY, of, Repeat::Safe, Duration::ZERO).await
    }

    /// Says what is done about drift.
    pub async fn set_drift_policy(&self, set: &SetDriftPolicy) -> Result<DriftPolicyView, Error> {
        self.call(name::DRIFT_SET_POLICY, set, Repeat::Safe, Duration::ZERO).await
    }

    /// Leaves a finding as it is.
    pub async fn accept_drift(&self, of: &OfFinding) -> Result<DriftRow, Error> {
        self.call(name::DRIFT_ACCEPT, of, Repeat::Safe, Duration::ZERO).await
    }

    /// Services that are incidents.
    pub async fn incidents(&self, list: &ListServices) -> Result<Incidents, Error> {
        self.call(name::INCIDENT_LIST, list, Repeat::Safe, Duration::ZERO).await
    }

    /// What is known of an incident.
    pub async fn incident(&self, of: &OfService) -> Result<IncidentView, Error> {
        self.call(name::INCIDENT_SHOW, of, Repeat::Safe, Duration::ZERO).await
    }

    /// Closes an incident.
    pub async fn close_incident(&self, close: &CloseIncident) -> Result<IncidentRow, Error> {
        self.call(name::INCIDENT_CLOSE, close, Repeat::Never, Duration::ZERO).await
    }

    /// Shows what would change of an environment, or changes what was shown. Who made it in a cloud
    /// may take longer than is waited here: it goes on, and asking again answers when it is done.
    pub async fn provision_environment(&self, provision: &ProvisionEnvironment) -> Result<Provisioned, Error> {
        self.call(name::ENVIRONMENT_PROVISION, provision, Repeat::Safe, PROVISION_EXTRA).await
    }
}
