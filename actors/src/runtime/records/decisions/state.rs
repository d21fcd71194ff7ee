//! The state that a change is about: the records concerned, and how they stood.
//!
//! A word is given for a change of what is there, and not for the same change of something else. So a
//! decision keeps how each record stood; whoever approves, and whoever then asks again, must find it so.
//! What moves by itself and says nothing about the change is left out: replicas that a policy owns, how
//! far a rollout is, what workers find.

use protocol::command::name;
use protocol::{Tenant, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

use crate::runtime::arbiter::{Action, UnderWay};
use crate::runtime::model::{EnvironmentId, Fault, SecretBindingId, ServiceId};
use crate::runtime::records::deployments::Record;
use crate::runtime::records::docket::Docket;
use crate::runtime::records::findings;
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, RuntimeStore, Space, Stored};

/// A record that a change is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Concern {
    /// Among whose values it is.
    pub of: Tenant,
    /// Its name, or what the names of several begin with.
    pub name: String,
    /// What of it counts.
    pub what: What,
}

/// What of a record counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// Each write of it.
    Write,
    /// Each write of anything below it.
    Below,
    /// What is known of a service, as far as people decide about it.
    Service {
        /// In which environment.
        environment: EnvironmentId,
    },
    /// What is open of the findings about a service.
    Findings {
        /// In which environment.
        environment: EnvironmentId,
        /// About which service.
        service: ServiceId,
    },
}

/// How a record stood.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stood {
    /// Which.
    #[serde(flatten)]
    pub concern: Concern,
    /// How, as something to compare.
    pub how: String,
}

/// The records that `command` is about, as far as `body` says; `tenant` asks, in `owner`'s environment.
pub async fn concerns(
    store: &dyn RuntimeStore,
    (command, body): (&str, &Value),
    (tenant, owner): (&Tenant, &Tenant),
) -> Result<Vec<Concern>, Failure> {
    let input = if command == name::SAGA_START { &body["input"] } else { body };
    let text = |field: &str| input[field].as_str().unwrap_or_default().to_owned();
    let environment = EnvironmentId::new(text("environment")).map_err(faulty)?;
    let value = |name: String| Concern { of: owner.clone(), name, what: What::Write };
    let itself = value(place::environment(&environment));
    let place = || -> Result<Place, Failure> {
        let service = ServiceId::new(text("service")).map_err(faulty)?;
        Ok(Place { owner: owner.clone(), environment: environment.clone(), service })
    };
    let service = |place: &Place| Concern {
        of: owner.clone(),
        name: place.docket(),
        what: What::Service { environment: environment.clone() },
    };
    Ok(match command {
        name::ENVIRONMENT_CREATE | name::ENVIRONMENT_PROVISION => vec![itself],
        name::ENVIRONMENT_BIND => {
            let guest =
                Tenant::new(text("tenant")).map_err(|error| Failure::named("BadArguments", error.to_string()))?;
            vec![itself, Concern { of: guest, name: place::binding(&environment), what: What::Write }]
        }
        name::SECRET_PUT | name::SECRET_BIND | name::SECRET_UNBIND | name::SECRET_REMOVE | name::SECRET_ROTATE => {
            let secret = SecretBindingId::new(text("secret")).map_err(faulty)?;
            vec![value(format!("{}/{secret}", place::secrets(&environment)))]
        }
        name::CONFIGURATION_PUBLISH => {
            let place = place()?;
            let name = place::configurations(&environment, place.service.as_str());
            vec![service(&place), Concern { of: owner.clone(), name, what: What::Below }]
        }
        name::SCALING_APPLY | name::SCALING_REMOVE => {
            let place = place()?;
            vec![service(&place), value(place.policy())]
        }
        name::DRIFT_APPROVE | name::DRIFT_ACCEPT => {
            let all = findings::all(store, owner, &environment).await?;
            let finding = findings::named(&all, &text("finding"))?;
            vec![value(place::finding(&environment, &finding.hash))]
        }
        name::DRIFT_REMEDIATE => {
            let place = place()?;
            let what = What::Findings { environment: environment.clone(), service: place.service.clone() };
            vec![Concern { of: owner.clone(), name: place::findings(&environment), what }]
        }
        name::DRIFT_SET_POLICY => vec![itself, value(place::drift_policy(&environment))],
        // An environment that goes.
        name::SAGA_START if input["service"].is_null() => vec![itself],
        name::SAGA_START
        | name::SERVICE_SCALE
        | name::SERVICE_DRAIN
        | name::SERVICE_PAUSE
        | name::SERVICE_RESTART
        | name::SERVICE_RESUME
        | name::SERVICE_UNHOLD
        | name::INCIDENT_CLOSE => vec![service(&place()?)],
        other => {
            let why = format!("nobody said what {other} is about, so nobody can approve it");
            return Err(Failure::permanent("asking for a decision", why));
        }
    }
    .into_iter()
    // A guest acts under a right that can be taken away meanwhile.
    .chain((tenant != owner).then(|| Concern {
        of: tenant.clone(),
        name: place::binding(&environment),
        what: What::Write,
    }))
    .collect())
}

