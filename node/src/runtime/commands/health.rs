//! `service.health`: how a service is, as `RuntimeHealthWorker` knows it, and what runs of it now.

use actors::runtime::workers::health;
use actors::runtime::workers::health::failure::Condition;
use protocol::Principal;
use protocol::command::Routed;
use protocol::runtime::{OfService, ServiceHealth};

use super::{Answer, RuntimeDesk, problem, told};

impl RuntimeDesk {
    pub(super) async fn health(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, _) = self.enter(routed, by, asked).await?;
        let docket = self.seen(&place).await?;
        let (seen, missing) = match self.observed(&routed.tenant, by, &place.environment).await {
            Ok(seen) => (Some(seen), None),
            Err(error) => (None, Some(error.cause)),
        };
        let known = health::condition(&*self.store, &place).await.map_err(problem)?;
        let condition = match (docket.state.current.is_some(), known.unwrap_or_default()) {
            (_, Condition::Incident) => "incident",
            (false, _) => "unknown",
            (true, Condition::Healthy) => "healthy",
            (true, Condition::Degraded { .. }) => "degraded",
            (true, Condition::Rollback) => "rollback",
            (true, Condition::Restoring) => "restoring",
        };
        let row = self.service(&granted.environment.value, &docket, seen.as_ref()).await?;
        told(&ServiceHealth {
            environment: row.environment,
            service: row.service,
            condition: condition.to_owned(),
            standing: row.standing,
            sets: row.sets,
            missing,
        })
    }
}
