//! The installation saga as data: its picture, its names and its expressions.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::World;
use serde_json::{Map, Value, json};

fn source() -> Value {
    let (_, text) = actors::definitions().iter().find(|(file, _)| *file == "installation.yaml").unwrap();
    serde_saphyr::from_str(text).unwrap()
}

fn states(source: &Value) -> &Map<String, Value> {
    source["definition"]["States"].as_object().unwrap()
}

/// Where a state leads, with the label that stands there.
fn exits(state: &Value) -> Vec<(String, Option<String>)> {
    let label = |at: &Value| at["Comment"].as_str().map(str::to_owned);
    let mut exits: Vec<_> = state["Next"].as_str().map(|next| (next.to_owned(), None)).into_iter().collect();
    for list in ["Choices", "Catch"] {
        for at in state[list].as_array().into_iter().flatten() {
            exits.push((at["Next"].as_str().unwrap().to_owned(), label(at)));
        }
    }
    exits
}

/// M088 to M100: what a person sees once the plumbing is left out.
#[test]
fn the_picture_is_that_of_the_requirements() {
    let source = source();
    let states = states(&source);
    let hidden: BTreeSet<&str> =
        source["hidden"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(hidden.iter().all(|name| states.contains_key(*name)), "{hidden:?}");
    let start = source["definition"]["StartAt"].as_str().unwrap();
    let mut edges = BTreeSet::from([format!("[*] -> {start}")]);
    for (name, state) in states.iter().filter(|(name, _)| !hidden.contains(name.as_str())) {
        let mut open = exits(state);
        if open.is_empty() {
            edges.insert(format!("{name} -> [*]"));
        }
        while let Some((next, label)) = open.pop() {
            if hidden.contains(next.as_str()) {
                let further = exits(&states[&next]).into_iter();
                open.extend(further.map(|(next, other)| (next, label.clone().or(other))));
                continue;
            }
            let plain = source["labels"][format!("{name} -> {next}")].as_str().map(str::to_owned);
            edges.insert(format!("{name} -> {next}: {}", label.or(plain).unwrap_or_default()));
        }
    }
    let expected = [
        "Applying -> Installed: applied successfully",
        "Applying -> RolledBack: apply error",
        "Evaluating -> Failed: incompatible",
        "Evaluating -> Resolving: compatible",
        "Failed -> [*]",
        "Installed -> [*]",
        "LicenseCheck -> Applying: license granted",
        "LicenseCheck -> Failed: license denied",
        "Requested -> Evaluating: compatibility check",
        "Resolving -> Failed: dependency conflict",
        "Resolving -> LicenseCheck: graph resolved",
        "RolledBack -> [*]",
        "[*] -> Requested",
    ];
    assert_eq!(edges.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_activity_and_undo_is_offered_and_every_event_is_named() {
    let source = source();
    let world = World::new();
    let activities = actors::marketplace::activities(&world.config).unwrap();
    let mut events = BTreeSet::new();
    for (name, state) in states(&source) {
        let Some(resource) = state["Resource"].as_str() else { continue };
        if let Some(event) = resource.strip_prefix("event:") {
            events.insert(event.to_owned());
            continue;
        }
        let activity = resource.strip_prefix("activity:").unwrap();
        let activity = activities.iter().find(|known| known.name() == activity).unwrap_or_else(|| panic!("{name}"));
        let undo = state["Compensate"]["Resource"].as_str().and_then(|undo| undo.strip_prefix("activity:"));
        assert_eq!(undo, activity.undo_name(), "{name}");
    }
    let expected = [
        "AssetInstallationFailed",
        "AssetInstalled",
        "CompatibilityEvaluated",
        "DependenciesResolved",
        "DependencyConflictDetected",
        "LicenseGranted",
    ];
    assert_eq!(events.into_iter().collect::<Vec<_>>(), expected);
}

/// Evaluates one expression with variables, as the engine does.
fn evaluate(text: &str, variables: &BTreeMap<&str, Value>) -> Result<Value, String> {
    use jsonata_core::evaluator::{Context, Evaluator};
    let node = jsonata_core::parser::parse(text).map_err(|error| format!("{text}: {error}"))?;
    let mut context = Context::new();
    for (name, value) in variables {
        let value =
            jsonata_core::value::JValue::from_json_str(&value.to_string()).map_err(|error| error.to_string())?;
        context.bind((*name).to_owned(), value);
    }
    let nothing = jsonata_core::value::JValue::from_json_str("{}").map_err(|error| error.to_string())?;
    let answer =
        Evaluator::with_context(context).evaluate(&node, &nothing).map_err(|error| format!("{text}: {error}"))?;
    if answer.is_undefined() {
        return Err(format!("{text} is undefined"));
    }
    serde_json::from_str(&answer.to_json_string().map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())
}

fn expressions(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            found.extend(text.strip_prefix("{%").and_then(|t| t.strip_suffix("%}")).map(|t| t.trim().to_owned()));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| expressions(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// With what the activities answer, no expression is undefined: an undefined one would fail the
/// saga at the worst moment.
#[test]
fn every_expression_has_a_value() {
    let finding = |blocking: bool| json!({ "code": "c", "blocking": blocking, "message": "because" });
    let result = json!({
        "verdict": "compatible", "outcome": "resolved", "findings": [], "entitlement": "*", "grantedAt": "now",
        "installed": [{}], "rollbackToken": {},
    });
    for findings in [json!([finding(true)]), json!([finding(false), finding(true), finding(true)])] {
        let variables = BTreeMap::from([
            (
                "states",
                json!({
                    "input": { "assetId": "a", "version": "1", "target": "/t" },
                    "result": result,
                    "errorOutput": { "Error": "E", "Cause": "why" },
                }),
            ),
            ("asset", json!("a")),
            ("version", json!("1")),
            ("resolved", json!("1.0.0")),
            ("target", json!("/t")),
            ("features", json!([])),
            ("rust", Value::Null),
            ("acquire", json!("acquire")),
            ("verdict", json!("compatible")),
            ("outcome", json!("resolved")),
            ("reason", json!("r")),
            ("findings", findings),
            ("failure", json!({ "Error": "LicenseDenied", "Cause": "why" })),
            ("requirement", json!("^1")),
            ("graph", json!({ "packages": [{}], "licenses": [{ "license": "MIT" }] })),
            ("grant", result.clone()),
            ("applied", result.clone()),
            ("error", json!("E")),
            ("cause", json!("why")),
        ]);
        let mut found = BTreeSet::new();
        expressions(&source(), &mut found);
        assert!(found.len() > 20);
        for text in &found {
            evaluate(text, &variables).unwrap();
        }
        // A list of one stays a list.
        for (text, expected) in [
            ("$graph.licenses", json!([{ "license": "MIT" }])),
            ("$applied.installed", json!([{}])),
            ("$states.result.findings", json!([])),
            ("$count($applied.installed)", json!(1)),
        ] {
            assert_eq!(evaluate(text, &variables).unwrap(), expected, "{text}");
        }
    }
}
