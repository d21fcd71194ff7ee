//! Folds one change into the state, and names what is to be done because of it.
//!
//! This is the only place where a saga's state changes: a decision is folded as it is made, and a
//! replayed record is folded from its changes. It knows no definition and evaluates nothing.

use std::sync::Arc;

use protocol::Value;
use protocol::view::Outcome;

use super::change::{Ahead, Awaited, Change, Datum};
use super::effect::Effect;
use super::execution::{
    Doing, Ending, Entry, Execution, Fork, Frame, KeptSignal, Next, Parked, ROOT, Scope, Started, Undo, Undoing,
};
use super::fact::{Fact, FactKind};
use super::wanted::{call, child, envelope, undo_call, wanted};

/// Ids of signals remembered per saga: a sender repeats within seconds, not after hundreds of
/// other signals.
pub const SEEN_MAX: usize = 256;
/// The fact whose record is folded.
pub(super) struct Folding<'a> {
    pub fact: &'a Fact,
    pub number: u64,
    given: Arc<Value>,
    /// Events of this record so far.
    pub events: u32,
}

impl<'a> Folding<'a> {
    pub fn new(fact: &'a Fact, number: u64) -> Self {
        let given = match &fact.kind {
            FactKind::Started(start) => Some(&start.input),
            FactKind::StepSucceeded { output, .. } | FactKind::TaskDecided { output, .. } => Some(output),
            FactKind::Signalled { payload, .. } => Some(payload),
            FactKind::ChildEnded { outcome, .. } => outcome.output.as_ref(),
            FactKind::StepFailed { .. }
            | FactKind::TimerFired { .. }
            | FactKind::CancelRequested { .. }
            | FactKind::Operator(_)
            | FactKind::Continued
            | FactKind::Parked { .. } => None,
        };
        Self { fact, number, given: Arc::new(given.cloned().unwrap_or(Value::Null)), events: 0 }
    }

    /// The value of `datum`, where `scope` is the scope in question.
    pub fn value(&self, x: &Execution, scope: u64, datum: &Datum) -> Arc<Value> {
        match datum {
            Datum::Given => Arc::clone(&self.given),
            Datum::Is(value) => Arc::clone(value),
            Datum::Input => input(x, scope),
            Datum::Item => item(x, scope),
            Datum::Ahead => ahead(x, scope),
        }
    }
}

/// The input of the state `scope` is in; before its first, that of the state that holds it.
fn input(x: &Execution, scope: u64) -> Arc<Value> {
    match x.scopes.get(&scope) {
        Some(Scope { frame: Some(frame), .. }) => Arc::clone(&frame.input),
        Some(Scope { holder: Some((holder, _)), .. }) => input(x, *holder),
        Some(Scope { holder: None, .. }) | None => Arc::new(Value::Null),
    }
}

fn item(x: &Execution, scope: u64) -> Arc<Value> {
    let holder = x.scopes.get(&scope).and_then(|scope| scope.holder);
    let fork = holder.and_then(|(holder, _)| x.frame(holder)).map(|frame| &frame.doing);
    match (holder, fork) {
        (Some((_, index)), Some(Doing::Fork(fork))) => {
            let items = fork.items.as_ref();
            Arc::new(items.and_then(|items| items.get(index as usize)).cloned().unwrap_or(Value::Null))
        }
        (_, _) => Arc::new(Value::Null),
    }
}

fn ahead(x: &Execution, scope: u64) -> Arc<Value> {
    let ahead = x.scopes.get(&scope).and_then(|scope| scope.ahead.as_ref());
    ahead.map_or_else(|| Arc::new(Value::Null), |ahead| Arc::clone(&ahead.input))
}

