//! Sagas that cannot be rebuilt: their definition is lost, or their snapshot or records cannot be read.
//! They are parked as stuck and the others go on. Whoever puts right what was lost releases them with
//! retry; an operator abandons them. Nothing of theirs is removed meanwhile.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use protocol::command::ReleaseDecision;
use protocol::view::{SagaView, Status, Waiting};
use protocol::{Code, DefinitionRef, Problem, SagaId, Time, TraceId, Value, codec};
use tracing::{error, info};

use super::life::asleep_of;
use super::{Message, Right, ShardActor, State};
use crate::journal::frame::{Batch, Sending};
use crate::machine::definition::Definition;
use crate::machine::{Driver, FactKind, Family, Operator};
use crate::tree::engine::Engine;
use crate::tree::own::OWN;
use crate::tree::recovery::{Damaged, unknown_definition};
use crate::tree::reply::{Reply, moved};
use crate::tree::saga::Seen;
use crate::tree::shell::{Fault, Handle, Me};
use crate::tree::slot::{Alive, Asleep, Broken, Left, Life, Slot, Told, start_digest};
use crate::tree::{journal, load};

impl ShardActor {
    /// A saga whose definition is lost is folded like any other, and stands still.
    pub(super) fn settle_lost(
        &self,
        me: &Me<Message>,
        driver: &Driver,
        (revision, stored): (u64, Option<usize>),
        why: &str,
        state: &mut State,
    ) {
        let execution = driver.execution();
        let bytes = stored.is_none().then(|| Bytes::from(codec::store(execution)));
        let slot = self.broken_slot(execution.saga(), Some(driver), driver.definition().clone(), state);
        if let Some(alive) = &slot.alive {
            alive.seat.stored().is(stored.unwrap_or_else(|| bytes.as_ref().map_or(0, Bytes::len)));
        }
        let broken = Broken { why: why.to_owned(), left: Left::All, released: false };
        let life = asleep_of(&mut state.words, &stuck(Some(driver)), execution.position(), bytes);
        let slot = Slot { revision, broken: Some(Box::new(broken)), life: Life::Asleep(life), ..slot };
        self.park_broken(me, Arc::new(execution.saga().clone()), slot, state);
    }

    /// A saga whose snapshot or records cannot be read is known by its name, and perhaps as it was before.
    pub(super) fn settle_damaged(&self, me: &Me<Message>, damaged: Damaged, state: &mut State) {
        let Damaged { saga, why, last, revision, position } = damaged;
        let definition =
            last.as_ref().map_or_else(|| Arc::new(unknown_definition(&self.engine)), |last| last.definition().clone());
        let slot = self.broken_slot(&saga, last.as_deref(), definition, state);
        let life = asleep_of(&mut state.words, &stuck(last.as_deref()), position, None);
        let broken = Broken { why, left: last.map_or(Left::Name, Left::Part), released: false };
        let slot = Slot { revision, broken: Some(Box::new(broken)), life: Life::Asleep(life), ..slot };
        self.park_broken(me, Arc::new(saga), slot, state);
    }

    fn broken_slot(
        &self,
        saga: &SagaId,
        last: Option<&Driver>,
        definition: Arc<Definition>,
        state: &mut State,
    ) -> Slot {
        let execution = last.map(Driver::execution);
        let digest = execution.map(|it| start_digest(&it.definition().name, it.input().unwrap_or(&Value::Null)));
        let family = execution.map_or_else(Family::default, |execution| execution.family());
        let parent = execution.and_then(|execution| execution.parent().cloned());
        Slot {
            definition,
            start_digest: digest.unwrap_or_default(),
            revision: 0,
            failures: None,
            alive: Some(Box::new(Alive { parent, seat: state.census.seat(saga, &family) })),
            broken: None,
            life: Life::Asleep(asleep_of(&mut state.words, &stuck(last), 0, None)),
        }
    }

    fn park_broken(&self, me: &Me<Message>, saga: Arc<SagaId>, slot: Slot, state: &mut State) {
        if let Some(broken) = &slot.broken {
            error!(shard = %self.shard, %saga, why = broken.why, "a saga cannot be rebuilt and is parked as stuck");
            me.card().note_failure(format!("saga {saga} is parked as stuck: {}", broken.why));
        }
        state.slots.insert(saga, slot);
        state.asleep += 1;
        state.meters.broken.fetch_add(1, Relaxed);
    }

