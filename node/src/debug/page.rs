//! One page with the live tree: no assets, nothing from elsewhere, everything written as text.

use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

pub(super) const PAGE: &str = include_str!("page.html");

/// The page runs its own script in its own style and asks its own origin, nothing else: a script that
/// somebody brings into it has another digest.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (style, script) = (digest("style"), digest("script"));
    let policy = format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("a policy is plain ASCII")
});

/// What the page may do.
pub(super) fn policy() -> (HeaderName, HeaderValue) {
    (header::CONTENT_SECURITY_POLICY, POLICY.clone())
}

/// What every answer says: data may do nothing, is what it says it is, and stays where it was asked.
pub(super) const EVERYWHERE: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// How a policy names the content of the page's one element `name`.
fn digest(name: &str) -> String {
    let inside = PAGE.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    let content = inside.map_or("", |(content, _)| content);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}
