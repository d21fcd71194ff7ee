//! One request: who asks, whether they may, what command it is, and the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::runtime::records::decisions::Entry;
use actors::runtime::{decommission, deployment, removal};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use protocol::codec::Format;
use protocol::command::{Routed, name};
use protocol::envelope::header::TRACEPARENT;
use protocol::{Code, Principal, Problem, SagaKey, Value};
use supervisor::ports::Clock;
use tracing::{Instrument, warn};

use super::answer::{Refusal, done};
use super::asked::{Said, body};
use super::routes::{BASE, Method, ROUTES, Route};
use super::token::{Holder, Tokens};
use crate::secret::Secret;
use crate::service::{AUDIT, Dispatcher, Room, Size};

/// Names a request: the same name again is the same request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest such name, in bytes: it becomes a part of a saga's key.
const KEY_MAX_BYTES: usize = 64;
/// The longest token, in bytes.
const TOKEN_MAX_BYTES: usize = 512;

/// How much the door lets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Requests worked on at once; one more is answered "busy".
    pub in_flight: usize,
    /// Those of them that may be one tenant's.
    pub in_flight_per_tenant: usize,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// How long a body may take to come.
    pub body_within: Duration,
    /// How long an answer may take.
    pub within: Duration,
}

/// The door.
pub struct Door {
    /// Carries commands out.
    pub dispatcher: Arc<Dispatcher>,
    /// Who may ask.
    pub tokens: Tokens,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How much it lets in.
    pub limits: Limits,
    room: Room,
}

impl Door {
    /// A door to `dispatcher`.
    pub fn new(dispatcher: Arc<Dispatcher>, tokens: Tokens, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let room = Room::new(Size {
            what: "HTTP requests under way",
            all: limits.in_flight,
            each: limits.in_flight_per_tenant,
            settings: ["http.in_flight", "http.in_flight_per_tenant"],
            mend: "ask again, fewer at a time",
            again_ms: 1_000,
        });
        Self { dispatcher, tokens, clock, limits, room }
    }

    async fn answer(
        &self,
        route: &Route,
        path: &BTreeMap<String, String>,
        request: Request,
    ) -> Result<Response, Refusal> {
        let (parts, sent) = request.into_parts();
        let holder = self.holder(&parts.headers)?;
        let held = self.room.enter(holder.tenant.as_str())?;
        if !holder.may(route) {
            let why = format!("{} of {} may not use {}", holder.principal, holder.tenant, route.scope());
            warn!(target: AUDIT, tenant = %holder.tenant, by = %holder.principal, path = parts.uri.path(), why, "forbidden");
            return Err(Problem::new(Code::Forbidden, why).mend("ask for a token with this scope").into());
        }
        let Query(query) = Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
        let key = request_key(&parts.headers)?;
        let sent = self.read(sent).await?;
        let body = body(route, &Said { path, query: &query, body: &sent, key: &key })?;
        let routed = self.routed(route, &holder, &parts.headers, &key, &body);
        let carried =
            carry_out(self.dispatcher.clone(), routed, holder.principal, body, route.writes() && changes(route));
        let answer = if route.writes() {
            // To its end, whether or not anybody waits for the answer: what is half made nobody asked for.
            let made = tokio::spawn(
                async move {
                    let _held = held;
                    carried.await
                }
                .in_current_span(),
            );
            made.await
                .unwrap_or_else(|error| Err(Problem::new(Code::Internal, format!("the change broke off: {error}"))))?
        } else {
            carried.await?
        };
        if route.command == name::SAGA_DESCRIBE && !is_of_the_runtime(&answer) {
            return Err(Problem::new(Code::NotFound, format!("there is no deployment {}", path["key"])).into());
        }
        Ok(done(route, &answer))
    }

    fn holder(&self, headers: &HeaderMap) -> Result<Holder, Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|given| given.strip_prefix("Bearer ")).map(str::trim);
        let token = token.filter(|token| !token.is_empty() && token.len() <= TOKEN_MAX_BYTES);
        let token = Secret::new(token.ok_or_else(Refusal::unknown)?);
        match self.tokens.holder(&token, self.clock.now()) {
            Ok(Some(holder)) => Ok(holder),
            Ok(None) => Err(Refusal::unknown()),
            Err(why) => {
                warn!(why, "the tokens of the HTTP door cannot be used");
                let problem = Problem::new(Code::Unavailable, "the node's tokens cannot be used; its log says why");
                Err(problem.retry_after_ms(10_000).into())
            }
        }
    }

    async fn read(&self, sent: Body) -> Result<Vec<u8>, Problem> {
        let limit = self.limits.body_bytes;
        let large = |_| {
            let problem = Problem::new(Code::TooLarge, format!("the body has more than {limit} bytes, or broke off"));
            problem.mend("put large data into object storage and pass its address")
        };
        let slow = |_| {
            let within = self.limits.body_within.as_millis();
            Problem::new(Code::Timeout, format!("the body did not come within {within} ms"))
        };
        let sent = tokio::time::timeout(self.limits.body_within, to_bytes(sent, limit)).await.map_err(slow)?;
        Ok(sent.map_err(large)?.to_vec())
    }

    fn routed(&self, route: &Route, holder: &Holder, headers: &HeaderMap, key: &str, body: &Value) -> Routed {
        let trace = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Routed {
            causes: 0,
            tenant: holder.tenant.clone(),
            principal: holder.principal.to_string(),
            command: route.command.to_owned(),
            received_at: self.clock.now(),
            trace: trace.or_else(|| (route.command == name::SAGA_START).then(crate::service::fresh_traceparent)),
            // Names of other doors and of other people are others.
            id: format!("http-{}-{key}", holder.principal),
            hops: 0,
            content_type: Format::Json.content_type().to_owned(),
            body: Format::Json.write(body),
        }
    }
}

