//! One file, understood whole or refused with the line of every fault.

use serde_json::{Map, Value};
use supervisor::machine::definition::Faults;
use supervisor::machine::definition::source::{self, At, Data, Node};

use crate::runtime::model::{EnvironmentId, Fault, ServiceId, ServiceSpec};

/// Reads the file `name`, which should be about `service` in `environment`. A refusal has a line
/// of text for each fault: file, line, field, fault and mend.
pub fn read(
    name: &str,
    text: &str,
    environment: &EnvironmentId,
    service: &ServiceId,
) -> Result<ServiceSpec, Vec<String>> {
    let mut faults = Faults::new(name);
    let root = match source::read(text, &mut faults) {
        Some(root) if faults.is_empty() => root,
        Some(_) | None => {
            return Err(faults
                .faults
                .iter()
                .map(|fault| format!("{name}:{}: {}; {}", fault.line, fault.what, fault.mend))
                .collect());
        }
    };
    let said = |fault: Fault| format!("{name}:{}: {fault}", line(&root, &fault.field));
    let spec: ServiceSpec = serde_path_to_error::deserialize(root.value()).map_err(|error| {
        let path = error.path().to_string();
        let mend = "write it as the description of a service says";
        vec![said(Fault::new(path, error.into_inner().to_string(), mend))]
    })?;
    let mut found: Vec<Fault> = unread(&root, &spec);
    if spec.service_id != *service {
        let fault = format!("it is {}, in a file for {service}", spec.service_id);
        found.push(Fault::new("serviceId", fault, "let the file have the name of its service"));
    }
    if spec.environment_id != *environment {
        let fault = format!("it is {}, in the directory of {environment}", spec.environment_id);
        found.push(Fault::new("environmentId", fault, "put the file into the directory of its environment"));
    }
    found.extend(spec.check().err());
    if found.is_empty() { Ok(spec) } else { Err(found.into_iter().map(said).collect()) }
}

/// The line at which `field` stands, or else what holds it.
fn line(root: &Node, field: &str) -> u32 {
    let (mut node, mut at) = (root, root.at);
    for part in field.split(['.', '[']) {
        let next = match &node.data {
            Data::Map(fields) => fields.iter().find(|(key, _)| key.text == part).map(|(key, node)| (key.at, node)),
            Data::List(items) => {
                part.trim_end_matches(']').parse().ok().and_then(|at: usize| items.get(at)).map(|node| (node.at, node))
            }
            Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) => None,
        };
        match next {
            Some((key, inner)) => (at, node) = (key, inner),
            None => break,
        }
    }
    let At { line, column: _ } = at;
    line
}

/// The fields that were written and that nothing reads: a misspelt one would be taken for absent.
///
/// What the model writes back is compared with what was written. A field that it does not write
/// back is either unknown or at its default; which of the two, the model tells itself: it minds a
/// nonsensical value only in a field that it reads.
fn unread(root: &Node, spec: &ServiceSpec) -> Vec<Fault> {
    let Ok(whole) = serde_json::to_value(spec) else { return Vec::new() };
    let mut found = Vec::new();
    compare(root, &whole, &mut Vec::new(), &whole, &mut found);
    found
}

/// A step from a value to one inside it.
#[derive(Clone)]
enum Step {
    Key(String),
    Item(usize),
}

fn compare(written: &Node, read: &Value, path: &mut Vec<Step>, whole: &Value, found: &mut Vec<Fault>) {
    match (&written.data, read) {
        (Data::Map(fields), Value::Object(known)) => {
            for (key, node) in fields {
                path.push(Step::Key(key.text.clone()));
                match known.get(&key.text) {
                    Some(read) => compare(node, read, path, whole, found),
                    None if is_read(whole, path) => {}
                    None => {
                        let mend = "remove it, or spell it as the field that was meant";
                        found.push(Fault::new(shown(path), "there is no such field", mend));
                    }
                }
                path.pop();
            }
        }
        (Data::List(items), Value::Array(known)) => {
            for (at, (node, read)) in items.iter().zip(known).enumerate() {
                path.push(Step::Item(at));
                compare(node, read, path, whole, found);
                path.pop();
            }
        }
        // A single value, or one that may be written in two ways: there is no field in it.
        (Data::Map(_) | Data::List(_) | Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_), _) => {}
    }
}

