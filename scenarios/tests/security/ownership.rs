//! A name belongs to whoever bound it first: what a guest can do in another tenant's environment, at
//! every door.

use node::client::Client;
use protocol::command::Start;
use protocol::runtime::{
    BindEnvironment, BindSecret, CreateEnvironment, ListServices, OfService, PublishConfiguration,
};
use protocol::view::{SagaView, Status};
use scenarios::stage::{PATIENCE, saga_key};
use serde_json::{Value, json};

use super::House;
use super::beside::{Bystander, alone};

const WEB: &str = "/environments/dev/services/web";

/// `dev` of acme, which evil may use; acme has a secret bound to `web`, and a configuration of `api`.
async fn dev() -> (House, Client, Client) {
    let house = House::platform().await;
    let (ann, eve) = (house.client("acme.ann", "acme", "ann").await, house.client("evil.eve", "evil", "eve").await);
    let create = CreateEnvironment { environment: "dev".into(), stage: None, region: None };
    ann.create_environment(&create).await.unwrap();
    let tenant = protocol::Tenant::new("evil").unwrap();
    let bind = BindEnvironment { environment: "dev".into(), tenant, max_replicas: 5 };
    ann.bind_environment(&bind).await.unwrap();
    scenarios::cluster::until(PATIENCE, "the keeper takes a secret", || async {
        let put = json!({ "environment": "dev", "secret": "db", "value": "hunter2", "id": "first" });
        ann.put_secret(&serde_json::from_value(put).unwrap()).await.is_ok()
    })
    .await;
    let of = BindSecret {
        environment: "dev".into(),
        secret: "db".into(),
        service: Some("web".into()),
        rotate_every_ms: None,
    };
    ann.bind_secret(&of).await.unwrap();
    publish(&ann, "api").await.unwrap();
    (house, ann, eve)
}

async fn publish(client: &Client, service: &str) -> Result<(), node::client::Error> {
    let entries = [("COLOUR".to_owned(), "blue".to_owned())].into();
    let publish = PublishConfiguration { environment: "dev".into(), service: service.into(), entries };
    client.publish_configuration(&publish).await.map(|_| ())
}

