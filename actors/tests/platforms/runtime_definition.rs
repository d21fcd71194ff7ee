//! The deployment saga as data: its picture and its names.

use std::collections::BTreeSet;

use serde_json::Value;
use supervisor::machine::{Definition, render};

fn text() -> &'static str {
    actors::definitions().iter().find(|(file, _)| *file == "runtime_deployment.yaml").unwrap().1
}

/// R046 to R059, as drawn.
const DRAWN: &[&str] = &[
    "[*] --> Requested",
    "Requested --> Provisioning : ensure environment",
    "Provisioning --> Configuring : infra ready",
    "Configuring --> RollingOut : config + secrets bound",
    "RollingOut --> HealthGating : workloads started",
    "HealthGating --> Promoting : gates passed",
    "HealthGating --> RollingBack : gates failed",
    "Promoting --> Completed : traffic shifted",
    "RollingBack --> RolledBack : previous restored",
    "Completed --> [*]",
    "RolledBack --> [*]",
    "RollingOut --> RollingBack : rollout error",
    "Provisioning --> Failed : provisioning error",
    "Failed --> [*]",
];

/// H06: the exits that the source forgot.
const SETTLED: &[&str] = &[
    "Configuring --> Failed : configuration error",
    "Promoting --> RollingBack : promotion error",
    "RollingBack --> Failed : rollback error",
];

#[test]
fn the_picture_is_that_of_the_requirements() {
    let (definition, _) =
        Definition::parse(text(), "runtime_deployment.yaml").unwrap_or_else(|faults| panic!("{faults}"));
    let picture = render(&definition);
    let edges: BTreeSet<&str> = picture.lines().skip(1).map(str::trim).collect();
    let expected: BTreeSet<&str> = DRAWN.iter().chain(SETTLED).copied().collect();
    assert_eq!(edges, expected);
}

#[test]
fn no_state_that_acts_is_without_a_deadline() {
    let source: Value = serde_saphyr::from_str(text()).unwrap();
    for (name, state) in source["definition"]["States"].as_object().unwrap() {
        let acts = state["Resource"].as_str().is_some_and(|resource| resource.starts_with("activity:"));
        assert!(!acts || state["TimeoutSeconds"].is_number(), "{name}: H06");
        assert!(!acts || !state["Retry"].is_null(), "{name} gives up at once");
        // F38: a worker that died is noticed by its silence, not by the end of a long time-out.
        assert!(!acts || state["HeartbeatSeconds"].is_number(), "{name} would wait for a worker that died");
        let undo = &state["Compensate"];
        assert!(!undo.is_object() || undo["HeartbeatSeconds"].is_number(), "the undo of {name}");
        for retry in [&state["Retry"], &undo["Retry"]].into_iter().filter(|retry| !retry.is_null()) {
            assert!(retry.to_string().contains("States.HeartbeatTimeout"), "{name} gives up when its worker dies");
        }
        assert!(!undo.is_object() || undo["TimeoutSeconds"].is_number(), "the undo of {name}");
    }
}

#[test]
fn every_step_is_told() {
    let source: Value = serde_saphyr::from_str(text()).unwrap();
    let mut events = BTreeSet::new();
    for (name, state) in source["definition"]["States"].as_object().unwrap() {
        let Some(event) = state["Resource"].as_str().and_then(|resource| resource.strip_prefix("event:")) else {
            continue;
        };
        for field in ["projectId", "environmentId", "serviceId"] {
            assert!(!state["Arguments"][field].is_null(), "{name} does not say {field}");
        }
        events.insert(event);
    }
    let expected = [
        "HealthCheckCompleted",
        "RuntimeConfigurationBound",
        "RuntimeDeploymentCompleted",
        "RuntimeDeploymentFailed",
        "RuntimeDeploymentRequested",
        "RuntimeDeploymentRolledBack",
        "RuntimeEnvironmentProvisioned",
        "RuntimeInventoryUpdated",
        "RuntimeTrafficShifted",
        "RuntimeWorkloadsStarted",
    ];
    assert_eq!(events.into_iter().collect::<Vec<_>>(), expected);
}