/// Whether the model reads the field at `path`, which it did not write into `whole`.
fn is_read(whole: &Value, path: &[Step]) -> bool {
    let mut changed = whole.clone();
    let Some((Step::Key(key), above)) = path.split_last() else { return true };
    match inside(&mut changed, above) {
        Some(object) => object.insert(key.clone(), Value::Bool(true)),
        None => return true,
    };
    match serde_json::from_value::<ServiceSpec>(changed).map(serde_json::to_value) {
        Ok(Ok(mut again)) => inside(&mut again, above).is_some_and(|object| object.contains_key(key)),
        Ok(Err(_)) | Err(_) => true,
    }
}

fn inside<'v>(value: &'v mut Value, path: &[Step]) -> Option<&'v mut Map<String, Value>> {
    path.iter()
        .try_fold(value, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Item(at) => value.get_mut(at),
        })?
        .as_object_mut()
}

fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
            Step::Item(at) => text.push_str(&format!("[{at}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
serviceId: orders
tenantId: acme
environmentId: prod
image: sha256:0000000000000000000000000000000000000000000000000000000000000001
version: 1.4.2
replicas: 3
target: continuous
";

    fn faults(text: &str) -> String {
        let (prod, orders) = (EnvironmentId::new("prod").unwrap(), ServiceId::new("orders").unwrap());
        match read("orders.yaml", text, &prod, &orders) {
            Ok(spec) => format!("{} replicas", spec.replicas),
            Err(faults) => faults.join("\n"),
        }
    }

    #[test]
    fn a_fault_has_its_line_and_its_mend() {
        assert_eq!(faults(GOOD), "3 replicas");
        for (change, to, said) in [
            ("replicas: 3", "replicas: 20000", "orders.yaml:6: replicas: it is 20000; use 0 to 200"),
            ("replicas: 3", "replicas: many", "orders.yaml:6: replicas: invalid type: string \"many\", expected u32"),
            ("serviceId: orders", "serviceId: bills", "orders.yaml:1: serviceId: it is bills, in a file for orders"),
            (
                "environmentId: prod",
                "environmentId: test",
                "orders.yaml:3: environmentId: it is test, in the directory",
            ),
            ("version: 1.4.2\n", "", "orders.yaml:1: .: missing field `version`"),
            ("replicas: 3", "replicas: [", "orders.yaml:6: this is not readable YAML"),
            ("replicas: 3", "replicas: 3\nreplicas: 4", "orders.yaml:7: \"replicas\" stands here a second time"),
            ("version: 1.4.2", "version: ''", "orders.yaml:5: version: it is empty; give it a value"),
        ] {
            let found = faults(&GOOD.replace(change, to));
            assert!(found.starts_with(said), "{to}: {found}");
        }
    }

    #[test]
    fn a_misspelt_field_is_refused_wherever_it_stands() {
        let text = format!(
            "{GOOD}comand: []
command: []
configuration: null
probes:
  - kind: readiness
    probe: {{ type: http, port: 8080, path: /ready, hots: x }}
    timeotMs: 500
strategy:
  name: Canary
  steps:
    - {{ type: weight, percent: 10, precent: 20 }}
    - {{ type: pause, durationMs: null }}
"
        );
        let unknown = "there is no such field; remove it, or spell it as the field that was meant";
        let expected = [
            (8, "comand"),
            (13, "probes[0].probe.hots"),
            (14, "probes[0].timeotMs"),
            (18, "strategy.steps[0].precent"),
        ]
        .map(|(line, field)| format!("orders.yaml:{line}: {field}: {unknown}"));
        assert_eq!(faults(&text), expected.join("\n"));
    }
}
