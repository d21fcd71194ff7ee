//! From figures to a decision that is stored, asked for, carried out and told.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use supervisor::activity::Failure;
use supervisor::worker::Run;

use super::decide::{self, Memory, ScalingDecision};
use super::{CARRIES, Scaling, Seen, Tally};
use crate::runtime::arbiter::{Command, Outcome, Source};
use crate::runtime::arbitration::explained;
use crate::runtime::control::asking::Said;
use crate::runtime::control::carrying::Carried;
use crate::runtime::control::desk::Service;
use crate::runtime::model::{RequestKey, ScalingPolicy};
use crate::runtime::store;

/// Decisions that are kept of a service, for people: a day of a policy that changes its mind hourly.
pub const DECISIONS_MAX: usize = 32;

/// What is kept of a service's scaling.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Remembered {
    /// What the next decision builds on.
    pub memory: Memory,
    /// The last decisions, oldest first (F48).
    pub decisions: VecDeque<ScalingDecision>,
}

impl Scaling {
    /// Tells the arbiter who owns the replicas (H02). A policy that only says what it would do owns
    /// nothing.
    pub(super) async fn govern(
        &self,
        run: &Run,
        service: &Service,
        policy: Option<&ScalingPolicy>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let range = policy.filter(|policy| !policy.dry_run).map(ScalingPolicy::range);
        let state = &service.docket.state;
        if state.governed == range {
            return Ok(());
        }
        // The same wish on another state is another one.
        let key = key(&format!("govern/{}/{}", service.place.service, state.sequence))?;
        let at = self.desk.ports.clock.now();
        let said = self.desk.ask(run, service, Source::Scaling, (key, at), Command::Govern { range }).await?;
        let name = &service.place.service;
        match said {
            Said::Accepted { .. } => tally.did.push(match range {
                Some(range) => format!("{name}: a policy owns the replicas, {} to {}", range.min, range.max),
                None => format!("{name}: no policy owns the replicas"),
            }),
            Said::AlreadyDone { .. } => {}
            Said::Busy { .. } | Said::Refused(_) | Said::Forbidden(_) => tally.why.push(refusal(service, &said)),
        }
        Ok(())
    }

    /// Decides, and does what follows.
    pub(super) async fn scale(
        &self,
        run: &Run,
        service: &Service,
        policy: &ScalingPolicy,
        seen: &Seen,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let (place, ports) = (&service.place, &self.desk.ports);
        let Some(current) = service.current() else { return Ok(()) };
        let Some(running) = self.desk.running(place, &current).await? else {
            tally.why.push(format!("{}: how it runs is not known", place.service));
            return Ok(());
        };
        let set = seen.observed.set(place.service.as_str(), &running.set);
        let read = self.read(service, policy, set, seen).await?;
        let known = store::read::<Remembered>(&*ports.store, &place.space(), &place.scaling()).await?;
        let (revision, before) = known.map_or((0, Remembered::default()), |read| (read.revision, read.value));
        let now = ports.clock.now();
        let mut next = decide::decide(policy, &before.memory, &read.figures, now);
        if next.decision.to < read.figures.replicas && read.whole != read.figures {
            // Of some replicas nothing is in it: too little is no reason to shrink (F47).
            next = decide::decide(policy, &before.memory, &read.whole, now);
        }
        let decide::Scaling { memory, decision, store, act, violated } = next;
        if act && !self.change(run, service, &decision, tally).await? {
            // It did not happen, so it was not decided either: the next look begins where this did.
            return Ok(());
        }
        if violated {
            run.publish("ScalingPolicyViolated", place.service.as_str(), payload(service, &decision)).await?;
            tally.did.push(format!("{}: told that more is wanted than may be had", place.service));
        }
        let mut after = Remembered { memory, ..before.clone() };
        if store {
            tally.why.push(format!("{}: {}", place.service, decision.reason));
            after.decisions.push_back(decision);
            while after.decisions.len() > DECISIONS_MAX {
                after.decisions.pop_front();
            }
        }
        if after != before {
            store::write(&*ports.store, &place.space(), &place.scaling(), &after, revision).await?;
        }
        Ok(())
    }

    /// Asks for another number and brings it about. Whether it happened.
    async fn change(
        &self,
        run: &Run,
        service: &Service,
        decision: &ScalingDecision,
        tally: &mut Tally,
    ) -> Result<bool, Failure> {
        let key = decision.key().map_err(|fault| Failure::permanent("naming a decision", fault))?;
        let command = Command::Scale { to: decision.to, observed: decision.from };
        let said = self.desk.ask(run, service, Source::Scaling, (key, decision.at), command).await?;
        match &said {
            Said::Accepted { .. } | Said::AlreadyDone { .. } => {}
            Said::Busy { .. } | Said::Refused(_) | Said::Forbidden(_) => {
                tally.why.push(refusal(service, &said));
                return Ok(false);
            }
        }
        let name = &service.place.service;
        match self.desk.carry(run, service, &CARRIES).await? {
            // It was carried out by somebody else, or is so.
            Carried::Nothing | Carried::Done { outcome: Outcome::Succeeded, .. } => {
                run.publish("ScalingPolicyApplied", name.as_str(), payload(service, decision)).await?;
                tally.did.push(format!("{name}: {} to {} replicas", decision.from, decision.to));
                Ok(true)
            }
            Carried::Done { outcome, .. } => {
                tally.why.push(format!("{name}: {outcome}"));
                Ok(false)
            }
            Carried::Waiting { why, .. } => {
                tally.why.push(format!("{name}: {why}"));
                Ok(false)
            }
        }
    }
}

fn payload(service: &Service, decision: &ScalingDecision) -> Value {
    json!({
        "environmentId": service.place.environment,
        "serviceId": service.place.service,
        "policyId": decision.policy_id,
        "from": decision.from,
        "to": decision.to,
        "rule": decision.rule,
        "reason": decision.reason,
        "inputs": decision.inputs,
        "decision": decision.number,
    })
}

/// Why the arbiter did not let it happen, for a person.
fn refusal(service: &Service, said: &Said) -> String {
    let name = &service.place.service;
    match said {
        Said::Accepted { .. } | Said::AlreadyDone { .. } => format!("{name}: nothing was refused"),
        Said::Busy { doing, since, by, .. } => format!("{name}: {doing} is under way since {since}, asked by {by}"),
        Said::Refused(refusal) => explained(&service.place, refusal),
        Said::Forbidden(why) => format!("{name}: {why}"),
    }
}

fn key(text: &str) -> Result<RequestKey, Failure> {
    RequestKey::new(text).map_err(|fault| Failure::permanent("naming a request", fault))
}
