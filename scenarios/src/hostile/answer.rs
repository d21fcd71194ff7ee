//! A worker's answer: headers and a body, in any language, by anybody who serves the activity.

use async_nats::HeaderMap;
use node::nats::read_answer;
use protocol::codec::BODY_MAX_BYTES;

use super::depth;
use supervisor::ports::RemoteAnswer;

/// Lines of `Name: value`, an empty line, the body: a result, a promise, or a failure that has a
/// name and a cause of bounded length.
pub fn answer(data: &[u8]) {
    let split = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = split.map_or((data, &[][..]), |at| (&data[..at], &data[at + 2..]));
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (Ok(name), Ok(value)) =
            (name.parse::<async_nats::HeaderName>(), value.trim().parse::<async_nats::HeaderValue>())
        else {
            continue;
        };
        headers.append(name, value);
    }
    match read_answer("pricing.quote", Some(&headers), body, BODY_MAX_BYTES) {
        Ok(RemoteAnswer::Done(value)) => {
            assert!(body.len() <= BODY_MAX_BYTES && depth(&value) <= protocol::codec::DEPTH_MAX);
        }
        Ok(RemoteAnswer::Accepted) => assert!(headers.get("Skald-Status").is_some()),
        Err(failure) => {
            assert!(!failure.error.is_empty(), "a failure has a name");
            assert!(failure.error.len() <= protocol::activity::ERROR_MAX_BYTES, "{} bytes", failure.error.len());
            assert!(failure.cause.len() <= protocol::activity::CAUSE_MAX_BYTES, "{} bytes", failure.cause.len());
            assert!(!failure.error.chars().any(char::is_control), "{:?}", failure.error);
        }
    }
}
