//! The checks, from the machine to the cluster. A check that another one makes pointless is left
//! out: without a server nobody asks for its streams.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use protocol::query::{Answer, Body, HealthView, Query};
use protocol::{NodeId, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::context::Ctx;
use crate::cli::{parts, state};
use crate::client::{Client, EVENT_STREAM, Error};
use crate::nats::DEAD;
use crate::secret;

use super::Finding;

/// Below this a warning is due: a JetStream that cannot write refuses every append.
const DISK_WARN_BYTES: u64 = 2 << 30;
const DISK_FAIL_BYTES: u64 = 200 << 20;
/// Clocks further apart than this make times in histories and the order of events confusing.
const SKEW_WARN_MS: i64 = 500;
/// The same for a node, whose timers would be early or late by as much.
const NODE_SKEW_WARN_MS: i64 = 1_000;

pub(super) async fn all(ctx: &Ctx, found: &mut impl FnMut(Finding)) {
    found(server_program().await);
    found(disk(ctx));
    let client = match ctx.connect().await {
        Ok(client) => client,
        Err(fault) => return found(Finding::fail("server", fault.what, fault.mend.unwrap_or_default())),
    };
    let info = client.nats().server_info();
    found(Finding::ok("server", format!("nats-server {} at {}", info.version, secret::shown(&ctx.servers()))));
    let jetstream = jetstream(&client).await;
    let usable = jetstream.as_ref().is_some_and(|it| it.verdict == super::Verdict::Ok);
    found(jetstream.unwrap_or_else(|| Finding::ok("jetstream", NOT_ASKED)));
    if usable {
        found(clock(&client).await);
    }
    let answers = match client.query(&Query::Health).await {
        Ok(answers) => answers,
        Err(error) => {
            let mend = error.mend().unwrap_or_else(|| "start one with `skald up` or `skald node`".into());
            return found(Finding::fail("nodes", error.to_string(), mend));
        }
    };
    let health = healths(&answers);
    nodes(&health, found);
    for answer in &answers {
        found(node_clock(&client, &answer.node).await);
    }
    durability(&health, found);
    let shards = health.values().map(|node| node.shards_in_all).max().unwrap_or(0);
    match client.query(&Query::Owners).await {
        Ok(owners) => found(owned(&owners, shards)),
        Err(error) => found(Finding::fail("shards", error.to_string(), "see the nodes above")),
    }
    super::services::services(&client, found).await;
    super::workers::workers(&client, found).await;
    found(dead_letters(&client).await);
}

async fn server_program() -> Finding {
    match parts::find_server().await {
        Ok(which) => Finding::ok("nats-server", which),
        Err(error) => match python().await {
            Some(python) => Finding::warn(
                "nats-server",
                format!("{error:#}"),
                format!("nothing, if {python} may fetch it once at `skald up`; else install it and put it on the path"),
            ),
            None => Finding::warn(
                "nats-server",
                format!("{error:#}; and there is no python3 with pip to fetch it with"),
                "install nats-server and put it on the path; only `skald up` and `skald demo` need it",
            ),
        },
    }
}

async fn python() -> Option<String> {
    let mut command = tokio::process::Command::new("python3");
    command.args(["-m", "pip", "--version"]).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.split(" from").next().unwrap_or_default().trim().to_owned())
}

fn disk(ctx: &Ctx) -> Finding {
    let dir = state::running().map(|state| state.data).or_else(|| ctx.config().ok().map(|config| config.data_dir));
    let Some(dir) = dir else {
        return Finding::warn("disk", "the settings cannot be read", "skald node --print-config says why");
    };
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(space) => room(space.f_bavail.saturating_mul(space.f_frsize), existing),
        Err(error) => Finding::warn("disk", format!("{}: {error}", existing.display()), "look whether it is mounted"),
    }
}

fn room(free: u64, dir: &Path) -> Finding {
    let found = format!("{:.1} GiB free in {}", free as f64 / f64::from(1 << 30), dir.display());
    let mend = "make room: when the disk is full every append is refused and sagas stand still";
    if free < DISK_FAIL_BYTES {
        Finding::fail("disk", found, mend)
    } else if free < DISK_WARN_BYTES {
        Finding::warn("disk", found, mend)
    } else {
        Finding::ok("disk", found)
    }
}

/// What a connection is told that may not ask the server itself.
const NOT_ASKED: &str = "not asked: this connection may not, and the nodes look after it";

async fn jetstream(client: &Client) -> Option<Finding> {
    let mend = "start nats-server with -js or a jetstream block; the account may lack it";
    let fail = |why: String| Some(Finding::fail("jetstream", format!("it does not answer: {why}"), mend));
    let said = match ask::<Value>(client, "$JS.API.INFO").await {
        Ok(said) => said,
        Err(Error::NotAllowed { .. }) => return None,
        Err(error) => return fail(error.to_string()),
    };
    match (said["error"]["description"].as_str(), said["streams"].as_u64()) {
        (None, Some(streams)) => Some(Finding::ok("jetstream", format!("on, {streams} streams"))),
        (Some(why), _) => fail(why.to_owned()),
        (None, None) => fail(said.to_string()),
    }
}

