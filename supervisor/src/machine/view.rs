//! What is shown of a saga: where it stands, and why it has not ended yet.

use std::sync::Arc;

use protocol::view::{Outcome, SIGNAL_SHOWN_MAX_BYTES, SagaView, SignalView, Status, Waiting};
use protocol::{DefinitionRef, Principal, SagaId, SagaKey, Time, TraceId, Value};

use super::change::Alarm;
use super::execution::{Doing, Execution, Frame, KeptSignal, ROOT, Scope, Undo, Undoing};
use super::family::{Family, Parent};

/// Why a saga waits whose record was cut.
const TURN: &str = "goes on when its turn comes: it has used up what one decision may cost";

/// A task that a person can decide.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenTask {
    /// Its step, to name it by.
    pub step: u64,
    /// The path of its state.
    pub state: Arc<str>,
    /// What the person is shown.
    pub arguments: Arc<Value>,
    /// Since when it is open.
    pub since: Time,
    /// When it times out.
    pub until: Option<Time>,
}

impl Execution {
    /// Which saga this is.
    pub fn saga(&self) -> &SagaId {
        &self.saga
    }

    /// The version it runs and stays on.
    pub fn definition(&self) -> &DefinitionRef {
        &self.definition
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        if let Some(outcome) = &self.outcome {
            return outcome.status;
        }
        let undos = self.undos();
        if self.parked.is_some() || undos.iter().any(|undo| matches!(undo.doing, Undoing::Stuck { .. })) {
            return Status::Stuck;
        }
        let compensating = self.frame(ROOT).is_some_and(|frame| frame.doing == Doing::Undo);
        if self.ending.is_some() || compensating {
            return Status::Undoing;
        }
        if self.start.is_some() && self.is_idle() { Status::Waiting } else { Status::Running }
    }

    /// Why it stands still until an operator releases it, if it is parked.
    pub fn parked(&self) -> Option<&str> {
        self.parked.as_ref().map(|parked| parked.cause.as_str())
    }

    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether no attempt is under way and no turn is waited for, so that it may sleep until something comes.
    pub fn is_idle(&self) -> bool {
        let attempts = || self.frames().any(|(_, frame)| matches!(frame.doing, Doing::Attempt { .. }));
        let undos = || self.undos().iter().any(|undo| matches!(undo.doing, Undoing::Attempt { .. }));
        self.parked.is_some() || !(attempts() || undos() || self.is_cut())
    }

