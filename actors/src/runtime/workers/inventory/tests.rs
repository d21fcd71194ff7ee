use crate::runtime::arbiter::{Command, Outcome};
use crate::runtime::control::stage::Stage;
use crate::runtime::model::ObservedService;
use crate::runtime::store;
use crate::runtime::workers::inventory::Inventory;

async fn shown(stage: &Stage, service: &str) -> Option<ObservedService> {
    let place = stage.place(service);
    store::read(&*stage.ports.store, &place.space(), &place.inventory()).await.unwrap().map(|read| read.value)
}

/// F54, W056: whatever happened meanwhile, one run later it shows what runs, deletions included; and
/// a second run says and writes nothing.
#[tokio::test(start_paused = true)]
async fn it_shows_what_runs_and_then_is_silent() {
    let stage = Stage::new().await;
    let inventory = Inventory::new(&stage.ports);
    assert!(stage.run(&inventory).await.silent());
    stage.deploy("web", "1", 2).await;
    stage.deploy("api", "1", 1).await;
    let ran = stage.run(&inventory).await;
    assert_eq!(ran.told(), ["RuntimeInventoryUpdated", "RuntimeInventoryUpdated"]);
    assert_eq!(shown(&stage, "web").await.map(|seen| (seen.replicas, seen.ready)), Some((2, 2)));
    stage.pass(120).await;
    assert!(stage.run(&inventory).await.silent(), "the moment it was seen is no change");

    // Two changes and a deletion, of which it heard nothing.
    let state = stage.ask("web", "scale", Command::Scale { to: 4, observed: 2 }).await;
    stage.finish("web", state.sequence, Outcome::Succeeded).await;
    stage.apply("web").await;
    let of = stage.service("api").await.current().unwrap().deployment_id;
    let back =
        Command::RollbackDeployment { of: of.clone(), deployment_id: "back".parse().unwrap(), why: "bad".into() };
    let state = stage.ask("api", "back", back).await;
    stage.finish("api", state.sequence, Outcome::Succeeded).await;
    let ran = stage.run(&inventory).await;
    assert_eq!(ran.did(), "0 added, 1 changed, 1 removed", "{ran:?}");
    assert_eq!(shown(&stage, "web").await.map(|seen| seen.replicas), Some(4));
    assert_eq!(shown(&stage, "api").await, None);
    assert!(ran.said.iter().any(|event| event.payload["removed"] == true));
    assert!(stage.run(&inventory).await.silent());
}

/// A machine that is away shows nothing, which is not the same as nothing being there.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_not_gone() {
    let stage = Stage::new().await;
    let inventory = Inventory::new(&stage.ports);
    stage.deploy("web", "1", 2).await;
    stage.run(&inventory).await;
    stage.machine.away(true);
    let ran = stage.run(&inventory).await;
    assert!(ran.report.is_err() && ran.said.is_empty() && ran.writes == 0);
    assert!(shown(&stage, "web").await.is_some());
    stage.machine.away(false);
    assert!(stage.run(&inventory).await.silent());
}
