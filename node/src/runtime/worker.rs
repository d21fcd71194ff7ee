//! Serves activities of this process to all nodes, as any worker on the bus does.
//!
//! A saga has one attempt under way at a time. When another one comes, the one before was given up
//! by whoever asked for it: it is stopped, and has stopped before the next one begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use futures::stream::select_all;
use protocol::activity as header;
use protocol::codec::{CONTENT_TYPE, Format};
use protocol::command::{ActivityAnswer, Routed, name};
use protocol::envelope::{header::TRACEPARENT, trace_of};
use protocol::text::{identity, shortened};
use protocol::{Code, Principal, SagaId, SagaKey, Tenant, Time, TraceId, Value};
use supervisor::activities::{Activities, Direction};
use supervisor::activity::{Attempt, Failure, Heartbeat};
use supervisor::machine::read_token;
use supervisor::ports::Clock;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

use super::GROUP;
use crate::nats::Bus;
use crate::service::Dispatcher;

/// How often a heartbeat is passed on: five times in the silence that a deployment's states allow.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// What looks and does not act needs no saga; this stands for one.
const NO_SAGA: &str = "look";
/// The longest text in a header.
const CAUSE_MAX_BYTES: usize = 8 * 1_024;

/// A worker.
pub(super) struct Worker {
    pub(super) bus: Bus,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The attempt under way of one saga.
struct UnderWay {
    abort: AbortHandle,
    /// Held by it until it has stopped.
    stopped: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for UnderWay {
    /// Whoever was to stop it may have been stopped first.
    fn drop(&mut self) {
        self.abort.abort();
    }
}

type Sagas = Arc<Mutex<HashMap<SagaId, UnderWay>>>;

impl Worker {
    /// Serves `activities` until the connection ends. Dropping it stops all work.
    pub(super) async fn serve(self, activities: Activities) -> anyhow::Result<()> {
        let this = Arc::new(self);
        let mut asked = Vec::new();
        for name in activities.names() {
            let Some(direction) = activities.get(name).cloned() else { continue };
            let subject = format!("skald.act.*.{name}");
            let messages = this.bus.client.queue_subscribe(subject, GROUP.to_owned()).await?;
            asked.push(messages.map(move |message| (direction.clone(), message)));
        }
        this.bus.client.flush().await?;
        let mut asked = select_all(asked);
        let sagas = Sagas::default();
        let mut work = JoinSet::new();
        while let Some((direction, message)) = asked.next().await {
            while work.try_join_next().is_some() {}
            let (Some(reply), Some((attempt, input))) = (message.reply.clone(), this.read(&message)) else {
                warn!(subject = %message.subject, "a request for an activity cannot be read");
                continue;
            };
            let stopped = Arc::new(tokio::sync::Mutex::new(()));
            // Who has no token only looks, and stops nobody.
            let acts = !attempt.token.is_empty();
            let before = match acts {
                true => sagas.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt.saga),
                false => None,
            };
            let (this, gate, saga) = (this.clone(), stopped.clone(), attempt.saga.clone());
            let task = work.spawn(async move {
                let _held = gate.lock_owned().await;
                if let Some(before) = before {
                    before.abort.abort();
                    drop(before.stopped.lock().await);
                }
                let Some(answer) = this.carry_out(&direction, &attempt, input).await else { return };
                let (headers, body) = written(answer);
                if let Err(error) = this.bus.client.publish_with_headers(reply, headers, body.into()).await {
                    debug!(%error, "an answer could not be sent; it is asked again");
                }
            });
            if acts {
                let mut sagas = sagas.lock().unwrap_or_else(PoisonError::into_inner);
                sagas.retain(|_, under_way| !under_way.abort.is_finished());
                sagas.insert(saga, UnderWay { abort: task, stopped });
            }
        }
        anyhow::bail!("the connection to NATS ended")
    }

