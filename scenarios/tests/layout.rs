//! The shape of the house: which crate may know which, what the pure machine must not name, and
//! what stands at the top of the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The crates and those that each may know.
const ARROWS: [(&str, &[&str]); 5] = [
    ("protocol", &[]),
    ("supervisor", &["protocol"]),
    ("actors", &["protocol", "supervisor"]),
    ("node", &["protocol", "supervisor", "actors"]),
    ("scenarios", &["protocol", "supervisor", "actors", "node"]),
];

/// The rooms of the runtime platform, from the ground up: each may know those before it.
const ROOMS: [&str; 15] = [
    "model",
    "durable",
    "store",
    "rollout",
    "arbiter",
    "ports",
    "probing",
    "compute",
    "records",
    "arbitration",
    "deployment",
    "removal",
    "decommission",
    "control",
    "workers",
];

/// Words of clocks, chance, files, sockets and other threads.
const IMPURE: [&str; 22] = [
    "tokio",
    "ractor",
    "async_nats",
    "async fn",
    ".await",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "thread_rng",
    "getrandom",
    "new_v4",
    "now_v7",
    "now_v1",
    "rand::",
    "jiff::Timestamp::now",
    "println!",
    "reqwest",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate stands in the repository").to_owned()
}

/// The names on the left in the dependency tables of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            // [dependencies.name]
            if let Some((_, name)) = table.rsplit_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if inside && let Some((name, _)) = line.split_once(['=', '.']) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_arrows_point_one_way() {
    let houses: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (name, may) in ARROWS {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let known = dependencies(&manifest);
        assert!(known.len() > 3, "{name}: its dependencies were not found: {known:?}");
        for other in houses.iter().filter(|other| known.contains(**other)) {
            assert!(may.contains(other), "{name} must not know {other}");
        }
    }
    let engine = std::fs::read_to_string(root().join("supervisor/Cargo.toml")).unwrap();
    let words = std::fs::read_to_string(root().join("protocol/Cargo.toml")).unwrap();
    assert!(!dependencies(&engine).contains("async-nats"), "the engine does not know NATS");
    for runtime in ["tokio", "async-nats", "ractor"] {
        assert!(!dependencies(&words).contains(runtime), "the words do not know {runtime}");
    }
}

/// Tests build worlds of everything.
fn is_of_tests(path: &Path) -> bool {
    let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts
        .into_iter()
        .any(|part| part.contains("tests") || ["world.rs", "stage", "contract.rs"].contains(&part.as_str()))
}

#[test]
fn the_rooms_of_the_runtime_know_those_below_them() {
    let runtime = root().join("actors/src/runtime");
    let mut looked_at = 0;
    for (height, room) in ROOMS.iter().enumerate() {
        let (dir, file) = (runtime.join(room), runtime.join(room).with_extension("rs"));
        let files = if dir.is_dir() { sources(&dir) } else { vec![file] };
        assert!(!files.is_empty(), "{room} was not found");
        for file in files {
            let within = file.strip_prefix(&runtime).unwrap();
            if is_of_tests(within) {
                continue;
            }
            looked_at += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for higher in &ROOMS[height + 1..] {
                let named = code.contains(&format!("crate::runtime::{higher}"));
                assert!(!named, "{}: {room} must not know {higher}", within.display());
            }
        }
    }
    assert!(looked_at > 150, "only {looked_at} files");
    let there = std::fs::read_dir(&runtime).unwrap().map(|entry| entry.unwrap().file_name());
    for name in there.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned()) {
        assert!(name == "mod" || ROOMS.contains(&name.as_str()), "{name} stands in no order");
    }
}

#[test]
fn the_machine_is_pure() {
    let files = sources(&root().join("supervisor/src/machine"));
    assert!(files.len() > 20, "the machine was not found");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Its own tests may read golden files.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE {
                assert!(!code.contains(word), "{}:{}: the machine names {word:?}", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_top_of_the_repository_holds_what_it_should() {
    let may: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "rustfmt.toml",
        "deny.toml",
        "README.md",
        "protocol",
        "supervisor",
        "actors",
        "node",
        "scenarios",
        // Built, and not kept.
        "target",
    ]
    .into();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || may.contains(name.as_str()), "{name} does not belong at the top");
    }
}
