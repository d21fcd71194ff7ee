//! Activities outside this process: a plain request on the bus, in any language.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use async_trait::async_trait;
use protocol::activity as header;
use protocol::codec::{BODY_MAX_BYTES, CONTENT_TYPE, Format};
use protocol::text::{identity, shortened};
use protocol::{Problem, Tenant, Time, Value, envelope, subjects};
use supervisor::activity::{Attempt, Failure};
use supervisor::ports::{RemoteActivities, RemoteAnswer};

use super::connect::{Bus, chain};
use super::names::{encode, one_line};

/// The error name when nobody serves the activity.
pub const NO_WORKER: &str = "NoWorker";
/// The error name when the answer is not one.
const BAD_ANSWER: &str = "BadAnswer";
/// The error name of a time-out in the language of definitions.
const TIMEOUT: &str = "States.Timeout";
/// How long an attempt without a deadline waits. Work that takes longer answers `accepted` and
/// finishes by token.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How NATS micro services say that they failed, for workers built with a service library.
const SERVICE_ERROR: &str = "Nats-Service-Error";
/// Its code, in the manner of HTTP: 400 to 499 will not pass by itself.
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// [`RemoteActivities`] over NATS.
#[derive(Clone, Debug)]
pub struct BusActivities {
    bus: Bus,
    within: Duration,
    answer_max_bytes: usize,
}

impl BusActivities {
    /// Asks over `bus`, waiting a minute where an attempt has no deadline.
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone(), within: ANSWER_WITHIN, answer_max_bytes: BODY_MAX_BYTES }
    }

    /// Waits for `within` where an attempt has no deadline.
    #[must_use]
    pub fn waiting(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Takes answers of at most `answer_max_bytes`.
    #[must_use]
    pub fn taking(self, answer_max_bytes: usize) -> Self {
        Self { answer_max_bytes, ..self }
    }
}

#[async_trait]
impl RemoteActivities for BusActivities {
    async fn call(
        &self,
        tenant: &Tenant,
        activity: &str,
        attempt: &Attempt,
        input: Value,
    ) -> Result<RemoteAnswer, Failure> {
        let within = attempt.deadline.map_or(self.within, |deadline| deadline.since(now()));
        if within.is_zero() {
            return Err(failure(TIMEOUT, format!("{activity} was not asked: its deadline has passed"), false));
        }
        // An activity's own dots stay; everything else that a subject cannot carry is encoded.
        let tokens: Vec<_> = activity.split('.').map(encode).collect();
        let subject = subjects::activity(tenant, &tokens.join("."));
        let request =
            Request::new().headers(headers(attempt)).payload(Format::Json.write(&input).into()).timeout(Some(within));
        match self.bus.client.send_request(subject.clone(), request).await {
            Ok(message) => read_answer(activity, message.headers.as_ref(), &message.payload, self.answer_max_bytes),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => {
                    failure(NO_WORKER, format!("nobody serves {activity}: no worker listens on {subject}"), false)
                }
                RequestErrorKind::TimedOut => {
                    failure(TIMEOUT, format!("{activity} did not answer within {} ms", within.as_millis()), false)
                }
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    Failure::permanent(&format!("asking for {activity}"), chain(&error))
                }
                RequestErrorKind::Other => Failure::transient(&format!("asking for {activity}"), chain(&error)),
            }),
        }
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn headers(attempt: &Attempt) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| headers.insert(name, one_line(value));
    put(CONTENT_TYPE, Format::Json.content_type());
    put(header::KEY, &attempt.key);
    put(header::ATTEMPT, &attempt.number.to_string());
    put(header::TOKEN, &attempt.token);
    put(header::PRINCIPAL, attempt.principal.as_str());
    if let Some(deadline) = attempt.deadline {
        put(header::DEADLINE, &deadline.to_string());
    }
    if let Some(every) = attempt.heartbeat_every {
        put(header::HEARTBEAT_SECONDS, &every.as_secs_f64().to_string());
    }
    if let Some(parent) = envelope::traceparent(&attempt.trace) {
        put(envelope::header::TRACEPARENT, &parent);
    }
    headers
}

