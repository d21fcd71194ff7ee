//! Snapshots, membership, leases, definitions: the promises that rest on buckets.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{One, bus, one, three, until};
use bytes::Bytes;
use futures::TryStreamExt;
use node::nats::{Deployed, Deployer, KvCluster, KvDefinitions, KvSnapshots, KvWorkerMemory, Pins, Replicas};
use protocol::{Environment, Epoch, NodeId, ShardId, Tenant, WorkerId, WorkerKind};
use supervisor::ports::{
    Beat, Cluster, INDEX_PREFIX, Kept, Lease, OLD_PAGE_PREFIX, PAGE_PREFIX, PutError, Shelf, Snapshots, WorkerMemory,
};

const SHARD: ShardId = ShardId(2);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

async fn names(snapshots: &KvSnapshots, shard: ShardId) -> BTreeMap<String, Bytes> {
    snapshots.all(shard, Shelf::States).map_ok(|it| (it.name, it.bytes)).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_snapshot_is_put_only_over_the_one_that_was_seen() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let snapshots = KvSnapshots::open(&bus, Replicas::One).await.unwrap();
    let name = "acme/install-7.2=x";
    assert!(snapshots.get(SHARD, name).await.unwrap().is_none());
    let first = snapshots.put(SHARD, name, bytes("1"), 0).await.unwrap();
    assert!(matches!(snapshots.put(SHARD, name, bytes("1b"), 0).await, Err(PutError::Stale)));
    let second = snapshots.put(SHARD, name, bytes("2"), first).await.unwrap();
    assert!(second > first);
    assert!(matches!(snapshots.put(SHARD, name, bytes("old"), first).await, Err(PutError::Stale)));
    assert!(matches!(snapshots.remove(SHARD, name, first).await, Err(PutError::Stale)));
    let there = snapshots.get(SHARD, name).await.unwrap().unwrap();
    assert_eq!((there.name.as_str(), there.revision, there.bytes), (name, second, bytes("2")));
    // Other shards and names of the same beginning are others.
    snapshots.put(ShardId(22), name, bytes("other"), 0).await.unwrap();
    snapshots.put(SHARD, "acme/install-7", bytes("short"), 0).await.unwrap();
    let all = names(&snapshots, SHARD).await;
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("acme/install-7".to_owned(), bytes("short")), (name.to_owned(), bytes("2")),]
    );
}

#[tokio::test]
async fn a_removed_snapshot_stays_removed() {
    let One { bus, server, dir: _dir } = one().await;
    let former = KvSnapshots::open(&bus, Replicas::One).await.unwrap();
    assert!(names(&former, SHARD).await.is_empty());
    // The new owner works on another connection.
    let owner = KvSnapshots::open(&crate::support::bus([server.url()]).await, Replicas::One).await.unwrap();
    let first = owner.put(SHARD, "acme/a", bytes("1"), 0).await.unwrap();
    owner.remove(SHARD, "acme/a", first).await.unwrap();
    owner.remove(SHARD, "acme/a", first).await.unwrap();
    owner.remove(SHARD, "acme/never", 7).await.unwrap();
    owner.remove(SHARD, "acme/never", 0).await.unwrap();
    assert!(owner.get(SHARD, "acme/a").await.unwrap().is_none());
    assert!(names(&owner, SHARD).await.is_empty());
    // The former owner never saw that snapshot nor its removal, and cannot bring it back.
    assert!(matches!(former.put(SHARD, "acme/a", bytes("zombie"), 0).await, Err(PutError::Stale)));
    assert!(owner.get(SHARD, "acme/a").await.unwrap().is_none());
    // For the owner there is none, as it knows; and for the former one once it has read the shard.
    let again = owner.put(SHARD, "acme/a", bytes("2"), 0).await.unwrap();
    owner.remove(SHARD, "acme/a", again).await.unwrap();
    assert!(names(&former, SHARD).await.is_empty());
    former.put(SHARD, "acme/a", bytes("3"), 0).await.unwrap();
}

