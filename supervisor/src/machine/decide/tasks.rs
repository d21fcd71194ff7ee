//! What a Task starts, and what is noted down for its undo.

use std::sync::Arc;
use std::time::Duration;

use protocol::Value;

use super::super::change::{Awaited, Change, Datum};
use super::super::definition::{Compensate, Resource, State};
use super::super::execution::Doing;
use super::super::expression::{Sight, Template};
use super::super::fact::StepError;
use super::super::family::{LIMIT_EXCEEDED, child_key};
use super::Decider;
use super::room::Weight;

/// For the sentence that refuses it.
const ASKED_TO_UNDO: &str = "what the undo is asked with";

impl Decider<'_> {
    /// Starts an attempt of a Task, the first or a later one.
    pub(super) fn task(&mut self, scope: u64, state: &State, resource: &Resource) {
        if let Err(error) = self.try_task(scope, state, resource) {
            self.trouble(scope, error, None);
        }
    }

    fn try_task(&mut self, scope: u64, state: &State, resource: &Resource) -> Result<(), StepError> {
        let timeout = self.seconds(scope, state.timeout.as_ref(), "TimeoutSeconds")?;
        let arguments = match &state.arguments {
            Some(template) => Datum::Is(Arc::new(self.template(scope, template, "Arguments", None, None)?)),
            None => Datum::Input,
        };
        let path = self.x.path(scope);
        match resource {
            Resource::Activity(activity) => {
                let heartbeat = self.seconds(scope, state.heartbeat.as_ref(), "HeartbeatSeconds")?;
                self.travels("what the activity is asked with", &[&self.folding.value(self.x, scope, &arguments)])?;
                self.claim(self.weigh(scope, &arguments))?;
                self.push(scope, state, &arguments)?;
                let attempt = self.x.frame(scope).map_or(0, |frame| frame.attempt) + 1;
                let deadline = timeout.map(|within| self.now().after(within));
                let heartbeat_ms = heartbeat.map(millis);
                self.put(Change::Attempted {
                    scope,
                    state: path,
                    attempt,
                    activity: Arc::clone(activity),
                    arguments,
                    deadline,
                    heartbeat_ms,
                });
            }
            Resource::Signal(name) => {
                self.push(scope, state, &arguments)?;
                let kept =
                    self.x.signals.iter().find(|kept| *kept.name == **name).map(|kept| Arc::clone(&kept.payload));
                if let Some(payload) = kept {
                    self.put(Change::SignalTaken { name: Arc::clone(name) });
                    self.finish(scope, Some(Datum::Is(payload)));
                } else {
                    self.wait(scope, path, Awaited::Signal(Arc::clone(name)), timeout);
                }
            }
            Resource::Human => {
                self.claim(self.weigh(scope, &arguments))?;
                self.push(scope, state, &arguments)?;
                self.wait(scope, path, Awaited::Human(arguments), timeout);
            }
            Resource::Saga { definition, latest } => {
                let step = self.x.frame(scope).map_or(0, |frame| frame.step);
                let attempt = self.x.frame(scope).map_or(0, |frame| frame.attempt);
                // A child that failed is not asked again: a retry is another child.
                let key = child_key(&self.x.saga.key, step, attempt + 1);
                let (depth, limit) = (self.x.family().depth + 1, self.d.limits().child_depth);
                if depth > limit {
                    let cause =
                        format!("{key} would have {depth} parents above it, the limit is {limit} (limits.child_depth)");
                    return Err(StepError { error: LIMIT_EXCEEDED.to_owned(), cause, permanent: true });
                }
                self.travels("the child's input", &[&self.folding.value(self.x, scope, &arguments)])?;
                self.claim(self.weigh(scope, &arguments))?;
                self.push(scope, state, &arguments)?;
                let pinned = self.d.pinned(definition).filter(|_| !latest).cloned();
                let definition = Arc::clone(definition);
                let child = Awaited::Child { key, definition, pinned, input: arguments };
                self.wait(scope, path, child, timeout);
            }
            Resource::Event(event) => {
                let value = self.folding.value(self.x, scope, &arguments);
                // These two stand in the envelope as well.
                let beside = ["projectId", "moduleId"].into_iter().filter_map(|field| value.get(field));
                self.travels("the event", &std::iter::once(&*value).chain(beside).collect::<Vec<_>>())?;
                let payload = Datum::Is(value);
                let written = self.weigh(scope, &payload).written;
                self.claim(Weight { kept: 0, written })?;
                self.push(scope, state, &arguments)?;
                self.put(Change::Published { event: Arc::clone(event), payload, number: self.x.events + 1 });
                self.finish(scope, Some(arguments));
            }
        }
        Ok(())
    }

    fn wait(&mut self, scope: u64, state: Arc<str>, what: Awaited, timeout: Option<Duration>) {
        let alarm = timeout.map(|within| self.alarm(within));
        self.put(Change::Awaits { scope, state, what, alarm });
    }

    /// Notes down how to undo the state, once per entry, before it may have acted.
    pub(super) fn push(&mut self, scope: u64, state: &State, input: &Datum) -> Result<(), StepError> {
        let Some(undo) = &state.compensate else { return Ok(()) };
        if self.x.frame(scope).is_none_or(|frame| frame.undo.is_some()) {
            return Ok(());
        }
        // Without a result yet: what needs one is null for now.
        let arguments = undo.arguments.as_ref().and_then(|template| {
            self.see(scope, None, None, |sight| Ok(lenient(template, sight)))
                .ok()
                .map(|value| Datum::Is(Arc::new(value)))
        });
        let given = self.weigh(scope, input) + self.weigh_state(scope);
        let asked = self.folding.value(self.x, scope, arguments.as_ref().unwrap_or(input));
        self.travels(ASKED_TO_UNDO, &[&asked])?;
        self.claim(arguments.iter().fold(given, |more, arguments| more + self.weigh(scope, arguments)))?;
        let (state, number) = (self.x.path(scope), self.number());
        let activity = Arc::clone(&undo.activity);
        self.put(Change::Pushed { scope, state, undo: number, activity, input: input.clone(), arguments });
        Ok(())
    }

    /// The result is known: the undo will get it.
    pub(super) fn armed(&self, scope: u64, state: &State, result: Option<&Datum>) -> Result<Option<Change>, StepError> {
        let (Some(Compensate { arguments, .. }), Some(output)) = (&state.compensate, result) else { return Ok(None) };
        let Some(undo) = self.x.frame(scope).and_then(|frame| frame.undo) else { return Ok(None) };
        let arguments = match arguments {
            Some(template) => {
                let value = self.folding.value(self.x, scope, output);
                Some(Datum::Is(Arc::new(self.template(scope, template, "Compensate.Arguments", Some(&value), None)?)))
            }
            None => {
                let value = self.folding.value(self.x, scope, output);
                let given = self.x.undo(undo).map(|(_, undo)| Arc::clone(&undo.input)).unwrap_or_default();
                self.travels(ASKED_TO_UNDO, &[&given, &value])?;
                None
            }
        };
        Ok(Some(Change::Armed { undo, output: output.clone(), arguments }))
    }

    /// The child that the state of `scope` waits for is not wanted any more.
    pub(super) fn drop_children(&mut self, scope: u64) {
        let Some(frame) = self.x.frame(scope).filter(|frame| Some(frame.step) != self.child_over) else { return };
        if let Doing::Child { key, .. } = &frame.doing {
            let (key, step) = (key.clone(), Some(frame.step));
            self.put(Change::ChildDropped { key, step });
        }
    }
}

/// Evaluates a template in which what has no value yet is null.
fn lenient(template: &Template, sight: &Sight<'_>) -> Value {
    match template {
        Template::Constant(value) => value.clone(),
        Template::Expression(expression) => expression.evaluate(sight).unwrap_or(Value::Null),
        Template::List(items) => Value::Array(items.iter().map(|item| lenient(item, sight)).collect()),
        Template::Map(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), lenient(field, sight))).collect())
        }
    }
}

/// Rounded up: a silence shorter than the clock counts is no failure.
pub(super) fn millis(silence: Duration) -> u64 {
    u64::try_from(silence.as_micros().div_ceil(1_000)).expect("a time-out is at most a hundred years")
}
