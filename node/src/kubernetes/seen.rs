//! What was found, in the port's words.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use actors::runtime::compute::Route;
use actors::runtime::compute::observed::{
    CRASH_LOOP, Exit, ExitHow, ObservedReplica, ObservedSet, ReplicaState, Unmanaged, said,
};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as KubeTime;
use kube::ResourceExt as _;
use protocol::Time;

use super::cache::{Cache, is_kept, label};
use super::made::{Kept, Made};
use super::names;

/// A container that has run for this long is in no crash loop: after as long Kubernetes forgets too.
const STABLE: Duration = Duration::from_secs(600);
/// Container runtimes say "ended by signal n" as this and n.
const SIGNALLED: i32 = 128;

/// The routes of a service: none where it is not ours.
pub fn routes(service: Option<&Service>) -> Vec<Route> {
    let said = service.and_then(|service| service.annotations().get(names::ROUTES));
    said.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Whether a pod gets requests, as far as Kubernetes says.
pub fn takes_requests(kept: &Kept, pod: &Pod) -> bool {
    !kept.removing && !kept.deleting && !leaves(pod) && is_ready(pod)
}

/// Whether a pod is on its way out.
pub fn leaves(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() || pod.annotations().contains_key(names::LEAVING)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.clone().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.iter().flatten().find(|one| one.name == names::CONTAINER)
}

/// Where the replica answers, while it runs.
pub fn address(made: &Made, pod: &Pod) -> Option<SocketAddr> {
    container(pod)?.state.as_ref()?.running.as_ref()?;
    let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(ip, made.port))
}

/// Which start of a replica runs now, or was the last one.
pub fn incarnation(pod: &Pod) -> u64 {
    1 + u64::from(restarts(container(pod)))
}

fn restarts(container: Option<&ContainerStatus>) -> u32 {
    container.map_or(0, |one| u32::try_from(one.restart_count).unwrap_or(0))
}

/// A set with its replicas.
pub fn set(cache: &Cache, kept: &Kept, now: Time) -> ObservedSet {
    let set = &kept.made.set;
    let replicas: Vec<_> = cache.pods_of(kept).iter().map(|pod| replica(kept, pod, now)).collect();
    let ready = replicas.iter().filter(|replica| replica.state == ReplicaState::Ready).count();
    let routes = routes(cache.service(&set.id.service).as_deref());
    ObservedSet {
        service: set.id.service.clone(),
        revision: set.id.revision.clone(),
        digest: set.digest.clone(),
        config_version: set.configuration.version.clone(),
        wanted: if kept.removing { 0 } else { kept.wanted },
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        weight: routes.iter().find(|route| route.revision == set.id.revision).map_or(0, |route| route.weight),
        removing: kept.removing || kept.deleting,
        replicas,
    }
}

fn replica(kept: &Kept, pod: &Pod, now: Time) -> ObservedReplica {
    let container = container(pod);
    let state = container.and_then(|one| one.state.as_ref());
    let restarts = restarts(container);
    let started_at = state.and_then(|state| Some(time(state.running.as_ref()?.started_at.as_ref()?)));
    let stable = started_at.is_some_and(|at| now.since(at) > STABLE);
    let annotation = |name: &str| pod.annotations().get(name).cloned().unwrap_or_default();
    let limits = &kept.made.set.limits;
    let unlimited = [("processes", limits.processes.is_some()), ("openFiles", limits.open_files.is_some())];
    ObservedReplica {
        id: pod.name_any(),
        state: what_it_does(kept, pod, state, restarts),
        incarnation: incarnation(pod),
        address: address(&kept.made, pod),
        ports: kept.made.ports(),
        pid: None,
        started_at,
        restarts,
        failures_in_row: if stable { 0 } else { restarts },
        last_exit: container.and_then(|one| exit(one, now)),
        said: container.map(last_words).unwrap_or_default(),
        config_version: annotation(names::CONFIG_VERSION),
        digest: annotation(names::DIGEST),
        unlimited: unlimited.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (*name).to_owned()).collect(),
    }
}

