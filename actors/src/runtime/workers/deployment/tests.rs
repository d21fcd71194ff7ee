use protocol::view::Status;

use super::*;
use crate::runtime::arbiter::Outcome;
use crate::runtime::control::telling::ALARM;
use crate::runtime::control::world::{World, image};
use crate::runtime::model::{DeploymentKind, ServiceId, Stage};

fn worker(world: &World) -> RuntimeDeployment {
    RuntimeDeployment::new(&world.ports)
}

/// What is written down is brought once per change of its file, and its arbiter knows it first.
#[tokio::test]
async fn a_file_is_brought_once() {
    let world = World::new(Stage::Prod).await;
    let worker = worker(&world);
    world.is_quiet(&worker).await;
    world.write_down(world.spec(1, 2));
    world.run_after(3, &worker).await.unwrap();
    let began = world.began();
    assert_eq!(began[0].causes, 3, "its deployment stands in the same row of events (H05)");
    assert_eq!((began.len(), &began[0].input["source"]), (1, &serde_json::json!("sync")));
    assert_eq!(world.state().await.desired.unwrap().0.image, image(1));
    world.is_quiet(&worker).await;
    world.deployed(world.revision("d1", 1, 2)).await;
    world.ended(&began[0].key, Status::Succeeded);
    world.is_quiet(&worker).await;
    // Back and forth are changes too.
    for (of, count) in [(2, 2), (1, 2), (2, 3)] {
        world.write_down(world.spec(of, 2));
        world.run(&worker).await.unwrap();
        assert_eq!(world.began().len(), count, "image {of} is wanted, image 1 runs");
        world.is_quiet(&worker).await;
    }
}

/// H01: what was rolled back comes again only when desired state has moved on and back.
#[tokio::test]
async fn a_hold_ends_when_the_file_moves_on() {
    let world = World::new(Stage::Dev).await;
    let worker = worker(&world);
    world.write_down(world.spec(1, 2));
    world.run(&worker).await.unwrap();
    world.deployed(world.revision("d1", 1, 2)).await;
    world.wait(60);
    world.write_down(world.spec(2, 2));
    world.run(&worker).await.unwrap();
    world
        .ask(Source::Sync, "deploy:d2", Command::Deploy { to: world.revision("d2", 2, 2), anew: false })
        .await
        .unwrap();
    world.finished(Outcome::RolledBack { why: "it answers 500".into() }).await;
    assert_eq!(world.state().await.held.len(), 1);
    world.is_quiet(&worker).await;
    world.wait(60);
    world.write_down(world.spec(3, 2));
    world.run(&worker).await.unwrap();
    assert!(world.state().await.held.is_empty());
    assert!(world.heard().contains(&"RuntimeReleaseUnheld".to_owned()));
}

/// A service that changes is left alone; its file is brought afterwards.
#[tokio::test]
async fn a_busy_service_waits() {
    let world = World::new(Stage::Dev).await;
    world
        .ask(Source::Operator, "deploy:d1", Command::Deploy { to: world.revision("d1", 1, 2), anew: false })
        .await
        .unwrap();
    world.write_down(world.spec(2, 2));
    let worker = worker(&world);
    let report = world.run(&worker).await.unwrap();
    assert!(report.why.contains("changes already"), "{report:?}");
    assert_eq!(world.began().len(), 0);
    world.finished(Outcome::Failed { why: "no artifact".into() }).await;
    world.run(&worker).await.unwrap();
    assert_eq!(world.began().len(), 1);
}

/// F42: what is of a later wave waits until the one before runs as written.
#[tokio::test]
async fn waves_come_one_after_the_other() {
    let world = World::new(Stage::Dev).await;
    let worker = worker(&world);
    let api = ServiceSpec { service_id: ServiceId::new("api").unwrap(), wave: 1, ..world.spec(1, 2) };
    world.write_down(world.spec(1, 2));
    world.write_down(api);
    let services = |world: &World| -> Vec<String> {
        let of = |starting: &Starting| starting.input["service"].as_str().unwrap().to_owned();
        world.began().iter().map(of).collect()
    };
    let report = world.run(&worker).await.unwrap();
    assert_eq!(services(&world), ["web"]);
    assert!(report.why.contains("what comes after wave 0 waits for web"), "{report:?}");
    world.is_quiet(&worker).await;
    world.deployed(world.revision("d1", 1, 2)).await;
    world.run(&worker).await.unwrap();
    assert_eq!(services(&world), ["web", "api"]);
}

/// H06: a service is not busy for ever with what nobody carries out any more.
#[tokio::test]
async fn what_a_saga_left_behind_is_freed() {
    let world = World::new(Stage::Dev).await;
    let worker = worker(&world);
    world.deployed(world.revision("d1", 1, 2)).await;
    let to = world.revision("d2", 2, 2);
    world.ask(Source::Operator, "deploy:d2", Command::Deploy { to: to.clone(), anew: false }).await.unwrap();
    world.recorded(&to, DeploymentKind::Deploy).await;
    world.wait(3_600);
    world.is_quiet(&worker).await;
    world.ended(&SagaKey::new("d2").unwrap(), Status::Abandoned);
    let report = world.run(&worker).await.unwrap();
    assert!(report.did.starts_with("freed web: d2 ended as abandoned"), "{report:?}");
    let state = world.state().await;
    assert!(state.under_way.is_none() && matches!(state.standing, Standing::Incident { .. }), "{state:?}");
    world.is_quiet(&worker).await;
}

/// H06: what takes longer than it should is told once.
#[tokio::test]
async fn what_takes_too_long_is_told_once() {
    let world = World::new(Stage::Dev).await;
    let worker = worker(&world);
    world.deployed(world.revision("d1", 1, 2)).await;
    world.ask(Source::Operator, "scale", Command::Scale { to: 3, observed: 2 }).await.unwrap();
    world.is_quiet(&worker).await;
    world.wait(86_400);
    let report = world.run(&worker).await.unwrap();
    assert!(report.did.starts_with("told that web is busy for long: scaling since"), "{report:?}");
    assert_eq!(world.heard().last().unwrap(), ALARM);
    world.is_quiet(&worker).await;
}
