//! What one tenant may have in all: settings of the nodes, each with the same answer when it is full, which
//! changes nothing of what is there and nothing for others.

use node::client::{Client, Error};
use protocol::Code;
use protocol::command::{Deploy, Signal, Start};
use protocol::runtime::CreateEnvironment;
use protocol::view::Status;
use scenarios::stage::{PATIENCE, saga_key, start};
use serde_json::json;

use super::House;
use super::beside::{Bystander, alone};

/// Holds what it was started with until it is told to end.
const HOLD: &str = r#"
name: hold
definition:
  StartAt: W
  States: { W: { Type: Task, Resource: "signal:go", End: true } }
"#;
/// What each of the tenants may have.
const ENVIRONMENTS: usize = 2;
const DEFINITIONS: usize = 2;
/// A part for each of the eight shards.
const JOURNAL_BYTES: u64 = 8 * 100_000;
/// More than the shards take together.
const SAGAS: usize = 100;

fn full<T: std::fmt::Debug>(answer: Result<T, Error>, setting: &str) {
    let refused = answer.expect_err("it is one too many");
    assert_eq!(refused.code(), Some(Code::Quota), "{refused}");
    assert!(refused.to_string().contains(setting), "{refused}");
}

async fn environment(client: &Client, name: &str) -> Result<(), Error> {
    let create = CreateEnvironment { environment: name.into(), stage: Some("dev".into()), region: None };
    client.create_environment(&create).await.map(drop)
}

async fn definition(client: &Client, text: &str) -> Result<(), Error> {
    let source =
        format!("name: mine\ndescription: {text}\ndefinition:\n  StartAt: A\n  States: {{ A: {{ Type: Succeed }} }}\n");
    client.deploy(&Deploy { source, file: None }).await.map(drop)
}

fn hold(number: usize) -> Start {
    start("hold", &format!("held-{number}"), json!({ "text": "x".repeat(50_000) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_has_is_bounded_and_others_have_their_own() {
    let _alone = alone().await;
    let mut house = House::build(0, &[]).await;
    let node = house
        .node_with(0, &[HOLD], |config| {
            config.limits.environments_per_tenant = ENVIRONMENTS;
            config.limits.definitions_per_tenant = DEFINITIONS;
            config.limits.journal_bytes_per_tenant = JOURNAL_BYTES;
        })
        .await
        .unwrap();
    house.nodes.push(node);
    let ann = house.client("acme.ann", "acme", "ann").await;
    Bystander::of("a tenant that asks for too much", &ann).await.notices(too_much(&house, &ann)).await;
    // Alone it fills what a shard lets one tenant have.
    ann.start(&hold(0)).await.unwrap();
}

async fn too_much(house: &House, ann: &Client) {
    let eve = house.client("evil.eve", "evil", "eve").await;
    for number in 0..ENVIRONMENTS {
        environment(&eve, &format!("eves-{number}")).await.unwrap();
    }
    full(environment(&eve, "eves-more").await, "limits.environments_per_tenant");
    environment(&eve, "eves-0").await.expect("it is there already");
    environment(ann, "anns").await.unwrap();

    let ops = house.client("acme.ops", "acme", "ops").await;
    for number in 0..DEFINITIONS {
        definition(&ops, &format!("number {number}")).await.unwrap();
    }
    full(definition(&ops, "one more").await, "limits.definitions_per_tenant");
    definition(&ops, "number 1").await.expect("it is there already");

    let mut held = Vec::new();
    for number in 0..SAGAS {
        match eve.start(&hold(number)).await {
            Ok(_) => held.push(number),
            refused => full(refused, "limits.journal_bytes_per_tenant"),
        }
        eve.describe(&saga_key(&format!("held-{number}"))).await.ok();
    }
    assert!((8..64).contains(&held.len()), "{} were let in", held.len());
    eve.start(&hold(held[0])).await.expect("it is there already");
    let key = saga_key(&format!("held-{}", held[0]));
    let go = Signal { key: key.clone(), name: "go".into(), payload: json!({}), id: None };
    eve.signal(&go).await.unwrap();
    assert_eq!(eve.wait(&key, PATIENCE).await.unwrap().status, Status::Succeeded, "what lives goes on");
}
