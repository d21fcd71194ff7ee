//! What follows from how a service is: what is said, started anew, brought back, stored.

use protocol::{SagaKey, TraceId, Value};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;
use supervisor::worker::Run;
use tracing::{info, warn};

use super::{Health, Tally, Watched};
use crate::runtime::arbiter::{Command, Doing, Request, Source, Standing};
use crate::runtime::arbitration::{Asker, BUSY};
use crate::runtime::control::loop_alarm::{self, May};
use crate::runtime::control::sagas::{Became, Starting};
use crate::runtime::control::telling::ALARM;
use crate::runtime::deployment::DEFINITION;
use crate::runtime::model::RequestKey;
use crate::runtime::records::incidents::{self, Incident};
use crate::runtime::store;
use crate::runtime::workers::health::decide::{Verdict, Window};
use crate::runtime::workers::health::failure::{Condition, Do, Heard, hear};
use crate::runtime::workers::health::judging::{Stored, of_the_arbiter, of_the_window, open, reason, restore_key};
use crate::runtime::workers::health::probing::SeenService;

impl Health {
    /// Hears what is known of a service, does what follows, and stores what changed by it.
    pub(super) async fn judge(
        &self,
        run: &Run,
        watched: &Watched,
        seen: &SeenService,
        window: Window,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let state = &watched.service.docket.state;
        let mut next = watched.stored.clone();
        let restore = match of_the_arbiter(&next, state)? {
            Some(heard) => Some(heard),
            None => self.of_the_saga(watched, &mut next, window, tally).await?,
        };
        let heard = [restore, of_the_window(seen, window)];
        for heard in heard.into_iter().flatten() {
            let (condition, what) = hear(next.condition, heard);
            if spared(watched, seen, condition) {
                tally.why.push(format!("{}: unwell for long, and not taken back", watched.service.place.service));
                continue;
            }
            let before = std::mem::replace(&mut next.condition, condition);
            note(&mut next, watched, before)?;
            if next.restore != watched.stored.restore {
                next.trace = next.restore.as_ref().map(|_| run.trace.clone());
            }
            match what {
                Do::Nothing => {}
                // It was said when it was decided; what is asked again is only the arbiter.
                Do::AskRollback if before == condition => {}
                Do::Say | Do::AskRollback => self.say(run, watched, seen, window, condition, tally).await?,
                Do::OpenIncident => {
                    self.say(run, watched, seen, window, condition, tally).await?;
                    self.incident(run, watched, seen, &next).await?;
                    // The arbiter knows by now; a person who resumes the service ends it here too.
                    next.stood = true;
                }
            }
        }
        let stands = matches!(state.standing, Standing::Incident { .. });
        next.stood = next.condition == Condition::Incident && (next.stood || stands);
        self.restarts(run, watched, seen, &mut next, tally).await?;
        self.store(watched, &next).await?;
        // Only now: whoever comes next knows the saga by the name that was stored.
        match (next.condition, &next.restore) {
            (Condition::Rollback, Some(restore)) if open(state) => {
                self.restore(run, watched, seen, (restore, next.trace.as_ref()), tally).await
            }
            (
                Condition::Healthy
                | Condition::Degraded { .. }
                | Condition::Rollback
                | Condition::Restoring
                | Condition::Incident,
                _,
            ) => Ok(()),
        }
    }

    async fn store(&self, watched: &Watched, next: &Stored) -> Result<(), Failure> {
        if *next == watched.stored {
            return Ok(());
        }
        let (place, ports) = (&watched.service.place, &self.desk.ports);
        let before = &watched.stored;
        store::change(&*ports.store, &place.space(), &place.condition(), |there: Option<&Stored>| {
            // Another node that ran this too has said something else: the next look begins with that.
            (there.is_none_or(|there| there == before)).then(|| next.clone())
        })
        .await?;
        Ok(())
    }

