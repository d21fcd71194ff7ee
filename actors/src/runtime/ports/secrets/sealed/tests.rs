//! The contract, and what only files can show.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use protocol::Time;

use super::super::{Label, VERSIONS_MAX, contract};
use super::*;

struct Fixed;
impl Clock for Fixed {
    fn now(&self) -> Time {
        Time::from_micros(1_000_000)
    }
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn token(text: impl AsRef<str>) -> RequestKey {
    RequestKey::new(text).unwrap()
}

async fn opened(settings: &Settings) -> Result<SealedFiles, Failure> {
    SealedFiles::open(settings.clone(), Arc::new(Fixed)).await
}

async fn pending(store: &SealedFiles, of: &str) -> Result<String, Failure> {
    let (_, value) = store.get(&name(of), Which::Labelled(Label::Pending)).await?;
    Ok(String::from_utf8(value.reveal().to_vec()).unwrap())
}

async fn create(store: &SealedFiles, of: &str, by: &str, value: &str) -> Result<u64, Failure> {
    store.create_version(&name(of), &token(by), Secret::new(value)).await
}

/// Everything below `dir` that is a file, with its content.
fn files(dir: &std::path::Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    all.map(|entry| (entry.path().to_owned(), fs::read(entry.path()).unwrap())).collect()
}

#[tokio::test]
async fn sealed_files_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(&Settings::new(dir.path())).await.unwrap();
    contract::hold(&store, &name("prod/orders/database")).await;
}

#[tokio::test]
async fn nothing_on_the_disk_shows_a_value_and_nobody_else_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let store = opened(&settings).await.unwrap();
    create(&store, "a/b", "t", "hunter2hunter2").await.unwrap();
    let encoded = ["hunter2", "aHVudGVyM", "day-"];
    for (path, bytes) in files(dir.path()) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!encoded.iter().any(|part| text.contains(part)), "{}", path.display());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert!(bytes.is_empty() || mode & 0o077 == 0, "{} has the mode {mode:o}", path.display());
    }
    // Another process, or the next start.
    let again = opened(&settings).await.unwrap();
    assert_eq!(pending(&again, "a/b").await.unwrap(), "hunter2hunter2");
    assert_eq!(again.list().await.unwrap(), [name("a/b")]);
}

#[tokio::test]
async fn a_file_that_was_changed_cut_or_exchanged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let store = opened(&settings).await.unwrap();
    create(&store, "a", "t", "value-a").await.unwrap();
    create(&store, "b", "t", "value-b").await.unwrap();
    let (a, b) = (settings.dir.join("a.sealed"), settings.dir.join("b.sealed"));
    let whole = fs::read(&a).unwrap();
    let other = fs::read(&b).unwrap();
    let mut changed = whole.clone();
    changed[60] ^= 1;
    for bytes in [&changed[..], &whole[..whole.len() - 1], &whole[..20], b"", &other] {
        fs::write(&a, bytes).unwrap();
        let refused = pending(&store, "a").await.unwrap_err();
        assert_eq!(refused.error, "SecretDamaged", "{refused}");
        // Nothing is made anew over it, either.
        assert_eq!(create(&store, "a", "t2", "value-c").await.unwrap_err().error, "SecretDamaged");
    }
    fs::write(&a, &whole).unwrap();
    assert_eq!(pending(&store, "a").await.unwrap(), "value-a");
    assert_eq!(pending(&store, "b").await.unwrap(), "value-b");
}

#[tokio::test]
async fn a_write_that_a_crash_cut_short_is_as_if_it_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let store = opened(&settings).await.unwrap();
    create(&store, "a", "t", "value-a").await.unwrap();
    let torn = settings.dir.join(".unfinished-x");
    fs::write(&torn, b"SKALDSEAL1 half a file").unwrap();
    assert_eq!(store.list().await.unwrap(), [name("a")]);
    let again = opened(&settings).await.unwrap();
    assert!(!torn.exists(), "the next start clears it away");
    assert_eq!(pending(&again, "a").await.unwrap(), "value-a");
}

