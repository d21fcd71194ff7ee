//! Decides what follows from a fact.
//!
//! Each thing decided is folded at once, so the next decision sees it. Facts are dispatched in
//! [`facts`]; [`states`] enters and leaves states, [`tasks`] starts what a Task does, [`forks`]
//! runs branches and items, [`undo`] takes back what was done, [`room`] keeps it all within bounds,
//! [`cut`] says how far one decision goes.

mod cut;
mod facts;
mod forks;
mod room;
mod states;
mod tasks;
mod undo;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use protocol::{Problem, Time, Value};
use serde_json::Number;

use super::allowance::{Allowance, Reach};
use super::amount::{self, Measure};
use super::change::{Alarm, Change, Datum};
use super::definition::{Amount, Definition, State};
use super::effect::Effect;
use super::execution::{Execution, ROOT};
use super::expression::{Limits, QUERY_EVALUATION_ERROR, Sight, Template, Trouble, size};
use super::fact::{Fact, StepError};
use super::fold::{Folding, fold};
use super::functions::mix;
use super::retry;
use cut::{Checkpoint, Over};
use room::CHANGE_BYTES;

/// Signals kept for a saga before anything waits for them: more than a definition has states that
/// wait is a sender gone wrong.
pub const SIGNALS_KEPT_MAX: usize = 64;
/// What a kept signal takes besides its name and its payload, stored.
const KEPT_SIGNAL_BYTES: usize = 32;

/// What a fact comes to.
pub(super) enum Verdict {
    /// These changes.
    Settled(Vec<Change>),
    /// Nothing: a late echo.
    Ignored(&'static str),
    /// Nothing, and whoever sent it is told why.
    Refused(Problem),
    /// Nothing: a brief decision does not suffice.
    Unfinished,
}

/// Decides one fact; `weight` is about how large the state is, stored. On [`Verdict::Settled`] the changes are folded into `x` already and their
/// effects stand in `effects`; otherwise neither is touched.
pub(super) fn decide(
    x: &mut Execution,
    definition: &Definition,
    fact: &Fact,
    number: u64,
    effects: &mut Vec<Effect>,
    weight: &mut usize,
    allowance: Allowance<'_>,
) -> Verdict {
    let folding = Folding::new(fact, number);
    let written = CHANGE_BYTES + size(&folding.value(x, ROOT, &Datum::Given));
    let mut decider = Decider {
        x,
        d: definition,
        fact,
        folding,
        effects,
        weight,
        written,
        changes: Vec::new(),
        agenda: VecDeque::new(),
        stalled: Vec::new(),
        entered: 0,
        child_over: None,
        opened: 0,
        drawn: 0,
        allowance,
        base: None,
        last: None,
        unit_began: 0,
        over: Cell::new(None),
        overran: RefCell::new(None),
        overran_in: None,
        overruns: 0,
        looked: Cell::new(0),
        in_items: false,
    };
    // Without a query nothing takes long, and nothing has to be taken back.
    if definition.has_queries() && matches!(allowance.reach, Reach::Brief { .. }) {
        decider.base = Some(decider.checkpoint());
    }
    let refused = decider.dispatch();
    if refused.is_none() {
        decider.work();
    }
    if decider.over.get().is_some()
        && let Some(base) = decider.base.take()
    {
        decider.go_back(*base);
        return Verdict::Unfinished;
    }
    if refused.is_none() {
        decider.close();
    }
    refused.unwrap_or(Verdict::Settled(decider.changes))
}

/// A state to enter.
#[derive(Clone)]
struct Entry {
    scope: u64,
    state: Arc<str>,
    input: Datum,
    /// Room taken for its input.
    bytes: usize,
}

struct Decider<'a> {
    x: &'a mut Execution,
    d: &'a Definition,
    fact: &'a Fact,
    folding: Folding<'a>,
    effects: &'a mut Vec<Effect>,
    /// About how many bytes the state has, stored; never much less than it has.
    weight: &'a mut usize,
    /// About how many bytes the record has so far, stored.
    written: usize,
    changes: Vec<Change>,
    /// States to enter, so that a chain of immediate states is a loop and not a recursion.
    agenda: VecDeque<Entry>,
    /// Maps that open more items with the next record.
    stalled: Vec<u64>,
    entered: u32,
    /// The step whose child has ended by itself: there is nothing to cancel.
    child_over: Option<u64>,
    /// Branches and items opened.
    opened: usize,
    drawn: u64,
    allowance: Allowance<'a>,
    /// Where a brief decision began.
    base: Option<Box<Checkpoint>>,
    /// The last place between two units to go back to.
    last: Option<Box<Checkpoint>>,
    /// What was spent when the unit under way began, in milliseconds.
    unit_began: u64,
    over: Cell<Option<Over>>,
    /// The state in which the unit under way ran out of a budget of its own.
    overran: RefCell<Option<Arc<str>>>,
    /// The last such state of this record, and how many there were.
    overran_in: Option<Arc<str>>,
    overruns: u32,
    /// Bytes of values measured so far.
    looked: Cell<usize>,
    /// Whether what is evaluated belongs to one more item of a Map, which can as well come later.
    in_items: bool,
}

