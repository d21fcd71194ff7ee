//! A record in words, for a saga's history. It needs nothing but the record.

use protocol::view::HistoryEntry;

use super::change::{Awaited, Change};
use super::fact::{AttemptRef, FactKind};
use super::record::Record;

/// `record`, which stands in the frame at `position`, in words.
pub fn describe(record: &Record, position: u64) -> HistoryEntry {
    HistoryEntry {
        number: record.number,
        position,
        at: record.fact.at,
        fact: fact(record),
        settled: record.changes.iter().filter_map(|change| settled(&record.fact.kind, change)).collect(),
    }
}

fn fact(record: &Record) -> String {
    match &record.fact.kind {
        FactKind::Started(start) => format!("started by {} as {}", start.by, start.definition),
        FactKind::StepSucceeded { attempt, .. } => format!("{} succeeded", step(record, *attempt)),
        FactKind::StepFailed { attempt, error } => {
            format!("{} failed: {}: {}", step(record, *attempt), error.error, error.cause)
        }
        FactKind::TimerFired { timer } => format!("timer {timer} fired"),
        FactKind::Signalled { name, by, id, .. } => format!("signal {name} from {by} ({id})"),
        FactKind::TaskDecided { by, step: Some(step), .. } => format!("task {step} decided by {by}"),
        FactKind::TaskDecided { by, step: None, .. } => format!("task decided by {by}"),
        FactKind::ChildEnded { step, child: _, outcome } => {
            format!("child of step {step} ended: {}", outcome.status.word())
        }
        FactKind::CancelRequested { by, reason, parent: _ } if reason.is_empty() => format!("cancel asked by {by}"),
        FactKind::CancelRequested { by, reason, parent: _ } => format!("cancel asked by {by}: {reason}"),
        FactKind::Operator(operator) => {
            let why = if operator.reason.is_empty() { String::new() } else { format!(": {}", operator.reason) };
            let decision = format!("{:?}", operator.decision).to_lowercase();
            format!("operator {} says {decision}{why}", operator.by)
        }
        FactKind::Continued => "its turn came".to_owned(),
        FactKind::Parked { cause } => format!("parked: {cause}"),
    }
}

/// The step by its state's name, which the first change that has one tells.
fn step(record: &Record, attempt: AttemptRef) -> String {
    let which = attempt.attempt;
    let undo = |change: &Change| {
        matches!(change, Change::UndoRetrying { .. } | Change::UndoStuck { .. } | Change::Undone { .. })
    };
    let kind = if record.changes.iter().any(undo) { "undo of" } else { "step" };
    match record.changes.iter().find_map(state) {
        Some(state) => format!("{kind} {state} #{which}"),
        None => format!("{kind} {} #{which}", attempt.step),
    }
}

fn state(change: &Change) -> Option<&str> {
    match change {
        Change::Left { state, .. }
        | Change::Retrying { state, .. }
        | Change::Failing { state, .. }
        | Change::UndoRetrying { state, .. }
        | Change::UndoStuck { state, .. }
        | Change::Undone { state, .. }
        | Change::Ending { state, .. } => Some(state),
        Change::Began { .. }
        | Change::Opened { .. }
        | Change::Entered { .. }
        | Change::Attempted { .. }
        | Change::Slept { .. }
        | Change::Awaits { .. }
        | Change::Forked { .. }
        | Change::ScopeEnded { .. }
        | Change::Joined { .. }
        | Change::Assigned { .. }
        | Change::Published { .. }
        | Change::Pushed { .. }
        | Change::Armed { .. }
        | Change::Unwinding { .. }
        | Change::UndoStarted { .. }
        | Change::SignalKept { .. }
        | Change::SignalTaken { .. }
        | Change::SignalSeen { .. }
        | Change::ChildDropped { .. }
        | Change::Parked { .. }
        | Change::Unparked
        | Change::Cut { .. }
        | Change::Resumed
        | Change::Overran { .. }
        | Change::Finished { .. } => None,
    }
}

/// What a change says to a person; `None` for bookkeeping.
fn settled(fact: &FactKind, change: &Change) -> Option<String> {
    Some(match change {
        Change::Began { alarm: Some(alarm) } => format!("times out at {}", alarm.at),
        Change::Entered { state, step, .. } => format!("entered {state} as step {step}"),
        Change::Attempted { state, attempt, activity, .. } => {
            format!("started {activity} for {state}, attempt {attempt}")
        }
        Change::Slept { state, alarm, .. } => format!("{state} waits until {}", alarm.at),
        Change::Awaits { state, what, alarm, .. } => {
            let until = alarm.map(|alarm| format!(", at most until {}", alarm.at)).unwrap_or_default();
            match what {
                Awaited::Signal(name) => format!("{state} waits for signal {name}{until}"),
                Awaited::Human(_) => format!("{state} waits for a person{until}"),
                Awaited::Child { key, definition, .. } => format!("{state} started child {key} ({definition}){until}"),
            }
        }
        Change::Retrying { state, error, alarm, .. } => {
            format!("{state} is tried again at {} ({})", alarm.at, error.error)
        }
        Change::Forked { state, count, .. } => format!("{state} runs {count} side by side"),
        Change::ScopeEnded { scope, failed: true, .. } => format!("scope {scope} failed, which is tolerated"),
        Change::Failing { state, error, .. } => {
            format!("{state} fails once what began to be undone inside is undone ({})", error.error)
        }
        Change::Assigned { variables, .. } => {
            format!("assigned {}", variables.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
        }
        Change::Left { state, caught: Some(error), .. } => format!("caught {error} in {state}"),
        Change::Left { state, caught: None, .. } => format!("left {state}"),
        Change::Published { event, .. } => format!("published {event}"),
        Change::Pushed { state, activity, .. } => format!("{activity} can undo {state}"),
        Change::Unwinding { state, .. } => format!("{state} undoes what was done"),
        Change::UndoStarted { state, attempt, .. } => format!("started to undo {state}, attempt {attempt}"),
        Change::UndoRetrying { state, error, alarm, .. } => {
            format!("undo of {state} is tried again at {} ({})", alarm.at, error.error)
        }
        Change::UndoStuck { state, error, .. } => format!("undo of {state} is stuck: {}: {}", error.error, error.cause),
        Change::Undone { state, skipped: None, .. } => format!("undid {state}"),
        Change::Undone { state, skipped: Some(why), .. } => format!("left {state} undone, {why}"),
        Change::Ending { status, error, cause, .. } => format!("will be {}: {error}: {cause}", status.word()),
        Change::SignalKept { name, .. } => format!("kept signal {name}"),
        Change::SignalTaken { name } => format!("used signal {name}"),
        Change::ChildDropped { key, step: _ } => format!("cancelled child {key}"),
        // The fact says why.
        Change::Parked { .. } if matches!(fact, FactKind::Parked { .. }) => "everything stands still".to_owned(),
        Change::Parked { cause } => format!("parked: {cause}"),
        Change::Cut { .. } => "used up what one decision may cost, and goes on when its turn comes".to_owned(),
        Change::Overran { state } => format!("the expressions of {state} took longer than one decision may"),
        Change::Unparked => "goes on as it was".to_owned(),
        Change::Finished { status, error: Some(error), .. } => format!("{}: {error}", status.word()),
        Change::Finished { status, error: None, .. } => status.word().to_owned(),
        Change::Began { alarm: None }
        | Change::Opened { .. }
        | Change::ScopeEnded { failed: false, .. }
        | Change::Joined { .. }
        | Change::Armed { .. }
        | Change::Resumed
        | Change::SignalSeen { .. } => return None,
    })
}
