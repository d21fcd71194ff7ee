//! A secret and the workloads that use it. The value itself is never here.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::{Principal, Time};
use serde::{Deserialize, Serialize};

use super::configuration::check_variable;
use super::fault::{self, Fault};
use super::ids::{EnvironmentId, SecretBindingId, ServiceId};
use super::millis;

/// The most workloads on one secret: a rotation waits for every one of them.
pub const BOUND_MAX: usize = 1_000;
/// The longest reference into the secret store, in bytes.
pub const REFERENCE_MAX_BYTES: usize = 512;
/// The shortest rotation period: a rotation that waits for workloads to confirm takes minutes.
pub const PERIOD_MIN: Duration = Duration::from_secs(15 * 60);

/// A secret, and who is bound to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretBinding {
    /// Its name.
    pub secret_binding_id: SecretBindingId,
    /// Where.
    pub environment_id: EnvironmentId,
    /// Where the store keeps it.
    pub reference: String,
    /// The version that is current.
    pub version: u64,
    /// Since when.
    pub rotated_at: Time,
    /// How often it is rotated by itself. `None`: on request only.
    #[serde(rename = "rotationPeriodMs", default, with = "millis::option", skip_serializing_if = "Option::is_none")]
    pub rotation_period: Option<Duration>,
    /// The workloads that use it.
    pub bound: BTreeSet<ServiceId>,
    /// Somebody wants it rotated; taken away when that begins, so that no lost event loses the wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Requested>,
}

/// A wish for a rotation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requested {
    /// Whose.
    pub by: Principal,
    /// When.
    pub at: Time,
}

/// The variable in which processes find a secret: its name, as variables are written.
pub fn variable(binding: &SecretBindingId) -> String {
    binding.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Whether a secret may have this name: that of its variable would steer how programs are found and loaded.
pub fn check_name(binding: &SecretBindingId) -> Result<(), Fault> {
    let variable = variable(binding);
    if ["PATH", "HOME"].contains(&variable.as_str()) || variable.starts_with("LD_") {
        let what = format!("{binding} is the variable {variable}, by which programs are found and loaded");
        return Err(Fault::new("secret", what, "choose another name"));
    }
    check_variable(&variable, "")
}

/// That two secrets of one service are one variable, of which it would have only one.
pub fn same_variable(one: &SecretBindingId, other: &SecretBindingId) -> Option<Fault> {
    let variable_of = variable(one);
    (one != other && variable_of == variable(other)).then(|| {
        let what = format!("{one} and {other} are both the variable {variable_of}");
        Fault::new("secrets", what, "give one of them another name")
    })
}

impl SecretBinding {
    /// Refuses a name that can be no variable of a program, and what is too large.
    pub fn check(&self) -> Result<(), Fault> {
        check_name(&self.secret_binding_id)?;
        fault::text("reference", &self.reference, REFERENCE_MAX_BYTES)?;
        fault::at_most("bound", self.bound.len(), BOUND_MAX, "workloads")?;
        match self.rotation_period {
            Some(period) if period < PERIOD_MIN => Err(Fault::new(
                "rotationPeriodMs",
                format!("it is {} ms", period.as_millis()),
                format!("use {} ms or more", PERIOD_MIN.as_millis()),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_under_its_own_name() {
        for (name, expected) in [("database", "DATABASE"), ("api-key.v2", "API_KEY_V2")] {
            assert_eq!(variable(&SecretBindingId::new(name).unwrap()), expected);
        }
    }

    #[test]
    fn names_that_steer_programs_and_two_of_one_variable_are_refused() {
        let id = |name: &str| SecretBindingId::new(name).unwrap();
        for name in ["path", "home", "ld-preload", "ld.library-path", "port"] {
            assert!(check_name(&id(name)).is_err(), "{name}");
        }
        for name in ["pathway", "homes", "old", "ldap"] {
            assert_eq!(check_name(&id(name)), Ok(()), "{name}");
        }
        let fault = same_variable(&id("api-key"), &id("api.key")).unwrap().to_string();
        assert!(fault.contains("api-key") && fault.contains("api.key") && fault.contains("API_KEY"), "{fault}");
        assert!(same_variable(&id("api-key"), &id("api-key")).is_none());
        assert!(same_variable(&id("api-key"), &id("api-keys")).is_none());
    }
}
