//! `RuntimeInventoryWorker`: what is shown of an environment is what runs in it (W050–W056, F54).
//!
//! Events make it look sooner (W052). What did not change is neither written nor said (W074).

pub mod decide;

use async_trait::async_trait;
use serde_json::json;
use supervisor::activity::Failure;
use supervisor::worker::{Report, Rhythm, Run, Worker};

use crate::runtime::compute::Observed;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::desk::{Desk, Look, Ports};
use crate::runtime::deployment::observed_service;
use crate::runtime::model::{ObservedService, ServiceId};
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, Space};

/// The worker.
pub struct Inventory {
    desk: Desk,
    triggers: Vec<&'static str>,
}

impl Inventory {
    /// A worker on `ports`.
    pub fn new(ports: &Ports) -> Self {
        let which = Which::RuntimeInventoryWorker;
        Self { desk: Desk::new(ports.clone(), which), triggers: which.events() }
    }

    /// What differs between what is shown and what runs.
    async fn changes(&self, look: &Look, observed: &Observed) -> Result<decide::Changes, Failure> {
        let (owner, id) = (&look.environment.tenant_id, &look.environment.environment_id);
        let space = Space::Of(owner.clone());
        let shown = store::read_all::<ObservedService>(&*self.desk.ports.store, &space, &place::inventory(id)).await?;
        let now = self.desk.ports.clock.now();
        let runs = look.services.iter().filter_map(|service| {
            let current = service.docket.state.current.as_ref()?;
            Some(observed_service(&service.place, &service.docket.tenant, current, observed, now))
        });
        let shown = shown.into_iter().map(|(_, service)| service);
        decide::changes(shown, runs.collect())
            .map_err(|too_many| Failure::permanent("listing an environment", too_many))
    }

    async fn show(&self, run: &Run, place: &Place, service: &ObservedService) -> Result<(), Failure> {
        let payload = json!({
            "environmentId": place.environment, "serviceId": place.service, "service": service,
        });
        run.publish("RuntimeInventoryUpdated", place.service.as_str(), payload).await?;
        let store = &*self.desk.ports.store;
        store::change(store, &place.space(), &place.inventory(), |there: Option<&ObservedService>| {
            there.is_none_or(|there| !there.same_as(service)).then(|| service.clone())
        })
        .await?;
        Ok(())
    }

    async fn remove(&self, run: &Run, place: &Place) -> Result<(), Failure> {
        let payload = json!({
            "environmentId": place.environment, "serviceId": place.service, "removed": true,
        });
        run.publish("RuntimeInventoryUpdated", place.service.as_str(), payload).await?;
        let store = &self.desk.ports.store;
        if let Some(there) = store.get(&place.space(), &place.inventory()).await? {
            store.remove(&place.space(), &place.inventory(), there.revision).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Worker for Inventory {
    fn kind(&self) -> &str {
        Which::RuntimeInventoryWorker.kind()
    }

    fn rhythm(&self) -> Rhythm {
        Which::RuntimeInventoryWorker.rhythm()
    }

    fn triggers(&self) -> &[&str] {
        &self.triggers
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        let Some(look) = self.desk.look(run).await? else {
            return Ok(Report::unchanged("no environment", "it is not there any more"));
        };
        let id = look.environment.environment_id.clone();
        let observed = self.desk.ports.compute.observe(id.as_str()).await?;
        let changes = self.changes(&look, &observed).await?;
        let saw = format!("{} services, {} unmanaged processes", look.services.len(), observed.unmanaged.len());
        let place = |service: &ServiceId| Place {
            owner: look.environment.tenant_id.clone(),
            environment: id.clone(),
            service: service.clone(),
        };
        for service in changes.added.iter().chain(&changes.changed) {
            self.show(run, &place(&service.service_id), service).await?;
        }
        for service in &changes.removed {
            self.remove(run, &place(service)).await?;
        }
        let report = match changes.is_empty() {
            true => Report::unchanged(saw, "what is shown is what runs"),
            false => {
                let (added, changed, removed) = (changes.added.len(), changes.changed.len(), changes.removed.len());
                let did = format!("{added} added, {changed} changed, {removed} removed");
                Report::changed(saw, did, "what runs was not what was shown")
            }
        };
        Ok(report.count("services", look.services.len() as u64).count("unmanaged", observed.unmanaged.len() as u64))
    }
}

#[cfg(test)]
mod tests;
