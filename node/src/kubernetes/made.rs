//! What a Deployment was made of, kept on it: enough to make exactly the same again, without any
//! value of a variable.

use std::collections::BTreeMap;

use actors::runtime::compute::Set;
use k8s_openapi::api::apps::v1::Deployment;
use serde::{Deserialize, Serialize};

use super::names;
use super::settings::{PORT, Settings};

/// What a Deployment was made of. Settings may change; a revision does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// The set; its variables have no values, and its replicas stand elsewhere.
    pub set: Set,
    /// The image.
    pub image: String,
    /// The first port.
    pub port: u16,
    /// The grace period of its pods, in seconds.
    pub stop_seconds: u64,
}

impl Made {
    /// What `set` is made of with these settings.
    pub fn new(set: &Set, settings: &Settings) -> Self {
        let image = settings.image_of(set);
        // Kubernetes counts whole seconds, and takes 0 for "kill it at once".
        let stop_seconds = settings.stop_time.as_secs().max(1);
        Self { set: blank(set), image, port: PORT, stop_seconds }
    }

    /// Whether `set` is the same revision, as far as can be told without the values of variables.
    pub fn is(&self, set: &Set) -> bool {
        self.set.same_revision(&blank(set))
    }

    /// The ports by name, `PORT` not among them.
    pub fn ports(&self) -> BTreeMap<String, u16> {
        self.set.ports.iter().cloned().zip(self.port + 1..).collect()
    }
}

fn blank(set: &Set) -> Set {
    // Whose it is stands in the arbiter's record; a Deployment of an earlier release does not say.
    let mut blank = Set { replicas: 0, tenant: String::new(), ..set.clone() };
    blank.configuration.variables.0.values_mut().for_each(String::clear);
    blank
}

/// A Deployment of ours, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it was made of.
    pub made: Made,
    /// How many replicas should be there.
    pub wanted: u32,
    /// How many Kubernetes keeps there.
    pub replicas: u32,
    /// Whether `replicas` is ours to say.
    pub ours: bool,
    /// Whether it is on its way out.
    pub removing: bool,
    /// Whether Kubernetes has begun to delete it.
    pub deleting: bool,
    /// Whether as many pods as `replicas` are there, and no more.
    pub settled: bool,
}

impl Kept {
    /// `None`: it carries our label, and we did not make it.
    pub fn read(deployment: &Deployment) -> Option<Self> {
        let annotations = deployment.metadata.annotations.as_ref()?;
        let made: Made = serde_json::from_str(annotations.get(names::MADE)?).ok()?;
        if deployment.metadata.name.as_deref() != Some(&names::of(&made.set.id)) {
            // Somebody copied it: the copy is not what we applied.
            return None;
        }
        let spec = deployment.spec.as_ref()?;
        let replicas = count(spec.replicas.unwrap_or(1));
        let ours = owns_replicas(deployment);
        let said = annotations.get(names::WANTED).and_then(|wanted| wanted.parse().ok());
        let status = deployment.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation) == deployment.metadata.generation;
        let there = status.and_then(|status| status.replicas).unwrap_or(0);
        Some(Self {
            made,
            // Who else scales it says how many; we only say what we see.
            wanted: said.filter(|_| ours).unwrap_or(replicas),
            replicas,
            ours,
            removing: annotations.contains_key(names::REMOVING),
            deleting: deployment.metadata.deletion_timestamp.is_some(),
            settled: observed && count(there) == replicas,
        })
    }
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Whether the number of replicas is what we applied.
fn owns_replicas(deployment: &Deployment) -> bool {
    deployment.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(names::MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.fields_v1.as_ref().is_some_and(|fields| !fields.0["f:spec"]["f:replicas"].is_null())
    })
}
