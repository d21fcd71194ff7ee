//! What follows from a look: one file per worker, each a pure function of what was seen and what is
//! remembered.
//!
//! A worker is convergent: a second run over an unchanged world writes nothing and says nothing
//! (W074). It asks the arbiter for what it wants done, by command; nothing here acts, and no event
//! starts an action (H04).
//!
//! | worker | decision |
//! |---|---|
//! | `RuntimeDeploymentWorker` | [`deployment`] |
//! | `RuntimeHealthWorker` | [`health`], [`failure`], [`probe_policy`] |
//! | `ScalingPolicyWorker` | [`scaling`] |
//! | `DriftDetectionWorker` | [`drift`] |
//! | `ConfigurationSyncWorker` | [`configuration`] |
//! | `SecretRotationWorker` | [`secrets`] |
//! | `RuntimeInventoryWorker` | [`inventory`] |
//!
//! Shared: when they run and how often they try ([`triggers`], [`schedule`]), and what stops a loop
//! that turns without effect ([`loop_alarm`]).

mod compare;
pub mod configuration;
pub mod drift;
pub mod failure;
pub mod health;
pub mod inventory;
pub mod loop_alarm;
pub mod probe_policy;
pub mod scaling;
mod scaling_read;
mod scaling_speed;
pub mod secrets;
pub mod triggers;
