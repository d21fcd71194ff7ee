//! `decision.list`, `decision.approve`: changes of production that wait for somebody else's word.

use actors::runtime::decisions::{self, Change};
use actors::runtime::model::Stage;
use protocol::command::{Routed, name};
use protocol::runtime::{ApproveDecision, DecisionRow, Decisions};
use protocol::{Code, Principal, Problem, Value};
use supervisor::activity::Failure;
use tracing::info;

use super::{Answer, RuntimeDesk, problem, told};
use crate::service::AUDIT;

impl RuntimeDesk {
    pub(super) async fn list_decisions(&self, routed: &Routed) -> Answer {
        let all = decisions::list(&*self.store, &routed.tenant, self.clock.now()).await.map_err(problem)?;
        told(&Decisions { decisions: all.into_iter().map(row).collect() })
    }

    pub(super) async fn approve_decision(&self, routed: &Routed, by: &Principal, asked: &ApproveDecision) -> Answer {
        let (tenant, now) = (&routed.tenant, self.clock.now());
        let approved = decisions::approve(&*self.store, tenant, &asked.decision, by, now).await.map_err(refused)?;
        info!(target: AUDIT, %tenant, %by, decision = approved.decision, what = approved.what, "change approved");
        told(&row(approved))
    }

    /// Whether the tenant may use an environment, asked before any of its commands from a door where
    /// names come from outside (W073). Answers whether it is production. A refusal is on record.
    pub async fn admit(&self, routed: &Routed, by: &Principal, environment: &str) -> Result<bool, Problem> {
        if routed.command == name::ENVIRONMENT_BIND {
            // The owner of production has no right to it until it was given, by this very command,
            // which asks itself whose it is.
            let own = self.environments_of(&routed.tenant, Some(environment)).await?;
            return Ok(own.iter().any(|environment| environment.stage == Stage::Prod));
        }
        match self.enter_environment(routed, by, environment).await {
            Ok((_, granted, _)) => Ok(granted.environment.value.stage == Stage::Prod),
            Err(refused) if refused.code == Code::Conflict => Err(Problem { code: Code::Forbidden, ..refused }),
            Err(error) => Err(error),
        }
    }

    /// Lets a change of production through that somebody else approved; otherwise it waits.
    pub async fn decided(
        &self,
        routed: &Routed,
        by: &Principal,
        environment: &str,
        body: &Value,
    ) -> Result<(), Problem> {
        let change =
            Change { tenant: &routed.tenant, by, what: &routed.command, environment, body, request: &routed.id };
        decisions::enter(&*self.store, &change, self.clock.now()).await.map_err(refused)
    }
}

fn refused(failure: Failure) -> Problem {
    match failure.error.as_str() {
        decisions::UNKNOWN => Problem::new(Code::NotFound, failure.cause),
        decisions::OWN => Problem::new(Code::Forbidden, failure.cause),
        decisions::UNDECIDED => Problem::new(Code::NotNow, failure.cause)
            .mend("have somebody else approve the decision, and ask again with the same Idempotency-Key"),
        _ => problem(failure),
    }
}

fn row(decision: decisions::Decision) -> DecisionRow {
    DecisionRow {
        decision: decision.decision,
        what: decision.what,
        environment: decision.environment,
        by: decision.by,
        at: decision.at,
        approved_by: decision.approved_by,
        used: decision.used_for.is_some(),
    }
}
