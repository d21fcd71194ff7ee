//! What a worker says of itself: on its card, and to whoever lists workers.

use std::sync::PoisonError;

use protocol::worker::{RunOutcome, RunView, WorkerStatus, WorkerView};
use protocol::{NodeId, ShardId, WorkerId};

use super::super::agenda::Running;
use super::running::trigger;
use super::{Message, State, WorkerActor};
use crate::tree::shell::Me;

/// What is shown of a worker that has not started.
pub fn nothing_yet(worker: &WorkerId, node: &NodeId, shard: ShardId) -> WorkerView {
    WorkerView {
        kind: worker.kind.clone(),
        tenant: worker.tenant.clone(),
        environment: worker.environment.clone(),
        node: node.to_string(),
        shard: shard.0,
        status: WorkerStatus::Loading,
        doing: None,
        next: None,
        runs: 0,
        failures: 0,
        paused: None,
        last: None,
        history: Vec::new(),
    }
}

impl WorkerActor {
    pub(super) fn show(&self, me: &Me<Message>, state: &State) {
        let (status, doing) = standing(state);
        let mut words: Vec<String> = doing.clone().into_iter().collect();
        words.extend(state.due.map(|due| format!("next run {due}")));
        words.extend(state.memory.last.as_ref().map(last));
        if state.memory.failures > 1 {
            words.push(format!("{} failed runs in a row", state.memory.failures));
        }
        me.card().doing(words.join("; "));
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        (shown.status, shown.doing, shown.next) = (status, doing, state.due);
        let memory = &state.memory;
        shown.runs = state.agenda.as_ref().map_or(memory.runs, super::Agenda::runs);
        shown.failures = memory.failures;
        shown.paused.clone_from(&memory.paused);
        // What does not change with every message is not copied with every message.
        if shown.last != memory.last {
            shown.last.clone_from(&memory.last);
            shown.history = state.history.iter().cloned().collect();
        }
    }
}

fn standing(state: &State) -> (WorkerStatus, Option<String>) {
    let Some(agenda) = &state.agenda else {
        let trouble = state.keeping.trouble.clone();
        return (WorkerStatus::Loading, Some(trouble.unwrap_or_else(|| "reads what is remembered of it".into())));
    };
    if let Some(Running { number, wanted, attempt, .. }) = agenda.running() {
        let most = state.rhythm.retry.attempts;
        return match &state.under_way.again {
            Some((why, at)) => {
                let text = format!("run {number}: attempt {attempt} of {most} at {at}, the last one failed: {why}");
                (WorkerStatus::Retrying, Some(text))
            }
            None => {
                let text = format!("run {number} ({}), attempt {attempt} of {most}", trigger(wanted));
                (WorkerStatus::Running, Some(text))
            }
        };
    }
    let trouble = state.keeping.trouble.clone();
    match &state.memory.paused {
        Some(paused) if paused.reason.is_empty() => (WorkerStatus::Paused, Some(format!("paused by {}", paused.by))),
        Some(paused) => (WorkerStatus::Paused, Some(format!("paused by {}: {}", paused.by, paused.reason))),
        None => (WorkerStatus::Idle, trouble),
    }
}

fn last(run: &RunView) -> String {
    let what = match run.outcome {
        RunOutcome::Changed | RunOutcome::Unchanged => format!("saw {}, did {}", run.saw, run.did),
        RunOutcome::Failed => run.error.clone().unwrap_or_default(),
    };
    let (number, outcome) = (run.number, run.outcome.word());
    format!("last run {number} at {} took {} ms, {outcome}: {what}", run.began, run.took_ms)
}
