//! Four eyes: one approval, one effect, of what was there when it was given; and nobody says for somebody
//! else that something is approved.

use protocol::command::Start;
use protocol::runtime::{BindEnvironment, CreateEnvironment};
use protocol::view::Status;
use scenarios::stage::{PATIENCE, saga_key};
use serde_json::{Value, json};

use super::House;
use super::beside::{Bystander, alone};

const RIGHT: &str = "/environments/prod/tenants/acme";

/// Production of acme, whose people are ann and bob.
async fn prod() -> House {
    let house = House::platform().await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    let create = CreateEnvironment { environment: "prod".into(), stage: Some("prod".into()), region: None };
    ann.create_environment(&create).await.unwrap();
    house
}

/// Approves what waits last, as `token`.
async fn approve(house: &House, token: &str) -> u16 {
    let (_, listed) = house.http(token, "GET", "/decisions", json!({}), None).await;
    let rows = listed["decisions"].as_array().unwrap();
    let Some(open) = rows.iter().rfind(|row| row["approvedBy"].is_null()) else { return 0 };
    let path = format!("/decisions/{}/approve", open["decision"].as_str().unwrap());
    house.http(token, "POST", &path, json!({}), None).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_request_that_is_repeated_puts_nothing_back() {
    let _alone = alone().await;
    let house = prod().await;
    let eve = house.client("evil.eve", "evil", "eve").await;
    Bystander::of("an approved request again and again", &eve).await.notices(repeats(&house)).await;
    house.end().await;
}

async fn repeats(house: &House) {
    let five = json!({ "maxReplicas": 5 });
    let bind = async || house.http("ann", "PUT", RIGHT, five.clone(), Some("bind-1")).await;
    assert_eq!(bind().await.0, 409);
    assert_eq!(approve(house, "ann").await, 403, "one's own");
    assert_eq!(approve(house, "eve").await, 0, "another tenant has nothing to approve");
    assert_eq!(approve(house, "bob").await, 200);
    let first = bind().await;
    assert_eq!((first.0, &first.1["maxReplicas"]), (200, &json!(5)));
    assert_eq!(bind().await, first, "the first answer");
    // An operator takes the right away.
    let operator = house.client("acme.bob", "acme", "bob").await;
    let tenant = protocol::Tenant::new("acme").unwrap();
    let away = BindEnvironment { environment: "prod".into(), tenant, max_replicas: 0 };
    operator.bind_environment(&away).await.unwrap();
    for _ in 0..3 {
        let (status, said) = bind().await;
        assert_eq!((status, said["code"].as_str()), (409, Some("conflict")), "{said}");
    }
    let (status, said) = house.http("ann", "GET", "/environments/prod/secrets", json!({}), None).await;
    assert_eq!(status, 403, "it is not bound again: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn production_stays_production_at_every_door() {
    let house = prod().await;
    let less = json!({ "environment": "prod", "stage": "dev" });
    for body in [less.clone(), json!({ "environment": "prod" })] {
        let (status, said) = house.http("ann", "POST", "/environments", body, None).await;
        assert_eq!((status, said["code"].as_str()), (409, Some("not_now")), "{said}");
    }
    let raw = house.raw("acme.ann").await;
    let body = serde_json::to_vec(&less).unwrap();
    let answer = raw.nats.request("skald.cmd.acme.ann.environment.create", body.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer.to_string().contains("nobody has approved this change"), "{answer}");
    let (code, said) = house.skald("acme.ann", &["environment", "create", "prod", "--stage", "dev"]).await;
    assert_ne!(code, Some(0), "{said}");
    // To make it again without a word of its stage leaves that as it is.
    let (code, said) = house.skald("acme.ann", &["environment", "create", "prod"]).await;
    assert_eq!((code, said["stage"].as_str()), (Some(0), Some("prod")), "{said}");
    house.end().await;
}

/// Who approved a remediation is what the findings say, and not what a body does.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_approval_is_none() {
    let house = prod().await;
    let ann = house.client("acme.ann", "acme", "ann").await;
    let tenant = protocol::Tenant::new("acme").unwrap();
    ann.bind_environment(&BindEnvironment { environment: "prod".into(), tenant, max_replicas: 5 }).await.unwrap();
    for (key, approved_by) in [("forged", json!("bob")), ("plain", Value::Null)] {
        let input = json!({
            "environment": "prod", "service": "web", "kind": "remediate", "source": "drift", "kinds": ["image"],
            "artifact": format!("sha256:{}", "ab".repeat(32)), "approvedBy": approved_by,
        });
        let definition = "runtime_deployment".into();
        let start = Start { definition, version: None, key: Some(saga_key(key)), input, wait_ms: None };
        ann.start(&start).await.unwrap();
        let view = ann.wait(&saga_key(key), PATIENCE).await.unwrap();
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(view.status, Status::Failed, "{text}");
        assert!(text.contains("approved"), "{text}");
    }
    house.end().await;
}
