//! Four tests for every built-in definition, for free: the harness reads the definition and plays it
//! with its real activities on simulated nodes and a simulated server.
//!
//! 1. every activity is called twice under its key: the end is the same;
//! 2. every step fails, before it acted and after: what a failed saga leaves is what was there before;
//! 3. the node dies after every record: the end is the same;
//! 4. every undo is called twice under its key: what is left is the same.

mod mischief;
mod play;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Value;
use protocol::view::Status;
use supervisor::activity::Activity;
use supervisor::machine::Definition;
use supervisor::machine::definition::{Kind, Resource};

pub use mischief::{Mischief, When};
pub use play::{Played, play};

/// What a definition is played with: a world of its own for each run.
pub trait Stage: Send + Sync {
    /// The activities of a node.
    fn activities(&self) -> Vec<Arc<dyn Activity>>;
    /// What the saga is given.
    fn input(&self) -> Value;
    /// Everything that the saga changes in its world: what a failed one must leave as it was, and a
    /// good one must leave the same however it got there.
    fn traces(&self) -> BTreeMap<String, String>;
}

/// A definition and its worlds.
pub struct Subject<'a> {
    /// What is played.
    pub definition: Arc<Definition>,
    /// Makes a world.
    pub stage: &'a dyn Fn() -> Box<dyn Stage>,
}

/// How often each of the four was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    /// Runs with every activity called twice.
    pub twice: usize,
    /// Runs with a step that failed.
    pub failed: usize,
    /// Runs with a crash.
    pub crashed: usize,
    /// Runs with every undo called twice.
    pub undone_twice: usize,
}

/// Most records of one run; a crash is tried after each.
const RECORDS_MAX: i64 = 500;

/// Plays all four; answers how much was played and what is wrong.
pub fn fourfold(subject: &Subject<'_>) -> (Count, Vec<String>) {
    let (mut count, mut wrong) = (Count::default(), Vec::new());
    let good = play(subject, Mischief::default(), 0);
    if good.status != Status::Succeeded {
        wrong.push(format!("undisturbed, it ends {}: {}", good.status.word(), good.why));
        return (count, wrong);
    }
    let mut same = |what: &str, played: &Played, wanted: &Played| {
        if played.status != wanted.status {
            wrong.push(format!("{what}: it ends {} ({})", played.status.word(), played.why));
        } else if played.after != wanted.after {
            wrong.push(format!("{what}: it leaves something else: {}", difference(&wanted.after, &played.after)));
        }
    };

    count.twice = 1;
    same("every activity twice", &play(subject, Mischief { twice: true, ..Mischief::default() }, 0), &good);

    for step in steps(&subject.definition) {
        for when in [When::Before, When::After] {
            let fails = Mischief { fails: Some((step.clone(), when)), ..Mischief::default() };
            let failed = play(subject, fails.clone(), 0);
            count.failed += 1;
            let what = format!("{step} fails {} it acted", when.word());
            left_as_it_was(&what, &failed, &good, &mut same);
            count.undone_twice += 1;
            let again = play(subject, Mischief { undo_twice: true, ..fails.clone() }, 0);
            same(&format!("{what}, every undo twice"), &again, &failed);
            if when == When::After {
                count.crashed += crashes(subject, &fails, &failed, &what, &mut same);
            }
        }
    }
    count.crashed += crashes(subject, &Mischief::default(), &good, "undisturbed", &mut same);
    (count, wrong)
}

/// What a run that failed leaves is what was there before; one that went on nevertheless leaves what
/// a good one does.
fn left_as_it_was(what: &str, failed: &Played, good: &Played, same: &mut dyn FnMut(&str, &Played, &Played)) {
    let wanted = match failed.status {
        Status::Succeeded => good.clone(),
        status if status.is_final() => Played { after: failed.before.clone(), ..failed.clone() },
        _ => Played { status: Status::Failed, ..failed.clone() },
    };
    same(what, failed, &wanted);
}

/// A crash after every record, until a run ends without one.
fn crashes(
    subject: &Subject<'_>,
    mischief: &Mischief,
    wanted: &Played,
    what: &str,
    same: &mut dyn FnMut(&str, &Played, &Played),
) -> usize {
    for record in 1..=RECORDS_MAX {
        let played = play(subject, mischief.clone(), record);
        if !played.crashed {
            return usize::try_from(record - 1).unwrap_or(0);
        }
        same(&format!("{what}, crash after record {record}"), &played, wanted);
    }
    0
}

/// The names of the activities that the definition's tasks call.
fn steps(definition: &Definition) -> Vec<String> {
    let mut steps = Vec::new();
    for state in definition.states() {
        if let Kind::Task(Resource::Activity(name)) = &state.kind
            && !steps.contains(&name.to_string())
        {
            steps.push(name.to_string());
        }
    }
    steps
}

fn difference(wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> String {
    let mut lines = Vec::new();
    for name in wanted.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>() {
        match (wanted.get(name), found.get(name)) {
            (Some(wanted), Some(found)) if wanted == found => {}
            (wanted, found) => lines.push(format!("{name}: {wanted:?} became {found:?}")),
        }
    }
    lines.truncate(5);
    lines.join("; ")
}
