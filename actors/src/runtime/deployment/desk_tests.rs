use std::sync::Arc;

use protocol::{Principal, SagaId, SagaKey, Tenant, TraceId};
use serde_json::json;
use supervisor::activity::Heartbeat;

use super::*;
use crate::runtime::control::world::World;
use crate::runtime::model::{Digest, Stage};
use crate::runtime::ownership::NAME_TAKEN;
use crate::runtime::probing::HttpProber;
use crate::runtime::tenancy::TENANT_REFUSED;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn attempt(tenant: &str, key: &str) -> Attempt {
    Attempt {
        saga: SagaId::new(Tenant::new(tenant).unwrap(), SagaKey::new(key).unwrap()),
        key: key.into(),
        number: 1,
        deadline: None,
        principal: Principal::new("eve").unwrap(),
        trace: TraceId::new("a".repeat(32)).unwrap(),
        heartbeat_every: None,
        token: String::new(),
        heartbeat: Heartbeat::default(),
    }
}

/// `shop` of acme, which a guest may use, and the guest's deployment `d1` of `theirs`.
async fn guest() -> (World, Desk, Place) {
    let world = World::new(Stage::Dev).await;
    let ports = Ports {
        store: world.store.clone(),
        compute: world.floor.clone(),
        prober: Arc::new(HttpProber),
        outbox: world.ports.outbox.clone(),
        clock: world.ports.clock.clone(),
    };
    let (desk, web) = (Desk::new(ports), world.place());
    let place = Place { service: ServiceId::new("theirs").unwrap(), ..web };
    let environments = Environments::new(world.store.clone());
    environments.bind(&tenant("acme"), &place.environment, &tenant("guest"), 5).await.unwrap();
    ownership::take(&*world.store, &place, &tenant("guest")).await.unwrap();
    let revision = json!({
        "deploymentId": "d1", "image": Digest::new(format!("sha256:{}", "ab".repeat(32))).unwrap(), "version": "1",
        "replicas": 1, "configuration": null, "secrets": {},
    });
    let record: Record = serde_json::from_value(json!({
        "deployment": {
            "deploymentId": "d1", "serviceId": "theirs", "kind": "deploy", "from": null, "to": revision,
            "state": "RollingOut", "by": "eve", "at": world.now(), "why": null,
        },
        "tenant": "guest", "saga": "guest/d1", "comes": { "revision": revision, "workload": {}, "set": "" },
    }))
    .unwrap();
    let name = place.deployment(&DeploymentId::new("d1").unwrap());
    store::write(&*world.store, &place.space(), &name, &record, 0).await.unwrap();
    (world, desk, place)
}

async fn enter(desk: &Desk, by: &Attempt, place: &Place) -> Result<(), String> {
    let entered = desk.enter(by, "health.gate", &place.environment, &place.service, Value::Null).await;
    entered.map(|_| ()).map_err(|failure| failure.error)
}

async fn back(desk: &Desk, by: &Attempt, place: &Place) -> Result<Place, String> {
    let entered = desk.enter_back(by, "deployment.rollback", &place.environment, &place.service, Value::Null).await;
    entered.map(|entered| entered.place).map_err(|failure| failure.error)
}

#[tokio::test]
async fn an_activity_acts_on_what_its_tenant_has_the_name_of() {
    let (_world, desk, place) = guest().await;
    assert_eq!(enter(&desk, &attempt("guest", "d1"), &place).await, Ok(()));
    assert_eq!(enter(&desk, &attempt("acme", "d1"), &place).await, Err(NAME_TAKEN.into()));
    assert_eq!(enter(&desk, &attempt("evil", "d1"), &place).await, Err(TENANT_REFUSED.into()));
}

/// A guest whose right is taken away in the middle of a deployment takes back what it did, and does
/// nothing more; nobody else does either in its name.
#[tokio::test]
async fn what_was_begun_is_taken_back_without_a_right() {
    let (world, desk, place) = guest().await;
    let (ours, other) = (attempt("guest", "d1"), attempt("guest", "d2"));
    let environments = Environments::new(world.store.clone());
    environments.bind(&tenant("acme"), &place.environment, &tenant("guest"), 0).await.unwrap();
    assert_eq!(enter(&desk, &ours, &place).await, Err(TENANT_REFUSED.into()));
    assert_eq!(back(&desk, &ours, &place).await, Ok(place.clone()));
    assert_eq!(back(&desk, &other, &place).await, Err(TENANT_REFUSED.into()), "it had begun nothing");
    assert_eq!(back(&desk, &attempt("evil", "d1"), &place).await, Err(TENANT_REFUSED.into()));
}