    /// Whoever asks that a saga be looked at again decides nothing by it; whom a lost definition allows to
    /// release it nobody knows.
    pub(super) fn right_to_say(saga: &SagaId, fact: &FactKind, right: Right, state: &State) -> Right {
        let retry = matches!(fact, FactKind::Operator(Operator { decision: ReleaseDecision::Retry, .. }));
        if retry && state.slots.get(saga).is_some_and(|slot| slot.broken.is_some()) { Right::View } else { right }
    }

    /// A history shows what the saga was given: where its `access` is lost, only who may release it reads it.
    pub(super) fn right_to_read(saga: &SagaId, state: &State) -> Right {
        if state.slots.get(saga).is_some_and(|slot| slot.broken.is_some()) { Right::Cancel } else { Right::View }
    }

    /// Why nobody can say whether a start is this saga's, if so.
    pub(super) fn nobody_knows(saga: &SagaId, slot: &Slot) -> Option<Problem> {
        let broken = slot.broken.as_ref().filter(|broken| matches!(broken.left, Left::Name))?;
        Some(Problem::new(Code::Unavailable, format!("{saga} is there and stuck: {}", broken.why)).mend(MEND))
    }

    pub(super) fn tell_broken(&self, me: &Me<Message>, saga: &Arc<SagaId>, told: Told, state: &mut State) {
        let Some(slot) = state.slots.get_mut(saga) else { return };
        match told {
            Told::Fact(FactKind::Operator(operator), reply) => match operator.decision {
                ReleaseDecision::Retry | ReleaseDecision::Abandon => self.release(me, saga, operator, reply, state),
                ReleaseDecision::Skip => reply.refuse(
                    Problem::new(Code::BadRequest, "no compensation is stuck: the saga itself is parked")
                        .mend("release it with retry or abandon"),
                ),
            },
            Told::Describe(reply) => reply.ok(&self.broken_view(saga, slot)),
            told @ (Told::Fact(..) | Told::Answer(..)) => {
                let why = slot.broken.as_ref().map_or("", |broken| broken.why.as_str());
                told.refuse(Problem::new(Code::NotNow, format!("saga {saga} is stuck: {why}")).mend(MEND));
            }
        }
    }

    /// Looks whether lost definitions are there again, so that nobody need retry each saga by hand.
    pub(super) fn look_for_definitions(&self, me: &Me<Message>, state: &State) {
        if state.meters.broken.load(Relaxed) == 0 {
            return;
        }
        let lacking = state.slots.iter().map(|(_, slot)| slot).filter(|slot| slot.lacks_definition());
        let lost: HashSet<_> = lacking.map(|slot| slot.definition.reference().clone()).collect();
        let (engine, me) = (self.engine.clone(), me.clone());
        tokio::spawn(async move {
            for which in lost {
                if let Ok(Some(_)) = engine.definitions.get(&which).await {
                    me.tell(Message::Redeployed(which));
                }
            }
        });
    }

    /// Takes up sagas that stood still for want of this definition, some at each sweep.
    pub(super) fn take_up(&self, me: &Me<Message>, which: &DefinitionRef, state: &mut State) {
        let of = |slot: &Slot| slot.lacks_definition() && slot.definition.reference() == which;
        let sagas: Vec<_> = state.slots.iter().filter(|(_, slot)| of(slot)).map(|(saga, _)| saga.clone()).collect();
        info!(shard = %self.shard, definition = %which, sagas = sagas.len(), "a lost definition is there again");
        for saga in sagas.iter().take(TAKEN_UP_AT_ONCE) {
            let operator = Operator { decision: ReleaseDecision::Retry, by: OWN.into(), reason: String::new() };
            self.release(me, saga, operator, Reply::nobody(), state);
        }
    }

    /// What an operator says is done in a task of its own, which `Rebuilt` ends.
    fn release(&self, me: &Me<Message>, saga: &Arc<SagaId>, operator: Operator, reply: Reply, state: &mut State) {
        let Some(slot) = state.slots.get_mut(saga) else { return };
        let (position, definition) = (slot.position(), slot.definition.clone());
        let (Some(broken), Life::Asleep(Asleep { bytes, .. })) = (&mut slot.broken, &slot.life) else { return };
        if std::mem::replace(&mut broken.released, true) {
            return reply.refuse(Problem::new(Code::Busy, format!("{saga} is being released")).retry_after_ms(500));
        }
        let last = match &broken.left {
            Left::All => None,
            Left::Part(last) => Some((**last).clone()),
            Left::Name => Some(Driver::new((**saga).clone(), definition.clone())),
        };
        let (engine, shard, bytes) = (self.engine.clone(), self.shard, bytes.clone());
        let (journal, saga, me) = (state.journal.clone(), saga.clone(), me.clone());
        tokio::spawn(async move {
            let rebuilt = match (operator.decision, last) {
                (ReleaseDecision::Retry | ReleaseDecision::Skip, _) => {
                    load::rebuild(&engine, shard, &saga, position, bytes).await
                }
                (ReleaseDecision::Abandon, Some(last)) => bury(&engine, &journal, last, operator, position).await,
                (ReleaseDecision::Abandon, None) => {
                    match load::load(&engine, shard, &saga, definition, position, bytes).await {
                        Ok(last) => bury(&engine, &journal, last, operator, position).await,
                        Err(problem) => Err(problem),
                    }
                }
            };
            me.tell(Message::Rebuilt { saga, rebuilt: rebuilt.map(Box::new), reply });
        });
    }

