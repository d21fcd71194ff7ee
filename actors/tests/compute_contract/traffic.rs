//! Traffic: it goes where it should, and nobody who asks suffers from a change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actors::runtime::compute::Route;
use tokio::task::JoinSet;

use super::*;

/// Clients that ask all the time, and what became of it.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    fn on(at: SocketAddr, path: &'static str, clients: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut all = JoinSet::new();
        for _ in 0..clients {
            let (stop, answered) = (stop.clone(), answered.clone());
            all.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    let (status, said) = get(at, path).await;
                    if status.is_success() {
                        answered.fetch_add(1, Ordering::AcqRel);
                    } else {
                        failures.push(format!("{status} {said}"));
                    }
                }
                failures
            });
        }
        Self { stop, answered, clients: all }
    }

    async fn more(&self, count: usize) {
        let before = self.answered.load(Ordering::Acquire);
        until("requests are answered", async || {
            (self.answered.load(Ordering::Acquire) >= before + count).then_some(())
        })
        .await;
    }

    async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.clients.join_all().await.concat()
    }
}

async fn route(place: &dyn Place, routes: &[Route]) {
    place.compute().route(ENVIRONMENT, "web", routes).await.unwrap();
}

/// Weights are exact, replicas take turns, and it is counted.
pub async fn weights_are_exact(place: &mut impl Place) {
    run(place, &set(place, "web", "r1", 2)).await;
    run(place, &set(place, "web", "r2", 1)).await;
    route(place, &[Route::new("r1", 90), Route::new("r2", 10)]).await;
    let at = gateway(place).await;
    for _ in 0..3 {
        let (mut revisions, mut replicas) = (BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
        for _ in 0..20 {
            let (_, said) = get(at, "/web/").await;
            *revisions.entry(said["revision"].as_str().unwrap().to_owned()).or_default() += 1;
            // Two may have the same number, each among its own processes.
            *replicas.entry(format!("{} {}", said["pid"], said["env"]["SKALD_REPLICA"])).or_default() += 1;
        }
        assert_eq!(revisions, BTreeMap::from([("r1".to_owned(), 18), ("r2".to_owned(), 2)]));
        let mut turns: Vec<u32> = replicas.into_values().collect();
        turns.sort_unstable();
        assert_eq!(turns, [2, 9, 9]);
    }
    for _ in 0..10 {
        get(at, "/web/fail").await;
    }
    let counted = place.compute().traffic(ENVIRONMENT).await.unwrap();
    let web = counted.iter().find(|one| one.service == "web").unwrap();
    let of: BTreeMap<_, _> = web.revisions.iter().map(|one| (one.revision.as_str(), one)).collect();
    assert_eq!((of["r1"].requests, of["r1"].failures), (63, 9));
    assert_eq!((of["r2"].requests, of["r2"].failures), (7, 1));
    assert_eq!(of["r1"].latency_classes.iter().sum::<u64>(), 63);
    assert!(of["r1"].latency_sum > Duration::ZERO);
    place.reborn().await;
    let seen = observe(place).await;
    assert_eq!((seen.set("web", "r1").unwrap().weight, seen.set("web", "r2").unwrap().weight), (90, 10));
    route(place, &[]).await;
    assert_eq!(get(at, "/web/").await.0, StatusCode::NOT_FOUND);
}

/// Routes that make no sense are refused, and what has traffic is not removed.
pub async fn routes_are_checked(place: &mut impl Place) {
    let set = set(place, "web", "r1", 1);
    run(place, &set).await;
    let wrong = async |routes: &[Route]| place.compute().route(ENVIRONMENT, "web", routes).await.unwrap_err().error;
    assert_eq!(wrong(&[Route::new("r1", 99)]).await, "BadRoutes");
    assert_eq!(wrong(&[Route::new("r1", 50), Route::new("r1", 50)]).await, "BadRoutes");
    assert_eq!(wrong(&[Route::new("r1", u32::MAX), Route::new("r2", 101)]).await, "BadRoutes");
    assert_eq!(wrong(&[Route::new("r2", 100)]).await, "UnknownRevision");
    route(place, &[Route::new("r1", 100)]).await;
    assert_eq!(place.compute().remove(&set.id).await.unwrap_err().error, "StillRouted");
    assert_eq!(get(gateway(place).await, "/web/").await.0, StatusCode::OK);
}

/// A revision is replaced under load, and no request fails.
pub async fn a_removal_drains(place: &mut impl Place) {
    let (old, new) = (set(place, "web", "r1", 2), set(place, "web", "r2", 2));
    run(place, &old).await;
    route(place, &[Route::new("r1", 100)]).await;
    let at = gateway(place).await;
    let (quick, slow) = (Load::on(at, "/web/", 3), Load::on(at, "/web/slow", 3));
    quick.more(20).await;
    run(place, &new).await;
    route(place, &[Route::new("r2", 100), Route::new("r1", 0)]).await;
    place.compute().remove(&old.id).await.unwrap();
    quick.more(20).await;
    slow.more(3).await;
    // A replica that is replaced, and a set that shrinks, drain as well.
    let replica = settled(place, &new).await.remove(0);
    place.compute().restart(ENVIRONMENT, &replica.id, replica.incarnation).await.unwrap();
    let old = (replica.id, replica.incarnation);
    let replaced = |seen: &ObservedSet| seen.ready == 2 && !starts(&seen.replicas).contains(&old);
    set_when(place, &new.id, "it was replaced", replaced).await;
    run(place, &Set { replicas: 1, ..new }).await;
    quick.more(20).await;
    slow.more(3).await;
    assert_eq!([quick.failures().await, slow.failures().await].concat(), Vec::<String>::new());
    assert_eq!(get(at, "/web/").await.1["revision"], "r2");
}

/// Requests that may be repeated do not fail when a replica is killed, not even the only one.
pub async fn a_killed_replica_fails_no_idempotent_request(place: &mut impl Place) {
    let mut set = set(place, "web", "r1", 2);
    for count in [2, 1] {
        set.replicas = count;
        let replicas = run(place, &set).await;
        route(place, &[Route::new("r1", 100)]).await;
        let load = Load::on(gateway(place).await, "/web/slow", 4);
        load.more(4).await;
        place.kill(&replicas[0]).await;
        load.more(8).await;
        assert_eq!(load.failures().await, Vec::<String>::new());
        settled(place, &set).await;
    }
}

/// A request for a service that was scaled to zero waits, is seen as demand, and is answered.
pub async fn a_sleeping_service_is_woken(place: &mut impl Place) {
    let mut set = set(place, "web", "r1", 0);
    place.compute().apply(&set).await.unwrap();
    route(place, &[Route::new("r1", 100)]).await;
    let at = gateway(place).await;
    let asked = tokio::spawn(async move { get(at, "/web/first").await });
    until("the demand is seen", async || {
        let counted = place.compute().traffic(ENVIRONMENT).await.unwrap();
        counted.iter().any(|one| one.waiting == 1 && one.unserved_at.is_some()).then_some(())
    })
    .await;
    set.replicas = 1;
    place.compute().apply(&set).await.unwrap();
    let (status, said) = asked.await.unwrap();
    assert_eq!((status, said["path"].as_str()), (StatusCode::OK, Some("/first")));
    let counted = place.compute().traffic(ENVIRONMENT).await.unwrap();
    assert_eq!((counted[0].waiting, counted[0].turned_away), (0, 0));
}

/// The gateway is told which service is meant by the host or the path, and says who asked.
pub async fn requests_pass_whole(place: &mut impl Place) {
    run(place, &set(place, "web", "r1", 1)).await;
    route(place, &[Route::new("r1", 100)]).await;
    let at = gateway(place).await;
    let body = Full::from(vec![7; 3 << 20]);
    let by_host = Request::post(format!("http://{at}/a/b?c=d%20e"))
        .header("host", format!("web.{ENVIRONMENT}.example.org"))
        .header("x-forwarded-for", "192.0.2.1")
        .header("connection", "x-secret")
        .header("x-secret", "for the gateway only")
        .body(body)
        .unwrap();
    let (status, said) = send(by_host).await;
    assert_eq!((status, said["path"].as_str()), (StatusCode::OK, Some("/a/b?c=d%20e")));
    assert_eq!(said["received"], 3 << 20);
    let headers = &said["headers"];
    assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 127.0.0.1");
    assert_eq!(headers["host"], "web.test.example.org");
    assert_eq!(headers["x-secret"], Value::Null);
    let (_, said) = get(at, "/web/a?b").await;
    assert_eq!((said["path"].as_str(), said["headers"]["x-forwarded-prefix"].as_str()), (Some("/a?b"), Some("/web")));
    assert_eq!(get(at, "/none/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(at, "/").await.0, StatusCode::NOT_FOUND);
    let mut many = Request::get(format!("http://{at}/web/"));
    for n in 0..200 {
        many = many.header(format!("x-{n}"), "x");
    }
    let (status, _) = send(many.body(Full::default()).unwrap()).await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}
