//! What a shard shows of its sagas and of itself, without waking anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use protocol::command::List;
use protocol::query::ShardView;
use protocol::view::{SagaRow, SagaView, Waiting};
use protocol::{Code, Principal, Problem, SagaId, Tenant, Time, TraceId};
use tracing::warn;

use super::{LIST_DEFAULT, LIST_MAX, ShardActor, Shown, State};
use crate::machine::definition::Access;
use crate::machine::{Fact, FactKind, Offer};
use crate::ports::Parcel;
use crate::tree::load;
use crate::tree::reply::Reply;
use crate::tree::slot::{Life, Slot};

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

    /// A saga whose state cannot be rebuilt, as far as it is known.
    pub(super) fn broken_view(&self, saga: &SagaId, slot: &Slot) -> SagaView {
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
            outcome: None,
            shard: self.shard.0,
            node: self.engine.node.to_string(),
            awake: false,
        }
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
            Life::Ended(ended) => (None, Some((ended.remains.clone(), state.sweeper.pages_at(ended.position)))),
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
                // An end leaves nothing to evaluate.
                Offer::Recorded(_) | Offer::Unfinished(_) => {
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

    pub(super) fn list(&self, tenant: &Tenant, by: Option<&Principal>, list: &List, state: &State) -> Vec<SagaRow> {
        let limit = list.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
        let mut found: Vec<(Time, &Arc<SagaId>, &Slot)> = Vec::new();
        for (saga, slot) in &state.slots {
            if saga.tenant != *tenant {
                continue;
            }
            if by.is_some_and(|by| !Access::allows(&slot.definition.header().access.view, by.as_str())) {
                continue;
            }
            let reference = slot.definition.reference();
            if list.definition.as_deref().is_some_and(|wanted| *wanted != *reference.name) {
                continue;
            }
            let (status, changed_at) = slot.stands();
            if list.status.as_deref().is_some_and(|wanted| wanted != status.word()) {
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
        found.into_iter().map(row).collect()
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
