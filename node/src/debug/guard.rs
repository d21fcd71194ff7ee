//! Who may read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// How much a request may ask of the endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpLimits {
    /// The longest address, in bytes. The longest of ours is a saga's history, with a key of 128.
    pub uri_bytes: usize,
    /// All headers together, in bytes: a browser's cookies for other services on localhost fit.
    pub header_bytes: usize,
    /// The largest body, in bytes. No route reads one.
    pub body_bytes: u64,
    /// How long an answer may take; asking the whole cluster is bounded below this.
    pub within: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { uri_bytes: 2_048, header_bytes: 16 * 1024, body_bytes: 1_024, within: Duration::from_secs(10) }
    }
}

impl HttpLimits {
    /// Whether a request is within the limits; otherwise the status and what to do.
    pub fn allow(&self, request: &Request) -> Result<(), (StatusCode, String)> {
        let uri = request.uri().path().len() + request.uri().query().map_or(0, |query| query.len() + 1);
        if uri > self.uri_bytes {
            let limit = self.uri_bytes;
            let why = format!("the address has {uri} bytes, the limit is {limit}; GET / shows what there is\n");
            return Err((StatusCode::URI_TOO_LONG, why));
        }
        let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if headers > self.header_bytes {
            let limit = self.header_bytes;
            let why = format!("the headers have {headers} bytes, the limit is {limit}; send fewer cookies\n");
            return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why));
        }
        let hint = request.body().size_hint();
        if hint.upper().unwrap_or(u64::MAX).max(hint.lower()) > self.body_bytes {
            let limit = self.body_bytes;
            let why = format!("the body is larger than {limit} bytes, or does not say its size; send none\n");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Ok(())
    }
}

/// The rule for one listener.
#[derive(Clone, Debug)]
pub struct Access {
    loopback: bool,
    /// How much one request may ask.
    pub(super) limits: HttpLimits,
    /// Digest of the token: comparing digests takes the same time wherever two tokens differ.
    token: Option<[u8; 32]>,
}

impl Access {
    /// The rule for a listener on `bind`.
    pub fn new(bind: SocketAddr, token: Option<String>) -> io::Result<Self> {
        let loopback = bind.ip().is_loopback();
        if !loopback && token.as_deref().unwrap_or_default().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the debug endpoint may listen on {bind} only with a token: set debug.token"),
            ));
        }
        Ok(Self {
            loopback,
            limits: HttpLimits::default(),
            token: token.map(|token| Sha256::digest(token.as_bytes()).into()),
        })
    }

    /// The same rule with other limits.
    #[must_use]
    pub fn limited(self, limits: HttpLimits) -> Self {
        Self { limits, ..self }
    }

    /// Whether a request may be answered; otherwise the status and what to do.
    pub fn allows(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        if self.loopback && !names_loopback(headers) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "this endpoint answers under the names localhost, 127.0.0.1 and [::1] only\n",
            ));
        }
        let Some(expected) = self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match given.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if <[u8; 32]>::from(Sha256::digest(token.as_bytes())) == expected => Ok(()),
            _ => Err((StatusCode::UNAUTHORIZED, "send the node's debug.token as `Authorization: Bearer …`\n")),
        }
    }
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|value| value.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
