//! What differs between what is wanted and what is there, and what may be done about it (R060–R076).
//!
//! Pure comparison: desired state and inventory come in, findings that changed and corrections to
//! ask for come out. A finding is not an order: the correction is asked of the arbiter by the
//! command `RemediateDrift` (H04), and the finding is closed when the difference is gone, not when
//! somebody says that it was corrected (R067).

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Principal, Time};

use crate::runtime::model::{
    DriftFinding, DriftKind, DriftPolicy, EnvironmentId, Fault, FindingHash, FindingState, ObservedService, Release,
    Remedy, ReplicaRange, RequestKey, ServiceId, ServiceSpec, Stage,
};
use crate::runtime::workers::drift::compare::{Difference, compare, hash};

/// What the arbiter of a service knows that is no drift.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// The policy that owns its replicas (H02).
    pub governed: Option<ReplicaRange>,
    /// What may not come again (H01).
    pub held: BTreeSet<Release>,
    /// Whether something is under way: what is seen meanwhile is on its way to somewhere.
    pub under_way: bool,
    /// When the last thing ended: an older observation shows a world that is gone.
    pub settled_at: Option<Time>,
}

impl Known {
    /// Whether what `spec` wants may not come again.
    pub(super) fn holds(&self, spec: &ServiceSpec) -> bool {
        self.held.iter().any(|held| held.is_wanted_by(spec))
    }
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// Where.
    pub environment: &'a EnvironmentId,
    /// How far from users.
    pub stage: Stage,
    /// What is wanted, as read from the repository.
    pub desired: &'a [ServiceSpec],
    /// What is there, as the inventory has it.
    pub observed: &'a [ObservedService],
    /// What the arbiters know, by service.
    pub known: &'a BTreeMap<ServiceId, Known>,
    /// What is remembered: open findings, and closed ones as long as they are kept.
    pub findings: &'a BTreeMap<FindingHash, DriftFinding>,
    /// What is corrected by itself.
    pub policy: &'a DriftPolicy,
}

/// A correction to ask for: one per service, for all that can be corrected there at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Correction {
    /// The same correction has the same key.
    pub key: RequestKey,
    /// Of which service.
    pub service_id: ServiceId,
    /// What differs.
    pub kinds: Vec<DriftKind>,
    /// The findings it is for.
    pub findings: Vec<FindingHash>,
    /// Whether it waits for an approval.
    pub needs_approval: bool,
    /// Who approved it. Whoever approves one finding of a service approves its correction: all of
    /// them are put right by the same deployment.
    pub approved_by: Option<Principal>,
}

/// What follows. Empty when nothing changed: then nothing is written and nothing is said (R068).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drift {
    /// Findings that were opened now (`RuntimeDriftDetected`).
    pub opened: Vec<DriftFinding>,
    /// Findings whose observed value changed; they are written, and nothing is said.
    pub changed: Vec<DriftFinding>,
    /// Findings that are gone, and whether they were corrected (`RuntimeDriftRemediated`).
    pub resolved: Vec<(DriftFinding, bool)>,
    /// What to ask for. A correction is asked for at every look until it is taken; its key makes that
    /// one request.
    pub corrections: Vec<Correction>,
    /// Services of which the look shows nothing that could be judged: they are on their way.
    pub unsettled: BTreeSet<ServiceId>,
}

impl Drift {
    /// Whether anything is to be written or said.
    pub fn is_quiet(&self) -> bool {
        self.opened.is_empty() && self.changed.is_empty() && self.resolved.is_empty()
    }
}

