//! Per saga: a saga that ended badly has undone every step that may have acted, each once, the last
//! first, and none that did not.

use std::collections::{BTreeMap, HashMap};

use protocol::view::Status;
use protocol::{SagaId, Time};

use super::invariant::{REVERSE, UNDONE};
use super::{Direction, Entry, History, Phase, Told, Verdict};

/// What the ledger tells of one step.
#[derive(Default)]
struct Step<'a> {
    path: &'a str,
    began: Option<Time>,
    acted: bool,
    undo_began: Option<Time>,
    undone: Option<Time>,
}

pub(super) fn check(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    let mut sagas: BTreeMap<&SagaId, HashMap<&str, Step<'_>>> = BTreeMap::new();
    for entry in &history.ledger {
        let step = sagas.entry(&entry.saga).or_default().entry(&entry.key).or_default();
        note(step, entry);
    }
    let nothing = HashMap::new();
    for (saga, told) in told {
        let steps = sagas.get(saga).unwrap_or(&nothing);
        undone(saga, told, steps, verdict);
        reverse(saga, told, steps, verdict);
    }
}

fn note<'a>(step: &mut Step<'a>, entry: &'a Entry) {
    step.path = &entry.path;
    match (entry.direction, entry.phase) {
        (Direction::Run, Phase::Began) => drop(step.began.get_or_insert(entry.at)),
        (Direction::Run, Phase::Acted) => step.acted = true,
        (Direction::Undo, Phase::Began) => drop(step.undo_began.get_or_insert(entry.at)),
        (Direction::Undo, Phase::Acted) => drop(step.undone.get_or_insert(entry.at)),
    }
}

fn undone(saga: &SagaId, told: &Told, steps: &HashMap<&str, Step<'_>>, verdict: &mut Verdict) {
    for (key, skipped) in &told.undone {
        let really = steps.get(key.as_str()).is_some_and(|step| step.undone.is_some());
        let wrong = if told.pushed.contains(key) {
            (!really && !skipped).then(|| format!("the journal says that {key} is undone, the ledger does not"))
        } else {
            Some(format!("{key} was undone and never may have acted"))
        };
        verdict.look(UNDONE, saga, wrong);
    }
    for (key, step) in steps {
        let said = told.undone.contains_key(*key) || told.given_up.contains(*key);
        let stray = step.undone.is_some() && !said && told.status.is_some_and(Status::is_final);
        verdict.look(UNDONE, saga, stray.then(|| format!("{key} was undone and the journal does not say so")));
    }
    let badly = matches!(told.status, Some(Status::Failed | Status::Cancelled));
    for key in told.pushed.iter().filter(|_| badly) {
        let wrong = (!told.undone.contains_key(key)).then(|| format!("{key} may have acted and is not undone"));
        verdict.look(UNDONE, saga, wrong);
    }
}

fn reverse(saga: &SagaId, told: &Told, steps: &HashMap<&str, Step<'_>>, verdict: &mut Verdict) {
    for (key, first) in steps {
        let (Some(began), Some(undo_began)) = (first.began, first.undo_began) else { continue };
        for (later_key, later) in steps {
            let (Some(later_began), Some(_)) = (later.began, later.undo_began) else { continue };
            // What an operator let count as undone stands outside the order.
            let skipped = told.undone.get(*later_key).is_some_and(|skipped| *skipped);
            // What was undone in the middle of its saga does not wait for what began after that.
            let together = began < later_began && later_began < undo_began;
            if skipped || !together || !follow_each_other(first.path, later.path) {
                continue;
            }
            let wrong = later
                .undone
                .is_none_or(|undone| undone > undo_began)
                .then(|| format!("{key} began to be undone before {later_key}, which came after it, was undone"));
            verdict.look(REVERSE, saga, wrong);
        }
    }
}

/// Whether two steps stand one after the other, and not in branches or items side by side.
fn follow_each_other(one: &str, other: &str) -> bool {
    let differ = one.split('/').zip(other.split('/')).find(|(a, b)| a != b);
    differ.is_some_and(|(a, b)| !(beside(a) && beside(b)))
}

fn beside(segment: &str) -> bool {
    segment.starts_with(['b', 'i']) && segment[1..].bytes().all(|b| b.is_ascii_digit()) && segment.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_and_items_stand_side_by_side() {
        let table = [
            ("s0", "s1", true),
            ("s0/b0/s0", "s0/b1/s0", false),
            ("s0/b0/s0", "s1", true),
            ("s0/i3/s0", "s0/i3/s1", true),
            ("s0/i3/s0", "s0/i4/s1", false),
            ("Before", "After", true),
            ("s0", "s0", false),
        ];
        for (one, other, expected) in table {
            assert_eq!(follow_each_other(one, other), expected, "{one} {other}");
        }
    }
}
