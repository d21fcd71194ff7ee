//! One page with the live tree: no assets, nothing from elsewhere, everything written as text.

use axum::http::HeaderName;
use axum::http::header;

/// The page runs its own script and asks its own origin, nothing else.
pub(super) const HEADERS: [(HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
];

pub(super) const PAGE: &str = include_str!("page.html");
