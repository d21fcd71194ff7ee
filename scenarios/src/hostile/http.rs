//! A request to the debug endpoint, through its routes and limits, in memory.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use axum::body::{Body as HttpBody, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use node::debug::{Access, DebugSource, Scope, router};
use protocol::query::{Answer, Body, Query};
use protocol::view::{History, SagaView};
use protocol::{Code, NodeId, Problem, SagaId};
use tower::ServiceExt as _;

/// The longest answer here, where there is no saga: a refusal or the page.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// A raw request: the request line, headers, an empty line, a body. Every answer is one of ours,
/// says what is wrong, and does not hand the request back at length.
pub fn http(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let (method, long) = (request.method().clone(), request.uri().to_string().len());
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let access = Access::new("127.0.0.1:7070".parse().expect("an address"), None).expect("loopback is open");
    let router = router(Arc::new(Nothing), access);
    let (status, headers, body) = runtime.block_on(async {
        let response = router.oneshot(request).await.expect("a router always answers");
        let (head, body) = response.into_parts();
        (head.status, head.headers, to_bytes(body, ANSWER_MAX_BYTES).await.expect("a bounded answer"))
    });
    let ours = status.is_success()
        || matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::URI_TOO_LONG
                | StatusCode::MISDIRECTED_REQUEST
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                | StatusCode::SERVICE_UNAVAILABLE
        );
    assert!(ours, "{method} was answered {status}");
    if status.is_success() {
        assert!(matches!(method, Method::GET | Method::HEAD), "{method} was answered {status}");
    }
    assert!(body.len() <= 64 * 1024 + long * 4, "{} bytes for a request of {long}", body.len());
    if let Some(kind) = headers.get(header::CONTENT_TYPE).filter(|kind| *kind == "application/json") {
        assert!(serde_json::from_slice::<protocol::Value>(&body).is_ok() || method == Method::HEAD, "{kind:?}");
    }
}

fn request(data: &[u8]) -> Option<Request<HttpBody>> {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = end.map_or((data, &[][..]), |at| (&data[..at], &data[at + 4..]));
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut first = lines.next()?.splitn(3, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request = request.header(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    request.body(HttpBody::from(body.to_vec())).ok()
}

/// A node without sagas.
struct Nothing;

#[async_trait]
impl DebugSource for Nothing {
    async fn query(&self, _: Scope, query: Query) -> Vec<Answer> {
        let body = match query {
            Query::Tree | Query::Health | Query::Actor { .. } => Body::Nothing,
            Query::Owners => Body::Owners(Vec::new()),
            Query::Sagas { .. } => Body::Sagas(Vec::new()),
            Query::Workers { .. } => Body::Workers(Vec::new()),
        };
        vec![Answer { node: NodeId::new("n1").expect("a name"), at: None, missing: Vec::new(), body }]
    }

    async fn saga(&self, saga: SagaId) -> Result<SagaView, Problem> {
        Err(Problem::new(Code::NotFound, format!("there is no saga {saga}")))
    }

    async fn history(&self, saga: SagaId) -> Result<History, Problem> {
        Ok(History { saga, entries: Vec::new(), cut: false })
    }

    async fn metrics(&self) -> String {
        "# EOF\n".into()
    }
}