/// Folds `change` into `x` and adds what follows from it to `effects`.
pub(super) fn fold(x: &mut Execution, folding: &mut Folding<'_>, change: &Change, effects: &mut Vec<Effect>) {
    let at = folding.fact.at;
    match change {
        Change::Began { alarm } => began(x, folding, *alarm, effects),
        Change::Opened { scope, holder, index } => {
            let prefix = format!("{}[{index}].", x.path(*holder)).into();
            number(x, *scope);
            let opened = Scope {
                holder: Some((*holder, *index)),
                prefix,
                variables: Default::default(),
                frame: None,
                stack: Vec::new(),
                ahead: None,
            };
            x.scopes.insert(*scope, opened);
            if let Some(Frame { doing: Doing::Fork(fork), .. }) = x.frame_mut(*holder) {
                fork.next = fork.next.max(*index as usize + 1);
            }
        }
        Change::Entered { scope, state, step, input } => {
            let input = folding.value(x, *scope, input);
            number(x, *step);
            if let Some(scope) = x.scopes.get_mut(scope) {
                scope.ahead = None;
                scope.frame = Some(Frame {
                    state: Arc::clone(state),
                    step: *step,
                    entered: at,
                    input,
                    attempt: 0,
                    retries: Vec::new(),
                    undo: None,
                    doing: Doing::Nothing,
                });
            }
        }
        Change::Attempted { scope, attempt, activity, arguments, deadline, heartbeat_ms, state: _ } => {
            let arguments = folding.value(x, *scope, arguments);
            if let Some(frame) = x.frame_mut(*scope) {
                frame.attempt = *attempt;
                frame.doing = Doing::Attempt {
                    activity: Arc::clone(activity),
                    arguments,
                    since: at,
                    deadline: *deadline,
                    heartbeat_ms: *heartbeat_ms,
                };
            }
            effects.extend(x.frame(*scope).and_then(|frame| call(x, *scope, frame)));
        }
        Change::Slept { scope, alarm, state: _ } => {
            doing(x, folding, *scope, Doing::Sleep { alarm: *alarm }, effects);
        }
        Change::Awaits { scope, what, alarm, state: _ } => {
            if let Some(frame) = x.frame_mut(*scope) {
                frame.attempt += 1;
            }
            let waits = match what {
                Awaited::Signal(name) => Doing::Signal { name: Arc::clone(name), alarm: *alarm },
                Awaited::Human(arguments) => {
                    Doing::Human { arguments: folding.value(x, *scope, arguments), alarm: *alarm }
                }
                Awaited::Child { key, definition, pinned, input } => Doing::Child {
                    key: key.clone(),
                    definition: Arc::clone(definition),
                    pinned: pinned.clone(),
                    input: folding.value(x, *scope, input),
                    alarm: *alarm,
                },
            };
            doing(x, folding, *scope, waits, effects);
            effects.extend(x.frame(*scope).and_then(child));
        }
        Change::Retrying { scope, retrier, error, alarm, state: _ } => {
            if let Some(frame) = x.frame_mut(*scope) {
                count(&mut frame.retries, *retrier);
            }
            let waits = Doing::Retry { alarm: *alarm, error: error.clone(), since: at };
            doing(x, folding, *scope, waits, effects);
        }
        Change::Forked { scope, attempt, count, items, width, tolerated, state: _ } => {
            let items = items.as_ref().map(|items| folding.value(x, *scope, items));
            let fork = Fork {
                items,
                results: vec![None; *count],
                next: 0,
                width: *width,
                tolerated: *tolerated,
                done: 0,
                failed: 0,
                lanes: Vec::new(),
                failing: None,
                stalled: false,
            };
            if let Some(frame) = x.frame_mut(*scope) {
                frame.attempt = *attempt;
                frame.doing = Doing::Fork(Box::new(fork));
            }
        }
        Change::ScopeEnded { scope, output, failed } => {
            let output = folding.value(x, *scope, output);
            let lane = close(x, folding, *scope, effects);
            if let Some((Scope { holder: Some((holder, index)), .. }, stack)) = lane
                && let Some(Frame { doing: Doing::Fork(fork), .. }) = x.frame_mut(holder)
            {
                fork.done += 1;
                fork.failed += usize::from(*failed);
                if let Some(result) = fork.results.get_mut(index as usize) {
                    *result = present(output);
                }
                if !stack.is_empty() {
                    fork.lanes.push(stack);
                }
            }
        }
        Change::Failing { scope, error, state: _ } => {
            hush(x, folding, *scope, effects);
            if let Some(Frame { doing: Doing::Fork(fork), .. }) = x.frame_mut(*scope) {
                fork.failing = Some(error.clone());
            }
        }
        Change::Joined { scope } => join(x, folding, *scope, effects),
        Change::Assigned { scope, variables } => {
            if let Some(scope) = x.scopes.get_mut(scope) {
                scope.variables.extend(variables.iter().map(|(name, value)| (name.clone(), Arc::clone(value))));
            }
        }
        Change::Left { scope, state: _, caught: _ } => doing(x, folding, *scope, Doing::Nothing, effects),
        Change::Published { event, payload, number } => {
            let payload = folding.value(x, ROOT, payload);
            folding.events += 1;
            x.events = *number;
            effects
                .extend(envelope(x, folding, (event, *number), &payload).map(|event| Effect::Publish(Box::new(event))));
        }
        Change::Pushed { scope, undo, activity, input, arguments, state } => {
            let entry = Undo {
                step: *undo,
                state: x.frame(*scope).map_or_else(|| Arc::clone(state), |frame| Arc::clone(&frame.state)),
                path: Arc::clone(state),
                activity: Arc::clone(activity),
                // The key of the step itself: what a step did is found again by the key it was done under.
                key: x.key(state, x.frame(*scope).map_or(0, |frame| frame.step)),
                input: folding.value(x, *scope, input),
                output: None,
                arguments: arguments.as_ref().map(|arguments| Datum::Is(folding.value(x, *scope, arguments))),
                attempts: 0,
                retries: Vec::new(),
                doing: Undoing::Not,
            };
            number(x, *undo);
            if let Some(scope) = x.scopes.get_mut(scope) {
                scope.stack.push(Entry::Step(Box::new(entry)));
                if let Some(frame) = &mut scope.frame {
                    frame.undo = Some(*undo);
                }
            }
        }
        Change::Armed { undo, output, arguments } => {
            let scope = x.undo(*undo).map_or(ROOT, |(scope, _)| scope);
            let output = folding.value(x, scope, output);
            let arguments = arguments.as_ref().map(|arguments| Datum::Is(folding.value(x, scope, arguments)));
            if let Some(undo) = x.undo_mut(*undo) {
                undo.output = present(output);
                undo.arguments = arguments;
            }
        }
        Change::Unwinding { scope, state: _ } => doing(x, folding, *scope, Doing::Undo, effects),
        Change::UndoStarted { undo, attempt, deadline, heartbeat_ms, state: _ } => {
            let started = Undoing::Attempt { since: at, deadline: *deadline, heartbeat_ms: *heartbeat_ms };
            if let Some(undo) = x.undo_mut(*undo) {
                undo.attempts = *attempt;
            }
            undoing(x, folding, *undo, started, effects);
            effects.extend(x.undo(*undo).and_then(|(_, undo)| undo_call(undo)));
        }
        Change::UndoRetrying { undo, retrier, error, alarm, state: _ } => {
            number(x, alarm.timer);
            effects.push(Effect::SetTimer { timer: alarm.timer, at: alarm.at });
            if let Some(undo) = x.undo_mut(*undo) {
                count(&mut undo.retries, *retrier);
                undo.doing = Undoing::Retry { alarm: *alarm, error: error.clone(), since: at };
            }
        }
        Change::UndoStuck { undo, error, state: _ } => {
            undoing(x, folding, *undo, Undoing::Stuck { error: error.clone(), since: at }, effects);
        }
        Change::Undone { undo, state: _, skipped: _ } => {
            undoing(x, folding, *undo, Undoing::Not, effects);
            for scope in x.scopes.values_mut() {
                remove(&mut scope.stack, *undo);
            }
        }
        Change::Ending { status, state, error, cause } => {
            let ending = Ending {
                status: *status,
                state: Arc::clone(state),
                error: error.clone(),
                cause: cause.clone(),
                since: at,
            };
            if let Some(alarm) = x.alarm.take() {
                clear(folding, alarm.timer, effects);
            }
            join(x, folding, ROOT, effects);
            // A Compensate state of the outermost scope is already undoing this very stack.
            if !x.frame(ROOT).is_some_and(|frame| frame.doing == Doing::Undo) {
                stop(x, folding, ROOT, effects);
            }
            if let Some(root) = x.scopes.get_mut(&ROOT) {
                root.ahead = None;
            }
            x.ending = Some(ending);
        }
        Change::SignalKept { name, payload } => {
            let payload = folding.value(x, ROOT, payload);
            x.signals.push_back(KeptSignal { name: name.clone(), payload, since: Some(folding.fact.at) });
        }
        Change::SignalTaken { name } => {
            if let Some(index) = x.signals.iter().position(|kept| *kept.name == **name) {
                x.signals.remove(index);
            }
        }
        Change::SignalSeen { id } => {
            if x.seen.len() == SEEN_MAX {
                x.seen.pop_front();
            }
            x.seen.push_back(id.clone());
        }
        Change::ChildDropped { key, step } => {
            // One that is not durable yet is not born at all.
            let before = effects.len();
            effects.retain(|effect| !matches!(effect, Effect::StartChild { key: unborn, .. } if unborn == key));
            if effects.len() == before {
                effects.push(Effect::CancelChild { step: *step, key: key.clone() });
            }
        }
        Change::Parked { cause } => {
            halt(x, effects);
            x.parked = Some(Parked { cause: cause.clone(), since: at });
        }
        Change::Unparked => {
            x.parked = None;
            effects.extend(wanted(x));
        }
        Change::Cut { ahead, stalled } => {
            for Ahead { scope, state, input } in ahead {
                let input = folding.value(x, *scope, input);
                if let Some(scope) = x.scopes.get_mut(scope) {
                    scope.ahead = Some(Box::new(Next { state: Arc::clone(state), input }));
                }
            }
            for scope in stalled {
                stall(x, *scope, true);
            }
            if x.parked.is_none() {
                effects.push(Effect::Continue);
            }
        }
        Change::Resumed => x.stalled().into_iter().for_each(|scope| stall(x, scope, false)),
        // Counted with its record.
        Change::Overran { .. } => {}
        Change::Finished { status, state, output, error, cause } => {
            let outcome = Outcome {
                status: *status,
                state: state.to_string(),
                output: output
                    .as_ref()
                    .and_then(|output| present(folding.value(x, ROOT, output)))
                    .map(|output| Value::clone(&output)),
                error: error.clone(),
                cause: cause.clone(),
            };
            finished(x, folding, outcome, effects);
        }
    }
}

