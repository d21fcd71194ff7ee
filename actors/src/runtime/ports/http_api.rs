//! What the adapters that speak to a server's JSON interface have in common: a client with a bound
//! on time and size, which goes nowhere but to its server.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use supervisor::activity::Failure;

/// How long an answer may take. The servers answer from memory; what takes longer does not come.
const TIME: Duration = Duration::from_secs(10);

/// A client for one server.
pub fn client() -> Result<Client, Failure> {
    // A redirect would take the request, with its token, somewhere else.
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIME).user_agent("skald").build();
    client.map_err(|error| Failure::permanent("making a client", error))
}

/// Checks the address of a server: what requests go to is `address` and a path.
pub fn base(address: &str) -> Result<String, Failure> {
    let bad = |why: &str| Failure::named("BadAddress", format!("the server's address {why}"));
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| bad("begins with neither https:// nor http://"))?;
    match rest.split('/').next() {
        None | Some("") => Err(bad("has no host")),
        Some(host) if host.contains('@') => Err(bad("has a user name in it; use the setting for that")),
        Some(_) if address.contains(['?', '#']) => Err(bad("has more than a path in it")),
        Some(_) => Ok(address.trim_end_matches('/').to_owned()),
    }
}

/// The status and up to `max` bytes of what is answered.
pub async fn answer(doing: &str, request: RequestBuilder, max: usize) -> Result<(StatusCode, Vec<u8>), Failure> {
    // The address of the request may hold what was asked for: it is not shown.
    let failed = |error: reqwest::Error| Failure::transient(doing, chain(&error.without_url()));
    let mut answer = request.send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > max {
            return Err(Failure::permanent(doing, format!("the answer has more than {max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body))
}

/// What went wrong, down to the cause.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_and_no_more() {
        assert_eq!(base("https://host:8200/").unwrap(), "https://host:8200");
        assert_eq!(base("http://host/prometheus").unwrap(), "http://host/prometheus");
        for bad in ["host:80", "ftp://host", "http://", "https://user:secret@host", "http://host?x=1", "http://host#x"]
        {
            let refused = base(bad).expect_err(bad);
            assert!(!refused.cause.contains("secret"), "{refused}");
        }
    }
}
