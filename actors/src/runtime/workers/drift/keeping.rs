//! What was found, said and kept: in this order, so that what is kept has been said.

use protocol::Tenant;
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::Run;

use super::{Done, DriftDetection, whose};
use crate::runtime::model::{DriftFinding, DriftPolicy, EnvironmentId, FindingHash, FindingState};
use crate::runtime::records::place;
use crate::runtime::store::{self, Space};
use crate::runtime::workers::drift::decide::Drift;
use crate::runtime::workers::drift::seen::Seen;

impl DriftDetection {
    /// Says what was found and keeps it, in this order: what is kept has been said.
    pub(super) async fn keep(
        &self,
        run: &Run,
        seen: &Seen,
        (policy, drift): (&DriftPolicy, &Drift),
        done: &mut Done,
    ) -> Result<(), Failure> {
        for finding in &drift.opened {
            let remedy = policy.remedy(finding.kind, seen.look.environment.stage);
            let payload = json!({
                "environmentId": finding.environment_id, "serviceId": finding.service_id, "finding": finding.hash,
                "kind": finding.kind, "field": finding.field, "desired": finding.desired,
                "observed": finding.observed, "opened": finding.opened, "remedy": remedy,
            });
            let about = [finding.hash.as_str(), &finding.opened.to_string()];
            self.desk.tell(run, &whose(run, seen, finding), "RuntimeDriftDetected", &about, payload).await?;
            done.did.push(format!("found {} of {}", finding.kind, finding.service_id));
            done.why.push(format!("{} is wanted, {} is there", finding.desired, finding.observed));
        }
        for (finding, corrected) in &drift.resolved {
            if *corrected {
                let payload = json!({
                    "environmentId": finding.environment_id, "serviceId": finding.service_id,
                    "finding": finding.hash, "kind": finding.kind, "opened": finding.opened,
                });
                let about = [finding.hash.as_str(), &finding.opened.to_string()];
                self.desk.tell(run, &whose(run, seen, finding), "RuntimeDriftRemediated", &about, payload).await?;
            }
            done.did.push(format!("closed {} of {}", finding.kind, finding.service_id));
        }
        let resolved = drift.resolved.iter().map(|(finding, _)| finding);
        for finding in drift.opened.iter().chain(&drift.changed).chain(resolved) {
            self.write(&run.worker.tenant, finding).await?;
        }
        Ok(())
    }

    /// A decision that a person made meanwhile about what is seen stands.
    pub(super) async fn write(&self, owner: &Tenant, next: &DriftFinding) -> Result<(), Failure> {
        let (space, name) = (Space::Of(owner.clone()), place::finding(&next.environment_id, &next.hash));
        store::change(&*self.desk.ports.store, &space, &name, |there: Option<&DriftFinding>| {
            let state = match there {
                Some(there) if there.is_open() && next.is_open() && !lapses(there, next) => there.state.clone(),
                Some(_) | None => next.state.clone(),
            };
            let next = DriftFinding { state, ..next.clone() };
            (there != Some(&next)).then_some(next)
        })
        .await?;
        Ok(())
    }

    pub(super) async fn mark(
        &self,
        owner: &Tenant,
        environment: &EnvironmentId,
        hash: &FindingHash,
        state: &FindingState,
    ) -> Result<(), Failure> {
        let (space, name) = (Space::Of(owner.clone()), place::finding(environment, hash));
        let key = |state: &FindingState| match state {
            FindingState::Remediating { key, .. } => Some(key.clone()),
            FindingState::Open
            | FindingState::Accepted { .. }
            | FindingState::Approved { .. }
            | FindingState::Resolved { .. } => None,
        };
        store::change(&*self.desk.ports.store, &space, &name, |there: Option<&DriftFinding>| {
            let there = there?;
            (key(&there.state) != key(state)).then(|| DriftFinding { state: state.clone(), ..there.clone() })
        })
        .await?;
        Ok(())
    }
}

/// Whether an approval was given for something else than is seen now.
fn lapses(there: &DriftFinding, next: &DriftFinding) -> bool {
    match there.state {
        FindingState::Approved { .. } => there.observed != next.observed,
        FindingState::Open
        | FindingState::Accepted { .. }
        | FindingState::Remediating { .. }
        | FindingState::Resolved { .. } => false,
    }
}
