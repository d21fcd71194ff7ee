//! What may be asked of a deployment, held before its saga begins: what it cannot read it cannot take back either.

use serde_json::Value;

use super::claim::Input;
use crate::runtime::model::service::REPLICAS_MAX;
use crate::runtime::model::{Fault, fault};

/// Every field of the saga's input.
const FIELDS: [&str; 23] = [
    "approvedBy",
    "artifact",
    "command",
    "configuration",
    "configurationAt",
    "environment",
    "kind",
    "kinds",
    "limits",
    "of",
    "ports",
    "probe",
    "probes",
    "progressDeadlineMs",
    "projectId",
    "replicas",
    "secrets",
    "service",
    "source",
    "strategy",
    "target",
    "version",
    "why",
];

/// What to do about what cannot be read.
const MEND: &str = "let `skald deploy` write it; a strategy is {\"name\": \"RollingHealthGated\", \"maxSurge\": …, \"maxUnavailable\": …}, \
                    {\"name\": \"Canary\", \"steps\": […]} or {\"name\": \"BlueGreen\"}, and numbers are numbers";

/// Whether `input` can be carried out as far as its form goes: no field that nobody reads, no value that cannot be
/// read, no size beyond its bound.
pub fn check(input: &Value) -> Result<(), Fault> {
    let Some(given) = input.as_object() else {
        return Err(Fault::new("input", "it is no object", "send one with environment, service and artifact"));
    };
    if let Some(unknown) = given.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        let mend = format!("leave it out; the fields are {}", FIELDS.join(", "));
        return Err(Fault::new(unknown, "a deployment has no such field", mend));
    }
    let read: Input =
        serde_json::from_value(input.clone()).map_err(|error| Fault::new("input", error.to_string(), MEND))?;
    if let Ok(kept) = serde_json::to_value(&read)
        && let Some(path) = lost(input, &kept, "")
    {
        return Err(Fault::new(path, "nobody reads it", "leave it out, or look how it is spelt"));
    }
    fault::between("replicas", read.wanted.replicas.unwrap_or_default(), 0, REPLICAS_MAX)?;
    read.wanted.workload.check()
}

/// The first field that was given within another and was not kept. One that says nothing need not be.
fn lost(given: &Value, kept: &Value, path: &str) -> Option<String> {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    };
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match kept.get(name) {
                Some(kept) => lost(value, kept, &path),
                // The topmost are held to their list.
                None => (path.contains('.') && says(value)).then_some(path),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => {
            let mut pairs = given.iter().zip(kept).enumerate();
            pairs.find_map(|(number, (given, kept))| lost(given, kept, &format!("{path}[{number}]")))
        }
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(more: Value) -> Value {
        let mut input = json!({
            "environment": "dev", "service": "web", "artifact": format!("sha256:{}", "1".repeat(64)), "replicas": 2,
        });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    }

    #[test]
    fn what_nobody_reads_is_refused_by_name() {
        let step = |step: Value| json!({ "strategy": { "name": "Canary", "steps": [step] } });
        let analysis = |more: Value| {
            let mut analysis = json!({ "count": 3, "success": [] });
            analysis.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            step(json!({ "type": "analysis", "analysis": analysis }))
        };
        let bad = json!([{ "figure": "failurePercent", "is": "atMost", "bound": 5.0 }]);
        for (more, field) in [
            (json!({ "replica": 2 }), "replica"),
            (json!({ "Replicas": 2 }), "Replicas"),
            (json!({ "probe": { "path": "/", "timeout": 5 } }), "input"),
            (json!({ "limits": { "memory": 5 } }), "limits.memory"),
            (step(json!({ "type": "weight", "percent": 5, "share": 5 })), "strategy.steps[0].share"),
            (analysis(json!({ "success": bad, "interval": 5 })), "strategy.steps[0].analysis.interval"),
            (json!({ "replicas": "two" }), "input"),
            (json!({ "replicas": 1_000_000 }), "replicas"),
            (json!({ "progressDeadlineMs": 1 }), "progressDeadlineMs"),
        ] {
            assert_eq!(check(&with(more.clone())).unwrap_err().field, field, "{more}");
        }
        assert_eq!(check(&json!([])).unwrap_err().field, "input");
    }

    #[test]
    fn what_is_read_is_let_in() {
        let all = json!({
            "kind": "deploy", "version": "v1", "command": ["./web"], "ports": ["admin"], "why": "it is time",
            "limits": { "memoryBytes": 1_000_000 }, "probe": { "path": "/", "timeoutMs": 5 }, "probes": [],
            "strategy": { "name": "BlueGreen", "scaleDownDelayMs": 5 }, "target": "eventDriven", "secrets": { "db": 0 },
            "configuration": { "A": "1" }, "projectId": "shop", "source": "sync", "of": null,
        });
        assert_eq!(check(&with(all)), Ok(()));
        assert_eq!(check(&json!({ "environment": "dev", "service": "web", "kind": "restore" })), Ok(()));
    }

    /// The list is that of the input and of the definition.
    #[test]
    fn every_field_is_in_the_list() {
        let read: Input = serde_json::from_value(with(json!({
            "kinds": ["image"], "approvedBy": "ann", "probe": { "path": "/" }, "target": "eventDriven",
            "probes": [{ "kind": "readiness", "probe": { "type": "tcp", "port": 80 } }],
            "configurationAt": { "configurationId": "web", "version": 1 },
        })))
        .unwrap();
        let kept = serde_json::to_value(read).unwrap();
        let mut fields: Vec<&str> = kept.as_object().unwrap().keys().map(String::as_str).collect();
        fields.push("projectId");
        fields.sort_unstable();
        assert_eq!(fields, FIELDS);
    }
}
