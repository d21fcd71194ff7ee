//! Plays the kubelet: runs a pod's container as a process on an address of its own, and says in the
//! pod's status what becomes of it. An API server without nodes has nobody else to do so.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pods' addresses are on loopback: below 127.66, each its own.
static NEXT: AtomicU32 = AtomicU32::new(1);
/// The pause after a container ended, doubled each time; kubelets take 10 s.
const PAUSE: Duration = Duration::from_millis(50);

struct Running {
    leave: watch::Sender<bool>,
    pid: Arc<Mutex<Option<Pid>>>,
}

/// Runs the pods of a namespace until it is dropped.
pub struct Kubelet {
    running: Arc<Mutex<BTreeMap<String, Running>>>,
    _task: JoinSet<()>,
}

impl Kubelet {
    /// Begins; every container is `program`.
    pub fn begin(client: Client, namespace: &str, program: std::path::PathBuf) -> Self {
        let running = Arc::<Mutex<BTreeMap<String, Running>>>::default();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        let known = running.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut pods = JoinSet::new();
            loop {
                let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()));
                while let Ok(Some(event)) = events.try_next().await {
                    let (pod, gone) = match event {
                        Event::Apply(pod) | Event::InitApply(pod) => (pod, false),
                        Event::Delete(pod) => (pod, true),
                        Event::Init | Event::InitDone => continue,
                    };
                    let mut known = known.lock().unwrap();
                    let leaves = gone || pod.metadata.deletion_timestamp.is_some();
                    match known.get(&pod.name_any()) {
                        Some(one) if leaves => drop(one.leave.send_replace(true)),
                        Some(_) => {}
                        None if gone => {}
                        None => {
                            let (leave, left) = watch::channel(leaves);
                            let pid = Arc::<Mutex<Option<Pid>>>::default();
                            known.insert(pod.name_any(), Running { leave, pid: pid.clone() });
                            let life = Life {
                                api: api.clone(),
                                secrets: secrets.clone(),
                                program: program.clone(),
                                address: address(),
                                pod,
                                pid,
                                left,
                            };
                            pods.spawn(life.lead());
                        }
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { running, _task: task }
    }

    /// Kills the process of a pod.
    pub fn kill(&self, pod: &str) {
        let pid = *self.running.lock().unwrap()[pod].pid.lock().unwrap();
        kill_process(pid.expect("it runs"), Signal::KILL).unwrap();
    }
}

fn address() -> Ipv4Addr {
    let n = NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 200) * 300;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 66, 0, 0)) + n)
}

struct Life {
    api: Api<Pod>,
    secrets: Api<Secret>,
    program: std::path::PathBuf,
    address: Ipv4Addr,
    pod: Pod,
    pid: Arc<Mutex<Option<Pid>>>,
    left: watch::Receiver<bool>,
}

impl Life {
    async fn lead(mut self) {
        let name = self.pod.name_any();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "played" },
        });
        let params = PostParams::default();
        let bound = self.api.create_subresource::<Value, Value>("binding", &name, &params, &binding).await;
        if bound.is_err() {
            // Gone already: there is nothing to do.
            return;
        }
        let (mut last, mut pause) = (json!({}), PAUSE);
        for restarts in 0.. {
            let began = now();
            let (code, reason) = match self.start().await {
                Err(_) => (128, "StartError"),
                Ok(mut child) => {
                    *self.pid.lock().unwrap() = child.id().and_then(|id| Pid::from_raw(id.try_into().unwrap()));
                    let running = json!({ "running": { "startedAt": began } });
                    self.say(&running, &last, restarts, false).await;
                    let ended = self.watch_over(&mut child, &running, &last, restarts).await;
                    let Some(code) = ended else {
                        self.stop(child).await;
                        return self.gone().await;
                    };
                    (code, "Error")
                }
            };
            *self.pid.lock().unwrap() = None;
            last = json!({ "terminated": {
                "exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now(),
            }});
            self.say(&json!({ "waiting": { "reason": "CrashLoopBackOff" } }), &last, restarts, false).await;
            if tokio::time::timeout(pause, self.left.wait_for(|left| *left)).await.is_ok() {
                return self.gone().await;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// How it ended by itself; `None`: it should leave.
    async fn watch_over(&mut self, child: &mut Child, running: &Value, last: &Value, restarts: u32) -> Option<i32> {
        let at = SocketAddr::from((self.address, 8080));
        let ready = async {
            while TcpStream::connect(at).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let code = |status: std::process::ExitStatus| status.code().unwrap_or(128 + status.signal().unwrap_or(0));
        tokio::select! {
            _ = self.left.wait_for(|left| *left) => return None,
            ended = child.wait() => return Some(code(ended.unwrap())),
            () = ready => {}
        }
        self.say(running, last, restarts, true).await;
        tokio::select! {
            _ = self.left.wait_for(|left| *left) => None,
            ended = child.wait() => Some(code(ended.unwrap())),
        }
    }

    async fn start(&self) -> std::io::Result<Child> {
        let container = &self.pod.spec.as_ref().unwrap().containers[0];
        if container.command.is_some() {
            return Err(std::io::Error::other("the image has no other program"));
        }
        // Kubernetes replaces $(NAME); what is ours doubles every sign, and so nothing is replaced.
        let literal = |text: &String| text.replace("$$", "$");
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOST", self.address.to_string());
        for variable in container.env.iter().flatten() {
            let from = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
            let value = match from {
                Some(from) => {
                    let secret = self.secrets.get(&from.name).await.map_err(std::io::Error::other)?;
                    String::from_utf8(secret.data.unwrap()[&from.key].0.clone()).unwrap()
                }
                None => variable.value.iter().map(literal).collect(),
            };
            command.env(&variable.name, value);
        }
        command.args(container.args.iter().flatten().map(literal));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
        command.spawn()
    }

    async fn stop(&self, mut child: Child) {
        let seconds = self.pod.spec.as_ref().unwrap().termination_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(seconds.try_into().unwrap());
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.try_into().unwrap())) {
            kill_process(pid, Signal::TERM).ok();
        }
        if tokio::time::timeout(grace, child.wait()).await.is_err() {
            child.kill().await.ok();
        }
    }

    async fn gone(&self) {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.api.delete(&self.pod.name_any(), &at_once).await.ok();
    }

    async fn say(&self, state: &Value, last: &Value, restarts: u32, ready: bool) {
        let at = now();
        let condition = |kind: &str| json!({ "type": kind, "status": if ready { "True" } else { "False" }, "lastTransitionTime": at });
        let image = &self.pod.spec.as_ref().unwrap().containers[0].image;
        let ip = self.address.to_string();
        let status = json!({ "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": [condition("Ready"), condition("ContainersReady")],
            "containerStatuses": [{
                "name": "main", "image": image, "imageID": image, "ready": ready, "restartCount": restarts,
                "state": state, "lastState": last,
            }],
        }});
        let name = self.pod.name_any();
        // It may be gone by now.
        self.api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.ok();
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
