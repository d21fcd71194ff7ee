//! `environment.forget`: nothing of it is kept any more. `environment.review`: whether that is so, although the answer
//! was lost.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::close::in_use;
use super::desk::{Desk, Input};
use crate::runtime::model::Environment;
use crate::runtime::ports::provisioning::{Plan, Wanted};
use crate::runtime::records::place;
use crate::runtime::records::secrets::{Secrets, bindings};
use crate::runtime::records::{environments, forgetting};
use crate::runtime::store::Space;

/// Whether it is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether nothing of it is kept.
    pub removed: bool,
}

/// `environment.forget`.
pub(super) struct Forget {
    pub(super) desk: Desk,
}

#[async_trait]
impl Typed for Forget {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "environment.forget";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let (ports, tenant, environment) = (&self.desk.ports, &attempt.saga.tenant, &input.environment);
        // Its own record goes last: without it, all else has gone. One that is not ours is another environment.
        let Some(closed) = self.desk.closed(attempt, &input).await? else { return Ok(Output { removed: true }) };
        let services = self.desk.services(attempt, &input).await?;
        if !services.is_empty() {
            return Err(in_use(&input, &services));
        }
        let observed = ports.compute.observe(environment.as_str()).await?;
        if let Some(set) = observed.sets.first() {
            let why = format!("{} of {environment} still runs", set.service);
            return Err(Failure::transient("removing an environment", why));
        }
        let secrets = Secrets::new(ports.store.clone(), ports.secrets.clone(), tenant.clone(), environment.clone());
        for binding in bindings(&*ports.store, tenant, environment).await?.into_values() {
            attempt.heartbeat.beat();
            secrets.forget(&binding.secret_binding_id).await?;
        }
        self.release(&closed.value).await?;
        ports.compute.forget(environment.as_str()).await?;
        forgetting::forget_environment(&*ports.store, tenant, environment).await?;
        environments::give_back(&*ports.store, tenant, environment).await?;
        ports.store.remove(&Space::Of(tenant.clone()), &place::environment(environment), closed.revision).await?;
        Ok(Output { removed: true })
    }
}

impl Forget {
    /// Takes away what was made for it, if anything was.
    async fn release(&self, environment: &Environment) -> Result<(), Failure> {
        let provisioner = &self.desk.ports.provisioner;
        if provisioner.state(&environment.environment_id).await?.is_none() {
            return Ok(());
        }
        let plan = Plan::of(environment, Wanted::Absent);
        let preview = provisioner.preview(&plan).await?;
        provisioner.apply(&plan, &preview.id).await?;
        Ok(())
    }
}

/// `environment.review`.
pub(super) struct Review {
    pub(super) desk: Desk,
}

#[async_trait]
impl Typed for Review {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "environment.review";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        Ok(Output { removed: self.desk.closed(attempt, &input).await?.is_none() })
    }
}
