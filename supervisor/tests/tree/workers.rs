//! What a node does with its workers' lives.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::common::*;
use crate::workers_common::*;
use protocol::worker::{RunOutcome, WorkerStatus};
use protocol::{Envelope, Tenant};
use serde_json::json;
use supervisor::tree::workers::Limits;
use supervisor::worker::{ALARM, CAUSES_MAX, Failure, Rhythm, Why};

#[tokio::test(start_paused = true)]
async fn a_timer_runs_once_in_each_slot_and_at_once_after_the_start() {
    let (script, store) = (Script::new(half_minutes()), Store::with(&["acme/prod"]));
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.world.pass(600).await;
    let seconds = script.seconds();
    assert!(seconds[0] < 4, "nobody ever looked: {seconds:?}");
    let runs = seconds.len() as u64;
    // The last tick may be late by its jitter.
    assert!((20..=21).contains(&runs), "{seconds:?}");
    let gaps: Vec<u64> = seconds.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (26..=34).contains(gap)), "a slot each, and jitter: {gaps:?}");
    let shown = node.show("prod").unwrap();
    let last = shown.last.clone().unwrap();
    assert_eq!((shown.runs, shown.failures, shown.history.len()), (runs, 0, 20));
    assert_eq!((last.number, last.saw, last.trigger.as_str()), (runs, format!("{runs} services"), "timer"));
    assert!(shown.next.unwrap() > node.world.engine.now());
    assert_eq!(script.last().remembered, json!({ "last": runs - 1 }));
    let card = node.workers.card().find("worker probe/acme/prod").unwrap().view();
    assert!(card.doing.unwrap().contains(&format!("last run {runs} ")), "the tree shows it");
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_run_is_one_run_after_it() {
    let (script, store) = (Script::new(half_minutes()), Store::with(&["acme/prod"]));
    script.acts([Act::Take(Duration::from_secs(100))]);
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.until("the first run is under way", || script.runs() == 1).await;
    for id in ["e1", "e2", "e1"] {
        node.local.hear(&event(id, "prod"));
    }
    let (number, view) = node.run_now("prod").await;
    assert_eq!((number, view.number, view.outcome), (2, 2, RunOutcome::Changed));
    assert_eq!(by_event(&script.last()), ["e1", "e2"]);
    assert_eq!(script.last().why, Why::ByHand(ann()));
    assert_eq!(view.trigger, "by hand (ann) and 3 more");
    assert_eq!(script.attempts(), [(1, 1), (2, 1)], "three late ticks, two events and a person are one run");
}

#[tokio::test(start_paused = true)]
async fn an_event_runs_the_worker_it_concerns_once_and_its_trace_goes_on() {
    let (script, store) = (Script::new(by_events()), Store::with(&["acme/prod", "acme/test", "evil/prod"]));
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.loaded("prod").await;
    node.loaded("test").await;
    node.local.hear(&event("e1", "prod"));
    node.world.pass(1).await;
    node.local.hear(&event("e1", "prod"));
    node.world.pass(60).await;
    assert_eq!(script.runs(), 1);
    let run = script.last();
    assert_eq!(run.worker, probe("acme/prod"));
    assert_eq!((run.key.as_str(), run.cause.as_str()), ("probe/acme/prod:e1", "e1"));
    let published = node.world.outside.events.lock().unwrap().clone();
    assert_eq!(published.len(), 1);
    let triggered = event("e1", "prod");
    assert_eq!(
        (&published[0].trace_id, &published[0].correlation_id, published[0].causation_id.as_str()),
        (&triggered.trace_id, &triggered.correlation_id, "e1")
    );
    // One that names no environment is about all of the tenant's.
    let everywhere = Envelope { payload: json!({}), ..(*event("e2", "")).clone() };
    node.local.hear(&std::sync::Arc::new(everywhere));
    node.world.pass(1).await;
    assert_eq!(script.runs(), 3);
    let other = Envelope { event_type: "Unknown".into(), ..(*event("e3", "prod")).clone() };
    node.local.hear(&std::sync::Arc::new(other));
    node.world.pass(1).await;
    assert_eq!(script.runs(), 3);
}

