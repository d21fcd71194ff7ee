//! `decision.list`, `decision.approve`: changes of production that wait for somebody else's word.

use std::collections::BTreeSet;

use actors::runtime::model::ids::label;
use actors::runtime::model::{Environment, EnvironmentId, SecretBindingId, ServiceId, Stage};
use actors::runtime::records::decisions::{self, Change, End, Entry, Pass, state};
use actors::runtime::records::findings;
use actors::runtime::records::ownership::{self, Rule};
use actors::runtime::records::place::{self, Place};
use actors::runtime::records::secrets;
use protocol::command::{Routed, name};
use protocol::runtime::{ApproveDecision, CreateEnvironment, DecisionRow, Decisions, SetDriftPolicy};
use protocol::{Code, Principal, Problem, Tenant, Value};
use supervisor::activity::Failure;
use tracing::{info, warn};

use super::{Answer, RuntimeDesk, Space, kept, problem, store, told};
use crate::service::AUDIT;

impl RuntimeDesk {
    /// What waits in the tenant's own environments, and what it asked for in those of others.
    pub(super) async fn list_decisions(&self, routed: &Routed) -> Answer {
        let (tenant, now) = (&routed.tenant, self.clock.now());
        let environments = self.environments_of(tenant, None).await?;
        let mut owners: BTreeSet<_> = environments.into_iter().map(|environment| environment.tenant_id).collect();
        owners.insert(tenant.clone());
        let mut all = Vec::new();
        for owner in owners {
            let known = decisions::list(&*self.store, &owner, now).await.map_err(problem)?;
            all.extend(known.into_iter().filter(|one| owner == *tenant || one.tenant.as_ref() == Some(tenant)));
        }
        all.sort_by_key(|decision| decision.at);
        told(&Decisions { decisions: all.into_iter().map(row).collect() })
    }

    pub(super) async fn approve_decision(&self, routed: &Routed, by: &Principal, asked: &ApproveDecision) -> Answer {
        let (tenant, now) = (&routed.tenant, self.clock.now());
        let approved = decisions::approve(&*self.store, tenant, &asked.decision, by, now).await.map_err(refused)?;
        info!(target: AUDIT, %tenant, %by, decision = approved.decision, what = approved.what, "change approved");
        told(&row(approved))
    }

    /// Whether the tenant may do what a command does, asked before any of its commands from a door where
    /// names come from outside (W073). Answers whether it is about production. A refusal is on record.
    pub async fn admit(&self, routed: &Routed, by: &Principal, body: &Value) -> Result<bool, Problem> {
        let about = About::of(body);
        let Some(environment) = about.environment else { return Ok(false) };
        if [name::ENVIRONMENT_BIND, name::ENVIRONMENT_CREATE].contains(&routed.command.as_str()) {
            // The owner of production has no right to it until it was given, by one of these very
            // commands, which ask themselves whose it is.
            let own = self.own(&routed.tenant, environment).await?;
            if own.is_none() {
                label("environment", environment).map_err(super::faulty)?;
            }
            let is = |environment: Environment| environment.stage == Stage::Prod;
            return Ok(own.map_or(body["stage"] == "prod", is));
        }
        let forbidden = |refused: Problem| match refused.code {
            Code::Conflict => Problem { code: Code::Forbidden, ..refused },
            _ => refused,
        };
        let (environment, granted, _) = self.enter_environment(routed, by, environment).await.map_err(forbidden)?;
        let rule = match ownership::rule(&routed.command) {
            // A name is taken when the command is carried out, and not when it is asked for.
            Some(Rule::Take | Rule::Service) => Some(Rule::Service),
            // A saga says for itself what it may while the service is being taken away.
            None => Some(Rule::Remove),
            Some(rule @ (Rule::Look | Rule::Remove | Rule::Evict)) => Some(rule),
            Some(Rule::Name | Rule::List | Rule::Decision | Rule::Environment | Rule::Use | Rule::Finding) => None,
        };
        if let (Some(rule), Some(service)) = (rule, about.service) {
            let service = ServiceId::new(service).map_err(super::faulty)?;
            let place = Place { owner: granted.owner, environment, service };
            self.admit_to(routed, rule, &place).await.map_err(forbidden)?;
        } else if let Some(secret) = about.secret {
            let secret = SecretBindingId::new(secret).map_err(super::faulty)?;
            secrets::named(&*self.store, &granted.owner, &environment, &secret).await.map_err(problem)?;
        }
        Ok(granted.environment.value.stage == Stage::Prod)
    }

    /// The tenant's own environment of that name.
    async fn own(&self, tenant: &Tenant, environment: &str) -> Result<Option<Environment>, Problem> {
        let id = EnvironmentId::new(environment).map_err(super::faulty)?;
        let space = Space::Of(tenant.clone());
        let found = store::read(&*self.store, &space, &place::environment(&id)).await.map_err(kept)?;
        Ok(found.map(|found| found.value))
    }