/// Whether the Map of `scope` opens more items with the next turn.
fn stall(x: &mut Execution, scope: u64, stalled: bool) {
    if let Some(Frame { doing: Doing::Fork(fork), .. }) = x.frame_mut(scope) {
        fork.stalled = stalled;
    }
}

fn began(x: &mut Execution, folding: &Folding<'_>, alarm: Option<super::change::Alarm>, effects: &mut Vec<Effect>) {
    if let FactKind::Started(start) = &folding.fact.kind {
        x.definition = start.definition.clone();
        x.start = Some(Started {
            at: folding.fact.at,
            by: start.by.clone(),
            trace: start.trace.clone(),
            cause: start.cause.clone(),
            causes: start.causes,
            parent: start.parent.clone(),
            family: start.family.clone(),
            secret: start.secret.clone(),
            input: Arc::clone(&folding.given),
        });
    }
    let root = Scope {
        holder: None,
        prefix: "".into(),
        variables: Default::default(),
        frame: None,
        stack: Vec::new(),
        ahead: None,
    };
    x.scopes.insert(ROOT, root);
    x.alarm = alarm;
    if let Some(alarm) = alarm {
        number(x, alarm.timer);
        effects.push(Effect::SetTimer { timer: alarm.timer, at: alarm.at });
    }
}

