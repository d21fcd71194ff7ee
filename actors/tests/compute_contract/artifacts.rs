//! What a process is made of and given: its artifact, arguments, variables, limits and log.

use super::*;
use actors::runtime::compute::Reading;

/// An artifact is what its digest says, or it is refused.
pub async fn an_artifact_is_what_its_digest_says(place: &mut impl Place) {
    let good = set(place, "web", "r1", 1);
    let other = "0123456789abcdef".repeat(4);
    place.publish_as(&workload(), &other);
    let refused = place.compute().apply(&Set { digest: other, ..good.clone() }).await.unwrap_err();
    assert_eq!((refused.error.as_str(), refused.permanent), ("ArtifactRefused", true), "{refused}");
    let missing = place.compute().apply(&Set { digest: "0".repeat(64), ..good.clone() }).await.unwrap_err();
    assert_eq!((missing.error.as_str(), missing.permanent), ("ArtifactMissing", true));
    let bad = place.compute().apply(&Set { digest: "../../etc/passwd".into(), ..good }).await.unwrap_err();
    assert_eq!(bad.error, "BadSet");
    assert!(observe(place).await.sets.is_empty(), "nothing of it is there");
}

/// An archive does not lead out of its directory.
pub async fn an_archive_stays_in_its_directory(place: &mut impl Place) {
    for path in ["../escaped", "bin/../../escaped", "/tmp/escaped", "bin\\..\\escaped"] {
        let digest = place.publish(&archive(&[("bin/app", &workload(), 0o755), (path, b"out", 0o644)]));
        let set = Set { digest, command: "bin/app".into(), ..set(place, "web", "r1", 1) };
        let refused = place.compute().apply(&set).await.unwrap_err();
        assert_eq!(refused.error, "ArtifactRefused", "{path}: {refused}");
    }
    let digest = place.publish(&archive(&[("./bin/app", &workload(), 0o755), ("./data/a", b"a", 0o644)]));
    let set = Set { digest, command: "bin/app".into(), ..set(place, "web", "r1", 1) };
    run(place, &set).await;
}

/// Arguments and variables arrive as they are, no shell reads them, and nothing else arrives.
pub async fn no_shell_reads_what_is_given(place: &mut impl Place) {
    let args = ["$HOME", "a b", "; touch /tmp/x", "`id`", "*", "", "\"'"].map(str::to_owned);
    let mut set = with(set(place, "web", "r1", 1), "GREETING", "hello $USER;");
    set.args = args.to_vec();
    set.ports = vec!["admin".into()];
    set.limits.open_files = Some(123);
    set.limits.cpu_millis = Some(500);
    let replica = run(place, &set).await.remove(0);
    let held = place.holds_processors();
    let loose: &[&str] = if held { &[] } else { &["cpuMillis"] };
    assert_eq!(replica.unlimited, loose, "without a control group nothing holds it to that, and it is said");
    let (_, said) = get(replica.address.unwrap(), "/").await;
    assert_eq!(said["args"], serde_json::json!(args));
    assert_eq!(said["files"], 123);
    assert_eq!(said["group"], said["pid"], "it has a group of its own");
    let env = said["env"].as_object().unwrap();
    assert_eq!(env["GREETING"], "hello $USER;");
    assert_eq!(env["PORT"], replica.address.unwrap().port().to_string());
    assert_eq!(env["PORT_ADMIN"], replica.ports["admin"].to_string());
    assert_eq!(env["SKALD_SERVICE"], "web");
    let known = ["GREETING", "PATH", "PORT", "PORT_ADMIN", "LC_CTYPE", "PWD"];
    let strange: Vec<_> =
        env.keys().filter(|name| !known.contains(&name.as_str()) && !name.starts_with("SKALD_")).collect();
    assert!(strange.is_empty(), "ours leaked: {strange:?}");
    assert!(!format!("{set:?}").contains("hello"), "values may be secrets");
}

/// What it writes can be read, also after it is gone.
pub async fn what_it_writes_can_be_read(place: &mut impl Place) {
    let set = set(place, "web", "r1", 1);
    let id = run(place, &set).await.remove(0).id;
    let log = until("both lines are written", async || {
        let log = place.compute().logs(ENVIRONMENT, &id, &Reading::last(10)).await.unwrap().lines;
        (log.len() >= 2).then_some(log)
    })
    .await;
    assert_eq!(log, ["to standard output", "to standard error"]);
    assert_eq!(place.compute().logs(ENVIRONMENT, &id, &Reading::last(1)).await.unwrap().lines, ["to standard error"]);
    place.compute().remove(&set.id).await.unwrap();
    assert_eq!(place.compute().logs(ENVIRONMENT, &id, &Reading::last(10)).await.unwrap().lines, log);
    for unknown in ["web-r1-none", "../../../lock", ""] {
        let failure = place.compute().logs(ENVIRONMENT, unknown, &Reading::last(10)).await.unwrap_err();
        assert_eq!(failure.error, "UnknownReplica");
    }
}
