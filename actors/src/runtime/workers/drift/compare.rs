//! The comparison itself: two worlds in, differences out.

use std::collections::{BTreeMap, BTreeSet};

use protocol::text::identity;
use sha2::{Digest as _, Sha256};

use crate::runtime::model::configuration::sha256;
use crate::runtime::model::finding::VALUE_MAX_BYTES;
use crate::runtime::model::{DriftKind, EnvironmentId, FindingHash, ObservedService, ServiceId, ServiceSpec};
use crate::runtime::workers::drift::decide::Known;

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    pub service: ServiceId,
    pub kind: DriftKind,
    pub field: String,
    pub desired: String,
    pub observed: String,
}

/// What differs, in the order of the services' names.
pub(super) fn compare(
    desired: &[ServiceSpec],
    observed: &[ObservedService],
    known: &BTreeMap<ServiceId, Known>,
) -> Vec<Difference> {
    let wanted: BTreeMap<&ServiceId, &ServiceSpec> = desired.iter().map(|spec| (&spec.service_id, spec)).collect();
    let there: BTreeMap<&ServiceId, &ObservedService> =
        observed.iter().map(|service| (&service.service_id, service)).collect();
    let names: BTreeSet<&ServiceId> = wanted.keys().chain(there.keys()).copied().collect();
    let nothing = Known::default();
    let mut differences = Vec::new();
    for name in names {
        let known = known.get(name).unwrap_or(&nothing);
        match (wanted.get(name), there.get(name)) {
            (Some(spec), Some(seen)) => fields(spec, seen, known, &mut differences),
            // H01: what was rolled back and had nothing before it is missing on purpose.
            (Some(spec), None) if known.holds(spec) => {
                differences.push(difference(name, DriftKind::Held, "", &spec.image, "nothing"));
            }
            (Some(spec), None) => differences.push(difference(name, DriftKind::Missing, "", &spec.image, "nothing")),
            (None, Some(seen)) => {
                differences.push(difference(name, DriftKind::Unmanaged, "", &"nothing", &seen.image.to_string()));
            }
            (None, None) => {}
        }
    }
    differences
}

fn fields(spec: &ServiceSpec, seen: &ObservedService, known: &Known, differences: &mut Vec<Difference>) {
    let name = &spec.service_id;
    let mut add = |kind, field: &str, desired: &dyn std::fmt::Display, observed: &str| {
        differences.push(difference(name, kind, field, desired, observed));
    };
    let none = || "none".to_owned();
    // H01.
    if known.holds(spec) {
        if spec.image != seen.image || spec.configuration != seen.configuration {
            add(DriftKind::Held, "", &spec.image, seen.image.as_str());
        }
        return;
    }
    if spec.image != seen.image {
        add(DriftKind::Image, "", &spec.image, seen.image.as_str());
    }
    // H02: within its bounds the policy's count is right, whatever desired state says.
    let right = known.governed.map_or(spec.replicas == seen.replicas, |range| range.holds(seen.replicas));
    if !right {
        let wanted = known.governed.map_or(spec.replicas, |range| range.nearest(seen.replicas));
        add(DriftKind::Replicas, "", &wanted, &seen.replicas.to_string());
    }
    if spec.configuration != seen.configuration {
        let text =
            |at: &Option<crate::runtime::model::ConfigurationRef>| at.as_ref().map_or_else(none, ToString::to_string);
        add(DriftKind::Configuration, "", &text(&spec.configuration), &text(&seen.configuration));
    }
    for (binding, version) in &spec.secrets {
        match seen.secrets.get(binding) {
            // Version 0: whichever is current; the rotation sees to that.
            Some(runs) if *version == 0 || runs == version => {}
            Some(runs) => add(DriftKind::Secret, binding.as_str(), version, &runs.to_string()),
            None => add(DriftKind::Secret, binding.as_str(), version, "none"),
        }
    }
    for (binding, runs) in seen.secrets.iter().filter(|(binding, _)| !spec.secrets.contains_key(*binding)) {
        add(DriftKind::Secret, binding.as_str(), &"none", &runs.to_string());
    }
}

fn difference(
    service: &ServiceId,
    kind: DriftKind,
    field: &str,
    desired: &dyn std::fmt::Display,
    observed: &str,
) -> Difference {
    // What is wanted tells findings apart, so two that begin alike must not become one.
    let kept = |text: &str| identity(text, VALUE_MAX_BYTES).into_owned();
    Difference {
        service: service.clone(),
        kind,
        field: field.to_owned(),
        desired: kept(&desired.to_string()),
        observed: kept(observed),
    }
}

/// What a finding is about (W036): where, what, and what is wanted. What is seen instead is left
/// out: a value that wavers is one drift, not one a minute.
pub(super) fn hash(environment: &EnvironmentId, difference: &Difference) -> FindingHash {
    let mut hash = Sha256::new();
    let kind = format!("{:?}", difference.kind);
    for part in [environment.as_str(), difference.service.as_str(), &kind, &difference.field, &difference.desired] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    sha256(hash)
}