#[tokio::test]
async fn pages_and_indexes_are_on_shelves_of_their_own() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let snapshots = KvSnapshots::open(&bus, Replicas::One).await.unwrap();
    let shelf = |shelf| {
        let all = snapshots.all(SHARD, shelf).map_ok(|it| it.name);
        async move { all.try_collect::<BTreeSet<String>>().await.unwrap().into_iter().collect::<Vec<_>>() }
    };
    let page = format!("{PAGE_PREFIX}00000000000000000007.1.1");
    let index = format!("{INDEX_PREFIX}00000000000000000007.1.1");
    let old = format!("{OLD_PAGE_PREFIX}00000000000000000003.0");
    let mut revision = 0;
    for name in [page.as_str(), &index, &old, "mark", "saga/acme/page/x.1"] {
        revision = snapshots.put(SHARD, name, bytes(name), 0).await.unwrap();
        assert_eq!(snapshots.get(SHARD, name).await.unwrap().unwrap().bytes, bytes(name));
        // Of another shard of a like number.
        snapshots.put(ShardId(22), name, bytes("other"), 0).await.unwrap();
    }
    assert_eq!(shelf(Shelf::Pages).await, [page.as_str()]);
    assert_eq!(shelf(Shelf::Indexes).await, [index]);
    assert_eq!(shelf(Shelf::States).await, [old.as_str(), "mark", "saga/acme/page/x.1"]);
    assert!(matches!(snapshots.remove(SHARD, &page, revision).await, Err(PutError::Stale)));
    let there = snapshots.get(SHARD, &page).await.unwrap().unwrap();
    snapshots.remove(SHARD, &page, there.revision).await.unwrap();
    assert!(shelf(Shelf::Pages).await.is_empty());
}

#[tokio::test]
async fn many_snapshots_are_read_at_once() {
    const COUNT: usize = 20_000;
    let One { bus, server: _server, dir: _dir } = one().await;
    let snapshots = KvSnapshots::open(&bus, Replicas::One).await.unwrap();
    // Two shards; only one is asked for.
    let put = |n: usize| {
        let snapshots = &snapshots;
        async move {
            let shard = ShardId(if n.is_multiple_of(2) { 0 } else { 1 });
            snapshots.put(shard, &format!("acme/saga-{n}"), Bytes::from(vec![7; 400]), 0).await.unwrap();
        }
    };
    futures::StreamExt::for_each_concurrent(futures::stream::iter(0..COUNT), 256, put).await;
    let begun = std::time::Instant::now();
    assert_eq!(names(&snapshots, ShardId(1)).await.len(), COUNT / 2);
    println!("{} snapshots of {COUNT} read in {:?}", COUNT / 2, begun.elapsed());
}

#[tokio::test]
async fn a_lease_has_one_holder_and_its_epoch_only_grows() {
    let One { bus, mut server, dir: _dir } = one().await;
    let open = || async { KvCluster::open(&crate::support::bus([server.url()]).await, Replicas::One).await.unwrap() };
    let (a, b) = (open().await, open().await);
    let never = Epoch(0);
    let first = a.claim(SHARD, &id("a"), never).await.unwrap().expect("nobody holds it");
    assert_eq!(b.claim(SHARD, &id("b"), never).await.unwrap(), None, "somebody was faster");
    held_by(&b, Some("a"), first).await;
    // Whoever takes the holder for dead claims over its epoch; the former holder can do no more.
    let taken = b.claim(SHARD, &id("b"), first).await.unwrap().expect("nobody was faster");
    assert!(taken > first);
    assert_eq!(a.claim(SHARD, &id("a"), first).await.unwrap(), None);
    a.release(SHARD, first).await.unwrap();
    held_by(&a, Some("b"), taken).await;
    b.release(SHARD, taken).await.unwrap();
    let given_back = until("the lease given back", || async { lease(&a).await.filter(|it| it.owner.is_none()) }).await;
    assert!(given_back.epoch > taken);
    server.kill().await;
    server.restart().await.unwrap();
    let again =
        until("a claim after a restart", || async { a.claim(SHARD, &id("a"), given_back.epoch).await.ok().flatten() });
    assert!(again.await > given_back.epoch);
    drop(bus);
}

#[tokio::test]
async fn beats_change_and_go_and_are_seen_again_after_the_server_was_away() {
    let One { bus, mut server, dir: _dir } = one().await;
    let a = KvCluster::open(&bus, Replicas::One).await.unwrap();
    let b = KvCluster::open(&crate::support::bus([server.url()]).await, Replicas::One).await.unwrap();
    a.announce(&id("a"), bytes("one")).await.unwrap();
    let first = until("the first beat", || async { beat(&b, "a").await }).await;
    assert_eq!(first.info, bytes("one"));
    a.announce(&id("a"), bytes("one")).await.unwrap();
    until("the next beat", || async { beat(&b, "a").await.filter(|it| it.number > first.number) }).await;
    server.kill().await;
    server.restart().await.unwrap();
    let second = beat(&a, "a").await.map_or(0, |beat| beat.number);
    until("a beat after the restart", || async { a.announce(&id("a"), bytes("two")).await.ok() }).await;
    until("its being seen", || async { beat(&b, "a").await.filter(|it| it.number > second) }).await;
    until("leaving", || async { a.leave(&id("a")).await.ok() }).await;
    until("its absence", || async { b.beats().await.ok().filter(Vec::is_empty) }).await;
}

async fn beat(cluster: &KvCluster, node: &str) -> Option<Beat> {
    cluster.beats().await.ok()?.into_iter().find(|beat| beat.node == id(node))
}

