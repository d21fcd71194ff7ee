use super::*;
use crate::runtime::control::world::World;
use crate::runtime::model::Stage;
use crate::runtime::records::configurations::{self, Published};

fn worker(world: &World) -> ConfigurationSync {
    ConfigurationSync::new(&world.ports)
}

/// As the command does it.
async fn publish(world: &World, colour: &str) -> Published {
    let entries = [("COLOUR".to_owned(), colour.to_owned())].into();
    let published = configurations::publish(&*world.store, &world.place(), &entries).await.unwrap();
    configurations::remember(&*world.store, &world.place(), &published, world.now()).await.unwrap();
    published
}

fn colour(world: &World) -> Option<String> {
    world.running().configuration.variables.0.get("COLOUR").cloned()
}

async fn deployed() -> World {
    let world = World::new(Stage::Dev).await;
    world.deployed(world.revision("d1", 1, 2)).await;
    world
}

/// D503, W037–W042: a burst is one roll to its newest version, said once; then there is silence.
#[tokio::test(start_paused = true)]
async fn what_was_published_reaches_the_service_once_it_is_quiet() {
    let world = deployed().await;
    let worker = worker(&world);
    world.is_quiet(&worker).await;
    for name in ["red", "green", "blue"] {
        publish(&world, name).await;
    }
    let waits = world.run(&worker).await.unwrap();
    assert!(waits.why.contains("waits until"), "{waits:?}");
    world.is_quiet(&worker).await;
    assert_eq!(colour(&world), None);
    world.wait(11);
    let report = world.run(&worker).await.unwrap();
    assert!(report.did.contains("brought web v3 to shop/web: succeeded"), "{report:?}");
    assert_eq!(colour(&world).as_deref(), Some("blue"));
    assert_eq!(world.running().replicas, 2);
    assert_eq!(world.heard(), ["ConfigurationSynced"]);
    world.is_quiet(&worker).await;
    // W042: the same again is nothing.
    publish(&world, "blue").await;
    world.wait(60);
    world.is_quiet(&worker).await;
}

/// H01: what its replicas do not come up with is taken back, and does not come again by itself.
#[tokio::test(start_paused = true)]
async fn a_configuration_that_breaks_the_service_is_taken_back() {
    let world = deployed().await;
    let worker = worker(&world);
    publish(&world, "red").await;
    world.wait(11);
    world.run(&worker).await.unwrap();
    world.broken("COLOUR=grey");
    publish(&world, "grey").await;
    world.wait(11);
    let report = world.run(&worker).await.unwrap();
    assert!(report.did.contains("taken back"), "{report:?}");
    assert_eq!(colour(&world).as_deref(), Some("red"));
    assert_eq!(world.state().await.held.len(), 1);
    world.wait(600);
    world.is_quiet(&worker).await;
    assert_eq!(world.heard().iter().filter(|event| *event == "ConfigurationSynced").count(), 1);
    // Something else may come.
    publish(&world, "green").await;
    world.wait(11);
    world.run(&worker).await.unwrap();
    assert_eq!(colour(&world).as_deref(), Some("green"));
}

/// F51: whoever dies after the arbiter said yes is followed by somebody who goes on.
#[tokio::test(start_paused = true)]
async fn what_was_begun_is_carried_on() {
    let world = deployed().await;
    let published = publish(&world, "red").await;
    let command = Command::ApplyConfiguration { to: published.at };
    world.ask(Source::Configuration, "configure/web/web/1", command).await.unwrap();
    world.wait(11);
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!((colour(&world).as_deref(), world.doing().await), (Some("red"), None));
    assert_eq!(world.heard(), ["ConfigurationSynced"]);
    world.is_quiet(&worker).await;
}

/// A service that is busy is left alone until it is not.
#[tokio::test(start_paused = true)]
async fn a_busy_service_is_asked_again() {
    let world = deployed().await;
    publish(&world, "red").await;
    world.wait(11);
    let to = world.revision("d2", 2, 2);
    world.ask(Source::Operator, "deploy:d2", Command::Deploy { to: to.clone(), anew: false }).await.unwrap();
    let worker = worker(&world);
    let busy = world.run(&worker).await.unwrap();
    assert!(busy.why.contains("busy") && !busy.changed, "{busy:?}");
    world.completed(to, crate::runtime::model::DeploymentKind::Deploy).await;
    world.run(&worker).await.unwrap();
    assert_eq!(colour(&world).as_deref(), Some("red"));
}
