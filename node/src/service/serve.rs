//! The NATS micro service: `nats micro ls`, `$SRV.PING` and `nats req` just work.

use std::sync::Arc;
use std::time::Duration;

use actors::permits::Permit;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, Request, ServiceExt};
use async_nats::{HeaderMap, Message, Subscriber};
use futures::StreamExt;
use futures::stream::{SelectAll, select};
use protocol::codec::{CONTENT_TYPE, Format};
use protocol::command::name;
use protocol::command::{Refused, Routed};
use protocol::envelope::header::TRACEPARENT;
use protocol::envelope::trace_of;
use protocol::text::shortened;
use protocol::{Code, Problem, Value, subjects};
use supervisor::ports::{Clock, Outbox};
use tokio::sync::Notify;
use tracing::{Instrument, debug, warn};

use super::AUDIT;
use super::dispatch::{Dispatcher, PARCEL, waits};
use super::fitting::answer_fits;
use super::room::{Room, Size};
use crate::nats::Bus;
use crate::telemetry::{Metrics, set_parent};

/// The header that names a message; the bus uses it against duplicates, we as the cause of events.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The same of a CloudEvent, which is one of its source.
const EVENT_ID: &str = "ce-id";
const EVENT_SOURCE: &str = "ce-source";
/// The longest name of a message, in bytes: it stands in the saga's records and in its events.
const MESSAGE_ID_MAX_BYTES: usize = 1_024;
/// The longest refusal in a header, in bytes; the body has all of it.
const REFUSAL_MAX_BYTES: usize = 400;

/// Nodes hear each command once, together.
const QUEUE: &str = "skald";
/// How often a closing door looks whether the commands behind it are done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Limits at the door.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// Commands worked on at once; one more is answered "busy".
    pub in_flight: usize,
    /// Those of them that may be one tenant's.
    pub in_flight_per_tenant: usize,
    /// Commands that wait for an outcome at once.
    pub waits: usize,
    /// Those of them that may be one tenant's.
    pub waits_per_tenant: usize,
    /// The largest body of a command, in bytes.
    pub body_bytes: usize,
}

/// The door of the command service.
pub struct Door {
    limits: ServiceLimits,
    room: Room,
    waiting: Room,
    closing: Notify,
}

impl Door {
    /// An open door.
    pub fn new(limits: ServiceLimits) -> Self {
        let room = Room::new(Size {
            what: "commands under way",
            all: limits.in_flight,
            each: limits.in_flight_per_tenant,
            settings: ["limits.commands_in_flight", "limits.commands_per_tenant"],
            mend: "try again, or add a node",
            again_ms: 100,
        });
        // They wait for minutes and cost next to nothing, so they do not stand in the way of those that
        // are done at once. A place becomes free when a saga ends or a minute is over.
        let waiting = Room::new(Size {
            what: "commands that wait for an outcome",
            all: limits.waits,
            each: limits.waits_per_tenant,
            settings: ["limits.waits_in_flight", "limits.waits_per_tenant"],
            mend: "ask again, or do without waiting: `skald show` and `skald events` tell how it ends",
            again_ms: 1_000,
        });
        Self { limits, room, waiting, closing: Notify::new() }
    }

    /// Takes no more commands, and waits until those under way are answered, at most `patience`.
    pub async fn close(&self, patience: Duration) {
        self.closing.notify_one();
        let until = tokio::time::Instant::now() + patience;
        // At least once, so that what has arrived and is not begun yet is counted.
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let done = self.room.is_empty() && self.waiting.is_empty();
            if done || tokio::time::Instant::now() > until {
                return;
            }
        }
    }
}

/// A command as it came.
enum Asked {
    /// To the micro service, which counts its answers.
    Service(Request),
    /// By a door.
    Door(Message),
}

impl Asked {
    const fn message(&self) -> &Message {
        match self {
            Self::Service(request) => &request.message,
            Self::Door(message) => message,
        }
    }

    /// The message that came by a door, with the subject that it was given by.
    fn by_door(mut message: Message) -> Self {
        if let Some(given) = subjects::behind_door(&message.subject) {
            message.subject = given.into();
        }
        Self::Door(message)
    }
}

