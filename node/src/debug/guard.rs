//! Who may read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::neighbour;
use crate::secret::Secret;

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
    /// Where the listener is.
    at: SocketAddr,
    /// Users of this machine that get no answer without the token.
    refused_users: Option<RangeInclusive<u32>>,
}

impl Access {
    /// The rule for a listener on `bind`.
    pub fn new(bind: SocketAddr, token: Option<&Secret>) -> io::Result<Self> {
        let loopback = bind.ip().is_loopback();
        if !loopback && token.is_none_or(Secret::is_empty) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the debug endpoint may listen on {bind} only with a token: set debug.token"),
            ));
        }
        let token = token.filter(|token| !token.is_empty());
        Ok(Self {
            loopback,
            limits: HttpLimits::default(),
            token: token.map(|token| Sha256::digest(token.reveal().as_bytes()).into()),
            at: bind,
            refused_users: None,
        })
    }

    /// The same rule for a listener that took a free port.
    #[must_use]
    pub fn listening(self, at: SocketAddr) -> Self {
        Self { at, ..self }
    }

    /// The same rule with other limits.
    #[must_use]
    pub fn limited(self, limits: HttpLimits) -> Self {
        Self { limits, ..self }
    }

    /// The same rule where processes of these users get no answer without the token.
    #[must_use]
    pub fn refusing(self, users: Option<RangeInclusive<u32>>) -> Self {
        Self { refused_users: users, ..self }
    }

    /// Whether a request that comes from `peer` may be answered; otherwise the status and what to do.
    pub fn allows(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<(), (StatusCode, &'static str)> {
        if crosses_sites(headers) {
            return Err((StatusCode::FORBIDDEN, "pages of other sites get no answer: open this address itself\n"));
        }
        if self.loopback && !names_loopback(headers) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "this endpoint answers under the names localhost, 127.0.0.1 and [::1] only\n",
            ));
        }
        let Some(expected) = self.token else {
            return match self.refuses(peer) {
                true => {
                    Err((StatusCode::FORBIDDEN, "programs of services get no answer: ask as a user of the machine\n"))
                }
                false => Ok(()),
            };
        };
        let given = text(headers, header::AUTHORIZATION);
        match given.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if <[u8; 32]>::from(Sha256::digest(token.as_bytes())) == expected => Ok(()),
            _ => Err((StatusCode::UNAUTHORIZED, "send the node's debug.token as `Authorization: Bearer …`\n")),
        }
    }

    fn refuses(&self, peer: Option<SocketAddr>) -> bool {
        let Some(users) = &self.refused_users else { return false };
        let Some(peer) = peer else { return true };
        neighbour::is_one_of(users, peer, self.at).unwrap_or_else(|error| {
            warn!(%peer, %error, "cannot look up the user behind a connection to the debug endpoint, refused");
            true
        })
    }
}

/// Whether a page of another site makes the browser ask: another port of this machine is another
/// site, too. Following a link is not that, as nobody but the person sees what it leads to.
fn crosses_sites(headers: &HeaderMap) -> bool {
    if let Some(origin) = text(headers, header::ORIGIN) {
        let place = origin.split_once("://").map(|(_, place)| place);
        if place.is_none() || place != text(headers, header::HOST) {
            return true;
        }
    }
    let fetch = |what: &str| headers.get(format!("sec-fetch-{what}")).and_then(|value| value.to_str().ok());
    let followed = fetch("mode") == Some("navigate") && fetch("dest") == Some("document");
    fetch("site").is_some_and(|site| !["same-origin", "none"].contains(&site)) && !followed
}

/// A header; one that is not readable counts as something else than any that is expected.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
