//! Every state of a deployment × the kill of a node: it ends as it would have (F38, G087, W015).
//!
//! Three node processes on one machine; all of them own sagas, one keeps the processes. In each case a
//! service runs its first revision, a second one is deployed, and in a given state of that deployment
//! a node is killed with `SIGKILL` and started again. A good revision then serves alone; of a broken one
//! nothing is left, and the first one serves. Each case is told by one event, and no process is
//! without an owner.
//!
//! `cargo test` kills once in each state. All states × all nodes × both revisions:
//!
//! ```text
//! cargo test -p skald-scenarios --test accidents deployment_kills -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `STORY_STATES=Promoting,RollingBack` before it plays these only.

mod case;
mod world;

use case::{Case, Victim};
use scenarios::service::has_python;
use world::{Keepers, World};

/// Plays cases one after the other, on one world.
async fn play(keepers: Keepers, cases: &[Case]) {
    if !has_python() {
        println!("skipped: this machine has no python3");
        return;
    }
    let mut world = World::build(keepers).await;
    let states = std::env::var("STORY_STATES").unwrap_or_default();
    let wanted = |case: &&Case| states.is_empty() || states.split(',').any(|state| state == case.state);
    let mut told = Vec::new();
    for case in cases.iter().filter(wanted) {
        told.extend(case::play(&mut world, *case).await);
    }
    world.told_once(&told).await;
}

/// Each state once; the node that keeps the processes and the one that owns the saga take turns.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_each_state_up_to_the_rollout_changes_nothing() {
    play(Keepers::All, &case::each_state()[..case::GATED]).await;
}

/// The rest of them, on a world of its own at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_each_state_from_the_gate_on_changes_nothing() {
    play(Keepers::All, &case::each_state()[case::GATED..]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full matrix takes about ten minutes"]
async fn a_kill_of_any_node_in_any_state_changes_nothing() {
    let all = case::all(&[Victim::Owner, Victim::Keeper, Victim::Both]);
    play(Keepers::All, &all).await;
}

/// Nobody can take the processes over: the deployment waits for the machine to come back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full matrix takes about five minutes"]
async fn a_kill_of_the_only_node_that_can_keep_processes_changes_nothing() {
    play(Keepers::One, &case::all(&[Victim::Keeper])).await;
}
