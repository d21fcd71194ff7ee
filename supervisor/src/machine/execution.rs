//! The folded state of one saga.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::activity::KEY_MAX_BYTES;
use protocol::text::identity;
use protocol::view::{Outcome, Status};
use protocol::{DefinitionRef, Principal, SagaId, SagaKey, Time, TraceId, Value};
use serde::{Deserialize, Serialize};

use super::change::{Alarm, Change, Datum};
use super::fact::{AttemptRef, Fact, StepError};
use super::family::{Family, Parent};

/// One saga as its records made it. Written as its snapshot.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Execution {
    pub(super) saga: SagaId,
    pub(super) definition: DefinitionRef,
    #[serde(default)]
    pub(super) start: Option<Started>,
    #[serde(default)]
    pub(super) records: u64,
    #[serde(default)]
    pub(super) position: u64,
    #[serde(default)]
    pub(super) changed_at: Time,
    /// The last number given to a step, a scope, an undo or a timer.
    #[serde(default)]
    pub(super) last: u64,
    /// The last number given to an event.
    #[serde(default, skip_serializing_if = "protocol::envelope::is_zero")]
    pub(super) events: u64,
    #[serde(default)]
    pub(super) scopes: BTreeMap<u64, Scope>,
    /// When the whole times out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alarm: Option<Alarm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<Ending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parked: Option<Parked>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
    /// Signals that came before anything waits for them.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) signals: VecDeque<KeptSignal>,
    /// Ids of the last signals.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) seen: VecDeque<String>,
    /// What it did by itself since something came from outside.
    #[serde(default, skip_serializing_if = "Run::is_new")]
    pub(super) run: Run,
}

/// What a saga did by itself: more than the limits allow is no progress.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// States entered by cut records, one after the other, up to the last one.
    #[serde(default)]
    pub states: u64,
    /// States that overran, since something came from outside.
    #[serde(default)]
    pub overruns: u32,
}

/// How it was started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Started {
    pub at: Time,
    pub by: Principal,
    pub trace: TraceId,
    pub cause: String,
    #[serde(default, skip_serializing_if = "protocol::envelope::is_zero")]
    pub causes: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    #[serde(default, skip_serializing_if = "Family::is_new")]
    pub family: Family,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub input: Arc<Value>,
}

/// It will end like this, once everything is undone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Ending {
    pub status: Status,
    pub state: Arc<str>,
    pub error: String,
    pub cause: String,
    pub since: Time,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Parked {
    pub cause: String,
    pub since: Time,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct KeptSignal {
    pub name: String,
    pub payload: Arc<Value>,
    /// When it came; signals kept by earlier releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// One run of a `States` map.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Scope {
    /// The scope whose state holds this one, and which branch or item this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<(u64, u32)>,
    /// What stands before a state's name in its path: empty, or `Copies[3].`.
    pub prefix: Arc<str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Arc<Value>>,
    #[serde(default)]
    pub frame: Option<Frame>,
    /// How to undo what was done, last last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<Entry>,
    /// The state to enter with the next turn, when the record was cut before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Box<Next>>,
}

/// A state to enter.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Next {
    pub state: Arc<str>,
    pub input: Arc<Value>,
}

/// A state that was entered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Frame {
    pub state: Arc<str>,
    pub step: u64,
    pub entered: Time,
    pub input: Arc<Value>,
    /// Counted from 1 once there is one.
    #[serde(default)]
    pub attempt: u32,
    /// Retries used, per entry of `Retry`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<u32>,
    /// The undo that was pushed for this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<u64>,
    pub doing: Doing,
}

/// What a state is doing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Doing {
    /// Nothing: it is left, or about to do something.
    Nothing,
    Attempt {
        activity: Arc<str>,
        arguments: Arc<Value>,
        since: Time,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Time>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heartbeat_ms: Option<u64>,
    },
    Retry {
        alarm: Alarm,
        error: StepError,
        since: Time,
    },
    Sleep {
        alarm: Alarm,
    },
    Signal {
        name: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alarm: Option<Alarm>,
    },
    Human {
        arguments: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alarm: Option<Alarm>,
    },
    Child {
        key: SagaKey,
        definition: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pinned: Option<DefinitionRef>,
        input: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alarm: Option<Alarm>,
    },
    Fork(Box<Fork>),
    Undo,
}