/// Carries a command out, after the word that a change of production needs.
async fn carry_out(
    dispatcher: Arc<Dispatcher>,
    routed: Routed,
    by: Principal,
    body: Value,
    changes: bool,
) -> Result<Value, Problem> {
    let runtime = &dispatcher.runtime;
    let production = runtime.admit(&routed, &by, &body).await?;
    let Some(environment) = environment(&body).filter(|_| production && changes) else {
        return dispatcher.handle(routed).await;
    };
    let pass = match runtime.decided(&routed, &by, environment, &body).await? {
        Entry::Done(answer) => return Ok(answer),
        Entry::Go(pass) => pass,
    };
    if routed.command != name::SAGA_START {
        return runtime.make(&routed, &by, body, &pass).await;
    }
    let answer = dispatcher.handle(routed).await;
    runtime.made(&pass.goes_on(), &answer).await;
    answer
}

/// Which environment a command is about.
fn environment(body: &Value) -> Option<&str> {
    body["environment"].as_str().or_else(|| body["input"]["environment"].as_str())
}

/// What leaves the world as it is needs nobody's word: decisions themselves, and saying that
/// something is known.
fn changes(route: &Route) -> bool {
    ![name::DECISION_APPROVE, name::DRIFT_ACCEPT].contains(&route.command)
}

fn is_of_the_runtime(answer: &Value) -> bool {
    let named = answer["definition"].as_str().and_then(|named| named.split(' ').next());
    named.is_some_and(|named| [deployment::DEFINITION, removal::DEFINITION, decommission::DEFINITION].contains(&named))
}

/// The request's own name, or a fresh one.
fn request_key(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(given) = headers.get(IDEMPOTENCY_KEY) else { return Ok(uuid::Uuid::now_v7().simple().to_string()) };
    let key = given.to_str().ok().filter(|key| key.len() <= KEY_MAX_BYTES && SagaKey::new(key).is_ok());
    key.map(str::to_owned).ok_or_else(|| {
        let why = format!("Idempotency-Key is no name: letters, digits, - and _, up to {KEY_MAX_BYTES} of them");
        Problem::new(Code::BadRequest, why)
    })
}

/// The routes of `door`.
pub(super) fn router(door: Door) -> Router {
    let mut paths: BTreeMap<&str, MethodRouter<Arc<Door>>> = BTreeMap::new();
    for route in &ROUTES {
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Put => MethodFilter::PUT,
            Method::Delete => MethodFilter::DELETE,
        };
        let answers = move |State(door): State<Arc<Door>>,
                            Path(path): Path<BTreeMap<String, String>>,
                            request: Request| async move {
            within(&door, route, &path, request).await
        };
        let known = paths.remove(route.path).unwrap_or_default();
        paths.insert(route.path, known.merge(on(filter, answers)));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(&format!("{BASE}{path}"), methods.fallback(no_method));
    }
    router.fallback(nothing).with_state(Arc::new(door))
}

async fn nothing() -> Response {
    let problem = Problem::new(Code::NotFound, "there is nothing here").mend("the routes begin with /v1/runtime/");
    Refusal::from(problem).into_response()
}

async fn no_method() -> Response {
    let problem =
        Problem::new(Code::BadRequest, "there is no such method here").mend("`skald http routes` lists all of them");
    Refusal { problem, status: Some(axum::http::StatusCode::METHOD_NOT_ALLOWED) }.into_response()
}

async fn within(door: &Door, route: &Route, path: &BTreeMap<String, String>, request: Request) -> Response {
    match tokio::time::timeout(door.limits.within, door.answer(route, path, request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => {
            let why = format!("no answer within {} ms; what was accepted goes on", door.limits.within.as_millis());
            let problem = Problem::new(Code::Timeout, why).mend("ask again with the same Idempotency-Key");
            Refusal::from(problem).into_response()
        }
    }
}
