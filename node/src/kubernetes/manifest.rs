//! What is applied, as Kubernetes wants to read it. Only what we decide stands in it: what is left
//! out is somebody else's, and server-side apply leaves it alone.

use std::collections::BTreeMap;

use actors::runtime::compute::set::PROGRAM;
use actors::runtime::compute::{Route, Set, SetId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::made::Made;
use super::names;

/// How often a replica that is not ready is tried, in seconds; Kubernetes counts no less.
const PROBE_SECONDS: u32 = 1;

/// What marks an object of `service`.
fn labels(environment: &str, service: &str) -> Value {
    json!({ names::MANAGED_BY: names::MANAGER, names::ENVIRONMENT: environment, names::SERVICE: service })
}

fn labels_of(id: &SetId) -> Value {
    let mut labels = labels(&id.environment, &id.service);
    labels[names::REVISION] = id.revision.clone().into();
    labels
}

/// The digest of a set's variables: whether they are the same is seen without reading them.
pub fn variables_digest(set: &Set) -> String {
    let mut all = Sha256::new();
    for (name, value) in &set.configuration.variables.0 {
        for text in [name, value] {
            all.update((text.len() as u64).to_be_bytes());
            all.update(text);
        }
    }
    hex::encode(all.finalize())
}

/// The variables of a set, whose `secrets` have been read. Nobody changes them any more.
pub fn secret(set: &Set, secrets: &BTreeMap<String, Vec<u8>>) -> Value {
    let plain = set.configuration.variables.0.iter().map(|(name, value)| (name, value.as_bytes()));
    let secret = secrets.iter().map(|(name, value)| (name, value.as_slice()));
    let data: BTreeMap<_, _> = plain.chain(secret).map(|(name, value)| (name, STANDARD.encode(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
        "metadata": {
            "name": names::of(&set.id), "labels": labels_of(&set.id),
            "annotations": { names::VARIABLES: variables_digest(set) },
        },
        "data": data,
    })
}

/// A Deployment of `replicas`, on the way to `wanted`.
pub fn deployment(made: &Made, replicas: u32, wanted: u32, removing: bool) -> Value {
    let id = &made.set.id;
    let mut annotations = json!({
        names::MADE: serde_json::to_string(made).unwrap_or_default(), names::WANTED: wanted.to_string(),
    });
    if removing {
        annotations[names::REMOVING] = "true".into();
    }
    let pods = json!({
        names::DIGEST: made.set.digest, names::CONFIG_VERSION: made.set.configuration.version,
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": names::of(id), "labels": labels_of(id), "annotations": annotations },
        "spec": {
            "replicas": replicas,
            // A revision is never rolled; there is nothing to go back to in here.
            "revisionHistoryLimit": 0,
            "selector": { "matchLabels": labels_of(id) },
            "template": {
                "metadata": { "labels": labels_of(id), "annotations": pods },
                "spec": {
                    // Nothing reaches a process but what its set says.
                    "enableServiceLinks": false,
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": made.stop_seconds,
                    "containers": [container(made)],
                },
            },
        },
    })
}

fn container(made: &Made) -> Value {
    let set = &made.set;
    let mut container = json!({
        "name": names::CONTAINER, "image": made.image, "env": variables(made),
        "ports": ports(made),
        "readinessProbe": { "tcpSocket": { "port": "http" }, "periodSeconds": PROBE_SECONDS },
    });
    // An image knows its own program.
    if set.command != PROGRAM {
        container["command"] = json!([literal(&set.command)]);
    }
    if !set.args.is_empty() {
        container["args"] = set.args.iter().map(|text| literal(text)).collect();
    }
    let mut limits = serde_json::Map::new();
    if let Some(bytes) = set.limits.memory_bytes {
        limits.insert("memory".into(), bytes.to_string().into());
    }
    if let Some(millis) = set.limits.cpu_millis {
        limits.insert("cpu".into(), format!("{millis}m").into());
    }
    if !limits.is_empty() {
        container["resources"] = json!({ "limits": limits });
    }
    container
}

fn ports(made: &Made) -> Vec<Value> {
    let port = |number: u16| json!({ "containerPort": number, "protocol": "TCP" });
    let mut first = port(made.port);
    first["name"] = "http".into();
    std::iter::once(first).chain(made.ports().into_values().map(port)).collect()
}

fn variables(made: &Made) -> Vec<Value> {
    let set = &made.set;
    let plain = |name: &str, value: &str| json!({ "name": name, "value": literal(value) });
    let mut all = vec![
        plain("PORT", &made.port.to_string()),
        plain("SKALD_ENVIRONMENT", &set.id.environment),
        plain("SKALD_SERVICE", &set.id.service),
        plain("SKALD_REVISION", &set.id.revision),
    ];
    for (name, port) in made.ports() {
        all.push(plain(&format!("PORT_{}", name.to_ascii_uppercase().replace('-', "_")), &port.to_string()));
    }
    let secret = names::of(&set.id);
    for name in set.configuration.variables.0.keys().chain(set.secrets.keys()) {
        all.push(json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": name } } }));
    }
    all
}

/// `text` as it arrives: Kubernetes replaces `$(NAME)` in arguments and variables, and `$$` is `$`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The name under which `service` is reached inside the cluster: it leads to the revision with the
/// largest share. The gateway alone divides requests by weight.
pub fn service(environment: &str, service: &str, routes: &[Route]) -> Value {
    let mut selector = labels(environment, service);
    let largest = routes.iter().rev().max_by_key(|route| route.weight);
    selector[names::REVISION] = largest.map(|route| route.revision.clone()).unwrap_or_default().into();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": service, "labels": labels(environment, service),
            "annotations": { names::ROUTES: serde_json::to_string(routes).unwrap_or_default() },
        },
        "spec": {
            "selector": selector,
            "ports": [{ "name": "http", "port": 80, "targetPort": "http", "protocol": "TCP" }],
        },
    })
}
