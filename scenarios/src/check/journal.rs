//! The journal, read as a takeover would read it, but by nobody's snapshot: from the first record of
//! every saga to its last.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use protocol::activity::KEY_MAX_BYTES;
use protocol::text::identity;
use protocol::view::Status;
use protocol::{Envelope, SagaId, Time};
use supervisor::journal::frame::Frame;
use supervisor::machine::{Change, Driver, Effect, FactKind, Record};
use supervisor::ports::Position;

use super::{Direction, History, Verdict, invariant::CHAIN};

/// An attempt that the journal let begin.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attempted {
    /// The idempotency key.
    pub key: String,
    /// Which attempt.
    pub attempt: u32,
    /// Which way.
    pub direction: Direction,
}

/// What the journal tells of one saga.
#[derive(Default)]
pub struct Told {
    /// Every record, with the position of its frame.
    pub records: Vec<(Position, Record)>,
    /// Attempts in the order in which they were let begin.
    pub attempted: BTreeSet<Attempted>,
    /// Keys of steps that say how they are undone and were let begin, in that order.
    pub pushed: Vec<String>,
    /// Keys that count as undone; `true` when an operator said so.
    pub undone: BTreeMap<String, bool>,
    /// Keys whose undo was under way when an operator abandoned the saga: how far it came is what
    /// the operator took upon themselves.
    pub given_up: BTreeSet<String>,
    /// Events to be published, in order.
    pub events: Vec<Envelope>,
    /// The frame of each.
    pub positions: Vec<Position>,
    /// When each timer is due.
    pub timers: HashMap<u64, Time>,
    /// Where it stands at the end.
    pub status: Option<Status>,
    /// Why it is stuck, if it is.
    pub why: String,
}

pub(super) fn read(history: &History, verdict: &mut Verdict) -> BTreeMap<SagaId, Told> {
    let mut told: BTreeMap<SagaId, Told> = BTreeMap::new();
    for (shard, frames) in &history.journal {
        for (position, bytes) in frames {
            let records = Frame::read(bytes).and_then(|frame| frame.decode());
            let records = match records {
                Ok(records) => records,
                Err(error) => {
                    verdict.look(CHAIN, shard, Some(format!("frame {position} cannot be read: {error}")));
                    continue;
                }
            };
            for record in records {
                told.entry(record.saga.clone()).or_default().records.push((*position, record));
            }
        }
    }
    for (saga, told) in &mut told {
        let wrong = chain(saga, told, history);
        verdict.look(CHAIN, saga, wrong);
    }
    told
}

/// Folds a saga's records one by one and gathers what they tell. Answers what is wrong with the
/// chain.
fn chain(saga: &SagaId, told: &mut Told, history: &History) -> Option<String> {
    let Some((_, first)) = told.records.first() else { return Some("it has no record".into()) };
    if first.is_burial() && told.records.len() == 1 {
        // Its parent gave it up before it was born.
        told.status = Some(Status::Cancelled);
        return None;
    }
    let FactKind::Started(start) = &first.fact.kind else {
        return Some(format!("its first record is number {} and no start", first.number));
    };
    let Some(definition) = history.definitions.get(&start.definition) else {
        return Some(format!("its definition {} is unknown", start.definition));
    };
    let mut driver = Driver::new(saga.clone(), definition.clone());
    let (mut here, mut before) = (0, 0);
    let (mut steps, mut undos, mut under_way) = (HashMap::new(), HashMap::new(), BTreeSet::new());
    for (position, record) in told.records.clone() {
        if position != here {
            (before, here) = (here, position);
        }
        // Records of one batch share their frame and so what came before it.
        if record.previous != before {
            return Some(format!(
                "record {} says that {} came before it, not {before}",
                record.number, record.previous
            ));
        }
        let effects = match driver.replay(&record, position) {
            Ok(effects) => effects,
            Err(error) => return Some(error.to_string()),
        };
        told.events.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Publish(event) => Some(*event),
            Effect::StartActivity(_)
            | Effect::StopActivity(_)
            | Effect::SetTimer { .. }
            | Effect::ClearTimer { .. }
            | Effect::Continue
            | Effect::StartChild { .. }
            | Effect::CancelChild { .. }
            | Effect::Ended { .. } => None,
        }));
        told.positions.resize(told.events.len(), position);
        for wanted in driver.resume() {
            match wanted {
                Effect::StartActivity(call) => {
                    let direction = if call.undo { Direction::Undo } else { Direction::Run };
                    told.attempted.insert(Attempted { key: call.key, attempt: call.attempt.attempt, direction });
                }
                Effect::SetTimer { timer, at } => {
                    told.timers.insert(timer, at);
                }
                Effect::StopActivity(_)
                | Effect::ClearTimer { .. }
                | Effect::Continue
                | Effect::Publish(_)
                | Effect::StartChild { .. }
                | Effect::CancelChild { .. }
                | Effect::Ended { .. } => {}
            }
        }
        gather(saga, &record, &mut steps, (&mut undos, &mut under_way), told);
    }
    let execution = driver.execution();
    told.status = Some(execution.status());
    told.why = execution.waiting().iter().map(|waiting| waiting.what.clone()).collect::<Vec<_>>().join("; ");
    None
}

/// Gathers what is pushed and undone. A step's key is told anew from its saga, path and number: it
/// must be the same whoever folds.
fn gather(
    saga: &SagaId,
    record: &Record,
    steps: &mut HashMap<u64, u64>,
    (undos, under_way): (&mut HashMap<u64, String>, &mut BTreeSet<String>),
    told: &mut Told,
) {
    for change in &record.changes {
        if let Change::Entered { scope, step, .. } = change {
            steps.insert(*scope, *step);
        }
        if let Change::Pushed { scope, state, undo, .. } = change {
            let key = format!("{saga}/{state}.{}", steps.get(scope).copied().unwrap_or(0));
            let key = identity(&key, KEY_MAX_BYTES).into_owned();
            undos.insert(*undo, key.clone());
            told.pushed.push(key);
        }
        if let Change::Undone { undo, skipped, .. } = change
            && let Some(key) = undos.get(undo)
        {
            told.undone.insert(key.clone(), skipped.is_some());
        }
        if let Change::UndoStarted { undo, .. } = change {
            under_way.extend(undos.get(undo).cloned());
        }
        if let Change::UndoRetrying { undo, .. } | Change::UndoStuck { undo, .. } | Change::Undone { undo, .. } = change
            && let Some(key) = undos.get(undo)
        {
            under_way.remove(key);
        }
        if let Change::Finished { status: Status::Abandoned, .. } = change {
            told.given_up = std::mem::take(under_way);
        }
    }
}
