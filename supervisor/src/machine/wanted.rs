//! What a saga asks of the world, as its state says it: the same words whether the state was just
//! reached or is taken over by another node.

use std::sync::Arc;

use protocol::view::Outcome;
use protocol::{Envelope, EventId, Value};
use uuid::Uuid;

use super::change::{Alarm, Change, Datum};
use super::effect::{ActivityCall, Effect};
use super::execution::{Doing, Execution, Frame, ROOT, Undo, Undoing, whole_key};
use super::fold::Folding;
use super::record::Record;

/// Ids of events are derived under this, so that no other program's ids meet them.
const EVENT_IDS: Uuid = Uuid::from_u128(0x5ca1_d000_e7e2_4b0a_9c1f_736b_616c_6421);

/// Everything that is wanted now: attempts under way, timers, children.
pub(super) fn wanted(x: &Execution) -> Vec<Effect> {
    let mut effects = Vec::new();
    if x.parked.is_some() || x.outcome.is_some() {
        return effects;
    }
    let timer = |alarm: Alarm| Effect::SetTimer { timer: alarm.timer, at: alarm.at };
    effects.extend(x.alarm.map(timer));
    for (number, scope) in &x.scopes {
        let Some(frame) = &scope.frame else { continue };
        effects.extend(call(x, *number, frame));
        effects.extend(frame.alarm().map(timer));
        effects.extend(child(frame));
    }
    for undo in x.undos() {
        effects.extend(undo_call(undo));
        if let Undoing::Retry { alarm, .. } = &undo.doing {
            effects.push(timer(*alarm));
        }
    }
    if x.is_cut() {
        effects.push(Effect::Continue);
    }
    effects
}

pub(super) fn call(x: &Execution, scope: u64, frame: &Frame) -> Option<Effect> {
    let Doing::Attempt { activity, arguments, deadline, heartbeat_ms, since: _ } = &frame.doing else { return None };
    let path = x.path(scope);
    let key = x.key(&path, frame.step);
    #[cfg(feature = "simulation")]
    let key =
        if crate::simulation::planted(crate::simulation::Bug::Key) { format!("{key}~{}", frame.attempt) } else { key };
    Some(Effect::StartActivity(Box::new(ActivityCall {
        attempt: frame.attempt(),
        activity: Arc::clone(activity),
        undo: false,
        key,
        state: path,
        arguments: Value::clone(arguments),
        deadline: *deadline,
        heartbeat_ms: *heartbeat_ms,
    })))
}

pub(super) fn undo_call(undo: &Undo) -> Option<Effect> {
    let Undoing::Attempt { deadline, heartbeat_ms, since: _ } = &undo.doing else { return None };
    Some(Effect::StartActivity(Box::new(ActivityCall {
        attempt: undo.attempt(),
        activity: Arc::clone(&undo.activity),
        undo: true,
        key: whole_key(undo.key.clone()),
        state: Arc::clone(&undo.path),
        arguments: undo.given(),
        deadline: *deadline,
        heartbeat_ms: *heartbeat_ms,
    })))
}

pub(super) fn child(frame: &Frame) -> Option<Effect> {
    let Doing::Child { key, definition, pinned, input, alarm: _ } = &frame.doing else { return None };
    Some(Effect::StartChild {
        step: frame.step,
        key: key.clone(),
        definition: definition.to_string(),
        pinned: pinned.clone(),
        input: Value::clone(input),
    })
}

/// The event in its envelope; the same id whenever the record is folded.
pub(super) fn envelope(
    x: &Execution,
    folding: &Folding<'_>,
    (event, number): (&str, u64),
    payload: &Value,
) -> Option<Envelope> {
    let start = x.start.as_ref()?;
    let name = format!("{}#{}.{}", x.saga, folding.number, folding.events);
    let id = format!("evt-{}", Uuid::new_v5(&EVENT_IDS, name.as_bytes()));
    let text = |field: &str| payload.get(field).and_then(Value::as_str).map(str::to_owned);
    let cause = if folding.number == 1 { start.cause.clone() } else { format!("{}#{}", x.saga, folding.number) };
    Some(Envelope {
        event_id: EventId::new(id).ok()?,
        event_type: event.to_owned(),
        tenant_id: x.saga.tenant.clone(),
        project_id: text("projectId"),
        module_id: text("moduleId"),
        trace_id: start.trace.clone(),
        correlation_id: x.saga.to_string(),
        causation_id: cause,
        causes: start.causes,
        sequence: number,
        occurred_at: folding.fact.at,
        payload: payload.clone(),
    })
}

