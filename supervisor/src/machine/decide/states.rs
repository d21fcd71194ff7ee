//! Entering, leaving and failing states.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::view::Status;
use protocol::{Time, Value};

use super::super::amount::{self, Measure};
use super::super::change::{Alarm, Change, Datum};
use super::super::definition::{Kind, Rule, State, Until};
use super::super::execution::ROOT;
use super::super::expression::{Template, within};
use super::super::fact::StepError;
use super::super::retry::{self, NO_CHOICE_MATCHED};
use super::{Decider, Entry, error_output, query_error, runtime_error, step_error};

/// What `Assign` makes.
type Variables = BTreeMap<String, Arc<Value>>;

impl Decider<'_> {
    /// Enters a state. Immediate ones are left again at once.
    pub(super) fn enter(&mut self, entry: Entry) {
        self.entered += 1;
        let Entry { scope, state: name, input, bytes: _ } = entry;
        let step = self.number();
        self.put(Change::Entered { scope, state: Arc::clone(&name), step, input });
        let Some(state) = self.state(scope) else {
            self.end_badly(Status::Failed, runtime_error(format!("{} has no state {name:?}", self.x.definition)));
            return;
        };
        match &state.kind {
            Kind::Task(resource) => self.task(scope, state, resource),
            Kind::Pass => self.finish(scope, None),
            Kind::Choice { rules, default } => self.choose(scope, state, rules, default.as_ref()),
            Kind::Wait(until) => match self.until(scope, until) {
                Ok(at) => {
                    let alarm = Alarm { timer: self.number(), at };
                    self.put(Change::Slept { scope, state: self.x.path(scope), alarm });
                }
                Err(error) => self.trouble(scope, error, None),
            },
            Kind::Succeed => match self.output(scope, state.output.as_ref(), None, None, Datum::Input) {
                Ok(output) => self.end_scope(scope, Ok(output)),
                Err(error) => self.trouble(scope, error, None),
            },
            Kind::Fail { error, cause } => self.fail(scope, error.as_ref(), cause.as_ref()),
            Kind::Parallel(_) | Kind::Map(_) => self.fork(scope, state),
            Kind::Compensate => {
                self.put(Change::Unwinding { scope, state: self.x.path(scope) });
                self.unwind(scope);
            }
        }
    }

    fn until(&self, scope: u64, until: &Until) -> Result<Time, StepError> {
        match until {
            Until::Seconds(amount) => {
                let pause = self.amount(scope, Some(amount), "Seconds", Measure::Pause)?;
                Ok(self.now().after(pause.map_or(Duration::ZERO, |pause| amount::seconds(&pause))))
            }
            Until::Timestamp(template) => {
                let value = self.template(scope, template, "Timestamp", None, None)?;
                amount::moment(&value).map_err(|why| query_error(format!("Timestamp: {why}")))
            }
        }
    }

    fn choose(&mut self, scope: u64, state: &State, rules: &[Rule], default: Option<&Arc<str>>) {
        for rule in rules {
            match self.template(scope, &rule.condition, "Condition", None, None) {
                Ok(Value::Bool(false)) => {}
                Ok(Value::Bool(true)) => {
                    return self.leave(scope, &rule.next, &rule.assign, rule.output.as_ref());
                }
                Ok(other) => {
                    let cause = format!("a Condition must be true or false, and is {other}");
                    return self.trouble(scope, query_error(cause), None);
                }
                Err(error) => return self.trouble(scope, error, None),
            }
        }
        match default {
            Some(next) => self.leave(scope, next, &state.assign, state.output.as_ref()),
            None => {
                let cause = format!("no Condition of {} is true, and it has no Default", state.name);
                self.trouble(scope, StepError { error: NO_CHOICE_MATCHED.into(), cause, permanent: false }, None);
            }
        }
    }

    /// Leaves a Choice.
    fn leave(&mut self, scope: u64, next: &Arc<str>, assign: &[(String, Template)], output: Option<&Template>) {
        let settled = self
            .assigned(scope, assign, None, None)
            .and_then(|variables| Ok((variables, self.output(scope, output, None, None, Datum::Input)?)));
        let settled = settled.and_then(|(variables, output)| {
            self.claim_exit(scope, None, &variables, &output)?;
            Ok((variables, output))
        });
        match settled {
            Ok((variables, output)) => self.go(scope, Some(next), variables, output, None),
            Err(error) => self.trouble(scope, error, None),
        }
    }

    fn fail(&mut self, scope: u64, error: Option<&Template>, cause: Option<&Template>) {
        let text = |template: Option<&Template>, what: &str| -> Result<String, StepError> {
            let Some(template) = template else { return Ok(String::new()) };
            match self.template(scope, template, what, None, None)? {
                Value::String(text) => Ok(text),
                other => Err(query_error(format!("{what} must be a text, and is {other}"))),
            }
        };
        let failure = text(error, "Error").and_then(|error| Ok((error, text(cause, "Cause")?)));
        let mut error = match failure {
            Ok((error, cause)) => StepError { error, cause, permanent: false },
            Err(error) => error,
        };
        error.keep_texts();
        self.end_scope(scope, Err(error));
    }

    /// The state ended well, with `result` if it has one of its own: assigns, gives out, goes on.
    pub(super) fn finish(&mut self, scope: u64, result: Option<Datum>) {
        let Some(state) = self.state(scope) else { return };
        match self.settle(scope, state, result) {
            Ok((armed, variables, output)) => {
                armed.into_iter().for_each(|armed| self.put(armed));
                self.go(scope, state.next.as_ref(), variables, output, None);
            }
            Err(error) => self.trouble(scope, error, None),
        }
    }

    /// What a state that ended well leaves: its undo's result, variables, and its output.
    fn settle(
        &mut self,
        scope: u64,
        state: &State,
        result: Option<Datum>,
    ) -> Result<(Option<Change>, Variables, Datum), StepError> {
        let armed = self.armed(scope, state, result.as_ref())?;
        let value = result.as_ref().map(|result| self.folding.value(self.x, scope, result));
        let variables = self.assigned(scope, &state.assign, value.as_deref(), None)?;
        let default = result.unwrap_or(Datum::Input);
        let output = self.output(scope, state.output.as_ref(), value.as_deref(), None, default)?;
        self.claim_exit(scope, armed.as_ref(), &variables, &output)?;
        Ok((armed, variables, output))
    }

    /// Leaves the state: `next`, or the end of the scope.
    fn go(&mut self, scope: u64, next: Option<&Arc<str>>, variables: Variables, output: Datum, caught: Option<String>) {
        if !variables.is_empty() {
            self.put(Change::Assigned { scope, variables });
        }
        self.put(Change::Left { scope, state: self.x.path(scope), caught });
        match next {
            Some(next) => {
                let bytes = self.weigh(scope, &output).kept;
                self.agenda.push_back(Entry { scope, state: Arc::clone(next), input: output, bytes });
            }
            None => self.end_scope(scope, Ok(output)),
        }
    }

    fn assigned(
        &self,
        scope: u64,
        assign: &[(String, Template)],
        result: Option<&Value>,
        error: Option<&Value>,
    ) -> Result<Variables, StepError> {
        let mut variables = Variables::new();
        for (name, template) in assign {
            variables.insert(name.clone(), Arc::new(self.template(scope, template, "Assign", result, error)?));
        }
        Ok(variables)
    }

    fn output(
        &self,
        scope: u64,
        output: Option<&Template>,
        result: Option<&Value>,
        error: Option<&Value>,
        default: Datum,
    ) -> Result<Datum, StepError> {
        match output {
            Some(template) => Ok(Datum::Is(Arc::new(self.template(scope, template, "Output", result, error)?))),
            None => Ok(default),
        }
    }

    /// The state failed: Retry, then Catch, then its scope fails. `also` is a second name of the
    /// error.
    pub(super) fn trouble(&mut self, scope: u64, mut error: StepError, also: Option<&'static str>) {
        // What an expression says of a value can be as long as the value.
        error.keep_texts();
        let Some(state) = self.state(scope) else { return };
        if self.x.undoes_inside(scope) {
            return self.fail_later(scope, error);
        }
        let matched = state.retry.iter().position(|retrier| retry::matches(&retrier.errors, &error.error, also));
        if let Some(index) = matched.filter(|_| !error.permanent) {
            let used = self.x.frame(scope).and_then(|frame| frame.retries.get(index).copied()).unwrap_or_default();
            let retrier = &state.retry[index];
            if used < retrier.retries {
                let pause = retry::pause(retrier, used + 1, self.draw());
                self.stop_fork(scope);
                let alarm = Alarm { timer: self.number(), at: self.now().after(pause) };
                let error = self.kept_error(error);
                self.put(Change::Retrying { scope, state: self.x.path(scope), retrier: index, error, alarm });
                return;
            }
        }
        self.stop_fork(scope);
        let catcher = state.catch.iter().find(|catcher| retry::matches(&catcher.errors, &error.error, also));
        let Some(catcher) = catcher else { return self.end_scope(scope, Err(error)) };
        let seen = error_output(&error);
        let settled = self.assigned(scope, &catcher.assign, None, Some(&seen)).and_then(|variables| {
            let default = Datum::Is(Arc::new(seen.clone()));
            Ok((variables, self.output(scope, catcher.output.as_ref(), None, Some(&seen), default)?))
        });
        let settled = settled.and_then(|(variables, output)| {
            self.claim_exit(scope, None, &variables, &output)?;
            Ok((variables, output))
        });
        match settled {
            Ok((variables, output)) => self.go(scope, Some(&catcher.next), variables, output, Some(error.error)),
            // An error inside a Catcher is not caught by the same state.
            Err(mut error) => {
                error.keep_texts();
                self.end_scope(scope, Err(error));
            }
        }
    }

    /// The pause before a retry is over.
    pub(super) fn again(&mut self, scope: u64) {
        let Some(state) = self.state(scope) else { return };
        match &state.kind {
            Kind::Task(resource) => self.task(scope, state, resource),
            Kind::Parallel(_) | Kind::Map(_) => self.fork(scope, state),
            // These have no Retry.
            Kind::Pass | Kind::Choice { .. } | Kind::Wait(_) | Kind::Succeed | Kind::Fail { .. } | Kind::Compensate => {
            }
        }
    }

    /// A scope ended, well or badly.
    pub(super) fn end_scope(&mut self, scope: u64, result: Result<Datum, StepError>) {
        if scope != ROOT {
            return self.branch_ended(scope, result);
        }
        match result {
            Ok(output) => {
                let size =
                    within(&self.folding.value(self.x, ROOT, &output), self.d.limits().value_bytes, "the output");
                if let Err(trouble) = size {
                    return self.end_badly(Status::Failed, step_error(trouble));
                }
                let told = self.x.start.as_ref().is_some_and(|start| start.parent.is_some());
                let output_value = self.folding.value(self.x, ROOT, &output);
                if told && let Err(error) = self.travels("the output for the parent", &[&output_value]) {
                    return self.end_badly(Status::Failed, error);
                }
                let state = self.outer_state();
                self.agenda.clear();
                self.put(Change::Finished {
                    status: Status::Succeeded,
                    state,
                    output: Some(output),
                    error: None,
                    cause: None,
                });
            }
            Err(error) => self.end_badly(Status::Failed, error),
        }
    }
}
