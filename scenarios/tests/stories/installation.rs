//! Installing real packages through the whole runtime: it succeeds with its events and provenance,
//! and whichever step fails, the target and the tenant's seats are as before (M048–M112, H09–H12).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::marketplace::entitlements::Entitlement;
use actors::marketplace::{self, tree};
use node::client::{Client, Since};
use node::node::SystemClock;
use protocol::command::{Cancel, Start};
use protocol::view::{SagaView, Status};
use protocol::{Envelope, SagaKey, Tenant, Time, Value};
use scenarios::cluster::{TestCluster, until};
use serde_json::json;

/// The packages that these stories need: one asset and everything it may depend on.
const NEEDED: &[&str] = &[
    "serde_json-",
    "serde-",
    "serde_core-",
    "serde_derive-",
    "itoa-",
    "memchr-",
    "zmij-",
    "ryu-",
    "proc-macro2-",
    "quote-",
    "syn-",
    "unicode-ident-",
];
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    cluster: TestCluster,
    client: Client,
    market: marketplace::Config,
    tenant: Tenant,
    projects: Mutex<u32>,
}

impl World {
    /// A node with the marketplace, its catalogue filled from cargo's downloads; `None` where cargo
    /// has not downloaded what is needed.
    async fn build() -> Option<Self> {
        let made: Arc<Mutex<Option<marketplace::Config>>> = Arc::default();
        let kept = made.clone();
        let activities = move |dir: &Path| {
            let market = marketplace::Config::new(dir.join("market"), Arc::new(SystemClock));
            let activities = marketplace::activities(&market).unwrap();
            *kept.lock().unwrap() = Some(market);
            activities
        };
        let definitions: Vec<&str> = actors::definitions().iter().map(|(_, source)| *source).collect();
        let cluster = TestCluster::start(1, activities, &definitions).await.unwrap();
        let market = made.lock().unwrap().take().unwrap();
        let client = cluster.client().await.unwrap();
        let world = Self { cluster, client, market, tenant: Tenant::new("acme").unwrap(), projects: Mutex::new(0) };
        world.fill_catalogue().then_some(world)
    }

    fn fill_catalogue(&self) -> bool {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        let Some(registries) = home.and_then(|home| std::fs::read_dir(home.join("registry/cache")).ok()) else {
            return false;
        };
        let catalog = self.market.catalog().unwrap();
        for file in registries.flatten().flat_map(|dir| std::fs::read_dir(dir.path()).unwrap()).flatten() {
            let name = file.file_name().into_string().unwrap();
            if NEEDED.iter().any(|needed| {
                name.strip_prefix(needed).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            }) {
                catalog.add(&file.path()).unwrap();
            }
        }
        !catalog.versions("serde_json").unwrap().is_empty()
    }

    fn entitle(&self, right: Option<Entitlement>) {
        let change = |account: &mut marketplace::entitlements::Account| {
            account.entitlements = right.into_iter().collect();
        };
        self.market.entitlements().unwrap().change(&self.tenant, change).unwrap();
    }

    fn seats(&self) -> usize {
        self.market.entitlements().unwrap().account(&self.tenant).unwrap().seats.len()
    }

    /// A fresh cargo project, with a file of its own mode and a link.
    fn project(&self) -> PathBuf {
        let number = {
            let mut projects = self.projects.lock().unwrap();
            *projects += 1;
            *projects
        };
        let dir = self.cluster.dir.path().join(format!("project-{number}"));
        std::fs::create_dir_all(dir.join("src")).unwrap();
        let manifest = "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n";
        std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
        std::fs::write(dir.join("src/lib.rs"), "").unwrap();
        std::os::unix::fs::symlink("src/lib.rs", dir.join("link")).unwrap();
        dir
    }

    async fn begin(&self, key: &str, target: &Path, change: impl FnOnce(&mut Value)) -> SagaKey {
        let mut input = json!({ "assetId": "serde_json", "version": "1", "target": target });
        change(&mut input);
        let key = SagaKey::new(key).unwrap();
        let start =
            Start { definition: "installation".into(), version: None, key: Some(key.clone()), input, wait_ms: None };
        self.client.start(&start).await.unwrap();
        key
    }

