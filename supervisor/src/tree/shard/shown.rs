//! What a shard shows of its sagas and of itself, without waking anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use protocol::command::List;
use protocol::query::ShardView;
use protocol::view::{Outcome, SagaRow};
use protocol::{Code, Principal, Problem, SagaId, Tenant, Time};

use super::door::{started, taken};
use super::{Listed, ShardActor, Shown, State};
use crate::machine::definition::Access;
use crate::machine::{Execution, Fact, FactKind, Offer, Parent};
use crate::ports::Parcel;
use crate::tree::reply::Reply;
use crate::tree::slot::{Life, Slot};
use crate::tree::{load, pages};

impl ShardActor {
    pub(super) fn located(&self, awake: bool, reply: Reply) -> Reply {
        let (shard, node) = (self.shard.0, self.engine.node.to_string());
        Reply::new(move |answer| {
            reply.send(answer.map(|mut view| {
                if let Some(view) = view.as_object_mut() {
                    view.insert("shard".into(), shard.into());
                    view.insert("node".into(), node.into());
                    view.insert("awake".into(), awake.into());
                }
                view
            }));
        })
    }

    /// Describes a saga that has no actor, without waking it.
    pub(super) fn describe_stored(&self, saga: &Arc<SagaId>, shown: Shown, reply: Reply, state: &State) {
        let Some(slot) = state.slots.get(saga) else { return };
        let reply = match shown {
            Shown::View => self.located(false, reply),
            Shown::Outcome => reply,
        };
        let (bytes, remains) = match &slot.life {
            Life::Asleep(asleep) => (asleep.bytes.clone(), None),
            Life::Ended(ended) => (None, Some((ended.remains.clone(), state.sweeper.pages.of(saga)))),
            Life::Awake { .. } | Life::Loading { .. } => (None, None),
        };
        let stored = self.stored(saga, slot, bytes, remains);
        tokio::spawn(async move {
            match (stored.await, shown) {
                (Ok((execution, _)), Shown::View) => reply.ok(&execution.view()),
                (Ok((_, outcome)), Shown::Outcome) => reply.ok(&outcome),
                (Err(problem), Shown::View | Shown::Outcome) => reply.refuse(problem),
            }
        });
    }