/// Branches or items under way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Fork {
    /// The items of a Map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Arc<Value>>,
    pub results: Vec<Option<Arc<Value>>>,
    /// The first that is not started.
    pub next: usize,
    pub width: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerated: Option<usize>,
    pub done: usize,
    pub failed: usize,
    /// What the ended ones left to undo.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::lanes")]
    pub lanes: Vec<Vec<Entry>>,
    /// How the state will fail, once what is being undone inside is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<StepError>,
    /// Whether it opens more items with the next turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stalled: bool,
}

/// Something to undo.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Entry {
    Step(Box<Undo>),
    /// What branches or items did, side by side.
    Lanes(#[serde(with = "super::lanes")] Vec<Vec<Entry>>),
}

/// How to undo one state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Undo {
    pub step: u64,
    /// The state's name, to find its policy.
    pub state: Arc<str>,
    pub path: Arc<str>,
    pub activity: Arc<str>,
    pub key: String,
    pub input: Arc<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Arc<Value>>,
    /// Always [`Datum::Is`], which tells written-out null from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Datum>,
    #[serde(default)]
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<u32>,
    pub doing: Undoing,
}

/// How far an undo is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Undoing {
    Not,
    Attempt {
        since: Time,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Time>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heartbeat_ms: Option<u64>,
    },
    Retry {
        alarm: Alarm,
        error: StepError,
        since: Time,
    },
    Stuck {
        error: StepError,
        since: Time,
    },
}

/// The number of the outermost scope.
pub(super) const ROOT: u64 = 0;

impl Execution {
    pub(super) fn new(saga: SagaId, definition: DefinitionRef) -> Self {
        Self {
            saga,
            definition,
            start: None,
            records: 0,
            position: 0,
            changed_at: Time::default(),
            last: 0,
            events: 0,
            scopes: BTreeMap::new(),
            alarm: None,
            ending: None,
            parked: None,
            outcome: None,
            signals: VecDeque::new(),
            seen: VecDeque::new(),
            run: Run::default(),
        }
    }

    /// A record is folded; what its fact and changes say about progress is counted.
    pub(super) fn recorded(&mut self, number: u64, fact: &Fact, changes: &[Change]) {
        self.records = number;
        self.changed_at = fact.at;
        let (mut entered, mut overran, mut cut) = (0, 0, false);
        for change in changes {
            entered += u64::from(matches!(change, Change::Entered { .. }));
            overran += u32::from(matches!(change, Change::Overran { .. }));
            cut |= matches!(change, Change::Cut { .. });
        }
        let before = if fact.kind.is_turn() { self.run.states } else { 0 };
        self.run.states = if cut { before + entered } else { 0 };
        let before = if fact.kind.is_from_outside() { 0 } else { self.run.overruns };
        self.run.overruns = before + overran;
    }

    /// Whether the last record was cut and something is left to go on with.
    pub(super) fn is_cut(&self) -> bool {
        self.scopes.values().any(|scope| scope.ahead.is_some() || scope.is_stalled())
    }

    /// The scopes whose Map opens more items with the next turn.
    pub(super) fn stalled(&self) -> Vec<u64> {
        self.scopes.iter().filter(|(_, scope)| scope.is_stalled()).map(|(number, _)| *number).collect()
    }

    /// The states to enter with the next turn, the one that waited longest first: numbers grow.
    pub(super) fn ahead(&self) -> Vec<(u64, Arc<str>)> {
        let waits = |number: u64, scope: &Scope| scope.frame.as_ref().map_or(number, |frame| frame.step);
        let mut found: Vec<_> = self
            .scopes
            .iter()
            .filter_map(|(number, scope)| {
                Some((waits(*number, scope), *number, Arc::clone(&scope.ahead.as_ref()?.state)))
            })
            .collect();
        found.sort_unstable_by_key(|(since, ..)| *since);
        found.into_iter().map(|(_, scope, state)| (scope, state)).collect()
    }

    /// The frame of `scope`.
    pub(super) fn frame(&self, scope: u64) -> Option<&Frame> {
        self.scopes.get(&scope)?.frame.as_ref()
    }

