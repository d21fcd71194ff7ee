//! What goes back: the command's answer, or a problem as RFC 9457 has it.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::{Code, Problem, Value};
use serde_json::json;

use super::routes::{BASE, Route, Shape};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) problem: Problem,
    /// Instead of the problem's own.
    pub(super) status: Option<StatusCode>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, status: None }
    }
}

impl Refusal {
    /// Nobody known asks.
    pub(super) fn unknown() -> Self {
        let problem = Problem::new(Code::Forbidden, "who asks is not known")
            .mend("send a token as `Authorization: Bearer …`; `skald http token` makes one");
        Self { problem, status: Some(StatusCode::UNAUTHORIZED) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { problem, status } = self;
        let own = StatusCode::from_u16(problem.code.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let status = status.unwrap_or(own);
        let code = serde_json::to_value(problem.code).unwrap_or_default();
        let mut body = json!({
            "type": format!("urn:skald:problem:{}", code.as_str().unwrap_or("internal")),
            "title": status.canonical_reason().unwrap_or("refused"),
            "status": status.as_u16(),
            "detail": problem.message,
            "code": code,
        });
        if let Some(mend) = &problem.mend {
            body["mend"] = json!(mend);
        }
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(ms) = problem.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        response
    }
}

/// What a command answered.
pub(super) fn done(route: &Route, answer: &Value) -> Response {
    let status = match route.shape {
        Shape::Deployment(_) | Shape::Removal(_) => StatusCode::ACCEPTED,
        Shape::Fields | Shape::Plan | Shape::Apply | Shape::Whole(_) | Shape::Keyed => StatusCode::OK,
    };
    let no_store: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = (status, [no_store], axum::Json(answer)).into_response();
    let key = answer["key"].as_str().filter(|_| status == StatusCode::ACCEPTED);
    if let Some(place) = key.and_then(|key| HeaderValue::from_str(&format!("{BASE}/deployments/{key}")).ok()) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}
