//! The contract on real repositories, and what only git can show.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::super::contract::{self, Author, LIMITS};
use super::*;

/// Somebody with a clone.
struct Person {
    dir: tempfile::TempDir,
    push: bool,
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let run = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgSign=false"])
        .args(["-c", "init.defaultBranch=trunk"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(run.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

impl Person {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet", "--initial-branch=main"]);
        Self { dir, push: false }
    }

    /// One who pushes to the bare repository at `server`.
    fn of(server: &Path) -> Self {
        let person = Self { push: true, ..Self::new() };
        git(server, &["init", "--quiet", "--bare"]);
        git(person.dir.path(), &["remote", "add", "origin", &server.to_string_lossy()]);
        person
    }

    fn tip(&self) -> Commit {
        if self.push {
            git(self.dir.path(), &["push", "--quiet", "--force", "origin", "main"]);
        }
        Commit::new(&git(self.dir.path(), &["rev-parse", "HEAD"])).unwrap()
    }
}

impl Author for Person {
    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    fn remove(&self, path: &str) {
        std::fs::remove_file(self.dir.path().join(path)).unwrap();
    }
    fn link(&self, path: &str, to: &str) {
        std::os::unix::fs::symlink(to, self.dir.path().join(path)).unwrap();
    }
    fn commit(&self) -> Commit {
        git(self.dir.path(), &["add", "--all"]);
        git(self.dir.path(), &["commit", "--quiet", "--message=wanted"]);
        self.tip()
    }
    fn back(&self) -> Commit {
        git(self.dir.path(), &["reset", "--quiet", "--hard", "HEAD~1"]);
        self.tip()
    }
}

fn adapter(place: Place) -> Repository {
    Repository::new(Settings { limits: LIMITS, ..Settings::new(place, "main") }).unwrap()
}

fn far(server: &Path, mirror: &Path) -> Place {
    Place::Far { url: format!("file://{}", server.display()), mirror: mirror.to_owned() }
}

fn prod() -> EnvironmentId {
    EnvironmentId::new("prod").unwrap()
}

#[tokio::test]
async fn a_near_repository_with_a_work_tree() {
    let person = Person::new();
    contract::hold(&adapter(Place::Near(person.dir.path().to_owned())), &person).await;
}

#[tokio::test]
async fn a_near_bare_repository() {
    let server = tempfile::tempdir().unwrap();
    let person = Person::of(server.path());
    contract::hold(&adapter(Place::Near(server.path().to_owned())), &person).await;
}

#[tokio::test]
async fn a_far_repository() {
    let (server, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let person = Person::of(server.path());
    contract::hold(&adapter(far(server.path(), &mirror.path().join("mirror"))), &person).await;
}

#[tokio::test]
async fn many_read_one_mirror_at_once_and_it_may_be_lost() {
    let (server, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let person = Person::of(server.path());
    person.write("environments/prod/orders.yaml", contract::service("orders", "prod", 1).as_bytes());
    let commit = person.commit();
    let mirror = mirror.path().join("mirror");
    let adapter = Arc::new(adapter(far(server.path(), &mirror)));
    for _ in 0..2 {
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let adapter = adapter.clone();
                tokio::spawn(async move { adapter.read(&prod(), Empty::Refused).await })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap().unwrap().commit, commit);
        }
        std::fs::remove_dir_all(&mirror).unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_not_answered_from_memory() {
    let (server, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let person = Person::of(server.path());
    person.write("environments/prod/orders.yaml", contract::service("orders", "prod", 1).as_bytes());
    person.commit();
    let adapter = adapter(far(server.path(), &mirror.path().join("mirror")));
    adapter.read(&prod(), Empty::Refused).await.unwrap();
    drop(server);
    let failed = adapter.read(&prod(), Empty::Refused).await.unwrap_err();
    assert!(!failed.permanent, "{failed}");
}

#[tokio::test]
async fn a_directory_that_is_no_repository_is_said_to_be_none() {
    let person = Person::new();
    // Git would find the repository above it.
    let inside = person.dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    for dir in [inside, person.dir.path().join("nowhere")] {
        let failed = adapter(Place::Near(dir)).read(&prod(), Empty::Refused).await.unwrap_err();
        assert_eq!(failed.error, "BadRepository", "{failed}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("git");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let time = Duration::from_millis(50);
    let settings = Settings { program, time, ..Settings::new(Place::Near(dir.path().to_owned()), "main") };
    let failed = Repository::new(settings).unwrap().read(&prod(), Empty::Refused).await.unwrap_err();
    assert!(!failed.permanent && failed.cause.contains("no end after 50ms"), "{failed}");
}