    /// Every timer that is set: its number and when it is due.
    pub fn timers(&self) -> impl Iterator<Item = (u64, Time)> + '_ {
        let set = self.parked.is_none();
        let undos = self.undos().into_iter().filter_map(|undo| match &undo.doing {
            Undoing::Retry { alarm, .. } => Some(*alarm),
            Undoing::Not | Undoing::Attempt { .. } | Undoing::Stuck { .. } => None,
        });
        self.alarm
            .into_iter()
            .chain(self.frames().filter_map(|(_, frame)| frame.alarm()))
            .chain(undos)
            .filter(move |_| set)
            .map(|alarm| (alarm.timer, alarm.at))
    }

    /// When the first of its timers is due.
    pub fn next_timer(&self) -> Option<Time> {
        self.timers().map(|(_, at)| at).min()
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Records so far, those that are not durable yet included.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Journal position of the frame with its last durable record; 0 for none.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The trace it belongs to, once it is started.
    pub fn trace(&self) -> Option<&TraceId> {
        self.start.as_ref().map(|start| &start.trace)
    }

    /// How many events led to it, one after the other.
    pub fn causes(&self) -> u32 {
        self.start.as_ref().map_or(0, |start| start.causes)
    }

    /// The execution's input; nothing before the start.
    pub fn input(&self) -> Option<&Value> {
        self.start.as_ref().map(|start| &*start.input)
    }

    /// Who started it.
    pub fn started_by(&self) -> Option<&Principal> {
        self.start.as_ref().map(|start| &start.by)
    }

    /// When it was started.
    pub fn started_at(&self) -> Option<Time> {
        self.start.as_ref().map(|start| start.at)
    }

    /// The parent's key and waiting step, when it is a child.
    pub fn parent(&self) -> Option<&Parent> {
        self.start.as_ref()?.parent.as_ref()
    }

    /// Whether it is the child that `step` of `parent` waits for; without a step, any child of it.
    pub fn is_child_of(&self, parent: &SagaKey, step: Option<u64>) -> bool {
        self.parent().is_some_and(|(key, own)| key == parent && step.is_none_or(|step| step == *own))
    }

    /// Where it stands among its own.
    pub fn family(&self) -> Family {
        self.start.as_ref().map(|start| start.family.clone()).unwrap_or_default()
    }

    /// The last change.
    pub fn changed_at(&self) -> Time {
        self.changed_at
    }

    /// The state that the outermost scope is in, or was in last.
    pub fn state(&self) -> String {
        match self.scopes.get(&ROOT) {
            Some(Scope { frame: Some(frame), .. }) => frame.state.to_string(),
            Some(Scope { frame: None, ahead: Some(ahead), .. }) => ahead.state.to_string(),
            Some(Scope { frame: None, ahead: None, .. }) | None => String::new(),
        }
    }

    fn frames(&self) -> impl Iterator<Item = (u64, &Frame)> {
        self.scopes.iter().filter_map(|(number, scope)| Some((*number, scope.frame.as_ref()?)))
    }

    /// The tasks that a person can decide now.
    pub fn open_tasks(&self) -> Vec<OpenTask> {
        self.frames()
            .filter_map(|(scope, frame)| match &frame.doing {
                Doing::Human { arguments, alarm } => Some(OpenTask {
                    step: frame.step,
                    state: self.path(scope),
                    arguments: Arc::clone(arguments),
                    since: frame.entered,
                    until: alarm.map(|alarm| alarm.at),
                }),
                Doing::Nothing
                | Doing::Attempt { .. }
                | Doing::Retry { .. }
                | Doing::Sleep { .. }
                | Doing::Signal { .. }
                | Doing::Child { .. }
                | Doing::Fork(_)
                | Doing::Undo => None,
            })
            .collect()
    }

    /// Why it has not ended yet.
    pub fn waiting(&self) -> Vec<Waiting> {
        if self.outcome.is_some() {
            return Vec::new();
        }
        if let Some(parked) = &self.parked {
            return vec![Waiting {
                state: self.state(),
                what: format!("it is parked, and an operator must release it: {}", parked.cause),
                kind: "operator".into(),
                since: parked.since,
                until: None,
                step: None,
                attempt: None,
                last_error: Some(parked.cause.clone()),
            }];
        }
        let frames = self.frames().filter_map(|(scope, frame)| self.frame_waits(scope, frame));
        let turns = self.scopes.values().filter_map(|scope| scope_waits(scope, self.changed_at));
        frames.chain(turns).chain(self.undos().into_iter().filter_map(undo_waits)).collect()
    }

    fn frame_waits(&self, scope: u64, frame: &Frame) -> Option<Waiting> {
        let until = |alarm: &Option<Alarm>| alarm.map(|alarm| alarm.at);
        let (kind, what, since, until, attempt, last_error) = match &frame.doing {
            Doing::Attempt { activity, since, deadline, .. } => {
                let what = format!("attempt {} of activity {activity} runs since {since}", frame.attempt);
                ("activity", what, *since, *deadline, Some(frame.attempt), None)
            }
            Doing::Retry { alarm, error, since } => {
                let what = format!("attempt {} starts at {}", frame.attempt + 1, alarm.at);
                let error = format!("{}: {}", error.error, error.cause);
                ("retry", what, *since, Some(alarm.at), Some(frame.attempt + 1), Some(error))
            }
            Doing::Sleep { alarm } => {
                ("timer", format!("waits until {}", alarm.at), frame.entered, Some(alarm.at), None, None)
            }
            Doing::Signal { name, alarm } => {
                ("signal", format!("waits for signal {name}"), frame.entered, until(alarm), None, None)
            }
            Doing::Human { alarm, .. } => {
                let what = format!("waits for a person to decide task {}", frame.step);
                ("task", what, frame.entered, until(alarm), None, None)
            }
            Doing::Child { key, definition, alarm, .. } => {
                ("child", format!("waits for child {key} ({definition})"), frame.entered, until(alarm), None, None)
            }
            Doing::Fork(fork) if fork.stalled => ("turn", TURN.to_owned(), self.changed_at, None, None, None),
            Doing::Nothing | Doing::Fork(_) | Doing::Undo => return None,
        };
        Some(Waiting {
            state: self.path(scope).to_string(),
            what,
            kind: kind.into(),
            since,
            until,
            step: Some(frame.step),
            attempt,
            last_error,
        })
    }

    /// The saga as a person is shown it; where it lives is for the tree to fill in.
    pub fn view(&self) -> SagaView {
        let start = self.start.as_ref();
        SagaView {
            saga: self.saga.to_string(),
            definition: self.definition.to_string(),
            status: self.status(),
            state: self.state(),
            started_by: start.map(|start| start.by.to_string()).unwrap_or_default(),
            started_at: start.map(|start| start.at).unwrap_or_default(),
            changed_at: self.changed_at,
            records: self.records,
            // Only a saga that was never started has no trace, and nobody is shown one.
            trace_id: start.map_or_else(|| TraceId::new("none").expect("a plain word is a name"), |s| s.trace.clone()),
            waiting: self.waiting(),
            compensations: self.undos().into_iter().map(|undo| format!("{} ({})", undo.path, undo.activity)).collect(),
            signals: self.signals.iter().map(shown).collect(),
            outcome: self.outcome.clone(),
            shard: 0,
            node: String::new(),
            awake: false,
        }
    }
}