#[derive(Deserialize)]
struct StreamInfo {
    ts: Option<protocol::Time>,
    state: Option<StreamState>,
}

#[derive(Deserialize)]
struct StreamState {
    messages: u64,
}

/// What the server says about itself.
async fn ask<T: DeserializeOwned>(client: &Client, subject: &str) -> Result<T, Error> {
    let answer = client.request(subject, subject.to_owned(), Vec::new(), client.settings().timeout).await?;
    let unreadable = |error: serde_json::Error| Error::Unreadable { what: subject.to_owned(), why: error.to_string() };
    serde_json::from_slice(&answer.payload).map_err(unreadable)
}

/// What the server says of a stream, with the server's time.
async fn stream(client: &Client, name: &str) -> Result<StreamInfo, Error> {
    ask(client, &format!("$JS.API.STREAM.INFO.{name}")).await
}

async fn clock(client: &Client) -> Finding {
    let before = jiff::Timestamp::now();
    let info = stream(client, EVENT_STREAM).await.ok();
    let after = jiff::Timestamp::now();
    match info.and_then(|info| info.ts) {
        Some(theirs) => skew(before.as_millisecond(), theirs.as_millis(), after.as_millisecond()),
        None => Finding::ok("clock", "the server does not tell its time yet"),
    }
}

/// A node's time against ours: it stands in histories, and timers go by it.
async fn node_clock(client: &Client, node: &NodeId) -> Finding {
    let before = jiff::Timestamp::now();
    let answer = client.query_node(node, &Query::Health).await;
    let after = jiff::Timestamp::now();
    match answer.map(|answer| answer.at) {
        Ok(Some(theirs)) => node_skew(node, off(before.as_millisecond(), theirs.as_millis(), after.as_millisecond())),
        Ok(None) => Finding::ok("clock", format!("node {node} does not tell its time; it is of an older release")),
        Err(error) => Finding::warn("clock", format!("node {node}: {error}"), "see the nodes above"),
    }
}

fn node_skew(node: &NodeId, off: i64) -> Finding {
    if off.abs() > NODE_SKEW_WARN_MS {
        let found = format!("node {node}'s clock is {off} ms from this machine's; timers go by it");
        return Finding::warn("clock", found, "run a time service (chrony, systemd-timesyncd) on every machine");
    }
    Finding::ok("clock", format!("node {node} within {NODE_SKEW_WARN_MS} ms"))
}

/// How far a clock is off at least that showed `theirs` while ours went from `before` to `after`.
fn off(before: i64, theirs: i64, after: i64) -> i64 {
    if theirs < before { theirs - before } else { (theirs - after).max(0) }
}

/// The server's time against ours, which passed from `before` to `after` meanwhile.
fn skew(before: i64, theirs: i64, after: i64) -> Finding {
    let off = off(before, theirs, after);
    if off.abs() > SKEW_WARN_MS {
        let found = format!("the server's clock is {off} ms from this machine's");
        return Finding::warn("clock", found, "run a time service (chrony, systemd-timesyncd) on every machine");
    }
    Finding::ok("clock", format!("within {SKEW_WARN_MS} ms of the server's"))
}

fn healths(answers: &[Answer]) -> BTreeMap<String, &HealthView> {
    let health = answers.iter().filter_map(|answer| match &answer.body {
        Body::Health(health) => Some((answer.node.to_string(), &**health)),
        Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
    });
    health.collect()
}

