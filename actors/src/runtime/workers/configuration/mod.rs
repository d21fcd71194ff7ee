//! `ConfigurationSyncWorker`: brings what was published to the service that it is for, once a burst
//! of versions is over, and says when it runs (W037–W042).
//!
//! It looks at what was published, not at the event: one that was lost costs nothing (F51). The
//! arbiter is asked by `ApplyConfiguration` under one key per version and service; what was taken
//! back there stays away (H01), and what failed before anything changed is asked again under the
//! next key.

pub mod decide;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use protocol::Time;
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::{Report, Retry, Rhythm, Run, Worker};

use crate::runtime::arbiter::{Answered, Command, Doing, Outcome, Source};
use crate::runtime::arbitration::explained;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::desk::{Desk, Ports, Service};
use crate::runtime::control::loop_alarm::{self, May, Row};
use crate::runtime::control::telling::ALARM;
use crate::runtime::control::{Carried, Said};
use crate::runtime::model::published::Sync;
use crate::runtime::model::{ConfigurationRef, Digest, RequestKey, RuntimeConfiguration, ServiceId};
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, Space};
use decide::User;

/// How often it looks whether a burst is over: well below the quiet that it waits for, and cheap,
/// because an environment where nothing was published is two questions to the store.
const EVERY: Duration = Duration::from_secs(5);

/// The worker.
pub struct ConfigurationSync {
    desk: Desk,
    triggers: Vec<&'static str>,
}

/// What it remembers: how often the same was tried without effect.
type Memory = BTreeMap<String, Row>;

impl ConfigurationSync {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Which::ConfigurationSyncWorker;
        Self { desk: Desk::new(ports.clone(), which), triggers: which.events() }
    }
}

#[async_trait]
impl Worker for ConfigurationSync {
    fn kind(&self) -> &str {
        self.desk.worker.kind()
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm::every(EVERY).retry(Retry::max(self.desk.worker.card().attempts))
    }

    fn triggers(&self) -> &[&str] {
        &self.triggers
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        // Not the services of all: this happens every few seconds, and most of them have published nothing.
        let Some(environment) = self.desk.environment(run).await? else {
            return Ok(Report::unchanged("", "the environment is not there"));
        };
        let space = Space::Of(run.worker.tenant.clone());
        let below = place::all_published(&environment.environment_id);
        let published = store::read_all::<Sync>(&*self.desk.ports.store, &space, &below).await?;
        let before: Memory = serde_json::from_value(run.remembered.clone()).unwrap_or_default();
        let (mut memory, mut did, mut why) = (before.clone(), Vec::new(), Vec::new());
        let mut wanted = Vec::new();
        for (name, sync) in &published {
            let home = Place {
                owner: run.worker.tenant.clone(),
                environment: environment.environment_id.clone(),
                service: ServiceId::new(sync.newest.configuration_id.as_str())
                    .map_err(|fault| Failure::permanent("naming the service of a configuration", fault))?,
            };
            let user = self.desk.service(&home).await?;
            let users = user.as_slice();
            for user in users {
                if let Carried::Done { outcome, .. } = self.desk.carry(run, user, &[Doing::Configuring]).await? {
                    did.push(format!("{} of {}: {}", sync.newest, user.place, outcome));
                }
            }
            for round in 0..2 {
                let seen = self.users(users).await?;
                let (next, thought) = decide::look(sync, &seen, run.now())
                    .map_err(|fault| Failure::permanent("thinking about a configuration", fault))?;
                if let Some(at) = thought.look_at {
                    why.push(format!("{} may not be the last one, waits until {at}", sync.newest));
                }
                if let Some(at) = &thought.synced {
                    self.say_synced(run, at, &sync.digest, users).await?;
                    store::change(&*self.desk.ports.store, &space, name, |there: Option<&Sync>| {
                        // A newer one may have come meanwhile.
                        there.filter(|there| *there == sync).map(|_| next.clone())
                    })
                    .await?;
                    did.push(format!("said that {at} runs"));
                }
                if thought.apply.is_empty() || round > 0 {
                    wanted.extend(thought.apply.into_iter().map(|(key, _, _)| key.to_string()));
                    break;
                }
                for (key, service, to) in thought.apply {
                    let Some(user) = users.iter().find(|it| it.place.service == service) else { continue };
                    let asked = Asked { key, to, published_at: sync.published_at };
                    self.apply(run, user, asked, &mut memory, &mut did, &mut why).await?;
                }
            }
        }
        memory.retain(|key, _| wanted.contains(key));
        let saw = format!("{} published configurations", published.len());
        let report = match did.is_empty() {
            true if why.is_empty() => Report::unchanged(saw, "all services run what was published"),
            true => Report::unchanged(saw, why.join("; ")),
            false => Report::changed(saw, did.join(", "), why.join("; ")),
        };
        if memory == before {
            return Ok(report);
        }
        Ok(report.remember(json!(memory)))
    }
}

/// A roll that is wanted.
struct Asked {
    key: RequestKey,
    to: ConfigurationRef,
    published_at: Time,
}

