//! The embedded compute adapter: the contract, and what only it can show.
#![cfg(target_os = "linux")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actors::runtime::compute::artifacts::DirectoryArtifacts;
use actors::runtime::compute::confine::Launcher;
use actors::runtime::compute::observed::{ObservedReplica, ObservedSet};
use actors::runtime::compute::process::proc::{MARKER, Marker, kill_family, marked};
use actors::runtime::compute::process::steps::{Step, Steps};
use actors::runtime::compute::process::{Processes, Secrets, Settings};
use actors::runtime::compute::set::SecretRef;
use actors::runtime::compute::{Compute, Reading, Route};
use actors::runtime::model::RequestKey;
use actors::runtime::ports::secrets::sealed::{self, SealedFiles};
use actors::runtime::ports::secrets::{Secret, SecretName, SecretStore};
use async_trait::async_trait;
use protocol::Time;
use rustix::process::{Pid, Signal, getpid, kill_process};
use supervisor::ports::Clock;

#[path = "compute_confined/mod.rs"]
mod compute_confined;
#[macro_use]
mod compute_contract;

use compute_contract::{
    ENVIRONMENT, Place, gateway, gateway_listens, get, observe, python, run, set, set_when, settled, until, with,
};

struct Now;

impl Clock for Now {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Time::from_micros(since.as_micros().try_into().unwrap())
    }
}

/// Process numbers, in order.
fn pids(replicas: &[ObservedReplica]) -> Vec<u32> {
    let mut pids: Vec<u32> = replicas.iter().filter_map(|replica| replica.pid).collect();
    pids.sort_unstable();
    pids
}

/// A state directory with its keeper. Whatever a test left running ends with it.
struct World {
    // Dropped in this order: nobody starts anew what is ended, and the directory goes last.
    processes: Processes,
    _left: Left,
    artifacts: DirectoryArtifacts,
    dir: tempfile::TempDir,
}

/// Ends what runs from a state directory.
struct Left(PathBuf);

fn settings(dir: &Path) -> Settings {
    let mut settings = Settings::new(dir.join("state"));
    settings.restart_pause = Duration::from_millis(50);
    settings.stop_time = Duration::from_secs(2);
    settings.ready_probe_pause = Duration::from_millis(200);
    settings.launcher = Some(launcher());
    // Where Python is one person's, its libraries are there too.
    settings
        .visible
        .extend(Path::new(python()).ancestors().nth(2).map(Path::to_owned).filter(|dir| dir != Path::new("/")));
    settings
}

fn launcher() -> Launcher {
    let beside = std::env::current_exe().unwrap().with_file_name("skald-confine");
    Launcher::at(if beside.exists() { beside } else { env!("CARGO_BIN_EXE_skald-confine").into() })
}

/// The numbers of the tenant's processes, or of their keepers.
fn running(instance: &str, keepers: bool) -> Vec<u32> {
    let mut pids: Vec<u32> =
        marked(instance).unwrap().iter().filter(|found| found.keeper == keepers).map(|found| found.pid).collect();
    pids.sort_unstable();
    pids
}

impl World {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Where no mounts hide the way, users of services have to be let through.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let artifacts = DirectoryArtifacts::open(dir.path().join("published")).unwrap();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let processes = Processes::open(settings, Arc::new(artifacts.clone()), Arc::new(Now)).await.unwrap();
        let left = Left(dir.path().join("state"));
        Self { processes, _left: left, artifacts, dir }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn instance(&self) -> String {
        std::fs::read_to_string(self.state().join("instance")).unwrap()
    }

