//! A shard whose journal or snapshots were lost, cut or altered while nobody looked.

use std::sync::Arc;

use crate::common::*;
use protocol::Time;
use protocol::view::Status;
use serde_json::json;
use supervisor::journal::Loss;
use supervisor::journal::anchor::Accepted;
use supervisor::tree::engine::Limits;
use supervisor::tree::ground::Stopped;
use supervisor::tree::recovery::MARK;
use supervisor::tree::root::NotStarted;

const WAITING: &str = "
name: waiting
definition:
  StartAt: Hold
  States:
    Hold: { Type: Task, Resource: 'signal:go', End: true }
";

/// Two sagas wait; the first is in a snapshot and below the mark, the second is too.
async fn two_sagas_wait() -> Arc<Outside> {
    let outside = Outside::new(&[WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    for key in ["one", "two"] {
        world.start(key, "waiting", json!({})).await.unwrap();
        world.pass(30).await;
    }
    world.shard.kill();
    world.pass(1).await;
    outside
}

/// An operator accepts the loss of this code.
fn accept(outside: &Outside, loss: &str) {
    let (by, reason) = ("ann".into(), "there is no copy".into());
    let accepted = Accepted { loss: loss.into(), by, reason, at: Time::from_micros(NOON) };
    *outside.accepted.lock().unwrap() = Some(accepted);
}

async fn stopped(outside: &Arc<Outside>, epoch: u64) -> Stopped {
    match World::try_take_over(outside, epoch, Limits::default()).await {
        Err(NotStarted::Stopped(stopped)) => stopped,
        Err(NotStarted::Failed(why)) => panic!("it failed otherwise: {why}"),
        Ok(_) => panic!("it went on in what was left"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_journal_stops_the_shard_until_it_is_back() {
    let outside = two_sagas_wait().await;
    let frames = std::mem::take(&mut *outside.frames.lock().unwrap());
    let born = std::mem::take(&mut *outside.born.lock().unwrap());
    assert!(matches!(stopped(&outside, 2).await.loss, Loss::Deleted { .. }));
    assert!(outside.frames.lock().unwrap().is_empty(), "nothing was written into what was left");
    // Somebody makes an empty stream of the same name.
    *outside.born.lock().unwrap() = born + 1;
    assert!(matches!(stopped(&outside, 3).await.loss, Loss::Recreated { .. }));
    // And somebody else brings back what was there.
    *outside.frames.lock().unwrap() = frames;
    *outside.born.lock().unwrap() = born;
    let world = World::take_over(&outside, 4, Limits::default()).await;
    for key in ["one", "two"] {
        assert_eq!(world.show(key).await.status, Status::Waiting, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_without_its_end_or_with_another_frame_stops_the_shard() {
    let outside = two_sagas_wait().await;
    let whole = outside.frames.lock().unwrap().clone();
    outside.frames.lock().unwrap().pop_last();
    outside.last.store(0, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(stopped(&outside, 2).await.loss, Loss::Truncated { .. }));
    let mut altered = whole.clone();
    let (_, last) = altered.pop_last().unwrap();
    let mut bytes = last.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    altered.insert(whole.len() as u64, bytes.into());
    *outside.frames.lock().unwrap() = altered;
    assert!(matches!(stopped(&outside, 2).await.loss, Loss::Altered { .. }));
    *outside.frames.lock().unwrap() = whole;
    World::take_over(&outside, 2, Limits::default()).await;
}

/// Looked at, and lost before the first frame of the new owner.
#[tokio::test(start_paused = true)]
async fn a_journal_that_is_lost_in_the_middle_of_a_takeover_stops_the_shard() {
    use std::sync::atomic::Ordering::SeqCst;
    let outside = two_sagas_wait().await;
    let before = *outside.anchor.lock().unwrap();
    outside.journal_held.store(true, SeqCst);
    let lost = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let frames = std::mem::take(&mut *outside.frames.lock().unwrap());
        *outside.born.lock().unwrap() += 1;
        outside.journal_held.store(false, SeqCst);
        frames
    };
    let (taken, frames) = tokio::join!(World::try_take_over(&outside, 2, Limits::default()), lost);
    let Err(NotStarted::Stopped(stopped)) = taken else { panic!("it went on in another stream") };
    assert!(matches!(stopped.loss, Loss::Recreated { .. }), "{stopped}");
    assert_eq!(*outside.anchor.lock().unwrap(), before, "where it stood before is still known");
    *outside.frames.lock().unwrap() = frames;
    *outside.born.lock().unwrap() -= 1;
    let world = World::take_over(&outside, 3, Limits::default()).await;
    assert_eq!(world.show("two").await.status, Status::Waiting);
}

/// Whoever went on without knowing of a takeover hears of it from what it writes down each second, also
/// where the journal would take what it writes.
#[tokio::test(start_paused = true)]
async fn a_former_owner_stops_within_a_second_where_its_fence_was_lost() {
    let outside = Outside::new(&[WAITING]);
    let first = World::take_over(&outside, 1, Limits::default()).await;
    first.start("one", "waiting", json!({})).await.unwrap();
    World::take_over(&outside, 2, Limits::default()).await;
    // An older copy of the journal is put in its place.
    outside.frames.lock().unwrap().pop_last();
    first.start("two", "waiting", json!({})).await.unwrap();
    first.pass(2).await;
    let refused = first.start("three", "waiting", json!({})).await.unwrap_err();
    assert_eq!(refused.code, protocol::Code::Unavailable, "{refused}");
}

/// Everything on the servers was brought back as it was an hour ago, under a node that saw more.
#[tokio::test(start_paused = true)]
async fn what_a_node_saw_itself_stops_an_older_copy_of_everything() {
    let outside = two_sagas_wait().await;
    outside.known.store(1_000, std::sync::atomic::Ordering::SeqCst);
    let stopped = stopped(&outside, 2).await;
    assert!(matches!(stopped.loss, Loss::Older { known: 1_000, .. }), "{stopped}");
    accept(&outside, &stopped.loss.code(SHARD));
    let left = World::try_take_over(&outside, 2, Limits::default()).await;
    let Err(NotStarted::Stopped(left)) = left else { panic!("positions would be given out twice") };
    assert!(left.to_string().contains("nats stream rm J"), "{left}");
}

/// A loss that was accepted is not met again in the mark, which is written later.
#[tokio::test(start_paused = true)]
async fn an_accepted_loss_stays_accepted() {
    let outside = two_sagas_wait().await;
    outside.frames.lock().unwrap().clear();
    *outside.born.lock().unwrap() = 0;
    accept(&outside, &stopped(&outside, 2).await.loss.code(SHARD));
    let world = World::take_over(&outside, 3, Limits::default()).await;
    world.shard.kill();
    world.pass(1).await;
    *outside.accepted.lock().unwrap() = None;
    World::take_over(&outside, 4, Limits::default()).await;
}

/// What stood beside the lease is lost with its bucket, and the shard rests.
#[tokio::test(start_paused = true)]
async fn where_a_resting_journal_stands_is_written_down_again() {
    let outside = Outside::new(&[WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("one", "waiting", json!({})).await.unwrap();
    world.pass(30).await;
    let before = outside.anchor.lock().unwrap().take().unwrap();
    world.pass(30).await;
    assert!(outside.anchor.lock().unwrap().is_none(), "it did not move");
    world.shard.tell(supervisor::tree::shard::Message::Anchor { anew: true });
    world.pass(1).await;
    assert_eq!(outside.anchor.lock().unwrap().unwrap().position, before.position);
}

/// A second is enough, whether a sweep came or not.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_cut_off_before_a_sweep_is_noticed() {
    let outside = Outside::new(&[WAITING]);
    let limits = || Limits { sweep_every: std::time::Duration::from_secs(1_000_000), ..Limits::default() };
    let world = World::take_over(&outside, 1, limits()).await;
    world.start("one", "waiting", json!({})).await.unwrap();
    world.pass(2).await;
    world.shard.kill();
    world.pass(1).await;
    let (position, frame) = outside.frames.lock().unwrap().pop_last().unwrap();
    outside.last.store(0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(stopped(&outside, 2).await.loss, Loss::Truncated { found: position - 1, position });
    outside.frames.lock().unwrap().insert(position, frame);
    let world = World::take_over(&outside, 3, limits()).await;
    assert_eq!(world.show("one").await.status, Status::Waiting);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_missing_in_the_middle_of_a_replay_stops_the_shard() {
    let outside = Outside::new(&[WAITING]);
    // Nothing is swept, so that a takeover reads everything.
    let limits = || Limits { sweep_every: std::time::Duration::from_secs(1_000_000), ..Limits::default() };
    let world = World::take_over(&outside, 1, limits()).await;
    for key in ["one", "two", "three"] {
        world.start(key, "waiting", json!({})).await.unwrap();
    }
    world.shard.stop();
    world.pass(1).await;
    let taken = outside.frames.lock().unwrap().remove(&3).unwrap();
    let stopped = stopped(&outside, 2).await;
    assert_eq!(stopped.loss, Loss::Altered { position: 4 });
    assert!(stopped.to_string().contains("skald accept-loss --shard 0 --loss "), "{stopped}");
    outside.frames.lock().unwrap().insert(3, taken);
    World::take_over(&outside, 3, limits()).await;
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_an_operator_accepts_leaves_what_snapshots_hold() {
    let outside = two_sagas_wait().await;
    outside.frames.lock().unwrap().clear();
    *outside.born.lock().unwrap() = 0;
    let stopped = stopped(&outside, 2).await;
    let before = outside.anchor.lock().unwrap().unwrap();
    accept(&outside, "000000000000");
    let another = World::try_take_over(&outside, 2, Limits::default()).await;
    assert!(matches!(another, Err(NotStarted::Stopped(_))), "another loss was accepted, not this one");
    accept(&outside, &stopped.loss.code(SHARD));
    let world = World::take_over(&outside, 3, Limits::default()).await;
    assert_eq!(world.show("one").await.status, Status::Waiting);
    let first = *outside.frames.lock().unwrap().first_key_value().unwrap().0;
    assert!(first > before.position, "positions go on above {}, at {first}", before.position);
    world.signal("one", "go", json!({}), "s1").await.unwrap();
    world.pass(30).await;
    world.shard.kill();
    world.pass(1).await;
    // What came after is kept like everything else.
    let world = World::take_over(&outside, 4, Limits::default()).await;
    assert_eq!(world.show("one").await.status, Status::Succeeded);
}

/// Positions are given out once: what is left of a cut journal cannot be gone on in, and that is said as
/// long as it stands in the way.
#[tokio::test(start_paused = true)]
async fn an_accepted_loss_says_what_still_stands_in_its_way() {
    let outside = two_sagas_wait().await;
    outside.frames.lock().unwrap().pop_last();
    outside.last.store(0, std::sync::atomic::Ordering::SeqCst);
    accept(&outside, &stopped(&outside, 2).await.loss.code(SHARD));
    let stopped = stopped(&outside, 3).await;
    assert!(
        matches!(stopped.loss, Loss::Truncated { .. }) && stopped.to_string().contains("nats stream rm"),
        "{stopped}"
    );
    outside.frames.lock().unwrap().clear();
    *outside.born.lock().unwrap() = 0;
    let world = World::take_over(&outside, 4, Limits::default()).await;
    assert_eq!(world.show("one").await.status, Status::Waiting);
}

#[tokio::test(start_paused = true)]
async fn lost_snapshots_are_made_again_from_the_whole_journal_and_from_nothing_less() {
    let outside = two_sagas_wait().await;
    let values = std::mem::take(&mut *outside.values.lock().unwrap());
    let world = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(world.show("two").await.status, Status::Waiting);
    world.shard.kill();
    world.pass(1).await;
    // Older ones than what was left do not count either.
    let older = values.into_iter().map(|(name, (revision, bytes))| (name, (revision - 1, bytes))).collect();
    *outside.values.lock().unwrap() = older;
    let world = World::take_over(&outside, 3, Limits::default()).await;
    assert_eq!(world.show("one").await.status, Status::Waiting);
    world.pass(30).await;
    world.shard.kill();
    world.pass(1).await;
    outside.values.lock().unwrap().clear();
    outside.frames.lock().unwrap().pop_first();
    assert!(matches!(stopped(&outside, 4).await.loss, Loss::Snapshots { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_snapshots_go_while_it_runs_is_told_and_begins_again() {
    let outside = Outside::new(&[WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    world.start("one", "waiting", json!({})).await.unwrap();
    world.pass(30).await;
    assert_eq!(outside.names(MARK), [MARK]);
    outside.values.lock().unwrap().clear();
    world.start("two", "waiting", json!({})).await.unwrap();
    let cell = world.shard.cell();
    world.until("the shard ends", || cell.get_status() == ractor::ActorStatus::Stopped).await;
    assert!(outside.names(MARK).is_empty(), "no mark stands over snapshots that are gone");
    let world = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(world.show("one").await.status, Status::Waiting);
}

/// Pages may be written before anything else of a sweep: they too stand behind a mark.
#[tokio::test(start_paused = true)]
async fn the_first_mark_is_written_with_the_first_takeover() {
    let outside = Outside::new(&[WAITING]);
    let world = World::take_over(&outside, 1, Limits::default()).await;
    assert_eq!(outside.names(MARK), [MARK]);
    world.start("one", "waiting", json!({})).await.unwrap();
    // The store is lost before the first sweep.
    outside.values.lock().unwrap().clear();
    let cell = world.shard.cell();
    world.until("the shard ends", || cell.get_status() == ractor::ActorStatus::Stopped).await;
    assert!(outside.names(MARK).is_empty(), "a mark stands in a store that lost what was before it");
    let world = World::take_over(&outside, 2, Limits::default()).await;
    assert_eq!(world.show("one").await.status, Status::Waiting);
}
