//! The routes. Each asks the source once and shows the answer as JSON or text.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Query as Parameters, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use protocol::command::{List, ListWorkers};
use protocol::query::{Answer, Body, Query};
use protocol::view::SagaRow;
use protocol::view::Status;
use protocol::{Code, Environment, Problem, SagaId, Tenant, WorkerKind};
use serde::{Deserialize, Serialize};

use super::workers::{merge_workers, render_workers};
use super::{Access, DebugSource, Paint, Scope, page, tree, views};
use crate::terminal;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// What exists, for whoever asked for something else.
pub(super) const INDEX: &str = "\
GET /                               page with the live tree
GET /tree?scope=node|cluster        actor tree
GET /actor?path=shard-0/…           one actor with its children
GET /owners                         which node owns which shard
GET /sagas?tenant=T&status=S&definition=D&limit=N
GET /workers?tenant=T&kind=K&environment=E
GET /saga/{tenant}/{key}            where a saga stands and why it waits
GET /saga/{tenant}/{key}/history    what happened to it
GET /healthz                        200, or 503 with what is wrong
GET /readyz                         200 when this node serves
GET /metrics                        OpenMetrics

Add ?format=text or ?format=json, or send Accept: text/plain. scope=cluster asks every node.
";

type Source = Arc<dyn DebugSource>;

/// The endpoint over `source`, for those whom `access` lets in.
pub fn router(source: Arc<dyn DebugSource>, access: Access) -> Router {
    Router::new()
        .route("/tree", get(tree))
        .route("/actor", get(actor))
        .route("/owners", get(owners))
        .route("/sagas", get(sagas))
        .route("/workers", get(workers))
        .route("/saga/{tenant}/{*key}", get(saga))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        // The page holds no data; it asks the routes above with the token it is given.
        .route("/", get(|| async { ([page::policy()], Html(page::PAGE)) }))
        .fallback(|| async {
            plain(StatusCode::NOT_FOUND, format!("there is nothing here. What there is:\n\n{INDEX}"))
        })
        .layer(from_fn_with_state(access, guard))
        .with_state(source)
}

async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let mut response = bounded(access, request, next).await;
    for (name, value) in page::EVERYWHERE {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn bounded(access: Access, request: Request, next: Next) -> Response {
    if let Err((status, why)) = access.limits.allow(&request) {
        return plain(status, why);
    }
    let within = access.limits.within;
    match tokio::time::timeout(within, admitted(&access, request, next)).await {
        Ok(response) => response,
        Err(_) => {
            let why = format!("no answer within {} ms; ask this node alone, or again\n", within.as_millis());
            plain(StatusCode::GATEWAY_TIMEOUT, why)
        }
    }
}

async fn admitted(access: &Access, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    match access.allows(request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err((StatusCode::UNAUTHORIZED, _)) if matches!(request.uri().path(), "/" | "/healthz" | "/readyz") => {
            // Probes carry no token; they learn the status and nothing else.
            let page = request.uri().path() == "/";
            let answer = next.run(request).await;
            if page { answer } else { plain(answer.status(), format!("{}\n", answer.status())) }
        }
        Err((status, why)) => plain(status, why.to_owned()),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    scope: Option<String>,
    format: Option<String>,
    path: Option<String>,
    tenant: Option<String>,
    status: Option<Status>,
    definition: Option<String>,
    kind: Option<String>,
    environment: Option<String>,
    limit: Option<usize>,
}

impl Asked {
    fn scope(&self, otherwise: Scope) -> Result<Scope, Problem> {
        match self.scope.as_deref() {
            None => Ok(otherwise),
            Some("node") => Ok(Scope::Node),
            Some("cluster") => Ok(Scope::Cluster),
            Some(other) => Err(Problem::new(Code::BadRequest, format!("scope {other:?} is not understood"))
                .mend("scope=node or scope=cluster")),
        }
    }

    fn text(&self, headers: &HeaderMap) -> Result<bool, Problem> {
        match self.format.as_deref() {
            Some("text") => Ok(true),
            Some("json") => Ok(false),
            Some(other) => Err(Problem::new(Code::BadRequest, format!("format {other:?} is not understood"))
                .mend("format=text or format=json")),
            None => {
                let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
                Ok(accept.contains("text/plain") && !accept.contains("application/json"))
            }
        }
    }
}

type Refusable = Result<Response, Refusal>;

struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(protocol::command::Refused { error: self.0 })).into_response()
    }
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], terminal::readable(&text).into_owned()).into_response()
}

fn show<T: Serialize>(text: bool, value: &T, render: impl FnOnce(&T) -> String) -> Response {
    if text { plain(StatusCode::OK, render(value)) } else { axum::Json(value).into_response() }
}

async fn tree(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let (scope, text) = (asked.scope(Scope::Node)?, asked.text(&headers)?);
    let answers = source.query(scope, Query::Tree).await;
    Ok(show(text, &answers, |answers| tree::render_tree(answers)))
}