/// What the relay sends again: the effects that leave the shard.
pub(super) fn is_outbox(effect: &Effect) -> bool {
    match effect {
        Effect::Publish(_) | Effect::StartChild { .. } | Effect::CancelChild { .. } => true,
        Effect::Ended { parent, .. } => parent.is_some(),
        Effect::StartActivity(_)
        | Effect::StopActivity(_)
        | Effect::SetTimer { .. }
        | Effect::ClearTimer { .. }
        | Effect::Continue => false,
    }
}

/// What is to be sent again because of `record`, which is folded already: events, cancelled children,
/// and to a parent the end. Children it started are in [`wanted`] while they are. `outcome` is how the
/// saga ended, for an end whose record does not tell its output.
pub(super) fn said(x: &Execution, record: &Record, outcome: impl Fn() -> Option<Outcome>) -> Vec<Effect> {
    let mut folding = Folding::new(&record.fact, record.number);
    let mut effects = Vec::new();
    for change in &record.changes {
        match change {
            Change::Published { event, payload, number } => {
                let payload = folding.value(x, ROOT, payload);
                folding.events += 1;
                effects.extend(envelope(x, &folding, (event, *number), &payload).map(|event| Effect::Publish(Box::new(event))));
            }
            Change::ChildDropped { key, step } if !record.bears(key) => {
                effects.push(Effect::CancelChild { step: *step, key: key.clone() });
            }
            Change::Finished { output, .. } => {
                // The record itself may have the output that is too large to be kept.
                let output = match output {
                    Some(datum @ (Datum::Given | Datum::Is(_))) => Some(folding.value(x, ROOT, datum)),
                    Some(Datum::Input | Datum::Item | Datum::Ahead) | None => None,
                };
                let outcome = match (output.filter(|output| !output.is_null()), &x.outcome) {
                    (Some(output), Some(outcome)) => {
                        Some(Outcome { output: Some(Value::clone(&output)), ..outcome.clone() })
                    }
                    (_, _) => outcome(),
                };
                let parent = x.start.as_ref().and_then(|start| start.parent.clone());
                if let (Some(outcome), Some(_)) = (outcome, &parent) {
                    effects.push(Effect::Ended { outcome: Box::new(outcome), parent });
                }
            }
            // What these asked for is wanted still, or has ended.
            Change::Began { .. }
            | Change::Opened { .. }
            | Change::Entered { .. }
            | Change::Attempted { .. }
            | Change::Slept { .. }
            | Change::Awaits { .. }
            | Change::Retrying { .. }
            | Change::Forked { .. }
            | Change::ScopeEnded { .. }
            | Change::Failing { .. }
            | Change::Joined { .. }
            | Change::Assigned { .. }
            | Change::Left { .. }
            | Change::Pushed { .. }
            | Change::Armed { .. }
            | Change::Unwinding { .. }
            | Change::UndoStarted { .. }
            | Change::UndoRetrying { .. }
            | Change::UndoStuck { .. }
            | Change::Undone { .. }
            | Change::Ending { .. }
            | Change::SignalKept { .. }
            | Change::SignalTaken { .. }
            | Change::SignalSeen { .. }
            // Of a child that the same record started, the world never heard.
            | Change::ChildDropped { .. }
            | Change::Parked { .. }
            | Change::Unparked
            | Change::Cut { .. }
            | Change::Resumed
            | Change::Overran { .. } => {}
        }
    }
    effects
}
