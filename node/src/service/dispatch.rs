//! From a command's bytes to the shard and back: each command in one arm.

use std::sync::Arc;
use std::time::Duration;

use protocol::codec::{self, Format};
use protocol::command::{
    ActivityAnswer, Cancel, Decide, Deploy, List, ListWorkers, Of, ReadEvents, Release, Routed, RunWorker,
    ShowDefinition, Signal, Start, Wait, name,
};
use protocol::envelope::trace_of;
use protocol::{Code, Principal, Problem, SagaId, SagaKey, TraceId, Value};
use serde::de::DeserializeOwned;
use supervisor::machine::Definition;
use supervisor::machine::definition::Access;
use supervisor::machine::{FactKind, Operator, Start as StartFact, StepError, read_token};
use supervisor::ports::Parcel;
use supervisor::tree::reply::{Reply, moved};
use supervisor::tree::shard::{Message, Right};
use supervisor::tree::shell::Handle;
use supervisor::tree::workers::Local;

use super::definitions::DefinitionLibrary;
use super::query::QueryService;
use super::routing::{AGAIN, HOLD, Place, Router};
use super::unusable;
use crate::nats::EventReader;
use crate::runtime::RuntimeDesk;

/// A parcel between sagas travels as a command of this name; never accepted from outside.
pub const PARCEL: &str = "internal.parcel";
/// Keys of starts without one are derived under this, so that no other program's ids meet them.
const START_KEYS: uuid::Uuid = uuid::Uuid::from_u128(0x5ca1_d000_e7e2_4b0a_9c1f_7374_6172_7473);
/// The longest time a `saga.start` or a `worker.run` may wait for the outcome, in milliseconds.
pub(super) const START_WAIT_MAX_MS: u64 = 10 * 60_000;

/// Carries commands out.
pub struct Dispatcher {
    /// Where shards are.
    pub router: Arc<Router>,
    /// Definitions.
    pub definitions: Arc<DefinitionLibrary>,
    /// Events.
    pub events: EventReader,
    /// Questions over all nodes, for lists.
    pub queries: Arc<QueryService>,
    /// Environments and services.
    pub runtime: RuntimeDesk,
    /// The workers of this node.
    pub workers: Arc<Local>,
    /// The largest body of a command, in bytes.
    pub body_bytes: usize,
}

/// How long a shard may take to answer before the caller is told what it waits for: many times what
/// an append takes, and less than a client's patience (10 s unless told otherwise).
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a node may add to a body that it was given: the key of a start. The door has checked the
/// body itself.
const SLACK_BYTES: usize = 256;

pub(super) type Answer = Result<Value, Problem>;

