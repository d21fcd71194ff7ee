//! Services that are busy with what nobody carries out any more, and those that are busy for too long (H06).
//!
//! A deployment tells its arbiter how it ended before its saga ends. One that was abandoned by a person, or whose
//! saga went on without that step, never does, and the service would be busy for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::view::Outcome;
use protocol::{SagaId, SagaKey};
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::Run;

use super::{Memory, RuntimeDeployment};
use crate::runtime::arbiter::{Action, Command, Source, UnderWay};
use crate::runtime::control::Said;
use crate::runtime::control::desk::{Look, Service};
use crate::runtime::control::sagas::Became;
use crate::runtime::control::telling::ALARM;
use crate::runtime::deployment::desk::request_key;
use crate::runtime::model::RequestKey;
use crate::runtime::records::deployments::Record;
use crate::runtime::records::place;
use crate::runtime::store;

/// What began a moment ago is not asked after: a look at every saga at every turn would cost more than it finds.
const ASKED_AFTER: Duration = Duration::from_secs(60);

impl RuntimeDeployment {
    /// Frees services whose saga has ended, and tells of those that are busy for too long.
    pub(super) async fn free(
        &self,
        run: &Run,
        look: &Look,
        memory: &mut Memory,
        did: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let mut late = BTreeMap::new();
        for service in &look.services {
            let state = &service.docket.state;
            let Some(under_way) = &state.under_way else { continue };
            if run.now().since(under_way.since) < ASKED_AFTER {
                continue;
            }
            if let Some((saga, ended)) = self.abandoned(service, under_way).await? {
                let why =
                    format!("{saga} ended as {} and left {} behind", ended.status.word(), under_way.action.doing());
                if self.give_up(run, service, under_way, why.clone()).await? {
                    did.push(format!("freed {}: {why}", service.place.service));
                }
                continue;
            }
            if state.overdue(run.now()).is_none() {
                continue;
            }
            let (name, number) = (service.place.service.clone(), under_way.sequence);
            if memory.late.get(&name) != Some(&number) {
                let doing = under_way.action.doing();
                let (place, most) = (&service.place, doing.deadline().as_secs());
                let why = format!("{doing} since {}, and it should take {most} s at most", under_way.since);
                let about = [place.environment.as_str(), place.service.as_str(), &number.to_string()];
                let payload = json!({ "environmentId": place.environment, "serviceId": place.service, "why": why });
                self.desk.tell(run, &service.docket.tenant, ALARM, &about, payload).await?;
                did.push(format!("told that {name} is busy for long: {why}"));
            }
            late.insert(name, number);
        }
        memory.late = late;
        Ok(())
    }

    /// The saga that carried out what is under way and has ended, where a saga did.
    async fn abandoned(&self, service: &Service, under_way: &UnderWay) -> Result<Option<(SagaKey, Outcome)>, Failure> {
        let saga = match &under_way.action {
            Action::Removing { saga } => Some(saga.clone()),
            Action::Deploying { .. }
            | Action::Remediating { .. }
            | Action::Restoring { .. }
            | Action::Stopping { .. } => self.deploying(service, under_way).await?,
            // A worker carries it out, and goes on wherever it stands.
            Action::Scaling { .. }
            | Action::Configuring { .. }
            | Action::Refreshing { .. }
            | Action::Restarting { .. }
            | Action::Draining { .. } => None,
        };
        let named = saga.and_then(|saga| saga.parse::<SagaId>().ok());
        let Some(SagaId { tenant, key }) = named else { return Ok(None) };
        Ok(match self.desk.ports.sagas.became(&tenant, &key).await? {
            Some(Became::Ended(outcome)) => Some((key, outcome)),
            Some(Became::UnderWay) | None => None,
        })
    }

    /// The saga of the deployment that is under way.
    async fn deploying(&self, service: &Service, under_way: &UnderWay) -> Result<Option<String>, Failure> {
        let (store, place) = (&*self.desk.ports.store, &service.place);
        let below = place::deployments(&place.environment, &place.service);
        let records = store::read_all::<Record>(store, &place.space(), &below).await?;
        let asks = |record: &Record, what| {
            request_key(what, &record.deployment.deployment_id).is_ok_and(|key| key == under_way.key)
        };
        let mut records = records.into_iter().map(|(_, record)| record);
        let record = records.find(|record| asks(record, "deploy") || asks(record, "undo"));
        Ok(record.map(|record| record.saga))
    }

    async fn give_up(&self, run: &Run, service: &Service, under_way: &UnderWay, why: String) -> Result<bool, Failure> {
        let key = RequestKey::new(format!("abandoned/{}/{}", service.place.service, under_way.sequence));
        let key = key.map_err(|fault| Failure::permanent("naming what is given up", fault))?;
        let command = Command::Abandon { sequence: under_way.sequence, why };
        Ok(match self.desk.ask(run, service, Source::Sync, (key, run.now()), command).await? {
            Said::Accepted { .. } => true,
            // It has ended meanwhile, or is not ours to end.
            Said::AlreadyDone { .. } | Said::Busy { .. } | Said::Refused(_) | Said::Forbidden(_) => false,
        })
    }
}
