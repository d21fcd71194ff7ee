//! Per saga: nothing acknowledged is lost, and every saga ends or says why it is stuck.

use std::collections::{BTreeMap, BTreeSet};

use protocol::SagaId;
use protocol::SagaKey;
use protocol::view::Status;
use supervisor::machine::expression::DATA_LIMIT_EXCEEDED;
use supervisor::machine::family::KEY_TAKEN;
use supervisor::machine::{Awaited, Change, FactKind};

use super::invariant::{CHILD, ENDS, KEPT};
use super::{Command, History, Told, Verdict};

pub(super) fn check(history: &History, all: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    for command in &history.acknowledged {
        let saga = all.get(&command.saga);
        let wrong = match (saga, &command.what) {
            (None, _) => Some("it was accepted and is not in the journal".to_owned()),
            (Some(_), Command::Start) => None,
            (Some(saga), Command::Signal(id)) => {
                let seen = |change: &Change| matches!(change, Change::SignalSeen { id: seen } if seen == id);
                let kept = saga.records.iter().any(|(_, record)| record.changes.iter().any(seen));
                (!kept).then(|| format!("its signal {id} was accepted and is not in the journal"))
            }
            (Some(saga), Command::Cancel) => {
                let kept = |kind: &FactKind| matches!(kind, FactKind::CancelRequested { .. });
                let kept = saga.records.iter().any(|(_, record)| kept(&record.fact.kind));
                (!kept).then(|| "its cancel was accepted and is not in the journal".to_owned())
            }
        };
        verdict.look(KEPT, &command.saga, wrong);
    }
    let parents_of_stuck: BTreeSet<SagaId> =
        all.iter().filter(|(_, told)| told.status == Some(Status::Stuck)).filter_map(parent).collect();
    for (saga, told) in all {
        let wrong = match told.status {
            Some(Status::Stuck) if told.why.is_empty() => Some("it is stuck without a reason".to_owned()),
            Some(Status::Stuck) => {
                verdict.stuck.push((saga.clone(), told.why.clone()));
                None
            }
            Some(status) if status.is_final() => None,
            Some(_) if parents_of_stuck.contains(saga) => {
                verdict.stuck.push((saga.clone(), "waits for its child, which is stuck".into()));
                None
            }
            Some(status) => Some(format!("it is {} at the end of the run: {}", status.word(), told.why)),
            // Its chain is broken, which is said elsewhere.
            None => None,
        };
        verdict.look(ENDS, saga, wrong);
        children(saga, told, all, &history.turned_back, verdict);
    }
}

/// The saga that started this one.
fn parent((saga, told): (&SagaId, &Told)) -> Option<SagaId> {
    let FactKind::Started(start) = &told.records.first()?.1.fact.kind else { return None };
    Some(SagaId::new(saga.tenant.clone(), start.parent.as_ref()?.0.clone()))
}

/// The parent and step that a saga says it is the child of.
fn born_of(told: &Told) -> Option<(&SagaKey, u64)> {
    let FactKind::Started(start) = &told.records.first()?.1.fact.kind else { return None };
    start.parent.as_ref().map(|(parent, step)| (parent, *step))
}

/// Whoever waits for a child hears how that child ended, not how another did.
fn children(
    saga: &SagaId,
    told: &Told,
    all: &BTreeMap<SagaId, Told>,
    turned_back: &BTreeSet<SagaId>,
    verdict: &mut Verdict,
) {
    let (mut steps, mut awaited): (BTreeMap<u64, u64>, BTreeMap<u64, &SagaKey>) = Default::default();
    for (_, record) in &told.records {
        if let FactKind::ChildEnded { step, outcome, .. } = &record.fact.kind
            && let Some(key) = awaited.get(step)
        {
            let child = SagaId::new(saga.tenant.clone(), (*key).clone());
            let really = all.get(&child).and_then(|child| child.status);
            let own = all.get(&child).is_some_and(|child| born_of(child) == Some((&saga.key, *step)));
            let refused = match outcome.error.as_deref() {
                Some(KEY_TAKEN) => !own,
                Some(DATA_LIMIT_EXCEEDED) => turned_back.contains(&child),
                Some(_) | None => false,
            };
            let wrong = match (own, refused) {
                (true, _) if really == Some(outcome.status) => None,
                // Whoever has the key goes on, and what the bus does not carry is told by name.
                (_, true) => None,
                (true | false, false) => Some(format!(
                    "it heard that {child} is {} ({}), which is {:?} and {} its child",
                    outcome.status.word(),
                    outcome.error.as_deref().unwrap_or("no error"),
                    really.map(Status::word),
                    if own { "is" } else { "is not" },
                )),
            };
            verdict.look(CHILD, saga, wrong);
        }
        if let FactKind::CancelRequested { parent: Some((parent, step)), .. } = &record.fact.kind
            && !record.is_burial()
        {
            let obeys = born_of(told).is_some_and(|own| (own.0, Some(own.1)) == (parent, *step));
            let wrong = (!obeys).then(|| format!("it obeys step {step:?} of {parent}, which is not its parent"));
            verdict.look(CHILD, saga, wrong);
        }
        for change in &record.changes {
            if let Change::Entered { scope, step, .. } = change {
                steps.insert(*scope, *step);
            }
            if let Change::Awaits { scope, what: Awaited::Child { key, .. }, .. } = change
                && let Some(step) = steps.get(scope)
            {
                awaited.insert(*step, key);
            }
        }
    }
}
