//! One request on its way to a replica and back.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Settings;
use super::body::{Lent, Through};
use super::table::{Lease, Table, Unserved};
use super::target::Target;
use crate::permits::Permit;

/// The body of an answer.
pub type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

/// Headers that concern one connection and not the request (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Passes the requests of one environment on.
#[derive(Clone)]
pub struct Proxy {
    environment: Arc<str>,
    settings: Arc<Settings>,
    table: Arc<Table>,
    client: Client<HttpConnector, Lent>,
}

impl Proxy {
    /// By `table`.
    pub fn new(environment: &str, settings: Arc<Settings>, table: Arc<Table>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.connect_time));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_time)
            .http1_max_buf_size(settings.header_bytes)
            .build(connector);
        Self { environment: environment.into(), settings, table, client }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Answer> {
        let Some(target) = Target::of(request.uri(), request.headers(), &self.environment) else {
            return said(StatusCode::NOT_FOUND, "no service is named, neither by the host nor by the path");
        };
        let tenant = self.table.tenant(&target.service);
        let Some(permit) = self.settings.under_way.enter(tenant.as_deref(), &self.environment) else {
            return busy(&format!("too many requests to services of the tenant of {:?} are under way", target.service));
        };
        let (mut parts, body) = request.into_parts();
        end_hop(&mut parts.headers);
        forwarded(&mut parts.headers, &target, peer);
        let empty = body.is_end_stream();
        let body = Lent::new(body);
        let begun = Instant::now();
        let mut revision: Option<String> = None;
        let mut tries = 0;
        loop {
            let (most, time) = (self.settings.waiting_max, self.settings.waiting_time);
            let lease = match self.table.lease(&target.service, revision.as_deref(), most, time).await {
                Ok(lease) => lease,
                Err(unserved) => return self.unserved(unserved, &target.service),
            };
            let Some(request) = outgoing(&parts, &target, lease.address, body.clone()) else {
                return said(StatusCode::BAD_REQUEST, "the path cannot be passed on");
            };
            tries += 1;
            match timeout(self.settings.answer_time, self.client.request(request)).await {
                Ok(Ok(response)) => return passed_on(response, lease, permit, begun),
                Ok(Err(error)) => {
                    debug!(service = target.service, revision = lease.revision, %error, "a replica did not answer");
                    lease.doubt();
                    // Nothing of it was sent, or sending it twice is the same as once.
                    let whole = empty || !body.is_spent();
                    let again = whole && error.is_connect() || empty && parts.method.is_idempotent();
                    if tries >= self.settings.tries || !again {
                        lease.count(begun.elapsed(), true);
                        return said(StatusCode::BAD_GATEWAY, "the replica broke off without an answer");
                    }
                    revision = Some(lease.revision.clone());
                }
                Err(_) => {
                    lease.count(begun.elapsed(), true);
                    return said(StatusCode::GATEWAY_TIMEOUT, "the replica did not answer in time");
                }
            }
        }
    }

    fn unserved(&self, unserved: Unserved, service: &str) -> Response<Answer> {
        match unserved {
            Unserved::Unknown => {
                said(StatusCode::NOT_FOUND, &format!("nothing is routed to {service:?} in {:?}", self.environment))
            }
            Unserved::TooMany => busy("too many requests wait for a replica"),
            Unserved::TimedOut => busy("no replica became ready in time"),
        }
    }
}

/// The request as the replica gets it.
fn outgoing(parts: &Parts, target: &Target, to: SocketAddr, body: Lent) -> Option<Request<Lent>> {
    let uri = Uri::builder().scheme("http").authority(to.to_string()).path_and_query(target.path.as_str());
    let mut request = Request::new(body);
    *request.uri_mut() = uri.build().ok()?;
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = parts.headers.clone();
    Some(request)
}

fn passed_on(response: Response<Incoming>, lease: Lease, permit: Permit, begun: Instant) -> Response<Answer> {
    lease.count(begun.elapsed(), response.status().is_server_error());
    let mut response = response.map(|body| Through::new(body, (lease, permit)).boxed_unsync());
    end_hop(response.headers_mut());
    response
}

/// Takes out what concerned the connection it came by.
fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Says where the request came from. What a client claims about that stays in front.
fn forwarded(headers: &mut HeaderMap, target: &Target, peer: SocketAddr) {
    let known = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let chain = known.map_or_else(|| peer.ip().to_string(), |known| format!("{known}, {}", peer.ip()));
    let host = headers.get(header::HOST).cloned();
    let mut put = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    put("x-forwarded-for", chain.parse().ok());
    put("x-forwarded-host", host);
    put("x-forwarded-proto", Some(HeaderValue::from_static("http")));
    put("x-forwarded-prefix", target.prefix.as_deref().and_then(|prefix| prefix.parse().ok()));
}

/// Too much for now; the client may ask again in a second.
fn busy(why: &str) -> Response<Answer> {
    let mut response = said(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An answer of the gateway itself.
fn said(status: StatusCode, why: &str) -> Response<Answer> {
    let body = Full::new(Bytes::from(format!("skald gateway: {why}\n"))).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