    /// The answer; `None` when nobody wants it any more.
    async fn carry_out(
        &self,
        direction: &Direction,
        attempt: &Attempt,
        input: Value,
    ) -> Option<Result<Value, Failure>> {
        let limit = attempt.deadline.map(|deadline| deadline.since(self.clock.now()));
        let work = direction.carry_out(attempt, input);
        let within = async move {
            match limit {
                Some(limit) => tokio::time::timeout(limit, work).await.ok(),
                None => Some(work.await),
            }
        };
        tokio::select! {
            answer = within => answer,
            () = self.beats(attempt) => {
                debug!(saga = %attempt.saga, "an attempt was given up, stops");
                None
            }
        }
    }

    /// Passes heartbeats on. Ends when the attempt is not wanted any more.
    async fn beats(&self, attempt: &Attempt) {
        loop {
            attempt.heartbeat.beaten().await;
            if attempt.heartbeat_every.is_some() && self.given_up(attempt).await {
                return;
            }
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    async fn given_up(&self, attempt: &Attempt) -> bool {
        let body = ActivityAnswer { token: attempt.token.clone(), output: Value::Null, error: None, cause: None };
        let routed = Routed {
            tenant: attempt.saga.tenant.clone(),
            principal: attempt.principal.to_string(),
            command: name::ACTIVITY_HEARTBEAT.to_owned(),
            received_at: self.clock.now(),
            trace: None,
            id: uuid::Uuid::now_v7().simple().to_string(),
            causes: 0,
            hops: 0,
            content_type: Format::Json.content_type().to_owned(),
            body: Format::Json.write(&body),
        };
        match self.dispatcher.handle(routed).await {
            Ok(_) => false,
            Err(problem) => problem.code == Code::NotNow || problem.code == Code::Forbidden,
        }
    }

    fn read(&self, message: &Message) -> Option<(Attempt, Value)> {
        let said = |name: &str| message.headers.as_ref()?.get(name).map(ToString::to_string);
        let tenant = Tenant::new(message.subject.strip_prefix("skald.act.")?.split('.').next()?).ok()?;
        let token = said(header::TOKEN).unwrap_or_default();
        let saga = match read_token(&token) {
            // A token names the saga; the subject, which the server guards, names the tenant.
            Some((saga, _)) if saga.tenant == tenant => saga,
            Some(_) => return None,
            None => SagaId::new(tenant, SagaKey::new(NO_SAGA).ok()?),
        };
        let trace = said(TRACEPARENT).and_then(|parent| trace_of(&parent));
        let format = Format::of(said(CONTENT_TYPE).as_deref()).ok()?;
        let attempt = Attempt {
            saga,
            key: said(header::KEY)?,
            number: said(header::ATTEMPT)?.parse().ok()?,
            deadline: said(header::DEADLINE).and_then(|at| at.parse::<Time>().ok()),
            principal: Principal::new(said(header::PRINCIPAL)?).ok()?,
            trace: match trace {
                Some(trace) => trace,
                None => TraceId::new(uuid::Uuid::new_v4().simple().to_string()).ok()?,
            },
            heartbeat_every: said(header::HEARTBEAT_SECONDS)
                .and_then(|seconds| seconds.parse().ok())
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            token,
            heartbeat: Heartbeat::default(),
        };
        Some((attempt, format.read_within(&message.payload, message.payload.len()).ok()?))
    }
}

fn written(answer: Result<Value, Failure>) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, Format::Json.content_type());
    match answer {
        Ok(output) => {
            headers.insert(header::STATUS, "ok");
            (headers, Format::Json.write(&output))
        }
        Err(failure) => {
            let plain = |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
            headers.insert(header::STATUS, "failed");
            headers.insert(header::ERROR, plain(&identity(&failure.error, header::ERROR_MAX_BYTES)));
            headers.insert(header::CAUSE, plain(&shortened(&failure.cause, CAUSE_MAX_BYTES)));
            headers.insert(header::KIND, if failure.permanent { "permanent" } else { "transient" });
            (headers, Vec::new())
        }
    }
}
