//! Decisions that take longer than a thread which carries messages may be held up.
//!
//! A fact whose brief decision did not suffice, or the next part of a cut record, waits for a turn. The
//! saga keeps its state until the turn comes: it answers questions, and what a person wants now (cancel,
//! release) is decided before it. Then a copy of the driver decides on a thread of its own; what comes
//! meanwhile waits in line, a person's word at its head.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tracing::error;

use super::{Message, SagaActor, State, settle};
use crate::journal::frame::Batch;
use crate::machine::{Allowance, Driver, Fact, FactKind, Offer};
use crate::tree::relay;
use crate::tree::reply::Reply;
use crate::tree::shell::{Fault, Me};
use crate::tree::turns::{Pace, Turn};

/// From here on a decision counts as long: who waits for an answer feels it.
const LONG: Duration = Duration::from_millis(100);

/// What a decision at length came to.
pub struct Decided {
    driver: Driver,
    offer: Offer,
    took: Duration,
}

/// How it stands with decisions at length.
#[derive(Default)]
pub(super) struct Length {
    /// The first in line waits for a turn, what is urgent not counted.
    blocked: bool,
    /// A cut record waits to be gone on with.
    cut: bool,
    asked: bool,
    /// Who is told of the decision under way.
    deciding: Option<Reply>,
    /// Whether the batch under way sends something.
    pub(super) sends: bool,
}

impl Length {
    pub(super) const fn is_deciding(&self) -> bool {
        self.deciding.is_some()
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.blocked || self.cut || self.asked || self.is_deciding()
    }
}

impl State {
    /// A person's word goes before what the saga does by itself, while that may take long.
    pub(super) fn put_in_line(&mut self, fact: FactKind, reply: Reply) {
        if fact.is_urgent() && self.length.is_busy() {
            let place = self.queue.iter().take_while(|(fact, _)| fact.is_urgent()).count();
            self.queue.insert(place, (fact, reply));
        } else {
            self.queue.push_back((fact, reply));
        }
    }

