//! What wakes which worker, how often each tries, and what it says: the table and the diagram
//! together (W009–W069, H03).
//!
//! Being woken is not being ordered (H04): an event makes a worker look; only a command makes it act.

use std::time::Duration;

use supervisor::worker::{Retry, Rhythm};

/// The seven workers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Worker {
    RuntimeDeploymentWorker,
    RuntimeHealthWorker,
    ScalingPolicyWorker,
    DriftDetectionWorker,
    ConfigurationSyncWorker,
    SecretRotationWorker,
    RuntimeInventoryWorker,
}

/// All of them (W001).
pub const WORKERS: [Worker; 7] = [
    Worker::RuntimeDeploymentWorker,
    Worker::RuntimeHealthWorker,
    Worker::ScalingPolicyWorker,
    Worker::DriftDetectionWorker,
    Worker::ConfigurationSyncWorker,
    Worker::SecretRotationWorker,
    Worker::RuntimeInventoryWorker,
];

/// What wakes a worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Trigger {
    /// A command: it is to be done, or refused.
    Command(&'static str),
    /// An event: it is to be looked at.
    Event(&'static str),
    /// An interval.
    Every(Duration),
    /// The schedule that each secret has of its own.
    Rotation,
}

/// What happens when the last attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Then {
    /// The message is kept as a dead letter with its whole envelope.
    DeadLetter,
    /// The run is recorded as failed, and the next tick goes on (H17).
    NextTick,
    /// People are told at once.
    Alert,
}

/// How a worker works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Card {
    /// What wakes it.
    pub triggers: &'static [Trigger],
    /// What it says.
    pub says: &'static [&'static str],
    /// Attempts in all, the first one counted (H16).
    pub attempts: u32,
    /// What happens to a message when the last attempt failed. A tick has no message (H17).
    pub then: Then,
}

const EVERY_30_S: Trigger = Trigger::Every(Duration::from_secs(30));
const EVERY_60_S: Trigger = Trigger::Every(Duration::from_secs(60));
const EVERY_2_MIN: Trigger = Trigger::Every(Duration::from_secs(120));
const EVERY_5_MIN: Trigger = Trigger::Every(Duration::from_secs(300));

