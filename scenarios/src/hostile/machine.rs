//! The saga machine itself: any order of facts, possible or not.

use std::sync::{Arc, OnceLock};

use protocol::command::ReleaseDecision;
use protocol::view::{Outcome, Status};
use protocol::{Principal, SagaId, Time, TraceId, Value, codec};
use serde_json::json;
use supervisor::machine::{
    AttemptRef, Definition, Driver, Effect, Execution, Fact, FactKind, Offer, Operator, Record, Start, StepError,
    describe,
};

use super::expression::LIMITS;

/// Noon of an ordinary day.
const NOON: i64 = 1_767_268_800_000_000;
/// Facts of one input: enough for every definition here to end.
const FACTS_MAX: usize = 200;

/// The first byte picks a definition, each pair of bytes after it a fact. Nothing panics, every
/// record is stored and read back, and replaying the records gives the state.
pub fn machine(data: &[u8]) {
    let Some((pick, rest)) = data.split_first() else { return };
    let definitions = definitions();
    let definition = &definitions[usize::from(*pick) % definitions.len()];
    let (mut driver, mut records, _) = begin(definition, json!({ "items": [1, 2, 3], "go": *pick }));
    for (n, pair) in rest.chunks_exact(2).take(FACTS_MAX).enumerate() {
        let at = Time::from_micros(NOON + 1_000_000 * n as i64 * i64::from(pair[1] >> 6));
        let kind = fact(&driver, pair[0], pair[1]);
        if let Offer::Recorded(record) = driver.offer(Fact { at, seed: n as u64, kind }) {
            records.push(record);
            let _ = driver.confirm(records.len() as u64);
        }
    }
    let mut replayed = Driver::new(saga(), Arc::clone(definition));
    for (n, record) in records.iter().enumerate() {
        let stored: Record = codec::load(&codec::store(record)).expect("a record is readable");
        assert_eq!(&stored, record);
        replayed.replay(&stored, n as u64 + 1).expect("records follow each other");
        let _ = describe(record, n as u64);
    }
    assert_eq!(replayed.execution(), driver.execution(), "replay is not what was decided");
    shown(&driver);
}

/// A saga that was started, and what it said to the world.
pub(super) fn begin(definition: &Arc<Definition>, input: Value) -> (Driver, Vec<Record>, Vec<Effect>) {
    let mut driver = Driver::new(saga(), Arc::clone(definition));
    let start = Start {
        definition: definition.reference().clone(),
        input,
        by: Principal::new("ada").expect("a name"),
        trace: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").expect("a trace"),
        cause: "cmd-1".into(),
        causes: 0,
        parent: None,
        family: Default::default(),
        secret: None,
    };
    let fact = Fact { at: Time::from_micros(NOON), seed: 1, kind: FactKind::Started(Box::new(start)) };
    let records = match driver.offer(fact) {
        Offer::Recorded(record) => vec![record],
        Offer::Ignored(_) | Offer::Refused(_) | Offer::Unfinished(_) => Vec::new(),
    };
    let effects = driver.confirm(1);
    (driver, records, effects)
}

/// Everything that is told about a saga can be told, and its snapshot is readable.
pub(super) fn shown(driver: &Driver) {
    let execution = driver.execution();
    if execution.started_at().is_some() {
        let view = execution.view();
        assert_eq!(view.records, execution.records());
    }
    let _ = (execution.status(), execution.state(), execution.waiting(), execution.open_tasks());
    let _ = (execution.next_timer(), driver.resume());
    let stored = codec::store(execution);
    assert_eq!(&codec::load::<Execution>(&stored).expect("a snapshot is readable"), execution);
}

/// The saga of all inputs.
pub(super) fn saga() -> SagaId {
    "acme/install-7".parse().expect("a saga")
}

fn fact(driver: &Driver, what: u8, which: u8) -> FactKind {
    let calls: Vec<AttemptRef> = driver.resume().into_iter().filter_map(|effect| attempt_of(&effect)).collect();
    let timers: Vec<u64> = driver.execution().timers().map(|(timer, _)| timer).collect();
    let chosen = |count: usize| usize::from(which) % count.max(1);
    // Mostly what is really under way, sometimes anything.
    let attempt = match calls.get(chosen(calls.len())) {
        Some(call) if what & 0x80 == 0 => *call,
        _ => AttemptRef { step: u64::from(which % 16), attempt: u32::from(what >> 6) },
    };
    let value = json!({ "n": which, "list": [which, { "x": null }] });
    let (by, failed) =
        ("ann".to_owned(), |name: &str, permanent| StepError { error: name.into(), cause: "c".into(), permanent });
    match what & 0x0f {
        // Its turn comes first, mostly.
        _ if what & 0x40 == 0 && driver.resume().contains(&Effect::Continue) => FactKind::Continued,
        0..=3 => FactKind::StepSucceeded { attempt, output: value },
        4 => FactKind::StepFailed { attempt, error: failed("Transient", false) },
        5 => FactKind::StepFailed { attempt, error: failed("States.Timeout", false) },
        6 => FactKind::StepFailed { attempt, error: failed("", which & 1 == 0) },
        7 | 8 => FactKind::TimerFired { timer: timers.get(chosen(timers.len())).copied().unwrap_or(u64::from(which)) },
        9 => FactKind::Signalled {
            name: ["go", "stop", ""][chosen(3)].into(),
            payload: value,
            by,
            id: format!("{}", which % 8),
        },
        10 => FactKind::TaskDecided { step: (which & 1 == 0).then_some(attempt.step), output: value, by },
        11 => FactKind::ChildEnded { step: attempt.step, outcome: Box::new(outcome(which, value)), child: None },
        12 => FactKind::CancelRequested { by, reason: "because".into(), parent: None },
        13 => FactKind::Operator(Operator { decision: decision(which), by, reason: "must be".into() }),
        14 => FactKind::Parked { cause: "it panicked".into() },
        _ => FactKind::Started(Box::new(Start {
            definition: driver.definition().reference().clone(),
            input: value,
            by: Principal::new("eve").expect("a name"),
            trace: TraceId::new("t").expect("a trace"),
            cause: "again".into(),
            causes: 0,
            parent: None,
            family: Default::default(),
            secret: None,
        })),
    }
}

fn attempt_of(effect: &Effect) -> Option<AttemptRef> {
    match effect {
        Effect::StartActivity(call) => Some(call.attempt),
        Effect::StopActivity(_)
        | Effect::SetTimer { .. }
        | Effect::ClearTimer { .. }
        | Effect::Continue
        | Effect::Publish(_)
        | Effect::StartChild { .. }
        | Effect::CancelChild { .. }
        | Effect::Ended { .. } => None,
    }
}

fn outcome(which: u8, output: Value) -> Outcome {
    let statuses = [Status::Succeeded, Status::Failed, Status::Cancelled];
    Outcome {
        status: statuses[usize::from(which) % statuses.len()],
        state: "End".into(),
        output: (which & 1 == 0).then_some(output),
        error: Some("ChildFailed".into()),
        cause: None,
    }
}

fn decision(which: u8) -> ReleaseDecision {
    [ReleaseDecision::Retry, ReleaseDecision::Skip, ReleaseDecision::Abandon][usize::from(which) % 3]
}

/// Definitions that between them have every kind of state.
pub(super) fn definitions() -> &'static [Arc<Definition>] {
    static ALL: OnceLock<Vec<Arc<Definition>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let read = |source: &&str| Definition::parse(source, "seed").expect("a seed is right").0.with_limits(LIMITS);
        crate::definitions::ALL.iter().chain([&super::seeds::MIXED]).map(read).map(Arc::new).collect()
    })
}
