//! The proof that it is real: cargo itself builds what was installed, without a network.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{World, tree};

/// The archives that cargo downloaded on this machine, if any.
fn download_cache() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let cache = home.join("registry/cache");
    cache.is_dir().then_some(cache)
}

/// Runs cargo in `target` with a configuration of its own.
fn cargo(world: &World, args: &[&str]) -> (bool, String) {
    let home = world.dir.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = Command::new("cargo");
    command.args(args).current_dir(&world.target).env("CARGO_HOME", &home);
    // Cargo looks for configuration in all parents; the temporary directory has none.
    command.env("CARGO_TARGET_DIR", world.dir.path().join("build"));
    for name in ["RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A world whose catalogue holds what cargo downloaded. `None`: it lacks `asset`.
fn world_with(asset: &str) -> Option<World> {
    let Some(cache) = download_cache() else {
        eprintln!("skipped: cargo has no download cache here");
        return None;
    };
    let world = World::new();
    let report = world.catalog.import(&cache, |_, _| {}).unwrap();
    eprintln!("imported {} archives, skipped {:#?}", report.new, report.skipped);
    if world.catalog.versions(asset).unwrap().is_empty() {
        eprintln!("skipped: cargo's download cache has no {asset}");
        return None;
    }
    Some(world)
}

/// Installs one asset after the other, lets cargo check the target after each, and takes them back.
fn installs(assets: &[&str], source: &str) {
    let Some(world) = world_with(assets[assets.len() - 1]) else { return };
    std::fs::write(world.target.join("src/lib.rs"), source).unwrap();
    let mut past = Vec::new();
    for asset in assets {
        past.push(tree(&world.target));
        let input = world.application(asset, "*");
        let output = world.apply(asset, &input).unwrap();
        eprintln!("{} packages: {:?}", input.graph.packages.len(), names(&input));
        eprintln!("{} bytes", serde_json::to_string(&input.graph).unwrap().len());
        assert!(output.installed.iter().any(|installed| installed.name == *asset));
    }
    let lock = read(&world.target, "Cargo.lock");
    let (fine, said) = cargo(&world, &["check", "--offline", "--locked"]);
    eprintln!("{said}");
    assert!(fine, "{said}");
    // Cargo would have written the very same lock file.
    let kept = world.dir.path().join("Cargo.lock");
    std::fs::rename(world.target.join("Cargo.lock"), &kept).unwrap();
    let (fine, said) = cargo(&world, &["generate-lockfile", "--offline"]);
    assert!(fine, "{said}");
    assert_eq!(read(&world.target, "Cargo.lock"), lock);
    std::fs::rename(&kept, world.target.join("Cargo.lock")).unwrap();
    for asset in assets.iter().rev() {
        world.restore(asset).unwrap();
        assert_eq!(Some(tree(&world.target)), past.pop());
    }
}

fn names(input: &actors::marketplace::apply::Input) -> Vec<String> {
    input
        .graph
        .packages
        .iter()
        .map(|package| format!("{} {} {:?}", package.name, package.version, package.origin))
        .collect()
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn cargo_builds_an_installed_serde_json_offline() {
    installs(
        &["itoa", "serde_json"],
        "//! Uses it.\n/// Reads.\npub fn f() -> serde_json::Value { serde_json::json!({\"a\": 1}) }\n",
    );
}

/// A hundred packages; minutes on a small machine.
#[test]
#[ignore = "builds a web framework"]
fn cargo_builds_an_installed_axum_offline() {
    installs(&["axum"], "//! Uses it.\n/// Routes.\npub fn f() -> axum::Router { axum::Router::new() }\n");
}

/// Whatever cargo downloaded here, one after the other: cargo agrees with every lock file, and
/// every target is as it was afterwards. Minutes on a small machine.
#[test]
#[ignore = "installs every package there is"]
fn cargo_agrees_with_every_lock_file() {
    let Some(world) = world_with("serde") else { return };
    let before = tree(&world.target);
    let mut tried = 0;
    for listed in world.catalog.list().unwrap() {
        let answer = world.resolve(&world.question(&listed.name, "*"));
        let Some(graph) = answer.graph else {
            eprintln!("{}: {}", listed.name, answer.findings[0].message);
            continue;
        };
        let input = actors::marketplace::apply::Input {
            asset: listed.name.clone(),
            requirement: answer.requirement.unwrap(),
            features: vec![],
            target: world.target.clone(),
            graph,
        };
        world.apply(&listed.name, &input).unwrap();
        let lock = read(&world.target, "Cargo.lock");
        let kept = world.dir.path().join("Cargo.lock");
        std::fs::rename(world.target.join("Cargo.lock"), &kept).unwrap();
        let (fine, said) = cargo(&world, &["generate-lockfile", "--offline"]);
        if !fine {
            eprintln!("{}: cargo says {said}", listed.name);
        } else if read(&world.target, "Cargo.lock") != lock {
            std::fs::write(world.dir.path().join("theirs"), read(&world.target, "Cargo.lock")).unwrap();
            let diff = Command::new("diff").arg(&kept).arg(world.dir.path().join("theirs")).output().unwrap();
            eprintln!("{}: {}", listed.name, String::from_utf8_lossy(&diff.stdout));
        }
        std::fs::rename(&kept, world.target.join("Cargo.lock")).unwrap();
        world.restore(&listed.name).unwrap();
        assert_eq!(tree(&world.target), before, "{}", listed.name);
        tried += 1;
        eprintln!("{}: {} packages", listed.name, input.graph.packages.len());
    }
    eprintln!("{tried} installed");
    assert!(tried > 0);
}
