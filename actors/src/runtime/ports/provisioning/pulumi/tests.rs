//! What Pulumi says, read; how it is run; and, where it is installed, the contract.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::super::contract;
use super::*;

const MINUTES: Duration = Duration::from_secs(300);

fn step(op: &str, more: serde_json::Value) -> serde_json::Value {
    let mut step = json!({ "op": op, "urn": "urn:pulumi:shop::infra::my:Group$aws:s3/bucket:Bucket::logs" });
    for (name, value) in more.as_object().unwrap() {
        step[name] = value.clone();
    }
    step
}

fn shown(steps: &[serde_json::Value]) -> Vec<String> {
    let digest = json!({ "config": { "skald:replicas": "1" }, "steps": steps, "duration": 1, "changeSummary": {} });
    let changes = digest::preview(digest.to_string().as_bytes()).unwrap();
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_preview_is_read() {
    let state = |inputs: serde_json::Value| json!({ "urn": "u", "id": "logs-1", "inputs": inputs });
    let (old, new) = (state(json!({ "acl": "private", "days": 1 })), state(json!({ "acl": "public", "days": 1 })));
    let name = "aws:s3/bucket:Bucket logs";
    let table = [
        (step("same", json!({ "oldState": old, "newState": old })), vec![]),
        (step("read", json!({ "newState": new })), vec![]),
        (
            step("create", json!({ "newState": state(json!({ "acl": "private" })) })),
            vec![format!("{name}: {{\"acl\":\"private\"}} is made")],
        ),
        (step("create", json!({ "newState": state(json!({})) })), vec![format!("{name}: new is made")]),
        (step("delete", json!({ "oldState": old })), vec![format!("{name}: logs-1 is taken away")]),
        (
            step(
                "update",
                json!({ "oldState": old, "newState": new, "detailedDiff": { "acl": { "kind": "update" } } }),
            ),
            vec![format!("{name}.acl: private becomes public")],
        ),
        (
            step("update", json!({ "oldState": old, "newState": new, "diffReasons": ["acl", "tags[0]"] })),
            vec![format!("{name}.acl: private becomes public"), format!("{name}.tags[0]: nothing")],
        ),
        (
            step("replace", json!({ "oldState": old, "newState": state(json!({})) })),
            vec![format!("{name}: logs-1 becomes another one (new)")],
        ),
        (step("create-replacement", json!({})), vec![]),
        (step("delete-replaced", json!({})), vec![]),
    ];
    for (step, expected) in table {
        assert_eq!(shown(std::slice::from_ref(&step)), expected, "{step}");
    }
    // Neither the stack nor a provider is anything outside.
    let mut stack = step("create", json!({}));
    for urn in [
        "urn:pulumi:shop::infra::pulumi:pulumi:Stack::infra-shop",
        "urn:pulumi:shop::infra::pulumi:providers:aws::default",
    ] {
        stack["urn"] = urn.into();
        assert_eq!(shown(std::slice::from_ref(&stack)), Vec::<String>::new());
    }
    let unknown = state(json!({ "vpc": "04da6b54-80e4-46f7-96ec-b56ff0331ba9" }));
    assert_eq!(
        shown(&[step("create", json!({ "newState": unknown }))]),
        [format!("{name}: {{\"vpc\":\"(known when it is made)\"}} is made")]
    );
    let strange = json!({ "steps": [step("explode", json!({}))] }).to_string();
    assert_eq!(digest::preview(strange.as_bytes()).unwrap_err().error, "ProvisioningFailed");
    assert_eq!(digest::preview(b"Previewing update").unwrap_err().error, "ProvisioningFailed");
}

#[test]
fn a_stack_and_its_outputs_are_read() {
    let stack = json!({ "version": 3, "deployment": { "resources": [
        { "urn": "urn:pulumi:shop::infra::pulumi:pulumi:Stack::infra-shop", "type": "pulumi:pulumi:Stack" },
        { "urn": "urn:pulumi:shop::infra::aws:s3/bucket:Bucket::logs", "id": "logs-1" },
    ]}});
    let changes = digest::there_now(stack.to_string().as_bytes()).unwrap();
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["aws:s3/bucket:Bucket logs: logs-1 is taken away"]
    );
    let empty = json!({ "version": 3, "deployment": { "manifest": {} } }).to_string();
    assert_eq!(digest::there_now(empty.as_bytes()).unwrap(), []);
    let outputs = digest::outputs(br#"{ "url": "https://x", "ports": [80, 443], "key": "[secret]" }"#).unwrap();
    let expected = [("key", "[secret]"), ("ports", "[80,443]"), ("url", "https://x")];
    assert_eq!(outputs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn each_refusal_has_its_name() {
    let table = [
        ("error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions", "NotLoggedIn", true),
        ("error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or …", "NotLoggedIn", true),
        ("error: the stack is currently locked by 1 lock(s). Either wait for …", "Transient", false),
        ("error: [409] Conflict: Another update is currently in progress.", "Transient", false),
        ("error: resource urn:… violates plan: properties changed", "PreviewChanged", true),
        ("error: update failed", "ProvisioningFailed", true),
    ];
    for (said, name, permanent) in table {
        let failure = cli::refusal(&cli::Answer { ok: false, out: Vec::new(), said: said.to_owned() });
        assert_eq!((failure.error.as_str(), failure.permanent), (name, permanent), "{said}");
        assert!(failure.cause.contains(said), "{failure}");
    }
}

/// A program of ours in the place of Pulumi: how it is run is seen by whatever is run.
fn instead(dir: &Path, script: &str) -> Cli {
    let program = dir.join("program");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("Pulumi.yaml"), "name: x\nruntime: yaml\n").unwrap();
    let variables = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("TOKEN".into(), "t".into())]);
    Cli { program, project: dir.to_owned(), variables, time: MINUTES }
}