    /// Removes everything through the port; nothing is left then.
    async fn end(self) {
        for set in observe(&self).await.sets {
            self.processes.route(ENVIRONMENT, &set.service, &[]).await.unwrap();
            let id = actors::runtime::compute::SetId::new(ENVIRONMENT, set.service, set.revision);
            self.processes.remove(&id).await.unwrap();
        }
        let shelf = self.state().join("artifacts");
        until("the last set takes its artifact along", async || {
            (std::fs::read_dir(&shelf).unwrap().count() == 0).then_some(())
        })
        .await;
        let left = marked(&self.instance()).unwrap();
        assert!(left.is_empty(), "processes were left behind: {left:?}");
        let gateway = observe(&self).await.gateway;
        self.processes.forget(ENVIRONMENT).await.unwrap();
        assert!(!self.state().join("environments").join(ENVIRONMENT).exists(), "the environment was left behind");
        until("its way in is closed", async || match gateway {
            Some(gateway) => tokio::net::TcpStream::connect(gateway).await.is_err().then_some(()),
            None => Some(()),
        })
        .await;
        self.processes.close().await;
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let Ok(instance) = std::fs::read_to_string(self.0.join("instance")) else { return };
        for left in marked(&instance).unwrap_or_default() {
            while kill_family(&left.marker, None).is_ok_and(|killed| killed > 0) {}
        }
    }
}

#[async_trait]
impl Place for World {
    fn compute(&self) -> &dyn Compute {
        &self.processes
    }

    fn publish(&self, bytes: &[u8]) -> String {
        self.artifacts.add(bytes).unwrap()
    }

    fn publish_as(&self, bytes: &[u8], digest: &str) {
        std::fs::write(self.artifacts.dir().join(digest), bytes).unwrap();
    }

    fn holds_processors(&self) -> bool {
        // Where they are, every child of the root may be held to a share.
        let root = rustix::process::geteuid().is_root();
        root && std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").is_ok_and(|all| all.contains("cpu"))
    }

    async fn reborn(&mut self) {
        self.processes.close().await;
        let artifacts = Arc::new(self.artifacts.clone());
        // Whatever another test starts in this moment has the lock too, until it has become its program.
        let mut opened = Processes::open(settings(self.dir.path()), artifacts.clone(), Arc::new(Now)).await;
        for _ in 0..100 {
            let Err(error) = &opened else { break };
            assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            opened = Processes::open(settings(self.dir.path()), artifacts.clone(), Arc::new(Now)).await;
        }
        self.processes = opened.unwrap();
        gateway_listens(self).await;
    }
}

macro_rules! contract {
    ($($part:ident::$case:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let mut world = World::open().await;
            compute_contract::$part::$case(&mut world).await;
            world.end().await;
        }
    )*};
}

cases!(contract with artifacts);

/// Nothing that a replica started stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_end_with_their_replica() {
    let world = World::open().await;
    let instance = world.instance();
    let children = || running(&instance, false).len();
    let set = with(set(&world, "web", "r1", 1), "BROOD", "yes");
    let before = run(&world, &set).await;
    assert_eq!(children(), 2, "the process and its child, which has a session of its own");
    let first = before[0].pid.unwrap().try_into().unwrap();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    let replaced = |seen: &ObservedSet| seen.ready == 1 && seen.replicas.iter().any(|one| one.incarnation == 2);
    set_when(&world, &set.id, "it was replaced", replaced).await;
    assert_eq!(children(), 2, "the new ones only");
    world.compute().remove(&set.id).await.unwrap();
    assert_eq!(children(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_keeper_at_a_time_has_the_directory() {
    let world = World::open().await;
    let again = Processes::open(settings(world.dir.path()), Arc::new(world.artifacts.clone()), Arc::new(Now)).await;
    assert!(again.is_err_and(|error| error.to_string().contains("another process keeps")));
    world.end().await;
}

/// A process finds the value in its variable; no file of ours holds it, and what cannot be read keeps
/// a set from starting, said in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_reaches_its_process_and_no_file() {
    let mut world = World::open().await;
    let kept = tempfile::tempdir().unwrap();
    let store = SealedFiles::open(sealed::Settings::new(kept.path()), Arc::new(Now)).await.unwrap();
    let (name, token) = (SecretName::new("test/db").unwrap(), RequestKey::new("one").unwrap());
    store.create_version(&name, &token, Secret::new("hunter2")).await.unwrap();
    world.processes.close().await;
    let mut settings = settings(world.dir.path());
    settings.secrets = Some(Secrets(Arc::new(store)));
    let artifacts = Arc::new(world.artifacts.clone());
    world.processes = Processes::open(settings, artifacts, Arc::new(Now)).await.unwrap();
    let secret = |version| SecretRef { name: "test/db".into(), version };
    let mut good = set(&world, "web", "r1", 1);
    good.secrets.insert("DB".into(), secret(1));
    let replica = compute_contract::run(&world, &good).await.remove(0);
    let (_, said) = get(replica.address.unwrap(), "/").await;
    assert_eq!(said["env"]["DB"], "hunter2");
    let mut bad = set(&world, "web", "r2", 1);
    bad.secrets.insert("DB".into(), secret(9));
    world.processes.apply(&bad).await.unwrap();
    let id = compute_contract::set_when(&world, &bad.id, "it was tried", |set| {
        set.replicas.iter().any(|it| it.restarts > 0)
    });
    let id = id.await.replicas.remove(0).id;
    let log = world.processes.logs(ENVIRONMENT, &id, &Reading::last(10)).await.unwrap().lines.join("\n");
    assert!(log.contains("version 9 of the secret test/db"), "{log}");
    let files = walk(&world.state());
    assert!(files.len() > 3);
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "{} holds the value", file.display());
    }
    world.end().await;
}