    /// What can be decided without a turn.
    pub(super) fn next_in_line(&mut self) -> Option<(FactKind, Reply)> {
        let blocked = self.length.blocked;
        self.queue.pop_front_if(|(fact, _)| !blocked || fact.is_urgent())
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl SagaActor {
    /// Decides as far as this thread may be held up.
    pub(super) fn offer_briefly(&self, fact: Fact, state: &mut State) -> Offer {
        let definition = state.driver.definition();
        if self.engine.limits.decision_threads.is_none() || !definition.has_queries() {
            return state.driver.offer_within(fact, Allowance::untimed());
        }
        let (starts, urgent) = (matches!(fact.kind, FactKind::Started(_)), fact.kind.is_urgent());
        let began = Instant::now();
        let spent = || millis(began);
        let pace = self.engine.turns.pace(definition.reference());
        let share = Duration::from_millis(self.engine.limits.brief_share_ms);
        let spent_up = self.engine.turns.is_spent(&self.saga.tenant, share);
        if starts && (pace == Pace::Long || spent_up) {
            // Whoever starts a saga is answered now; its first state has time.
            return state.driver.offer_within(fact, Allowance::bare(&spent));
        }
        if !urgent && (pace > Pace::Brief || spent_up) {
            return Offer::Unfinished(fact);
        }
        let offer = state.driver.offer_within(fact, Allowance::brief(&spent, self.engine.limits.brief_ms));
        self.engine.turns.spent(&self.saga.tenant, began.elapsed());
        if matches!(offer, Offer::Unfinished(_)) {
            self.engine.turns.note(state.driver.definition().reference(), Pace::Slow);
        }
        offer
    }

    /// A brief decision does not suffice: the fact is the first in line again, and waits for a turn.
    pub(super) fn wait_in_line(&self, me: &Me<Message>, fact: FactKind, reply: Reply, state: &mut State) {
        // Others that are due need not wait for this one's turn.
        let reply = if reply.is_nobodys() { Reply::nobody() } else { reply };
        state.queue.push_front((fact, reply));
        state.length.blocked = true;
        self.ask_for_turn(me, state);
    }

    /// A record was cut: it is gone on with once what it sends is gone, so that a saga which sends much
    /// does not fill the shard's relay.
    pub(super) fn go_on(&self, me: &Me<Message>, state: &mut State) {
        if state.length.sends {
            self.relay.tell(relay::Message::Await(self.saga.clone(), me.clone()));
        } else {
            self.may_go_on(me, state);
        }
    }

    pub(super) fn may_go_on(&self, me: &Me<Message>, state: &mut State) {
        state.length.cut = true;
        self.ask_for_turn(me, state);
    }

    /// Asks for a turn if it needs one and could use it.
    pub(super) fn ask_for_turn(&self, me: &Me<Message>, state: &mut State) {
        let length = &mut state.length;
        if (length.blocked || length.cut) && !length.asked && !length.is_deciding() && !state.appending {
            length.asked = true;
            let me = me.clone();
            self.engine.turns.ask(&self.saga.tenant, move |turn| {
                me.tell(Message::Turn(turn));
            });
        }
    }

    /// The turn came. One that comes while a record is on its way is given back; it is asked for again
    /// behind that.
    pub(super) fn turn_came(&self, me: &Me<Message>, turn: Turn, state: &mut State) -> Result<(), Fault> {
        state.length.asked = false;
        if state.appending || state.length.is_deciding() {
            return Ok(());
        }
        let next = if std::mem::take(&mut state.length.blocked) { state.queue.pop_front() } else { None };
        let next =
            next.or_else(|| std::mem::take(&mut state.length.cut).then(|| (FactKind::Continued, Reply::nobody())));
        let Some((kind, reply)) = next else { return Ok(()) };
        let fact = Fact { at: self.engine.now(), seed: self.engine.seeds.next(), kind };
        let mut driver = state.driver.clone();
        state.length.deciding = Some(reply);
        if self.engine.limits.decision_threads.is_none() {
            let offer = driver.offer(fact);
            drop(turn);
            return self.decided(me, Ok(Box::new(Decided { driver, offer, took: Duration::ZERO })), state);
        }
        let me = me.clone();
        self.engine.turns.think(move || {
            let began = Instant::now();
            let decided = catch_unwind(AssertUnwindSafe(move || {
                let offer = driver.offer_within(fact, Allowance::whole(&|| millis(began)));
                Box::new(Decided { driver, offer, took: began.elapsed() })
            }));
            drop(turn);
            me.tell(Message::Decided(decided.map_err(|panic| said(&*panic))));
        });
        Ok(())
    }

    /// What was decided becomes the state; what waits is decided behind it, into the same batch.
    pub(super) fn decided(
        &self,
        me: &Me<Message>,
        decided: Result<Box<Decided>, String>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Decided { driver, offer, took } = *decided?;
        let Some(reply) = state.length.deciding.take() else { return Ok(()) };
        if self.engine.limits.decision_threads.is_some() {
            let pace = match took {
                short if short.as_millis() < u128::from(self.engine.limits.brief_ms) => Pace::Brief,
                slow if slow < LONG => Pace::Slow,
                _ => Pace::Long,
            };
            self.engine.turns.note(driver.definition().reference(), pace);
        }
        state.driver = driver;
        let mut batch = Batch::default();
        settle(offer, reply, &mut batch, state);
        self.decide_with(me, batch, state);
        self.ask_for_turn(me, state);
        Ok(())
    }

    /// The machine found that the saga makes no progress: a person must look.
    pub(super) fn tell_of_parking(&self, me: &Me<Message>, state: &mut State) {
        let parked = state.driver.execution().parked();
        if let Some(why) = parked.filter(|_| !state.told_parked) {
            error!(saga = %self.saga, why, "saga is parked as stuck");
            me.card().note_failure(format!("parked: {why}"));
        }
        state.told_parked = parked.is_some();
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a decision panicked".to_owned())
}