    pub(super) async fn rebuilt(
        &self,
        me: &Me<Message>,
        saga: Arc<SagaId>,
        rebuilt: Result<Box<Driver>, Problem>,
        reply: Reply,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Some(slot) = state.slots.get_mut(&saga) else { return Ok(()) };
        let Some(broken) = &mut slot.broken else { return Ok(()) };
        broken.released = false;
        match rebuilt {
            Ok(driver) => {
                let execution = driver.execution();
                slot.broken = None;
                slot.definition = driver.definition().clone();
                slot.start_digest =
                    start_digest(&execution.definition().name, execution.input().unwrap_or(&Value::Null));
                let seat = state.census.seat(&saga, &execution.family());
                slot.alive = Some(Box::new(Alive { parent: execution.parent().cloned(), seat }));
                slot.life = Life::Loading { position: execution.position(), queue: VecDeque::new() };
                state.asleep -= 1;
                state.meters.broken.fetch_sub(1, Relaxed);
                reply.ok(&serde_json::json!({}));
                self.start_children(&driver, state);
                self.loaded(me, saga, Ok(driver), None, state).await
            }
            Err(problem) => {
                reply.refuse(problem);
                Ok(())
            }
        }
    }

    /// A saga that cannot be rebuilt, as far as it is known.
    fn broken_view(&self, saga: &SagaId, slot: &Slot) -> SagaView {
        let (seen, why) = (slot.seen(), slot.broken.as_ref().map_or("", |broken| broken.why.as_str()));
        let waiting = Waiting {
            state: seen.state.clone(),
            what: format!("it cannot be rebuilt, and an operator must release it once this is put right: {why}"),
            kind: "operator".into(),
            since: seen.changed_at,
            until: None,
            step: None,
            attempt: None,
            last_error: Some(why.to_owned()),
        };
        SagaView {
            saga: saga.to_string(),
            definition: slot.definition.reference().to_string(),
            status: seen.status,
            state: seen.state,
            started_by: String::new(),
            started_at: Time::default(),
            changed_at: seen.changed_at,
            records: seen.records,
            trace_id: TraceId::new("none").expect("a plain word is a name"),
            waiting: vec![waiting],
            compensations: Vec::new(),
            signals: Vec::new(),
            outcome: None,
            shard: self.shard.0,
            node: self.engine.node.to_string(),
            awake: false,
        }
    }
}

/// Sagas taken up at each sweep: each is read from the store and the journal.
const TAKEN_UP_AT_ONCE: usize = 1_000;
const MEND: &str = "put it right, then `skald release` it with retry; or abandon it";

/// Where a saga that cannot be rebuilt stands.
fn stuck(last: Option<&Driver>) -> Seen {
    let (status, changed_at) = (Status::Stuck, Time::default());
    let unknown = || Seen { status, state: String::new(), changed_at, records: 0 };
    last.map_or_else(unknown, |last| Seen { status, ..Seen::of(last.execution()) })
}

/// Ends a saga as it could be read `last`, and waits until that is durable.
async fn bury(
    engine: &Engine,
    journal: &Handle<journal::Message>,
    mut last: Driver,
    operator: Operator,
    previous: u64,
) -> Result<Driver, Problem> {
    let record = last.bury(engine.now(), operator, previous)?;
    let batch = Batch { records: vec![codec::store(&record)], outbox: Sending::of(&last, last.outbox().cloned()) };
    let (tell, told) = tokio::sync::oneshot::channel();
    journal.tell(journal::Message::Append(batch, journal::Ticket::Once(tell)));
    // Without an answer the journal ended, and the shard with it.
    let position = told.await.map_err(|_| moved())?;
    last.confirm(position);
    Ok(last)
}
