//! Programs that try everything they should not, and how far they come: as root each environment has a
//! user of its own; where a kernel gives no files and processes of their own, what is promised instead.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use actors::runtime::compute::observed::ExitHow;
use actors::runtime::compute::set::{PROGRAM, Set};
use actors::runtime::compute::{Reading, SetId};
use serde_json::Value;

use super::compute_contract::python;
use super::*;

/// What must be found nowhere.
const SECRET: &str = "hunter2-of-the-other";

/// Another environment, which is another tenant's.
const OTHER: &str = "other";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mischief() -> Vec<u8> {
    format!("#!{} -IS\n{}", python(), include_str!("mischief.py")).into_bytes()
}

/// One replica that tries things, of `tenant` in `environment`.
fn hostile(world: &World, environment: &str, tenant: &str, revision: &str) -> Set {
    let plain = set(world, "web", revision, 1);
    let id = SetId::new(environment, "web", revision);
    Set { id, tenant: tenant.into(), digest: world.publish(&mischief()), command: PROGRAM.into(), ..plain }
}

async fn runs(world: &World, set: &Set) -> ObservedReplica {
    world.compute().apply(set).await.unwrap();
    let id = &set.id;
    until("it is ready", async || {
        let seen = world.compute().observe(&id.environment).await.unwrap();
        let set = seen.set(&id.service, &id.revision)?.clone();
        (set.ready == 1).then(|| set.replicas.into_iter().next()).flatten()
    })
    .await
}

async fn tries(at: SocketAddr, what: &str) -> Value {
    let (status, said) = get(at, &format!("/{what}")).await;
    assert!(status.is_success(), "{what}: {said}");
    said
}

async fn ends(world: &World, set: &Set) {
    world.compute().remove(&set.id).await.unwrap();
}

/// Processes with these words as their command, whosever they are.
fn processes(words: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").trim_end() == words).count()
}

/// A number that no other test waits for.
fn seconds() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    4_000_000 + std::process::id() % 100_000 * 10 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What is another's cannot be seen: variables, files, processes, the node's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_service_sees_nothing_of_another_and_of_the_node() {
    let world = World::open().await;
    let key = world.dir.path().join("node.nk");
    std::fs::write(&key, SECRET).unwrap();
    // Somebody was careless with it.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let other = with(hostile(&world, OTHER, if is_root() { "evil" } else { "default" }, "r1"), "PASSWORD", SECRET);
    let theirs = runs(&world, &other).await;
    let ours = runs(&world, &hostile(&world, ENVIRONMENT, "default", "r1")).await;
    let (at, there) = (ours.address.unwrap(), theirs.address.unwrap());
    let (who, they) = (tries(at, "who").await, tries(there, "who").await);
    assert_eq!((&who["capabilities"], &who["bounding"]), (&"0000000000000000".into(), &"0000000000000000".into()));
    assert_eq!((&who["noNewPrivs"], &who["seccomp"]), (&"1".into(), &"2".into()));
    if is_root() {
        assert!(who["uid"].as_u64() > Some(0) && who["uid"] == who["gid"] && who["uid"] != they["uid"], "{who} {they}");
        assert_eq!(who["groups"], serde_json::json!([]), "and of no group besides its own");
    } else {
        assert_eq!(who["uid"], rustix::process::geteuid().as_raw(), "the operator's own, as the node's user");
    }
    assert!(who["pids"].as_array().unwrap().len() <= 3, "only its own processes: {who}");
    assert_eq!(tries(at, &format!("environs?word={SECRET}")).await["found"], false);
    for hidden in [
        key.clone(),
        world.dir.path().to_owned(),
        world.state().join("environments"),
        world.state().join("state").join(OTHER),
        PathBuf::from("/etc/shadow"),
        PathBuf::from("/root"),
        PathBuf::from(format!("/proc/{}/environ", std::process::id())),
    ] {
        let seen = tries(at, &format!("look?path={}", hidden.display())).await["is"].clone();
        let way = ["state", "artifacts"].map(Value::from);
        // On the way to its own artifact there are directories with nothing else in them.
        let harmless =
            seen == "ENOENT" || seen.as_array().is_some_and(|names| names.iter().all(|name| way.contains(name)));
        assert!(harmless, "{}: {seen}", hidden.display());
    }
    let mine = who["env"]["SKALD_STATE"].as_str().unwrap();
    assert_eq!(tries(at, "fill?megabytes=1").await["written"], 1, "its own directory is its own: {mine}");
    assert_eq!(
        tries(at, &format!("fill?megabytes=1&dir={}", world.state().join("artifacts").display())).await["written"],
        0
    );
    ends(&world, &other).await;
    ends(&world, &hostile(&world, ENVIRONMENT, "default", "r1")).await;
    world.end().await;
}