    pub(super) fn frame_mut(&mut self, scope: u64) -> Option<&mut Frame> {
        self.scopes.get_mut(&scope)?.frame.as_mut()
    }

    /// The scope whose frame is `step`.
    pub(super) fn scope_of(&self, step: u64) -> Option<u64> {
        self.scopes
            .iter()
            .find(|(_, scope)| scope.frame.as_ref().is_some_and(|frame| frame.step == step))
            .map(|(number, _)| *number)
    }

    /// Whether `inner` is a branch or an item of what `outer` does, however deep.
    pub(super) fn is_inside(&self, inner: u64, outer: u64) -> bool {
        match self.scopes.get(&inner).and_then(|scope| scope.holder) {
            Some((holder, _)) => holder == outer || self.is_inside(holder, outer),
            None => false,
        }
    }

    /// Whether something inside what `scope` does is being undone.
    pub(super) fn undoes_inside(&self, scope: u64) -> bool {
        let undoes = |inner: &Scope| inner.frame.as_ref().is_some_and(|frame| frame.doing == Doing::Undo);
        self.scopes.iter().any(|(number, inner)| undoes(inner) && self.is_inside(*number, scope))
    }

    /// Whether a state around `scope` fails and only waits for what is being undone.
    pub(super) fn fails_around(&self, scope: u64) -> bool {
        let holder = self.scopes.get(&scope).and_then(|scope| scope.holder);
        holder.is_some_and(|(holder, _)| self.failing(holder).is_some() || self.fails_around(holder))
    }

    /// How the state of `scope` will fail, if it only waits for what is being undone inside.
    pub(super) fn failing(&self, scope: u64) -> Option<&StepError> {
        match &self.frame(scope)?.doing {
            Doing::Fork(fork) => fork.failing.as_ref(),
            Doing::Nothing
            | Doing::Attempt { .. }
            | Doing::Retry { .. }
            | Doing::Sleep { .. }
            | Doing::Signal { .. }
            | Doing::Human { .. }
            | Doing::Child { .. }
            | Doing::Undo => None,
        }
    }

    /// The path of the state that `scope` is in.
    pub(super) fn path(&self, scope: u64) -> Arc<str> {
        let Some(scope) = self.scopes.get(&scope) else { return "".into() };
        let Some(frame) = &scope.frame else { return Arc::clone(&scope.prefix) };
        if scope.prefix.is_empty() {
            Arc::clone(&frame.state)
        } else {
            format!("{}{}", scope.prefix, frame.state).into()
        }
    }

    /// How long the path of the state that `scope` is in is, without making it.
    pub(super) fn path_len(&self, scope: u64) -> usize {
        let Some(scope) = self.scopes.get(&scope) else { return 0 };
        scope.prefix.len() + scope.frame.as_ref().map_or(0, |frame| frame.state.len())
    }

    /// The idempotency key of a step. The number at its end makes it the step's own, and so does the
    /// digest of a key that would be too long, which no number ends like.
    pub(super) fn key(&self, path: &str, step: u64) -> String {
        whole_key(format!("{}/{path}.{step}", self.saga))
    }

    /// A variable, as `scope` sees it.
    pub(super) fn variable(&self, scope: u64, name: &str) -> Option<&Value> {
        let scope = self.scopes.get(&scope)?;
        match (scope.variables.get(name), scope.holder) {
            (Some(value), _) => Some(value),
            (None, Some((holder, _))) => self.variable(holder, name),
            (None, None) => None,
        }
    }

    pub(super) fn undo(&self, step: u64) -> Option<(u64, &Undo)> {
        self.scopes.iter().find_map(|(number, scope)| find(&scope.stack, step).map(|undo| (*number, undo)))
    }

    pub(super) fn undo_mut(&mut self, step: u64) -> Option<&mut Undo> {
        self.scopes.values_mut().find_map(|scope| find_mut(&mut scope.stack, step))
    }

    /// Every undo that could go on now: the last of each stack, side by side for branches.
    pub(super) fn tops(&self, scope: u64) -> Vec<&Undo> {
        let mut found = Vec::new();
        if let Some(scope) = self.scopes.get(&scope) {
            tops(&scope.stack, &mut found);
        }
        found
    }

