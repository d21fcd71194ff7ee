//! Workers on a real cluster: each runs on one node, follows its shard when that node dies, stays
//! paused there, hears events, and answers people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use node::client::{Client, RunAnswer};
use protocol::command::{ListWorkers, PauseWorker, ResumeWorker, RunWorker};
use protocol::worker::{RunOutcome, WorkerStatus, WorkerView};
use protocol::{Code, Envelope, Environment, EventId, Tenant, TraceId, WorkerKind};
use scenarios::cluster::{TestCluster, until};
use scenarios::stage::PATIENCE;
use serde_json::json;
use supervisor::ports::{Environments, Unavailable};
use supervisor::worker::{Failure, Report, Rhythm, Run, Worker};

/// What ran: the number of the node, and the run.
type Ledger = Arc<Mutex<Vec<(usize, Run)>>>;

/// Notes each run; with a timer or by events.
struct Noting {
    node: usize,
    kind: &'static str,
    rhythm: Rhythm,
    triggers: &'static [&'static str],
    ledger: Ledger,
}

#[async_trait]
impl Worker for Noting {
    fn kind(&self) -> &str {
        self.kind
    }

    fn rhythm(&self) -> Rhythm {
        self.rhythm.clone()
    }

    fn triggers(&self) -> &[&str] {
        self.triggers
    }

    async fn run(&self, run: &Run) -> Result<Report, Failure> {
        self.ledger.lock().unwrap().push((self.node, run.clone()));
        Ok(Report::unchanged("a quiet place", "nothing was to do"))
    }
}

struct Places;

