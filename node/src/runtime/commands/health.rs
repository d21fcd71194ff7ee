//! `service.health`: how a service is, as `RuntimeHealthWorker` knows it, and what runs of it now. `service.logs`: what
//! its replicas wrote.

use actors::runtime::compute::Log;
use actors::runtime::deployment;
use actors::runtime::workers::health;
use actors::runtime::workers::health::failure::Condition;
use protocol::Principal;
use protocol::command::Routed;
use protocol::runtime::{Logs, OfService, ReadLogs, ReplicaLog, ServiceHealth};

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
            why: row.why,
            sets: row.sets,
            missing,
        })
    }

    /// What the replicas of a service wrote.
    pub(super) async fn logs(&self, routed: &Routed, by: &Principal, asked: ReadLogs) -> Answer {
        let of = OfService { environment: asked.environment.clone(), service: asked.service.clone() };
        let (place, ..) = self.enter(routed, by, &of).await?;
        self.seen(&place).await?;
        let read = self.look::<deployment::logs::Logs>(&routed.tenant, by, told(&asked)?).await.map_err(problem)?;
        let replicas = read.replicas.into_iter().map(|(replica, Log { lines, next, missed })| ReplicaLog {
            replica,
            lines,
            next,
            missed,
        });
        told(&Logs { replicas: replicas.collect() })
    }
}