async fn actor(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let (scope, text) = (asked.scope(Scope::Node)?, asked.text(&headers)?);
    let Some(path) = asked.path else {
        return Err(Problem::new(Code::BadRequest, "no actor is named").mend("/actor?path=shard-0/saga acme/x").into());
    };
    let mut answers: Vec<Answer> = source.query(scope, Query::Actor { path: path.clone() }).await;
    answers.retain(|answer| !matches!(answer.body, Body::Nothing));
    if answers.is_empty() {
        return Err(Problem::new(Code::NotFound, format!("there is no actor {path:?}"))
            .mend("see /tree for what there is; scope=cluster asks every node")
            .into());
    }
    Ok(show(text, &answers, |answers| tree::render_tree(answers)))
}

async fn owners(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let (scope, text) = (asked.scope(Scope::Cluster)?, asked.text(&headers)?);
    let answers = source.query(scope, Query::Owners).await;
    Ok(show(text, &answers, |answers| views::render_owners(answers, Paint::Plain)))
}

/// Rows of all answers, newest first, as many as were asked for.
pub(crate) fn merge_rows(answers: Vec<Answer>, limit: usize) -> Vec<SagaRow> {
    let mut rows: Vec<SagaRow> = answers
        .into_iter()
        .flat_map(|answer| match answer.body {
            Body::Sagas(rows) => rows,
            Body::Actor(_) | Body::Owners(_) | Body::Workers(_) | Body::Health(_) | Body::Nothing => Vec::new(),
        })
        .collect();
    rows.sort_by(|a, b| b.changed_at.cmp(&a.changed_at).then_with(|| a.saga.cmp(&b.saga)));
    rows.truncate(limit);
    rows
}

async fn sagas(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let (scope, text) = (asked.scope(Scope::Cluster)?, asked.text(&headers)?);
    let tenant = tenant(asked.tenant.as_deref().unwrap_or_default())?;
    let list = List { status: asked.status, definition: asked.definition, limit: asked.limit };
    let limit = list.rows()?;
    let rows = merge_rows(source.query(scope, Query::Sagas { tenant, by: None, list }).await, limit);
    Ok(show(text, &rows, |rows| views::render_rows(rows, Paint::Plain)))
}

async fn workers(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let (scope, text) = (asked.scope(Scope::Cluster)?, asked.text(&headers)?);
    let tenant = tenant(asked.tenant.as_deref().unwrap_or_default())?;
    let unusable = |error: protocol::ids::BadName| Problem::new(Code::BadRequest, error.to_string());
    let kind = asked.kind.map(WorkerKind::new).transpose().map_err(unusable)?;
    let environment = asked.environment.map(Environment::new).transpose().map_err(unusable)?;
    let list = ListWorkers { kind, environment };
    let rows = merge_workers(source.query(scope, Query::Workers { tenant, list }).await);
    Ok(show(text, &rows, |rows| render_workers(rows, Paint::Plain)))
}

fn tenant(text: &str) -> Result<Tenant, Problem> {
    Tenant::new(text).map_err(|error| Problem::new(Code::BadRequest, error.to_string()).mend("name one: ?tenant=acme"))
}

async fn saga(
    State(source): State<Source>,
    headers: HeaderMap,
    Path((tenant_name, rest)): Path<(String, String)>,
    Parameters(asked): Parameters<Asked>,
) -> Refusable {
    let text = asked.text(&headers)?;
    let id = |key: &str| -> Result<SagaId, Problem> {
        let key =
            key.parse().map_err(|error: protocol::ids::BadName| Problem::new(Code::BadRequest, error.to_string()))?;
        Ok(SagaId::new(tenant(&tenant_name)?, key))
    };
    Ok(match rest.strip_suffix("/history") {
        Some(key) => {
            show(text, &source.history(id(key)?).await?, |history| views::render_history(history, Paint::Plain))
        }
        None => show(text, &source.saga(id(&rest)?).await?, |view| views::render_saga(view, Paint::Plain)),
    })
}

async fn health(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let (scope, text) = (asked.scope(Scope::Node)?, asked.text(&headers)?);
    let answers = source.query(scope, Query::Health).await;
    let healthy = !answers.is_empty()
        && answers.iter().all(|answer| matches!(&answer.body, Body::Health(health) if health.troubles.is_empty()));
    Ok(probe(healthy, text, &answers))
}

async fn ready(State(source): State<Source>, headers: HeaderMap, Parameters(asked): Parameters<Asked>) -> Refusable {
    let text = asked.text(&headers)?;
    let answers = source.query(Scope::Node, Query::Health).await;
    let ready = !answers.is_empty()
        && answers.iter().all(|answer| matches!(&answer.body, Body::Health(health) if health.ready));
    Ok(probe(ready, text, &answers))
}

fn probe(good: bool, text: bool, answers: &Vec<Answer>) -> Response {
    let mut response = show(text, answers, |answers| views::render_health(answers, Paint::Plain));
    if !good {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn metrics(State(source): State<Source>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], source.metrics().await).into_response()
}
