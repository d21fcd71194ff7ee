//! What comes in: starts, and the right to ask for anything else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use protocol::command::Started;
use protocol::ids::CHILD_MARK;
use protocol::{Code, Principal, Problem, SagaId, codec};

use super::{Message, Right, ShardActor, Shown, State};
use crate::journal::frame::Batch;
use crate::machine::definition::{Access, Definition};
use crate::machine::{Driver, FactKind, Parent, Start};
use crate::tree::journal;
use crate::tree::recovery::unknown_definition;
use crate::tree::reply::{Reply, moved};
use crate::tree::shell::{Fault, Me};
use crate::tree::slot::{Alive, Life, Slot, Told, start_digest};

impl ShardActor {
    pub(super) async fn begin(
        &self,
        me: &Me<Message>,
        saga: SagaId,
        start: Box<Start>,
        definition: Arc<Definition>,
        (accepted, outcome): (Reply, Option<Reply>),
        state: &mut State,
    ) -> Result<(), Fault> {
        let right = if start.parent.is_some() { Right::Internal } else { Right::Signal };
        if let Some(problem) = self.closed(right, state) {
            accepted.refuse(problem);
            return Ok(());
        }
        if start.parent.is_none() && saga.key.is_a_childs() {
            let message = format!("a key may not contain {CHILD_MARK:?}: only keys of children do");
            accepted.refuse(Problem::new(Code::BadRequest, message).mend("use a key without it"));
            return Ok(());
        }
        let digest = start_digest(&start.definition.name, &start.input);
        let saga = Arc::new(saga);
        if let Some(problem) = state.slots.get(&saga).and_then(|slot| Self::nobody_knows(&saga, slot)) {
            accepted.refuse(problem);
            return Ok(());
        }
        if let (Some(parent), true) = (&start.parent, state.slots.contains_key(&saga)) {
            return self.begin_again(me, saga, parent.clone(), accepted, state).await;
        }
        if let Some(slot) = state.slots.get(&saga) {
            if slot.start_digest != digest {
                let runs = &slot.definition.reference().name;
                let message = format!("{saga} already exists: it runs {runs} with another definition or input");
                accepted.refuse(Problem::new(Code::Conflict, message).mend("use another key"));
                return Ok(());
            }
            let ended = matches!(slot.life, Life::Ended(_));
            let (durable, told) = (slot.is_durable(), started(&saga, slot.definition.reference(), false));
            if let Some(outcome) = outcome {
                if ended {
                    self.describe_stored(&saga, Shown::Outcome, outcome, state);
                } else {
                    state.waiters.entry(saga.clone()).or_default().push((Shown::Outcome, outcome));
                }
            }
            if durable {
                accepted.ok(&told);
                return Ok(());
            }
            return self.once_durable(me, saga, told, accepted, state).await;
        }
        let seat = match state.census.take(
            (&saga, &start.family),
            (&self.engine.limits, self.engine.shards),
            self.engine.now(),
        ) {
            Ok(seat) => seat,
            Err(problem) => {
                accepted.refuse(problem);
                return Ok(());
            }
        };
        let stored = seat.stored().clone();
        let alive = Some(Box::new(Alive { parent: start.parent.clone(), seat }));
        let driver = Driver::new((*saga).clone(), definition.clone());
        let life = self.wake(me, &saga, driver, stored, state).await?;
        let told = started(&saga, &start.definition, true);
        let (owner, refused) = (me.clone(), saga.clone());
        let reply = Reply::new(move |answer| match answer {
            Ok(_) => accepted.ok(&told),
            Err(problem) => {
                // "Unavailable" leaves open whether it is in the journal; a refusal does not.
                if problem.code != Code::Unavailable {
                    owner.tell(Message::Discard(refused));
                }
                accepted.refuse(problem);
            }
        });
        let slot = Slot { definition, start_digest: digest, revision: 0, failures: None, alive, broken: None, life };
        state.slots.insert(saga.clone(), slot);
        if let Some(outcome) = outcome {
            state.waiters.entry(saga.clone()).or_default().push((Shown::Outcome, outcome));
        }
        self.tell(me, saga, Told::Fact(FactKind::Started(start), reply), state).await
    }

    /// A parent starts its child, and there is a saga under the child's key: the child itself, because
    /// the parent asks again, or somebody else.
    async fn begin_again(
        &self,
        me: &Me<Message>,
        saga: Arc<SagaId>,
        parent: Parent,
        accepted: Reply,
        state: &mut State,
    ) -> Result<(), Fault> {
        let Some(slot) = state.slots.get(&saga) else { return Ok(()) };
        if matches!(slot.life, Life::Ended(_)) {
            // It did not hear: it is told once more.
            self.tell_parent(&saga, parent, accepted, state);
            return Ok(());
        }
        let own = slot.alive.as_ref().and_then(|alive| alive.parent.as_ref()) == Some(&parent);
        #[cfg(feature = "simulation")]
        let own = own || crate::simulation::planted(crate::simulation::Bug::Adopt);
        if !own {
            accepted.refuse(taken(&saga, &parent));
            return Ok(());
        }
        let told = started(&saga, slot.definition.reference(), false);
        if slot.is_durable() {
            accepted.ok(&told);
            return Ok(());
        }
        self.once_durable(me, saga, told, accepted, state).await
    }

    /// Whether this cancels a child that is not there. Its start may still be under way from a former owner
    /// of its parent.
    pub(super) fn is_unborn(saga: &SagaId, fact: &FactKind, state: &State) -> bool {
        matches!(fact, FactKind::CancelRequested { parent: Some(_), .. })
            && saga.key.is_a_childs()
            && !state.slots.contains_key(saga)
    }