async fn lease(cluster: &KvCluster) -> Option<Lease> {
    cluster.leases().await.ok()?.into_iter().find(|lease| lease.shard == SHARD)
}

async fn held_by(cluster: &KvCluster, owner: Option<&str>, epoch: Epoch) {
    let wanted = Lease { shard: SHARD, owner: owner.map(id), epoch };
    until("the lease", || async { lease(cluster).await.filter(|it| *it == wanted) }).await;
}

#[tokio::test]
async fn deploying_the_same_again_changes_nothing() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let definitions = KvDefinitions::open(&bus, Replicas::One).await.unwrap();
    assert_eq!(definitions.latest(None, "install").await.unwrap(), None);
    let none = Pins::new();
    let by = Deployer { by: "acme/ann".into(), at: protocol::Time::from_micros(1_000_000) };
    let deploy = |source: &'static str, digest: &'static str| {
        definitions.deploy(None, "install", bytes(source), (digest, &none), &by)
    };
    assert_eq!(deploy("a", "d1").await.unwrap(), Deployed { version: 1, new: true });
    assert_eq!(deploy("a", "d1").await.unwrap(), Deployed { version: 1, new: false });
    assert_eq!(deploy("b", "d2").await.unwrap(), Deployed { version: 2, new: true });
    assert_eq!(deploy("a", "d1").await.unwrap(), Deployed { version: 3, new: true }, "back to the old source");
    definitions.deploy(None, "install.extra", bytes("x"), ("dx", &none), &by).await.unwrap();
    // Ten at once: each gets a version of its own.
    let many = (0..10).map(|n| {
        definitions.deploy(None, "many", bytes("m"), (&*Box::leak(format!("m{n}").into_boxed_str()), &none), &by)
    });
    let mut versions: Vec<_> =
        futures::future::try_join_all(many).await.unwrap().into_iter().map(|it| it.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=10).collect::<Vec<_>>());
    let second = definitions.get(None, "install", 2).await.unwrap().unwrap();
    assert_eq!((second.source, second.digest.as_str()), (bytes("b"), "d2"));
    assert_eq!(definitions.get(None, "install", 9).await.unwrap(), None);
    assert_eq!(definitions.latest(None, "install").await.unwrap().unwrap().version, 3);
    // A tenant counts its own versions, and sees no other tenant's.
    let (acme, other) = (Tenant::new("acme").unwrap(), Tenant::new("other").unwrap());
    let own = definitions.deploy(Some(&acme), "install", bytes("mine"), ("dm", &none), &by).await.unwrap();
    assert_eq!(own, Deployed { version: 1, new: true });
    assert_eq!(definitions.latest(Some(&acme), "install").await.unwrap().unwrap().source, bytes("mine"));
    assert_eq!(definitions.latest(None, "install").await.unwrap().unwrap().version, 3);
    assert_eq!(definitions.latest(Some(&other), "install").await.unwrap(), None);
    let seen = definitions.list(&acme).await.unwrap();
    assert_eq!(seen.iter().filter(|it| it.tenant.is_some()).count(), 1);
    assert_eq!(definitions.built_in("install", "d2", &none).await.unwrap(), Some(2), "an older one is known");
    assert_eq!(definitions.built_in("install", "d9", &none).await.unwrap(), None);
    let listed: Vec<_> = definitions.list(&other).await.unwrap().into_iter().map(|it| (it.name, it.version)).collect();
    let of = |name: &str| listed.iter().filter(|it| it.0 == name).map(|it| it.1).collect::<Vec<_>>();
    assert_eq!((of("install"), of("install.extra"), of("many").len()), (vec![1, 2, 3], vec![1], 10));
}

#[tokio::test]
async fn three_servers_keep_the_same_promises() {
    let mut three = three().await;
    let replicas = Replicas::Three;
    let snapshots = KvSnapshots::open(&three.bus, replicas).await.unwrap();
    let cluster = KvCluster::open(&three.bus, replicas).await.unwrap();
    // Eight writers at once on one stream meet the transient refusals of replicated streams.
    let write = |n: u16| {
        let snapshots = &snapshots;
        async move {
            let mut revision = 0;
            for round in 0..50 {
                revision = snapshots.put(ShardId(n), "acme/x", bytes(&round.to_string()), revision).await.unwrap();
            }
        }
    };
    futures::future::join_all((0..8).map(write)).await;
    for n in 0..8 {
        assert_eq!(names(&snapshots, ShardId(n)).await.into_values().collect::<Vec<_>>(), [bytes("49")]);
    }
    let held = cluster.claim(SHARD, &id("a"), Epoch(0)).await.unwrap().unwrap();
    let stream = three.bus.jetstream.get_stream("KV_skald_cluster").await.unwrap();
    let leader = stream.cached_info().cluster.clone().unwrap().leader.unwrap();
    three.servers.named(&leader).unwrap().kill().await;
    let over =
        until("a claim with a new leader", || async { cluster.claim(SHARD, &id("b"), held).await.ok().flatten() });
    let over = over.await;
    assert!(over > held);
    held_by(&cluster, Some("b"), over).await;
    let rest = three.servers.servers().iter().filter(|it| it.config().name != leader).map(|it| it.url());
    let other = KvSnapshots::open(&bus(rest.collect::<Vec<_>>()).await, replicas).await.unwrap();
    assert_eq!(names(&other, ShardId(5)).await.into_values().collect::<Vec<_>>(), [bytes("49")]);
    three.servers.stop().await;
}