#[async_trait]
impl Environments for Places {
    async fn of(&self, _: &WorkerKind) -> Result<Vec<(Tenant, Environment)>, Unavailable> {
        let mut all: Vec<_> = (0..8).map(|number| (tenant("acme"), environment(&format!("e{number}")))).collect();
        all.push((tenant("evil"), environment("lair")));
        Ok(all)
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn environment(name: &str) -> Environment {
    Environment::new(name).unwrap()
}

fn kind(name: &str) -> WorkerKind {
    WorkerKind::new(name).unwrap()
}

async fn cluster(ledger: &Ledger) -> TestCluster {
    let ledger = ledger.clone();
    let make = move |node: usize| {
        let worker = |kind, rhythm, triggers| {
            Arc::new(Noting { node, kind, rhythm, triggers, ledger: ledger.clone() }) as Arc<dyn Worker>
        };
        let often = Rhythm::every(Duration::from_millis(500));
        let workers = vec![worker("tick", often, &[]), worker("watch", Rhythm::on_events(), &["StoryTold"])];
        (workers, Arc::new(Places) as Arc<dyn Environments>)
    };
    TestCluster::of_workers(2, make).await.unwrap()
}

async fn list(client: &Client, list: &ListWorkers) -> Vec<WorkerView> {
    client.workers(list).await.map(|listed| listed.workers).unwrap_or_default()
}

/// One worker with all there is to say, if exactly one node runs it.
async fn show(client: &Client, of: &str, place: &str) -> Option<WorkerView> {
    let which = ListWorkers { kind: Some(kind(of)), environment: Some(environment(place)) };
    let mut all = list(client, &which).await;
    if all.len() == 1 { all.pop() } else { None }
}

/// Waits until each worker of `acme` is on one node, and those with a timer ran; answers where.
async fn settled(client: &Client, nodes: usize) -> BTreeMap<(String, String), String> {
    let where_all_are = async || {
        let all = list(client, &ListWorkers::default()).await;
        let ran = all.iter().all(|it| it.status != WorkerStatus::Loading && (it.kind != kind("tick") || it.runs > 0));
        let count = all.len();
        let places: BTreeMap<_, _> =
            all.into_iter().map(|it| ((it.kind.to_string(), it.environment.to_string()), it.node)).collect();
        let on = places.values().collect::<BTreeSet<_>>().len();
        (ran && count == 16 && places.len() == 16 && on == nodes).then_some(places)
    };
    until(PATIENCE, &format!("16 workers run on {nodes} nodes"), async || where_all_are().await.is_some()).await;
    where_all_are().await.expect("they stay where they are")
}

/// Publishes an event as a node would.
async fn tell(client: &Client, id: &str, place: &str) {
    let event = Envelope {
        event_id: EventId::new(id).unwrap(),
        event_type: "StoryTold".into(),
        tenant_id: tenant("acme"),
        project_id: None,
        module_id: None,
        trace_id: TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        correlation_id: "acme/story".into(),
        causation_id: "cmd-1".into(),
        causes: 0,
        sequence: 0,
        occurred_at: protocol::Time::from_micros(1),
        payload: json!({ "environmentId": place }),
    };
    client.nats().publish("skald.evt.acme.StoryTold", serde_json::to_vec(&event).unwrap().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_run_on_one_node_each_and_follow_their_shards() {
    let ledger = Ledger::default();
    let mut cluster = cluster(&ledger).await;
    let (ann, eve) = (cluster.client().await.unwrap(), cluster.client_as("evil", "eve").await.unwrap());
    let ran = |of: &str, place: &str| {
        let all = ledger.lock().unwrap().clone();
        let ours = |run: &Run| run.worker.kind == kind(of) && run.worker.environment == environment(place);
        all.into_iter().filter(|(_, run)| ours(run)).collect::<Vec<_>>()
    };

    // Each on one node, by its timer.
    let places = settled(&ann, 2).await;
    ledger.lock().unwrap().clear();
    until(PATIENCE, "each ran three times more", async || (0..8).all(|n| ran("tick", &format!("e{n}")).len() >= 3))
        .await;
    for number in 0..8 {
        let place = format!("e{number}");
        let home = &places[&("tick".to_owned(), place.clone())];
        let runs = ran("tick", &place);
        assert!(runs.iter().all(|(node, _)| format!("n{node}") == *home), "{place} runs on {home} alone");
        assert!(runs.windows(2).all(|pair| pair[1].1.number == pair[0].1.number + 1), "one after the other");
    }

    // A person runs one, and hears how it went.
    let run = RunWorker { kind: kind("watch"), environment: environment("e3"), wait_ms: Some(5_000) };
    let RunAnswer::Ended(view) = ann.run_worker(&run).await.unwrap() else { panic!("it ended") };
    assert_eq!((view.number, view.outcome, view.trigger.as_str()), (1, RunOutcome::Unchanged, "by hand (ann)"));
    assert_eq!((view.saw.as_str(), view.why.as_str()), ("a quiet place", "nothing was to do"));

    // An event runs the one that it concerns, once, however often it comes.
    for id in ["story-1", "story-1", "story-2"] {
        tell(&ann, id, "e3").await;
    }
    let events = || {
        let runs = ran("watch", "e3");
        runs.iter().flat_map(|(_, run)| run.events.clone()).map(|it| it.event_id.to_string()).collect::<Vec<_>>()
    };
    until(PATIENCE, "both events are handled", async || events().len() >= 2).await;
    assert_eq!(events(), ["story-1", "story-2"]);
    assert!((0..8).all(|n| n == 3 || ran("watch", &format!("e{n}")).is_empty()), "no other is concerned");
    let (_, told) = ran("watch", "e3").pop().unwrap();
    assert_eq!((told.trace.as_str(), told.correlation.as_str()), ("4bf92f3577b34da6a3ce929d0e0e4736", "acme/story"));

    // Each tenant has its own.
    let theirs: Vec<_> = list(&eve, &ListWorkers::default()).await.iter().map(|it| it.id().to_string()).collect();
    assert_eq!(theirs, ["tick/evil/lair", "watch/evil/lair"]);
    let pause = PauseWorker { kind: kind("tick"), environment: environment("e3"), reason: "a test".into() };
    assert_eq!(eve.pause_worker(&pause).await.unwrap_err().code(), Some(Code::NotFound));
    let unknown = ResumeWorker { kind: kind("unheard-of"), environment: environment("e3") };
    assert_eq!(ann.resume_worker(&unknown).await.unwrap_err().code(), Some(Code::NotFound));

    // A paused one stays so when its node dies; the others go on where they come to.
    ann.pause_worker(&pause).await.unwrap();
    let before = show(&ann, "tick", "e3").await.unwrap();
    assert_eq!((before.status, before.next), (WorkerStatus::Paused, None));
    let dies = usize::from(before.node == "n1");
    cluster.nodes.remove(dies).kill();
    let survivor = format!("n{}", 1 - dies);
    let places = settled(&ann, 1).await;
    assert!(places.values().all(|node| *node == survivor), "{places:?}");
    ledger.lock().unwrap().clear();
    until(PATIENCE, "all but the paused one run there", async || {
        (0..8).all(|n| n == 3 || ran("tick", &format!("e{n}")).len() >= 2)
    })
    .await;
    assert!(ledger.lock().unwrap().iter().all(|(node, _)| *node == 1 - dies));
    assert!(ran("tick", "e3").is_empty());
    let after = show(&ann, "tick", "e3").await.unwrap();
    let paused = after.paused.unwrap();
    assert_eq!((after.status, paused.by.as_str(), paused.reason.as_str()), (WorkerStatus::Paused, "ann", "a test"));
    assert_eq!((after.runs, after.last), (before.runs, before.last), "what it did last moved too");

    // It goes on where it is now.
    let resume = ResumeWorker { kind: kind("tick"), environment: environment("e3") };
    ann.resume_worker(&resume).await.unwrap();
    until(PATIENCE, "it runs again", async || !ran("tick", "e3").is_empty()).await;
    assert_eq!(ran("tick", "e3")[0].1.number, before.runs + 1);
    for node in cluster.nodes.drain(..) {
        node.drain().await.unwrap();
    }
}
