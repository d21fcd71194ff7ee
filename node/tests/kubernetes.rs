//! Compute on Kubernetes: the contract of the port, and what only a cluster can show.
//!
//! With `KUBECONFIG` each case runs against that API server. It needs the controllers of Deployments
//! and ReplicaSets, and neither scheduler nor nodes: the test plays the kubelet, and runs containers
//! as processes on loopback. Without, a case is told the conversation that it had with a real server
//! (`tests/kubernetes_conversations/`, written with `SKALD_RECORD=1`), where there is one: requests
//! must be exactly the same again. Cases with traffic need the server.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::runtime::compute::process::Secrets;
use actors::runtime::compute::set::SecretRef;
use actors::runtime::compute::{Route, Set, SetId};
use actors::runtime::model::RequestKey;
use actors::runtime::ports::secrets::sealed::{self, SealedFiles};
use actors::runtime::ports::secrets::{Secret, SecretName, SecretStore};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret as KubeSecret, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

#[path = "../../actors/tests/compute_contract/mod.rs"]
#[allow(dead_code, reason = "what is about artifacts is not for images")]
#[macro_use]
mod compute_contract;
mod kubernetes_support;

use compute_contract::{ENVIRONMENT, Place, gateway, get, observe, run, set, set_when, settled, starts, until, with};
use kubernetes_support::{DIGEST, Now, World};

macro_rules! contract {
    ($($part:ident::$case:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let Some(mut world) = World::open(stringify!($case), None).await else { return };
            compute_contract::$part::$case(&mut world).await;
            world.end().await;
        }
    )*};
}

cases!(contract);

fn namespaced<K>(client: Client, world: &World) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client, &world.namespace)
}

/// A set comes, gets all requests, and goes; nothing of it is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_comes_and_goes() {
    let Some(world) = World::open("a_set_comes_and_goes", None).await else { return };
    let set = with(set(&world, "web", "r1", 1), "COLOUR", "red");
    run(&world, &set).await;
    let compute = world.compute();
    compute.route(ENVIRONMENT, "web", &[Route::new("r1", 100)]).await.unwrap();
    assert_eq!(compute.remove(&set.id).await.unwrap_err().error, "StillRouted");
    assert_eq!(observe(&world).await.set("web", "r1").unwrap().weight, 100);
    compute.route(ENVIRONMENT, "web", &[]).await.unwrap();
    compute.remove(&set.id).await.unwrap();
    compute.remove(&set.id).await.unwrap();
    assert!(observe(&world).await.sets.is_empty());
    world
        .behind(async |client| {
            let names = |count: usize| assert_eq!(count, 0);
            names(
                namespaced::<Deployment>(client.clone(), &world).list(&Default::default()).await.unwrap().items.len(),
            );
            names(namespaced::<Service>(client.clone(), &world).list(&Default::default()).await.unwrap().items.len());
            names(namespaced::<KubeSecret>(client, &world).list(&Default::default()).await.unwrap().items.len());
        })
        .await;
    world.end().await;
}

/// Who else says how many replicas there are is asked to give way, and what it said is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_of_somebody_else_is_not_taken() {
    let Some(world) = World::open("a_field_of_somebody_else_is_not_taken", None).await else { return };
    let mut set = set(&world, "web", "r1", 1);
    run(&world, &set).await;
    world
        .behind(async |client| {
            let api: Api<Deployment> = namespaced(client, &world);
            let name = api.list(&Default::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
            let params = PatchParams { field_manager: Some("autoscaler".into()), ..PatchParams::default() };
            api.patch(&name, &params, &Patch::Merge(json!({ "spec": { "replicas": 3 } }))).await.unwrap();
        })
        .await;
    let seen = set_when(&world, &set.id, "somebody scaled it", |seen| seen.ready == 3).await;
    assert_eq!(seen.wanted, 3);
    for replicas in [1, 2] {
        set.replicas = replicas;
        let refused = world.compute().apply(&set).await.unwrap_err();
        assert_eq!((refused.error.as_str(), refused.permanent), ("OwnedElsewhere", true), "{refused}");
        assert!(refused.cause.contains("autoscaler") && refused.cause.contains("replicas"), "{refused}");
    }
    assert_eq!(settled(&world, &Set { replicas: 3, ..set }).await.len(), 3, "nothing was ended");
    world.end().await;
}

/// A Service of that name that is not ours is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_somebody_else_is_left_alone() {
    let Some(world) = World::open("a_service_of_somebody_else_is_left_alone", None).await else { return };
    world
        .behind(async |client| {
            let theirs = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": { "ports": [{ "port": 80 }], "selector": { "app": "theirs" } },
            });
            let api: Api<Service> = namespaced(client, &world);
            api.create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
        })
        .await;
    let set = set(&world, "web", "r1", 0);
    world.compute().apply(&set).await.unwrap();
    let refused = world.compute().route(ENVIRONMENT, "web", &[Route::new("r1", 100)]).await.unwrap_err();
    assert_eq!(refused.error, "OwnedElsewhere", "{refused}");
    world.end().await;
}

