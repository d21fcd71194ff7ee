//! `services.observe`: what runs of a tenant's services, for people and for lists. Changes nothing.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Desk;
use crate::runtime::compute::observed::ObservedSet;
use crate::runtime::compute::traffic::ServiceTraffic;
use crate::runtime::model::{EnvironmentId, ServiceId};
use crate::runtime::records::docket::Docket;
use crate::runtime::records::place;
use crate::runtime::store::{self, Space};

/// Where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Which environment.
    pub environment: EnvironmentId,
}

/// What is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Where its services are reached.
    pub gateway: Option<SocketAddr>,
    /// What runs.
    pub sets: Vec<ObservedSet>,
    /// What was asked of it.
    pub traffic: Vec<ServiceTraffic>,
}

/// The activity.
pub struct Observe {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Observe {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "services.observe";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let (desk, tenant) = (&self.desk, &attempt.saga.tenant);
        let any = ServiceId::new("any").map_err(super::desk::faulty)?;
        let body = serde_json::to_value(&input).unwrap_or_default();
        let entered = desk.enter_environment(attempt, Self::NAME, &input.environment, &any, body).await?;
        let owner = entered.granted.owner;
        let below = place::dockets(&input.environment);
        let dockets = store::read_all::<Docket>(&*desk.ports.store, &Space::Of(owner.clone()), &below).await?;
        let theirs: Vec<String> = dockets
            .into_iter()
            .filter(|(_, docket)| docket.tenant == *tenant || owner == *tenant)
            .map(|(_, docket)| docket.state.service_id.to_string())
            .collect();
        let mut observed = desk.ports.compute.observe(input.environment.as_str()).await?;
        let mut traffic = desk.ports.compute.traffic(input.environment.as_str()).await?;
        observed.sets.retain(|set| theirs.contains(&set.service));
        traffic.retain(|one| theirs.contains(&one.service));
        Ok(Output { gateway: observed.gateway, sets: observed.sets, traffic })
    }
}
