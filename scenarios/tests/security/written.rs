//! What `skald nats config` writes: a server starts with it, no secret is shown, and nobody else reads
//! the files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use node::client::{Client, Error, Settings};
use node::nats::{About, Tls, seed_of};
use node::server::Finder;
use protocol::query::Query;
use protocol::{Principal, Tenant};

use super::certificates::Authority;
use super::{USERS, write_config};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The seeds in the files of `dir`.
fn seeds(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|end| end == "nk"));
    let mut seeds: Vec<_> =
        files.map(|file| seed_of(&std::fs::read_to_string(file).unwrap()).unwrap().reveal().to_owned()).collect();
    seeds.sort();
    seeds
}

#[test]
fn files_are_written_for_their_owner_and_nothing_secret_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("nats");
    let first = write_config(&out, &USERS);
    let said = text(&first.stdout) + &text(&first.stderr);
    assert!(first.status.success(), "{said}");
    for next in ["nats-server -c", "skald node --creds", "acme.ann.nk list"] {
        assert!(said.contains(next), "{next}: {said}");
    }
    let kept = seeds(&out);
    assert_eq!(kept.len(), 8, "six users, the nodes and the server's own");
    let config = std::fs::read_to_string(out.join("nats-server.conf")).unwrap();
    for seed in &kept {
        assert!(!said.contains(seed) && !config.contains(seed), "a seed is shown");
    }
    for entry in std::fs::read_dir(&out).unwrap() {
        let file = entry.unwrap().path();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert!(mode == 0o600 || file.ends_with("nats-server.conf"), "{}: {mode:o}", file.display());
    }
    let about = About::read(&out.join("acme.ann.nk"));
    assert_eq!(about.inbox.as_deref(), Some("_INBOX.acme.ann"));

    // Again with one more: the keys stay.
    let more: Vec<&str> = USERS.iter().chain(&["--user", "new:neo"]).copied().collect();
    let again = write_config(&out, &[more.as_slice(), &["--json"]].concat());
    let said: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    let fresh = said["credentials"].as_array().unwrap().iter().filter(|file| file["kept"] == false).count();
    assert_eq!(fresh, 1, "{said}");
    assert!(kept.iter().all(|seed| seeds(&out).contains(seed)));
    for bad in ["acme", "acme:a.b", ">:ann"] {
        let refused = write_config(&out, &["--user", bad]);
        assert_eq!(refused.status.code(), Some(2), "{bad}: {}", text(&refused.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_with_the_file_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("nats");
    let ours = Authority::new(dir.path(), "ours");
    let (certificate, key) = ours.certify("server");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let tls = [path(&certificate), path(&key), path(&ours.file())];
    let tls = ["--tls-cert", &tls[0], "--tls-key", &tls[1], "--tls-ca", &tls[2], "--listen", "127.0.0.1:0"];
    assert!(write_config(&out, &[&USERS[..], &tls].concat()).status.success());
    let server = Finder::new(None).find(|_| {}).await.unwrap().path;
    let file = out.join("nats-server.conf");
    let checked = Command::new(&server).arg("-t").arg("-c").arg(&file).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    // The ports of the file may be taken on this machine; all else is as it was written.
    let ports = dir.path().join("ports");
    std::fs::create_dir(&ports).unwrap();
    let mut running = Command::new(&server)
        .args(["-p", "-1", "-m", "-1", "--ports_file_dir"])
        .arg(&ports)
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = None;
    scenarios::cluster::until(scenarios::stage::PATIENCE, "it listens", || {
        let text = std::fs::read_dir(&ports).unwrap().flatten().find_map(|it| std::fs::read(it.path()).ok());
        let said = text.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        url = said.and_then(|said| Some(said["nats"][0].as_str()?.to_owned()));
        std::future::ready(url.is_some())
    })
    .await;
    let address = url.unwrap();
    let address = format!("nats://127.0.0.1:{}", address.rsplit(':').next().unwrap());
    let settings = Settings {
        credentials: Some(out.join("acme.ann.nk")),
        tls: Tls { required: true, authorities: Some(ours.file()), identity: Some(ours.certify("ann")) },
        ..Settings::new(address.clone(), Tenant::new("acme").unwrap(), Principal::new("ann").unwrap())
    };
    let asked = Client::connect(settings.clone()).await.unwrap().query(&Query::Health).await;
    let bare = Client::connect(Settings { credentials: None, ..settings }).await;
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(matches!(asked, Err(Error::NotAllowed { .. })), "{asked:?}");
    assert!(matches!(bare, Err(Error::Unauthorized { .. })), "nobody comes in without credentials");
}

/// Words that must be found nowhere.
const SECRETS: [&str; 4] = ["hunter2-password", "hunter2-token", "hunter2-debug", "SUHUNTER2SEED"];

#[test]
fn settings_and_checks_show_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let run = |file: &str, args: &[&str]| {
        let path = dir.path().join("skald.toml");
        std::fs::write(&path, file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_skald_under_test"));
        command.env("SKALD_STATE", dir.path().join("state")).env("SKALD_DATA_DIR", dir.path());
        let output = command.args(args).arg("--config").arg(&path).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    let files = [
        "[nats]\nuser = \"ann\"\npassword = \"hunter2-password\"\n[debug]\ntoken = \"hunter2-debug\"\n",
        "[nats]\ntoken = \"hunter2-token\"\n",
        "[nats]\nnkey_seed = \"SUHUNTER2SEED\"\n",
        // Refused: two logins; a login in an address; no text.
        "[nats]\ntoken = \"hunter2-token\"\nnkey_seed = \"SUHUNTER2SEED\"\n",
        "servers = [\"nats://ann:hunter2-password@127.0.0.1:1\"]\n",
        "[nats]\ntoken = [\"hunter2-token\"]\n",
        "[nats]\ntokn = \"hunter2-token\"\n",
        // Nobody listens there.
        "servers = [\"nats://127.0.0.1:1\"]\n[nats]\nstart_within_ms = 1\nuser = \"ann\"\npassword = \"hunter2-password\"\n",
    ];
    for file in files {
        for args in [vec!["node", "--print-config"], vec!["node", "--print-config", "--json"], vec!["node", "-vv"]] {
            if args.len() == 2 && args[1] == "-vv" && !file.contains("start_within_ms") && !file.contains("127.0.0.1:1")
            {
                continue;
            }
            let said = run(file, &args);
            assert!(!said.is_empty());
            for secret in SECRETS {
                assert!(!said.contains(secret), "{args:?} of {file}: {said}");
            }
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_skald_under_test"))
        .args(["--server", "nats://ann:hunter2-password@127.0.0.1:1", "doctor", "--json"])
        .env("SKALD_STATE", dir.path().join("state"))
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("***@127.0.0.1:1") && !said.contains("hunter2"), "{said}");
}
