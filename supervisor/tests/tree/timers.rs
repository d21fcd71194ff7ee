//! A crowd of timers that are due at once.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::common::*;
use protocol::{SagaId, Time};
use serde_json::json;
use supervisor::journal::Frame;
use supervisor::machine::FactKind;
use supervisor::ports::{Clock, Position};
use supervisor::tree::engine::Limits;
use supervisor::tree::reply::Reply;
use supervisor::tree::shard::Message;

const CROWD: usize = 50_000;
const SLEEPER: &str = r#"
name: sleeper
definition:
  StartAt: Nap
  States: { Nap: { Type: Wait, Timestamp: "2026-01-01T14:00:00Z", End: true } }
"#;
const BRIEF: &str = "name: brief\ndefinition: { StartAt: Only, States: { Only: { Type: Pass, End: true } } }\n";

/// Counts the records of a journal, each frame once.
struct Records<'a> {
    outside: &'a Outside,
    counted: Cell<(Position, usize)>,
}

impl Records<'_> {
    fn count(&self) -> usize {
        let (mut upto, mut count) = self.counted.get();
        for (position, bytes) in self.outside.frames.lock().unwrap().range(upto + 1..) {
            (upto, count) = (*position, count + Frame::read(bytes).unwrap().records.len());
        }
        self.counted.set((upto, count));
        count
    }
}

async fn start(world: &World, saga: SagaId, definition: &str) {
    let (start, definition) = world.starting(definition, json!({}), None);
    world.ask(|accepted| Message::Start { saga, start, definition, accepted, outcome: None }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_is_due_at_once_goes_in_portions_and_others_are_answered_between_them() {
    let outside = Outside::new(&[SLEEPER, BRIEF]);
    let limits = Limits { decision_threads: None, sweep_every: Duration::from_secs(24 * 3_600), ..Limits::default() };
    let portion = limits.due_in_flight;
    let world = World::take_over(&outside, 1, limits).await;
    let records = Records { outside: &outside, counted: Cell::default() };
    for number in 0..CROWD {
        let saga = format!("acme/sleeper-{number}").parse().unwrap();
        if number % 1_000 == 999 {
            start(&world, saga, "sleeper").await;
        } else {
            let (start, definition) = world.starting("sleeper", json!({}), None);
            world.shard.tell(Message::Start { saga, start, definition, accepted: Reply::nobody(), outcome: None });
        }
    }
    assert_eq!(records.count(), CROWD);

    // Nobody fires early, and the second comes.
    let second = Time::from_micros(NOON).after(Duration::from_secs(2 * 3_600));
    tokio::time::sleep(second.since(outside.now()) - Duration::from_secs(1)).await;
    assert_eq!(records.count(), CROWD);
    let (mut asked, mut worst) = (0, 0);
    while records.count() < 2 * CROWD {
        world.until("the crowd is due", || records.count() > CROWD).await;
        let before = records.count();
        start(&world, format!("other/brief-{asked}").parse().unwrap(), "brief").await;
        asked += 1;
        worst = worst.max(records.count() - before);
    }
    assert!(worst <= 4 * portion, "{worst} of the crowd went first, {portion} are a portion");
    assert!(asked >= CROWD / (4 * portion), "{asked} others were answered meanwhile");

    world.pass(1).await;
    let frames = outside.frames.lock().unwrap();
    let all = frames.values().flat_map(|bytes| Frame::read(bytes).unwrap().decode().unwrap());
    let fired: Vec<_> = all.filter(|record| matches!(record.fact.kind, FactKind::TimerFired { .. })).collect();
    let sagas: BTreeSet<_> = fired.iter().map(|record| record.saga.to_string()).collect();
    assert_eq!((fired.len(), sagas.len()), (CROWD, CROWD), "each once");
}

#[tokio::test(start_paused = true)]
async fn timers_that_stand_still_are_named_until_they_go_on() {
    let outside = Outside::new(&[SLEEPER]);
    let limits = Limits { due_in_flight: 2, ..Limits::default() };
    let world = World::take_over(&outside, 1, limits).await;
    for number in 0..5 {
        start(&world, saga(&format!("sleeper-{number}")), "sleeper").await;
    }
    let troubles = || {
        let pulses = world.engine.pulses.all(world.engine.now());
        pulses.iter().flat_map(|pulse| pulse.troubles(world.engine.limits.still_after)).collect::<Vec<_>>()
    };
    let second = Time::from_micros(NOON).after(Duration::from_secs(2 * 3_600));
    tokio::time::sleep(second.since(outside.now())).await;
    assert!(troubles().is_empty(), "{:?}", troubles());
    // Nothing becomes durable, so the first two are not taken in and the others wait.
    outside.journal_held.store(true, SeqCst);
    tokio::time::sleep(world.engine.limits.still_after + Duration::from_secs(5)).await;
    let said = troubles();
    assert!(said.iter().any(|it| it.contains("the timers of shard 0 stand still")), "{said:?}");
    outside.journal_held.store(false, SeqCst);
    world.until("they go on", || troubles().is_empty()).await;
}