fn failure(error: &str, cause: String, permanent: bool) -> Failure {
    Failure { error: error.to_owned(), cause, permanent }
}

/// What a worker's answer means. A worker is not Skald: what it says is bounded here, because an
/// error's name and cause stand in the saga's record and state from now on.
pub fn read_answer(
    activity: &str,
    headers: Option<&HeaderMap>,
    payload: &[u8],
    max_bytes: usize,
) -> Result<RemoteAnswer, Failure> {
    let said = |name: &str| headers.and_then(|it| it.get(name)).map(ToString::to_string);
    if let Some(cause) = said(SERVICE_ERROR).filter(|_| said(header::STATUS).is_none()) {
        let permanent = said(SERVICE_ERROR_CODE).is_some_and(|code| code.starts_with('4') && code.len() == 3);
        let name = if permanent { header::PERMANENT } else { header::TRANSIENT };
        return Err(failure(name, bounded(&cause), permanent));
    }
    match said(header::STATUS).as_deref() {
        None | Some("ok") => {
            let body: &[u8] = if payload.is_empty() { b"null" } else { payload };
            let format = Format::of(said(CONTENT_TYPE).as_deref());
            let read = format.and_then(|format| format.read_within::<Value>(body, max_bytes));
            let bad = |error: Problem| {
                let cause = format!("{activity} answered what cannot be read: {error}");
                failure(BAD_ANSWER, bounded(&cause), false)
            };
            read.map(RemoteAnswer::Done).map_err(bad)
        }
        Some("accepted") => Ok(RemoteAnswer::Accepted),
        Some("failed") => {
            let permanent = said(header::KIND).as_deref() == Some("permanent");
            let name = if permanent { header::PERMANENT } else { header::TRANSIENT };
            let cause = said(header::CAUSE).unwrap_or_else(|| format!("{activity} did not say why it failed"));
            // Retry and Catch match the whole of it, so it is kept or stands for itself by a digest.
            let given = said(header::ERROR).map(|given| one_line(given.trim()));
            let error = given.filter(|given| !given.is_empty());
            let error = identity(error.as_deref().unwrap_or(name), header::ERROR_MAX_BYTES);
            Err(failure(&error, bounded(&cause), permanent))
        }
        Some(other) => Err(failure(
            BAD_ANSWER,
            bounded(&format!("{activity} answered with the unknown {} {other:?}", header::STATUS)),
            false,
        )),
    }
}

/// A cause as it is kept: it stands in the record of every failed attempt, and the bus carries
/// headers of a megabyte.
fn bounded(cause: &str) -> String {
    shortened(cause, header::CAUSE_MAX_BYTES).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_of_its_failure_is_bounded_and_one_line() {
        let mut headers = HeaderMap::new();
        headers.insert(header::STATUS, "failed");
        headers.insert(header::ERROR, "E".repeat(70_000));
        headers.insert(header::CAUSE, "\u{e9}".repeat(90_000));
        let failure = read_answer("a", Some(&headers), b"", BODY_MAX_BYTES).unwrap_err();
        assert_eq!(failure.error, identity(&"E".repeat(70_000), header::ERROR_MAX_BYTES), "it is still told apart");
        assert!(failure.cause.len() <= header::CAUSE_MAX_BYTES && failure.cause.ends_with("(180000 bytes in all)"));
        headers.insert(header::ERROR, " ");
        let failure = read_answer("a", Some(&headers), b"", BODY_MAX_BYTES).unwrap_err();
        assert_eq!(failure.error, header::TRANSIENT, "a failure has a name");
    }

    #[test]
    fn an_answer_above_the_limit_is_not_read() {
        let failure = read_answer("a", None, b"[1,2,3]", 4).unwrap_err();
        assert!(failure.error == BAD_ANSWER && failure.cause.contains("the limit is 4"), "{failure:?}");
    }
}