#[tokio::test]
async fn it_is_run_without_a_shell_and_without_our_variables() {
    let dir = tempfile::tempdir().unwrap();
    let cli = instead(dir.path(), "for word; do echo \"<$word>\"; done; env; echo 'a; b' >&2");
    let answer = cli.run(&["preview", "--config", "skald:region=$(id); *"]).await.unwrap();
    let out = String::from_utf8(answer.out).unwrap();
    assert!(
        answer.ok && out.starts_with("<preview>\n<--config>\n<skald:region=$(id); *>\n<--non-interactive>\n"),
        "{out}"
    );
    let names = out.lines().filter_map(|line| Some(line.split_once('=')?.0)).filter(|name| !name.starts_with('<'));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let own = ["LC_ALL", "PATH", "PULUMI_EXPERIMENTAL", "PULUMI_SKIP_UPDATE_CHECK", "PWD", "TOKEN"];
    names.retain(|name| !["OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(names, own);
    assert_eq!(answer.said, "a; b\n");
}

#[tokio::test]
async fn one_that_takes_too_long_is_interrupted_and_may_tidy_up() {
    let dir = tempfile::tempdir().unwrap();
    // No shell: where the tests run in the background, one may not trap what it was told to ignore.
    let script =
        "cd \"$(dirname \"$0\")\"\nexec perl -e '$SIG{INT} = sub { open F, \">tidied\"; exit 1 }; sleep 1 for 1..600'";
    // Long enough for a shell to begin on a machine that has other things to do.
    let cli = Cli { time: Duration::from_secs(5), ..instead(dir.path(), script) };
    let begun = Instant::now();
    let failure = cli.run(&["up", "--yes"]).await.unwrap_err();
    assert!(!failure.permanent && failure.cause.contains("waiting for pulumi up"), "{failure}");
    assert!(begun.elapsed() < MINUTES && dir.path().join("tidied").exists());
}

#[tokio::test]
async fn what_is_not_set_up_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let cli = Cli { program: "no-such-pulumi".into(), ..instead(dir.path(), "") };
    assert_eq!(cli.run(&["version"]).await.unwrap_err().error, "PulumiMissing");
    let cli = Cli { project: dir.path().join("none"), ..cli };
    assert_eq!(cli.run(&["version"]).await.unwrap_err().error, "BadProject");
}

/// A project without a cloud: its stack puts out what it was told.
const PROJECT: &str = "name: infra
runtime: yaml
config:
  skald:environment: { type: string }
  skald:region: { type: string }
outputs:
  address: https://${skald:environment}.${skald:region}.example.org
";

#[tokio::test]
async fn pulumi_keeps_the_contract() {
    let here = std::process::Command::new("pulumi").arg("version").output();
    if !here.is_ok_and(|output| output.status.success()) {
        println!("skipped: pulumi is not on PATH");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (project, backend) = (dir.path().join("project"), dir.path().join("backend"));
    std::fs::create_dir_all(&project).unwrap();
    std::fs::create_dir_all(&backend).unwrap();
    std::fs::write(project.join("Pulumi.yaml"), PROJECT).unwrap();
    let mut variables = cli::variables(&[]);
    for (name, value) in [
        ("PULUMI_BACKEND_URL", format!("file://{}", backend.display())),
        ("PULUMI_CONFIG_PASSPHRASE", "for a test".into()),
        ("PULUMI_HOME", dir.path().join("home").display().to_string()),
    ] {
        variables.insert(name.to_owned(), value);
    }
    let settings =
        Settings { dir: dir.path().join("state"), program: "pulumi".into(), project, variables, time: MINUTES };
    contract::hold(&Pulumi::open(settings).unwrap()).await;
}