#[tokio::test]
async fn a_new_key_seals_everything_and_the_old_one_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let store = opened(&settings).await.unwrap();
    for n in 0..5 {
        create(&store, &format!("s{n}"), "t", &format!("value-{n}")).await.unwrap();
    }
    let old_keys = fs::read(&settings.keys).unwrap();
    let old_file = fs::read(settings.dir.join("s0.sealed")).unwrap();
    // Another process that opened before.
    let other = opened(&settings).await.unwrap();
    let key = store.rotate_key().await.unwrap();
    for n in 0..5 {
        assert_eq!(pending(&other, &format!("s{n}")).await.unwrap(), format!("value-{n}"));
        let sealed = fs::read(settings.dir.join(format!("s{n}.sealed"))).unwrap();
        assert_eq!(seal::key_of(&sealed), Ok(key.clone()));
    }
    assert!(create(&other, "s0", "t2", "value-new").await.is_ok());
    let keys = String::from_utf8(fs::read(&settings.keys).unwrap()).unwrap();
    assert_eq!(keys.matches(": \"").count(), 2, "the name of the current key, and one key");

    // An old file that comes back is not readable: its key is gone.
    fs::write(settings.dir.join("s0.sealed"), old_file).unwrap();
    assert_eq!(pending(&store, "s0").await.unwrap_err().error, "SecretDamaged");
    fs::write(&settings.keys, old_keys).unwrap();
    assert_eq!(pending(&store, "s0").await.unwrap(), "value-0");
}

#[tokio::test]
async fn a_rotation_of_the_key_that_was_cut_short_leaves_everything_readable() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let store = opened(&settings).await.unwrap();
    for of in ["a", "b"] {
        create(&store, of, "t", of).await.unwrap();
    }
    // The crash: there is a new key, and only one secret is sealed with it.
    let mut keys = keyring::Keyring::read(&settings.keys).unwrap().unwrap();
    keys.renew().unwrap();
    keys.write(&settings.keys).unwrap();
    create(&store, "a", "t2", "a2").await.unwrap();
    let again = opened(&settings).await.unwrap();
    assert_eq!((pending(&again, "a").await.unwrap(), pending(&again, "b").await.unwrap()), ("a2".into(), "b".into()));
    again.rotate_key().await.unwrap();
    assert_eq!((pending(&again, "a").await.unwrap(), pending(&again, "b").await.unwrap()), ("a2".into(), "b".into()));
}

#[tokio::test]
async fn lost_and_open_keys_are_said_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    let store = opened(&settings).await.unwrap();
    create(&store, "a", "t", "value-a").await.unwrap();
    fs::set_permissions(&settings.keys, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(opened(&settings).await.err().unwrap().error, "KeysOpen");
    let keys = fs::read(&settings.keys).unwrap();
    fs::remove_file(&settings.keys).unwrap();
    assert_eq!(opened(&settings).await.err().unwrap().error, "KeysLost");
    assert_eq!(pending(&store, "a").await.unwrap_err().error, "KeysLost");
    fs::write(&settings.keys, b"{\"current\": \"0123456789abcdef\", \"keys\": {\"0123456789abcdef\": \"5ec2e7\"}}")
        .unwrap();
    fs::set_permissions(&settings.keys, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = opened(&settings).await.err().unwrap();
    assert!(refused.error == "SecretDamaged" && !refused.cause.contains("5ec2e7"), "{refused}");
    fs::write(&settings.keys, keys).unwrap();
    assert_eq!(pending(&store, "a").await.unwrap(), "value-a");
}

#[tokio::test]
async fn processes_side_by_side_lose_no_version() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path());
    opened(&settings).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let settings = settings.clone();
            tokio::spawn(async move {
                // Each opens the store anew, as another process would.
                let store = opened(&settings).await.unwrap();
                for n in 0..5 {
                    create(&store, "a", &format!("{writer}/{n}"), "value").await.unwrap();
                }
                store.rotate_key().await.unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let described = opened(&settings).await.unwrap().describe(&name("a")).await.unwrap().unwrap();
    let numbers: Vec<u64> = described.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_full_secret_and_a_full_store_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { secrets: 1, ..Settings::new(dir.path()) };
    let store = opened(&settings).await.unwrap();
    for n in 0..VERSIONS_MAX {
        create(&store, "a", &format!("t{n}"), "v").await.unwrap();
    }
    assert_eq!(create(&store, "a", "more", "v").await.unwrap_err().error, "TooManyVersions");
    store.destroy(&name("a"), 7).await.unwrap();
    assert_eq!(create(&store, "a", "more", "v").await.unwrap(), VERSIONS_MAX as u64 + 1);
    assert_eq!(store.get(&name("a"), Which::Number(7)).await.unwrap_err().error, "UnknownVersion", "it is forgotten");
    assert_eq!(create(&store, "b", "t", "v").await.unwrap_err().error, "TooManySecrets");
}