    async fn install(&self, key: &str, target: &Path, change: impl FnOnce(&mut Value)) -> SagaView {
        let key = self.begin(key, target, change).await;
        self.client.wait(&key, PATIENCE).await.unwrap()
    }

    /// The events of one saga, in order, each once.
    async fn events(&self, key: &str, last: &str) -> Vec<Envelope> {
        let mut tail = self.client.events(Since::Beginning, None).await.unwrap();
        let mut events: Vec<Envelope> = Vec::new();
        let correlation = format!("acme/{key}");
        while events.last().is_none_or(|event| event.event_type != last) {
            let next = tokio::time::timeout(PATIENCE, tail.next()).await.expect("the event comes").unwrap().unwrap();
            if next.correlation_id == correlation && !events.iter().any(|event| event.event_id == next.event_id) {
                events.push(next);
            }
        }
        events
    }
}

fn seats_of(count: u32) -> Entitlement {
    Entitlement { asset: "serde_json".into(), seats: Some(count), expires: None, suspended: false }
}

fn types(events: &[Envelope]) -> Vec<&str> {
    events.iter().map(|event| event.event_type.as_str()).collect()
}

/// One story after the other on one world: each ends with the target and the seats looked at.
#[tokio::test(flavor = "multi_thread")]
async fn installations_end_installed_or_leave_everything_as_it_was() {
    let Some(world) = World::build().await else {
        eprintln!("skipped: cargo's download cache has no serde_json on this machine");
        return;
    };
    it_is_installed_with_provenance_and_a_way_back(&world).await;
    an_incompatible_target_changes_nothing(&world).await;
    a_conflict_names_the_ranges(&world).await;
    a_denied_and_an_expired_license_direct_the_requester(&world).await;
    a_tampered_archive_is_rolled_back(&world).await;
    a_cancelled_installation_is_undone(&world).await;
}

async fn it_is_installed_with_provenance_and_a_way_back(world: &World) {
    world.entitle(Some(seats_of(1)));
    let target = world.project();
    let view = world.install("installed", &target, |_| {}).await;
    assert_eq!((view.status, view.state.as_str()), (Status::Succeeded, "Installed"), "{view:#?}");
    assert_eq!(world.seats(), 1);
    let events = world.events("installed", "AssetInstalled").await;
    assert_eq!(types(&events), ["CompatibilityEvaluated", "DependenciesResolved", "LicenseGranted", "AssetInstalled"]);
    assert!(events.iter().all(|event| event.trace_id == view.trace_id), "one trace from command to last event");
    let told = &events[3].payload;
    let installed = told["installed"].as_array().unwrap();
    assert!(installed.iter().any(|one| one["name"] == "serde_json") && installed.len() > 3, "{told:#}");
    assert!(told["rollbackToken"]["key"].is_string(), "{told:#}");
    assert!(target.join(".cargo/config.toml").is_file() && target.join("vendor").is_dir());
    // Its only seat is taken now: the next installation is denied, and the first stays.
    let other = world.project();
    let before = tree::fingerprint(&other).unwrap();
    let view = world.install("no-seat", &other, |_| {}).await;
    assert_eq!((view.status, view.state.as_str()), (Status::Failed, "Failed"), "{view:#?}");
    assert_eq!((tree::fingerprint(&other).unwrap(), world.seats()), (before, 1));
    world.market.entitlements().unwrap().change(&world.tenant, |account| account.seats.clear()).unwrap();
}

async fn an_incompatible_target_changes_nothing(world: &World) {
    let target = world.project();
    let before = tree::fingerprint(&target).unwrap();
    let view = world.install("incompatible", &target, |input| input["rust"] = json!("1.31.0")).await;
    assert_eq!((view.status, view.state.as_str()), (Status::Failed, "Failed"), "{view:#?}");
    let events = world.events("incompatible", "AssetInstallationFailed").await;
    assert_eq!(types(&events), ["CompatibilityEvaluated", "AssetInstallationFailed"]);
    assert_eq!(events[1].payload["terminalState"], "Failed");
    assert_eq!((tree::fingerprint(&target).unwrap(), world.seats()), (before, 0));
}