fn nodes(health: &BTreeMap<String, &HealthView>, found: &mut impl FnMut(Finding)) {
    let names: Vec<_> = health.keys().map(String::as_str).collect();
    let mut silent: Vec<_> = health
        .values()
        .flat_map(|view| view.members.iter())
        .filter(|member| !health.contains_key(member.as_str()))
        .map(String::as_str)
        .collect();
    silent.sort_unstable();
    silent.dedup();
    let unready: Vec<_> = health.iter().filter(|(_, view)| !view.ready).map(|(name, _)| name.as_str()).collect();
    found(if !silent.is_empty() {
        let mend = "a node that died leaves within its lease; one that hangs is to be ended";
        Finding::warn("nodes", format!("{} answer; silent: {}", names.join(", "), silent.join(", ")), mend)
    } else if !unready.is_empty() {
        let mend = "a node that starts is ready soon; look at its troubles below and at its log";
        Finding::fail("nodes", format!("not ready: {}", unready.join(", ")), mend)
    } else {
        Finding::ok("nodes", format!("{} ready: {}", names.len(), names.join(", ")))
    });
    let mut versions: Vec<_> = health.values().map(|view| view.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let mend = "finish the upgrade: nodes of different releases should not stay together";
        found(Finding::warn("versions", versions.join(", "), mend));
    }
    for (lost, names) in said(health, |view| &view.lost) {
        let mend = "bring back what was there; nothing goes on in what is left";
        found(Finding::fail("lost", format!("{names}: {lost}"), mend));
    }
    for (name, view) in health {
        for trouble in view.troubles.iter().filter(|trouble| !view.lost.contains(trouble)) {
            found(Finding::warn("trouble", format!("{name}: {trouble}"), format!("skald tree --node {name}")));
        }
    }
    for (happened, names) in said(health, |view| &view.happened) {
        let mend = "it is over; the node's log and the events of the tenant skald say when it was";
        found(Finding::warn("happened", format!("{names}: {happened}"), mend));
    }
    for (warning, names) in said(health, |view| &view.warnings) {
        let (of, mend) = if warning.contains("the disk is unknown") {
            ("sync", "set monitors, so that nodes can ask; see that the server has sync_interval: always")
        } else if warning.contains("refused for good") {
            ("events", "read them and what the server says of them: nats stream view SKALD_DEAD")
        } else if warning.contains("cannot be rebuilt") {
            ("sagas", "skald list --status stuck names them; skald show says of each why, and what can be done")
        } else if warning.starts_with("services: ") {
            (
                "services",
                "run the node as root on Linux, with control groups of version 2; actors/README.md says under \"What services may do\" what follows",
            )
        } else {
            ("settings", "skald node --print-config explains each setting")
        };
        found(Finding::warn(of, format!("{names}: {warning}"), mend));
    }
}

/// What nodes say, each once, with the names of those that say it.
fn said<'a>(
    health: &BTreeMap<String, &'a HealthView>,
    what: impl Fn(&'a HealthView) -> &'a Vec<String>,
) -> Vec<(&'a str, String)> {
    let mut by: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, view) in health {
        for text in what(view) {
            match by.iter_mut().find(|(known, _)| known == text) {
                Some((_, names)) => names.push(name),
                None => by.push((text, vec![name])),
            }
        }
    }
    by.into_iter().map(|(text, names)| (text, names.join(", "))).collect()
}

fn durability(health: &BTreeMap<String, &HealthView>, found: &mut impl FnMut(Finding)) {
    let Some(view) = health.values().next() else { return };
    // Nodes ask for themselves; the one that knows least counts, and has said so among its warnings.
    if !health.values().any(|view| view.sync.starts_with("unknown")) {
        found(sync(&view.sync));
    }
    found(match view.replicas {
        1 => Finding::ok("replicas", "1: safe against crashes, not against the loss of the disk"),
        many => Finding::ok("replicas", many.to_string()),
    });
}

/// `said` is how a node puts it: `always`, or how often.
fn sync(said: &str) -> Finding {
    if said.starts_with("always") {
        Finding::ok("sync", "every acknowledged write is on the disk")
    } else {
        let found = format!("the server writes through {said}; a power cut can lose what was acknowledged");
        Finding::warn("sync", found, "set sync_interval: always in the server's jetstream block")
    }
}

/// Every shard has exactly one owner. `in_all`: how many there are, as nodes say; 0: none says.
fn owned(answers: &[Answer], in_all: u16) -> Finding {
    let mut owners: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for answer in answers {
        if let Body::Owners(shards) = &answer.body {
            for shard in shards.iter().filter(|shard| shard.state == "owned") {
                owners.entry(shard.shard).or_default().push(answer.node.as_str());
            }
        }
    }
    let count = owners.keys().next_back().map_or(in_all, |last| in_all.max(last + 1));
    if count == 0 {
        let mend = "run this release on every node; until then look at skald tree --owners";
        return Finding::warn("shards", "no node says how many there are, and none is owned", mend);
    }
    let free: Vec<_> = (0..count).filter(|shard| !owners.contains_key(shard)).map(|shard| shard.to_string()).collect();
    let twice: Vec<_> = owners
        .iter()
        .filter(|(_, nodes)| nodes.len() > 1)
        .map(|(shard, nodes)| format!("{shard} ({})", nodes.join(", ")))
        .collect();
    if !twice.is_empty() {
        // Harmless for the journal, which takes frames of one of them only; the other will learn it.
        let mend = "wait for the next lease; if it stays, a node does not see the others: compare its server";
        return Finding::warn("shards", format!("claimed by two: {}", twice.join("; ")), mend);
    }
    if !free.is_empty() {
        let mend = "a takeover takes seconds; if it stays, look at the nodes above and at skald tree --owners";
        return Finding::fail("shards", format!("nobody owns {} of {count}: {}", free.len(), free.join(" ")), mend);
    }
    Finding::ok("shards", format!("all {count} owned"))
}