/// Takes commands off the bus.
pub struct CommandService {
    /// The bus.
    pub bus: Bus,
    /// One for each door, where the server keeps tenants apart: what one of them sends waits in no queue of
    /// another's, and a connection that the server ends because of it is not the others'.
    pub doors: Vec<Bus>,
    /// Carries them out.
    pub dispatcher: Arc<Dispatcher>,
    /// Keeps what cannot be understood.
    pub outbox: Arc<dyn Outbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Limits, and what is under way.
    pub door: Door,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl CommandService {
    /// Serves until the connection ends.
    pub async fn serve(self: Arc<Self>) -> Result<(), async_nats::Error> {
        let service = self
            .bus
            .client
            .service_builder()
            .description("durable sagas and control loops: skald.cmd.<tenant>.<principal>.<noun>.<verb>")
            .queue_group(QUEUE)
            .start("skald", env!("CARGO_PKG_VERSION"))
            .await?;
        let endpoint = service.endpoint_builder().name("commands").queue_group(QUEUE);
        let mut requests = endpoint.add(subjects::COMMANDS).await?;
        let mut doors = self.doors().await?;
        loop {
            let asked = tokio::select! {
                request = requests.next() => request.map(Asked::Service),
                Some(message) = doors.next() => Some(Asked::by_door(message)),
                () = self.door.closing.notified() => {
                    requests.stop().await?;
                    for door in doors.iter_mut() {
                        door.drain().await?;
                    }
                    // What had arrived is still worked on; the tree ends this service.
                    let mut left = select(requests.by_ref().map(Asked::Service), doors.by_ref().map(Asked::by_door));
                    while let Some(asked) = left.next().await {
                        self.clone().let_in(asked);
                    }
                    std::future::pending().await
                }
            };
            let Some(asked) = asked else { return Ok(()) };
            self.clone().let_in(asked);
        }
    }

    /// Listens at the doors. Without connections of their own all of them lead to the bus: the server's
    /// configuration may have changed.
    async fn doors(&self) -> Result<SelectAll<Subscriber>, async_nats::Error> {
        let mut doors = SelectAll::new();
        for (number, bus) in (0..).zip(&self.doors) {
            doors.push(bus.client.queue_subscribe(subjects::door(number), QUEUE.into()).await?);
        }
        if doors.is_empty() {
            doors.push(self.bus.client.queue_subscribe(subjects::ALL_DOORS, QUEUE.into()).await?);
        }
        Ok(doors)
    }

    fn let_in(self: Arc<Self>, asked: Asked) {
        let held = self.door.room.enter(asker(asked.message()));
        // Refusals are answered in tasks too, so that they hold up nobody. Each ends within the time of one
        // request to the bus; what they keep is bounded by the limits of dead letters.
        tokio::spawn(async move {
            match held {
                Ok(held) => self.take(asked, held).await,
                Err(problem) => {
                    // One that was only published has nobody to hear it: it becomes a dead letter.
                    self.bury_if_needed(asked.message(), &problem).await;
                    self.answer(&asked, Format::Json, Err(problem)).await;
                }
            }
        });
    }

    /// Answers one command. `held` is its place among those that are worked on.
    async fn take(&self, asked: Asked, held: Permit) {
        let message = asked.message();
        let began = std::time::Instant::now();
        let mut routed = self.read(message);
        let mut held = (Some(held), None);
        if let Ok(wanted) = &routed
            && waits(wanted)
        {
            match self.door.waiting.enter(wanted.tenant.as_str()) {
                // Its place among the others is free for one that is done at once.
                Ok(place) => held = (None, Some(place)),
                Err(full) => routed = Err(full),
            }
        }
        let format = Format::of(header(message, CONTENT_TYPE)).unwrap_or_default();
        let (name, answer) = match routed {
            Ok(routed) => {
                let span = tracing::debug_span!("command", name = routed.command, tenant = %routed.tenant);
                if let Some(trace) = routed.trace.as_deref().and_then(trace_of)
                    && !span.is_disabled()
                {
                    set_parent(&span, &trace);
                }
                // A figure for each name that somebody makes up would grow without end.
                let known = name::ALL.contains(&routed.command.as_str());
                let name = if known { routed.command.clone() } else { "unknown".to_owned() };
                let answer = self.dispatcher.handle(routed).instrument(span).await;
                (name, answer)
            }
            Err(problem) => ("unknown".to_owned(), Err(problem)),
        };
        if let Err(problem) = &answer {
            if problem.code == Code::Forbidden {
                let subject = message.subject.as_str();
                warn!(target: AUDIT, subject, why = problem.message, "command forbidden");
            } else {
                debug!(command = name, ?problem, "command refused");
            }
            self.bury_if_needed(message, problem).await;
        }
        let code = answer.as_ref().map_or_else(|problem| problem.code.number().to_string(), |_| "ok".into());
        self.metrics.command(&name, &code, began.elapsed());
        self.answer(&asked, format, answer).await;
        drop(held);
    }

    /// Whether the answer to `message` may go to `reply`: the server vouches for its subject, and for
    /// nothing else of it.
    fn may_answer(&self, message: &Message, reply: &str) -> bool {
        let mut tokens = message.subject.split('.').skip(2);
        let (tenant, principal) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
        self.bus.may_answer(reply, tenant, principal)
    }

    fn read(&self, message: &Message) -> Result<Routed, Problem> {
        if let Some(reply) = message.reply.as_ref().filter(|reply| !self.may_answer(message, reply)) {
            let why = format!("the answer is wanted at {reply}, which is not the asker's inbox");
            return Err(
                Problem::new(Code::Forbidden, why).mend("ask from an inbox of your own: _INBOX.TENANT.PRINCIPAL.x")
            );
        }
        let subject = subjects::parse_command(&message.subject).ok_or_else(|| {
            Problem::new(Code::BadRequest, format!("{} is not the subject of a command", message.subject))
                .mend("use skald.cmd.<tenant>.<principal>.<noun>.<verb> with letters, digits, - and _")
        })?;
        if subject.command == PARCEL {
            return Err(Problem::new(Code::Forbidden, "sagas speak to each other inside the cluster only"));
        }
        let format = Format::of(header(message, CONTENT_TYPE))?;
        let (bytes, limit) = (message.payload.len(), self.door.limits.body_bytes);
        if bytes > limit {
            let problem = Problem::new(Code::TooLarge, format!("the body has {bytes} bytes, the limit is {limit}"));
            return Err(problem.mend("put large data into object storage and pass its address"));
        }
        let named = message_id(message);
        if let Some(id) = named.as_ref().filter(|id| id.len() > MESSAGE_ID_MAX_BYTES) {
            let message = format!("the message's id has {} bytes, the limit is {MESSAGE_ID_MAX_BYTES}", id.len());
            return Err(Problem::new(Code::TooLarge, message).mend("name the message by a digest"));
        }
        Ok(Routed {
            tenant: subject.tenant,
            principal: subject.principal.to_string(),
            command: subject.command.clone(),
            received_at: self.clock.now(),
            // A start without a trace begins one here, so that the command is part of it.
            trace: header(message, TRACEPARENT)
                .map(str::to_owned)
                .or_else(|| (subject.command == name::SAGA_START).then(fresh_traceparent)),
            id: named.unwrap_or_else(|| format!("cmd-{}", uuid::Uuid::now_v7().simple())),
            causes: 0,
            hops: 0,
            content_type: format.content_type().into(),
            body: message.payload.to_vec(),
        })
    }

    /// A command that was only published has nobody to hear the refusal: it becomes a dead letter. So
    /// does one that touched another tenant, for the audit (H24).
    async fn bury_if_needed(&self, message: &Message, problem: &Problem) {
        let reason = match problem.code {
            Code::Forbidden => "forbidden",
            Code::BadRequest | Code::UnknownCommand | Code::TooLarge | Code::BadDefinition => "not-understood",
            Code::NotFound | Code::Conflict | Code::NotNow => "not-possible",
            Code::Busy | Code::Quota | Code::Unavailable | Code::Timeout | Code::Internal => "not-done",
        };
        if message.reply.is_some() && problem.code != Code::Forbidden {
            return;
        }
        let buried = self.outbox.bury(asker(message), reason, &problem.message, whole(message)).await;
        match buried {
            Ok(()) => self.metrics.buried(reason),
            Err(error) => warn!(%error, subject = %message.subject, "a dead letter could not be kept"),
        }
    }

    async fn answer(&self, asked: &Asked, format: Format, answer: Result<Value, Problem>) {
        let (mut headers, mut body) = written(format, answer);
        if let Err(problem) = answer_fits(body.len(), self.bus.max_payload()) {
            (headers, body) = written(format, Err(problem));
        }
        let message = asked.message();
        let Some(reply) = message.reply.clone().filter(|reply| self.may_answer(message, reply)) else { return };
        // Whoever asked may be gone.
        match asked {
            Asked::Service(request) => drop(request.respond_with_headers(Ok(body.into()), headers).await),
            Asked::Door(_) => drop(self.bus.client.publish_with_headers(reply, headers, body.into()).await),
        }
    }
}

/// An answer as it travels.
fn written(format: Format, answer: Result<Value, Problem>) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    match answer {
        Ok(value) => {
            if format == Format::MessagePack {
                headers.insert(CONTENT_TYPE, format.content_type());
            }
            (headers, format.write(&value))
        }
        Err(problem) => {
            headers.insert(CONTENT_TYPE, format.content_type());
            headers.insert(NATS_SERVICE_ERROR, one_line(&problem.message).as_str());
            headers.insert(NATS_SERVICE_ERROR_CODE, problem.code.number().to_string().as_str());
            (headers, format.write(&Refused { error: problem }))
        }
    }
}

