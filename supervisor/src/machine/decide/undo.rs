//! Taking back what was done, last first.

use std::sync::Arc;

use protocol::view::Status;

use super::super::change::{Alarm, Change};
use super::super::definition::Retrier;
use super::super::execution::{Doing, ROOT, Undoing};
use super::super::fact::StepError;
use super::super::retry;
use super::Decider;
use super::tasks::millis;

impl Decider<'_> {
    /// The execution ends badly: everything under way stops, everything done is undone.
    pub(super) fn end_badly(&mut self, status: Status, error: StepError) {
        if self.x.ending.is_some() || self.x.outcome.is_some() {
            return;
        }
        let scopes: Vec<u64> = self.x.scopes.keys().copied().collect();
        scopes.into_iter().for_each(|scope| self.drop_children(scope));
        self.agenda.clear();
        let state = self.outer_state();
        self.put(Change::Ending { status, state, error: error.error, cause: error.cause });
        self.unwind(ROOT);
    }

    /// Starts the undos of `scope` that can start now, as many side by side as a Map opens items; goes on
    /// when there is none left. Those that are stuck count: a thousand more would say nothing new, and each
    /// keeps its error.
    pub(super) fn unwind(&mut self, scope: u64) {
        if self.x.scopes.get(&scope).is_none_or(|scope| scope.stack.is_empty()) {
            return self.unwound(scope);
        }
        let tops = self.x.tops(scope);
        let begun = tops.iter().filter(|undo| undo.doing != Undoing::Not).count();
        let room = self.d.limits().map_width.max(1).saturating_sub(begun);
        let ready = tops.into_iter().filter(|undo| undo.doing == Undoing::Not).map(|undo| undo.step);
        let ready: Vec<u64> = ready.take(room).collect();
        ready.into_iter().for_each(|undo| self.undo_again(undo));
    }

    fn unwound(&mut self, scope: u64) {
        if let Some(ending) = self.x.ending.clone().filter(|_| scope == ROOT) {
            self.put(Change::Finished {
                status: ending.status,
                state: ending.state,
                output: None,
                error: Some(ending.error),
                cause: Some(ending.cause),
            });
        } else if self.x.frame(scope).is_some_and(|frame| frame.doing == Doing::Undo) {
            if self.x.fails_around(scope) {
                self.undone_inside(scope);
            } else {
                self.finish(scope, None);
            }
        }
    }

    /// Starts the next attempt of an undo.
    pub(super) fn undo_again(&mut self, undo: u64) {
        let Some((_, entry)) = self.x.undo(undo) else { return };
        let (path, attempt) = (Arc::clone(&entry.path), entry.attempts + 1);
        let rule = self.d.state(&entry.state).and_then(|state| state.compensate.as_ref());
        let deadline = rule.and_then(|rule| rule.timeout).map(|within| self.now().after(within));
        let heartbeat_ms = rule.and_then(|rule| rule.heartbeat).map(millis);
        self.put(Change::UndoStarted { undo, state: path, attempt, deadline, heartbeat_ms });
    }

    /// An undo succeeded, or an operator let it count as done.
    pub(super) fn undone(&mut self, undo: u64, skipped: Option<String>) {
        let Some((scope, entry)) = self.x.undo(undo) else { return };
        let state = Arc::clone(&entry.path);
        self.put(Change::Undone { undo, state, skipped });
        self.unwind(scope);
    }

    /// An undo failed: again after a pause, or an operator decides.
    pub(super) fn undo_failed(&mut self, undo: u64, error: StepError) {
        let Some((_, entry)) = self.x.undo(undo) else { return };
        let (state, used) = (Arc::clone(&entry.path), entry.retries.clone());
        let own = self.d.state(&entry.state).and_then(|state| state.compensate.as_ref()).map(|rule| &rule.retry);
        let standard;
        let policy: &[Retrier] = match own {
            Some(own) if !own.is_empty() => own,
            Some(_) | None => {
                standard = [retry::undo_policy()];
                &standard
            }
        };
        let matched = policy.iter().position(|retrier| retry::matches(&retrier.errors, &error.error, None));
        let left = |index: &usize| used.get(*index).copied().unwrap_or_default() < policy[*index].retries;
        match matched.filter(|_| !error.permanent).filter(left) {
            Some(retrier) => {
                let retries = used.get(retrier).copied().unwrap_or_default();
                let pause = retry::pause(&policy[retrier], retries + 1, self.draw());
                let alarm = Alarm { timer: self.number(), at: self.now().after(pause) };
                let error = self.kept_error(error);
                self.put(Change::UndoRetrying { undo, state, retrier, error, alarm });
            }
            None => {
                let error = self.kept_error(error);
                self.put(Change::UndoStuck { undo, state, error });
            }
        }
    }
}
