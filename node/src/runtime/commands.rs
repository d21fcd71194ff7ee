//! Commands about environments and services. Whatever they change stands in the store, so any node
//! answers them; what runs is asked of whoever keeps the processes.

use std::sync::Arc;
use std::time::Duration;

use actors::runtime::arbiter::{Command, Request, ServiceState, Source, Standing};
use actors::runtime::arbitration::{Arbitration, Asker};
use actors::runtime::compute::Observed;
use actors::runtime::deployment::observe::{self, Observe};
use actors::runtime::model::{Environment, EnvironmentId, RequestKey, Revision, ServiceId};
use actors::runtime::ports::provisioning::Provisioner;
use actors::runtime::ports::secrets::SecretVersions;
use actors::runtime::records::deployments::{Record, Running};
use actors::runtime::records::docket::Docket;
use actors::runtime::records::environments::{Environments, Refused, Wanted};
use actors::runtime::records::events::event_id;
use actors::runtime::records::ownership::{self, Rule};
use actors::runtime::records::place::{self, Place};
use actors::runtime::records::tenancy::{Asking, Granted, Tenancy};
use actors::runtime::store::{self, RuntimeStore, Space};
use protocol::command::{Routed, name};
use protocol::envelope::trace_of;
use protocol::runtime::{
    Accepted, BindEnvironment, CreateEnvironment, EnvironmentRow, EnvironmentRows, ListServices, OfService, ServiceRow,
    Services, SetRow, UnderWayRow,
};
use protocol::{Code, Envelope, Principal, Problem, SagaId, SagaKey, Tenant, TraceId, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use supervisor::activity::{Attempt, Failure, Heartbeat, Typed};
use supervisor::ports::{Clock, Outbox, RemoteActivities, RemoteAnswer};

mod configuration;
mod decision;
mod drift;
mod health;
mod incident;
mod provisioning;
mod scaling;
mod secret;
mod steering;
#[cfg(test)]
mod tests;

/// How long the keeper may take to look: shorter than a client's patience.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

type Answer = Result<Value, Problem>;

/// Answers commands about environments and services.
pub struct RuntimeDesk {
    store: Arc<dyn RuntimeStore>,
    environments: Environments,
    arbitration: Arbitration,
    tenancy: Tenancy,
    remote: Arc<dyn RemoteActivities>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    secrets: Arc<dyn SecretVersions>,
    provisioner: Arc<dyn Provisioner>,
}

impl RuntimeDesk {
    /// A desk on `store`; what runs is asked through `remote`, and what lies on the machine of the
    /// processes through the two others.
    pub fn new(
        store: Arc<dyn RuntimeStore>,
        outbox: Arc<dyn Outbox>,
        clock: Arc<dyn Clock>,
        remote: Arc<dyn RemoteActivities>,
        secrets: Arc<dyn SecretVersions>,
        provisioner: Arc<dyn Provisioner>,
    ) -> Self {
        Self {
            environments: Environments::new(store.clone()),
            arbitration: Arbitration::new(store.clone(), outbox.clone(), clock.clone()),
            tenancy: Tenancy::new(store.clone(), outbox.clone(), clock.clone()),
            store,
            remote,
            outbox,
            clock,
            secrets,
            provisioner,
        }
    }

    /// The same desk on another store.
    fn on(&self, store: Arc<dyn RuntimeStore>) -> Self {
        let (outbox, clock, remote) = (self.outbox.clone(), self.clock.clone(), self.remote.clone());
        Self::new(store, outbox, clock, remote, self.secrets.clone(), self.provisioner.clone())
    }

    /// The same desk, where a tenant makes no more than `limit` environments.
    #[must_use]
    pub fn with_environments(self, limit: usize) -> Self {
        Self { environments: self.environments.at_most(limit), ..self }
    }

    /// Carries out `routed`, whose body was read into `body`. What makes production less of one takes
    /// somebody else's word, whichever door it came through.
    pub async fn handle(&self, routed: &Routed, by: &Principal, body: Value) -> Answer {
        match self.weakens(routed, &body).await? {
            Some(environment) => self.with_a_decision(routed, by, &environment, body).await,
            None => self.carry_out(routed, by, body).await,
        }
    }

    async fn carry_out(&self, routed: &Routed, by: &Principal, body: Value) -> Answer {
        match routed.command.as_str() {
            name::ENVIRONMENT_CREATE => {
                let CreateEnvironment { environment, stage, region } = typed(body)?;
                let mut wanted = json!({ "environment": environment });
                for (field, given) in [("stage", stage), ("region", region)] {
                    if let Some(given) = given {
                        wanted[field] = given.into();
                    }
                }
                let wanted: Wanted = typed(wanted)?;
                let environment = self.environments.create(&routed.tenant, &wanted).await.map_err(refused)?;
                told(&row(&environment))
            }
            name::ENVIRONMENT_BIND => {
                let BindEnvironment { environment, tenant, max_replicas } = typed(body)?;
                let environment = EnvironmentId::new(environment).map_err(faulty)?;
                let bound = self.environments.bind(&routed.tenant, &environment, &tenant, max_replicas).await;
                told(&bound.map_err(refused)?)
            }
            name::ENVIRONMENT_LIST => {
                let environments = self.environments_of(&routed.tenant, None).await?;
                told(&EnvironmentRows { environments: environments.iter().map(row).collect() })
            }
            name::DECISION_LIST => self.list_decisions(routed).await,
            name::DECISION_APPROVE => self.approve_decision(routed, by, &typed(body)?).await,
            name::ENVIRONMENT_PROVISION => self.provision(routed, by, typed(body)?).await,
            name::CONFIGURATION_PUBLISH => self.publish_configuration(routed, by, typed(body)?).await,
            name::CONFIGURATION_SHOW => self.show_configuration(routed, by, typed(body)?).await,
            name::CONFIGURATION_LIST => self.list_configurations(routed, by, typed(body)?).await,
            name::SECRET_PUT => self.put_secret(routed, by, body).await,
            name::SECRET_BIND => self.bind_secret(routed, by, typed(body)?).await,
            name::SECRET_UNBIND => self.unbind_secret(routed, by, typed(body)?).await,
            name::SECRET_REMOVE => self.remove_secret(routed, by, typed(body)?).await,
            name::SECRET_ROTATE => self.rotate_secret(routed, by, typed(body)?).await,
            name::SECRET_LIST => self.list_secrets(routed, by, typed(body)?).await,
            name::SCALING_APPLY => self.apply_policy(routed, by, typed(body)?).await,
            name::SCALING_REMOVE => self.remove_policy(routed, by, &typed(body)?).await,
            name::SCALING_LIST => self.list_policies(routed, typed(body)?).await,
            name::SCALING_DECISIONS => self.scaling_decisions(routed, by, &typed(body)?).await,
            name::SERVICE_SCALE => self.scale(routed, by, typed(body)?).await,
            name::DRIFT_LIST => self.list_drift(routed, typed(body)?).await,
            name::DRIFT_APPROVE => self.decide_drift(routed, by, typed(body)?, drift::Decision::Approve).await,
            name::DRIFT_ACCEPT => self.decide_drift(routed, by, typed(body)?, drift::Decision::Accept).await,
            name::DRIFT_REMEDIATE => self.remediate_drift(routed, by, &typed(body)?).await,
            name::DRIFT_POLICY => self.drift_policy(routed, by, &typed(body)?).await,
            name::DRIFT_SET_POLICY => self.set_drift_policy(routed, by, typed(body)?).await,
            name::INCIDENT_LIST => self.list_incidents(routed, by, typed(body)?).await,
            name::INCIDENT_SHOW => self.show_incident(routed, by, &typed(body)?).await,
            name::INCIDENT_CLOSE => self.close_incident(routed, by, typed(body)?).await,
            name::SERVICE_LIST => self.list(routed, by, &typed(body)?).await,
            name::SERVICE_DRAIN => self.drain(routed, by, typed(body)?).await,
            name::SERVICE_PAUSE => self.pause(routed, by, typed(body)?).await,
            name::SERVICE_HEALTH => self.health(routed, by, &typed(body)?).await,
            name::SERVICE_LOGS => self.logs(routed, by, typed(body)?).await,
            name::SERVICE_RESTART => self.restart(routed, by, &typed(body)?).await,
            name::SERVICE_RESUME => self.resume(routed, by, &typed(body)?).await,
            name::SERVICE_UNHOLD => self.unhold(routed, by, &typed(body)?).await,
            other => Err(Problem::new(Code::UnknownCommand, format!("there is no command {other:?}"))),
        }
    }

    async fn list(&self, routed: &Routed, by: &Principal, asked: &ListServices) -> Answer {
        let tenant = &routed.tenant;
        let mut answer = Services::default();
        for environment in self.environments_of(tenant, asked.environment.as_deref()).await? {
            let id = &environment.environment_id;
            let mut ours = self.dockets(tenant, &environment).await?;
            ours.retain(|docket| is_asked_for(asked, docket));
            let seen = match ours.is_empty() {
                true => None,
                false => match self.observed(tenant, by, id).await {
                    Ok(seen) => Some(seen),
                    Err(error) => {
                        answer.missing.push(format!("what runs in {id} could not be seen: {}", error.cause));
                        None
                    }
                },
            };
            for docket in &ours {
                answer.services.push(self.service(&environment, docket, seen.as_ref()).await?);
            }
            answer.environments.push(row(&environment));
        }
        told(&answer)
    }

    /// The environments that the tenant may use; with `only`, that one.
    async fn environments_of(&self, tenant: &Tenant, only: Option<&str>) -> Result<Vec<Environment>, Problem> {
        let mut environments = self.environments.list(tenant).await.map_err(refused)?;
        environments.retain(|environment| only.is_none_or(|only| environment.environment_id.as_str() == only));
        Ok(environments)
    }

    /// What is remembered of the services that the tenant may see in an environment.
    async fn dockets(&self, tenant: &Tenant, environment: &Environment) -> Result<Vec<Docket>, Problem> {
        let (owner, below) = (&environment.tenant_id, place::dockets(&environment.environment_id));
        let dockets = store::read_all::<Docket>(&*self.store, &Space::Of(owner.clone()), &below).await;
        let all = dockets.map_err(kept)?.into_iter().map(|(_, docket)| docket);
        Ok(all.filter(|docket| docket.tenant == *tenant || owner == tenant).collect())
    }

    async fn service(
        &self,
        environment: &Environment,
        docket: &Docket,
        seen: Option<&observe::Output>,
    ) -> Result<ServiceRow, Problem> {
        let state = &docket.state;
        let place = Place {
            owner: environment.tenant_id.clone(),
            environment: environment.environment_id.clone(),
            service: state.service_id.clone(),
        };
        let service = state.service_id.as_str();
        let sets = seen.into_iter().flat_map(|seen| &seen.sets).filter(|set| set.service == service);
        let sets = sets.map(|set| SetRow {
            set: set.revision.clone(),
            image: format!("sha256:{}", set.digest),
            ready: set.ready,
            wanted: set.wanted,
            weight: set.weight,
        });
        let under_way = match &state.under_way {
            None => None,
            Some(under_way) => {
                let coming = under_way.action.coming();
                let record = match coming {
                    Some(to) => {
                        let name = place.deployment(&to.deployment_id);
                        store::read::<Record>(&*self.store, &place.space(), &name).await.map_err(kept)?
                    }
                    None => None,
                };
                let record = record.map(|record| record.value);
                let saga = record.as_ref().map(|record| record.saga.as_str()).or_else(|| state.removed_by());
                let waits = record.as_ref().and_then(Record::waits_for);
                Some(UnderWayRow {
                    doing: under_way.action.doing().to_string(),
                    saga: saga.and_then(|saga| Some(saga.parse::<SagaId>().ok()?.key)),
                    by: under_way.by.clone(),
                    since: under_way.since,
                    waits_for: waits.map(str::to_owned),
                    late: state.overdue(self.clock.now()).is_some(),
                })
            }
        };
        let current = state.current.as_ref();
        let differs = match (seen, current) {
            (Some(seen), Some(current)) if state.under_way.is_none() => {
                self.differs(&place, state, current, seen).await?
            }
            (Some(_) | None, Some(_) | None) => None,
        };
        let standing = match &state.standing {
            Standing::Open => (protocol::runtime::Standing::Open, None),
            Standing::Paused { why, .. } => (protocol::runtime::Standing::Paused, Some(why)),
            Standing::Drained { why, .. } => (protocol::runtime::Standing::Drained, Some(why)),
            Standing::Incident { why, .. } => (protocol::runtime::Standing::Incident, Some(why)),
        };
        Ok(ServiceRow {
            environment: place.environment.to_string(),
            service: place.service.to_string(),
            version: current.map(|current| current.version.clone()),
            image: current.map(|current| current.image.to_string()),
            deployment: current.map(|current| current.deployment_id.to_string()),
            endpoint_url: seen.and_then(|seen| seen.gateway).map(|gateway| format!("http://{gateway}/{service}")),
            replicas: state.replicas,
            sets: sets.collect(),
            differs,
            gave_up: state.gave_up(),
            under_way,
            standing: standing.0,
            why: standing.1.cloned(),
            held: state.held.iter().map(ToString::to_string).collect(),
        })
    }

    /// What of a service is not as asked.
    async fn differs(
        &self,
        place: &Place,
        state: &ServiceState,
        current: &Revision,
        seen: &observe::Output,
    ) -> Result<Option<String>, Problem> {
        let running = Running::of(&*self.store, place, current, &current.deployment_id).await.map_err(kept)?;
        let Some(running) = running else { return Ok(None) };
        let observed = Observed { sets: seen.sets.clone(), ..Observed::default() };
        Ok(observed.differs(&running.asked(place, state)).map(|differs| differs.why))
    }

    async fn observed(
        &self,
        tenant: &Tenant,
        by: &Principal,
        environment: &EnvironmentId,
    ) -> Result<observe::Output, Failure> {
        self.look::<Observe>(tenant, by, json!({ "environment": environment })).await
    }

    /// Asks whoever keeps what runs, by an activity that changes nothing.
    async fn look<A: Typed>(&self, tenant: &Tenant, by: &Principal, input: Value) -> Result<A::Output, Failure> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let key = SagaKey::new("look").map_err(|error| Failure::permanent("looking", error))?;
        let trace = TraceId::new(uuid::Uuid::new_v4().simple().to_string());
        let attempt = Attempt {
            saga: SagaId::new(tenant.clone(), key),
            key: id,
            number: 1,
            deadline: Some(self.clock.now().after(LOOK_WITHIN)),
            principal: by.clone(),
            trace: trace.map_err(|error| Failure::permanent("looking", error))?,
            heartbeat_every: None,
            token: String::new(),
            heartbeat: Heartbeat::default(),
        };
        match self.remote.call(tenant, A::NAME, &attempt, input).await? {
            RemoteAnswer::Done(seen) => {
                serde_json::from_value(seen).map_err(|error| Failure::permanent("reading what was seen", error))
            }
            RemoteAnswer::Accepted => Err(Failure::transient("looking", "the keeper answers later, and nobody waits")),
        }
    }

    async fn ask(
        &self,
        routed: &Routed,
        by: &Principal,
        place: &Place,
        granted: &Granted,
        asker: &Asker,
        command: Command,
    ) -> Result<Accepted, Problem> {
        let request = Request {
            key: RequestKey::new(format!("command:{}", routed.id)).map_err(faulty)?,
            source: Source::Operator,
            by: by.clone(),
            asked_at: routed.received_at,
            command,
        };
        let stage = granted.environment.value.stage;
        let answer = self.arbitration.ask(place, asker, stage, &request).await.map_err(problem)?;
        Ok(Accepted {
            environment: place.environment.to_string(),
            service: place.service.to_string(),
            doing: answer.state.under_way.map(|under_way| under_way.action.doing().to_string()),
        })
    }

    /// Lets the tenant do what the command does to a service, as its rule says; or refuses it.
    async fn enter(
        &self,
        routed: &Routed,
        by: &Principal,
        asked: &OfService,
    ) -> Result<(Place, Granted, Asker), Problem> {
        let service = ServiceId::new(&asked.service).map_err(faulty)?;
        let (environment, granted, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let place = Place { owner: granted.owner.clone(), environment, service };
        let rule = ownership::rule(&routed.command).unwrap_or(Rule::Service);
        self.admit_to(routed, rule, &place).await?;
        Ok((place, granted, asker))
    }

    /// The same, where its place is known.
    async fn admit_to(&self, routed: &Routed, rule: Rule, place: &Place) -> Result<(), Problem> {
        let admitted = ownership::admit(&*self.store, rule, place, &routed.tenant, self.clock.now()).await;
        admitted.map(drop).map_err(problem)
    }

    /// Does `work`, which may write the first thing under the name of a service.
    async fn writing<T>(
        &self,
        routed: &Routed,
        place: &Place,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Problem> {
        ownership::writing(&*self.store, &*self.clock, place, &routed.tenant, work).await.flatten().map_err(problem)
    }

    /// Lets the tenant into an environment, or refuses it on record; where the command's rule says so,
    /// only its owner.
    async fn enter_environment(
        &self,
        routed: &Routed,
        by: &Principal,
        environment: &str,
    ) -> Result<(EnvironmentId, Granted, Asker), Problem> {
        let environment = EnvironmentId::new(environment).map_err(faulty)?;
        let trace = match routed.trace.as_deref().and_then(trace_of) {
            Some(trace) => trace,
            None => TraceId::new(uuid::Uuid::new_v4().simple().to_string()).map_err(crate::service::unusable)?,
        };
        let asking = Asking {
            tenant: routed.tenant.clone(),
            principal: by.clone(),
            trace: trace.clone(),
            saga: routed.id.clone(),
            key: routed.id.clone(),
            what: "service",
            // Not the body: it may hold the value of a secret.
            input: json!({ "command": routed.command, "environment": environment }),
        };
        let granted = self.tenancy.grant(&asking, &environment).await.map_err(problem)?;
        if ownership::rule(&routed.command) == Some(Rule::Environment) && granted.owner != routed.tenant {
            let why = format!("{environment} belongs to another tenant, and only its owner may do that");
            return Err(Problem::new(Code::Conflict, why).mend("ask its owner, or use an environment of your own"));
        }
        Ok((environment, granted, Asker { tenant: asking.tenant, trace, saga: asking.saga }))
    }

    /// What is remembered of a service that the tenant was let in to; there must be something.
    async fn seen(&self, place: &Place) -> Result<Docket, Problem> {
        let seen = self.arbitration.look(place).await.map_err(kept)?;
        seen.map(|seen| seen.value).ok_or_else(|| unknown(place))
    }

    /// Tells what a command did. The same `about` is the same event, however often it is told.
    async fn tell(&self, asker: &Asker, event_type: &str, about: &[&str], payload: Value) -> Result<(), Problem> {
        let event = Envelope {
            event_id: event_id(event_type, about, 1).map_err(problem)?,
            event_type: event_type.to_owned(),
            tenant_id: asker.tenant.clone(),
            project_id: None,
            module_id: None,
            trace_id: asker.trace.clone(),
            correlation_id: asker.saga.clone(),
            causation_id: asker.saga.clone(),
            causes: 0,
            sequence: 0,
            occurred_at: self.clock.now(),
            payload,
        };
        let told = self.outbox.publish(&event).await;
        told.map_err(|error| problem(Failure::transient("telling what a command did", error)))
    }
}

fn row(environment: &Environment) -> EnvironmentRow {
    EnvironmentRow {
        environment: environment.environment_id.to_string(),
        tenant: environment.tenant_id.clone(),
        stage: environment.stage.to_string(),
        status: match &environment.removed_by {
            Some(saga) => format!("being removed by {saga}"),
            None => environment.status.to_string(),
        },
        max_replicas: environment.max_replicas,
    }
}

fn typed<T: DeserializeOwned>(body: Value) -> Result<T, Problem> {
    serde_json::from_value(body).map_err(|error| Problem::new(Code::BadRequest, error.to_string()))
}

fn is_asked_for(asked: &ListServices, docket: &Docket) -> bool {
    asked.service.as_deref().is_none_or(|only| docket.state.service_id.as_str() == only)
}

fn told(answer: &impl Serialize) -> Answer {
    serde_json::to_value(answer).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

fn faulty(fault: actors::runtime::model::Fault) -> Problem {
    fault.into()
}

fn unknown(place: &Place) -> Problem {
    Problem::new(Code::NotFound, format!("there is no service {place}")).mend("`skald services` lists what there is")
}

fn kept(error: store::Error) -> Problem {
    problem(error.into())
}

fn problem(failure: Failure) -> Problem {
    match failure.permanent {
        true if failure.error == "BadArguments" => Problem::new(Code::BadRequest, failure.cause),
        true => Problem::new(Code::Conflict, failure.cause),
        false => Problem::new(Code::Unavailable, failure.cause).retry_after_ms(500),
    }
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Faulty(fault) => faulty(fault),
        Refused::Taken(_) => Problem::new(Code::Conflict, refused.to_string()).mend("choose another name"),
        Refused::TooMany { .. } => {
            Problem::new(Code::Quota, refused.to_string()).mend("ask the operator of the nodes for more room")
        }
        Refused::Unknown(_) => Problem::new(Code::NotFound, refused.to_string()),
        Refused::Store(error) => kept(error),
    }
}
