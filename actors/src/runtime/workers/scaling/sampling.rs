//! Reading the figures of a service.

use std::time::Duration;

use protocol::Time;
use supervisor::activity::Failure;
use tracing::debug;

use super::{Scaling, Seen};
use crate::runtime::compute::observed::ObservedSet;
use crate::runtime::control::desk::Service;
use crate::runtime::model::ScalingPolicy;
use crate::runtime::model::scaling::Metric;
use crate::runtime::ports::metrics::{Query, Subject};
use crate::runtime::workers::scaling::decide::{Reading, Seen as Figures};

/// How long a request that found no replica keeps a service awake: as long as it takes to look again.
const CALLED_FOR: Duration = Duration::from_secs(120);

/// What was read.
pub(super) struct Read {
    pub(super) figures: Figures,
    /// The same without what is incomplete: with that, nothing may go (F47).
    pub(super) whole: Figures,
}

impl Scaling {
    /// Reads the figures that `policy` wants.
    pub(super) async fn read(
        &self,
        service: &Service,
        policy: &ScalingPolicy,
        set: Option<&ObservedSet>,
        seen: &Seen,
    ) -> Result<Read, Failure> {
        let (replicas, ready) = set.map_or((0, 0), |set| (set.wanted, set.ready));
        let place = &service.place;
        let of = Subject { environment: place.environment.clone(), service: place.service.clone() };
        let (mut readings, mut whole) = (Vec::new(), Vec::new());
        for target in &policy.targets {
            let metric = target.metric;
            let (value, missing) = match (metric, replicas) {
                // Nobody is there to say it; the gateway knows who waits.
                (Metric::Rps, 0) => (Some(self.waiting(service, seen)), 0),
                (Metric::Cpu | Metric::Queue | Metric::Rps, _) => self.sample(&of, metric).await,
            };
            readings.push(Reading { metric, value });
            whole.push(Reading { metric, value: value.filter(|_| missing == 0) });
        }
        let figures = |readings| Figures { replicas, ready, readings };
        Ok(Read { figures: figures(readings), whole: figures(whole) })
    }

    /// A figure that cannot be read is missing, whatever the reason: the policy says what follows.
    async fn sample(&self, of: &Subject, metric: Metric) -> (Option<f64>, u32) {
        let Some(metrics) = &self.desk.ports.metrics else { return (None, 0) };
        match metrics.sample(of, &Query::Metric(metric)).await {
            Ok(Some(sample)) => (Some(sample.value), sample.missing),
            Ok(None) => (None, 0),
            Err(failure) => {
                debug!(service = %of, ?metric, %failure, "a figure could not be read");
                (None, 0)
            }
        }
    }

    /// Requests that wait for a service that sleeps, or came in vain a short while ago.
    fn waiting(&self, service: &Service, seen: &Seen) -> f64 {
        let name = service.place.service.as_str();
        let Some(traffic) = seen.traffic.iter().find(|traffic| traffic.service == name) else { return 0.0 };
        let now: Time = self.desk.ports.clock.now();
        let called = traffic.unserved_at.is_some_and(|at| now.since(at) < CALLED_FOR);
        (traffic.waiting as f64).max(if called { 1.0 } else { 0.0 })
    }
}
