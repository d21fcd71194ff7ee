use protocol::Principal;
use protocol::view::Status;
use serde_json::json;

use super::*;
use crate::runtime::arbiter::{Command, Desired, Outcome, Source, Standing};
use crate::runtime::control::telling::ALARM;
use crate::runtime::control::world::{World, acme, image};
use crate::runtime::deployment::claim::Input;
use crate::runtime::model::{ConfigurationRef, DeploymentKind, DriftKind, ReplicaRange, Stage};
use crate::runtime::records::configurations;

fn worker(world: &World) -> DriftDetection {
    DriftDetection::new(&world.ports)
}

/// `web` as written, under the configuration that is written down for it.
async fn in_order(stage: Stage) -> (World, ConfigurationRef) {
    let world = World::new(stage).await;
    let red = [("COLOUR".to_owned(), "red".to_owned())].into();
    let at = configurations::publish(&*world.store, &world.place(), &red).await.unwrap().at;
    world.write_down(ServiceSpec { configuration: Some(at.clone()), ..world.spec(1, 2) });
    world.deployed(world.with_configuration(world.revision("d1", 1, 2), &at)).await;
    (world, at)
}

/// Somebody deploys another configuration by hand.
async fn changed_by_hand(world: &World) {
    let pink = [("COLOUR".to_owned(), "pink".to_owned())].into();
    let at = configurations::publish(&*world.store, &world.place(), &pink).await.unwrap().at;
    world.deployed(world.with_configuration(world.revision("d2", 1, 2), &at)).await;
}

async fn findings_of(world: &World) -> Vec<DriftFinding> {
    findings::all(&*world.store, &acme(), &world.place().environment).await.unwrap()
}

/// The saga asks as the worker would have it, and brings it.
async fn put_right(world: &World, at: &ConfigurationRef) {
    let starting = world.began().last().unwrap().clone();
    let input: Input = serde_json::from_value(starting.input.clone()).unwrap();
    let to = world.with_configuration(world.revision(starting.key.as_str(), 1, 2), at);
    let place = world.place();
    let approved = findings::approval(&*world.store, &place, &input.kinds, Some(&to.image), &to).await.unwrap();
    let command = Command::RemediateDrift { to: to.clone(), kinds: input.kinds, approved_by: approved };
    world.ask(Source::Drift, &format!("deploy:{}", starting.key), command).await.unwrap();
    world.completed(to, DeploymentKind::Remediate).await;
    world.ended(&starting.key, Status::Succeeded);
}

/// R068, W074.
#[tokio::test]
async fn what_is_in_order_is_left_alone_in_silence() {
    let (world, _) = in_order(Stage::Dev).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!(world.heard(), Vec::<String>::new());
    world.is_quiet(&worker).await;
}

/// R063–R072, F43: found once, put right by one saga, told once it is gone.
#[tokio::test]
async fn a_setting_that_was_changed_by_hand_is_put_right_outside_production() {
    let (world, at) = in_order(Stage::Dev).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    changed_by_hand(&world).await;
    let report = world.run(&worker).await.unwrap();
    assert!(report.did.contains("found configuration of web"), "{report:?}");
    let began = world.began();
    assert_eq!((began.len(), began[0].definition.as_str()), (1, "runtime_deployment"));
    assert_eq!((&began[0].input["kind"], &began[0].input["source"]), (&json!("remediate"), &json!("drift")));
    assert_eq!(began[0].input["configurationAt"], json!(at));
    assert_eq!(world.heard(), ["RuntimeDriftDetected"]);
    world.is_quiet(&worker).await;
    put_right(&world, &at).await;
    world.run(&worker).await.unwrap();
    assert_eq!(world.heard(), ["RuntimeDriftDetected", "RuntimeDriftRemediated"]);
    assert!(!findings_of(&world).await[0].is_open());
    world.is_quiet(&worker).await;
    // H21: the same drift after a fix is opened again, with a count, and put right under another key.
    changed_by_hand_again(&world).await;
    world.run(&worker).await.unwrap();
    assert_eq!((findings_of(&world).await[0].opened, world.began().len()), (2, 2));
}

async fn changed_by_hand_again(world: &World) {
    let pink = configurations::versions(&*world.store, &world.place()).await.unwrap().pop().unwrap().at;
    world.deployed(world.with_configuration(world.revision("d3", 1, 2), &pink)).await;
}

/// R073, R076: in production it waits for a person, whose word is kept and acted on.
#[tokio::test]
async fn in_production_somebody_has_to_approve_it() {
    let (world, at) = in_order(Stage::Prod).await;
    let worker = worker(&world);
    changed_by_hand(&world).await;
    let report = world.run(&worker).await.unwrap();
    assert!(report.why.contains("waits for an approval"), "{report:?}");
    assert_eq!((world.heard().len(), world.began().len()), (1, 0));
    world.is_quiet(&worker).await;
    let (ann, finding) = (Principal::new("ann").unwrap(), findings_of(&world).await.remove(0));
    let (decision, now) = (findings::Decision::Approve, world.now());
    findings::decide(&*world.store, &acme(), &finding, decision, &ann, now).await.unwrap();
    world.run(&worker).await.unwrap();
    assert!(world.began()[0].input.get("approvedBy").is_none(), "the finding says it");
    world.is_quiet(&worker).await;
    put_right(&world, &at).await;
    world.run(&worker).await.unwrap();
    assert_eq!(world.heard().last().unwrap(), "RuntimeDriftRemediated");
}