/// Compares. Refuses to take an empty desired state for "remove everything" (D202).
pub fn detect(look: &Look<'_>, now: Time) -> Result<Drift, Fault> {
    if look.desired.is_empty() && !look.observed.is_empty() && !look.policy.allow_empty {
        let fault = format!("it wants nothing, but {} services run", look.observed.len());
        return Err(Fault::new("desired", fault, "look at the repository, or set allowEmpty"));
    }
    let mut drift = Drift::default();
    let mut present: BTreeSet<FindingHash> = BTreeSet::new();
    let mut correct: BTreeMap<ServiceId, Vec<(Remedy, DriftFinding)>> = BTreeMap::new();
    let unsettled = unsettled(look);
    for difference in compare(look.desired, look.observed, look.known) {
        if unsettled.contains(&difference.service)
            || look.policy.ignore.contains(&(difference.service.clone(), difference.kind))
        {
            continue;
        }
        let hash = hash(look.environment, &difference);
        present.insert(hash.clone());
        let finding = merge(look, hash, &difference, now, &mut drift);
        let remedy = look.policy.remedy(finding.kind, look.stage);
        match (remedy, &finding.state) {
            (_, FindingState::Accepted { .. }) | (Remedy::None, _) => {}
            (Remedy::Review, state) if state.approved_by().is_none() || finding.kind == DriftKind::Unmanaged => {}
            (
                Remedy::Automatic | Remedy::AfterApproval | Remedy::Review,
                FindingState::Open
                | FindingState::Approved { .. }
                | FindingState::Remediating { .. }
                | FindingState::Resolved { .. },
            ) => correct.entry(difference.service).or_default().push((remedy, finding)),
        }
    }
    for finding in look.findings.values().filter(|finding| finding.is_open()) {
        // Of what is on its way nothing is known, so nothing of it is closed.
        if present.contains(&finding.hash) || unsettled.contains(&finding.service_id) {
            continue;
        }
        let corrected = match finding.state {
            FindingState::Remediating { .. } => true,
            FindingState::Open
            | FindingState::Accepted { .. }
            | FindingState::Approved { .. }
            | FindingState::Resolved { .. } => false,
        };
        drift.resolved.push((DriftFinding { state: FindingState::Resolved { at: now }, ..finding.clone() }, corrected));
    }
    for (service_id, findings) in correct {
        drift.corrections.push(correction(look.environment, service_id, &findings)?);
    }
    drift.unsettled = unsettled;
    Ok(drift)
}

/// Services of which a look shows nothing that could be judged.
fn unsettled(look: &Look<'_>) -> BTreeSet<ServiceId> {
    let seen_at: BTreeMap<&ServiceId, Time> =
        look.observed.iter().map(|service| (&service.service_id, service.last_observed_at)).collect();
    let of = |(service, known): (&ServiceId, &Known)| {
        let old = match (known.settled_at, seen_at.get(service)) {
            (Some(settled), Some(seen)) => *seen < settled,
            (Some(_) | None, _) => false,
        };
        (known.under_way || old).then(|| service.clone())
    };
    look.known.iter().filter_map(of).collect()
}

/// Merges into an open finding; otherwise opens one, again if it was there before (H21, F43).
fn merge(look: &Look<'_>, hash: FindingHash, difference: &Difference, now: Time, drift: &mut Drift) -> DriftFinding {
    let known = look.findings.get(&hash);
    match known {
        Some(known) if known.is_open() && known.observed == difference.observed => known.clone(),
        Some(known) if known.is_open() => {
            // A word was given for what was seen then.
            let state = match &known.state {
                FindingState::Approved { .. } => FindingState::Open,
                state @ (FindingState::Open
                | FindingState::Accepted { .. }
                | FindingState::Remediating { .. }
                | FindingState::Resolved { .. }) => state.clone(),
            };
            let changed = DriftFinding { observed: difference.observed.clone(), state, ..known.clone() };
            drift.changed.push(changed.clone());
            changed
        }
        Some(_) | None => {
            let opened = DriftFinding {
                hash,
                environment_id: look.environment.clone(),
                service_id: difference.service.clone(),
                kind: difference.kind,
                field: difference.field.clone(),
                desired: difference.desired.clone(),
                observed: difference.observed.clone(),
                state: FindingState::Open,
                opened: known.map_or(0, |known| known.opened) + 1,
                opened_at: now,
            };
            drift.opened.push(opened.clone());
            opened
        }
    }
}

/// One correction for all findings of a service. Its key names them and how often each was opened,
/// so the same drift after a fix is asked for anew (H21), and the same look twice is not.
fn correction(
    environment: &EnvironmentId,
    service_id: ServiceId,
    findings: &[(Remedy, DriftFinding)],
) -> Result<Correction, Fault> {
    let mut parts = Vec::new();
    for (_, finding) in findings {
        parts.push(format!("{}#{}", finding.hash, finding.opened));
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let approved_by = findings.iter().find_map(|(_, finding)| finding.state.approved_by().cloned());
    let key = format!("drift/{environment}/{service_id}/{:016x}", crate::runtime::model::ids::spread(&parts));
    Ok(Correction {
        key: RequestKey::new(key)?,
        kinds: findings.iter().map(|(_, finding)| finding.kind).collect::<BTreeSet<_>>().into_iter().collect(),
        findings: findings.iter().map(|(_, finding)| finding.hash.clone()).collect(),
        needs_approval: approved_by.is_none() && findings.iter().any(|(remedy, _)| *remedy == Remedy::AfterApproval),
        approved_by,
        service_id,
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