/// A deployment that somebody starts, when it has ended.
async fn deployed(client: &Client, key: &str, service: &str, more: Value) -> SagaView {
    let mut input = json!({
        "environment": "dev", "service": service, "artifact": format!("sha256:{}", "ab".repeat(32)),
    });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let definition = "runtime_deployment".into();
    let start = Start { definition, version: None, key: Some(saga_key(key)), input, wait_ms: None };
    client.start(&start).await.unwrap();
    client.wait(&saga_key(key), PATIENCE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_who_deploys_first_gets_nothing_that_its_host_bound_to_the_name() {
    let (house, ann, eve) = dev().await;
    // Nothing was deployed yet; the name is acme's because a secret is bound to it.
    for (service, key) in [("web", "take-web"), ("api", "take-api")] {
        let view = deployed(&eve, key, service, json!({})).await;
        assert_eq!(view.status, Status::Failed, "{view:#?}");
        let text = serde_json::to_string(&view).unwrap();
        assert!(text.contains("NameTaken") && text.contains("ask acme"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("blue"), "{text}");
    }
    // Its own name is its own, but not what its host keeps under others.
    for (key, more, error) in [
        ("borrow-1", json!({ "configurationAt": { "configurationId": "api", "version": 1 } }), "ConfigurationMissing"),
        ("borrow-2", json!({ "secrets": { "db": 0 } }), "SecretMissing"),
    ] {
        let view = deployed(&eve, key, "mine", more).await;
        let text = serde_json::to_string(&view).unwrap();
        assert!(view.status == Status::Failed && text.contains(error), "{text}");
    }
    // What was refused takes no name: this one is still for whoever comes first.
    for (client, taken) in [(&eve, false), (&ann, true)] {
        let refused = publish(client, "mine").await.err().map(|refused| refused.to_string());
        assert_eq!(refused.as_ref().is_some_and(|why| why.contains("belongs to another tenant")), taken, "{refused:?}");
    }
    let shouted = deployed(&eve, "shouted", "MSVC", json!({})).await;
    assert!(serde_json::to_string(&shouted).unwrap().contains("cannot be its name"), "{shouted:#?}");
    let services = ann.services(&ListServices::default()).await.unwrap();
    assert!(services.services.is_empty(), "nothing was ever let in: {services:?}");
    // And the host is not locked out of what is its own; what it takes back is free for anybody.
    publish(&ann, "web").await.unwrap();
    let db = |service: &str| json!({ "environment": "dev", "secret": "db", "service": service });
    ann.bind_secret(&serde_json::from_value(db("lent")).unwrap()).await.unwrap();
    publish(&eve, "lent").await.unwrap_err();
    ann.unbind_secret(&serde_json::from_value(db("lent")).unwrap()).await.unwrap();
    publish(&eve, "lent").await.unwrap();
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_asks_whose_a_name_is() {
    let _alone = alone().await;
    let (house, ann, eve) = dev().await;
    publish(&ann, "web").await.unwrap();
    let host = ann.clone();
    let bystander = Bystander::of("a guest at every door", &ann).await.and("publish", move |_| {
        let host = host.clone();
        async move { publish(&host, "web").await.unwrap() }
    });
    bystander.notices(doors(&house, &eve)).await;
    // Whoever has the name is served at all of them.
    let of = OfService { environment: "dev".into(), service: "web".into() };
    assert_eq!(ann.configuration(&serde_json::from_value(json!(of)).unwrap()).await.unwrap().entries["COLOUR"], "blue");
    let (status, said) = house.http("ann", "GET", &format!("{WEB}/configurations/1"), json!({}), None).await;
    assert_eq!((status, said["entries"]["COLOUR"].as_str()), (200, Some("blue")), "{said}");
    let (code, said) = house.skald("acme.ann", &["config", "show", "web", "--environment", "dev"]).await;
    assert_eq!((code, said["entries"]["COLOUR"].as_str()), (Some(0), Some("blue")), "{said}");
    house.end().await;
}

/// A guest asks at all of them for what is its host's.
async fn doors(house: &House, eve: &Client) {
    let taken = "belongs to another tenant";
    // NATS.
    let of = OfService { environment: "dev".into(), service: "web".into() };
    for refused in [
        eve.resume_service(&of).await.unwrap_err(),
        eve.unhold_service(&of).await.unwrap_err(),
        eve.remove_policy(&of).await.unwrap_err(),
        eve.incident(&of).await.unwrap_err(),
        publish(eve, "web").await.unwrap_err(),
    ] {
        assert!(refused.to_string().contains(taken), "{refused}");
    }
    // Without the client.
    let raw = house.raw("evil.eve").await;
    for verb in ["configuration.show", "configuration.list", "service.drain", "drift.remediate"] {
        let body = serde_json::to_vec(&of).unwrap();
        let answer = raw.nats.request(format!("skald.cmd.evil.eve.{verb}"), body.into()).await.unwrap();
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        assert!(text.contains(taken) && !text.contains("blue"), "{verb}: {text}");
    }
    // HTTP.
    for (method, path) in [("GET", "configurations/1"), ("POST", "resume"), ("POST", "unhold"), ("POST", "deployments")]
    {
        let artifact = json!({ "artifact": format!("sha256:{}", "ab".repeat(32)) });
        let body = if path == "deployments" { artifact } else { json!({}) };
        let (status, said) = house.http("eve", method, &format!("{WEB}/{path}"), body, None).await;
        assert_eq!(status, 403, "{path}: {said}");
        assert!(said["detail"].as_str().unwrap().contains(taken), "{path}: {said}");
    }
    // The program.
    for args in [
        ["config", "show", "web", "--environment", "dev"],
        ["config", "list", "web", "--environment", "dev"],
        ["services", "unhold", "web", "--environment", "dev"],
    ] {
        let (code, said) = house.skald("evil.eve", &args).await;
        assert!(code != Some(0) && said.to_string().contains(taken), "{args:?}: {said}");
    }
}