fn what_it_does(kept: &Kept, pod: &Pod, state: Option<&ContainerState>, restarts: u32) -> ReplicaState {
    if kept.removing || kept.deleting || leaves(pod) {
        return ReplicaState::Draining;
    }
    let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
    let ended = state.is_some_and(|state| state.terminated.is_some());
    match waiting {
        Some("CrashLoopBackOff") if restarts >= CRASH_LOOP => ReplicaState::CrashLoop,
        Some("ContainerCreating" | "PodInitializing") | None if !ended => {
            if is_ready(pod) {
                ReplicaState::Ready
            } else {
                ReplicaState::Starting
            }
        }
        // It ended, or cannot be started: its image, its Secret or its program is not there.
        Some(_) | None => ReplicaState::Waiting,
    }
}

/// How it last ended, or why it cannot be started.
fn exit(container: &ContainerStatus, now: Time) -> Option<Exit> {
    let state = container.state.as_ref();
    let ended = state.and_then(|state| state.terminated.as_ref());
    let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(ended) = ended.or(before) {
        let at = ended.finished_at.as_ref().map_or(now, time);
        return Some(Exit { at, how: how(ended) });
    }
    let reason = state?.waiting.as_ref()?.reason.as_deref()?;
    let not_started = !matches!(reason, "ContainerCreating" | "PodInitializing" | "CrashLoopBackOff");
    not_started.then_some(Exit { at: now, how: ExitHow::NotStarted })
}

/// What it said when it last ended, where it said anything for Kubernetes to keep.
fn last_words(container: &ContainerStatus) -> Vec<String> {
    let ended = [&container.state, &container.last_state].into_iter().flatten().filter_map(|it| it.terminated.as_ref());
    let message = ended.filter_map(|ended| ended.message.as_deref()).next().unwrap_or_default();
    said(&message.lines().map(str::to_owned).collect::<Vec<_>>())
}

fn how(ended: &ContainerStateTerminated) -> ExitHow {
    match ended.reason.as_deref() {
        Some("StartError" | "ContainerCannotRun") => return ExitHow::NotStarted,
        Some("ContainerStatusUnknown") => return ExitHow::Unseen,
        Some(_) | None => {}
    }
    match (ended.signal.filter(|signal| *signal > 0), ended.exit_code) {
        (Some(signal), _) => ExitHow::Signal(signal),
        (None, code) if code > SIGNALLED && code <= SIGNALLED + 64 => ExitHow::Signal(code - SIGNALLED),
        (None, code) => ExitHow::Status(code),
    }
}

fn time(time: &KubeTime) -> Time {
    Time::from_micros(time.0.as_microsecond())
}

/// What carries our label and is none of our sets' own.
pub fn unmanaged(cache: &Cache, environment: &str) -> Vec<Unmanaged> {
    let sets = cache.sets(environment);
    let strange = |pod: &Pod| {
        let of = |kept: &&Kept| {
            let id = &kept.made.set.id;
            label(pod, names::SERVICE) == Some(&id.service) && label(pod, names::REVISION) == Some(&id.revision)
        };
        !is_kept(pod) || (sets.iter().find(of).is_none() && pod.metadata.deletion_timestamp.is_none())
    };
    let pods = cache.pods(environment);
    let pods = pods.iter().filter(|pod| strange(pod)).map(|pod| {
        let container = pod.spec.iter().flat_map(|spec| &spec.containers).next();
        let command = container.map(|one| [&one.command, &one.args].into_iter().flatten().flatten().cloned());
        let command = command.map(|words| words.collect::<Vec<_>>().join(" ")).filter(|words| !words.is_empty());
        let image = container.and_then(|one| one.image.clone()).unwrap_or_default();
        found(pod.name_any(), command.unwrap_or(image))
    });
    let deployments = cache.deployments(environment);
    let deployments = deployments
        .iter()
        .filter(|one| Kept::read(one).is_none())
        .map(|one| found(format!("deployment/{}", one.name_any()), String::new()));
    pods.chain(deployments).collect()
}