/// The kernel's doors through which others got out of containers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_no_service_needs_are_refused() {
    let world = World::open().await;
    let set = hostile(&world, ENVIRONMENT, "default", "r1");
    let at = runs(&world, &set).await.address.unwrap();
    for (call, answer) in tries(at, "calls").await.as_object().unwrap() {
        assert_eq!(answer, "EPERM", "{call}");
    }
    world.end().await;
}

/// It forks, leaves its session and clears its variables; and its keeper may be killed instead of told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_gets_away_from_its_service() {
    for namespaces in [true, false] {
        let world = World::with(|settings| settings.namespaces = namespaces).await;
        let set = hostile(&world, ENVIRONMENT, "default", "r1");
        let replica = runs(&world, &set).await;
        let (seconds, killed) = (seconds(), seconds());
        tries(replica.address.unwrap(), &format!("away?seconds={seconds}")).await;
        let words = format!("sleep {seconds}");
        until("it got away", async || (processes(&words) == 1).then_some(())).await;
        ends(&world, &set).await;
        assert_eq!(processes(&words), 0, "when the service was removed it was there (namespaces: {namespaces})");
        if !namespaces && !is_root() {
            // Then nothing tells whose a process is that lost its keeper by force.
            world.end().await;
            continue;
        }
        let set = hostile(&world, ENVIRONMENT, "default", "r2");
        let replica = runs(&world, &set).await;
        tries(replica.address.unwrap(), &format!("away?seconds={killed}")).await;
        let words = format!("sleep {killed}");
        until("it got away", async || (processes(&words) == 1).then_some(())).await;
        kill_process(Pid::from_raw(replica.pid.unwrap().try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
        set_when(&world, &set.id, "it was replaced", |set| set.ready == 1 && set.replicas[0].incarnation == 2).await;
        let left = processes(&words);
        assert!(left == 0, "{left} left after its keeper was killed (namespaces: {namespaces})");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_bounded_while_it_is_written() {
    let world = World::with(|settings| {
        (settings.log_bytes, settings.log_bytes_per_second) = (1 << 20, 2 << 20);
    })
    .await;
    let set = hostile(&world, ENVIRONMENT, "default", "r1");
    let replica = runs(&world, &set).await;
    let logs = world.state().join(format!("environments/{ENVIRONMENT}/logs"));
    let taken = || -> u64 {
        let files = std::fs::read_dir(&logs).unwrap().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    };
    let at = replica.address.unwrap();
    let flood = tokio::spawn(async move { tries(at, &format!("flood?bytes={}", 64 << 20)).await });
    let mut most = 0;
    while !flood.is_finished() {
        most = most.max(taken());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    flood.await.unwrap();
    assert!(most > 1 << 20 && most <= (2 << 20) + 4_096, "the logs took {most} bytes");
    until("what was dropped is said", async || {
        let log = world.compute().logs(ENVIRONMENT, &replica.id, &Reading::last(10_000)).await.unwrap().lines;
        log.iter()
            .any(|line| line.starts_with("skald: ") && line.contains("bytes of output are not kept"))
            .then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fills_its_directory_is_ended_and_told_why() {
    let world = World::with(|settings| (settings.state_bytes, settings.tmp_bytes) = (8 << 20, 4 << 20)).await;
    let set = hostile(&world, ENVIRONMENT, "default", "r1");
    let replica = runs(&world, &set).await;
    let at = replica.address.unwrap();
    let tmp = tries(at, "fill?megabytes=16&dir=/tmp").await;
    assert!(tmp["written"].as_u64() < Some(5) && tmp["stopped"] == "ENOSPC", "{tmp}");
    tries(at, "fill?megabytes=16").await;
    let seen = set_when(&world, &set.id, "it was ended", |set| {
        set.replicas
            .iter()
            .any(|replica| replica.last_exit.as_ref().is_some_and(|exit| exit.how == ExitHow::NotStarted))
    })
    .await;
    let log =
        world.compute().logs(ENVIRONMENT, &seen.replicas[0].id, &Reading::last(100)).await.unwrap().lines.join("\n");
    assert!(log.contains("it is ended: its state directory") && log.contains("runtime.state_bytes"), "{log}");
    world.end().await;
}

/// A program of the machine is none of the artifact's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_comes_from_the_artifact_unless_the_operator_says_otherwise() {
    let world = World::with(|settings| settings.commands = vec!["/usr/bin/".into()]).await;
    let plain = hostile(&world, ENVIRONMENT, "default", "r1");
    for command in ["/bin/sh", "/usr/bin", "/sbin/../usr/bin/env"] {
        let refused = world.compute().apply(&Set { command: command.into(), ..plain.clone() }).await.unwrap_err();
        assert!(
            ["NotPermitted", "BadSet"].contains(&refused.error.as_str()) && refused.permanent,
            "{command}: {refused}"
        );
    }
    let refused = world.compute().apply(&Set { command: "/bin/sh".into(), ..plain.clone() }).await.unwrap_err();
    assert!(refused.cause.contains("runtime.commands"), "{refused}");
    let args = vec!["./program".to_owned()];
    let named = Set { command: "/usr/bin/env".into(), args, ..plain };
    runs(&world, &named).await;
    world.end().await;
}

/// Who has taken a port cannot be taken for the service that it was given to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_port_of_a_service_is_not_taken_for_it() {
    if !is_root() {
        // All run as one user then, and all are the operator's.
        return;
    }
    let world = World::open().await;
    let evil = runs(&world, &hostile(&world, OTHER, "evil", "r1")).await;
    let late = with(hostile(&world, ENVIRONMENT, "default", "r1"), "LATE", "2");
    world.compute().apply(&late).await.unwrap();
    let port = until("it was started", async || {
        let seen = observe(&world).await;
        seen.set("web", "r1")?.replicas.first()?.address.map(|at| at.port())
    })
    .await;
    assert_eq!(tries(evil.address.unwrap(), &format!("listen?port={port}")).await["listens"], true);
    // The robbed one cannot listen, ends, and is started with another port.
    let seen = set_when(&world, &late.id, "it is ready elsewhere", |set| set.ready == 1).await;
    assert_ne!(seen.replicas[0].address.unwrap().port(), port);
    let who = tries(seen.replicas[0].address.unwrap(), "who").await;
    assert_eq!(who["env"]["SKALD_ENVIRONMENT"], ENVIRONMENT);
    ends(&world, &hostile(&world, OTHER, "evil", "r1")).await;
    world.end().await;
}

/// Processes without end stop at their own limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_processes_is_bounded() {
    let world = World::with(|settings| settings.processes = 50).await;
    let set = hostile(&world, ENVIRONMENT, "default", "r1");
    let at = runs(&world, &set).await.address.unwrap();
    let crowd = tries(at, "crowd?count=500").await;
    if is_root() {
        // One replica's, or four times that for all of its user, where no control group counts them.
        assert!(crowd["count"].as_u64() <= Some(200) && crowd["stopped"] == "EAGAIN", "{crowd}");
    } else {
        assert_eq!(crowd["count"], 500, "nothing counts them, and that is said");
    }
    world.end().await;
}

/// Runs the keeper of `wanted.json` in the world as `nobody`, from copies of the programs that it may read.
fn as_nobody(world: &World) -> std::process::Child {
    const NOBODY: u32 = 65_534;
    let dir = world.dir.path();
    let exe = std::env::current_exe().unwrap();
    for (from, to) in [(exe.as_path(), "keeper"), (Path::new(env!("CARGO_BIN_EXE_skald-confine")), "skald-confine")] {
        std::fs::copy(from, dir.join(to)).unwrap();
    }
    let published = walk(&dir.join("published"));
    for path in walk(&world.state()).into_iter().chain(published).chain([world.state(), dir.join("published")]) {
        for path in path.ancestors().take_while(|path| path.starts_with(dir)) {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    for below in ["state/artifacts", "state/incoming", "state/environments"] {
        std::os::unix::fs::chown(dir.join(below), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let nobody = NOBODY.to_string();
    Command::new("setpriv")
        .args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--"])
        .arg(dir.join("keeper"))
        .args(["--exact", "a_keeper_of_its_own", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(END_AT, "never")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("util-linux is there")
}

/// A node without the superuser's rights runs the services of whoever runs it, as itself, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_root_only_the_operators_services_run() {
    if !is_root() {
        // All the other tests are this one then; as root there is somebody to become.
        let world = World::open().await;
        let refused = world.compute().apply(&hostile(&world, ENVIRONMENT, "evil", "r1")).await.unwrap_err();
        assert_eq!((refused.error.as_str(), refused.permanent), ("NotPermitted", true), "{refused}");
        return world.end().await;
    }
    for (tenant, may) in [("evil", false), ("default", true)] {
        let world = World::open().await;
        let set = hostile(&world, ENVIRONMENT, tenant, "r1");
        std::fs::write(world.dir.path().join("wanted.json"), serde_json::to_vec(&set).unwrap()).unwrap();
        world.processes.close().await;
        let mut keeper = as_nobody(&world);
        if may {
            let pids =
                until("it runs", async || Some(running(&world.instance(), false)).filter(|all| !all.is_empty())).await;
            let status = std::fs::read_to_string(format!("/proc/{}/status", pids[0])).unwrap();
            let (user, privileges) = (status.contains("\nUid:\t65534\t65534"), status.contains("\nNoNewPrivs:\t1\n"));
            assert!(user && privileges && status.contains("\nSeccomp:\t2\n"), "{status}");
            keeper.kill().unwrap();
            keeper.wait().unwrap();
        } else {
            let said = tokio::task::spawn_blocking(move || keeper.wait_with_output()).await.unwrap().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.contains("NotPermitted") && said.contains("only those of tenant default may"), "{said}");
        }
    }
}