/// The tenant that a command's subject names, whether or not it is a name.
fn asker(message: &Message) -> &str {
    message.subject.split('.').nth(2).unwrap_or("unknown")
}

/// What names the message, whoever brings it and however often.
fn message_id(message: &Message) -> Option<String> {
    let event = || match (header(message, EVENT_ID)?, header(message, EVENT_SOURCE)) {
        (id, Some(source)) => Some(format!("{source} {id}")),
        (id, None) => Some(id.to_owned()),
    };
    let said = header(message, MESSAGE_ID).map(str::to_owned).or_else(event);
    said.filter(|id| !id.is_empty())
}

fn header<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

/// The beginning of a trace.
pub(crate) fn fresh_traceparent() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("00-{id}-{}-01", &id[16..])
}

/// The refusal as a header; the body has all of it.
fn one_line(text: &str) -> String {
    shortened(text, REFUSAL_MAX_BYTES).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A message as it came: subject and headers, an empty line, the body.
fn whole(message: &Message) -> bytes::Bytes {
    let mut bytes = format!("{}\r\n", message.subject).into_bytes();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        for value in values {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
    }
    bytes.extend(b"\r\n");
    // A value is nowhere but where secrets are kept; who sent it sends it again.
    if !message.subject.ends_with(name::SECRET_PUT) {
        bytes.extend(&message.payload);
    }
    bytes.into()
}
