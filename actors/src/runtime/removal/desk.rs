//! What the activities of a removal share: the way in, and whether the service is theirs.

use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure};

use crate::runtime::arbiter::UnderWay;
use crate::runtime::deployment::Desk;
use crate::runtime::deployment::desk::Entered;
use crate::runtime::model::{EnvironmentId, ServiceId};
use crate::runtime::records::docket::Docket;
use crate::runtime::records::environments::Environments;
use crate::runtime::records::ownership::Rule;
use crate::runtime::records::place::Place;

/// Which service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Where.
    pub environment: EnvironmentId,
    /// What.
    pub service: ServiceId,
}

impl Input {
    /// Lets the attempt's tenant in, or refuses it on record.
    pub async fn enter(&self, desk: &Desk, attempt: &Attempt, what: &'static str) -> Result<Entered, Failure> {
        let body = serde_json::to_value(self).unwrap_or_default();
        desk.enter_by(Rule::Remove, attempt, what, &self.environment, &self.service, body).await
    }

    /// The service on the way back, whatever became meanwhile of the tenant's right to its environment; `None`: its
    /// removal is not this saga's, or not any more.
    pub async fn claimed(&self, desk: &Desk, attempt: &Attempt) -> Result<Option<Claimed>, Failure> {
        attempt.heartbeat.beat();
        let Some(owner) = Environments::new(desk.ports.store.clone()).owner(&self.environment).await? else {
            return Ok(None);
        };
        let place = Place { owner, environment: self.environment.clone(), service: self.service.clone() };
        let Some(seen) = desk.arbitration.look(&place).await? else { return Ok(None) };
        Ok(ours(&seen.value, attempt).cloned().map(|under_way| Claimed { place, docket: seen.value, under_way }))
    }
}

/// A service that a saga takes away.
pub struct Claimed {
    /// Which.
    pub place: Place,
    /// What its arbiter knows.
    pub docket: Docket,
    /// The removal.
    pub under_way: UnderWay,
}

/// What is under way, where it is a removal by the attempt's saga.
pub fn ours<'a>(docket: &'a Docket, attempt: &Attempt) -> Option<&'a UnderWay> {
    let ours = docket.state.removed_by() == Some(attempt.saga.to_string().as_str());
    docket.state.under_way.as_ref().filter(|_| ours)
}
