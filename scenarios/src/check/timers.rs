//! Per timer: it fires no earlier than it is due, and not much later.

use std::collections::BTreeMap;

use protocol::SagaId;
use supervisor::machine::FactKind;

use super::{History, Told, Verdict, invariant::TIMERS};

pub(super) fn check(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    for (saga, told) in told {
        for (_, record) in &told.records {
            let FactKind::TimerFired { timer } = record.fact.kind else { continue };
            let wrong = match told.timers.get(&timer) {
                None => Some(format!("timer {timer} fired and was never set")),
                // A clock that is set back between the alarm and the record says little.
                Some(due) if record.fact.at < *due && history.clocks_true => {
                    Some(format!("timer {timer} fired at {}, due at {due}", record.fact.at))
                }
                Some(due) => {
                    let late = record.fact.at.since(*due);
                    let bound = history.lateness_max.filter(|bound| late > *bound);
                    bound.map(|bound| format!("timer {timer} fired {late:?} late, more than {bound:?}"))
                }
            };
            verdict.look(TIMERS, saga, wrong);
        }
    }
}