impl Worker {
    /// Its name, as it stands in keys and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RuntimeDeploymentWorker => "RuntimeDeploymentWorker",
            Self::RuntimeHealthWorker => "RuntimeHealthWorker",
            Self::ScalingPolicyWorker => "ScalingPolicyWorker",
            Self::DriftDetectionWorker => "DriftDetectionWorker",
            Self::ConfigurationSyncWorker => "ConfigurationSyncWorker",
            Self::SecretRotationWorker => "SecretRotationWorker",
            Self::RuntimeInventoryWorker => "RuntimeInventoryWorker",
        }
    }

    /// Its kind, as people name it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::RuntimeDeploymentWorker => "deployment",
            Self::RuntimeHealthWorker => "health",
            Self::ScalingPolicyWorker => "scaling",
            Self::DriftDetectionWorker => "drift",
            Self::ConfigurationSyncWorker => "configuration",
            Self::SecretRotationWorker => "secrets",
            Self::RuntimeInventoryWorker => "inventory",
        }
    }

    /// When it runs, and how often it tries.
    pub fn rhythm(self) -> Rhythm {
        let card = self.card();
        let every = card.triggers.iter().find_map(|trigger| match trigger {
            Trigger::Every(interval) => Some(*interval),
            Trigger::Command(_) | Trigger::Event(_) | Trigger::Rotation => None,
        });
        every.map_or_else(Rhythm::on_events, Rhythm::every).retry(Retry::max(card.attempts))
    }

    /// The events that wake it.
    pub fn events(self) -> Vec<&'static str> {
        let event = |trigger: &Trigger| match trigger {
            Trigger::Event(name) => Some(*name),
            Trigger::Command(_) | Trigger::Every(_) | Trigger::Rotation => None,
        };
        self.card().triggers.iter().filter_map(event).collect()
    }

    /// How it works: the column of triggers, and the edges of the diagram that stand in no column.
    pub const fn card(self) -> Card {
        use Trigger::{Command, Event, Rotation};
        match self {
            Self::RuntimeDeploymentWorker => Card {
                triggers: &[
                    Command("Deploy"),                   // W010, W057
                    Command("RollbackDeployment"),       // B.3
                    Command("RemediateDrift"),           // R064
                    Event("RuntimeDeploymentRequested"), // W011
                    Event("ConfigurationSynced"),        // W065
                    Event("SecretRotated"),              // W067
                    Event("RuntimeDriftDetected"),       // W069
                ],
                says: &["RuntimeDeploymentCompleted", "RuntimeDeploymentRolledBack"], // W013, R034
                attempts: 5,                                                          // W014
                then: Then::DeadLetter,
            },
            Self::RuntimeHealthWorker => Card {
                triggers: &[
                    EVERY_30_S,                          // W017, W060
                    Event("RuntimeDeploymentCompleted"), // W018 "dependency events"
                    Event("RuntimeInventoryUpdated"),    // W018
                ],
                says: &["HealthCheckCompleted"], // W020
                attempts: 3,                     // W021
                then: Then::NextTick,
            },
            Self::ScalingPolicyWorker => Card {
                triggers: &[
                    EVERY_60_S,                     // W024
                    Event("HealthCheckCompleted"),  // W025, W061
                    Event("RuntimeServiceAwaited"), // D307: the gateway has a request and nobody for it
                    Event("RuntimeActionStarted"),  // somebody scales by hand; of other actions it takes no notice
                ],
                says: &["ScalingPolicyApplied", "ScalingPolicyViolated"], // W027, R089
                attempts: 4,                                              // W028
                then: Then::NextTick,
            },
            Self::DriftDetectionWorker => Card {
                triggers: &[
                    EVERY_5_MIN,                         // W031
                    Event("RuntimeDeploymentCompleted"), // W032, W059
                    Event("HealthCheckCompleted"),       // W062
                    Event("RuntimeInventoryUpdated"),    // W068
                    Event("RuntimeDriftApproved"),       // R073, R076
                ],
                says: &["RuntimeDriftDetected", "RuntimeDriftRemediated"], // W034, R067
                attempts: 3,                                               // W035
                then: Then::NextTick,
            },
            Self::ConfigurationSyncWorker => Card {
                triggers: &[Event("ConfigurationPublished")], // W038, W064
                says: &["ConfigurationSynced"],               // W040
                attempts: 5,                                  // W041
                then: Then::DeadLetter,
            },
            Self::SecretRotationWorker => Card {
                triggers: &[Rotation, Command("RotateSecret"), Event("SecretRotationRequested")], // W044, W045, W066
                says: &["SecretRotated"],                                                         // W047
                attempts: 5,                                                                      // W048
                then: Then::Alert,
            },
            Self::RuntimeInventoryWorker => Card {
                triggers: &[
                    EVERY_2_MIN,                          // W051
                    Event("RuntimeDeploymentCompleted"),  // W052, W058
                    Event("RuntimeDeploymentRolledBack"), // W052
                    Event("ScalingPolicyApplied"),        // W052, W063
                ],
                says: &["RuntimeInventoryUpdated"], // W054
                attempts: 3,                        // W055
                then: Then::NextTick,
            },
        }
    }
}

