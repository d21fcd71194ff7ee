//! `drift.list`, `drift.approve`, `drift.accept`, `drift.remediate`: what differs from what is wanted,
//! and what people decide about it (R076). Remediating is the command `RemediateDrift` of a person,
//! about all that differs of a service: the decision is kept in the findings, the event wakes
//! `DriftDetectionWorker`, and that asks the arbiter. `drift.policy`, `drift.set-policy`: what is put
//! right without a person.

use std::collections::BTreeMap;

use actors::runtime::arbitration::Asker;
use actors::runtime::model::DriftPolicy;
use actors::runtime::model::{DriftFinding, Environment, FindingState};
use actors::runtime::records::findings;
pub(super) use actors::runtime::records::findings::Decision;
use actors::runtime::records::ownership::Rule;
use actors::runtime::records::place::Place;
use protocol::command::Routed;
use protocol::runtime::{
    DriftPolicyView, DriftRow, Drifts, ListDrift, OfEnvironment, OfFinding, OfService, SetDriftPolicy,
};
use protocol::{Code, Principal, Problem, Tenant};
use serde::Serialize;
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
        let finding = findings::named(&all, &asked.finding).map_err(unknown)?.clone();
        let (owner, service) = (granted.owner.clone(), finding.service_id.clone());
        let place = Place { owner, environment, service };
        self.admit_to(routed, Rule::Finding, &place).await?;
        told(&self.decided_drift(routed, by, (&granted.owner, &asker), &finding, decision).await?)
    }

    /// Writes a decision into a finding, and tells it once.
    async fn decided_drift(
        &self,
        routed: &Routed,
        by: &Principal,
        (owner, asker): (&Tenant, &Asker),
        finding: &DriftFinding,
        decision: Decision,
    ) -> Result<DriftRow, Problem> {
        let now = self.clock.now();
        let decided = findings::decide(&*self.store, owner, finding, decision, by, now).await;
        let (finding, changed) = decided.map_err(unknown)?;
        if changed {
            let event_type = match decision {
                Decision::Approve => "RuntimeDriftApproved",
                Decision::Accept => "RuntimeDriftAccepted",
            };
            let payload = json!({
                "environmentId": finding.environment_id, "serviceId": finding.service_id, "finding": finding.hash,
                "kind": finding.kind, "by": by,
            });
            let about = [finding.environment_id.as_str(), finding.hash.as_str(), &routed.id];
            self.tell(asker, event_type, &about, payload).await?;
        }
        Ok(row(&finding))
    }
}

impl RuntimeDesk {
    pub(super) async fn remediate_drift(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, asker) = self.enter(routed, by, asked).await?;
        let dockets = self.dockets(&routed.tenant, &granted.environment.value).await?;
        let all = findings::all(&*self.store, &granted.owner, &place.environment).await.map_err(problem)?;
        let mut ours: Vec<_> = all.iter().filter(|finding| finding.service_id == place.service).collect();
        ours.retain(|finding| granted.owner == routed.tenant || of_ours(finding, &dockets));
        ours.retain(|finding| finding.is_open());
        let Some(first) = ours.first() else {
            let why = format!("nothing of {place} differs from what is wanted");
            return Err(Problem::new(Code::NotFound, why).mend("`skald workers drift` tells when it was looked at"));
        };
        if ours.iter().all(|finding| findings::may(finding, Decision::Approve).is_err()) {
            // Why is said about one; the others are like it.
            return Err(findings::may(first, Decision::Approve).map_or_else(problem, |()| super::unknown(&place)));
        }
        let mut answer = Drifts::default();
        for finding in ours.into_iter().filter(|finding| findings::may(finding, Decision::Approve).is_ok()) {
            answer
                .findings
                .push(self.decided_drift(routed, by, (&granted.owner, &asker), finding, Decision::Approve).await?);
        }
        told(&answer)
    }

    pub(super) async fn drift_policy(&self, routed: &Routed, by: &Principal, asked: &OfEnvironment) -> Answer {
        let (environment, granted, _) = self.enter_environment(routed, by, &asked.environment).await?;
        let policy = findings::policy(&*self.store, &granted.owner, &environment).await.map_err(problem)?;
        told(&view(&granted.environment.value, &policy.unwrap_or_default())?)
    }

    pub(super) async fn set_drift_policy(&self, routed: &Routed, by: &Principal, asked: SetDriftPolicy) -> Answer {
        let (environment, granted, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let known = findings::policy(&*self.store, &granted.owner, &environment).await.map_err(problem)?;
        let policy = policy_of(&asked, &known.unwrap_or_default())?;
        let environment_is = &granted.environment.value;
        policy.check(environment_is.stage).map_err(super::faulty)?;
        if findings::set_policy(&*self.store, &granted.owner, &environment, &policy).await.map_err(problem)? {
            let payload = json!({ "environmentId": environment, "policy": policy, "by": by });
            let about = [environment.as_str(), &routed.id];
            self.tell(&asker, "RuntimeDriftPolicyChanged", &about, payload).await?;
        }
        told(&view(environment_is, &policy)?)
    }
}

/// The policy that is asked for, where `known` stands.
pub(super) fn policy_of(asked: &SetDriftPolicy, known: &DriftPolicy) -> Result<DriftPolicy, Problem> {
    let remedies = super::typed(json!(asked.remedies))?;
    Ok(DriftPolicy { remedies, allow_empty: asked.allow_empty, ..known.clone() })
}

fn view(environment: &Environment, policy: &DriftPolicy) -> Result<DriftPolicyView, Problem> {
    let mut remedies = BTreeMap::new();
    for kind in DriftPolicy::KINDS {
        remedies.insert(word(&kind)?, word(&policy.remedy(kind, environment.stage))?);
    }
    Ok(DriftPolicyView {
        environment: environment.environment_id.to_string(),
        stage: environment.stage.to_string(),
        remedies,
        set: policy.remedies.keys().map(word).collect::<Result<_, _>>()?,
        allow_empty: policy.allow_empty,
    })
}

/// As it is written in settings and answers.
fn word(named: &impl Serialize) -> Result<String, Problem> {
    super::typed(told(named)?)
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
        kind: finding.kind.to_string(),
        field: finding.field.clone(),
        desired: finding.desired.clone(),
        observed: finding.observed.clone(),
        state: state.to_owned(),
        opened: finding.opened,
        opened_at: finding.opened_at,
    }
}