/// Every file below `dir`.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(walk(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_reported_and_left_alone() {
    let mut world = World::open().await;
    let set = set(&world, "web", "r1", 1);
    compute_contract::run(&world, &set).await;
    let claim = Marker {
        instance: world.instance(),
        environment: ENVIRONMENT.into(),
        replica: "web-r0-ghost".into(),
        incarnation: 1,
    };
    let mut stranger = Command::new("sleep").arg("600").env(MARKER, claim.text()).spawn().unwrap();
    for _ in 0..2 {
        let seen = observe(&world).await;
        assert_eq!(seen.unmanaged.len(), 1, "{seen:?}");
        let found = &seen.unmanaged[0];
        assert_eq!((found.pid, found.claims.as_str()), (Some(stranger.id()), "web-r0-ghost"));
        assert_eq!(found.command, "sleep 600");
        world.reborn().await;
        settled(&world, &set).await;
    }
    assert!(stranger.try_wait().unwrap().is_none(), "it runs");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(observe(&world).await.unmanaged.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_used_again_is_not_taken_for_the_process() {
    let mut world = World::open().await;
    let set = set(&world, "web", "r1", 1);
    let replica = compute_contract::run(&world, &set).await.remove(0);
    world.processes.close().await;
    // On the disk the process has the number of another one, as after a long time without a keeper.
    let mut other = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let record = world.state().join(format!("environments/{ENVIRONMENT}/replicas/{}.json", replica.id));
    let text = std::fs::read_to_string(&record).unwrap();
    let changed = text.replace(&format!("\"pid\": {}", replica.pid.unwrap()), &format!("\"pid\": {}", other.id()));
    assert_ne!(text, changed);
    std::fs::write(&record, changed).unwrap();
    world.reborn().await;
    let after = settled(&world, &set).await;
    assert!(after[0].incarnation == 2 && after[0].pid != Some(other.id()), "{after:?}");
    assert!(other.try_wait().unwrap().is_none(), "the other one was left alone");
    assert_eq!(running(&world.instance(), false).len(), 1, "and the former one is no orphan");
    other.kill().unwrap();
    other.wait().unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_listen_to_reason_is_killed() {
    let world = World::open().await;
    let set = with(set(&world, "web", "r1", 1), "STUBBORN", "yes");
    compute_contract::run(&world, &set).await;
    let begun = tokio::time::Instant::now();
    world.processes.remove(&set.id).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it was asked first");
    world.end().await;
}

/// Ends its process, as nothing but a crash does, when a step is done.
struct EndAt(Step);

impl Steps for EndAt {
    fn done(&self, step: Step) {
        if step == self.0 {
            kill_process(getpid(), Signal::KILL).unwrap();
            loop {
                std::thread::park();
            }
        }
    }
}

const DIR: &str = "COMPUTE_TEST_DIR";
const END_AT: &str = "COMPUTE_TEST_END_AT";
const STEPS: [(&str, Option<Step>); 4] = [
    ("intended", Some(Step::Intended)),
    ("spawned", Some(Step::Spawned)),
    ("recorded", Some(Step::Recorded)),
    ("never", None),
];

/// Keeps the directory of another test in a process of its own, until that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by other tests, in a process of its own"]
async fn a_keeper_of_its_own() {
    let (Ok(dir), Ok(end_at)) = (std::env::var(DIR), std::env::var(END_AT)) else { return };
    let dir = Path::new(&dir);
    let artifacts = DirectoryArtifacts::open(dir.join("published")).unwrap();
    let step = STEPS.iter().find(|(name, _)| *name == end_at).unwrap().1;
    let settings = settings(dir);
    let processes = match step {
        Some(step) => Processes::open_with(settings, Arc::new(artifacts), Arc::new(Now), Arc::new(EndAt(step))).await,
        None => Processes::open(settings, Arc::new(artifacts), Arc::new(Now)).await,
    };
    let wanted = serde_json::from_slice(&std::fs::read(dir.join("wanted.json")).unwrap()).unwrap();
    let processes = processes.unwrap();
    processes.apply(&wanted).await.unwrap();
    processes.route(ENVIRONMENT, "web", &[Route::new("r1", 100)]).await.unwrap();
    std::future::pending::<()>().await;
}

fn keeper_of_its_own(dir: &Path, end_at: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_keeper_of_its_own", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(END_AT, end_at)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_middle_of_a_start_leaves_no_orphan() {
    for (name, started) in [("intended", 0), ("spawned", 1), ("recorded", 1)] {
        let mut world = World::open().await;
        let set = set(&world, "web", "r1", 1);
        std::fs::write(world.dir.path().join("wanted.json"), serde_json::to_vec(&set).unwrap()).unwrap();
        world.processes.close().await;
        let mut keeper = keeper_of_its_own(world.dir.path(), name);
        let status = tokio::task::spawn_blocking(move || keeper.wait()).await.unwrap().unwrap();
        assert!(!status.success(), "{name}: it was killed");
        let orphans = running(&world.instance(), true);
        assert_eq!(orphans.len(), started, "{name}");
        world.reborn().await;
        let replicas = settled(&world, &set).await;
        let running = running(&world.instance(), true);
        assert_eq!(running, pids(&replicas), "{name}: one runs, and it is known");
        if started == 1 {
            assert_eq!(running, orphans, "{name}: it was taken over");
        }
        assert!(observe(&world).await.unmanaged.is_empty());
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_is_killed_takes_nothing_with_it() {
    let mut world = World::open().await;
    let set = set(&world, "web", "r1", 2);
    std::fs::write(world.dir.path().join("wanted.json"), serde_json::to_vec(&set).unwrap()).unwrap();
    world.processes.close().await;
    let mut keeper = keeper_of_its_own(world.dir.path(), "never");
    let settled_at = world.state().join(format!("environments/{ENVIRONMENT}/gateway.json"));
    let at = until("the gateway is settled", async || {
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&settled_at).ok()?).ok()?;
        kept["address"].as_str()?.parse().ok()
    })
    .await;
    until("traffic flows", async || {
        tokio::net::TcpStream::connect(at).await.ok()?;
        get(at, "/web/").await.0.is_success().then_some(())
    })
    .await;
    until("both run", async || (running(&world.instance(), true).len() == 2).then_some(())).await;
    let before = running(&world.instance(), true);
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    world.reborn().await;
    assert_eq!(pids(&settled(&world, &set).await), before);
    assert_eq!(gateway(&world).await, at);
    until("traffic goes on", async || get(at, "/web/").await.0.is_success().then_some(())).await;
    world.end().await;
}
