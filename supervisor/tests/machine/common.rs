//! What the machine's tests share: a world that answers attempts, and golden files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::{Principal, SagaId, Time, TraceId, Value};
use supervisor::machine::{
    ActivityCall, AttemptRef, Definition, Driver, Effect, Fact, FactKind, Offer, Record, Start, StepError,
};

/// Noon of an ordinary day.
pub const NOON: i64 = 1_767_268_800_000_000;

pub fn define(source: &str) -> Arc<Definition> {
    match Definition::parse(source, "test.yaml") {
        Ok((definition, _)) => Arc::new(definition),
        Err(faults) => panic!("{faults}"),
    }
}

pub fn saga() -> SagaId {
    "acme/install-7".parse().unwrap()
}

pub fn start(definition: &Definition, input: Value) -> FactKind {
    FactKind::Started(Box::new(Start {
        definition: definition.reference().clone(),
        input,
        by: Principal::new("ada").unwrap(),
        trace: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        cause: "cmd-1".into(),
        causes: 4,
        parent: Some(("boss".parse().unwrap(), 3)),
        family: Default::default(),
        secret: None,
    }))
}

pub fn error(name: &str, permanent: bool) -> StepError {
    StepError { error: name.into(), cause: "because".into(), permanent }
}

/// One saga in a world of given time. Attempts and timers are kept as the effects say.
#[derive(Clone)]
pub struct World {
    pub driver: Driver,
    pub definition: Arc<Definition>,
    pub now: i64,
    pub seed: u64,
    pub records: Vec<Record>,
    pub running: Vec<ActivityCall>,
    pub timers: BTreeMap<u64, Time>,
    pub children: Vec<(u64, String, Value)>,
    pub events: Vec<protocol::Envelope>,
    /// Whether it waits for a turn.
    pub turns: u32,
    /// Every attempt started, as `activity state #attempt`, undos with `undo` before.
    pub started: Vec<String>,
}

impl World {
    pub fn new(definition: &Arc<Definition>) -> Self {
        Self {
            driver: Driver::new(saga(), Arc::clone(definition)),
            definition: Arc::clone(definition),
            now: NOON,
            seed: 1,
            records: Vec::new(),
            running: Vec::new(),
            timers: BTreeMap::new(),
            children: Vec::new(),
            events: Vec::new(),
            turns: 0,
            started: Vec::new(),
        }
    }

    pub fn begin(source: &str, input: Value) -> Self {
        let definition = define(source);
        let mut world = Self::new(&definition);
        let fact = start(&definition, input);
        world.fact(fact);
        world
    }

    pub fn fact(&mut self, kind: FactKind) -> Offer {
        self.now += 1_000;
        self.seed += 1;
        let offer = self.driver.offer(Fact { at: Time::from_micros(self.now), seed: self.seed, kind });
        if let Offer::Recorded(record) = &offer {
            self.records.push(record.clone());
            let position = record.number * 10;
            for effect in self.driver.confirm(position) {
                self.carry(effect);
            }
        }
        offer
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::StartActivity(call) => {
                let undo = if call.undo { "undo " } else { "" };
                self.started.push(format!("{undo}{} {} #{}", call.activity, call.state, call.attempt.attempt));
                self.running.push(*call);
            }
            Effect::StopActivity(attempt) => self.running.retain(|call| call.attempt != attempt),
            Effect::SetTimer { timer, at } => {
                self.timers.insert(timer, at);
            }
            Effect::ClearTimer { timer } => {
                self.timers.remove(&timer);
            }
            Effect::Publish(event) => self.events.push(*event),
            Effect::StartChild { step, key, input, .. } => self.children.push((step, key.to_string(), input)),
            Effect::CancelChild { key, .. } => self.children.retain(|(_, child, _)| *child != key.to_string()),
            Effect::Continue => self.turns = 1,
            Effect::Ended { .. } => {}
        }
    }

    /// Gives the saga its turns as long as it wants one.
    pub fn go_on(&mut self) {
        while self.turns > 0 {
            self.turns = 0;
            self.fact(FactKind::Continued);
        }
    }

    /// The running attempt of the activity called `name`.
    pub fn take(&mut self, name: &str) -> ActivityCall {
        let index = self.running.iter().position(|call| &*call.activity == name);
        let index = index.unwrap_or_else(|| panic!("{name} does not run: {:?}", self.running));
        self.running.remove(index)
    }

    pub fn succeed(&mut self, name: &str, output: Value) -> Offer {
        let attempt = self.take(name).attempt;
        self.fact(FactKind::StepSucceeded { attempt, output })
    }

    pub fn fail(&mut self, name: &str, how: &str) -> Offer {
        let attempt = self.take(name).attempt;
        self.fact(FactKind::StepFailed { attempt, error: error(how, false) })
    }

    /// Lets time pass until the next timer.
    pub fn ring(&mut self) -> Offer {
        let (timer, at) =
            self.timers.iter().map(|(t, at)| (*t, *at)).min_by_key(|(_, at)| *at).expect("a timer is set");
        self.timers.remove(&timer);
        self.now = self.now.max(at.as_micros());
        self.fact(FactKind::TimerFired { timer })
    }

    pub fn signal(&mut self, name: &str, payload: Value, id: &str) -> Offer {
        self.fact(FactKind::Signalled { name: name.into(), payload, by: "ada".into(), id: id.into() })
    }

    pub fn status(&self) -> &'static str {
        self.driver.execution().status().word()
    }

    /// The same records folded again give the same state, and say the same to the world, also when a
    /// snapshot holds them already; children that are still wanted are then asked for otherwise.
    pub fn check_replay(&self) {
        let mut again = Driver::new(saga(), Arc::clone(&self.definition));
        let mut latest = Driver::restore(Arc::clone(&self.definition), self.driver.execution().clone());
        for record in &self.records {
            let bytes = protocol::codec::store(record);
            let read: Record = protocol::codec::load(&bytes).unwrap();
            assert_eq!(&read, record, "a record reads back as it was written");
            let mut said = again.replay(&read, record.number * 10).unwrap();
            said.retain(|effect| !matches!(effect, Effect::StartChild { .. }));
            assert_eq!(latest.replay(&read, record.number * 10).unwrap(), said, "record {}", record.number);
        }
        assert_eq!(again.execution(), self.driver.execution(), "replay gives the live state");
        let bytes = protocol::codec::store(self.driver.execution());
        let read: supervisor::machine::Execution = protocol::codec::load(&bytes).unwrap();
        assert_eq!(&read, self.driver.execution(), "a snapshot reads back as it was written");
    }
}

pub fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` rewrites it.
pub fn golden(name: &str, actual: &str) {
    let path = testdata(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == actual {
        return;
    }
    let first = expected.lines().zip(actual.lines()).position(|(a, b)| a != b);
    let line = first.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    panic!(
        "{name} differs in line {}:\n  was {:?}\n  now {:?}\nUPDATE_GOLDEN=1 rewrites it",
        line + 1,
        expected.lines().nth(line),
        actual.lines().nth(line)
    );
}

pub fn attempt(step: u64, attempt: u32) -> AttemptRef {
    AttemptRef { step, attempt }
}