    async fn say(
        &self,
        run: &Run,
        watched: &Watched,
        seen: &SeenService,
        window: Window,
        condition: Condition,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let (place, status) = (&watched.service.place, word(condition));
        let why = match condition {
            Condition::Healthy => format!("{} of {} replicas are well", seen.ready(), seen.wanted),
            Condition::Degraded { .. } | Condition::Rollback | Condition::Restoring | Condition::Incident => {
                reason(watched, seen)
            }
        };
        let payload = json!({
            "environmentId": place.environment,
            "serviceId": place.service,
            "deploymentId": watched.running.revision.deployment_id,
            "status": status,
            "ready": seen.ready(),
            "replicas": seen.wanted,
            "window": window.begin(),
            "reason": why,
        });
        run.publish("HealthCheckCompleted", &format!("{}/{status}", place.service), payload).await?;
        info!(service = %place, status, why, "service health changed");
        tally.did.push(format!("{} is {status}", place.service));
        tally.why.push(why);
        Ok(())
    }

    /// Has the arbiter tell people, unless it has: one incident, with what was asked in vain.
    async fn incident(&self, run: &Run, watched: &Watched, seen: &SeenService, next: &Stored) -> Result<(), Failure> {
        let (place, docket) = (&watched.service.place, &watched.service.docket);
        if let Standing::Incident { .. } = docket.state.standing {
            return Ok(());
        }
        let why = format!("{}; it could not be brought back", reason(watched, seen));
        let (by, ports) = (self.desk.principal()?, &self.desk.ports);
        let trace = next.trace.clone().unwrap_or_else(|| run.trace.clone());
        let named = next.restore.as_ref().map_or_else(|| run.key.clone(), |key| format!("{}/{key}", docket.tenant));
        if next.restore.is_some() {
            let input = restoring(watched, seen);
            let envelope = incidents::requested((&docket.tenant, &named), (&by, &trace, run.now()), &input)?;
            let (why, saga, trace, envelope) = (why.clone(), named.clone(), trace.clone(), Some(envelope));
            let incident = Incident { why, since: run.now(), by: by.clone(), saga, trace, envelope };
            incidents::keep(&*ports.store, place, &incident).await?;
        }
        let digits = hex::encode(Sha256::digest(format!("{}/{place}/{named}", place.owner)));
        let request = Request {
            key: RequestKey::new(format!("strand:{}", &digits[..32]))
                .map_err(|fault| Failure::permanent("naming an incident", fault))?,
            source: Source::Health,
            by,
            asked_at: run.now(),
            command: Command::Strand { why },
        };
        let asker = Asker { tenant: docket.tenant.clone(), trace, saga: named };
        self.desk.arbitration.ask(place, &asker, docket.state.stage, &request).await?;
        Ok(())
    }

    /// Starts anew what does not live (D404), less and less often where that does not help.
    async fn restarts(
        &self,
        run: &Run,
        watched: &Watched,
        seen: &SeenService,
        next: &mut Stored,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let place = &watched.service.place;
        next.rows.retain(|id, _| {
            let there = seen.replicas.iter().find(|replica| replica.id == *id);
            there.is_some_and(|replica| replica.verdict != Verdict::Ready)
        });
        let state = &watched.service.docket.state;
        // What goes away is not worth it.
        let goes = matches!(state.doing(), Doing::Restoring | Doing::Stopping);
        if goes || !open(state) {
            return Ok(());
        }
        for replica in seen.replicas.iter().filter(|replica| replica.verdict == Verdict::Dead) {
            let row = next.rows.get(&replica.id).cloned().unwrap_or_default();
            let (row, may) = loop_alarm::want(&row, &replica.id, "restart", run.now());
            match may {
                May::NotBefore(at) => {
                    tally.why.push(format!("{} is not started anew before {at}", replica.id));
                    continue;
                }
                May::Now => {}
                May::AndTell(why) => {
                    warn!(service = %place, why, "a loop has no effect");
                    let payload = json!({
                        "environmentId": place.environment, "serviceId": place.service,
                        "worker": self.desk.worker.name(), "why": why,
                    });
                    run.publish(ALARM, &replica.id, payload).await?;
                    tally.why.push(why);
                }
            }
            next.rows.insert(replica.id.clone(), row);
            let environment = place.environment.as_str();
            self.desk.ports.compute.restart(environment, &replica.id, replica.incarnation).await?;
            let why = replica.why.clone().unwrap_or_else(|| "it does not live".to_owned());
            info!(service = %place, replica = replica.id, why, "replica is started anew");
            tally.did.push(format!("restarted {}", replica.id));
            tally.why.push(why);
        }
        Ok(())
    }

