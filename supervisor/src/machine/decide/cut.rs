//! How far one decision goes. A decision consists of units: what the fact itself settles, and each
//! state entered because of it. Between two units it can be cut; a unit that does not fit into what is
//! left of the budget is taken back and begins the next record, where it has a budget to itself.
//!
//! What makes no progress is parked as Stuck instead of being given turns for ever, by two counts that
//! the records carry:
//! - *Overruns*: units whose expressions ran out of a budget of their own, since the last thing came
//!   from outside (an answer, a signal, a person's word; the saga's own timers and turns do not count).
//!   At [`Limits::overruns`](super::super::expression::Limits) it is parked.
//! - *Unbroken states*: states entered by one record after the other of which each was cut, so without
//!   waiting for anything. At [`Limits::unbroken_states`](super::super::expression::Limits) it is parked.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::allowance::Reach;
use super::super::change::{Ahead, Change, Datum};
use super::super::execution::{Doing, Execution};
use super::super::expression::{OUT_OF_TIME, QUERY_EVALUATION_ERROR, Trouble};
use super::super::fact::StepError;
use super::{Decider, Entry};

/// A unit that began within the first tenth of a budget had it to itself: the next record would not
/// give it more.
const OWN_SHARE: u64 = 10;
/// What a unit that overran has left for its Catch, in milliseconds: its expressions pick values apart.
const GRACE_MS: u64 = 50;
/// Bytes of values that are measured in one decision. A chain of states that hands on a large value
/// costs little for each and much together; so many take some milliseconds.
const LOOKED_MAX_BYTES: usize = 8 << 20;
/// From so many bytes of a record on, states are taken back that would make it too large.
const LARGE_RECORD_BYTES: usize = 64 * 1024;

/// Why the unit under way is taken back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// A brief decision takes too long: nothing is decided.
    Brief,
    /// The unit needs more time than is left; the record is cut before it.
    Time,
    /// The unit needs more room than the record has; the record is cut before it.
    Room,
    /// One more item of a Map does not fit: it comes with the next record.
    Item,
}

/// Where a decision can go back to.
pub(super) struct Checkpoint {
    x: Execution,
    weight: usize,
    effects: usize,
    changes: usize,
    written: usize,
    agenda: VecDeque<Entry>,
    stalled: Vec<u64>,
    entered: u32,
    opened: usize,
    overruns: u32,
    drawn: u64,
    events: u32,
    child_over: Option<u64>,
}

