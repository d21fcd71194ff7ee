//! `configuration.bind` and `configuration.unbind`: the versions of configuration and secrets are
//! there, and the service is bound to its secrets (R022–R024).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::{Desk, Entered, faulty};
use super::rollout::Input;
use crate::runtime::model::secret::same_variable;
use crate::runtime::model::{ConfigurationRef, DeploymentState, SecretBinding, SecretBindingId};
use crate::runtime::store;

/// What is bound.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The configuration; absent: none.
    pub configuration: Option<ConfigurationRef>,
    /// How many secrets.
    pub secrets: usize,
}

/// The activity.
pub struct Bind {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Bind {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "configuration.bind";
    const UNDO: Option<&'static str> = Some("configuration.unbind");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let desk = &self.desk;
        let (entered, mut read) = input.enter(desk, attempt, Self::NAME).await?;
        let revision = read.value.comes.revision.clone();
        let output = Output { configuration: revision.configuration.clone(), secrets: revision.secrets.len() };
        if read.value.idle() {
            return Ok(output);
        }
        for binding in revision.secrets.keys() {
            if let Some(fault) = revision.secrets.keys().find_map(|other| same_variable(binding, other)) {
                return Err(faulty(fault));
            }
        }
        // Whatever it needs is there, or it ends before anything was rolled out.
        read.value.comes.set(&*desk.ports.store, &entered.place, &read.value.tenant).await?.check()?;
        let mut fresh = Vec::new();
        for binding in revision.secrets.keys() {
            let (name, service) = (entered.place.secret(binding), input.service.clone());
            let known = store::read::<SecretBinding>(&*desk.ports.store, &entered.place.space(), &name).await?;
            if known.is_some_and(|known| !known.value.bound.contains(&service)) {
                fresh.push(binding.clone());
            }
        }
        desk.change(&entered.place, &mut read, |record| {
            record.deployment.state = DeploymentState::Configuring;
            let known = &mut record.bound;
            known.extend(fresh.iter().filter(|binding| !known.contains(binding)).cloned().collect::<Vec<_>>());
        })
        .await?;
        for binding in &read.value.bound {
            self.bound(&entered, binding, true).await?;
        }
        Ok(output)
    }

    async fn undo(&self, attempt: &Attempt, input: Input, _: Option<Output>) -> Result<(), Failure> {
        let body = serde_json::to_value(&input).unwrap_or_default();
        let entered =
            self.desk.enter_back(attempt, "configuration.unbind", &input.environment, &input.service, body).await?;
        let Some(read) = self.desk.record(attempt, &entered.place).await? else { return Ok(()) };
        for binding in &read.value.bound {
            self.bound(&entered, binding, false).await?;
        }
        Ok(())
    }
}

impl Bind {
    async fn bound(&self, entered: &Entered, binding: &SecretBindingId, bound: bool) -> Result<(), Failure> {
        let (name, service) = (entered.place.secret(binding), &entered.place.service);
        store::change(&*self.desk.ports.store, &entered.place.space(), &name, |there: Option<&SecretBinding>| {
            let mut next = there?.clone();
            let changed = match bound {
                true => next.bound.insert(service.clone()),
                false => next.bound.remove(service),
            };
            changed.then_some(next)
        })
        .await?;
        Ok(())
    }
}
