//! What Pulumi answers, read: previews, what is in a stack, outputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use supervisor::activity::Failure;

use super::super::{Change, Outputs};

/// What stands in a preview for a value that is known when its resource is made.
const UNKNOWN: &str = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
/// The longest value that is shown, in characters: a person reads it.
const SHOWN_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Digest {
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    op: String,
    urn: String,
    #[serde(default)]
    old_state: Option<Resource>,
    #[serde(default)]
    new_state: Option<Resource>,
    #[serde(default)]
    diff_reasons: Option<Vec<String>>,
    #[serde(default)]
    detailed_diff: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    urn: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Export {
    #[serde(default)]
    deployment: Option<Deployment>,
}

#[derive(Deserialize)]
struct Deployment {
    #[serde(default)]
    resources: Option<Vec<Resource>>,
}

fn parsed<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = format!("pulumi {what} answers what cannot be read: {error}; is it version 3?");
        Failure::named("ProvisioningFailed", why)
    })
}

/// The changes that `pulumi preview --json` shows.
pub fn preview(bytes: &[u8]) -> Result<Vec<Change>, Failure> {
    let digest: Digest = parsed("preview", bytes)?;
    let mut changes = Vec::new();
    for step in &digest.steps {
        let Some(name) = resource(&step.urn) else { continue };
        match step.op.as_str() {
            // Read, kept, looked at again: nothing changes.
            "same" | "read" | "refresh" | "read-replacement" | "discard" => {}
            // Both halves of a replacement; the replacement says it all.
            "create-replacement" | "delete-replaced" | "discard-replaced" | "remove-pending-replace" => {}
            "create" | "import" => changes.push(Change { resource: name, from: None, to: Some(made(step)) }),
            "delete" => changes.push(Change { resource: name, from: Some(there(&step.old_state)), to: None }),
            "replace" | "import-replacement" => {
                let (from, to) = (Some(there(&step.old_state)), Some(format!("another one ({})", made(step))));
                changes.push(Change { resource: name, from, to });
            }
            "update" => changes.extend(updated(step, &name)),
            other => {
                let why = format!("pulumi preview wants to {other:?} {name}, which is not known; is it version 3?");
                return Err(Failure::named("ProvisioningFailed", why));
            }
        }
    }
    Ok(changes)
}

fn updated(step: &Step, name: &str) -> Vec<Change> {
    let detailed = step.detailed_diff.iter().flat_map(BTreeMap::keys);
    let keys: BTreeSet<&String> = detailed.chain(step.diff_reasons.iter().flatten()).collect();
    if keys.is_empty() {
        let (from, to) = (Some(there(&step.old_state)), Some(made(step)));
        return vec![Change { resource: name.to_owned(), from, to }];
    }
    let of = |state: &Option<Resource>, key: &str| {
        // A path leads into a value; the value as a whole is what can be looked up.
        let top = key.split(['.', '[']).next().unwrap_or(key);
        state.as_ref().and_then(|state| state.inputs.get(key).or_else(|| state.inputs.get(top))).map(shown)
    };
    let change = |key: &String| Change {
        resource: format!("{name}.{key}"),
        from: of(&step.old_state, key),
        to: of(&step.new_state, key),
    };
    keys.into_iter().map(change).collect()
}

/// What is taken away when the stack of `pulumi stack export` is.
pub fn there_now(bytes: &[u8]) -> Result<Vec<Change>, Failure> {
    let export: Export = parsed("stack export", bytes)?;
    let resources = export.deployment.and_then(|deployment| deployment.resources).unwrap_or_default();
    let gone = |one: Resource| Some(Change { resource: resource(&one.urn)?, from: Some(id(&one)), to: None });
    Ok(resources.into_iter().filter_map(gone).collect())
}

/// The outputs that `pulumi stack output --json` tells. Secrets among them are `[secret]`.
pub fn outputs(bytes: &[u8]) -> Result<Outputs, Failure> {
    let told: BTreeMap<String, Value> = parsed("stack output", bytes)?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(told.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// The type and name of a resource: none for the stack itself and for providers, which stand for
/// nothing outside.
fn resource(urn: &str) -> Option<String> {
    let mut parts = urn.strip_prefix("urn:pulumi:")?.splitn(4, "::");
    let (kinds, name) = (parts.nth(2)?, parts.next()?);
    let kind = kinds.rsplit('$').next().unwrap_or(kinds);
    let within = kind == "pulumi:pulumi:Stack" || kind.starts_with("pulumi:providers:");
    (!within).then(|| format!("{kind} {name}"))
}

fn made(step: &Step) -> String {
    let inputs = step.new_state.as_ref().map(|state| shown(&serde_json::json!(state.inputs))).unwrap_or_default();
    if inputs.is_empty() || inputs == "{}" { "new".to_owned() } else { inputs }
}

fn there(state: &Option<Resource>) -> String {
    state.as_ref().map_or_else(|| "there".to_owned(), id)
}

fn id(resource: &Resource) -> String {
    resource.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| "there".to_owned())
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = text.replace(UNKNOWN, "(known when it is made)");
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