/// H05: whoever hears the last event of a row does nothing, says so once, and goes on with the next.
#[tokio::test(start_paused = true)]
async fn a_row_of_events_that_turns_in_a_circle_is_stopped_and_told() {
    let (script, store) = (Script::new(by_events()), Store::with(&["acme/prod"]));
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.loaded("prod").await;
    let after = |id: &str, causes: u32| std::sync::Arc::new(Envelope { causes, ..(*event(id, "prod")).clone() });
    let said = || node.world.outside.events.lock().unwrap().last().unwrap().clone();
    node.local.hear(&after("e1", CAUSES_MAX - 2));
    node.world.pass(1).await;
    assert_eq!((script.runs(), said().causes), (1, CAUSES_MAX - 1), "its event is the last of the row");
    for _ in 0..2 {
        node.local.hear(&after("e2", CAUSES_MAX - 1));
        node.world.pass(1).await;
    }
    assert_eq!(script.runs(), 1, "it did not act");
    let last = node.show("prod").unwrap().last.unwrap();
    assert_eq!((last.number, last.outcome, last.saw.as_str()), (2, RunOutcome::Unchanged, "Happened e2"));
    assert!(last.why.contains("12 events") && last.why.contains("circle"), "{}", last.why);
    let alarm = said();
    assert_eq!((alarm.event_type.as_str(), alarm.causation_id.as_str()), (ALARM, "e2"));
    assert_eq!(alarm.payload["worker"], "probe/acme/prod");
    assert_eq!(node.world.outside.events.lock().unwrap().len(), 2, "the alarm is said once");
    node.local.hear(&event("e3", "prod"));
    node.world.pass(1).await;
    assert_eq!((script.runs(), said().causes), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_is_tried_again_under_the_same_key_and_shown() {
    let (script, store) = (Script::new(by_events()), Store::with(&["acme/prod"]));
    script.acts([transient(), transient()]);
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.loaded("prod").await;
    node.local.hear(&event("e1", "prod"));
    node.until("it waits for the next attempt", || node.show("prod").unwrap().status == WorkerStatus::Retrying).await;
    let doing = node.show("prod").unwrap().doing.unwrap();
    assert!(doing.contains("attempt 2 of 3") && doing.contains("looking: too slow"), "{doing}");
    node.until("it ended", || node.show("prod").unwrap().last.is_some()).await;
    let last = node.show("prod").unwrap().last.unwrap();
    assert_eq!((last.outcome, last.attempts), (RunOutcome::Changed, 3));
    assert!(last.took_ms < 6_100, "2 s and 4 s at most: {}", last.took_ms);
    let ran = script.ran.lock().unwrap().clone();
    assert!(ran.iter().all(|(_, run)| run.key == ran[0].1.key && run.trace == ran[0].1.trace));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_recorded_its_events_are_kept_and_the_next_tick_goes_on() {
    let (script, store) = (Script::new(half_minutes()), Store::with(&["acme/prod"]));
    let permanent = || Act::Fail(Failure::permanent("looking", "it is gone"));
    script.acts([transient(), transient(), transient(), permanent(), permanent()]);
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.until("the first run failed", || node.show("prod").is_some_and(|it| it.failures == 1)).await;
    assert_eq!(script.attempts(), [(1, 1), (1, 2), (1, 3)], "three attempts in all");
    node.local.hear(&event("e1", "prod"));
    node.until("the second run failed", || node.show("prod").unwrap().failures == 2).await;
    node.until("the event is a dead letter", || !node.world.outside.dead.lock().unwrap().is_empty()).await;
    let (tenant, reason, why, whole) = node.world.outside.dead.lock().unwrap()[0].clone();
    assert_eq!((tenant.as_str(), reason.as_str()), ("acme", "worker-failed"));
    assert!(why.contains("it is gone"), "{why}");
    assert_eq!(serde_json::from_slice::<Envelope>(&whole).unwrap(), *event("e1", "prod"), "the full envelope");
    node.until("three in a row", || node.show("prod").unwrap().failures == 3).await;
    let card = node.workers.card().find("worker probe/acme/prod").unwrap().view();
    assert!(card.last_failure.unwrap().starts_with("3 failed runs in a row"), "an alert");
    node.until("it goes on", || node.show("prod").unwrap().failures == 0).await;
    // Replayed from among the dead letters it is new.
    node.local.hear(&event("e1", "prod"));
    node.until("the event is handled", || by_event(&script.last()) == ["e1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_its_attempt_and_of_nothing_else() {
    let (script, store) = (Script::new(by_events()), Store::with(&["acme/prod", "acme/test"]));
    script.acts([Act::Panic]);
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.loaded("prod").await;
    node.loaded("test").await;
    let (_, view) = node.run_now("prod").await;
    assert_eq!((view.outcome, view.attempts), (RunOutcome::Changed, 2));
    assert!(view.took_ms < 200, "after the first pause of a restart: {}", view.took_ms);
    // Again and again: bounded, and the next run goes on.
    script.acts([Act::Panic, Act::Panic, Act::Panic]);
    let (_, view) = node.run_now("prod").await;
    assert_eq!((view.outcome, view.attempts), (RunOutcome::Failed, 3));
    assert!(view.error.unwrap().contains("a bug in the probe"));
    assert_eq!(node.run_now("prod").await.1.outcome, RunOutcome::Changed);
    assert_eq!(node.run_now("test").await.1.number, 1);
    assert_eq!(node.workers.card().find("worker probe/acme/prod").unwrap().view().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_aborted() {
    let rhythm = Rhythm { attempt_max: Duration::from_secs(5), ..by_events() };
    let (script, store) = (Script::new(rhythm), Store::with(&["acme/prod"]));
    script.acts([Act::Take(Duration::from_secs(1_000))]);
    let node = Node::start(&Outside::new(&[]), 1, &script, &store).await;
    node.loaded("prod").await;
    let (_, view) = node.run_now("prod").await;
    assert_eq!((view.outcome, view.attempts), (RunOutcome::Changed, 2));
    assert_eq!(*script.finished.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_runs_by_hand_only_also_on_the_next_node() {
    let (script, store) = (Script::new(half_minutes()), Store::with(&["acme/prod"]));
    let outside = Outside::new(&[]);
    let first = Node::start(&outside, 1, &script, &store).await;
    first.until("it ran", || first.show("prod").is_some_and(|it| it.last.is_some())).await;
    first.pause("prod").await.unwrap();
    let runs = script.runs();
    first.local.hear(&event("e1", "prod"));
    first.world.pass(300).await;
    assert_eq!(script.runs(), runs);
    let shown = first.show("prod").unwrap();
    assert_eq!((shown.status, shown.next), (WorkerStatus::Paused, None));
    assert_eq!(shown.doing.unwrap(), "paused by ann: a change of ours");
    assert_eq!(first.run_now("prod").await.1.outcome, RunOutcome::Changed);
    assert!(by_event(&script.last()).is_empty(), "the event waits");

    first.shards.lose(SHARD);
    let next = Node::start(&outside, 2, &script, &store).await;
    next.loaded("prod").await;
    let shown = next.show("prod").unwrap();
    assert_eq!((shown.status, shown.runs), (WorkerStatus::Paused, runs as u64 + 1));
    assert_eq!((shown.paused.unwrap().by.as_str(), shown.last.unwrap().number), ("ann", runs as u64 + 1));
    next.world.pass(300).await;
    assert_eq!(script.runs(), runs + 1);
    next.resume("prod").await.unwrap();
    next.until("it runs at once", || script.runs() == runs + 2).await;
    assert_eq!(script.last().number, runs as u64 + 2);
    next.world.pass(120).await;
    assert!(script.runs() >= runs + 5);
}

#[tokio::test(start_paused = true)]
async fn a_worker_follows_its_shard_and_a_run_under_way_has_a_bounded_time_to_end() {
    let (script, store) = (Script::new(by_events()), Store::with(&["acme/prod"]));
    let outside = Outside::new(&[]);
    let first = Node::start(&outside, 1, &script, &store).await;
    first.loaded("prod").await;
    // It ends within its grace, and is remembered.
    script.acts([Act::Take(Duration::from_secs(3)), Act::Take(Duration::from_secs(1_000))]);
    first.local.hear(&event("e1", "prod"));
    first.until("it runs", || script.runs() == 1).await;
    first.shards.lose(SHARD);
    first.until("it stopped", || first.workers.card().find("worker probe/acme/prod").is_none()).await;
    assert!(first.list().is_empty());
    assert_eq!(*script.finished.lock().unwrap(), 1);
    let second = Node::start(&outside, 2, &script, &store).await;
    second.loaded("prod").await;
    assert_eq!(second.show("prod").unwrap().runs, 1);
    second.local.hear(&event("e1", "prod"));
    second.world.pass(1).await;
    assert_eq!(script.runs(), 1, "the event was handled on the other node");
    // It does not end, and is aborted.
    second.local.hear(&event("e2", "prod"));
    second.until("it runs", || script.runs() == 2).await;
    let before = tokio::time::Instant::now();
    second.local.drain(Duration::from_secs(60)).await;
    assert_eq!(before.elapsed().as_secs(), Limits::default().stop_grace.as_secs());
    assert_eq!(*script.finished.lock().unwrap(), 1);
    second.world.pass(60).await;
    assert!(second.list().is_empty(), "nothing starts on a node that leaves");
}

#[tokio::test(start_paused = true)]
async fn a_worker_does_not_run_before_it_is_known_whether_it_is_paused() {
    let (script, store) = (Script::new(half_minutes()), Store::with(&["acme/prod"]));
    let node = Node::idle(&Outside::new(&[]), 1, &script, &store, Limits::default()).await;
    node.world.pass(1).await;
    store.away.store(true, SeqCst);
    node.own();
    node.world.pass(120).await;
    assert_eq!(script.runs(), 0);
    let shown = node.show("prod").unwrap();
    assert_eq!(shown.status, WorkerStatus::Loading);
    assert!(shown.doing.unwrap().contains("it is away"));
    assert!(node.workers.card().view().doing.unwrap().contains("it is away"), "environments neither");
    node.local.hear(&event("e1", "prod"));
    store.away.store(false, SeqCst);
    node.until("it runs", || script.runs() == 1).await;
    assert_eq!(by_event(&script.last()), ["e1"]);
    // Away again: it runs, and what it remembers is kept later.
    store.away.store(true, SeqCst);
    node.world.pass(90).await;
    assert!(script.runs() >= 3);
    store.away.store(false, SeqCst);
    node.world.pass(5).await;
    let (kept, runs) = (store.kept.lock().unwrap()[&probe("acme/prod")].clone(), script.runs() as u64);
    assert_eq!(supervisor::tree::workers::Memory::load(&kept.bytes).unwrap().runs, runs);
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_both_believe_to_own_it_agree_on_a_persons_word() {
    let (script, store) = (Script::new(half_minutes()), Store::with(&["acme/prod"]));
    let outside = Outside::new(&[]);
    let old = Node::start(&outside, 1, &script, &store).await;
    let new = Node::start(&outside, 2, &script, &store).await;
    old.loaded("prod").await;
    new.loaded("prod").await;
    old.world.pass(120).await;
    new.pause("prod").await.unwrap();
    old.until("the other one hears of it", || old.show("prod").unwrap().status == WorkerStatus::Paused).await;
    let runs = script.runs();
    old.world.pass(300).await;
    assert_eq!(script.runs(), runs);
    old.resume("prod").await.unwrap();
    old.world.pass(90).await;
    assert!(script.runs() > runs);
    // The other one did not write since, and so did not look.
    assert_eq!(new.show("prod").unwrap().status, WorkerStatus::Paused);
    new.run_now("prod").await;
    new.until("it hears of it", || new.show("prod").unwrap().status != WorkerStatus::Paused).await;
}

#[tokio::test(start_paused = true)]
async fn environments_come_and_go_and_each_tenant_sees_its_own() {
    let (script, store) = (Script::new(by_events()), Store::with(&["acme/prod", "evil/prod"]));
    let limits = Limits { workers_max: 2, ..Limits::default() };
    let node = Node::idle(&Outside::new(&[]), 1, &script, &store, limits).await;
    node.own();
    node.loaded("prod").await;
    let names = |tenant: &str| {
        let views = node.local.list(&Tenant::new(tenant).unwrap(), &protocol::command::ListWorkers::default());
        views.into_iter().map(|view| view.id().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names("acme"), names("evil")),
        (vec!["probe/acme/prod".to_owned()], vec!["probe/evil/prod".to_owned()])
    );
    *store.environments.lock().unwrap() = vec![(Tenant::new("acme").unwrap(), "test".parse().unwrap())];
    node.world.pass(20).await;
    assert_eq!((names("acme"), names("evil")), (vec!["probe/acme/test".to_owned()], vec![]));
    let all = ["a", "b", "c"].map(|name| (Tenant::new("acme").unwrap(), name.parse().unwrap()));
    *store.environments.lock().unwrap() = all.to_vec();
    node.world.pass(20).await;
    assert_eq!(names("acme").len(), 2);
    let shown = node.workers.card().view().last_failure.unwrap();
    assert_eq!(shown, "1 workers are not started: the limit is 2");
}
