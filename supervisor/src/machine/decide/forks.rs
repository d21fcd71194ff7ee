//! Branches of a Parallel and items of a Map.

use std::sync::Arc;

use protocol::Value;

use super::super::amount::{self, Measure};
use super::super::change::{Change, Datum};
use super::super::definition::{Amount, Each, Kind, State};
use super::super::execution::{Doing, Fork};
use super::super::expression::{size, within};
use super::super::fact::StepError;
use super::super::retry::{BRANCH_FAILED, EXCEED_TOLERATED};
use super::cut::Over;
use super::room::Weight;
use super::{Decider, Entry, error_output, query_error, runtime_error, step_error};

/// How often an item may stand in the state: as input, as arguments, and twice for its undo.
const ITEM_COPIES: usize = 4;

impl Decider<'_> {
    /// Starts the branches or items of a state.
    pub(super) fn fork(&mut self, scope: u64, state: &State) {
        if let Err(error) = self.try_fork(scope, state) {
            self.trouble(scope, error, None);
        }
    }

    fn try_fork(&mut self, scope: u64, state: &State) -> Result<(), StepError> {
        let attempt = self.x.frame(scope).map_or(0, |frame| frame.attempt) + 1;
        let path = self.x.path(scope);
        match &state.kind {
            Kind::Parallel(branches) => {
                let input = match &state.arguments {
                    Some(template) => Datum::Is(Arc::new(self.template(scope, template, "Arguments", None, None)?)),
                    None => Datum::Input,
                };
                let count = branches.len();
                self.claim((self.weigh(scope, &input) + self.weigh_state(scope)).times(count))?;
                self.push(scope, state, &input)?;
                self.put(Change::Forked { scope, state: path, attempt, count, items: None, width: 0, tolerated: None });
                for (index, nest) in branches.iter().enumerate() {
                    self.open(scope, index, *nest, input.clone());
                }
            }
            Kind::Map(each) => {
                let items = match &each.items {
                    Some(template) => Datum::Is(Arc::new(self.template(scope, template, "Items", None, None)?)),
                    None => Datum::Input,
                };
                let (count, tolerated) = self.counted(scope, each, &items)?;
                let asked = self.count(scope, each.concurrency.as_ref(), "MaxConcurrency")?.unwrap_or_default();
                let most = self.d.limits().map_width;
                let width = if asked == 0 { most } else { asked.min(most) };
                self.claim(self.weigh(scope, &items) + Weight { kept: count, written: 0 })?;
                self.push(scope, state, &items)?;
                self.put(Change::Forked { scope, state: path, attempt, count, items: Some(items), width, tolerated });
                self.proceed(scope, each);
            }
            // Nothing else forks.
            Kind::Task(_)
            | Kind::Pass
            | Kind::Choice { .. }
            | Kind::Wait(_)
            | Kind::Succeed
            | Kind::Fail { .. }
            | Kind::Compensate => {}
        }
        Ok(())
    }

    /// How many items there are, and how many of them may fail.
    fn counted(&self, scope: u64, each: &Each, items: &Datum) -> Result<(usize, Option<usize>), StepError> {
        let items = self.folding.value(self.x, scope, items);
        let Some(list) = items.as_array() else {
            return Err(query_error("Items must be a list".to_owned()));
        };
        let limit = self.d.limits().map_items;
        if list.len() > limit {
            return Err(runtime_error(format!("a Map over {} items, the limit is {limit}", list.len())));
        }
        let count = self.count(scope, each.tolerated.as_ref(), "ToleratedFailureCount")?;
        let percent = each.tolerated_percentage.as_ref();
        let percent = self.amount(scope, percent, "ToleratedFailurePercentage", Measure::Percentage)?;
        let share = percent.map(|percent| amount::share(&percent, list.len()));
        // With both, whichever is exceeded first counts.
        let tolerated = match (count, share) {
            (Some(count), Some(share)) => Some(count.min(share)),
            (count, share) => count.or(share),
        };
        Ok((list.len(), tolerated))
    }

    /// A count, written out or asked for. One that does not fit is more than there can be.
    fn count(&self, scope: u64, count: Option<&Amount>, what: &str) -> Result<Option<usize>, StepError> {
        let number = self.amount(scope, count, what, Measure::Count)?;
        Ok(number.and_then(|number| amount::whole(&number)).map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
    }

    fn open(&mut self, holder: u64, index: usize, nest: usize, input: Datum) {
        let scope = self.number();
        self.opened += 1;
        self.put(Change::Opened { scope, holder, index: u32::try_from(index).unwrap_or(u32::MAX) });
        let state = Arc::clone(&self.d.nest(nest).start);
        let bytes = self.weigh(scope, &input).kept;
        self.agenda.push_back(Entry { scope, state, input, bytes });
    }

    fn forked(&self, scope: u64) -> Option<&Fork> {
        match &self.x.frame(scope)?.doing {
            Doing::Fork(fork) => Some(fork),
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

    /// Starts as many items as there is room for; ends the Map when all are done.
    pub(super) fn proceed(&mut self, scope: u64, each: &Each) {
        while let Some(fork) = self.forked(scope) {
            let (next, count, fork_done) = (fork.next, fork.results.len(), fork.done);
            if fork_done == count {
                return self.joined(scope);
            }
            if next == count || (fork.width != 0 && next - fork_done >= fork.width) {
                return;
            }
            // What does not fit comes with the next record; the first always fits, or fails.
            if self.opened > 0 && self.is_full() {
                return self.stalled.push(scope);
            }
            let item = fork.items.as_ref().and_then(|items| items.get(next)).cloned().unwrap_or(Value::Null);
            let input = match &each.selector {
                None => Datum::Item,
                Some(template) => {
                    self.in_items = true;
                    let selected = self.see_item(scope, None, None, Some((next, &item)), |sight| {
                        template.bounded(sight, "ItemSelector")
                    });
                    self.in_items = false;
                    if self.over.get() == Some(Over::Item) {
                        self.over.set(None);
                        return self.stalled.push(scope);
                    }
                    match selected {
                        Ok(value) => Datum::Is(Arc::new(value)),
                        Err(error) => return self.trouble(scope, error, None),
                    }
                }
            };
            let more = match &input {
                Datum::Is(value) => Weight::of(value),
                Datum::Given | Datum::Input | Datum::Item | Datum::Ahead => Weight { kept: size(&item), written: 0 },
            } + self.weigh_state(scope);
            if self.opened > 0 && self.written + more.written > self.d.limits().record_bytes {
                return self.stalled.push(scope);
            }
            // An item takes more room once it is under way, so another one waits rather than fails.
            if next > fork_done && !self.has_room(more.times(ITEM_COPIES)) {
                return;
            }
            if let Err(error) = self.claim(more) {
                return self.trouble(scope, error, None);
            }
            self.open(scope, next, each.nest, input);
        }
    }

    /// A branch or item ended.
    pub(super) fn branch_ended(&mut self, scope: u64, result: Result<Datum, StepError>) {
        let Some((holder, index)) = self.x.scopes.get(&scope).and_then(|scope| scope.holder) else { return };
        let Some(state) = self.state(holder) else { return };
        let Some(fork) = self.forked(holder) else { return };
        let (tolerated, failed) = (fork.tolerated, fork.failed);
        match result {
            Ok(output) => self.put(Change::ScopeEnded { scope, output, failed: false }),
            Err(error) => match tolerated {
                None => {
                    let also = matches!(state.kind, Kind::Parallel(_)).then_some(BRANCH_FAILED);
                    return self.trouble(holder, error, also);
                }
                Some(tolerated) if failed >= tolerated => {
                    let cause = format!(
                        "{} items failed, {tolerated} are tolerated; the last is item {index}: {}: {}",
                        failed + 1,
                        error.error,
                        error.cause
                    );
                    let error = StepError { error: EXCEED_TOLERATED.into(), cause, permanent: false };
                    return self.trouble(holder, error, None);
                }
                Some(_) => {
                    let error = self.kept_error(error);
                    let output = Datum::Is(Arc::new(error_output(&error)));
                    self.put(Change::ScopeEnded { scope, output, failed: true });
                }
            },
        }
        match &state.kind {
            Kind::Map(each) => self.proceed(holder, each),
            Kind::Parallel(_) => {
                if self.forked(holder).is_some_and(|fork| fork.done == fork.results.len()) {
                    self.joined(holder);
                }
            }
            // Nothing else forks.
            Kind::Task(_)
            | Kind::Pass
            | Kind::Choice { .. }
            | Kind::Wait(_)
            | Kind::Succeed
            | Kind::Fail { .. }
            | Kind::Compensate => {}
        }
    }

    /// All branches or items ended.
    fn joined(&mut self, scope: u64) {
        let Some(fork) = self.forked(scope) else { return };
        let list = fork.results.iter().map(|result| result.as_ref().map_or(Value::Null, |value| Value::clone(value)));
        let results = Value::Array(list.collect());
        self.put(Change::Joined { scope });
        match within(&results, self.d.limits().value_bytes, "the result") {
            Ok(()) => self.finish(scope, Some(Datum::Is(Arc::new(results)))),
            Err(trouble) => self.trouble(scope, step_error(trouble), None),
        }
    }

    /// Stops what still runs inside the state of `scope`.
    pub(super) fn stop_fork(&mut self, scope: u64) {
        if self.forked(scope).is_some() {
            self.drop_children_inside(scope);
            self.put(Change::Joined { scope });
        }
    }

    /// The state of `scope` fails with `error` once what is being undone inside is undone; whatever
    /// else runs inside stops now.
    pub(super) fn fail_later(&mut self, scope: u64, error: StepError) {
        self.drop_children_inside(scope);
        let error = self.kept_error(error);
        self.put(Change::Failing { scope, state: self.x.path(scope), error });
    }

    /// A branch or item of a state that fails has undone what it did: it ends here. The last one lets
    /// the state fail.
    pub(super) fn undone_inside(&mut self, scope: u64) {
        let Some((holder, _)) = self.x.scopes.get(&scope).and_then(|scope| scope.holder) else { return };
        self.put(Change::ScopeEnded { scope, output: Datum::Is(Arc::new(Value::Null)), failed: false });
        if self.x.undoes_inside(holder) {
            return;
        }
        if self.x.fails_around(holder) {
            return self.undone_inside(holder);
        }
        let Some(error) = self.x.failing(holder).cloned() else { return };
        let parallel = self.state(holder).is_some_and(|state| matches!(state.kind, Kind::Parallel(_)));
        self.trouble(holder, error, parallel.then_some(BRANCH_FAILED));
    }

    fn drop_children_inside(&mut self, scope: u64) {
        let inside: Vec<u64> = self.x.scopes.keys().copied().filter(|inner| self.x.is_inside(*inner, scope)).collect();
        inside.into_iter().for_each(|inner| self.drop_children(inner));
    }
}