fn shown(signal: &KeptSignal) -> SignalView {
    let bytes = serde_json::to_vec(&signal.payload).map_or(0, |text| text.len());
    let payload = (bytes <= SIGNAL_SHOWN_MAX_BYTES).then(|| Value::clone(&signal.payload));
    SignalView { name: signal.name.clone(), since: signal.since, bytes, payload }
}

fn scope_waits(scope: &Scope, since: Time) -> Option<Waiting> {
    let ahead = scope.ahead.as_ref()?;
    Some(Waiting {
        state: format!("{}{}", scope.prefix, ahead.state),
        what: TURN.into(),
        kind: "turn".into(),
        since,
        until: None,
        step: None,
        attempt: None,
        last_error: None,
    })
}

fn undo_waits(undo: &Undo) -> Option<Waiting> {
    let shown = |error: &super::fact::StepError| Some(format!("{}: {}", error.error, error.cause));
    let (kind, what, since, until, attempt, last_error) = match &undo.doing {
        Undoing::Not => return None,
        Undoing::Attempt { since, deadline, .. } => {
            let what = format!("attempt {} of undo {} runs since {since}", undo.attempts, undo.activity);
            ("undo", what, *since, *deadline, undo.attempts, None)
        }
        Undoing::Retry { alarm, error, since } => {
            let what = format!("attempt {} of undo {} starts at {}", undo.attempts + 1, undo.activity, alarm.at);
            ("undo", what, *since, Some(alarm.at), undo.attempts + 1, shown(error))
        }
        Undoing::Stuck { error, since } => {
            let what = format!("undo {} failed {} times; an operator must release it", undo.activity, undo.attempts);
            ("operator", what, *since, None, undo.attempts, shown(error))
        }
    };
    Some(Waiting {
        state: undo.path.to_string(),
        what,
        kind: kind.into(),
        since,
        until,
        step: Some(undo.step),
        attempt: Some(attempt),
        last_error,
    })
}
