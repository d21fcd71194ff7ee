//! What comes in at the doors of a node: bad input is refused with what is wrong and what would be
//! right, nothing that nobody hears the refusal of is lost, and no door lets in whom it should not.

mod access;
mod bodies;
mod busy;
mod definitions;
mod looking;

use async_nats::jetstream;
use async_nats::{HeaderMap, Message};
use protocol::command::Refused;
use protocol::{Code, Problem};
use scenarios::cluster::until;
use scenarios::stage::{PATIENCE, Shared, Stage};
use serde_json::Value;

static STAGE: Shared = Shared::new(1);

/// The stream of dead letters.
const DEAD_STREAM: &str = "SKALD_DEAD";

/// Sends a body as it is, and gives back the whole answer.
async fn send(stage: &Stage, subject: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Message {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    let request = async_nats::Request::new().headers(map).payload(body.into().into());
    stage.client.nats().send_request(subject.to_owned(), request).await.expect("an answer")
}

/// Sends a body that must be refused; gives back why.
async fn refused(stage: &Stage, subject: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Problem {
    let answer = send(stage, subject, headers, body).await;
    let problem = serde_json::from_slice::<Refused>(&answer.payload);
    let problem = problem.unwrap_or_else(|error| panic!("a refusal was expected ({error}): {answer:?}")).error;
    let header = |name: &str| answer.headers.as_ref().and_then(|map| map.get(name)).map(ToString::to_string);
    assert_eq!(header("Nats-Service-Error-Code"), Some(problem.code.number().to_string()));
    assert!(header("Nats-Service-Error").is_some(), "plain NATS tools see the refusal too");
    problem
}

/// Asserts what a refusal says.
fn says(problem: &Problem, code: Code, words: &str, mend: Option<&str>) {
    assert_eq!(problem.code, code, "{problem:?}");
    assert!(problem.message.contains(words), "{words:?} is not in {problem:?}");
    if let Some(mend) = mend {
        let given = problem.mend.as_deref().unwrap_or_default();
        assert!(given.contains(mend), "{mend:?} is not in {problem:?}");
    }
}

/// The dead letters on `subject` that contain `mark`, once there is one.
async fn dead(stage: &Stage, subject: &str, mark: &str) -> async_nats::jetstream::message::StreamMessage {
    let stream = jetstream::new(stage.client.nats().clone()).get_stream(DEAD_STREAM).await.expect("the stream");
    let look = || async {
        let info = stream.get_info().await.expect("the stream's state");
        for sequence in (info.state.first_sequence.max(1)..=info.state.last_sequence).rev() {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            if message.subject.as_str() == subject && String::from_utf8_lossy(&message.payload).contains(mark) {
                return Some(message);
            }
        }
        None
    };
    let found = std::cell::RefCell::new(None);
    until(PATIENCE, "the dead letter is kept", || async {
        *found.borrow_mut() = look().await;
        found.borrow().is_some()
    })
    .await;
    found.into_inner().expect("it was found")
}

/// An answer that is not a refusal.
fn fine(answer: &Message) -> Value {
    let value: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert!(value.get("error").is_none(), "{value}");
    value
}