fn finished(x: &mut Execution, folding: &Folding<'_>, outcome: Outcome, effects: &mut Vec<Effect>) {
    halt(x, effects);
    let spent = fired(folding);
    effects.retain(|effect| !matches!(effect, Effect::ClearTimer { timer } if Some(*timer) == spent));
    x.scopes.retain(|scope, _| *scope == ROOT);
    if let Some(root) = x.scopes.get_mut(&ROOT) {
        root.variables.clear();
        root.stack.clear();
        root.ahead = None;
        if let Some(frame) = &mut root.frame {
            frame.doing = Doing::Nothing;
            frame.input = Arc::new(Value::Null);
        }
    }
    (x.alarm, x.ending, x.parked) = (None, None, None);
    x.signals.clear();
    let parent = x.start.as_ref().and_then(|start| start.parent.clone());
    effects.push(Effect::Ended { outcome: Box::new(outcome.clone()), parent });
    x.outcome = Some(outcome);
}

/// What is stored as an option reads null back as nothing, so it is nothing from the start.
fn present(value: Arc<Value>) -> Option<Arc<Value>> {
    (!value.is_null()).then_some(value)
}

/// Numbers are never reused.
fn number(x: &mut Execution, used: u64) {
    x.last = x.last.max(used);
}

fn count(retries: &mut Vec<u32>, retrier: usize) {
    if retries.len() <= retrier {
        retries.resize(retrier + 1, 0);
    }
    retries[retrier] += 1;
}

