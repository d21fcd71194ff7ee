//! Where the replicas of a service are, for whoever reads their metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::Time;
use supervisor::activity::Failure;
use supervisor::ports::Clock;
use tokio::sync::Mutex;

use crate::runtime::compute::observed::ReplicaState;
use crate::runtime::compute::{Compute, Observed};
use crate::runtime::ports::metrics::Subject;
use crate::runtime::ports::metrics::scrape::{Endpoint, Endpoints};

/// How old what was observed may be: many services of one environment are asked about at once.
const FRESH: Duration = Duration::from_secs(2);
/// Environments that are remembered; beyond it all are forgotten.
const REMEMBERED_MAX: usize = 1_000;

/// Finds replicas by looking at what runs.
pub struct Replicas {
    compute: Arc<dyn Compute>,
    clock: Arc<dyn Clock>,
    seen: Mutex<HashMap<String, (Time, Arc<Observed>)>>,
}

impl Replicas {
    /// Those of `compute`.
    pub fn new(compute: Arc<dyn Compute>, clock: Arc<dyn Clock>) -> Self {
        Self { compute, clock, seen: Mutex::default() }
    }

    async fn observed(&self, environment: &str) -> Result<Arc<Observed>, Failure> {
        // Held while it is looked, so that those who come together look once.
        let mut seen = self.seen.lock().await;
        if let Some((at, observed)) = seen.get(environment)
            && self.clock.now().since(*at) < FRESH
        {
            return Ok(observed.clone());
        }
        let observed = Arc::new(self.compute.observe(environment).await?);
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        seen.insert(environment.to_owned(), (self.clock.now(), observed.clone()));
        Ok(observed)
    }
}

#[async_trait]
impl Endpoints for Replicas {
    async fn endpoints(&self, of: &Subject) -> Result<Vec<Endpoint>, Failure> {
        let observed = self.observed(of.environment.as_str()).await?;
        let sets = observed.sets.iter().filter(|set| set.service == of.service.as_str());
        let replicas = sets.flat_map(|set| &set.replicas).filter(|replica| match replica.state {
            ReplicaState::Ready => true,
            ReplicaState::Starting | ReplicaState::Waiting | ReplicaState::CrashLoop | ReplicaState::Draining => false,
        });
        let found = replicas.filter_map(|replica| {
            let address = replica.address?;
            Some(Endpoint { replica: replica.id.clone(), incarnation: replica.incarnation, address })
        });
        Ok(found.collect())
    }
}