    /// The environment of production that a command makes less of one: by its stage, or by letting more
    /// be put right there.
    pub(super) async fn weakens(&self, routed: &Routed, body: &Value) -> Result<Option<String>, Problem> {
        let weakened = |environment: String| Ok(Some(environment));
        match routed.command.as_str() {
            name::ENVIRONMENT_CREATE => {
                let Ok(CreateEnvironment { environment, stage, .. }) = super::typed(body.clone()) else {
                    return Ok(None);
                };
                let Some(own) = self.own(&routed.tenant, &environment).await? else { return Ok(None) };
                match (own.stage, stage.as_deref()) {
                    (Stage::Prod, Some(stage)) if stage != "prod" => weakened(environment),
                    (Stage::Dev | Stage::Test | Stage::Staging | Stage::Prod, _) => Ok(None),
                }
            }
            name::DRIFT_SET_POLICY => {
                let Ok(set) = super::typed::<SetDriftPolicy>(body.clone()) else { return Ok(None) };
                let Some(own) = self.own(&routed.tenant, &set.environment).await? else { return Ok(None) };
                let known =
                    findings::policy(&*self.store, &routed.tenant, &own.environment_id).await.map_err(problem)?;
                let known = known.unwrap_or_default();
                let Ok(next) = super::drift::policy_of(&set, &known) else { return Ok(None) };
                // What makes no sense is refused as such.
                if next.check(own.stage).is_err() {
                    return Ok(None);
                }
                match own.stage {
                    Stage::Prod if next.lets_more_than(&known, own.stage) => weakened(set.environment),
                    Stage::Dev | Stage::Test | Stage::Staging | Stage::Prod => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// Carries out a change that takes somebody else's word: the first time it waits for that.
    pub(super) async fn with_a_decision(
        &self,
        routed: &Routed,
        by: &Principal,
        environment: &str,
        body: Value,
    ) -> Answer {
        match self.decided(routed, by, environment, &body).await? {
            Entry::Done(answer) => Ok(answer),
            Entry::Go(pass) => self.make(routed, by, body, &pass).await,
        }
    }

    /// Lets a change of production through that somebody else approved, once; otherwise it waits.
    pub async fn decided(
        &self,
        routed: &Routed,
        by: &Principal,
        environment: &str,
        body: &Value,
    ) -> Result<Entry, Problem> {
        let (tenant, store) = (&routed.tenant, &*self.store);
        let id = EnvironmentId::new(environment).map_err(super::faulty)?;
        let owner = self.environments.owner(&id).await.map_err(kept)?.unwrap_or_else(|| tenant.clone());
        let body = decisions::content(body);
        let concerns = state::concerns(store, (&routed.command, &body), (tenant, &owner)).await.map_err(refused)?;
        let change = Change {
            owner: &owner,
            tenant,
            by,
            what: &routed.command,
            environment,
            body: &body,
            request: &routed.id,
            concerns,
        };
        decisions::enter(store, change, self.clock.now()).await.map_err(refused)
    }

    /// Makes a change that was let through, on the state that it was let through for.
    pub async fn make(&self, routed: &Routed, by: &Principal, body: Value, pass: &Pass) -> Answer {
        let answer = self.on(pass.fence(self.store.clone())).carry_out(routed, by, body).await;
        self.made(pass, &answer).await;
        answer
    }

    /// Keeps what came of a change that was let through.
    pub async fn made(&self, pass: &Pass, answer: &Answer) {
        let end = match answer {
            Ok(answer) => End::Made(answer),
            Err(problem) => match problem.code {
                Code::Unavailable | Code::Busy | Code::Timeout | Code::Internal => End::Open,
                _ => End::Refused,
            },
        };
        if let Err(failure) = decisions::settle(&*self.store, pass, end).await {
            // Whoever asks again is told that nobody knows how it ended, and looks.
            warn!(?pass, %failure, "how an approved change ended could not be kept");
        }
    }
}

/// What a body is about.
struct About<'a> {
    environment: Option<&'a str>,
    service: Option<&'a str>,
    secret: Option<&'a str>,
}

impl<'a> About<'a> {
    fn of(body: &'a Value) -> Self {
        let field = |name: &str| body[name].as_str().or_else(|| body["input"][name].as_str());
        Self { environment: field("environment"), service: field("service"), secret: field("secret") }
    }
}

fn refused(failure: Failure) -> Problem {
    match failure.error.as_str() {
        decisions::UNKNOWN => Problem::new(Code::NotFound, failure.cause),
        decisions::OWN => Problem::new(Code::Forbidden, failure.cause),
        decisions::KEY_TAKEN | decisions::MOVED => Problem::new(Code::Conflict, failure.cause),
        decisions::UNDER_WAY => Problem::new(Code::Busy, failure.cause).retry_after_ms(1_000),
        findings::UNKNOWN => Problem::new(Code::NotFound, failure.cause),
        decisions::UNDECIDED => Problem::new(Code::NotNow, failure.cause)
            .mend("have somebody else of the environment's owner approve the decision, and ask again with the same Idempotency-Key"),
        _ => problem(failure),
    }
}

fn row(decision: decisions::Decision) -> DecisionRow {
    DecisionRow {
        decision: decision.decision,
        what: decision.what,
        environment: decision.environment,
        tenant: decision.tenant,
        by: decision.by,
        at: decision.at,
        approved_by: decision.approved_by,
        used: decision.used_for.is_some(),
    }
}