/// The timer that is the fact itself: it is spent.
fn fired(folding: &Folding<'_>) -> Option<u64> {
    match folding.fact.kind {
        FactKind::TimerFired { timer } => Some(timer),
        FactKind::Started(_)
        | FactKind::StepSucceeded { .. }
        | FactKind::StepFailed { .. }
        | FactKind::Signalled { .. }
        | FactKind::TaskDecided { .. }
        | FactKind::ChildEnded { .. }
        | FactKind::CancelRequested { .. }
        | FactKind::Operator(_)
        | FactKind::Continued
        | FactKind::Parked { .. } => None,
    }
}

fn clear(folding: &Folding<'_>, timer: u64, effects: &mut Vec<Effect>) {
    if fired(folding) != Some(timer) {
        effects.push(Effect::ClearTimer { timer });
    }
}

/// The state of `scope` does something else from now on; its timers follow.
fn doing(x: &mut Execution, folding: &Folding<'_>, scope: u64, next: Doing, effects: &mut Vec<Effect>) {
    let Some(frame) = x.frame_mut(scope) else { return };
    if let Some(alarm) = frame.alarm() {
        clear(folding, alarm.timer, effects);
    }
    frame.doing = next;
    if let Some(alarm) = frame.alarm() {
        number(x, alarm.timer);
        effects.push(Effect::SetTimer { timer: alarm.timer, at: alarm.at });
    }
}

/// The same for an undo.
fn undoing(x: &mut Execution, folding: &Folding<'_>, undo: u64, next: Undoing, effects: &mut Vec<Effect>) {
    let Some(undo) = x.undo_mut(undo) else { return };
    if let Undoing::Retry { alarm, .. } = &undo.doing {
        clear(folding, alarm.timer, effects);
    }
    undo.doing = next;
}

/// What the state of `scope` does is not wanted any more.
fn stop(x: &mut Execution, folding: &Folding<'_>, scope: u64, effects: &mut Vec<Effect>) {
    let Some(frame) = x.frame(scope) else { return };
    if matches!(frame.doing, Doing::Attempt { .. }) && !answered(folding, frame.attempt()) {
        effects.push(Effect::StopActivity(frame.attempt()));
    }
    doing(x, folding, scope, Doing::Nothing, effects);
}

/// Whether the fact is this attempt's own answer; then there is nothing to stop.
fn answered(folding: &Folding<'_>, which: super::fact::AttemptRef) -> bool {
    match &folding.fact.kind {
        FactKind::StepSucceeded { attempt, .. } | FactKind::StepFailed { attempt, .. } => *attempt == which,
        FactKind::Started(_)
        | FactKind::TimerFired { .. }
        | FactKind::Signalled { .. }
        | FactKind::TaskDecided { .. }
        | FactKind::ChildEnded { .. }
        | FactKind::CancelRequested { .. }
        | FactKind::Operator(_)
        | FactKind::Continued
        | FactKind::Parked { .. } => false,
    }
}

/// Stops every branch or item of the state `scope` is in, except those that are undoing.
fn hush(x: &mut Execution, folding: &Folding<'_>, scope: u64, effects: &mut Vec<Effect>) {
    for inner in held(x, scope) {
        if x.frame(inner).is_some_and(|frame| frame.doing == Doing::Undo) {
            continue;
        }
        if x.undoes_inside(inner) {
            hush(x, folding, inner, effects);
        } else if let Some((_, stack)) = close(x, folding, inner, effects)
            && !stack.is_empty()
            && let Some(Frame { doing: Doing::Fork(fork), .. }) = x.frame_mut(scope)
        {
            fork.lanes.push(stack);
        }
    }
}