impl Decider<'_> {
    /// Remembers where the decision stands.
    pub(super) fn checkpoint(&self) -> Box<Checkpoint> {
        Box::new(Checkpoint {
            x: self.x.clone(),
            weight: *self.weight,
            effects: self.effects.len(),
            changes: self.changes.len(),
            written: self.written,
            agenda: self.agenda.clone(),
            stalled: self.stalled.clone(),
            entered: self.entered,
            opened: self.opened,
            overruns: self.overruns,
            drawn: self.drawn,
            events: self.folding.events,
            child_over: self.child_over,
        })
    }

    /// Goes back to where the decision stood.
    pub(super) fn go_back(&mut self, to: Checkpoint) {
        *self.x = to.x;
        *self.weight = to.weight;
        self.effects.truncate(to.effects);
        self.changes.truncate(to.changes);
        self.written = to.written;
        self.agenda = to.agenda;
        self.stalled = to.stalled;
        self.entered = to.entered;
        self.opened = to.opened;
        self.overruns = to.overruns;
        self.drawn = to.drawn;
        self.folding.events = to.events;
        self.child_over = to.child_over;
        self.overran.take();
    }

    fn budget_ms(&self) -> u64 {
        self.d.limits().expression_ms
    }

    /// Milliseconds that the next expression may take.
    pub(super) fn left_ms(&self) -> u64 {
        let spent = (self.allowance.spent)();
        match self.allowance.reach {
            Reach::Brief { ms } if self.base.is_some() => ms.saturating_sub(spent),
            Reach::Brief { .. } | Reach::Whole | Reach::Bare => {
                let grace = if self.overran.borrow().is_some() { GRACE_MS } else { 0 };
                (self.budget_ms() + grace).saturating_sub(spent)
            }
        }
    }

    /// What an expression's trouble means for the state of `scope`, the decision's time considered.
    pub(super) fn judge(&self, scope: u64, trouble: Trouble) -> StepError {
        if trouble.error != OUT_OF_TIME {
            return super::step_error(trouble);
        }
        let began_late = self.unit_began.saturating_mul(OWN_SHARE) > self.budget_ms();
        let over = match self.allowance.reach {
            Reach::Brief { .. } if self.base.is_some() => Some(Over::Brief),
            Reach::Brief { .. } | Reach::Whole | Reach::Bare if self.opened > 0 && self.in_items => Some(Over::Item),
            Reach::Brief { .. } | Reach::Whole | Reach::Bare => {
                (began_late && self.last.is_some()).then_some(Over::Time)
            }
        };
        match over {
            Some(over) => self.over.set(Some(over)),
            None => drop(self.overran.borrow_mut().replace(self.x.path(scope))),
        }
        let cause = format!(
            "{}; the expressions of one decision have {} ms together, let an activity do this work",
            trouble.cause,
            self.budget_ms()
        );
        StepError { error: QUERY_EVALUATION_ERROR.to_owned(), cause, permanent: false }
    }

    /// Whether the next state has to wait for the next record.
    pub(super) fn is_used_up(&self) -> bool {
        let states = match self.allowance.reach {
            Reach::Brief { .. } | Reach::Whole => self.d.limits().transitions,
            Reach::Bare => 0,
        };
        self.entered >= states || self.is_full()
    }

    /// Whether nothing more goes into this record, not even one more item.
    pub(super) fn is_full(&self) -> bool {
        self.overruns > 0
            || self.looked.get() > LOOKED_MAX_BYTES
            || self.written > self.d.limits().record_bytes / 4 * 3
            || (self.d.has_queries() && (self.allowance.spent)() >= self.budget_ms())
    }

    /// Whether a brief decision has taken its time, or this unit is to be taken back already.
    pub(super) fn is_over(&self) -> bool {
        if self.over.get().is_none()
            && let Reach::Brief { ms } = self.allowance.reach
            && self.base.is_some()
            && (self.allowance.spent)() >= ms
        {
            self.over.set(Some(Over::Brief));
        }
        self.over.get().is_some()
    }

    /// The unit needs more room than the record has left. True: it gets a record to itself.
    pub(super) fn is_cut_for_room(&self) -> bool {
        let cut = self.last.as_ref().is_some_and(|last| last.written > LARGE_RECORD_BYTES);
        if cut {
            self.over.set(Some(Over::Room));
        }
        cut
    }

    /// A unit is about to begin.
    pub(super) fn begin_unit(&mut self) {
        let timed = self.d.has_queries() && self.allowance.reach == Reach::Whole;
        let now = if timed { (self.allowance.spent)() } else { 0 };
        if now > self.unit_began || self.written > LARGE_RECORD_BYTES {
            self.last = Some(self.checkpoint());
        }
        self.unit_began = now;
    }

    /// A unit is over: its overrun is counted, or it is taken back. True: the record is cut here.
    pub(super) fn end_unit(&mut self) -> bool {
        if self.over.get().is_some() {
            return self.take_back();
        }
        if let Some(state) = self.overran.take() {
            self.overruns += 1;
            self.overran_in = Some(Arc::clone(&state));
            self.put(Change::Overran { state });
        }
        false
    }

    fn take_back(&mut self) -> bool {
        if self.over.get() != Some(Over::Brief)
            && let Some(last) = self.last.take()
        {
            self.go_back(*last);
            self.over.set(None);
        }
        true
    }

    /// Closes the record: what is left is remembered, and comes with the next turn.
    pub(super) fn close(&mut self) {
        if self.x.outcome.is_some() {
            return;
        }
        let entries: Vec<Entry> =
            self.agenda.drain(..).filter(|entry| self.x.scopes.contains_key(&entry.scope)).collect();
        let left = !entries.is_empty();
        let ahead: Vec<Ahead> = entries
            .into_iter()
            .filter(|entry| entry.input != Datum::Ahead)
            .map(|Entry { scope, state, input, bytes: _ }| Ahead { scope, state, input })
            .collect();
        let mut stalled = std::mem::take(&mut self.stalled);
        stalled.retain(|scope| self.x.frame(*scope).is_some_and(|frame| matches!(frame.doing, Doing::Fork(_))));
        stalled.dedup();
        let cut = left || !stalled.is_empty();
        if let Some(cause) = self.no_progress(cut) {
            self.put(Change::Parked { cause });
        }
        if cut {
            self.put(Change::Cut { ahead, stalled });
        }
    }

    /// Why the saga makes no progress, if so.
    fn no_progress(&self, cut: bool) -> Option<String> {
        let limits = self.d.limits();
        if self.x.ending.is_some() || self.x.parked.is_some() {
            return None;
        }
        let kind = &self.fact.kind;
        let before = if kind.is_from_outside() { 0 } else { self.x.run.overruns };
        if self.overruns > 0 && before + self.overruns >= limits.overruns {
            return Some(format!(
                "expressions ran into the limit of {} ms {} times with nothing from outside in between (limits.overruns), the last in {}; \
                 correct the definition, or let an activity do the work",
                limits.expression_ms,
                before + self.overruns,
                self.overran_in.clone().unwrap_or_else(|| self.outer_state()),
            ));
        }
        let before = if kind.is_turn() { self.x.run.states } else { 0 };
        let states = before + u64::from(self.entered);
        (cut && states >= limits.unbroken_states).then(|| {
            format!(
                "{states} states were entered without waiting for anything (limits.unbroken_states), the last in {}; \
                 put a Wait or an activity into the loop",
                self.outer_state()
            )
        })
    }
}
