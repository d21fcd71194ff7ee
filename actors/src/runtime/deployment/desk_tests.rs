use std::sync::Arc;

use protocol::{Principal, SagaId, SagaKey, Tenant, TraceId};
use serde_json::json;
use supervisor::activity::{Heartbeat, Typed as _};

use super::*;
use crate::runtime::control::world::World;
use crate::runtime::deployment::claim::{Claim, Input};
use crate::runtime::deployment::environment::Ensure;
use crate::runtime::model::{Digest, Stage};
use crate::runtime::probing::HttpProber;
use crate::runtime::records::ownership::NAME_TAKEN;
use crate::runtime::records::tenancy::TENANT_REFUSED;

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

/// A deployment that is refused leaves nothing behind: no service that never was, no configuration that
/// nobody lets in, and the name is free.
#[tokio::test]
async fn a_refused_deployment_leaves_nothing() {
    let (world, desk, place) = guest().await;
    let (ensure, claim) = (Ensure { desk: desk.clone() }, Claim { desk: desk.clone() });
    let about = |service: &str| serde_json::from_value(json!({ "environment": "shop", "service": service })).unwrap();
    let writes = world.store.writes();
    let refusal = ensure.run(&attempt("guest", "d7"), about("MSVC")).await.unwrap_err();
    assert_eq!((refusal.error.as_str(), world.store.writes()), ("BadArguments", writes));
    ensure.run(&attempt("guest", "d7"), about("api")).await.unwrap();
    let configuration = json!({ "COLOUR": "blue" });
    let refused = [
        ("MSVC", json!({}), "BadArguments"),
        ("api", json!({ "artifact": null }), "BadArguments"),
        ("api", json!({ "progressDeadlineMs": 1 }), "BadArguments"),
        ("api", json!({ "secrets": { "none": 0 } }), "SecretMissing"),
        ("api", json!({ "configurationAt": { "configurationId": "web", "version": 1 } }), "ConfigurationMissing"),
        ("api", json!({ "command": ["../run"] }), "BadSet"),
        ("api", json!({ "configuration": { "PORT": "1" } }), "BadArguments"),
        ("api", json!({ "ports": ["Admin"] }), "BadSet"),
        ("api", json!({ "replicas": 6 }), "QuotaExceeded"),
        ("api", json!({ "kind": "restore" }), "NothingRuns"),
    ];
    let records = async || {
        let mut records = Vec::new();
        for below in ["owner", "arbiter", "deployment", "configuration", "published", "inventory"] {
            records.extend(world.store.list(&place.space(), below).await.unwrap());
        }
        records
    };
    let before = records().await;
    for (service, more, error) in refused {
        let mut input = json!({
            "environment": place.environment, "service": service, "artifact": format!("sha256:{}", "ab".repeat(32)),
            "configuration": configuration,
        });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let input: Input = serde_json::from_value(input).unwrap();
        let (by, writes) = (attempt("guest", "d7"), world.store.writes());
        let refusal = claim.run(&by, input.clone()).await.unwrap_err();
        assert_eq!(refusal.error, error, "{more}: {refusal}");
        assert_eq!(records().await, before, "{more}");
        assert!(service == "api" || world.store.writes() == writes, "nothing is written before a name is looked at");
        claim.undo(&by, input, None).await.unwrap();
        assert_eq!(records().await, before, "{more}, taken back");
    }
    // What is let in stands under the name, and its configuration with it.
    let let_in = json!({
        "environment": place.environment, "service": "api", "artifact": format!("sha256:{}", "ab".repeat(32)),
        "configuration": configuration,
    });
    claim.run(&attempt("guest", "d7"), serde_json::from_value(let_in).unwrap()).await.unwrap();
    let names: Vec<_> = records().await.into_iter().map(|(name, _)| name).collect();
    for there in ["owner/shop/api", "arbiter/shop/api", "deployment/shop/api/d7", "configuration/shop/api/1"] {
        assert!(names.iter().any(|name| name == there), "{there}: {names:?}");
    }
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
