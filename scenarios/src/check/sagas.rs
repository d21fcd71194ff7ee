//! Per saga: nothing acknowledged is lost, and every saga ends or says why it is stuck.

use std::collections::BTreeMap;

use protocol::SagaId;
use protocol::view::Status;
use supervisor::machine::{Change, FactKind};

use super::invariant::{ENDS, KEPT};
use super::{Command, History, Told, Verdict};

pub(super) fn check(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    for command in &history.acknowledged {
        let saga = told.get(&command.saga);
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
    for (saga, told) in told {
        let wrong = match told.status {
            Some(Status::Stuck) if told.why.is_empty() => Some("it is stuck without a reason".to_owned()),
            Some(Status::Stuck) => {
                verdict.stuck.push((saga.clone(), told.why.clone()));
                None
            }
            Some(status) if status.is_final() => None,
            Some(status) => Some(format!("it is {} at the end of the run: {}", status.word(), told.why)),
            // Its chain is broken, which is said elsewhere.
            None => None,
        };
        verdict.look(ENDS, saga, wrong);
    }
}
