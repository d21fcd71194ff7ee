//! `drift.list`, `drift.approve`, `drift.accept`: what differs from what is wanted, and what people
//! decide about it (R076). Approving is the command `RemediateDrift` of a person: the decision is
//! kept, and `DriftDetectionWorker` asks the arbiter for it.

use actors::runtime::findings;
pub(super) use actors::runtime::findings::Decision;
use actors::runtime::model::{DriftFinding, FindingState};
use protocol::command::Routed;
use protocol::runtime::{DriftRow, Drifts, ListDrift, OfFinding};
use protocol::{Code, Principal, Problem};
use serde_json::json;
use supervisor::activity::Failure;

use super::{Answer, Docket, RuntimeDesk, problem, told};

impl RuntimeDesk {
    pub(super) async fn list_drift(&self, routed: &Routed, asked: ListDrift) -> Answer {
        let tenant = &routed.tenant;
        let mut answer = Drifts::default();
        for environment in self.environments_of(tenant, asked.environment.as_deref()).await? {
            let (id, owner) = (&environment.environment_id, &environment.tenant_id);
            let dockets = self.dockets(tenant, &environment).await?;
            let all = findings::all(&*self.store, owner, id).await.map_err(problem)?;
            let ours = all.iter().filter(|finding| owner == tenant || of_ours(finding, &dockets));
            answer.findings.extend(ours.filter(|finding| asked.all || finding.is_open()).map(row));
        }
        told(&answer)
    }

    pub(super) async fn decide_drift(
        &self,
        routed: &Routed,
        by: &Principal,
        asked: OfFinding,
        decision: Decision,
    ) -> Answer {
        let (environment, granted, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let dockets = self.dockets(&routed.tenant, &granted.environment.value).await?;
        let mut all = findings::all(&*self.store, &granted.owner, &environment).await.map_err(problem)?;
        all.retain(|finding| granted.owner == routed.tenant || of_ours(finding, &dockets));
        let finding = findings::named(&all, &asked.finding).map_err(unknown)?;
        let now = self.clock.now();
        let decided = findings::decide(&*self.store, &granted.owner, finding, decision, by, now).await;
        let (finding, changed) = decided.map_err(unknown)?;
        if changed {
            let event_type = match decision {
                Decision::Approve => "RuntimeDriftApproved",
                Decision::Accept => "RuntimeDriftAccepted",
            };
            let payload = json!({
                "environmentId": environment, "serviceId": finding.service_id, "finding": finding.hash,
                "kind": finding.kind, "by": by,
            });
            let about = [environment.as_str(), finding.hash.as_str(), &routed.id];
            self.tell(&asker, event_type, &about, payload).await?;
        }
        told(&row(&finding))
    }
}

/// Whether a finding is about one of the services that the tenant may see.
fn of_ours(finding: &DriftFinding, dockets: &[Docket]) -> bool {
    dockets.iter().any(|docket| docket.state.service_id == finding.service_id)
}

fn unknown(failure: Failure) -> Problem {
    match failure.error.as_str() {
        findings::UNKNOWN => Problem::new(Code::NotFound, failure.cause),
        _ => problem(failure),
    }
}

fn row(finding: &DriftFinding) -> DriftRow {
    let state = match &finding.state {
        FindingState::Open => "open",
        FindingState::Accepted { .. } => "accepted",
        FindingState::Approved { .. } => "approved",
        FindingState::Remediating { .. } => "remediating",
        FindingState::Resolved { .. } => "resolved",
    };
    DriftRow {
        finding: finding.hash.to_string(),
        environment: finding.environment_id.to_string(),
        service: finding.service_id.to_string(),
        kind: format!("{:?}", finding.kind).to_lowercase(),
        field: finding.field.clone(),
        desired: finding.desired.clone(),
        observed: finding.observed.clone(),
        state: state.to_owned(),
        opened: finding.opened,
        opened_at: finding.opened_at,
    }
}
