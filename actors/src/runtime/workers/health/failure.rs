//! From well to ill and back, or to an incident (R090–R102, R104, R110).
//!
//! ```text
//! Healthy ⇄ Degraded → Rollback → Restoring → Healthy
//!                                           ↘ Incident
//! ```
//!
//! The restore is a deployment of its own (H07): this asks the arbiter for it and hears how it ended.

use serde::{Deserialize, Serialize};

use crate::runtime::workers::health::decide::Window;

/// Windows in a row in which a service must be Degraded before the last good release comes back
/// (R104 "sustained", H18): two minutes, long enough for a restart and a short fault next door.
pub const ROLLBACK_AFTER_WINDOWS: i64 = 4;

/// How a service is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum Condition {
    /// Its checks pass (R090).
    #[default]
    Healthy,
    /// Its checks fail (R091).
    Degraded {
        /// Since which window.
        since: Window,
    },
    /// They failed for too long; the arbiter is asked for the last good release (R092).
    Rollback,
    /// The last good release comes back (R093).
    Restoring,
    /// It could not come back; people must act (R094).
    Incident,
}

/// What is heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Heard {
    /// The checks of a window passed.
    Passed {
        /// Which window.
        window: Window,
    },
    /// The checks of a window failed.
    Failed {
        /// Which window.
        window: Window,
    },
    /// The arbiter accepted the rollback: the last good release is on its way.
    RestoreBegun,
    /// It is back, and its gate passed.
    Restored,
    /// It could not come back, or there is none (H08).
    RestoreFailed,
    /// A person deployed or resumed: it begins anew.
    Reset,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Do {
    /// Nothing.
    Nothing,
    /// Say that it changed (`HealthCheckCompleted`).
    Say,
    /// Say so, and ask the arbiter to roll back.
    AskRollback,
    /// Say so, and open an incident with the whole envelope and trace (R110, R111).
    OpenIncident,
}

/// What follows.
pub fn hear(condition: Condition, heard: Heard) -> (Condition, Do) {
    use Condition::{Degraded, Healthy, Incident, Restoring, Rollback};
    match (condition, heard) {
        (Healthy, Heard::Passed { .. }) => (Healthy, Do::Nothing),
        // R096.
        (Healthy, Heard::Failed { window }) => (Degraded { since: window }, Do::Say),
        // R097. A result of an earlier window arrived late and says nothing about now (H22).
        (Degraded { since }, Heard::Passed { window }) if window > since => (Healthy, Do::Say),
        (Degraded { since }, Heard::Passed { .. }) => (Degraded { since }, Do::Nothing),
        // R098.
        (Degraded { since }, Heard::Failed { window }) if window.0 - since.0 >= ROLLBACK_AFTER_WINDOWS => {
            (Rollback, Do::AskRollback)
        }
        (Degraded { since }, Heard::Failed { .. }) => (Degraded { since }, Do::Nothing),
        // It has been decided; the arbiter is asked again under the same key until it answers.
        (Rollback, Heard::Passed { .. } | Heard::Failed { .. }) => (Rollback, Do::AskRollback),
        // R099.
        (Rollback, Heard::RestoreBegun) => (Restoring, Do::Say),
        // The answer to the asking was lost; the end says as much.
        (Rollback | Restoring, Heard::Restored) => (Healthy, Do::Say),
        // R101.
        (Rollback | Restoring, Heard::RestoreFailed) => (Incident, Do::OpenIncident),
        // R100: the restore's own gate decides, not a probe in between.
        (Restoring, Heard::Passed { .. } | Heard::Failed { .. } | Heard::RestoreBegun) => (Restoring, Do::Nothing),
        // A late echo of a restore that is over.
        (Healthy, Heard::RestoreBegun | Heard::Restored | Heard::RestoreFailed) => (Healthy, Do::Nothing),
        (Degraded { since }, Heard::RestoreBegun | Heard::Restored | Heard::RestoreFailed) => {
            (Degraded { since }, Do::Nothing)
        }
        // R102: nothing but a person leads out of it.
        (
            Incident,
            Heard::Passed { .. } | Heard::Failed { .. } | Heard::RestoreBegun | Heard::Restored | Heard::RestoreFailed,
        ) => (Incident, Do::Nothing),
        (Healthy, Heard::Reset) => (Healthy, Do::Nothing),
        (Degraded { .. } | Rollback | Restoring | Incident, Heard::Reset) => (Healthy, Do::Say),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn passed(window: i64) -> Heard {
        Heard::Passed { window: Window(window) }
    }
    const fn failed(window: i64) -> Heard {
        Heard::Failed { window: Window(window) }
    }

    /// R095–R102 edge for edge; what is not drawn stays where it is.
    #[test]
    fn the_picture_of_failure() {
        let degraded = Condition::Degraded { since: Window(5) };
        let conditions = [Condition::Healthy, degraded, Condition::Rollback, Condition::Restoring, Condition::Incident];
        let heards = [passed(6), failed(6), failed(9), Heard::RestoreBegun, Heard::Restored, Heard::RestoreFailed];
        let short = |condition: Condition| format!("{condition:?}").split(' ').next().unwrap_or_default().to_owned();
        let mut drawn = std::collections::BTreeSet::new();
        for from in conditions {
            for heard in heards {
                let (to, _) = hear(from, heard);
                if short(to) != short(from) {
                    drawn.insert(format!("{} -> {}", short(from), short(to)));
                }
            }
        }
        let wanted = [
            "Degraded -> Healthy",
            "Degraded -> Rollback",
            "Healthy -> Degraded",
            "Restoring -> Healthy",
            "Restoring -> Incident",
            "Rollback -> Healthy",
            "Rollback -> Incident",
            "Rollback -> Restoring",
        ];
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), wanted, "two more than drawn, for a lost answer");
    }

    /// R104, H18.
    #[test]
    fn only_a_sustained_degraded_state_rolls_back() {
        let mut condition = Condition::Healthy;
        let mut done = Vec::new();
        for window in 1..=5 {
            let (next, what) = hear(condition, failed(window));
            condition = next;
            done.push(what);
        }
        assert_eq!(done, [Do::Say, Do::Nothing, Do::Nothing, Do::Nothing, Do::AskRollback]);
        let (condition, _) = hear(Condition::Degraded { since: Window(1) }, passed(3));
        assert_eq!(hear(condition, failed(9)).1, Do::Say, "it recovered in between, and the count begins anew");
        assert_eq!(hear(Condition::Degraded { since: Window(3) }, passed(2)).1, Do::Nothing, "it arrived late");
    }

    /// W074: hearing the same twice says nothing twice.
    #[test]
    fn the_same_twice_is_silent() {
        for heard in [passed(1), failed(1), Heard::Restored, Heard::RestoreFailed, Heard::Reset] {
            let (once, _) = hear(Condition::Healthy, heard);
            assert_eq!(hear(once, heard), (once, Do::Nothing), "{heard:?}");
        }
        assert_eq!(hear(Condition::Incident, Heard::RestoreFailed), (Condition::Incident, Do::Nothing), "one incident");
    }
}
