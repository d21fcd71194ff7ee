//! A small tree for tests.

use protocol::query::{ActorView, Answer, Body};
use protocol::{NodeId, Time};

pub(crate) fn actor(name: &str, kind: &str) -> ActorView {
    ActorView {
        name: name.into(),
        kind: kind.into(),
        state: "running".into(),
        doing: None,
        mailbox: 0,
        handled: 0,
        busy_us: 0,
        restarts: 0,
        last_failure: None,
        since: Time::from_micros(0),
        strategy: None,
        folded: Vec::new(),
        children: Vec::new(),
    }
}

pub(crate) fn tree() -> ActorView {
    let step = ActorView { doing: Some("attempt 2 of asset.apply".into()), ..actor("step Applying #2", "step") };
    let saga = ActorView { mailbox: 3, handled: 12, children: vec![step], ..actor("saga acme/install-7", "saga") };
    let broken = ActorView {
        state: "parked".into(),
        restarts: 5,
        last_failure: Some("index out of bounds\nat line 3".into()),
        ..actor("saga acme/install-8", "saga")
    };
    let shard = ActorView {
        strategy: Some("rest for one".into()),
        folded: vec!["sleeping sagas: 100000".into()],
        children: vec![actor("journal", "journal"), saga, broken],
        ..actor("shard 0", "shard")
    };
    let children = vec![actor("cluster", "service"), shard];
    ActorView { strategy: Some("one for one".into()), children, ..actor("n1", "node") }
}

pub(crate) fn answer(body: Body) -> Answer {
    Answer::new(NodeId::new("n1").unwrap(), body)
}