    /// Every undo of every scope, last first.
    pub(super) fn undos(&self) -> Vec<&Undo> {
        let mut found = Vec::new();
        for scope in self.scopes.values().rev() {
            collect(&scope.stack, &mut found);
        }
        found
    }
}

/// A key as it goes out. Older releases kept longer ones in their snapshots.
pub(super) fn whole_key(key: String) -> String {
    #[cfg(feature = "simulation")]
    if crate::simulation::planted(crate::simulation::Bug::Cut) {
        return protocol::text::beginning(&key, KEY_MAX_BYTES).to_owned();
    }
    match identity(&key, KEY_MAX_BYTES) {
        Cow::Borrowed(_) => key,
        Cow::Owned(short) => short,
    }
}

fn find(stack: &[Entry], step: u64) -> Option<&Undo> {
    stack.iter().rev().find_map(|entry| match entry {
        Entry::Step(undo) => (undo.step == step).then_some(&**undo),
        Entry::Lanes(lanes) => lanes.iter().find_map(|lane| find(lane, step)),
    })
}

fn find_mut(stack: &mut [Entry], step: u64) -> Option<&mut Undo> {
    stack.iter_mut().rev().find_map(|entry| match entry {
        Entry::Step(undo) => (undo.step == step).then_some(&mut **undo),
        Entry::Lanes(lanes) => lanes.iter_mut().find_map(|lane| find_mut(lane, step)),
    })
}

fn tops<'a>(stack: &'a [Entry], found: &mut Vec<&'a Undo>) {
    let top = stack.last();
    #[cfg(feature = "simulation")]
    let top = if crate::simulation::planted(crate::simulation::Bug::Order) { stack.first() } else { top };
    match top {
        None => {}
        Some(Entry::Step(undo)) => found.push(undo),
        Some(Entry::Lanes(lanes)) => lanes.iter().for_each(|lane| tops(lane, found)),
    }
}

fn collect<'a>(stack: &'a [Entry], found: &mut Vec<&'a Undo>) {
    for entry in stack.iter().rev() {
        match entry {
            Entry::Step(undo) => found.push(undo),
            Entry::Lanes(lanes) => lanes.iter().rev().for_each(|lane| collect(lane, found)),
        }
    }
}

impl Run {
    const fn is_new(&self) -> bool {
        self.states == 0 && self.overruns == 0
    }
}

impl Scope {
    fn is_stalled(&self) -> bool {
        matches!(&self.frame, Some(Frame { doing: Doing::Fork(fork), .. }) if fork.stalled)
    }
}

impl Undo {
    /// What the undo is given.
    pub fn given(&self) -> Value {
        match &self.arguments {
            Some(Datum::Is(arguments)) => Value::clone(arguments),
            Some(Datum::Given | Datum::Input | Datum::Item | Datum::Ahead) | None => {
                let output = self.output.as_ref().map_or(Value::Null, |output| Value::clone(output));
                serde_json::json!({ "input": &*self.input, "output": output })
            }
        }
    }

    /// The attempt under way.
    pub fn attempt(&self) -> AttemptRef {
        AttemptRef { step: self.step, attempt: self.attempts }
    }
}

impl Frame {
    pub fn attempt(&self) -> AttemptRef {
        AttemptRef { step: self.step, attempt: self.attempt }
    }

    /// The attempt under way, or the one that is about to begin.
    pub fn next_attempt(&self) -> AttemptRef {
        let under_way = matches!(self.doing, Doing::Attempt { .. });
        AttemptRef { step: self.step, attempt: self.attempt + u32::from(!under_way) }
    }

    /// The timer this state waits for.
    pub fn alarm(&self) -> Option<Alarm> {
        match &self.doing {
            Doing::Retry { alarm, .. } | Doing::Sleep { alarm } => Some(*alarm),
            Doing::Signal { alarm, .. } | Doing::Human { alarm, .. } | Doing::Child { alarm, .. } => *alarm,
            Doing::Nothing | Doing::Attempt { .. } | Doing::Fork(_) | Doing::Undo => None,
        }
    }
}