/// The branches or items of the state `scope` is in.
fn held(x: &Execution, scope: u64) -> Vec<u64> {
    let inner = x.scopes.iter().filter(|(_, inner)| inner.holder.is_some_and(|(holder, _)| holder == scope));
    inner.map(|(number, _)| *number).collect()
}

/// Stops every branch or item of the state `scope` is in; what they did goes onto its stack.
fn join(x: &mut Execution, folding: &Folding<'_>, scope: u64, effects: &mut Vec<Effect>) {
    let inner = held(x, scope);
    let mut lanes = match x.frame_mut(scope) {
        Some(Frame { doing: Doing::Fork(fork), .. }) => std::mem::take(&mut fork.lanes),
        Some(_) | None => Vec::new(),
    };
    for scope in inner {
        let stack = close(x, folding, scope, effects).map(|(_, stack)| stack).unwrap_or_default();
        if !stack.is_empty() {
            lanes.push(stack);
        }
    }
    if let Some(scope) = x.scopes.get_mut(&scope) {
        if !lanes.is_empty() {
            scope.stack.push(Entry::Lanes(lanes));
        }
        if let Some(frame) = &mut scope.frame
            && matches!(frame.doing, Doing::Fork(_))
        {
            frame.doing = Doing::Nothing;
        }
    }
}

/// Closes a scope with everything inside; answers it, and what it left to undo.
fn close(
    x: &mut Execution,
    folding: &Folding<'_>,
    scope: u64,
    effects: &mut Vec<Effect>,
) -> Option<(Scope, Vec<Entry>)> {
    join(x, folding, scope, effects);
    stop(x, folding, scope, effects);
    let mut closed = x.scopes.remove(&scope)?;
    let mut stack = std::mem::take(&mut closed.stack);
    rest(folding, &mut stack, effects);
    Some((closed, stack))
}

/// Undos under way in a scope that is closed stop; they begin again when they are wanted.
fn rest(folding: &Folding<'_>, stack: &mut [Entry], effects: &mut Vec<Effect>) {
    for entry in stack {
        match entry {
            Entry::Step(undo) => {
                match &undo.doing {
                    Undoing::Attempt { .. } => effects.push(Effect::StopActivity(undo.attempt())),
                    Undoing::Retry { alarm, .. } => clear(folding, alarm.timer, effects),
                    Undoing::Not | Undoing::Stuck { .. } => {}
                }
                undo.doing = Undoing::Not;
            }
            Entry::Lanes(lanes) => lanes.iter_mut().for_each(|lane| rest(folding, lane, effects)),
        }
    }
}

fn remove(stack: &mut Vec<Entry>, step: u64) {
    stack.retain_mut(|entry| match entry {
        Entry::Step(undo) => undo.step != step,
        Entry::Lanes(lanes) => {
            lanes.iter_mut().for_each(|lane| remove(lane, step));
            lanes.retain(|lane| !lane.is_empty());
            !lanes.is_empty()
        }
    });
}

/// Everything under way stops; the state remembers what it was.
fn halt(x: &Execution, effects: &mut Vec<Effect>) {
    for scope in x.scopes.values() {
        let Some(frame) = &scope.frame else { continue };
        if matches!(frame.doing, Doing::Attempt { .. }) {
            effects.push(Effect::StopActivity(frame.attempt()));
        }
        effects.extend(frame.alarm().map(|alarm| Effect::ClearTimer { timer: alarm.timer }));
    }
    for undo in x.undos() {
        match &undo.doing {
            Undoing::Attempt { .. } => effects.push(Effect::StopActivity(undo.attempt())),
            Undoing::Retry { alarm, .. } => effects.push(Effect::ClearTimer { timer: alarm.timer }),
            Undoing::Not | Undoing::Stuck { .. } => {}
        }
    }
    effects.extend(x.alarm.map(|alarm| Effect::ClearTimer { timer: alarm.timer }));
}
