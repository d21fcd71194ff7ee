//! Per effect: nothing acts before it is in the journal, nothing acts twice.

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::SagaId;

use super::invariant::{JOURNAL_FIRST, ONE_EFFECT, ONE_KEY};
use super::{Attempted, Direction, History, Phase, Told, Verdict};

pub(super) fn check(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    let mut keys: HashMap<(&SagaId, &str), &str> = HashMap::new();
    let mut owners: HashMap<&str, (&SagaId, &str)> = HashMap::new();
    let mut acted: HashSet<(&str, Direction)> = HashSet::new();
    for entry in &history.ledger {
        let attempted = Attempted { key: entry.key.clone(), attempt: entry.attempt, direction: entry.direction };
        let known = told.get(&entry.saga).is_some_and(|told| told.attempted.contains(&attempted));
        let wrong = (!known).then(|| {
            format!(
                "{:?} {} #{} ran on {} and is not in the journal",
                entry.direction, entry.key, entry.attempt, entry.node
            )
        });
        verdict.look(JOURNAL_FIRST, &entry.saga, wrong);

        let step = (&entry.saga, entry.path.as_str());
        let key = *keys.entry(step).or_insert(&entry.key);
        let owner = *owners.entry(&entry.key).or_insert(step);
        let wrong = if key != entry.key {
            Some(format!("step {} ran under {key} and under {}", entry.path, entry.key))
        } else {
            (owner != step).then(|| format!("key {key} is of {} {} and of {} {}", owner.0, owner.1, step.0, step.1))
        };
        verdict.look(ONE_KEY, &entry.saga, wrong);

        if entry.phase == Phase::Acted {
            let wrong = (!acted.insert((&entry.key, entry.direction)))
                .then(|| format!("{:?} {} acted twice", entry.direction, entry.key));
            verdict.look(ONE_EFFECT, &entry.saga, wrong);
        }
    }
}