/// What carries our label and is not ours is reported, and left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_reported() {
    let Some(world) = World::open("a_stranger_is_reported", None).await else { return };
    run(&world, &set(&world, "web", "r1", 1)).await;
    world
        .behind(async |client| {
            let stranger = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "ghost", "labels": {
                    "app.kubernetes.io/managed-by": "skald", "skald/environment": ENVIRONMENT,
                    "skald/service": "web", "skald/revision": "r1",
                }},
                "spec": { "containers": [{ "name": "main", "image": "i", "args": ["sleep", "600"] }] },
            });
            let api: Api<Pod> = namespaced(client, &world);
            api.create(&PostParams::default(), &serde_json::from_value(stranger).unwrap()).await.unwrap();
        })
        .await;
    let found = until("the stranger is seen", async || observe(&world).await.unmanaged.pop()).await;
    assert_eq!((found.pid, found.claims.as_str(), found.command.as_str()), (None, "ghost", "sleep 600"));
    assert_eq!(observe(&world).await.set("web", "r1").unwrap().replicas.len(), 1, "it is no replica");
    world.end().await;
}

/// What cannot be there is refused with what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_does_not_take_is_refused() {
    let Some(world) = World::open("what_a_cluster_does_not_take_is_refused", None).await else { return };
    let good = set(&world, "web", "r1", 1);
    let refused = async |set: &Set| world.compute().apply(set).await.unwrap_err().error;
    assert_eq!(refused(&Set { digest: "latest".into(), ..good.clone() }).await, "BadSet");
    assert_eq!(refused(&Set { id: SetId::new(ENVIRONMENT, "7up", "r1"), ..good.clone() }).await, "BadSet");
    assert_eq!(refused(&with(good, "NOT A NAME", "x")).await, "BadSet", "the server says so");
    assert!(observe(&world).await.sets.is_empty());
    world.end().await;
}

/// An artifact is an image by its digest; arguments, variables and secrets arrive as they are, and the
/// values of variables stand in the set's Secret alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_arrives() {
    let kept = tempfile::tempdir().unwrap();
    let store = SealedFiles::open(sealed::Settings::new(kept.path()), Arc::new(Now)).await.unwrap();
    let (name, token) = (SecretName::new("test/db").unwrap(), RequestKey::new("one").unwrap());
    store.create_version(&name, &token, Secret::new("hunter2")).await.unwrap();
    let Some(world) = World::open("what_is_given_arrives", Some(Secrets(Arc::new(store)))).await else { return };
    let mut set = with(set(&world, "web", "r1", 1), "GREETING", "hello $(HOST) $$;");
    set.args = ["$(PORT)", "a b", "$$x", ""].map(str::to_owned).to_vec();
    set.ports = vec!["admin".into()];
    set.limits.memory_bytes = Some(64 << 20);
    set.limits.open_files = Some(99);
    set.secrets = BTreeMap::from([("DB".to_owned(), SecretRef { name: "test/db".into(), version: 1 })]);
    let replica = run(&world, &set).await.remove(0);
    assert_eq!((replica.digest.as_str(), replica.config_version.as_str()), (DIGEST, "config-of-r1"));
    assert_eq!((replica.ports["admin"], replica.unlimited), (8081, vec!["openFiles".to_owned()]));
    world
        .behind(async |client| {
            let (_, said) = get(replica.address.unwrap(), "/").await;
            assert_eq!(said["args"], json!(set.args));
            let env = &said["env"];
            assert_eq!((env["GREETING"].as_str(), env["DB"].as_str()), (Some("hello $(HOST) $$;"), Some("hunter2")));
            assert_eq!((env["PORT"].as_str(), env["PORT_ADMIN"].as_str()), (Some("8080"), Some("8081")));
            let deployments: Api<Deployment> = namespaced(client.clone(), &world);
            let all = deployments.list(&Default::default()).await.unwrap().items;
            let text = serde_json::to_string(&all).unwrap();
            assert!(!text.contains("hunter2") && !text.contains("hello"), "{text}");
            let image = format!("registry.example.org/shop/web@sha256:{DIGEST}");
            assert!(text.contains(&image), "{text}");
        })
        .await;
    world.end().await;
}

/// D704: what was deleted while the watch was broken is gone after it, and nothing old is told
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_in_a_break_is_seen_after_it() {
    let Some(world) = World::open("a_deletion_in_a_break_is_seen_after_it", None).await else { return };
    if world.real.is_none() {
        return;
    }
    let set = set(&world, "web", "r1", 1);
    let before = run(&world, &set).await;
    world.compute().route(ENVIRONMENT, "web", &[Route::new("r1", 100)]).await.unwrap();
    let at = gateway(&world).await;
    until("traffic flows", async || get(at, "/web/").await.0.is_success().then_some(())).await;
    world.conversation.cut(true);
    let failure = until("the break is noticed", async || world.compute().observe(ENVIRONMENT).await.err()).await;
    assert!(!failure.permanent, "{failure}");
    assert!(get(at, "/web/").await.0.is_success(), "traffic goes on while the API server is away");
    world
        .behind(async |client| {
            let api: Api<Pod> = namespaced(client, &world);
            api.delete(&before[0].id, &DeleteParams::default()).await.unwrap();
        })
        .await;
    world.conversation.cut(false);
    let old = starts(&before).remove(0);
    let replaced = |seen: &actors::runtime::compute::observed::ObservedSet| {
        seen.ready == 1 && !starts(&seen.replicas).contains(&old)
    };
    let after = until("the break is over", async || {
        let seen = world.compute().observe(ENVIRONMENT).await.ok()?;
        seen.set("web", "r1").filter(|set| replaced(set)).cloned()
    })
    .await;
    assert_eq!(after.ready, 1);
    world.end().await;
}