/// H02: replicas within a policy's bounds are no drift; outside of them they are.
#[tokio::test]
async fn replicas_of_a_policy_are_no_drift() {
    let (world, _) = in_order(Stage::Dev).await;
    let range = Some(ReplicaRange { min: 2, max: 4 });
    world.ask(Source::Scaling, "g", Command::Govern { range }).await.unwrap();
    world.by_hand(3).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!((world.heard().len(), world.began().len()), (0, 0));
    world.by_hand(7).await;
    world.run(&worker).await.unwrap();
    assert_eq!(findings_of(&world).await[0].kind, DriftKind::Replicas);
}

/// Somebody turns a knob of compute itself; nothing of ours knows.
#[tokio::test]
async fn replicas_that_somebody_took_away_come_back() {
    let (world, _) = in_order(Stage::Dev).await;
    world.by_hand(1).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    let found = findings_of(&world).await.remove(0);
    assert_eq!((found.kind, found.desired.as_str(), found.observed.as_str()), (DriftKind::Replicas, "2", "1"));
    assert_eq!(world.began()[0].input["replicas"], 2);
}

/// H01: git still asks for what was rolled back; it is found, told once, and left alone.
#[tokio::test]
async fn what_was_rolled_back_stays_away() {
    let (world, at) = in_order(Stage::Dev).await;
    world.write_down(ServiceSpec { configuration: Some(at.clone()), ..world.spec(2, 2) });
    let bad = world.with_configuration(world.revision("d9", 2, 2), &at);
    world.ask(Source::Operator, "deploy:d9", Command::Deploy { to: bad, anew: false }).await.unwrap();
    world.finished(Outcome::RolledBack { why: "it answers 500".into() }).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!(findings_of(&world).await[0].kind, DriftKind::Held);
    assert_eq!((world.heard().last().unwrap().as_str(), world.began().len()), ("RuntimeDriftDetected", 0));
    world.is_quiet(&worker).await;
}

/// A correction that failed is tried again under a new key, after a pause (D203).
#[tokio::test]
async fn a_correction_that_failed_gets_another_key_and_a_pause() {
    let (world, _) = in_order(Stage::Dev).await;
    changed_by_hand(&world).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    let first = world.began()[0].key.clone();
    world.ended(&first, Status::Failed);
    world.run(&worker).await.unwrap();
    assert_eq!(world.began().len(), 1, "not at once");
    world.wait(60);
    world.run(&worker).await.unwrap();
    let second = world.began()[1].key.clone();
    assert_ne!(first, second);
    assert!(second.as_str().ends_with("-2"), "{second}");
}

/// What does not help is not done for ever: it becomes an incident, and is tried again when that is closed.
#[tokio::test]
async fn a_correction_without_effect_is_given_up() {
    let (world, _) = in_order(Stage::Dev).await;
    changed_by_hand(&world).await;
    let worker = worker(&world);
    let tried = async |number: usize| {
        world.run(&worker).await.unwrap();
        let key = world.began()[number - 1].key.clone();
        let to = world.state().await.current.unwrap();
        let command = Command::RemediateDrift { to, kinds: vec![DriftKind::Configuration], approved_by: None };
        world.ask(Source::Drift, &format!("deploy:{key}"), command).await.unwrap();
        // While something is under way, no look can tell whether it helps.
        world.run(&worker).await.unwrap();
        world.finished(Outcome::Succeeded).await;
        world.ended(&key, Status::Succeeded);
        world.wait(900);
    };
    for number in 1..=3 {
        tried(number).await;
    }
    world.run(&worker).await.unwrap();
    let Standing::Incident { why, .. } = world.state().await.standing else { panic!("it is an incident") };
    assert!(why.starts_with("drift was corrected 3 times without effect; configuration: "), "{why}");
    assert_eq!((world.began().len(), world.heard().iter().filter(|event| *event == ALARM).count()), (3, 1));
    world.wait(3_600);
    world.run(&worker).await.unwrap();
    assert_eq!(world.began().len(), 3, "it is left to people");
    world.ask(Source::Operator, "close", Command::Resume).await.unwrap();
    tried(4).await;
}

/// D202: an environment that nobody wrote down is nobody's mistake; one that is empty all of a sudden
/// is.
#[tokio::test]
async fn nothing_at_all_is_a_mistake_only_where_something_was_wanted() {
    let (world, _) = in_order(Stage::Dev).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    world.nothing_is_written_down();
    assert_eq!(world.run(&worker).await.unwrap_err().error, "DesiredStateEmpty");
    let other = World::new(Stage::Dev).await;
    other.deployed(other.revision("d1", 1, 2)).await;
    other.is_quiet(&DriftDetection::new(&other.ports)).await;
}

/// A configuration that desired state does not name is the publisher's (H02).
#[tokio::test]
async fn what_nobody_wrote_down_has_another_owner() {
    let (world, _) = in_order(Stage::Dev).await;
    world.write_down(world.spec(1, 2));
    changed_by_hand(&world).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!((world.heard().len(), world.began().len()), (0, 0));
}

/// A file that moved on is brought by whoever brings files, in its wave and with its strategy.
#[tokio::test]
async fn what_was_written_down_since_is_no_drift() {
    let (world, at) = in_order(Stage::Dev).await;
    let desired = Desired { image: image(1), configuration: Some(at.clone()) };
    world.ask(Source::Sync, "desired-1", Command::DesiredState { desired }).await.unwrap();
    world.write_down(ServiceSpec { configuration: Some(at), ..world.spec(2, 2) });
    let worker = worker(&world);
    let report = world.run(&worker).await.unwrap();
    assert!(report.why.contains("its file moved on"), "{report:?}");
    assert_eq!(world.began().len(), 0);
}
