//! The keeper as seen from any node: compute, probes and metrics of a machine that may be another.
//! Secrets and environments have files of their own.

use actors::runtime::compute::{Compute, Log, Observed, Reading, Route, ServiceTraffic, Set, SetId};
use actors::runtime::model::ProbeSpec;
use actors::runtime::ports::metrics::{Metrics, Query, Sample, Subject};
use actors::runtime::ports::probes::{Outcome, Place, Prober};
use async_nats::client::{Request, RequestErrorKind};
use async_trait::async_trait;
use protocol::subjects;
use supervisor::activity::Failure;

use super::words::{Ask, At, Told, outcome, pack, unpack};
use crate::nats::{Bus, chain};

/// Asks whoever keeps the processes. A question may be asked again: all that it can be is safe to
/// repeat, so one that got no answer is transient.
#[derive(Clone, Debug)]
pub struct FarKeeper {
    bus: Bus,
}

impl FarKeeper {
    /// Asks over `bus`.
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<Told, Failure> {
        let doing = format!("asking the keeper of the processes to {}", ask.name());
        let (within, body) = (ask.within(), pack(&ask));
        let request = Request::new().payload(body.into()).timeout(Some(within));
        let message =
            self.bus.client.send_request(subjects::KEEPER, request).await.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => {
                    Failure::transient(&doing, "no node keeps them; is one with `runtime.dir` running?")
                }
                RequestErrorKind::TimedOut => {
                    Failure::transient(&doing, format!("no answer within {} s", within.as_secs()))
                }
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    Failure::permanent(&doing, chain(&error))
                }
                RequestErrorKind::Other => Failure::transient(&doing, chain(&error)),
            })?;
        match unpack(&message.payload) {
            Ok(Told::Failed(failure)) => Err(failure),
            Ok(told) => Ok(told),
            Err(why) => Err(Failure::transient(&doing, format!("its answer cannot be read: {why}"))),
        }
    }

    async fn done(&self, ask: Ask) -> Result<(), Failure> {
        match self.ask(ask).await? {
            Told::Done => Ok(()),
            other => Err(strange(other.name())),
        }
    }
}

/// The answer to something else: a node of another release.
pub(super) fn strange(what: &str) -> Failure {
    Failure::transient("asking the keeper of the processes", format!("it answered with {what}; is it another release?"))
}

#[async_trait]
impl Compute for FarKeeper {
    async fn apply(&self, set: &Set) -> Result<(), Failure> {
        self.done(Ask::Apply(set.clone())).await
    }

    async fn observe(&self, environment: &str) -> Result<Observed, Failure> {
        match self.ask(Ask::Observe { environment: environment.to_owned() }).await? {
            Told::Observed(observed) => Ok(observed),
            other => Err(strange(other.name())),
        }
    }

    async fn route(&self, environment: &str, service: &str, routes: &[Route]) -> Result<(), Failure> {
        let (environment, service) = (environment.to_owned(), service.to_owned());
        self.done(Ask::Route { environment, service, routes: routes.to_vec() }).await
    }

    async fn remove(&self, set: &SetId) -> Result<(), Failure> {
        self.done(Ask::Remove(set.clone())).await
    }

    async fn logs(&self, environment: &str, replica: &str, reading: &Reading) -> Result<Log, Failure> {
        let (environment, replica) = (environment.to_owned(), replica.to_owned());
        match self.ask(Ask::Logs { environment, replica, reading: reading.clone() }).await? {
            Told::Logs(log) => Ok(log),
            other => Err(strange(other.name())),
        }
    }

    async fn restart(&self, environment: &str, replica: &str, incarnation: u64) -> Result<(), Failure> {
        let (environment, replica) = (environment.to_owned(), replica.to_owned());
        self.done(Ask::Restart { environment, replica, incarnation }).await
    }

    async fn erase(&self, environment: &str, service: &str, tenant: &str) -> Result<(), Failure> {
        let [environment, service, tenant] = [environment, service, tenant].map(str::to_owned);
        self.done(Ask::Erase { environment, service, tenant }).await
    }

    async fn forget(&self, environment: &str) -> Result<(), Failure> {
        self.done(Ask::Forget { environment: environment.to_owned() }).await
    }

    async fn traffic(&self, environment: &str) -> Result<Vec<ServiceTraffic>, Failure> {
        match self.ask(Ask::Traffic { environment: environment.to_owned() }).await? {
            Told::Traffic(traffic) => Ok(traffic),
            other => Err(strange(other.name())),
        }
    }
}

#[async_trait]
impl Prober for FarKeeper {
    async fn probe(&self, place: &Place, spec: &ProbeSpec) -> Result<Outcome, Failure> {
        match self.ask(Ask::Probe { at: At::from(place), spec: spec.clone() }).await? {
            Told::Probed { why, took } => Ok(outcome(why, took)),
            other => Err(strange(other.name())),
        }
    }
}

#[async_trait]
impl Metrics for FarKeeper {
    async fn sample(&self, of: &Subject, query: &Query) -> Result<Option<Sample>, Failure> {
        let (environment, service) = (of.environment.clone(), of.service.clone());
        match self.ask(Ask::Sample { environment, service, figure: query.into() }).await? {
            Told::Sampled(sample) => Ok(sample.map(Sample::from)),
            other => Err(strange(other.name())),
        }
    }
}