impl<'a> Decider<'a> {
    fn now(&self) -> Time {
        self.fact.at
    }

    /// Settles one change.
    fn put(&mut self, change: Change) {
        fold(self.x, &mut self.folding, &change, self.effects);
        self.written += CHANGE_BYTES + room::long_name(&change);
        self.changes.push(change);
    }

    /// A number for a step, a scope, an undo or a timer.
    fn number(&self) -> u64 {
        self.x.last + 1
    }

    /// A fresh random number.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.fact.seed ^ self.drawn.rotate_left(32))
    }

    fn alarm(&self, after: Duration) -> Alarm {
        Alarm { timer: self.number(), at: self.now().after(after) }
    }

    /// Enters one state after the other, as far as the decision goes.
    fn work(&mut self) {
        if self.end_unit() {
            return;
        }
        while self.x.outcome.is_none() && !self.agenda.is_empty() {
            if self.is_used_up() || self.is_over() {
                return;
            }
            self.begin_unit();
            let Some(entry) = self.agenda.pop_front() else { return };
            // The scope may have been closed by what another branch did meanwhile.
            if self.x.scopes.contains_key(&entry.scope) {
                self.enter(entry);
            }
            if self.end_unit() {
                return;
            }
        }
    }

    /// The definition of the state that `scope` is in. Lives as long as the definition.
    fn state(&self, scope: u64) -> Option<&'a State> {
        self.d.state(&self.x.frame(scope)?.state)
    }

    fn input(&self, scope: u64) -> Arc<Value> {
        self.folding.value(self.x, scope, &Datum::Input)
    }

    /// Evaluates with what the state of `scope` can see.
    fn see<T>(
        &self,
        scope: u64,
        result: Option<&Value>,
        error: Option<&Value>,
        run: impl FnOnce(&Sight<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StepError> {
        self.see_item(scope, result, error, None, run)
    }

    fn see_item<T>(
        &self,
        scope: u64,
        result: Option<&Value>,
        error: Option<&Value>,
        item: Option<(usize, &Value)>,
        run: impl FnOnce(&Sight<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StepError> {
        if self.is_over() {
            return Err(query_error("taken back".to_owned()));
        }
        let input = self.input(scope);
        let x = &*self.x;
        let sight = Sight {
            input: &input,
            result,
            error,
            context: &|| self.context(scope, item),
            variable: &|name| x.variable(scope, name),
            now: self.now(),
            seed: mix(self.fact.seed ^ self.changes.len() as u64),
            limits: Limits { expression_ms: self.left_ms(), ..*self.d.limits() },
        };
        run(&sight).map_err(|trouble| self.judge(scope, trouble))
    }

    fn template(
        &self,
        scope: u64,
        template: &Template,
        what: &str,
        result: Option<&Value>,
        error: Option<&Value>,
    ) -> Result<Value, StepError> {
        self.see(scope, result, error, |sight| template.bounded(sight, what))
    }

    /// A number written out or asked for; `None` stays `None`.
    fn amount(
        &self,
        scope: u64,
        amount: Option<&Amount>,
        what: &str,
        measure: Measure,
    ) -> Result<Option<Number>, StepError> {
        let value = match amount {
            None => return Ok(None),
            Some(Amount::Is(number)) => Value::Number(number.clone()),
            Some(Amount::Asked(expression)) => self.see(scope, None, None, |sight| expression.evaluate(sight))?,
        };
        match value {
            Value::Number(number) if measure.holds(&number) => Ok(Some(number)),
            other => Err(query_error(format!("{what} must be {}, and is {other}", measure.demand()))),
        }
    }

    /// A time-out, written out or asked for.
    fn seconds(&self, scope: u64, amount: Option<&Amount>, what: &str) -> Result<Option<Duration>, StepError> {
        Ok(self.amount(scope, amount, what, Measure::Timeout)?.map(|number| amount::seconds(&number)))
    }

    /// `$states.context`
    fn context(&self, scope: u64, item: Option<(usize, &Value)>) -> Value {
        let (id, start) = (self.x.saga.to_string(), self.x.start.as_ref());
        let frame = self.x.frame(scope);
        let mut context = serde_json::json!({
            "Execution": {
                "Id": id,
                "Name": self.x.saga.key.as_str(),
                "Input": start.map_or(Value::Null, |start| Value::clone(&start.input)),
                "StartTime": start.map(|start| start.at.to_string()),
            },
            "StateMachine": { "Id": self.x.definition.to_string(), "Name": &*self.x.definition.name },
            "State": {
                "Name": frame.map(|frame| &*frame.state),
                "EnteredTime": frame.map(|frame| frame.entered.to_string()),
                "RetryCount": frame.map_or(0, |frame| frame.attempt.saturating_sub(1)),
            },
            "Task": { "Token": frame.map(|frame| self.x.token(frame.next_attempt())) },
        });
        let around = item.map(|(index, value)| (index, value.clone())).or_else(|| self.item(scope));
        if let Some((index, value)) = around {
            context["Map"] = serde_json::json!({ "Item": { "Index": index, "Value": value } });
        }
        context
    }

    /// The item of the nearest Map around `scope`.
    fn item(&self, scope: u64) -> Option<(usize, Value)> {
        let (holder, index) = self.x.scopes.get(&scope)?.holder?;
        if let Some(super::execution::Doing::Fork(fork)) = self.x.frame(holder).map(|frame| &frame.doing)
            && let Some(items) = &fork.items
        {
            return Some((index as usize, items.get(index as usize).cloned().unwrap_or(Value::Null)));
        }
        self.item(holder)
    }

    /// The state that the outermost scope is in.
    fn outer_state(&self) -> Arc<str> {
        self.x.frame(ROOT).map_or_else(|| "".into(), |frame| Arc::clone(&frame.state))
    }
}

fn step_error(trouble: Trouble) -> StepError {
    StepError { error: trouble.error.to_owned(), cause: trouble.cause, permanent: false }
}

fn query_error(cause: String) -> StepError {
    StepError { error: QUERY_EVALUATION_ERROR.to_owned(), cause, permanent: false }
}

fn runtime_error(cause: impl Into<String>) -> StepError {
    StepError { error: retry::RUNTIME.to_owned(), cause: cause.into(), permanent: true }
}

/// What Catch, Fail and a tolerated item see of an error.
fn error_output(error: &StepError) -> Value {
    serde_json::json!({ "Error": error.error, "Cause": error.cause })
}
