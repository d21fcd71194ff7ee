//! What a shard shows of its sagas and of itself, without waking anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use protocol::command::List;
use protocol::query::ShardView;
use protocol::view::SagaRow;
use protocol::{Code, Principal, Problem, SagaId, Tenant};
use tracing::warn;

use super::{LIST_DEFAULT, LIST_MAX, Listed, ShardActor, Shown, State};
use crate::machine::definition::Access;
use crate::machine::{Fact, FactKind, Offer};
use crate::ports::Parcel;
use crate::tree::reply::Reply;
use crate::tree::slot::Life;
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
        let (engine, shard, saga) = (self.engine.clone(), self.shard, saga.clone());
        let (definition, position) = (slot.definition.clone(), slot.position());
        tokio::spawn(async move {
            let problem = match (load::load(&engine, shard, &saga, definition, position, bytes).await, shown) {
                (Ok(driver), Shown::View) => return reply.ok(&driver.execution().view()),
                (Ok(driver), Shown::Outcome) => return reply.ok(&driver.execution().outcome()),
                (Err(problem), Shown::View | Shown::Outcome) => problem,
            };
            // Its journal is cut: what is remembered of it has to do.
            let Some((own, pages)) = remains.filter(|_| problem.code == Code::NotFound) else {
                return reply.refuse(problem);
            };
            match (load::remembered(&engine, shard, &saga, own, pages).await, shown) {
                (Ok(remains), Shown::View) => reply.ok(&remains.execution.view()),
                (Ok(remains), Shown::Outcome) => reply.ok(&remains.outcome()),
                (Err(problem), Shown::View | Shown::Outcome) => reply.refuse(problem),
            }
        });
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
                Offer::Recorded(_) => {
                    reply.refuse(Problem::new(Code::Internal, format!("{saga} goes on after its end")))
                }
            }
        });
    }

    /// Tells a parent saga how its child ended, from the journal.
    pub(super) fn tell_parent(&self, saga: &Arc<SagaId>, parent: protocol::SagaKey, step: u64, state: &State) {
        let (reply, told) = Reply::channel();
        self.describe_stored(saga, Shown::Outcome, reply, state);
        let (engine, home) = (self.engine.clone(), SagaId::new(saga.tenant.clone(), parent));
        let child = Some(saga.key.clone());
        tokio::spawn(async move {
            let outcome = told.await.ok().and_then(Result::ok).and_then(|outcome| serde_json::from_value(outcome).ok());
            let Some(outcome) = outcome else { return };
            if let Err(error) = engine.peers.deliver(&home, &Parcel::ChildEnded { step, child, outcome }).await {
                warn!(parent = %home, %error, "a child's end was not delivered; the parent asks again when it wakes");
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
        let limit = list.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
        let mut rows: Vec<SagaRow> = Vec::new();
        for (saga, slot) in &state.slots {
            if saga.tenant != tenant {
                continue;
            }
            if by.as_ref().is_some_and(|by| !Access::allows(&slot.definition.header().access.view, by.as_str())) {
                continue;
            }
            let reference = slot.definition.reference();
            if list.definition.as_deref().is_some_and(|wanted| *wanted != *reference.name) {
                continue;
            }
            let seen = slot.seen();
            if list.status.as_deref().is_some_and(|wanted| wanted != seen.status.word()) {
                continue;
            }
            rows.push(SagaRow {
                saga: saga.to_string(),
                definition: reference.to_string(),
                status: seen.status,
                state: seen.state,
                changed_at: seen.changed_at,
                node: self.engine.node.to_string(),
            });
        }
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
            relayed: state.relayed.load(Relaxed),
            awake: state.awake,
            asleep: state.asleep,
            frames: state.meters.frames.load(Relaxed),
            records: state.meters.records.load(Relaxed),
        }
    }
}
