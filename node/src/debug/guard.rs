//! Who may read.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// The rule for one listener.
#[derive(Clone, Debug)]
pub struct Access {
    loopback: bool,
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
        Ok(Self { loopback, token: token.map(|token| Sha256::digest(token.as_bytes()).into()) })
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