    /// A saga that has no actor, and how it ended, from the journal, or else from what is remembered.
    fn stored(
        &self,
        saga: &Arc<SagaId>,
        slot: &Slot,
        bytes: Option<Bytes>,
        remains: Option<(Option<Bytes>, Vec<Arc<str>>)>,
    ) -> impl Future<Output = Result<(Execution, Option<Outcome>), Problem>> + Send + 'static {
        let (engine, shard, saga) = (self.engine.clone(), self.shard, saga.clone());
        let (definition, position) = (slot.definition.clone(), slot.position());
        async move {
            let problem = match load::load(&engine, shard, &saga, definition, position, bytes).await {
                Ok(driver) => {
                    let execution = driver.execution().clone();
                    let outcome = execution.outcome().cloned();
                    return Ok((execution, outcome));
                }
                Err(problem) => problem,
            };
            // Its journal is cut: what is remembered of it has to do.
            let Some((own, pages)) = remains.filter(|_| problem.code == Code::NotFound) else { return Err(problem) };
            let remains = load::remembered(&engine, shard, &saga, own, pages).await?;
            let outcome = remains.outcome();
            Ok((remains.execution, outcome))
        }
    }

    /// A signal for a saga that has ended is an echo, if its id came before, or else too late. Only the
    /// saga's own state knows which; deciding leaves no record, because an end is the end.
    pub(super) fn signal_after_the_end(&self, saga: &Arc<SagaId>, signal: FactKind, reply: Reply, state: &State) {
        let Some(slot) = state.slots.get(saga) else { return };
        let (engine, shard, saga) = (self.engine.clone(), self.shard, saga.clone());
        let (definition, position) = (slot.definition.clone(), slot.position());
        tokio::spawn(async move {
            let mut driver = match load::load(&engine, shard, &saga, definition, position, None).await {
                Ok(driver) => driver,
                Err(problem) => return reply.refuse(problem),
            };
            let fact = Fact { at: engine.now(), seed: engine.seeds.next(), kind: signal };
            match driver.offer(fact) {
                Offer::Ignored(why) => reply.ok(&serde_json::json!({ "ignored": why })),
                Offer::Refused(problem) => reply.refuse(problem),
                // An end leaves nothing to evaluate.
                Offer::Recorded(_) | Offer::Unfinished(_) => {
                    reply.refuse(Problem::new(Code::Internal, format!("{saga} goes on after its end")))
                }
            }
        });
    }

    /// Tells a parent saga how its child ended, if the saga under the child's key is that child. The
    /// start that asked for it is accepted only once the parent knows: it is asked again otherwise.
    pub(super) fn tell_parent(&self, saga: &Arc<SagaId>, parent: Parent, accepted: Reply, state: &State) {
        let Some(slot) = state.slots.get(saga) else { return };
        let Life::Ended(ended) = &slot.life else { return };
        let remains = (ended.remains.clone(), state.sweeper.pages.of(saga));
        let stored = self.stored(saga, slot, None, Some(remains));
        let (engine, saga, told) =
            (self.engine.clone(), saga.clone(), started(saga, slot.definition.reference(), false));
        tokio::spawn(async move {
            let (execution, outcome) = match stored.await {
                Ok(stored) => stored,
                Err(problem) => return accepted.refuse(problem),
            };
            let own = execution.is_child_of(&parent.0, Some(parent.1));
            #[cfg(feature = "simulation")]
            let own = own || crate::simulation::planted(crate::simulation::Bug::Adopt);
            let Some(outcome) = outcome.filter(|_| own) else { return accepted.refuse(taken(&saga, &parent)) };
            let home = SagaId::new(saga.tenant.clone(), parent.0);
            let (child, outcome) = (Some(saga.key.clone()), Box::new(outcome));
            match engine.peers.deliver(&home, &Parcel::ChildEnded { step: parent.1, child, outcome }).await {
                Ok(()) => accepted.ok(&told),
                Err(error) => accepted.refuse(Problem::new(Code::Unavailable, error.to_string())),
            }
        });
    }

    pub(super) fn history(&self, saga: &Arc<SagaId>, reply: Reply, state: &State) {
        let Some(slot) = state.slots.get(saga) else { return };
        let (engine, shard, saga, position) = (self.engine.clone(), self.shard, saga.clone(), slot.position());
        tokio::spawn(async move {
            match load::chain(&engine, shard, &saga, position, 0).await {
                Ok(chain) => {
                    let cut = chain.first().is_none_or(|(_, record)| record.number > 1);
                    let entries = chain.iter().map(|(at, record)| crate::machine::describe(record, *at)).collect();
                    reply.ok(&protocol::view::History { saga: (*saga).clone(), entries, cut });
                }
                Err(problem) => reply.refuse(problem),
            }
        });
    }

    /// Lists what is here at once, and what is in pages in a task of its own.
    pub(super) fn list(
        &self,
        tenant: Tenant,
        by: Option<Principal>,
        list: List,
        tell: tokio::sync::oneshot::Sender<Listed>,
        state: &State,
    ) {
        // Whoever asks for too many was told so at the door.
        let Ok(limit) = list.rows() else { return };
        let mut found: Vec<(Time, &Arc<SagaId>, &Slot)> = Vec::new();
        for (saga, slot) in state.slots.of(&tenant) {
            if by.as_ref().is_some_and(|by| !Access::allows(&slot.definition.header().access.view, by.as_str())) {
                continue;
            }
            let reference = slot.definition.reference();
            if list.definition.as_deref().is_some_and(|wanted| *wanted != *reference.name) {
                continue;
            }
            let (status, changed_at) = slot.stands();
            if list.status.is_some_and(|wanted| wanted != status) {
                continue;
            }
            found.push((changed_at, saga, slot));
        }
        // Only what is shown is sorted and written out: the shard does nothing else meanwhile.
        let later =
            |a: &(Time, &Arc<SagaId>, &Slot), b: &(Time, &Arc<SagaId>, &Slot)| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1));
        if found.len() > limit && limit > 0 {
            found.select_nth_unstable_by(limit - 1, later);
        }
        found.truncate(limit);
        found.sort_unstable_by(later);
        let row = |(_, saga, slot): (Time, &Arc<SagaId>, &Slot)| {
            let seen = slot.seen();
            SagaRow {
                saga: saga.to_string(),
                definition: slot.definition.reference().to_string(),
                status: seen.status,
                state: seen.state,
                changed_at: seen.changed_at,
                node: self.engine.node.to_string(),
            }
        };
        let rows: Vec<SagaRow> = found.into_iter().map(row).collect();
        let pages = state.sweeper.pages.to_show(&tenant, &list);
        let (engine, shard) = (self.engine.clone(), self.shard);
        tokio::spawn(async move {
            let (rows, missing) =
                pages::rows(&engine, shard, pages, (&tenant, by.as_ref(), &list), (rows, limit)).await;
            // Whoever asked may be gone.
            let _ = tell.send(Listed { rows, missing });
        });
    }

    pub(super) fn view(&self, state: &State) -> ShardView {
        ShardView {
            shard: self.shard.0,
            state: match (&state.trouble, state.draining) {
                (_, true) => "handing over".into(),
                (Some((trouble, _)), false) => format!("owned, but the journal is in trouble: {trouble}"),
                (None, false) => "owned".into(),
            },
            epoch: self.epoch.0,
            position: state.meters.position.load(Relaxed),
            low_water: state.sweeper.mark().low_water,
            relayed: state.relayed.get().position,
            awake: state.awake,
            asleep: state.asleep,
            frames: state.meters.frames.load(Relaxed),
            records: state.meters.records.load(Relaxed),
        }
    }
}
