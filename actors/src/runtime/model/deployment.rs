//! A deployment and its states (R036–R059, completed by H06).

use protocol::{Principal, Time};
use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::ids::{DeploymentId, Digest, ServiceId};
use super::service::Revision;

/// The longest reason kept, in bytes: a sentence, not a log.
pub const WHY_MAX_BYTES: usize = 2_048;

/// Why it was started.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeploymentKind {
    /// Somebody wants another revision.
    Deploy,
    /// The last good revision comes back (H07).
    Restore,
    /// What runs is brought back to what is wanted (R064).
    Remediate,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DeploymentState {
    /// Asked for (R036).
    Requested,
    /// The environment is made ready (R037).
    Provisioning,
    /// Configuration and secrets are bound (R038).
    Configuring,
    /// The workloads start (R039).
    RollingOut,
    /// Their health decides (R040).
    HealthGating,
    /// Traffic moves (R041).
    Promoting,
    /// The previous revision comes back (R042).
    RollingBack,
    /// Done (R043).
    Completed,
    /// The previous revision runs again (R044).
    RolledBack,
    /// It ended before anything was rolled out, or could not be rolled back (R045).
    Failed,
}

/// Every state, in the order of the picture.
pub const STATES: [DeploymentState; 10] = [
    DeploymentState::Requested,
    DeploymentState::Provisioning,
    DeploymentState::Configuring,
    DeploymentState::RollingOut,
    DeploymentState::HealthGating,
    DeploymentState::Promoting,
    DeploymentState::RollingBack,
    DeploymentState::Completed,
    DeploymentState::RolledBack,
    DeploymentState::Failed,
];

impl DeploymentState {
    /// Whether it has ended.
    pub const fn terminal(self) -> bool {
        match self {
            Self::Completed | Self::RolledBack | Self::Failed => true,
            Self::Requested
            | Self::Provisioning
            | Self::Configuring
            | Self::RollingOut
            | Self::HealthGating
            | Self::Promoting
            | Self::RollingBack => false,
        }
    }

    /// Where it may go. The drawn arrows (R047–R058), then those that close H06: an error while
    /// configuring ends it, an error while promoting takes it back, and a rollback that fails ends
    /// it with an incident.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Requested => &[Self::Provisioning],
            Self::Provisioning => &[Self::Configuring, Self::Failed],
            Self::Configuring => &[Self::RollingOut, Self::Failed],
            Self::RollingOut => &[Self::HealthGating, Self::RollingBack],
            Self::HealthGating => &[Self::Promoting, Self::RollingBack],
            Self::Promoting => &[Self::Completed, Self::RollingBack],
            Self::RollingBack => &[Self::RolledBack, Self::Failed],
            Self::Completed | Self::RolledBack | Self::Failed => &[],
        }
    }
}

/// One attempt to bring one revision to one service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its name.
    pub deployment_id: DeploymentId,
    /// Of which service.
    pub service_id: ServiceId,
    /// Why it was started.
    pub kind: DeploymentKind,
    /// What ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
    /// What it brings.
    pub to: Revision,
    /// How far it is.
    pub state: DeploymentState,
    /// Who asked.
    pub by: Principal,
    /// When.
    pub at: Time,
    /// Why it ended as it did, when it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Deployment {
    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        fault::at_most("why", self.why.as_ref().map_or(0, String::len), WHY_MAX_BYTES, "bytes")?;
        self.to.check().map_err(|fault| fault.within("to"))
    }
}

/// `why`, cut to what is kept of it.
pub fn shortened(why: &str) -> String {
    protocol::text::shortened(why, WHY_MAX_BYTES).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R046–R059 edge for edge, with the four of H06 marked.
    #[test]
    fn the_picture_of_a_deployment() {
        let mut drawn = String::new();
        for state in STATES {
            for next in state.next() {
                drawn.push_str(&format!("{state:?} -> {next:?}\n"));
            }
            assert_eq!(state.terminal(), state.next().is_empty());
        }
        let wanted = "\
Requested -> Provisioning
Provisioning -> Configuring
Provisioning -> Failed
Configuring -> RollingOut
Configuring -> Failed
RollingOut -> HealthGating
RollingOut -> RollingBack
HealthGating -> Promoting
HealthGating -> RollingBack
Promoting -> Completed
Promoting -> RollingBack
RollingBack -> RolledBack
RollingBack -> Failed
";
        assert_eq!(drawn, wanted, "H06 added Configuring -> Failed, Promoting -> RollingBack, RollingBack -> Failed");
    }

    #[test]
    fn a_long_reason_is_shortened_and_says_so() {
        let short = shortened(&"ä".repeat(WHY_MAX_BYTES));
        assert!(short.len() <= WHY_MAX_BYTES, "{}", short.len());
        assert!(short.ends_with(&format!("… ({} bytes in all)", 2 * WHY_MAX_BYTES)), "{short}");
    }
}
