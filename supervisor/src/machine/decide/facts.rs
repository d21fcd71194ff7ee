//! What each fact means in each status.

use std::sync::Arc;

use protocol::command::ReleaseDecision;
use protocol::view::{Outcome, Status};
use protocol::{Code, Problem, SagaKey, Value};

use super::super::change::{Change, Datum};
use super::super::definition::{Kind, OnCancel};
use super::super::execution::{Doing, Frame, ROOT, Undoing};
use super::super::expression::{size, within};
use super::super::fact::{AttemptRef, FactKind, Operator, Start, StepError};
use super::super::family::LIMIT_EXCEEDED;
use super::super::retry::{RUNTIME, TIMEOUT};
use super::super::text::SIGNAL_ID_MAX_BYTES;
use super::{Decider, Entry, KEPT_SIGNAL_BYTES, SIGNALS_KEPT_MAX, Verdict};

fn not_now(message: impl Into<String>) -> Option<Verdict> {
    Some(Verdict::Refused(Problem::new(Code::NotNow, message)))
}

fn ignored(why: &'static str) -> Option<Verdict> {
    Some(Verdict::Ignored(why))
}

impl Decider<'_> {
    /// Decides the fact. `None`: something was settled.
    pub(super) fn dispatch(&mut self) -> Option<Verdict> {
        if let FactKind::Started(start) = &self.fact.kind {
            return self.started(start);
        }
        if self.x.start.is_none() {
            return match &self.fact.kind {
                FactKind::Signalled { .. }
                | FactKind::TaskDecided { .. }
                | FactKind::CancelRequested { .. }
                | FactKind::Operator(_) => {
                    Some(Verdict::Refused(Problem::new(Code::NotFound, format!("saga {} is not started", self.x.saga))))
                }
                FactKind::Started(_)
                | FactKind::StepSucceeded { .. }
                | FactKind::StepFailed { .. }
                | FactKind::TimerFired { .. }
                | FactKind::ChildEnded { .. }
                | FactKind::Continued
                | FactKind::Parked { .. } => ignored("the saga is not started"),
            };
        }
        if let Some(outcome) = &self.x.outcome {
            return self.after_the_end(outcome.status);
        }
        if self.x.parked.is_some() {
            return self.while_parked();
        }
        match &self.fact.kind {
            FactKind::Started(start) => self.started(start),
            FactKind::StepSucceeded { attempt, output } => self.succeeded(*attempt, output),
            FactKind::StepFailed { attempt, error } => self.failed(*attempt, error.clone()),
            FactKind::TimerFired { timer } => self.fired(*timer),
            FactKind::Signalled { name, payload, id, by: _ } => self.signalled(name, payload, id),
            FactKind::TaskDecided { step, output, by: _ } => self.decided(*step, output),
            FactKind::ChildEnded { step, child, outcome } => self.child_ended(*step, child.as_ref(), outcome),
            FactKind::CancelRequested { by, reason, parent } => self.cancel(by, reason, parent.as_ref()),
            FactKind::Operator(operator) => self.operator(operator),
            FactKind::Continued => self.go_on(),
            FactKind::Parked { cause } => {
                self.put(Change::Parked { cause: cause.clone() });
                None
            }
        }
    }

    fn after_the_end(&self, status: Status) -> Option<Verdict> {
        match &self.fact.kind {
            // Whoever repeats it did not hear that it was taken.
            FactKind::Signalled { id, .. } if self.x.seen.contains(id) => {
                ignored("the signal came before, under the same id")
            }
            FactKind::Signalled { .. }
            | FactKind::TaskDecided { .. }
            | FactKind::CancelRequested { .. }
            | FactKind::Operator(_) => not_now(format!("saga {} has ended: {}", self.x.saga, status.word())),
            FactKind::Started(_)
            | FactKind::StepSucceeded { .. }
            | FactKind::StepFailed { .. }
            | FactKind::TimerFired { .. }
            | FactKind::ChildEnded { .. }
            | FactKind::Continued
            | FactKind::Parked { .. } => ignored("the saga has ended"),
        }
    }

    /// Nothing goes on until an operator says so; attempts, timers and children are asked again then.
    fn while_parked(&mut self) -> Option<Verdict> {
        let why = self.x.parked.as_ref().map_or("", |parked| parked.cause.as_str());
        match &self.fact.kind {
            FactKind::Operator(operator) => self.release_parked(operator),
            FactKind::Signalled { .. } | FactKind::TaskDecided { .. } | FactKind::CancelRequested { .. } => {
                Some(Verdict::Refused(
                    Problem::new(Code::NotNow, format!("saga {} is stuck: {why}", self.x.saga))
                        .mend("release it first, with retry or abandon"),
                ))
            }
            FactKind::Started(_)
            | FactKind::StepSucceeded { .. }
            | FactKind::StepFailed { .. }
            | FactKind::TimerFired { .. }
            | FactKind::ChildEnded { .. }
            | FactKind::Continued
            | FactKind::Parked { .. } => ignored("the saga is parked"),
        }
    }

    fn started(&mut self, start: &Start) -> Option<Verdict> {
        if self.x.start.is_some() {
            return ignored("the saga is started already");
        }
        if let Err(trouble) = within(&start.input, self.d.limits().value_bytes, "the input") {
            return Some(Verdict::Refused(Problem::new(Code::TooLarge, trouble.cause)));
        }
        let alarm = self.d.timeout().map(|within| self.alarm(within));
        self.put(Change::Began { alarm });
        let state = Arc::clone(&self.d.nest(0).start);
        let bytes = size(&start.input);
        *self.weight += 2 * bytes;
        self.agenda.push_back(Entry { scope: ROOT, state, input: Datum::Given, bytes });
        None
    }

    /// Its turn came again: it goes on where the record was cut, with what waited longest.
    fn go_on(&mut self) -> Option<Verdict> {
        if !self.x.is_cut() {
            return ignored("nothing was left to go on with");
        }
        let stalled = self.x.stalled();
        let ahead = self.x.ahead();
        self.put(Change::Resumed);
        let entries = ahead.into_iter().map(|(scope, state)| Entry { scope, state, input: Datum::Ahead, bytes: 0 });
        self.agenda.extend(entries);
        for scope in stalled {
            if let Some(Kind::Map(each)) = self.state(scope).map(|state| &state.kind) {
                self.proceed(scope, each);
            }
        }
        None
    }

    /// The scope whose state runs exactly this attempt.
    fn attempted(&self, attempt: AttemptRef) -> Option<u64> {
        let scope = self.x.scope_of(attempt.step)?;
        let frame = self.x.frame(scope)?;
        (matches!(frame.doing, Doing::Attempt { .. }) && frame.attempt == attempt.attempt).then_some(scope)
    }

    /// Whether an undo runs exactly this attempt.
    fn undo_attempted(&self, attempt: AttemptRef) -> bool {
        self.x
            .undo(attempt.step)
            .is_some_and(|(_, undo)| matches!(undo.doing, Undoing::Attempt { .. }) && undo.attempts == attempt.attempt)
    }

    fn succeeded(&mut self, attempt: AttemptRef, output: &Value) -> Option<Verdict> {
        if let Some(scope) = self.attempted(attempt) {
            match within(output, self.d.limits().value_bytes, "the output") {
                Ok(()) => self.finish(scope, Some(Datum::Given)),
                Err(trouble) => self.trouble(scope, super::step_error(trouble), None),
            }
            return None;
        }
        if self.undo_attempted(attempt) {
            self.undone(attempt.step, None);
            return None;
        }
        ignored("the attempt is settled already")
    }

    fn failed(&mut self, attempt: AttemptRef, error: StepError) -> Option<Verdict> {
        if let Some(scope) = self.attempted(attempt) {
            self.trouble(scope, error, None);
            return None;
        }
        if self.undo_attempted(attempt) {
            self.undo_failed(attempt.step, error);
            return None;
        }
        ignored("the attempt is settled already")
    }

    fn fired(&mut self, timer: u64) -> Option<Verdict> {
        if self.x.alarm.is_some_and(|alarm| alarm.timer == timer) {
            let cause = format!("the saga did not end within {} s", self.d.timeout().unwrap_or_default().as_secs_f64());
            self.end_badly(Status::Failed, StepError { error: TIMEOUT.into(), cause, permanent: true });
            return None;
        }
        let scope = self
            .x
            .scopes
            .iter()
            .find(|(_, scope)| scope.frame.as_ref().and_then(|frame| frame.alarm()).is_some_and(|a| a.timer == timer))
            .map(|(number, _)| *number);
        if let Some(scope) = scope {
            let waited = match &self.x.frame(scope)?.doing {
                Doing::Retry { .. } => {
                    self.again(scope);
                    return None;
                }
                Doing::Sleep { .. } => {
                    self.finish(scope, None);
                    return None;
                }
                Doing::Signal { name, .. } => format!("signal {name} did not come in time"),
                Doing::Human { .. } => "nobody decided in time".to_owned(),
                Doing::Child { key, .. } => format!("child {key} did not end in time"),
                Doing::Nothing | Doing::Attempt { .. } | Doing::Fork(_) | Doing::Undo => {
                    return ignored("the timer was cleared");
                }
            };
            self.drop_children(scope);
            self.trouble(scope, StepError { error: TIMEOUT.into(), cause: waited, permanent: false }, None);
            return None;
        }
        let undo = self.x.undos().into_iter().find_map(|undo| match &undo.doing {
            Undoing::Retry { alarm, .. } if alarm.timer == timer => Some(undo.step),
            Undoing::Retry { .. } | Undoing::Not | Undoing::Attempt { .. } | Undoing::Stuck { .. } => None,
        });
        match undo {
            Some(undo) => {
                self.undo_again(undo);
                None
            }
            None => ignored("the timer was cleared"),
        }
    }

    fn signalled(&mut self, name: &str, payload: &Value, id: &str) -> Option<Verdict> {
        if id.len() > SIGNAL_ID_MAX_BYTES {
            let message = format!("the signal's id has {} bytes, the limit is {SIGNAL_ID_MAX_BYTES}", id.len());
            return Some(Verdict::Refused(Problem::new(Code::TooLarge, message).mend("send a digest of it")));
        }
        if self.x.seen.iter().any(|seen| seen == id) {
            return ignored("the signal came before, under the same id");
        }
        if !self.d.signals().contains(name) {
            let known: Vec<&str> = self.d.signals().iter().map(String::as_str).collect();
            let mend = if known.is_empty() {
                "it waits for no signal".to_owned()
            } else {
                format!("it waits for {}", known.join(", "))
            };
            let message = format!("{} never waits for signal {name:?}", self.x.definition);
            return Some(Verdict::Refused(Problem::new(Code::BadRequest, message).mend(mend)));
        }
        if self.x.ending.is_some() {
            return not_now(format!("saga {} is being undone", self.x.saga));
        }
        if let Err(trouble) = within(payload, self.d.limits().value_bytes, "the payload") {
            return Some(Verdict::Refused(Problem::new(Code::TooLarge, trouble.cause)));
        }
        if let Some(problem) = self.refused_for_room(payload) {
            return Some(Verdict::Refused(problem));
        }
        let waiting = self
            .x
            .scopes
            .iter()
            .filter_map(|(number, scope)| Some((*number, scope.frame.as_ref()?)))
            .filter(|(_, frame)| matches!(&frame.doing, Doing::Signal { name: wanted, .. } if **wanted == *name))
            .min_by_key(|(_, frame)| frame.step)
            .map(|(number, _)| number);
        if waiting.is_none() && self.x.signals.len() >= SIGNALS_KEPT_MAX {
            let message = format!("saga {} keeps {SIGNALS_KEPT_MAX} signals that nothing waits for yet", self.x.saga);
            return Some(Verdict::Refused(Problem::new(Code::Busy, message).retry_after_ms(1_000)));
        }
        self.put(Change::SignalSeen { id: id.to_owned() });
        match waiting {
            Some(scope) => self.finish(scope, Some(Datum::Given)),
            None => {
                *self.weight += name.len() + size(payload) + KEPT_SIGNAL_BYTES;
                self.put(Change::SignalKept { name: name.to_owned(), payload: Datum::Given });
            }
        }
        None
    }

    fn decided(&mut self, step: Option<u64>, output: &Value) -> Option<Verdict> {
        let open: Vec<(u64, u64)> = self
            .x
            .scopes
            .iter()
            .filter_map(|(number, scope)| Some((*number, scope.frame.as_ref()?)))
            .filter(|(_, frame)| matches!(frame.doing, Doing::Human { .. }))
            .map(|(number, frame)| (number, frame.step))
            .collect();
        let steps = || open.iter().map(|(_, step)| step.to_string()).collect::<Vec<_>>().join(", ");
        let refuse = |code, message: String| Some(Verdict::Refused(Problem::new(code, message)));
        let scope = match (step, open.as_slice()) {
            (_, []) => return refuse(Code::NotNow, format!("saga {} has no open task", self.x.saga)),
            (None, [(scope, _)]) => *scope,
            (None, _) => {
                return Some(Verdict::Refused(
                    Problem::new(Code::Conflict, format!("saga {} has {} open tasks", self.x.saga, open.len()))
                        .mend(format!("name one with step: {}", steps())),
                ));
            }
            (Some(step), _) => match open.iter().find(|(_, open)| *open == step) {
                Some((scope, _)) => *scope,
                None => {
                    let problem = Problem::new(Code::NotFound, format!("step {step} is not an open task"));
                    return Some(Verdict::Refused(problem.mend(format!("the open ones are {}", steps()))));
                }
            },
        };
        if let Err(trouble) = within(output, self.d.limits().value_bytes, "the output") {
            return refuse(Code::TooLarge, trouble.cause);
        }
        if let Some(problem) = self.refused_for_room(output) {
            return Some(Verdict::Refused(problem));
        }
        self.finish(scope, Some(Datum::Given));
        None
    }

    fn child_ended(&mut self, step: u64, child: Option<&SagaKey>, outcome: &Outcome) -> Option<Verdict> {
        // The same step waits for another child after each retry.
        let waits =
            |frame: &Frame| matches!(&frame.doing, Doing::Child { key, .. } if child.is_none_or(|it| it == key));
        let scope = self.x.scope_of(step).filter(|scope| self.x.frame(*scope).is_some_and(waits));
        let Some(scope) = scope else { return ignored("nothing waits for this child any more") };
        match outcome.status {
            Status::Succeeded => self.finish(scope, Some(Datum::Given)),
            Status::Failed | Status::Cancelled | Status::Abandoned => {
                let error = outcome.error.clone().unwrap_or_else(|| "States.TaskFailed".to_owned());
                let cause = outcome.cause.clone().unwrap_or_else(|| format!("the child is {}", outcome.status.word()));
                self.child_over = Some(step);
                // The child has settled what it could: only a new child could end otherwise. One that
                // was not let in, as one too many, may be later.
                let permanent = error != LIMIT_EXCEEDED;
                self.trouble(scope, StepError { error, cause, permanent }, None);
            }
            Status::Running | Status::Waiting | Status::Undoing | Status::Stuck => {
                return ignored("the child has not ended");
            }
        }
        None
    }

    fn cancel(&mut self, by: &str, reason: &str, parent: Option<&(SagaKey, Option<u64>)>) -> Option<Verdict> {
        #[cfg(feature = "simulation")]
        let parent = parent.filter(|_| !crate::simulation::planted(crate::simulation::Bug::Adopt));
        if let Some((parent, step)) = parent
            && !self.x.is_child_of(parent, *step)
        {
            return ignored("it is not the child of the saga that wants it cancelled");
        }
        if self.d.header().on_cancel == OnCancel::Refuse {
            return not_now(format!("{} cannot be cancelled: its definition says onCancel: refuse", self.x.definition));
        }
        let undoing = self.x.frame(ROOT).is_some_and(|frame| frame.doing == Doing::Undo);
        if self.x.ending.is_some() || undoing {
            return not_now(format!("saga {} is being undone already", self.x.saga));
        }
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let cause = format!("cancelled by {by}{why}");
        self.end_badly(Status::Cancelled, StepError { error: "Cancelled".into(), cause, permanent: true });
        None
    }

    fn operator(&mut self, operator: &Operator) -> Option<Verdict> {
        let stuck: Vec<u64> = self
            .x
            .undos()
            .into_iter()
            .filter(|undo| matches!(undo.doing, Undoing::Stuck { .. }))
            .map(|undo| undo.step)
            .collect();
        if stuck.is_empty() {
            return not_now(format!("saga {} is not stuck", self.x.saga));
        }
        if let Err(problem) = operator.has_reason() {
            return Some(Verdict::Refused(problem));
        }
        match operator.decision {
            ReleaseDecision::Retry => stuck.into_iter().for_each(|undo| self.undo_again(undo)),
            ReleaseDecision::Skip => {
                let why = format!("{}: {}", operator.by, operator.reason);
                stuck.into_iter().for_each(|undo| self.undone(undo, Some(why.clone())));
            }
            ReleaseDecision::Abandon => self.abandon(operator),
        }
        None
    }

    fn release_parked(&mut self, operator: &Operator) -> Option<Verdict> {
        if let Err(problem) = operator.has_reason() {
            return Some(Verdict::Refused(problem));
        }
        match operator.decision {
            ReleaseDecision::Retry => self.put(Change::Unparked),
            ReleaseDecision::Abandon => self.abandon(operator),
            ReleaseDecision::Skip => {
                return Some(Verdict::Refused(
                    Problem::new(Code::BadRequest, "no compensation is stuck: the saga itself is parked")
                        .mend("release it with retry or abandon"),
                ));
            }
        }
        None
    }

    fn abandon(&mut self, operator: &Operator) {
        let cause = format!("abandoned by {}: {}", operator.by, operator.reason);
        let scopes: Vec<u64> = self.x.scopes.keys().copied().collect();
        scopes.into_iter().for_each(|scope| self.drop_children(scope));
        let (state, error) = match &self.x.ending {
            Some(ending) => (Arc::clone(&ending.state), ending.error.clone()),
            None => (self.outer_state(), RUNTIME.to_owned()),
        };
        self.agenda.clear();
        self.put(Change::Finished {
            status: Status::Abandoned,
            state,
            output: None,
            error: Some(error),
            cause: Some(cause),
        });
    }
}
