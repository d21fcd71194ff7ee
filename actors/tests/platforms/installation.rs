//! Applying and taking back, on a real file system, with a crash at every step.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use crate::support::{Crash, World, attempt, context, failure, tree};
use actors::marketplace::apply::{Fault, Uninterrupted};
use actors::marketplace::entitlements::Entitlement;
use actors::marketplace::restore::Undone;
use actors::marketplace::{activities, compatibility, restore};

/// A target with a past: a configuration, a lock file, odd modes and a link.
fn world() -> World {
    let world = World::new();
    world.package("leaf", "1.0.0", "").package("asset", "1.0.0", "[dependencies.leaf]\nversion = \"1\"\n");
    let target = &world.target;
    fs::create_dir(target.join(".cargo")).unwrap();
    fs::write(target.join(".cargo/config.toml"), "[build] # mine\njobs = 1\n").unwrap();
    fs::set_permissions(target.join("Cargo.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(target.join("Cargo.lock"), "version = 3\n").unwrap();
    symlink("src/lib.rs", target.join("link")).unwrap();
    world
}

#[test]
fn an_installation_is_recorded_and_taken_back_without_a_trace() {
    let world = world();
    let before = tree(&world.target);
    let input = world.application("asset", "1");
    let output = world.apply("k", &input).unwrap();
    assert_eq!(output.installed.len(), 2);
    let asset = &output.installed[0];
    assert_eq!((asset.path.as_str(), asset.license.as_deref()), ("vendor/asset-1.0.0", Some("MIT")));
    assert_eq!(asset.saga, "acme/install");
    let text = fs::read_to_string(world.target.join("Cargo.toml")).unwrap();
    assert!(text.ends_with("[dependencies]\nasset = \"^1\"\n"), "{text}");
    let mode = fs::metadata(world.target.join("Cargo.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The same key again: the same answer, and nothing moves.
    let applied = tree(&world.target);
    assert_eq!(world.apply("k", &input).unwrap(), output);
    assert_eq!(tree(&world.target), applied);
    world.restore("k").unwrap();
    assert_eq!(tree(&world.target), before);
    world.restore("k").unwrap();
    assert_eq!(tree(&world.target), before);
}

/// Runs the work until it crashes behind the `n`th step; `None`: it did not come so far.
fn crash_applying(world: &World, n: usize) -> Option<String> {
    let crash = Crash::after(n);
    let input = world.application("asset", "1");
    match world.work(crash.clone()).apply(&context("k"), &input, &|| {}) {
        Ok(_) => None,
        Err(Fault::Interrupted(_)) => crash.seen.lock().unwrap().last().cloned(),
        Err(fault) => panic!("{fault}"),
    }
}

#[test]
fn a_crash_at_any_step_of_applying_can_be_gone_on_from_and_taken_back() {
    let reference = world();
    reference.apply("k", &reference.application("asset", "1")).unwrap();
    let mut wanted = tree(&reference.target);
    let mut steps = Vec::new();
    for n in 1.. {
        let world = world();
        let before = tree(&world.target);
        let input = world.application("asset", "1");
        let Some(step) = crash_applying(&world, n) else { break };
        // Forwards, with the same key.
        world.apply("k", &input).unwrap_or_else(|fault| panic!("behind {step}: {fault}"));
        let mut after = tree(&world.target);
        // The journals differ in when what was made; the project must not.
        after.retain(|path, _| !path.starts_with(".skald/journal"));
        wanted.retain(|path, _| !path.starts_with(".skald/journal"));
        assert_eq!(after, wanted, "behind {step}");
        world.restore("k").unwrap_or_else(|fault| panic!("behind {step}: {fault}"));
        assert_eq!(tree(&world.target), before, "behind {step}, taken back");
        // Backwards at once.
        let world = self::world();
        let before = tree(&world.target);
        crash_applying(&world, n).unwrap();
        world.restore("k").unwrap_or_else(|fault| panic!("behind {step}: {fault}"));
        assert_eq!(tree(&world.target), before, "behind {step}, backwards");
        steps.push(step);
    }
    assert!(steps.len() >= 18, "{steps:?}");
}

#[test]
fn a_crash_at_any_step_of_taking_back_can_be_gone_on_from() {
    let mut steps = Vec::new();
    for n in 1.. {
        let world = world();
        let before = tree(&world.target);
        world.apply("k", &world.application("asset", "1")).unwrap();
        let crash = Crash::after(n);
        match world.work(crash.clone()).restore(&context("k"), &world.target, &|| {}) {
            Ok(()) => break,
            Err(Fault::Interrupted(_)) => {}
            Err(fault) => panic!("{fault}"),
        }
        let step = crash.seen.lock().unwrap().last().cloned().unwrap();
        world.restore("k").unwrap_or_else(|fault| panic!("behind {step}: {fault}"));
        assert_eq!(tree(&world.target), before, "behind {step}");
        steps.push(step);
    }
    assert!(steps.len() >= 8, "{steps:?}");
}

#[test]
fn what_somebody_changed_since_is_not_overwritten() {
    for changed in ["Cargo.toml", "Cargo.lock", "vendor/leaf-1.0.0/src/lib.rs", "vendor/leaf-1.0.0/more"] {
        let world = world();
        world.apply("k", &world.application("asset", "1")).unwrap();
        fs::write(world.target.join(changed), "mine now\n").unwrap();
        let left = tree(&world.target);
        let failure = failure(world.restore("k"));
        assert_eq!((failure.error.as_str(), failure.permanent), ("TargetChanged", true), "{failure}");
        assert!(failure.cause.contains(changed.split("/src").next().unwrap().trim_end_matches("/more")), "{failure}");
        assert_eq!(tree(&world.target), left, "nothing else was touched either");
    }
}

#[test]
fn what_others_put_beside_ours_stays() {
    let world = world();
    world.apply("k", &world.application("asset", "1")).unwrap();
    fs::create_dir(world.target.join("vendor/theirs-1.0.0")).unwrap();
    fs::write(world.target.join("notes"), "theirs").unwrap();
    world.restore("k").unwrap();
    assert!(world.target.join("vendor/theirs-1.0.0").exists() && world.target.join("notes").exists());
    assert!(!world.target.join(".skald").exists());
}

#[test]
fn installations_after_each_other_leave_in_turn() {
    let world = world();
    world.package("second", "1.0.0", "[dependencies.leaf]\nversion = \"1\"\n");
    let before = tree(&world.target);
    world.apply("one", &world.application("asset", "1")).unwrap();
    let between = tree(&world.target);
    let second = world.apply("two", &world.application("second", "1")).unwrap();
    assert_eq!(second.installed.len(), 1, "leaf is there already");
    // The first cannot leave while the second stands on its files.
    assert_eq!(failure(world.restore("one")).error, "TargetChanged");
    world.restore("two").unwrap();
    assert_eq!(tree(&world.target), between);
    world.restore("one").unwrap();
    assert_eq!(tree(&world.target), before);
}

#[test]
fn a_delayed_application_finds_itself_undone() {
    let world = world();
    let before = tree(&world.target);
    let input = world.application("asset", "1");
    world.restore("k").unwrap();
    assert_eq!(failure(world.apply("k", &input)).error, "InstallationRefused");
    assert_eq!(tree(&world.target), before);
}

#[test]
fn one_key_is_one_installation() {
    let world = world();
    world.apply("k", &world.application("asset", "1")).unwrap();
    let applied = tree(&world.target);
    let other = world.application("leaf", "1");
    assert_eq!(failure(world.apply("k", &other)).error, "InstallationRefused");
    assert_eq!(tree(&world.target), applied);
}

#[test]
fn a_tampered_archive_changes_nothing() {
    let world = world();
    let input = world.application("asset", "1");
    let before = tree(&world.target);
    let checksum =
        input.graph.packages.iter().find(|package| package.name == "leaf").unwrap().checksum.clone().unwrap();
    let object = world.config.dir.join("catalog/objects").join(&checksum[..2]).join(&checksum);
    let other = crate::support::pack(world.dir.path(), "leaf", "1.0.0", "[features]\nevil = []\n");
    fs::copy(other, &object).unwrap();
    let failure = failure(world.apply("k", &input));
    assert_eq!((failure.error.as_str(), failure.permanent), ("ArchiveTampered", true), "{failure}");
    assert_eq!(tree(&world.target), before);
    fs::remove_file(object).unwrap();
    assert_eq!(crate::support::failure(world.apply("k2", &input)).error, "ArchiveTampered");
    assert_eq!(tree(&world.target), before);
}

#[test]
fn a_second_installation_waits_for_the_first() {
    let world = world();
    let input = world.application("asset", "1");
    let dir = fs::File::open(&world.target).unwrap();
    rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let failure = failure(world.apply("k", &input));
    assert_eq!((failure.error.as_str(), failure.permanent), ("Transient", false));
    assert!(failure.cause.contains("busy"), "{failure}");
    drop(dir);
    world.apply("k", &input).unwrap();
}

#[test]
fn targets_that_cannot_be_worked_on_say_so() {
    let world = world();
    let mut input = world.application("asset", "1");
    let is_file = world.dir.path().join("file");
    fs::write(&is_file, "").unwrap();
    for (target, error) in
        [(is_file, "TargetUnusable"), ("/nowhere".into(), "TargetUnusable"), ("/proc/self".into(), "TargetUnusable")]
    {
        input.target = target.clone();
        assert_eq!(failure(world.apply("k", &input)).error, error, "{}", target.display());
    }
    let world = self::world();
    let input = world.application("asset", "1");
    fs::rename(world.target.join("Cargo.toml"), world.target.join("real")).unwrap();
    symlink("real", world.target.join("Cargo.toml")).unwrap();
    let before = tree(&world.target);
    assert_eq!(failure(world.apply("k", &input)).error, "TargetUnusable");
    world.restore("k").unwrap();
    assert_eq!(tree(&world.target), before);
}

/// A directory below which nothing can be written, also by root: a mount of its own, where the
/// machine allows one. Else the test says so and passes.
#[test]
fn a_read_only_target_and_a_full_disk_stay_as_they_are() {
    for (options, error) in [("ro", "TargetReadOnly"), ("size=64k", "DiskFull")] {
        let world = World::new();
        let padding: String = (0..6_000).map(|n| format!("f{n} = []\n")).collect();
        world.package("asset", "1.0.0", &format!("[features]\n{padding}"));
        let input = world.application("asset", "1");
        let mounted = |args: &[&str]| {
            std::process::Command::new(args[0]).args(&args[1..]).output().is_ok_and(|o| o.status.success())
        };
        let at = world.dir.path().join("mounted");
        fs::create_dir(&at).unwrap();
        let path = at.to_str().unwrap();
        let first = if options == "ro" { "size=64k" } else { options };
        if !mounted(&["mount", "-t", "tmpfs", "-o", first, "tmpfs", path]) {
            eprintln!("skipped {error}: this machine allows no mounts");
            continue;
        }
        let unmount = Unmount(path.to_owned());
        fs::copy(world.target.join("Cargo.toml"), at.join("Cargo.toml")).unwrap();
        if options == "ro" {
            assert!(mounted(&["mount", "-o", "remount,ro", path]));
        }
        let before = tree(&at);
        let input = actors::marketplace::apply::Input { target: at.clone(), ..input };
        let failure = failure(world.apply("k", &input));
        assert_eq!((failure.error.as_str(), failure.permanent), (error, true), "{failure}");
        assert_eq!(tree(&at), before);
        world.work(Arc::new(Uninterrupted)).restore(&context("k"), &at, &|| {}).unwrap();
        assert_eq!(tree(&at), before);
        drop(unmount);
    }
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn verification_finds_what_is_left() {
    let world = world();
    let undone = Undone::open(world.config.dir.join("undone")).unwrap();
    restore::verify(&world.target, &undone, "acme/install", None).unwrap();
    world.apply("k", &world.application("asset", "1")).unwrap();
    assert!(restore::verify(&world.target, &undone, "acme/install", None).is_err());
    world.restore("k").unwrap();
    restore::verify(&world.target, &undone, "acme/install", None).unwrap();
    fs::write(world.target.join("Cargo.lock"), "other").unwrap();
    let fault = restore::verify(&world.target, &undone, "acme/install", None).unwrap_err();
    assert!(fault.to_string().contains("Cargo.lock is not as it was"), "{fault}");
}

/// The activities as the engine calls them, from evaluation to verification.
#[tokio::test]
async fn the_activities_play_together() {
    let world = world();
    let right = Entitlement { asset: "asset".into(), seats: Some(1), expires: None, suspended: false };
    let tenant = protocol::Tenant::new("acme").unwrap();
    let accounts = world.config.entitlements().unwrap();
    let activities = activities(&world.config).unwrap();
    let find =
        |name: &str| activities.iter().find(|a| a.name() == name || a.undo_name() == Some(name)).unwrap().clone();
    let before = tree(&world.target);
    let question = serde_json::json!({ "asset": "asset", "version": "1", "target": world.target, "rust": null });

    let answer = find("compatibility.evaluate").run(&attempt("e"), question.clone()).await.unwrap();
    assert_eq!(answer["verdict"], "compatible", "{answer}");
    let resolved = find("dependencies.resolve").run(&attempt("r"), question).await.unwrap();
    assert_eq!(resolved["outcome"], "resolved", "{resolved}");

    let ask = serde_json::json!({ "asset": "asset", "licenses": resolved["graph"]["licenses"] });
    let denied = find("license.grant").run(&attempt("l0"), ask.clone()).await.unwrap_err();
    assert!(denied.error == "LicenseDenied" && denied.cause.contains("acquire an entitlement"), "{denied}");
    accounts.change(&tenant, |account| account.entitlements.push(right)).unwrap();
    for _ in 0..2 {
        find("license.grant").run(&attempt("l1"), ask.clone()).await.unwrap();
    }
    assert_eq!(accounts.account(&tenant).unwrap().seats.len(), 1);

    let application = serde_json::json!({
        "asset": "asset", "requirement": resolved["requirement"], "features": [],
        "target": world.target, "graph": resolved["graph"],
    });
    let apply = find("target.apply");
    let applied = apply.run(&attempt("a"), application.clone()).await.unwrap();
    assert_eq!(applied["installed"].as_array().unwrap().len(), 2);
    apply.undo(&attempt("a"), application, None).await.unwrap();
    find("license.release").undo(&attempt("l1"), ask.clone(), None).await.unwrap();
    assert!(accounts.account(&tenant).unwrap().seats.is_empty());
    let place = serde_json::json!({ "target": world.target });
    find("target.verify").run(&attempt("v"), place).await.unwrap();
    assert_eq!(tree(&world.target), before);
}

#[test]
fn what_does_not_suit_is_told_before_anything_else() {
    let world = world();
    world.package("modern", "1.0.0", "rust-version = \"1.99\"\n---\n");
    let evaluate = |asset: &str, version: &str| {
        let rust = semver::Version::new(1, 95, 0);
        compatibility::evaluate(&world.catalog, &rust, &world.question(asset, version), &world.allowed()).unwrap()
    };
    for (asset, version, code) in
        [("modern", "*", "rust-version"), ("unheard-of", "*", "missing"), ("asset", "7", "missing")]
    {
        let answer = evaluate(asset, version);
        assert_eq!(answer.verdict, compatibility::Verdict::Incompatible, "{asset} {version}");
        assert_eq!(answer.findings[0].code, code, "{answer:?}");
    }
    world.apply("k", &world.application("asset", "1")).unwrap();
    assert_eq!(evaluate("asset", "1").verdict, compatibility::Verdict::Compatible);
    world.package("asset", "1.4.0", "");
    let answer = evaluate("asset", "=1.4.0");
    assert_eq!(answer.verdict, compatibility::Verdict::Incompatible, "{answer:?}");
}