async fn dead_letters(client: &Client) -> Finding {
    let info = stream(client, DEAD).await;
    if matches!(info, Err(Error::NotAllowed { .. })) {
        return Finding::ok("dead letters", NOT_ASKED);
    }
    match info.ok().and_then(|info| info.state) {
        None => Finding::ok("dead letters", "none"),
        Some(state) if state.messages == 0 => Finding::ok("dead letters", "none"),
        Some(state) => Finding::warn(
            "dead letters",
            format!("{} letters about what could not be understood, carried out or let in", state.messages),
            format!("read them whole: nats stream view {DEAD}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_the_question_cannot_explain() {
        assert_eq!(skew(1_000, 1_005, 1_010).verdict, Verdict::Ok);
        assert_eq!(skew(1_000, 1_900, 2_000).verdict, Verdict::Ok, "a slow answer is no skew");
        let late = skew(10_000, 9_000, 10_010);
        assert!(late.verdict == Verdict::Warn && late.found.contains("-1000 ms"), "{late:?}");
    }

    #[test]
    fn a_node_whose_clock_is_off_by_more_than_a_second_is_named() {
        let node = NodeId::new("n2").unwrap();
        assert_eq!(node_skew(&node, off(1_000, 2_900, 2_000)).verdict, Verdict::Ok);
        let early = node_skew(&node, off(10_000, 13_000, 10_010));
        assert!(early.verdict == Verdict::Warn && early.found.contains("n2's clock is 2990 ms"), "{early:?}");
    }

    #[test]
    fn what_is_not_known_about_the_disk_is_a_warning() {
        let view: HealthView = serde_json::from_value(serde_json::json!({
            "ready": true, "version": "1", "server": "2", "sync": "unknown: x", "replicas": 1, "members": ["n1"],
            "shards": [], "troubles": [], "warnings": ["when the server writes through to the disk is unknown: x"],
            "since": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let mut findings = Vec::new();
        let both = BTreeMap::from([("n1".to_owned(), &view), ("n2".to_owned(), &view)]);
        nodes(&both, &mut |finding| findings.push(finding));
        let warned: Vec<_> = findings.iter().filter(|finding| finding.check == "sync").collect();
        let [warned] = warned[..] else { panic!("said once, whoever says it: {findings:?}") };
        assert!(warned.found.starts_with("n1, n2: "), "{warned:?}");
        assert_eq!(warned.verdict, Verdict::Warn);
        assert!(warned.mend.as_ref().unwrap().contains("set monitors"), "{warned:?}");
    }

    #[test]
    fn what_was_lost_fails_and_says_how_it_is_accepted() {
        let lost = "shard 2 is stopped: the journal's stream is gone; accept: skald accept-loss --shard 2 --loss 1f";
        let view: HealthView = serde_json::from_value(serde_json::json!({
            "ready": false, "version": "1", "server": "2", "sync": "always", "replicas": 1, "members": ["n1"],
            "shards": [], "troubles": [lost, "another"], "lost": [lost], "since": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let mut findings = Vec::new();
        nodes(&BTreeMap::from([("n1".to_owned(), &view)]), &mut |finding| findings.push(finding));
        let told: Vec<_> = findings.iter().map(|finding| (finding.check, finding.verdict)).collect();
        let expected = [("nodes", Verdict::Fail), ("lost", Verdict::Fail), ("trouble", Verdict::Warn)];
        assert_eq!(told, expected, "{findings:?}");
    }

    #[test]
    fn every_shard_has_one_owner_or_it_is_said() {
        let answer = |node: &str, shards: &[u16]| {
            let shards: Vec<_> = shards
                .iter()
                .map(|shard| {
                    serde_json::json!({"shard": shard, "state": "owned", "epoch": 1, "position": 0, "lowWater": 0,
                        "relayed": 0, "awake": 0, "asleep": 0, "frames": 0, "records": 0})
                })
                .collect();
            serde_json::from_value::<Answer>(serde_json::json!({"node": node, "body": {"owners": shards}})).unwrap()
        };
        assert_eq!(owned(&[answer("n1", &[0, 1]), answer("n2", &[2])], 3).verdict, Verdict::Ok);
        let free = owned(&[answer("n1", &[0])], 3);
        assert!(free.verdict == Verdict::Fail && free.found.ends_with("1 2"), "{free:?}");
        assert!(owned(&[answer("n1", &[0]), answer("n2", &[0])], 1).found.contains("0 (n1, n2)"));
    }

    #[test]
    fn a_full_disk_fails_before_it_is_full() {
        let verdict = |free| room(free, Path::new("/")).verdict;
        assert_eq!([verdict(1), verdict(1 << 30), verdict(8 << 30)], [Verdict::Fail, Verdict::Warn, Verdict::Ok]);
    }
}