impl ConfigurationSync {
    async fn users(&self, users: &[Service]) -> Result<Vec<User>, Failure> {
        let mut seen = Vec::new();
        for user in users {
            let Some(now) = self.desk.again(user).await? else { continue };
            // What was never deployed takes up what was published when it is.
            let Some(current) = &now.docket.state.current else { continue };
            let at = current.configuration.as_ref();
            let digest = match at {
                Some(at) => self.digest(&now, at).await?,
                None => None,
            };
            seen.push(User {
                service_id: now.place.service.clone(),
                runs: at.map(|at| at.version),
                digest,
                opted_out: false,
            });
        }
        Ok(seen)
    }

    async fn digest(&self, service: &Service, at: &ConfigurationRef) -> Result<Option<Digest>, Failure> {
        let place = &service.place;
        let name = place.configuration(at);
        let read = store::read::<RuntimeConfiguration>(&*self.desk.ports.store, &place.space(), &name).await?;
        Ok(read.map(|read| read.value.digest()))
    }

    async fn apply(
        &self,
        run: &Run,
        user: &Service,
        asked: Asked,
        memory: &mut Memory,
        did: &mut Vec<String>,
        why: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let Asked { key, to, published_at } = asked;
        let place = &user.place;
        let Some(now) = self.desk.again(user).await? else { return Ok(()) };
        let failed = failures(&now, &key);
        let (try_key, asked_at) = match failed.last() {
            None => (key.clone(), published_at),
            Some(last) => (numbered(&key, failed.len())?, last.at),
        };
        if !failed.is_empty() {
            let row = memory.get(key.as_str()).cloned().unwrap_or_default();
            let (row, may) = loop_alarm::want(&row, &place.to_string(), key.as_str(), run.now());
            match may {
                May::NotBefore(at) => {
                    why.push(format!("{to} could not be brought to {place}, it is tried again at {at}"));
                    return Ok(());
                }
                May::AndTell(text) => {
                    let payload = json!({
                        "environmentId": place.environment, "serviceId": place.service, "why": text,
                    });
                    let about = [place.environment.as_str(), try_key.as_str()];
                    self.desk.tell(run, &now.docket.tenant, ALARM, &about, payload).await?;
                }
                May::Now => {}
            }
            memory.insert(key.to_string(), row);
        }
        let command = Command::ApplyConfiguration { to: to.clone() };
        match self.desk.ask(run, &now, Source::Configuration, (try_key, asked_at), command).await? {
            Said::Accepted { .. } => match self.desk.carry(run, &now, &[Doing::Configuring]).await? {
                Carried::Done { outcome, .. } => {
                    did.push(format!("brought {to} to {place}: {}", outcome));
                    why.push(format!("{to} was published"));
                }
                Carried::Waiting { why: for_what, .. } => {
                    did.push(format!("began to bring {to} to {place}"));
                    why.push(for_what);
                }
                Carried::Nothing => did.push(format!("began to bring {to} to {place}")),
            },
            Said::AlreadyDone { .. } => why.push(format!("{to} was brought to {place} before, and taken back")),
            Said::Busy { doing, .. } => why.push(format!("{place} is busy: {doing}")),
            Said::Refused(refusal) => why.push(explained(place, &refusal)),
            Said::Forbidden(cause) => why.push(cause),
        }
        Ok(())
    }

    async fn say_synced(
        &self,
        run: &Run,
        at: &ConfigurationRef,
        digest: &Digest,
        users: &[Service],
    ) -> Result<(), Failure> {
        let services: Vec<_> = users.iter().map(|user| &user.place.service).collect();
        let tenant = users.first().map_or(&run.worker.tenant, |user| &user.docket.tenant);
        let environment = run.worker.environment.as_str();
        let payload = json!({
            "environmentId": environment, "configurationId": at.configuration_id, "version": at.version,
            "digest": digest, "services": services,
        });
        let about = [environment, at.configuration_id.as_str(), &at.version.to_string()];
        self.desk.tell(run, tenant, "ConfigurationSynced", &about, payload).await
    }
}

/// The key of another try.
pub(super) fn numbered(key: &RequestKey, number: usize) -> Result<RequestKey, Failure> {
    RequestKey::new(format!("{key}/{number}")).map_err(|fault| Failure::permanent("naming a request", fault))
}

/// What was asked under `key`, all tries, oldest first.
pub(super) fn asked<'a>(service: &'a Service, key: &RequestKey) -> impl Iterator<Item = &'a Answered> {
    let key = key.clone();
    service.docket.state.answered.iter().filter(move |answered| {
        let rest = answered.key.as_str().strip_prefix(key.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Tries of `key` that ended before they changed anything, oldest first.
fn failures<'a>(service: &'a Service, key: &RequestKey) -> Vec<&'a Answered> {
    let failed = |answered: &&Answered| match &answered.outcome {
        Some(Outcome::Failed { .. }) => true,
        Some(Outcome::Succeeded | Outcome::RolledBack { .. } | Outcome::Stuck { .. } | Outcome::Differs { .. })
        | None => false,
    };
    asked(service, key).filter(failed).collect()
}

#[cfg(test)]
mod tests;