fn faulty(fault: Fault) -> Failure {
    Failure::named("BadArguments", fault.to_string())
}

/// How the records stand now.
pub async fn stand(store: &dyn RuntimeStore, concerns: Vec<Concern>) -> Result<Vec<Stood>, Failure> {
    let mut stood = Vec::new();
    for concern in concerns {
        let how = how(store, &concern).await?;
        stood.push(Stood { concern, how });
    }
    Ok(stood)
}

/// Whether the records stand as they stood.
pub async fn stands(store: &dyn RuntimeStore, stood: &[Stood]) -> Result<bool, Failure> {
    for one in stood {
        if how(store, &one.concern).await? != one.how {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn how(store: &dyn RuntimeStore, concern: &Concern) -> Result<String, Failure> {
    let space = Space::Of(concern.of.clone());
    Ok(match &concern.what {
        What::Write | What::Service { .. } => {
            let there = store.get(&space, &concern.name).await?;
            of_value(store, concern, there.as_ref()).await?
        }
        What::Below => {
            let all = store.list(&space, &concern.name).await?;
            let writes: Vec<_> = all.into_iter().map(|(name, there)| (name, there.revision)).collect();
            digest(&json!(writes))
        }
        What::Findings { environment, service } => {
            let all = findings::all(store, &concern.of, environment).await?;
            let open = all.iter().filter(|finding| finding.service_id == *service && finding.is_open());
            digest(&json!(open.map(|finding| (&finding.hash, &finding.observed, &finding.state)).collect::<Vec<_>>()))
        }
    })
}

/// How one value stands, of which `there` was read.
pub(super) async fn of_value(
    store: &dyn RuntimeStore,
    concern: &Concern,
    there: Option<&Stored>,
) -> Result<String, store::Error> {
    match &concern.what {
        What::Write | What::Below | What::Findings { .. } => Ok(there.map_or(0, |there| there.revision).to_string()),
        What::Service { environment } => {
            let Some(there) = there else { return Ok("0".to_owned()) };
            let unreadable = |error: serde_json::Error| store::Error::Unreadable {
                name: concern.name.clone(),
                why: error.to_string(),
            };
            let docket: Docket = serde_json::from_slice(&there.bytes).map_err(unreadable)?;
            let state = &docket.state;
            let rollout = state.under_way.as_ref().and_then(rollout);
            // A rollout that waits for a person again is another one than waited before.
            let resumes = match rollout {
                Some((_, Some(deployment))) => {
                    let place = Place {
                        owner: concern.of.clone(),
                        environment: environment.clone(),
                        service: state.service_id.clone(),
                    };
                    let record = store::read::<Record>(store, &place.space(), &place.deployment(deployment)).await?;
                    record.map_or(0, |record| record.value.resumes)
                }
                Some((_, None)) | None => 0,
            };
            Ok(digest(&json!({
                "tenant": docket.tenant, "standing": state.standing, "held": state.held, "governed": state.governed,
                "current": state.current, "resumes": resumes, "rollout": rollout.map(|(sequence, _)| sequence),
                "replicas": state.governed.is_none().then_some(state.replicas),
            })))
        }
    }
}

/// What is under way, where it is more than a small action of a worker.
fn rollout(under_way: &UnderWay) -> Option<(u64, Option<&crate::runtime::model::DeploymentId>)> {
    match &under_way.action {
        Action::Deploying { to, .. } | Action::Remediating { to, .. } | Action::Restoring { to, .. } => {
            Some((under_way.sequence, Some(&to.deployment_id)))
        }
        Action::Stopping { .. } | Action::Draining { .. } | Action::Removing { .. } => Some((under_way.sequence, None)),
        Action::Scaling { .. } | Action::Configuring { .. } | Action::Refreshing { .. } | Action::Restarting { .. } => {
            None
        }
    }
}

fn digest(value: &Value) -> String {
    hex::encode(Sha256::digest(value.to_string()))
}
