//! The States Language, state by state, and what its checker says.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::common::*;
use protocol::Value;
use serde::Deserialize;
use serde_json::json;
use supervisor::machine::definition::Faults;
use supervisor::machine::{Definition, FactKind};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    story: String,
    definition: Value,
    input: Value,
    #[serde(default)]
    answers: VecDeque<Value>,
    #[serde(default)]
    output: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

#[test]
fn every_state_does_what_the_language_says() {
    let text = std::fs::read_to_string(testdata("asl_states.yaml")).unwrap();
    let stories: Vec<Story> = serde_saphyr::from_str(&text).unwrap();
    assert!(stories.len() > 40);
    let mut wrong = Vec::new();
    for mut story in stories {
        let parsed = Definition::parse_named(&story.definition.to_string(), "story", "test");
        let definition = match parsed {
            Ok((definition, _)) => Arc::new(definition),
            Err(faults) => {
                wrong.push(format!("{}: {faults}", story.story));
                continue;
            }
        };
        let mut world = World::new(&definition);
        let fact = start(&definition, story.input.clone());
        world.fact(fact);
        while !world.driver.execution().is_final() {
            if world.turns > 0 {
                world.go_on();
            } else if !world.running.is_empty() {
                let call = world.running.remove(0);
                let attempt = call.attempt;
                match story.answers.pop_front().unwrap_or(call.arguments) {
                    Value::Object(answer) if answer.contains_key("fail") => {
                        let error = error(answer["fail"].as_str().unwrap(), false);
                        world.fact(FactKind::StepFailed { attempt, error });
                    }
                    output => drop(world.fact(FactKind::StepSucceeded { attempt, output })),
                }
            } else {
                world.ring();
            }
        }
        world.check_replay();
        let outcome = world.driver.execution().outcome().unwrap();
        if (&outcome.output, &outcome.error) != (&story.output, &story.error) {
            wrong.push(format!("{}: {outcome:?}", story.story));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn faults(source: &str) -> Faults {
    match Definition::parse(source, "f.yaml") {
        Ok(_) => panic!("there must be faults"),
        Err(faults) => faults,
    }
}

#[test]
fn every_fault_is_told_at_once_with_its_place_and_its_mend() {
    let mut page = String::new();
    let text = std::fs::read_to_string(testdata("faulty_definitions.txt")).unwrap();
    for source in text.split("\n====\n") {
        let source = source.split("\n----\n").next().unwrap().trim_end();
        let shown = match Definition::parse(source, "f.yaml") {
            Err(faults) => faults.to_string(),
            Ok((_, warnings)) => {
                format!("fine\n{}", warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        };
        if !page.is_empty() {
            page.push_str("\n====\n");
        }
        page.push_str(&format!("{source}\n----\n{}", shown.trim_end()));
    }
    page.push('\n');
    golden("faulty_definitions.txt", &page);
}

#[test]
fn limits_have_an_answer() {
    let large = format!("name: x\ndescription: \"{}\"\n", "x".repeat(1_100_000));
    assert!(faults(&large).to_string().contains("the limit is 1048576"));
    let mut states = serde_json::Map::new();
    for n in 0..1_002 {
        states.insert(format!("S{n}"), json!({ "Type": "Pass", "Next": format!("S{}", n + 1) }));
    }
    let many = json!({ "name": "x", "definition": { "StartAt": "S0", "States": states } }).to_string();
    assert!(faults(&many).to_string().contains("more than 1000 states"));
    let mut inner = json!({ "StartAt": "L0", "States": { "L0": { "Type": "Succeed" } } });
    for n in 1..20 {
        let name = format!("L{n}");
        inner =
            json!({ "StartAt": name, "States": { name: { "Type": "Parallel", "Branches": [inner], "End": true } } });
    }
    let deep = json!({ "name": "x", "definition": inner }).to_string();
    assert!(faults(&deep).to_string().contains("deeper than 16"));
}

#[test]
fn a_definition_tells_what_it_uses_and_can_be_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    let source = "name: uses\ndefinition:\n  StartAt: A\n  States:\n    A: { Type: Task, Resource: 'activity:do', Compensate: { Resource: 'activity:undo' }, Next: B }\n    B: { Type: Task, Resource: 'signal:go', End: true }\n";
    let (definition, warnings) = Definition::parse(source, "uses.yaml").unwrap();
    shared(&definition);
    assert!(warnings.is_empty());
    assert_eq!(definition.activities().into_iter().collect::<Vec<_>>(), ["do", "undo"]);
    assert_eq!(definition.signals().iter().collect::<Vec<_>>(), ["go"]);
    assert_eq!(definition.digest().len(), 16);
    assert_eq!(definition.with_version(3).reference().to_string(), "uses v3");
}

/// The installation's picture, edge for edge (M088-M100).
#[test]
fn a_picture_can_equal_the_one_its_domain_draws() {
    let source = r#"
name: installation
hidden: [Compatible, Tell, TellRolledBack]
labels:
  "Requested -> Evaluating": compatibility check
  "Resolving -> LicenseCheck": graph resolved
  "LicenseCheck -> Applying": license granted
  "Applying -> Installed": applied successfully
definition:
  StartAt: Requested
  States:
    Requested: { Type: Task, Resource: "event:InstallationRequested", Next: Evaluating }
    Evaluating: { Type: Task, Resource: "activity:evaluate", Compensate: none, Next: Compatible }
    Compatible:
      Type: Choice
      Choices: [{ Condition: "{% $states.input.compatible %}", Next: Resolving, Comment: compatible }, { Condition: "{% true %}", Next: Tell, Comment: incompatible }]
    Resolving: { Type: Task, Resource: "activity:resolve", Compensate: none, Catch: [{ ErrorEquals: [DependencyConflict], Next: Tell, Comment: dependency conflict }], Next: LicenseCheck }
    LicenseCheck:
      Type: Task
      Resource: activity:license.grant
      Compensate: { Resource: activity:license.release }
      Catch: [{ ErrorEquals: [States.ALL], Next: Tell, Comment: license denied }]
      Next: Applying
    Applying:
      Type: Task
      Resource: activity:apply
      Compensate: { Resource: activity:rollback }
      Catch: [{ ErrorEquals: [States.ALL], Next: TellRolledBack, Comment: apply error }]
      Next: Installed
    Tell: { Type: Task, Resource: "event:AssetInstallationFailed", Next: Failed }
    TellRolledBack: { Type: Compensate, Next: RolledBack }
    Installed: { Type: Succeed }
    Failed: { Type: Fail, Error: InstallationFailed }
    RolledBack: { Type: Fail, Error: InstallationFailed }
"#;
    let drawn = supervisor::machine::render(&define(source));
    let expected = "[*] --> Requested; Requested --> Evaluating : compatibility check; Evaluating --> Failed : incompatible; \
        Evaluating --> Resolving : compatible; Resolving --> Failed : dependency conflict; \
        Resolving --> LicenseCheck : graph resolved; LicenseCheck --> Failed : license denied; \
        LicenseCheck --> Applying : license granted; Applying --> Installed : applied successfully; \
        Applying --> RolledBack : apply error; Failed --> [*]; RolledBack --> [*]; Installed --> [*]";
    let edges = |text: &str, between: char| {
        text.split(between)
            .map(|edge| edge.trim().to_owned())
            .filter(|edge| edge.contains("-->"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(edges(&drawn, '\n'), edges(expected, ';'));
}