async fn a_conflict_names_the_ranges(world: &World) {
    let target = world.project();
    // The project holds a range that the asset's own cannot meet.
    let manifest = std::fs::read_to_string(target.join("Cargo.toml")).unwrap();
    std::fs::write(target.join("Cargo.toml"), format!("{manifest}itoa = \"=0.0.1\"\n")).unwrap();
    let before = tree::fingerprint(&target).unwrap();
    let view = world.install("conflict", &target, |_| {}).await;
    assert_eq!((view.status, view.state.as_str()), (Status::Failed, "Failed"), "{view:#?}");
    let events = world.events("conflict", "AssetInstallationFailed").await;
    assert_eq!(types(&events), ["CompatibilityEvaluated", "DependencyConflictDetected", "AssetInstallationFailed"]);
    let findings = events[1].payload["findings"].to_string();
    assert!(findings.contains("itoa") && findings.contains("=0.0.1"), "{findings}");
    assert_eq!((tree::fingerprint(&target).unwrap(), world.seats()), (before, 0));
}

async fn a_denied_and_an_expired_license_direct_the_requester(world: &World) {
    let expired = Entitlement { expires: Some(Time::from_micros(1)), ..seats_of(5) };
    for (key, right) in [("denied", None), ("expired", Some(expired))] {
        world.entitle(right);
        let target = world.project();
        let before = tree::fingerprint(&target).unwrap();
        let view = world.install(key, &target, |_| {}).await;
        assert_eq!((view.status, view.state.as_str()), (Status::Failed, "Failed"), "{view:#?}");
        let events = world.events(key, "AssetInstallationFailed").await;
        let told = &events.last().unwrap().payload;
        assert_eq!((&told["reason"], &told["terminalState"]), (&json!("license denied"), &json!("Failed")));
        assert!(told["direction"].as_str().unwrap().contains("renew"), "{told:#}");
        assert_eq!((tree::fingerprint(&target).unwrap(), world.seats()), (before, 0), "{key}");
    }
    world.entitle(Some(seats_of(5)));
}

async fn a_tampered_archive_is_rolled_back(world: &World) {
    let catalog = world.market.catalog().unwrap();
    let archives = catalog.versions("itoa").unwrap();
    let mut kept = Vec::new();
    for release in &archives {
        let sum = &release.checksum;
        let file = world.cluster.dir.path().join("market/catalog/objects").join(&sum[..2]).join(sum);
        let bytes = std::fs::read(&file).unwrap();
        let mut spoiled = bytes.clone();
        let middle = spoiled.len() / 2;
        spoiled[middle] ^= 1;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, spoiled).unwrap();
        kept.push((file, bytes));
    }
    let target = world.project();
    let before = tree::fingerprint(&target).unwrap();
    let view = world.install("tampered", &target, |_| {}).await;
    assert_eq!((view.status, view.state.as_str()), (Status::Failed, "RolledBack"), "{view:#?}");
    let events = world.events("tampered", "AssetInstallationFailed").await;
    let told = &events.last().unwrap().payload;
    assert_eq!((&told["reason"], &told["terminalState"]), (&json!("apply error"), &json!("RolledBack")));
    assert_eq!((tree::fingerprint(&target).unwrap(), world.seats()), (before, 0));
    for (file, bytes) in kept {
        std::fs::write(file, bytes).unwrap();
    }
}

async fn a_cancelled_installation_is_undone(world: &World) {
    let target = world.project();
    let before = tree::fingerprint(&target).unwrap();
    let key = world.begin("cancelled", &target, |_| {}).await;
    until(PATIENCE, "it applies", || async { world.client.describe(&key).await.unwrap().state == "Applying" }).await;
    world.client.cancel(&Cancel { key: key.clone(), reason: "changed my mind".into() }).await.unwrap();
    let view = world.client.wait(&key, PATIENCE).await.unwrap();
    assert_eq!(view.status, Status::Cancelled, "{view:#?}");
    assert_eq!((tree::fingerprint(&target).unwrap(), world.seats()), (before, 0));
}