/// Whom an event wakes.
pub fn woken_by(event: &str) -> Vec<Worker> {
    let is_it = |trigger: &Trigger| match trigger {
        Trigger::Event(name) => *name == event,
        Trigger::Command(_) | Trigger::Every(_) | Trigger::Rotation => false,
    };
    WORKERS.into_iter().filter(|worker| worker.card().triggers.iter().any(is_it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W057–W069 edge for edge.
    #[test]
    fn every_edge_of_the_diagram() {
        use Worker::*;
        let edges = [
            ("W057", None, Trigger::Command("Deploy"), RuntimeDeploymentWorker),
            (
                "W058",
                Some(RuntimeDeploymentWorker),
                Trigger::Event("RuntimeDeploymentCompleted"),
                RuntimeInventoryWorker,
            ),
            ("W059", Some(RuntimeDeploymentWorker), Trigger::Event("RuntimeDeploymentCompleted"), DriftDetectionWorker),
            ("W060", None, EVERY_30_S, RuntimeHealthWorker),
            ("W061", Some(RuntimeHealthWorker), Trigger::Event("HealthCheckCompleted"), ScalingPolicyWorker),
            ("W062", Some(RuntimeHealthWorker), Trigger::Event("HealthCheckCompleted"), DriftDetectionWorker),
            ("W063", Some(ScalingPolicyWorker), Trigger::Event("ScalingPolicyApplied"), RuntimeInventoryWorker),
            ("W064", None, Trigger::Event("ConfigurationPublished"), ConfigurationSyncWorker),
            ("W065", Some(ConfigurationSyncWorker), Trigger::Event("ConfigurationSynced"), RuntimeDeploymentWorker),
            ("W066", None, Trigger::Rotation, SecretRotationWorker),
            ("W067", Some(SecretRotationWorker), Trigger::Event("SecretRotated"), RuntimeDeploymentWorker),
            ("W068", Some(RuntimeInventoryWorker), Trigger::Event("RuntimeInventoryUpdated"), DriftDetectionWorker),
            ("W069", Some(DriftDetectionWorker), Trigger::Event("RuntimeDriftDetected"), RuntimeDeploymentWorker),
        ];
        for (row, from, trigger, to) in edges {
            assert!(to.card().triggers.contains(&trigger), "{row}: {trigger:?} must wake {to:?}");
            if let (Some(from), Trigger::Event(event)) = (from, trigger) {
                assert!(from.card().says.contains(&event), "{row}: {from:?} must say {event}");
                assert!(woken_by(event).contains(&to), "{row}");
            }
        }
    }

    /// The columns of the table: triggers, attempts, end.
    #[test]
    fn every_row_of_the_table() {
        let rows = [
            (Worker::RuntimeDeploymentWorker, 5, Then::DeadLetter, "Deploy RuntimeDeploymentRequested"),
            (Worker::RuntimeHealthWorker, 3, Then::NextTick, "30s"),
            (Worker::ScalingPolicyWorker, 4, Then::NextTick, "60s HealthCheckCompleted"),
            (Worker::DriftDetectionWorker, 3, Then::NextTick, "300s RuntimeDeploymentCompleted"),
            (Worker::ConfigurationSyncWorker, 5, Then::DeadLetter, "ConfigurationPublished"),
            (Worker::SecretRotationWorker, 5, Then::Alert, "rotation SecretRotationRequested"),
            (Worker::RuntimeInventoryWorker, 3, Then::NextTick, "120s RuntimeDeploymentCompleted ScalingPolicyApplied"),
        ];
        assert_eq!(rows.map(|row| row.0), WORKERS, "W001: seven, all present");
        for (worker, attempts, then, triggers) in rows {
            let card = worker.card();
            assert_eq!((card.attempts, card.then), (attempts, then), "{worker:?}");
            let has: Vec<String> = card
                .triggers
                .iter()
                .map(|trigger| match trigger {
                    Trigger::Command(name) | Trigger::Event(name) => (*name).to_owned(),
                    Trigger::Every(interval) => format!("{}s", interval.as_secs()),
                    Trigger::Rotation => "rotation".to_owned(),
                })
                .collect();
            for trigger in triggers.split(' ') {
                assert!(has.iter().any(|has| has == trigger), "{worker:?} must be woken by {trigger}: {has:?}");
            }
        }
    }

    /// Every event that wakes somebody is said by somebody, or comes from outside.
    #[test]
    fn nobody_waits_for_what_is_never_said() {
        let outside = [
            "RuntimeDeploymentRequested",
            "ConfigurationPublished",
            "SecretRotationRequested",
            "RuntimeDriftApproved",
            "RuntimeServiceAwaited",
            "RuntimeActionStarted",
        ];
        for worker in WORKERS {
            for trigger in worker.card().triggers {
                let Trigger::Event(event) = trigger else { continue };
                let said = WORKERS.iter().any(|worker| worker.card().says.contains(event));
                assert!(said || outside.contains(event), "{worker:?} waits for {event}");
            }
        }
        assert!(woken_by("SomethingElse").is_empty());
    }
}
