//! What every adapter of the compute port must do, with real processes.
//!
//! Places differ in one thing: a replica that is started anew is another start of the same replica,
//! or another replica where each pod has a name of its own. Both are another *start*.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use actors::runtime::compute::observed::{ObservedReplica, ObservedSet};
use actors::runtime::compute::set::{Configuration, Limits, PROGRAM, Variables};
use actors::runtime::compute::{Compute, Observed, Set, SetId};
use async_trait::async_trait;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Makes a test of each case with the macro `$test`, which is given them as `part::case`; those about
/// artifacts are only for places that run what is published.
macro_rules! cases {
    ($test:ident) => {
        $test! {
            sets::applying_twice_is_once,
            sets::a_set_grows_and_shrinks,
            sets::a_revision_stays_what_it_is,
            sets::a_killed_process_is_replaced,
            sets::a_crash_loop_is_seen,
            sets::one_replica_is_restarted,
            sets::processes_outlive_their_keeper,
            sets::a_removal_outlives_its_keeper,
            traffic::weights_are_exact,
            traffic::routes_are_checked,
            traffic::a_removal_drains,
            traffic::a_killed_replica_fails_no_idempotent_request,
            traffic::a_sleeping_service_is_woken,
            traffic::requests_pass_whole,
        }
    };
    ($test:ident with artifacts) => {
        cases!($test);
        $test! {
            artifacts::an_artifact_is_what_its_digest_says,
            artifacts::an_archive_stays_in_its_directory,
            artifacts::no_shell_reads_what_is_given,
            artifacts::what_it_writes_can_be_read,
        }
    };
}

pub mod artifacts;
pub mod sets;
pub mod traffic;

/// The environment of all cases.
pub const ENVIRONMENT: &str = "test";

/// A place where things run: an adapter, and what a test needs around it.
#[async_trait]
pub trait Place: Send + Sync {
    /// The port.
    fn compute(&self) -> &dyn Compute;
    /// Publishes an artifact and answers its digest.
    fn publish(&self, bytes: &[u8]) -> String;
    /// Publishes `bytes` under a digest that is not theirs.
    fn publish_as(&self, bytes: &[u8], digest: &str);
    /// Whoever keeps the place ends, and another one comes.
    async fn reborn(&mut self);
    /// Kills the process of a replica, as a crash would.
    async fn kill(&self, replica: &ObservedReplica) {
        kill_process(Pid::from_raw(replica.pid.unwrap().try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    /// Whether the machine has control groups that hold processors.
    fn holds_processors(&self) -> bool {
        false
    }
    /// Whether logs can be read here.
    fn has_logs(&self) -> bool {
        true
    }
}

/// The Python of this machine: the one that everybody may run, else the one of whoever runs the tests.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        if std::path::Path::new("/usr/bin/python3").exists() {
            return "/usr/bin/python3".to_owned();
        }
        let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let asked = asked.expect("these tests need python3");
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    })
}

/// The workload as a plain executable.
pub fn workload() -> Vec<u8> {
    let python = python();
    format!("#!{python} -IS\n{}", include_str!("workload.py")).into_bytes()
}

/// `count` replicas of the workload.
pub fn set(place: &dyn Place, service: &str, revision: &str, count: u32) -> Set {
    Set {
        id: SetId::new(ENVIRONMENT, service, revision),
        tenant: "default".to_owned(),
        digest: place.publish(&workload()),
        command: PROGRAM.to_owned(),
        args: Vec::new(),
        configuration: Configuration { version: format!("config-of-{revision}"), variables: Variables::default() },
        secrets: BTreeMap::new(),
        ports: Vec::new(),
        limits: Limits::default(),
        replicas: count,
    }
}

/// As `set`, with a variable.
pub fn with(mut set: Set, name: &str, value: &str) -> Set {
    set.configuration.variables.0.insert(name.to_owned(), value.to_owned());
    set
}

/// Asks again until `what` is answered, and gives up after a while.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until requests reach the gateway, where there is one.
pub async fn gateway_listens(place: &dyn Place) {
    let Some(at) = observe(place).await.gateway else { return };
    let listens = async {
        while tokio::net::TcpStream::connect(at).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), listens).await.expect("the gateway listens");
}

/// What is there now.
pub async fn observe(place: &dyn Place) -> Observed {
    place.compute().observe(ENVIRONMENT).await.unwrap()
}

/// Waits for a set to be as `good`.
pub async fn set_when(place: &dyn Place, id: &SetId, what: &str, good: impl Fn(&ObservedSet) -> bool) -> ObservedSet {
    until(what, async || observe(place).await.set(&id.service, &id.revision).filter(|set| good(set)).cloned()).await
}

/// Applies a set and waits until `replicas` of it are ready, and no more are there.
pub async fn run(place: &dyn Place, set: &Set) -> Vec<ObservedReplica> {
    place.compute().apply(set).await.unwrap();
    settled(place, set).await
}

/// Waits until as many as wanted are ready, and no more are there.
pub async fn settled(place: &dyn Place, set: &Set) -> Vec<ObservedReplica> {
    let count = set.replicas as usize;
    let good = |seen: &ObservedSet| seen.ready as usize == count && seen.replicas.len() == count;
    set_when(place, &set.id, "all replicas are ready", good).await.replicas
}

/// Which starts of which replicas, in order.
pub fn starts(replicas: &[ObservedReplica]) -> Vec<(String, u64)> {
    let mut starts: Vec<_> = replicas.iter().map(|replica| (replica.id.clone(), replica.incarnation)).collect();
    starts.sort();
    starts
}

/// A client of its own, without connections.
pub fn client() -> Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Where the gateway is.
pub async fn gateway(place: &dyn Place) -> SocketAddr {
    observe(place).await.gateway.expect("something was applied")
}

/// An answer to `GET`.
pub async fn get(at: SocketAddr, path: &str) -> (StatusCode, Value) {
    send(Request::get(format!("http://{at}{path}")).body(Full::default()).unwrap()).await
}

/// An answer to any request.
pub async fn send(request: Request<Full<Bytes>>) -> (StatusCode, Value) {
    let response = client().request(request).await.expect("the gateway answers");
    let status = response.status();
    let body = response.into_body().collect().await.expect("the answer is whole").to_bytes();
    let value = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into());
    (status, value)
}

/// A `.tar.gz` of files, their paths taken as they are.
pub fn archive(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar.into_inner().unwrap()).unwrap();
    packed.finish().unwrap()
}
