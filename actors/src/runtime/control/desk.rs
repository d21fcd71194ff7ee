//! What the workers share: their ports, the arbiters, and the services of an environment.

use std::sync::Arc;

use protocol::Principal;
use supervisor::activity::Failure;
use supervisor::ports::{Clock, Outbox};
use supervisor::worker::Run;

use crate::runtime::arbitration::{Arbitration, Asker};
use crate::runtime::compute::Compute;
use crate::runtime::control::cards::Worker as Which;
use crate::runtime::control::sagas::Sagas;
use crate::runtime::model::{Environment, EnvironmentId, Revision};
use crate::runtime::ports::desired::DesiredState;
use crate::runtime::ports::metrics::Metrics;
use crate::runtime::ports::probes::Prober;
use crate::runtime::ports::secrets::SecretVersions;
use crate::runtime::records::deployments::Running;
use crate::runtime::records::docket::Docket;
use crate::runtime::records::place::{self, Place};
use crate::runtime::records::tenancy::Tenancy;
use crate::runtime::store::{self, RuntimeStore, Space};

/// The ports of the workers.
#[derive(Clone)]
pub struct Ports {
    /// Where things are remembered.
    pub store: Arc<dyn RuntimeStore>,
    /// Where workloads run.
    pub compute: Arc<dyn Compute>,
    /// Asks replicas, from where they can be reached.
    pub prober: Arc<dyn Prober>,
    /// How busy services are. `None`: nobody knows, and scaling policies hold.
    pub metrics: Option<Arc<dyn Metrics>>,
    /// What is wanted, as people wrote it down. `None`: nobody did.
    pub desired: Option<Arc<dyn DesiredState>>,
    /// Secrets, without their values.
    pub secrets: Arc<dyn SecretVersions>,
    /// Starts what takes longer than a look.
    pub sagas: Arc<dyn Sagas>,
    /// Where arbiters and refusals are told.
    pub outbox: Arc<dyn Outbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What one worker works with.
#[derive(Clone)]
pub struct Desk {
    /// The ports.
    pub ports: Ports,
    /// The arbiters.
    pub arbitration: Arbitration,
    /// Who may use what.
    pub tenancy: Tenancy,
    /// Whose desk it is.
    pub worker: Which,
}

/// An environment, and the services in it.
#[derive(Clone, Debug)]
pub struct Look {
    /// The environment.
    pub environment: Environment,
    /// Its services, by name; of whichever tenant.
    pub services: Vec<Service>,
}

/// A service, as its arbiter knew it a moment ago.
#[derive(Clone, Debug)]
pub struct Service {
    /// Which, and whose environment it is in.
    pub place: Place,
    /// Whose it is, and what is known of it.
    pub docket: Docket,
}

impl Service {
    /// What runs, with as many replicas as it was last given.
    pub fn current(&self) -> Option<Revision> {
        let state = &self.docket.state;
        state.current.as_ref().map(|current| Revision { replicas: state.replicas, ..current.clone() })
    }
}

impl Desk {
    /// The desk of `worker`.
    pub fn new(ports: Ports, worker: Which) -> Self {
        let arbitration = Arbitration::new(ports.store.clone(), ports.outbox.clone(), ports.clock.clone());
        let tenancy = Tenancy::new(ports.store.clone(), ports.outbox.clone(), ports.clock.clone());
        Self { ports, arbitration, tenancy, worker }
    }

    /// As whom the worker acts.
    pub fn principal(&self) -> Result<Principal, Failure> {
        Principal::new(self.worker.name()).map_err(|error| Failure::permanent("naming a worker", error))
    }

    /// Looks at the environment of `run`. `None`: it is not there, or not any more.
    pub async fn look(&self, run: &Run) -> Result<Option<Look>, Failure> {
        let Some(environment) = self.environment(run).await? else { return Ok(None) };
        let (id, owner) = (environment.environment_id.clone(), &run.worker.tenant);
        let space = Space::Of(owner.clone());
        let dockets = store::read_all::<Docket>(&*self.ports.store, &space, &place::dockets(&id)).await?;
        let services = dockets.into_iter().map(|(_, docket)| Service {
            place: Place { owner: owner.clone(), environment: id.clone(), service: docket.state.service_id.clone() },
            docket,
        });
        Ok(Some(Look { environment, services: services.collect() }))
    }

    /// The environment of `run`, without its services.
    pub async fn environment(&self, run: &Run) -> Result<Option<Environment>, Failure> {
        let (space, name) = (Space::Of(run.worker.tenant.clone()), place::environment(&environment_of(run)?));
        let found = store::read::<Environment>(&*self.ports.store, &space, &name).await?;
        Ok(found.map(|found| found.value))
    }

    /// One service, as its arbiter knows it now. `None`: it does not know it.
    pub async fn service(&self, place: &Place) -> Result<Option<Service>, Failure> {
        let seen = self.arbitration.look(place).await?;
        Ok(seen.map(|seen| Service { place: place.clone(), docket: seen.value }))
    }

    /// The same service, as its arbiter knows it now.
    pub async fn again(&self, service: &Service) -> Result<Option<Service>, Failure> {
        self.service(&service.place).await
    }

    /// `revision`, with all that it takes to run it. `None`: how it ran is not known any more.
    pub async fn running(&self, place: &Place, revision: &Revision) -> Result<Option<Running>, Failure> {
        Ok(Running::of(&*self.ports.store, place, revision, &revision.deployment_id).await?)
    }

    /// For the trail of what a run asks for.
    pub fn asker(run: &Run, service: &Service) -> Asker {
        Asker { tenant: service.docket.tenant.clone(), trace: run.trace.clone(), saga: run.correlation.clone() }
    }
}

/// The environment of a run.
pub fn environment_of(run: &Run) -> Result<EnvironmentId, Failure> {
    EnvironmentId::new(run.worker.environment.as_str())
        .map_err(|fault| Failure::permanent("reading the environment's name", fault))
}
