//! `scaling.apply`, `scaling.remove`, `scaling.list`, `scaling.decisions` and `service.scale`: who owns the replicas of a
//! service, and how many they are when nobody does (H02).

use actors::runtime::arbiter::Command;
use actors::runtime::model::{ScalingPolicy, TargetKind};
use actors::runtime::records::deployments::Record;
use actors::runtime::records::docket::Docket;
use actors::runtime::records::place::Place;
use actors::runtime::records::policies::{Policies as Kept, Refused};
use actors::runtime::store;
use actors::runtime::workers::scaling::Remembered;
use protocol::command::Routed;
use protocol::runtime::{
    ApplyScalingPolicy, ListPolicies, OfService, Policies, PolicyRow, ScaleService, ScalingDecisions,
};
use protocol::{Principal, Problem};
use serde_json::json;

use super::{Answer, RuntimeDesk, faulty, kept, problem, told};

impl RuntimeDesk {
    pub(super) async fn apply_policy(&self, routed: &Routed, by: &Principal, asked: ApplyScalingPolicy) -> Answer {
        let ApplyScalingPolicy { environment, service, mut policy } = asked;
        let (place, granted, asker) = self.enter(routed, by, &OfService { environment, service }).await?;
        let docket = self.seen(&place).await?;
        if let Some(fields) = policy.as_object_mut() {
            fields.entry("policyId").or_insert_with(|| json!(place.service));
            fields.entry("serviceId").or_insert_with(|| json!(place.service));
        }
        let policy: ScalingPolicy = super::typed(policy)?;
        // The policy first: the arbiter's word without it would leave the replicas nobody's.
        let target = self.target(&place, &docket).await?;
        let changed = self.policies().apply(&place, &policy, target).await.map_err(refused)?;
        let range = Some(policy.range());
        self.ask(routed, by, &place, &granted, &asker, Command::Govern { range }).await?;
        told(&json!({
            "environment": place.environment, "service": place.service, "changed": changed,
            "minReplicas": policy.min_replicas, "maxReplicas": policy.max_replicas, "replicas": docket.state.replicas,
        }))
    }

    pub(super) async fn remove_policy(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, asker) = self.enter(routed, by, asked).await?;
        self.seen(&place).await?;
        // The arbiter first: a policy without its word decides nothing.
        self.ask(routed, by, &place, &granted, &asker, Command::Govern { range: None }).await?;
        let removed = self.policies().remove(&place).await.map_err(kept)?;
        told(&json!({ "environment": place.environment, "service": place.service, "removed": removed }))
    }

    pub(super) async fn list_policies(&self, routed: &Routed, asked: ListPolicies) -> Answer {
        let mut answer = Policies::default();
        for environment in self.environments_of(&routed.tenant, asked.environment.as_deref()).await? {
            let id = &environment.environment_id;
            let policies = self.policies().all(&environment.tenant_id, id).await.map_err(kept)?;
            for docket in self.dockets(&routed.tenant, &environment).await? {
                let Some(policy) = policies.get(&docket.state.service_id) else { continue };
                answer.policies.push(PolicyRow {
                    environment: id.to_string(),
                    service: docket.state.service_id.to_string(),
                    policy: told(policy)?,
                    replicas: docket.state.replicas,
                });
            }
        }
        told(&answer)
    }

    pub(super) async fn scale(&self, routed: &Routed, by: &Principal, asked: ScaleService) -> Answer {
        let ScaleService { environment, service, replicas } = asked;
        let (place, granted, asker) = self.enter(routed, by, &OfService { environment, service }).await?;
        let docket = self.seen(&place).await?;
        self.tenancy.room(&granted, &place, &routed.tenant, replicas).await.map_err(problem)?;
        let observed = docket.state.replicas;
        let command = Command::Scale { to: replicas, observed };
        told(&self.ask(routed, by, &place, &granted, &asker, command).await?)
    }

    /// What makes the service busy, as its deployment says. What does not run yet is taken to be
    /// continuous: nobody lets sleep what he does not know.
    async fn target(&self, place: &Place, docket: &Docket) -> Result<TargetKind, Problem> {
        let Some(current) = &docket.state.current else { return Ok(TargetKind::Continuous) };
        let name = place.deployment(&current.deployment_id);
        let record = store::read::<Record>(&*self.store, &place.space(), &name).await.map_err(kept)?;
        Ok(record.map(|record| record.value.comes.workload.target).unwrap_or_default())
    }

    pub(super) async fn scaling_decisions(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, _, _) = self.enter(routed, by, asked).await?;
        self.seen(&place).await?;
        let known = store::read::<Remembered>(&*self.store, &place.space(), &place.scaling()).await.map_err(kept)?;
        let decisions = known.map(|known| known.value.decisions).unwrap_or_default();
        told(&ScalingDecisions { decisions: decisions.iter().map(told).collect::<Result<_, _>>()? })
    }

    fn policies(&self) -> Kept {
        Kept::new(self.store.clone())
    }
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Faulty(fault) => faulty(fault),
        Refused::Store(error) => kept(error),
    }
}