fn found(claims: String, command: String) -> Unmanaged {
    Unmanaged { pid: None, claims, command }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value, more: serde_json::Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": "web-r1-x", "annotations": {} },
            "status": { "podIP": "10.0.0.7", "containerStatuses": [status] },
        });
        for (name, value) in more.as_object().unwrap() {
            pod["metadata"][name] = value.clone();
        }
        pod["status"]["containerStatuses"][0]["name"] = "main".into();
        for field in ["image", "imageID"] {
            pod["status"]["containerStatuses"][0][field] = "i".into();
        }
        serde_json::from_value(pod).unwrap()
    }

    fn kept() -> Kept {
        let set = json!({
            "environment": "test", "service": "web", "revision": "r1", "digest": "0", "command": "program", "replicas": 0,
            "ports": ["admin"],
        });
        let made = json!({ "set": set, "image": "i", "port": 8080, "stopSeconds": 1 });
        let made = serde_json::from_value(made).unwrap();
        Kept { made, wanted: 1, replicas: 1, ours: true, removing: false, deleting: false, settled: true }
    }

    fn seen(status: serde_json::Value, more: serde_json::Value) -> (ReplicaState, u64, Option<ExitHow>, bool) {
        let one = replica(&kept(), &pod(status, more), Time::from_micros(0));
        (one.state, one.incarnation, one.last_exit.map(|exit| exit.how), one.address.is_some())
    }

    #[test]
    fn what_a_container_says_is_a_state() {
        let waiting = |why: &str| json!({ "waiting": { "reason": why } });
        let ended = |code: i32, why: &str| json!({ "terminated": { "exitCode": code, "reason": why } });
        let running = json!({ "running": { "startedAt": "2024-01-01T00:00:00Z" } });
        let status = |state: &serde_json::Value, last: &serde_json::Value, restarts: i32| json!({ "state": state, "lastState": last, "restartCount": restarts, "ready": false });
        use ReplicaState::{CrashLoop, Draining, Starting, Waiting};
        let none = json!({});
        let table = [
            (status(&waiting("ContainerCreating"), &none, 0), (Starting, 1, None, false)),
            (status(&running, &none, 0), (Starting, 1, None, true)),
            (status(&waiting("ErrImagePull"), &none, 0), (Waiting, 1, Some(ExitHow::NotStarted), false)),
            (status(&ended(3, "Error"), &none, 0), (Waiting, 1, Some(ExitHow::Status(3)), false)),
            (
                status(&waiting("CrashLoopBackOff"), &ended(137, "Error"), 1),
                (Waiting, 2, Some(ExitHow::Signal(9)), false),
            ),
            (
                status(&waiting("CrashLoopBackOff"), &ended(3, "Error"), 3),
                (CrashLoop, 4, Some(ExitHow::Status(3)), false),
            ),
            (
                status(&waiting("CrashLoopBackOff"), &ended(128, "StartError"), 2),
                (Waiting, 3, Some(ExitHow::NotStarted), false),
            ),
            (status(&running, &ended(137, "Error"), 1), (Starting, 2, Some(ExitHow::Signal(9)), true)),
        ];
        for (status, expected) in table {
            assert_eq!(seen(status.clone(), json!({})), expected, "{status}");
        }
        let leaving = json!({ "annotations": { "skald/leaving": "shrink" } });
        assert_eq!(seen(status(&running, &none, 0), leaving).0, Draining);
        let deleted = json!({ "deletionTimestamp": "2024-01-01T00:00:00Z" });
        assert_eq!(seen(status(&running, &none, 0), deleted).0, Draining);
    }
}