    /// What became of a restore that the arbiter never heard of. One that came when something else was
    /// under way is tried again under another name.
    async fn of_the_saga(
        &self,
        watched: &Watched,
        next: &mut Stored,
        window: Window,
        tally: &mut Tally,
    ) -> Result<Option<Heard>, Failure> {
        let (Condition::Rollback, Some(key)) = (next.condition, &next.restore) else { return Ok(None) };
        let service = &watched.service;
        match self.desk.ports.sagas.became(&service.docket.tenant, key).await? {
            None | Some(Became::UnderWay) => Ok(None),
            Some(Became::Ended(outcome)) if outcome.error.as_deref() == Some(BUSY) => {
                next.restore = Some(restore_key(service, &watched.running.revision.deployment_id, window)?);
                next.trace = None;
                Ok(None)
            }
            Some(Became::Ended(outcome)) => {
                let why = outcome.cause.or(outcome.error).unwrap_or_else(|| "it ended".to_owned());
                tally.why.push(format!("{} was not brought back: {why}", service.place.service));
                Ok(Some(Heard::RestoreFailed))
            }
        }
    }

    /// Has the last good release brought back; again until the arbiter has heard of it.
    async fn restore(
        &self,
        run: &Run,
        watched: &Watched,
        seen: &SeenService,
        (key, trace): (&SagaKey, Option<&TraceId>),
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let sagas = &self.desk.ports.sagas;
        let place = &watched.service.place;
        let tenant = watched.service.docket.tenant.clone();
        // Its end is heard of at the next look.
        if sagas.became(&tenant, key).await?.is_some() {
            return Ok(());
        }
        let input = restoring(watched, seen);
        let starting = Starting {
            tenant,
            principal: self.desk.principal()?,
            definition: DEFINITION.to_owned(),
            key: key.clone(),
            input,
            trace: trace.unwrap_or(&run.trace).clone(),
            causes: run.causes,
        };
        sagas.start(&starting).await?;
        tally.did.push(format!("asked for the last good release of {}", place.service));
        Ok(())
    }
}

/// What the saga is told that brings the last good release back.
fn restoring(watched: &Watched, seen: &SeenService) -> Value {
    let place = &watched.service.place;
    json!({
        "environment": place.environment,
        "service": place.service,
        "kind": "restore",
        "source": "health",
        "of": watched.running.revision.deployment_id,
        "why": reason(watched, seen),
    })
}

/// Whether nothing is taken back although it is unwell for long: a person wants it left alone, or
/// there is nothing to go back to and some of it still serves. Stopping its traffic (H08) is for what
/// serves nobody.
fn spared(watched: &Watched, seen: &SeenService, condition: Condition) -> bool {
    let asks = match condition {
        Condition::Rollback => watched.stored.condition != Condition::Rollback,
        Condition::Healthy | Condition::Degraded { .. } | Condition::Restoring | Condition::Incident => false,
    };
    let state = &watched.service.docket.state;
    asks && (!open(state) || seen.ready() > 0 && state.way_back().is_none())
}

/// Takes down what a new condition is about.
fn note(next: &mut Stored, watched: &Watched, before: Condition) -> Result<(), Failure> {
    let deployment = &watched.running.revision.deployment_id;
    match (before, next.condition) {
        (Condition::Degraded { since }, Condition::Rollback) => {
            next.restore = Some(restore_key(&watched.service, deployment, since)?);
        }
        (_, Condition::Healthy) => next.restore = None,
        (_, Condition::Degraded { .. } | Condition::Rollback | Condition::Restoring | Condition::Incident) => {}
    }
    next.deployment = match next.condition {
        Condition::Healthy => None,
        Condition::Degraded { .. } => Some(deployment.clone()),
        // What comes back is another one, and is expected.
        Condition::Rollback | Condition::Restoring | Condition::Incident => next.deployment.take(),
    };
    Ok(())
}

const fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Healthy => "Healthy",
        Condition::Degraded { .. } => "Degraded",
        Condition::Rollback => "Rollback",
        Condition::Restoring => "Restoring",
        Condition::Incident => "Incident",
    }
}