#[tokio::test]
async fn what_a_worker_remembers_is_written_only_over_what_was_seen() {
    let One { bus, server, dir: _dir } = one().await;
    let worker = |environment: &str| {
        let (kind, tenant) = (WorkerKind::new("health").unwrap(), Tenant::new("acme").unwrap());
        WorkerId::new(kind, tenant, Environment::new(environment).unwrap())
    };
    let (prod, other) = (worker("prod.eu"), worker("prod"));
    let old = KvWorkerMemory::open(&bus, Replicas::One).await.unwrap();
    let new = KvWorkerMemory::open(&crate::support::bus([server.url()]).await, Replicas::One).await.unwrap();
    assert_eq!(old.get(&prod).await.unwrap(), None);
    let first = old.put(&prod, bytes("1"), 0).await.unwrap();
    assert_eq!(new.get(&prod).await.unwrap(), Some(Kept { revision: first, bytes: bytes("1") }));
    let second = new.put(&prod, bytes("2"), first).await.unwrap();
    assert!(matches!(old.put(&prod, bytes("late"), first).await, Err(PutError::Stale)));
    assert!(matches!(old.put(&prod, bytes("late"), 0).await, Err(PutError::Stale)));
    assert_eq!(old.get(&prod).await.unwrap(), Some(Kept { revision: second, bytes: bytes("2") }));
    assert_eq!(old.get(&other).await.unwrap(), None, "each worker has its own");
}

#[tokio::test]
async fn a_store_of_definitions_that_was_lost_is_not_taken_for_an_empty_one() {
    let One { bus, server, dir: _dir } = one().await;
    let now = || protocol::Time::from_micros(jiff::Timestamp::now().as_microsecond());
    let later = |seconds| now().after(std::time::Duration::from_secs(seconds));
    let definitions = KvDefinitions::open(&bus, Replicas::One).await.unwrap();
    assert!(!definitions.is_being_refilled(now()).await.unwrap(), "it is new, and nothing was lost");
    bus.jetstream.delete_stream("KV_skald_definitions").await.unwrap();
    assert!(definitions.is_being_refilled(later(3_600)).await.unwrap(), "it is gone");
    // Another node makes it again.
    let other = crate::support::bus([server.url()]).await;
    KvDefinitions::open(&other, Replicas::One).await.unwrap();
    assert!(definitions.is_being_refilled(now()).await.unwrap(), "nodes are putting back what they know");
    assert!(!definitions.is_being_refilled(later(11)).await.unwrap(), "what is not there now is gone");
}

/// A server gives a stream a thousand consumers, and every listing needs one.
#[tokio::test]
async fn readings_leave_no_consumer_behind() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let definitions = KvDefinitions::open(&bus, Replicas::One).await.unwrap();
    let acme = Tenant::new("acme").unwrap();
    let read = || async { definitions.list(&acme).await };
    for _ in 0..20 {
        let all = futures::future::join_all((0..100).map(|_| read())).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
    }
    until("their consumers are gone", || async {
        let stream = bus.jetstream.get_stream("KV_skald_definitions").await.unwrap();
        (stream.cached_info().state.consumer_count == 0).then_some(())
    })
    .await;
}

/// `nats stream edit --max-msgs 2`, and what was acknowledged is cut away behind everybody's back.
#[tokio::test]
async fn limits_that_somebody_gives_a_stream_are_taken_away_and_told() {
    let One { bus, server: _server, dir: _dir } = one().await;
    KvDefinitions::open(&bus, Replicas::One).await.unwrap();
    let mut lost = node::nats::watch(&bus, Vec::new());
    let config =
        || async { bus.jetstream.get_stream("KV_skald_definitions").await.unwrap().cached_info().config.clone() };
    let limited = async_nats::jetstream::stream::Config { max_messages: 2, ..config().await };
    bus.jetstream.update_stream(limited).await.unwrap();
    let told = tokio::time::timeout(crate::support::SOON, lost.recv()).await.unwrap().unwrap();
    assert!(told.what.contains("somebody limited KV_skald_definitions"), "{told:?}");
    assert_eq!(config().await.max_messages, -1);
}