    /// Ends a child before it is born, so that a start of it which comes later finds it ended.
    pub(super) fn give_up(&self, me: &Me<Message>, saga: SagaId, cancel: FactKind, reply: Reply, state: &mut State) {
        if let Some(problem) = self.closed(Right::Internal, state) {
            return reply.refuse(problem);
        }
        let definition = Arc::new(unknown_definition(&self.engine));
        let mut driver = Driver::new(saga.clone(), definition.clone());
        let record = driver.give_up(self.engine.now(), cancel);
        let saga = Arc::new(saga);
        let life = Life::Loading { position: 0, queue: VecDeque::new() };
        let slot = Slot { definition, start_digest: 0, revision: 0, failures: None, alive: None, broken: None, life };
        state.slots.insert(saga.clone(), slot);
        let (tell, told) = tokio::sync::oneshot::channel();
        let batch = Batch { records: vec![codec::store(&record)], outbox: Vec::new() };
        state.journal.tell(journal::Message::Append(batch, journal::Ticket::Once(tell)));
        let me = me.clone();
        tokio::spawn(async move {
            // Without an answer the journal ended, and the shard with it.
            if let Ok(position) = told.await {
                driver.confirm(position);
                reply.ok(&serde_json::json!({}));
                me.tell(Message::Loaded { saga, driver: Ok(Box::new(driver)), park: None });
            }
        });
    }

    /// Answers a start that is repeated while the first one is still on its way to the journal. A
    /// description waits for that.
    async fn once_durable(
        &self,
        me: &Me<Message>,
        saga: Arc<SagaId>,
        told: Started,
        accepted: Reply,
        state: &mut State,
    ) -> Result<(), Fault> {
        let reply = Reply::new(move |answer| match answer {
            Ok(view) if view["records"].as_u64().is_some_and(|records| records > 0) => accepted.ok(&told),
            Ok(_) => accepted.refuse(moved()),
            Err(problem) => accepted.refuse(problem),
        });
        self.tell(me, saga, Told::Describe(reply), state).await
    }

    /// Why nothing new that needs `right` is taken now, if so.
    fn closed(&self, right: Right, state: &State) -> Option<Problem> {
        if state.draining {
            return Some(moved());
        }
        if let Some((why, since)) = &state.trouble
            && self.engine.now().since(*since) > self.engine.limits.trouble_max
        {
            let message = format!("shard {} cannot write its journal: {why}", self.shard);
            return Some(
                Problem::new(Code::Unavailable, message)
                    .mend("see to the NATS server (its disk, its connection); nothing accepted is lost")
                    .retry_after_ms(1_000),
            );
        }
        let backlog = state.meters.backlog.load(Relaxed);
        if backlog >= self.engine.limits.writer.queue_max as u64 {
            let message = format!("shard {} is full: its journal is slower than what comes in", self.shard);
            return Some(Problem::new(Code::Busy, message).retry_after_ms(500));
        }
        let sends = match right {
            Right::Signal | Right::Cancel => true,
            Right::View | Right::Internal => false,
        };
        if sends && state.meters.unsent.load(Relaxed) >= self.engine.limits.unsent_max {
            let message = format!("shard {} is full: its events and parcels cannot be sent", self.shard);
            return Some(
                Problem::new(Code::Busy, message)
                    .mend("see to the event stream and to the other shards' owners")
                    .retry_after_ms(1_000),
            );
        }
        None
    }

    /// The saga's key in the index if it exists and the principal may; else the reply is used up.
    pub(super) fn allowed(
        &self,
        saga: SagaId,
        by: &Principal,
        right: Right,
        reply: Reply,
        state: &State,
    ) -> Option<(Arc<SagaId>, Reply)> {
        if let Some(problem) = self.closed(right, state) {
            reply.refuse(problem);
            return None;
        }
        let Some((saga, slot)) = state.slots.get_key_value(&saga) else {
            self.not_here(saga, reply);
            return None;
        };
        let access = &slot.definition.header().access;
        let may = match right {
            Right::View => Access::allows(&access.view, by.as_str()),
            Right::Signal => Access::allows(&access.signal, by.as_str()),
            Right::Cancel => Access::allows(&access.cancel, by.as_str()),
            Right::Internal => true,
        };
        if !may {
            let right = format!("{right:?}").to_lowercase();
            let what = format!("{by} may not {right} sagas of {}", slot.definition.reference().name);
            reply.refuse(Problem::new(Code::Forbidden, what).mend("ask whom its `access` names"));
            return None;
        }
        Some((saga.clone(), reply))
    }

    /// Says that there is no such saga, if the shard is still this node's.
    pub(super) fn not_here(&self, saga: SagaId, reply: Reply) {
        let (engine, shard, epoch) = (self.engine.clone(), self.shard, self.epoch);
        tokio::spawn(async move {
            if !engine.is_current(shard, epoch).await {
                return reply.refuse(moved());
            }
            let problem = Problem::new(Code::NotFound, format!("there is no saga {saga}"));
            reply.refuse(problem.mend("`skald list` shows what exists; ended sagas are forgotten after a while"));
        });
    }
}

/// A parent's step hears this as [`KEY_TAKEN`](crate::machine::family::KEY_TAKEN).
pub(super) fn taken(saga: &SagaId, (parent, step): &Parent) -> Problem {
    Problem::new(Code::Conflict, format!("{saga} is there already, and is not the child of step {step} of {parent}"))
}

pub(super) fn started(saga: &SagaId, definition: &protocol::DefinitionRef, created: bool) -> Started {
    Started { saga: saga.to_string(), key: saga.key.clone(), created, definition: definition.to_string() }
}
