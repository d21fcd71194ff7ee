//! What the runtime platform speaks about: data and its invariants, no behaviour.
//!
//! Every type that comes from outside has a `check()`, which names the field, the fault and the
//! mend, and holds every size to a bound.

pub mod analysis;
pub mod configuration;
pub mod deployment;
pub mod drift_policy;
pub mod environment;
pub mod fault;
pub mod finding;
pub mod ids;
pub mod millis;
pub mod observed;
pub mod probe;
pub mod published;
pub mod rotation;
pub mod scaling;
pub mod secret;
pub mod service;
pub mod strategy;

pub use configuration::{ConfigurationRef, RuntimeConfiguration};
pub use deployment::{Deployment, DeploymentKind, DeploymentState};
pub use drift_policy::{DriftPolicy, Remedy};
pub use environment::{Environment, Isolation, Stage, Status, TenantBinding};
pub use fault::Fault;
pub use finding::{DriftFinding, DriftKind, FindingState};
pub use ids::{
    ConfigurationId, DeploymentId, Digest, EnvironmentId, FindingHash, PolicyId, RequestKey, SecretBindingId, ServiceId,
};
pub use observed::ObservedService;
pub use probe::{Probe, ProbeKind, ProbeSpec};
pub use rotation::Rotation;
pub use scaling::{ReplicaRange, ScalingPolicy};
pub use secret::SecretBinding;
pub use service::{Release, Revision, ServiceSpec, TargetKind};
pub use strategy::Strategy;