impl Dispatcher {
    /// Carries out one command and answers it. A shard that changes hands meanwhile is waited for,
    /// unless doing the command twice would not be doing it once.
    pub async fn handle(&self, mut routed: Routed) -> Answer {
        if routed.command == name::SAGA_START {
            self.name_the_saga(&mut routed)?;
        }
        // A node that is asked by a peer answers at once: the first one holds the command.
        if routed.hops > 0 || !is_repeatable(&routed.command) {
            return self.carry_out(routed).await;
        }
        let until = tokio::time::Instant::now() + HOLD;
        loop {
            let answer = self.carry_out(routed.clone()).await;
            let waits = answer.as_ref().is_err_and(|problem| *problem == moved());
            if !waits || tokio::time::Instant::now() > until {
                return answer;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Gives a start without a key one that is made of the message's id, before anything else: whoever
    /// carries it out, and however often, it is the same saga, and the same message again is the same
    /// start. A message without an id was given a fresh one, and so has a fresh key. Ids are each
    /// principal's own: two programs that count from 1 do not meet.
    fn name_the_saga(&self, routed: &mut Routed) -> Result<(), Problem> {
        let format = Format::of(Some(&routed.content_type))?;
        let mut start: Start = self.read(format, routed)?;
        if start.key.is_none() {
            let name = format!("{}/{}/{}", routed.tenant, routed.principal, routed.id);
            let key = uuid::Uuid::new_v5(&START_KEYS, name.as_bytes());
            start.key = Some(SagaKey::new(key.simple().to_string()).map_err(unusable)?);
            routed.body = format.write(&start);
        }
        Ok(())
    }

    pub(super) fn read<T: DeserializeOwned>(&self, format: Format, routed: &Routed) -> Result<T, Problem> {
        format.read_within(&routed.body, self.body_bytes + SLACK_BYTES)
    }

    async fn carry_out(&self, routed: Routed) -> Answer {
        let format = Format::of(Some(&routed.content_type))?;
        let by = Principal::new(&routed.principal).map_err(unusable)?;
        match routed.command.as_str() {
            name::SAGA_START => self.start(format, routed, by).await,
            name::SAGA_SIGNAL => {
                let Signal { key, name, payload, id } = self.read(format, &routed)?;
                let id = id.unwrap_or_else(|| routed.id.clone());
                let fact = FactKind::Signalled { name, payload, by: by.to_string(), id };
                self.fact(routed, key, fact, (by, Right::Signal)).await
            }
            name::SAGA_CANCEL => {
                let Cancel { key, reason } = self.read(format, &routed)?;
                let fact = FactKind::CancelRequested { by: by.to_string(), reason, parent: None };
                self.fact(routed, key, fact, (by, Right::Cancel)).await
            }
            name::SAGA_RELEASE => {
                let Release { key, decision, reason } = self.read(format, &routed)?;
                let fact = FactKind::Operator(Operator { decision, by: by.to_string(), reason });
                self.fact(routed, key, fact, (by, Right::Cancel)).await
            }
            name::TASK_DECIDE => {
                let Decide { key, step, output } = self.read(format, &routed)?;
                let fact = FactKind::TaskDecided { step, output, by: by.to_string() };
                self.fact(routed, key, fact, (by, Right::Signal)).await
            }
            name::SAGA_DESCRIBE => {
                let Of { key } = self.read(format, &routed)?;
                self.ask(routed, key, Duration::ZERO, move |saga, reply| Message::Describe(saga, by, reply)).await
            }
            name::SAGA_HISTORY => {
                let Of { key } = self.read(format, &routed)?;
                self.ask(routed, key, Duration::ZERO, move |saga, reply| Message::History(saga, by, reply)).await
            }
            name::SAGA_WAIT => self.wait(format, routed, by).await,
            name::SAGA_LIST => {
                let list: List = self.read(format, &routed)?;
                self.queries.list(routed.tenant, by, list).await
            }
            name::ACTIVITY_COMPLETE | name::ACTIVITY_FAIL | name::ACTIVITY_HEARTBEAT => {
                self.activity(format, routed, by).await
            }
            name::DEFINITION_DEPLOY => {
                self.definitions
                    .deploy(&routed.tenant, &by, &self.read::<Deploy>(format, &routed)?, routed.received_at)
                    .await
            }
            name::DEFINITION_CHECK => {
                self.definitions.check(&routed.tenant, self.read::<Deploy>(format, &routed)?).await
            }
            name::DEFINITION_LIST => self.definitions.list(&routed.tenant).await,
            name::DEFINITION_SHOW => {
                self.definitions.show(&routed.tenant, &self.read::<ShowDefinition>(format, &routed)?).await
            }
            name::EVENT_READ => self.read_events(format, routed).await,
            name::ENVIRONMENT_CREATE
            | name::ENVIRONMENT_BIND
            | name::ENVIRONMENT_LIST
            | name::ENVIRONMENT_PROVISION
            | name::CONFIGURATION_PUBLISH
            | name::CONFIGURATION_SHOW
            | name::CONFIGURATION_LIST
            | name::DECISION_LIST
            | name::DECISION_APPROVE
            | name::DRIFT_LIST
            | name::DRIFT_APPROVE
            | name::DRIFT_ACCEPT
            | name::DRIFT_REMEDIATE
            | name::DRIFT_POLICY
            | name::DRIFT_SET_POLICY
            | name::INCIDENT_LIST
            | name::INCIDENT_CLOSE
            | name::SCALING_APPLY
            | name::SCALING_REMOVE
            | name::SCALING_LIST
            | name::SCALING_DECISIONS
            | name::SECRET_PUT
            | name::SECRET_BIND
            | name::SECRET_UNBIND
            | name::SECRET_REMOVE
            | name::SECRET_ROTATE
            | name::SECRET_LIST
            | name::SERVICE_SCALE
            | name::SERVICE_LIST
            | name::SERVICE_HEALTH
            | name::SERVICE_LOGS
            | name::SERVICE_RESTART
            | name::SERVICE_RESUME
            | name::SERVICE_DRAIN
            | name::SERVICE_PAUSE
            | name::SERVICE_UNHOLD => self.runtime.handle(&routed, &by, self.read(format, &routed)?).await,
            name::INCIDENT_SHOW => self.incident(format, routed, by).await,
            name::WORKER_LIST => {
                let list: ListWorkers = self.read(format, &routed)?;
                self.queries.workers(routed.tenant, list).await
            }
            name::WORKER_RUN | name::WORKER_PAUSE | name::WORKER_RESUME => self.worker(format, routed, by).await,
            PARCEL => self.parcel(routed).await,
            other => Err(Problem::new(Code::UnknownCommand, format!("there is no command {other:?}"))
                .mend(format!("the commands are {}", name::ALL.join(", ")))),
        }
    }

    /// An incident, with the history of the saga that failed, wherever that lives.
    async fn incident(&self, format: Format, routed: Routed, by: Principal) -> Answer {
        let mut shown = self.runtime.handle(&routed, &by, self.read(format, &routed)?).await?;
        let saga = shown["failed"].as_str().and_then(|saga| saga.split_once('/'));
        // Another tenant's saga is not shown to whoever owns the environment.
        let ours = saga.filter(|(tenant, _)| *tenant == routed.tenant.as_str());
        if let Some(key) = ours.and_then(|(_, key)| SagaKey::new(key).ok()) {
            let asked = Format::Json;
            let (command, content_type) = (name::SAGA_HISTORY.to_owned(), asked.content_type().to_owned());
            let history = Routed { command, content_type, body: asked.write(&Of { key: key.clone() }), ..routed };
            let shows = move |saga, reply| Message::History(saga, by, reply);
            // The incident is shown without it, too: the saga may be gone, or its shard on its way.
            if let Ok(history) = self.ask(history, key, Duration::ZERO, shows).await {
                shown["history"] = history;
            }
        }
        Ok(shown)
    }

    async fn start(&self, format: Format, routed: Routed, by: Principal) -> Answer {
        let start: Start = self.read(format, &routed)?;
        let key = start.key.ok_or_else(|| Problem::new(Code::Internal, "a start without a key came this far"))?;
        let saga = SagaId::new(routed.tenant.clone(), key);
        let wait = start.wait_ms.map(|ms| Duration::from_millis(ms.min(START_WAIT_MAX_MS)));
        let shard = match self.router.place(&saga) {
            Place::Here(shard) => shard,
            Place::Elsewhere => return self.router.forward(&saga, routed, wait.unwrap_or_default()).await,
        };
        let definition = self.definitions.pick(&saga.tenant, &start.definition, start.version).await?;
        may_start(&definition, &by, &start.input)?;
        let fact = StartFact {
            definition: definition.reference().clone(),
            input: start.input,
            by: by.clone(),
            trace: trace(&routed),
            cause: routed.id,
            causes: routed.causes,
            parent: None,
            family: Default::default(),
            secret: Some(secret()),
        };
        let (accepted, told) = Reply::channel();
        let (outcome, ended) = match wait {
            Some(_) => {
                let (reply, ended) = Reply::channel();
                (Some(reply), Some(ended))
            }
            None => (None, None),
        };
        shard.tell(Message::Start { saga: saga.clone(), start: Box::new(fact), definition, accepted, outcome });
        let accepted = heard(&shard, told).await?;
        let (Some(wait), Some(ended)) = (wait, ended) else { return Ok(accepted) };
        match tokio::time::timeout(wait, ended).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(moved())),
            Err(_) => Err(Problem::new(Code::Timeout, format!("{saga} has not ended within {wait:?}"))
                .mend("it goes on; `skald wait` waits for it, `skald show` tells why it waits")),
        }
    }

    async fn wait(&self, format: Format, routed: Routed, by: Principal) -> Answer {
        let Wait { key, wait_ms } = self.read(format, &routed)?;
        let patience = Duration::from_millis(wait_ms.min(Wait::MAX_MS));
        let saga = SagaId::new(routed.tenant.clone(), key.clone());
        let shard = match self.router.place(&saga) {
            Place::Here(shard) => shard,
            Place::Elsewhere => return self.router.forward(&saga, routed, patience).await,
        };
        let (reply, ended) = Reply::channel();
        shard.tell(Message::Wait(saga.clone(), by.clone(), reply));
        if let Ok(answer) = tokio::time::timeout(patience, ended).await {
            return answer.unwrap_or_else(|_| Err(moved()));
        }
        let (reply, told) = Reply::channel();
        shard.tell(Message::Describe(saga, by, reply));
        heard(&shard, told).await
    }

    async fn fact(&self, routed: Routed, key: SagaKey, fact: FactKind, by: (Principal, Right)) -> Answer {
        self.ask(routed, key, Duration::ZERO, move |saga, reply| Message::Fact { saga, fact, by, reply }).await
    }

    async fn ask(
        &self,
        routed: Routed,
        key: SagaKey,
        patience: Duration,
        message: impl FnOnce(SagaId, Reply) -> Message,
    ) -> Answer {
        let saga = SagaId::new(routed.tenant.clone(), key);
        match self.router.place(&saga) {
            Place::Here(shard) => tell(&shard, |reply| message(saga, reply)).await,
            Place::Elsewhere => self.router.forward(&saga, routed, patience).await,
        }
    }

    async fn activity(&self, format: Format, routed: Routed, by: Principal) -> Answer {
        let ActivityAnswer { token, output, error, cause } = self.read(format, &routed)?;
        let Some((saga, attempt)) = read_token(&token) else {
            let problem = Problem::new(Code::BadRequest, "the token is not one of Skald's");
            return Err(problem.mend("send back the `Skald-Token` header of the request as it came"));
        };
        if saga.tenant != routed.tenant {
            return Err(Problem::new(
                Code::Forbidden,
                format!("the token belongs to another tenant than {}", routed.tenant),
            ));
        }
        let shard = match self.router.place(&saga) {
            Place::Here(shard) => shard,
            Place::Elsewhere => return self.router.forward(&saga, routed, Duration::ZERO).await,
        };
        let fact = match routed.command.as_str() {
            name::ACTIVITY_HEARTBEAT => {
                return tell(&shard, |reply| Message::Beat { saga, token, reply }).await;
            }
            name::ACTIVITY_COMPLETE => FactKind::StepSucceeded { attempt, output },
            _ => FactKind::StepFailed {
                attempt,
                error: StepError {
                    error: error.unwrap_or_else(|| "States.TaskFailed".into()),
                    cause: cause.unwrap_or_default(),
                    permanent: false,
                },
            },
        };
        tell(&shard, |reply| Message::Answer { saga, token, fact, by, reply }).await
    }

    async fn read_events(&self, format: Format, routed: Routed) -> Answer {
        let asked: ReadEvents = self.read(format, &routed)?;
        let page = self.events.page(&routed.tenant, &asked).await.map_err(|error| {
            Problem::new(Code::Unavailable, format!("the events cannot be read: {error}")).retry_after_ms(500)
        })?;
        serde_json::to_value(page).map_err(|error| Problem::new(Code::Internal, error.to_string()))
    }

    async fn parcel(&self, routed: Routed) -> Answer {
        let (to, parcel): (SagaId, Parcel) = codec::read_own(&routed.body)?;
        let shard = match self.router.place(&to) {
            Place::Here(shard) => shard,
            Place::Elsewhere => return self.router.forward(&to, routed, Duration::ZERO).await,
        };
        let by = Principal::new(&routed.principal).map_err(unusable)?;
        if let Some(fact) = parcel.fact() {
            return tell(&shard, |reply| Message::Fact { saga: to, fact, by: (by, Right::Internal), reply }).await;
        }
        let Parcel::Child { definition, input, parent, by, trace, causes, family, pinned } = parcel else {
            return Err(Problem::new(Code::Internal, "a parcel that is neither a start nor a fact"));
        };
        let definition = match &pinned {
            Some(version) => self.definitions.exactly(version).await?,
            None => self.definitions.pick(&to.tenant, &definition, None).await?,
        };
        // Whoever started the parent asks for the child: no definition opens another one's door.
        may_start(&definition, &by, &input)?;
        let cause = format!("{}/{}", to.tenant, parent.0);
        let reference = definition.reference().clone();
        let (parent, secret) = (Some(parent), Some(secret()));
        let start = StartFact { definition: reference, input, by, trace, cause, causes, parent, family, secret };
        let start = Box::new(start);
        tell(&shard, |accepted| Message::Start { saga: to, start, definition, accepted, outcome: None }).await
    }
}

/// Whether `by` may start a saga of this definition with this input, by a command or through a parent.
fn may_start(definition: &Definition, by: &Principal, input: &Value) -> Result<(), Problem> {
    if Access::allows(&definition.header().access.start, by.as_str()) {
        return actors::check_input(definition.name(), input).map_err(Problem::from);
    }
    let what = format!("{by} may not start {}", definition.name());
    Err(Problem::new(Code::Forbidden, what).mend("ask whom its `access` names"))
}

/// Whether carrying `command` out twice is the same as once. A start has its key, a signal its id,
/// an activity's answer its attempt;
/// a worker's run twice is a second look.
fn is_repeatable(command: &str) -> bool {
    !matches!(command, name::SAGA_CANCEL | name::SAGA_RELEASE | name::TASK_DECIDE)
}

/// Whether a command may wait for an outcome instead of being done at once.
pub(super) fn waits(routed: &Routed) -> bool {
    /// The field of a start that says so; few starts have it, so that few are read here.
    const FIELD: &[u8] = b"waitMs";
    match routed.command.as_str() {
        name::SAGA_WAIT => true,
        name::WORKER_RUN => {
            let read = |format: Format| format.read_within::<RunWorker>(&routed.body, routed.body.len()).ok();
            let run = Format::of(Some(&routed.content_type)).ok().and_then(read);
            run.and_then(|run| run.wait_ms).is_some_and(|wait_ms| wait_ms > 0)
        }
        name::SAGA_START => {
            let asks = routed.body.windows(FIELD.len()).any(|bytes| bytes == FIELD);
            let read = |format: Format| format.read_within::<Start>(&routed.body, routed.body.len()).ok();
            let start = Format::of(Some(&routed.content_type)).ok().filter(|_| asks).and_then(read);
            start.and_then(|start| start.wait_ms).is_some_and(|wait_ms| wait_ms > 0)
        }
        _ => false,
    }
}

async fn tell(shard: &Handle<Message>, message: impl FnOnce(Reply) -> Message) -> Answer {
    let (reply, told) = Reply::channel();
    shard.tell(message(reply));
    heard(shard, told).await
}

/// The shard's answer, or after a while what it is that the shard waits for.
async fn heard(shard: &Handle<Message>, told: tokio::sync::oneshot::Receiver<Answer>) -> Answer {
    if let Ok(answer) = tokio::time::timeout(ANSWER_MAX, told).await {
        return answer.unwrap_or_else(|_| Err(moved()));
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    shard.tell(Message::View(tell));
    let state = match tokio::time::timeout(ANSWER_MAX, told).await {
        Ok(Ok(view)) => format!("shard {}: {}", view.shard, view.state),
        Ok(Err(_)) | Err(_) => "the shard does not answer".to_owned(),
    };
    Err(Problem::new(Code::Unavailable, format!("not in the journal within {ANSWER_MAX:?}: {state}"))
        .mend("it may still get there; with a key (or a signal's id) asking again is safe")
        .retry_after_ms(1_000))
}

/// What a saga's tokens are proved with: 122 bits of the system's randomness, unlike a fact's seed,
/// which shows in what expressions draw from it.
fn secret() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The trace of the command, or a fresh one.
fn trace(routed: &Routed) -> TraceId {
    routed.trace.as_deref().and_then(trace_of).unwrap_or_else(|| {
        TraceId::new(uuid::Uuid::new_v4().simple().to_string()).expect("32 hexadecimal digits are a trace id")
    })
}
