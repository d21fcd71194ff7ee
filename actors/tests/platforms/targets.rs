//! A tenant's installations stay where its targets may be.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{World, attempt, failure, tree};
use actors::marketplace::activities;
use actors::marketplace::targets::Targets;

/// The tenant acme may install below `acme`, where its target stands.
fn world() -> World {
    let mut world = World::new();
    world.package("asset", "1.0.0", "");
    let root = world.dir.path().join("acme");
    fs::create_dir(&root).unwrap();
    fs::rename(&world.target, root.join("shop")).unwrap();
    world.target = root.join("shop");
    world.config.targets = Targets::Below(vec![format!("{}/{{tenant}}", world.dir.path().display())]);
    world
}

#[test]
fn an_installation_below_the_root_is_as_any_other() {
    let world = world();
    let before = tree(&world.target);
    world.apply("k", &world.application("asset", "1")).unwrap();
    world.restore("k").unwrap();
    assert_eq!(tree(&world.target), before);
}

#[tokio::test]
async fn every_activity_refuses_what_is_outside() {
    let world = world();
    let input = world.application("asset", "1");
    let other = world.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("Cargo.toml"), "[package]\nname = \"theirs\"\nversion = \"1.0.0\"\n").unwrap();
    let before = tree(&other);
    symlink("../other", world.target.parent().unwrap().join("way-out")).unwrap();
    let activities = activities(&world.config).unwrap();
    for target in [other.clone(), world.target.parent().unwrap().join("way-out"), "shop".into()] {
        let question = serde_json::json!({ "asset": "asset", "version": "1", "target": target });
        let mut application = serde_json::to_value(&input).unwrap();
        application["target"] = serde_json::json!(target);
        let place = serde_json::json!({ "target": target });
        for (name, input) in [
            ("compatibility.evaluate", &question),
            ("dependencies.resolve", &question),
            ("target.apply", &application),
            ("target.verify", &place),
        ] {
            let activity = activities.iter().find(|activity| activity.name() == name).unwrap();
            let refused = activity.run(&attempt("k"), input.clone()).await.unwrap_err();
            assert_eq!((refused.error.as_str(), refused.permanent), ("TargetUnusable", true), "{name}: {refused}");
        }
    }
    assert_eq!(tree(&other), before);
}

#[test]
fn a_project_does_not_lead_out_by_a_path_or_a_link() {
    let world = world();
    let input = world.application("asset", "1");
    let secret = world.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("Cargo.toml"), "[package]\nname = \"secret\"\nversion = \"1.0.0\"\n").unwrap();
    let manifest = fs::read_to_string(world.target.join("Cargo.toml")).unwrap();
    for path in ["../../secret", secret.to_str().unwrap()] {
        let with = format!("{manifest}[dependencies]\nsecret = {{ path = {path:?} }}\n");
        fs::write(world.target.join("Cargo.toml"), with).unwrap();
        let refused = failure(world.apply("path", &input));
        assert!(refused.error == "TargetUnusable" && refused.cause.contains("dependency secret"), "{refused}");
    }
    fs::write(world.target.join("Cargo.toml"), manifest).unwrap();
    symlink("../../secret/Cargo.toml", world.target.join("Cargo.lock")).unwrap();
    let refused = failure(world.apply("link", &input));
    assert!(refused.error == "TargetUnusable" && refused.cause.contains("Cargo.lock"), "{refused}");
}
