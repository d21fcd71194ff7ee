//! One durable message: published, acknowledged, and every way this can end named.
//!
//! A plain request is used instead of the library's publish: it shares the connection's one inbox
//! in the same way, is as fast, and shows the server's error code, on which everything here turns.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use bytes::Bytes;
use serde::Deserialize;

use super::connect::{Bus, chain};

/// Another message stands where this one was to go.
const WRONG_LAST: u64 = 10071;
/// What the server will say again to the same message, whatever becomes of anything else.
/// Source: nats-server 2.15 `errors.json`.
const FINAL: [(u64, &str); 3] = [
    (10054, "the message is larger than the stream takes"),
    (10109, "the stream is sealed"),
    (10166, "the stream does not take a time to live"),
];
/// What the server will say again until somebody does something.
const LASTING: [(u64, &str); 7] = [
    (10002, "the account's resources are used up"),
    (10023, "the server has no resources left"),
    (10028, "the memory limit is reached"),
    (10035, "the account is not known"),
    (10039, "JetStream is not enabled for the account"),
    (10047, "the storage is full"),
    (10076, "JetStream is not enabled"),
];
/// "Store failed": lasting when a limit is the reason, otherwise nobody knows what was written.
const STORE_FAILED: u64 = 10077;

/// What the server acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    /// The message's stream sequence; of the first copy, if this was another.
    pub(super) sequence: u64,
}

/// Why there is no acknowledgement.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The expected last sequence is not the last any more.
    #[error("another message stands where this one was to go")]
    WrongLast,
    /// Nobody knows whether it was written.
    #[error("{0}")]
    Undecided(String),
    /// It was not written, and will not be until somebody does something.
    #[error("{0}")]
    Refused(String),
    /// It was not written, and this message never will be.
    #[error("{0}")]
    Never(String),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Publishes to a stream and waits at most `within` for its acknowledgement.
pub(super) async fn publish(
    bus: &Bus,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    within: Duration,
) -> Result<Ack, Fault> {
    let begun = Instant::now();
    let request = Request::new().headers(headers).payload(payload).timeout(Some(within));
    // The bound also covers waiting for a place in the client's own queue.
    let sent = tokio::time::timeout(within, bus.client.send_request(subject.clone(), request));
    let sent = tokio::select! {
        sent = sent => sent,
        () = bus.lost() => return Err(Fault::Undecided("the connection was lost before the acknowledgement came".into())),
    };
    let message = match sent {
        Ok(Ok(message)) => message,
        Err(_) => return Err(silent(bus, &subject, begun, within)),
        Ok(Err(error)) => {
            return Err(match error.kind() {
                RequestErrorKind::TimedOut => silent(bus, &subject, begun, within),
                RequestErrorKind::NoResponders => Fault::Undecided(format!(
                    "nobody answers for {subject}: its stream is missing, has no leader, or JetStream is off"
                )),
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => Fault::Never(chain(&error)),
                RequestErrorKind::Other => Fault::Undecided(chain(&error)),
            });
        }
    };
    match serde_json::from_slice::<Answer>(&message.payload) {
        Ok(Answer { error: Some(said), .. }) => Err(fault(said.err_code, &said.description)),
        Ok(Answer { seq, error: None }) if seq > 0 => Ok(Ack { sequence: seq }),
        Ok(Answer { .. }) => Err(Fault::Undecided("the acknowledgement names no sequence".into())),
        Err(error) => Err(Fault::Undecided(format!("the acknowledgement cannot be read: {error}"))),
    }
}

fn silent(bus: &Bus, subject: &str, begun: Instant, within: Duration) -> Fault {
    match bus.denied(subject, begun) {
        Some(said) => Fault::Never(said),
        None => Fault::Undecided(format!("no acknowledgement within {} ms", within.as_millis())),
    }
}

/// What an error code of the server means here. Codes that are not listed count as undecided,
/// 10164 among them: it is the transient refusal of a replicated stream with several subjects.
fn fault(code: u64, said: &str) -> Fault {
    if code == WRONG_LAST {
        return Fault::WrongLast;
    }
    if let Some((_, meaning)) = FINAL.iter().find(|(listed, _)| *listed == code) {
        return Fault::Never(format!("{meaning} ({code}: {said})"));
    }
    if let Some((_, meaning)) = LASTING.iter().find(|(listed, _)| *listed == code) {
        return Fault::Refused(format!("{meaning} ({code}: {said})"));
    }
    if code == STORE_FAILED && said.contains("exceeded") {
        return Fault::Refused(format!("a limit of the stream is reached ({code}: {said})"));
    }
    Fault::Undecided(format!("{code}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_a_writer_must_do() {
        assert!(matches!(fault(10071, "wrong last sequence: 7"), Fault::WrongLast));
        assert!(matches!(fault(10164, "wrong last sequence"), Fault::Undecided(_)));
        assert!(matches!(fault(10047, "insufficient storage"), Fault::Refused(_)));
        assert!(matches!(fault(10109, "invalid operation on sealed stream"), Fault::Never(_)));
        assert!(matches!(fault(10077, "maximum bytes exceeded"), Fault::Refused(_)));
        assert!(matches!(fault(10077, "input/output error"), Fault::Undecided(_)));
        assert!(matches!(fault(19999, "new in a later server"), Fault::Undecided(_)));
    }
}
