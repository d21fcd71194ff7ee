//! What is chosen, and how a refusal reads.

use crate::support::World;
use actors::marketplace::reference::Origin;
use actors::marketplace::resolution::Outcome;

fn dep(name: &str, req: &str) -> String {
    format!("[dependencies.{name}]\nversion = \"{req}\"\n")
}

/// A catalogue with some history.
fn world() -> World {
    let world = World::new();
    for version in ["1.0.0", "1.1.0", "1.2.0", "2.0.0", "3.0.0-beta.1"] {
        world.package("base", version, "");
    }
    world
        .package("old", "1.0.0", &dep("base", "^1"))
        .package("new", "1.0.0", &dep("base", "^2"))
        .package("exact", "1.0.0", &dep("base", "=1.0.0"))
        .package("fresh", "1.0.0", &dep("base", ">=1.1, <2"))
        .package("wide", "1.0.0", &dep("base", ">=1, <3"));
    world
}

/// The chosen versions, in a line.
fn chosen(world: &World, asset: &str, version: &str) -> String {
    let answer = world.resolve(&world.question(asset, version));
    let Some(graph) = answer.graph else { return format!("{:#?}", answer.findings) };
    let one = |package: &actors::marketplace::reference::GraphPackage| {
        let mark = if package.origin == Origin::StandIn { "?" } else { "" };
        format!("{} {}{mark}", package.name, package.version)
    };
    graph.packages.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_highest_compatible_version_wins() {
    let world = world();
    world
        .package("pair", "1.0.0", &format!("{}{}", dep("old", "1"), dep("exact", "1")))
        .package("both", "1.0.0", &format!("{}{}", dep("old", "1"), dep("new", "1")))
        .package("shared", "1.0.0", &format!("{}{}", dep("wide", "1"), dep("old", "1")))
        .package("beta", "1.0.0", &dep("base", "3.0.0-beta"));
    for (asset, version, expected) in [
        ("base", "*", "base 2.0.0"),
        ("base", "1", "base 1.2.0"),
        ("base", "1.0.0", "base 1.0.0"),
        ("base", "~1.1", "base 1.1.0"),
        ("old", "*", "base 1.2.0, old 1.0.0"),
        // What is compatible is unified, what is not stands side by side.
        ("pair", "*", "base 1.0.0, exact 1.0.0, old 1.0.0, pair 1.0.0"),
        ("both", "*", "base 1.2.0, base 2.0.0, both 1.0.0, new 1.0.0, old 1.0.0"),
        ("wide", "*", "base 2.0.0, wide 1.0.0"),
        // A pre-release comes only where it is named.
        ("beta", "*", "base 3.0.0-beta.1, beta 1.0.0"),
    ] {
        assert_eq!(chosen(&world, asset, version), expected, "{asset} {version}");
        assert_eq!(chosen(&world, asset, version), expected, "asked again");
    }
}

#[test]
fn features_bring_what_they_need() {
    let world = world();
    let optional = "\
        [features]\ndefault = [\"small\"]\nsmall = []\nbig = [\"dep:old\", \"weak\"]\nweak = [\"new?/x\"]\n\
        [dependencies.old]\nversion = \"1\"\noptional = true\n\
        [dependencies.new]\nversion = \"1\"\noptional = true\n";
    world.package("asset", "1.0.0", optional);
    assert_eq!(chosen(&world, "asset", "*"), "asset 1.0.0");
    let mut question = world.question("asset", "*");
    question.features = vec!["big".into()];
    let answer = world.resolve(&question);
    // `new` has no feature x: the first answer, in which weak mentions count, is impossible, and
    // the second leaves it out of the build but lists it as cargo does.
    assert_eq!(answer.outcome, Outcome::Resolved, "{:#?}", answer.findings);
    question.features = vec!["huge".into()];
    let answer = world.resolve(&question);
    assert_eq!(answer.findings[0].message, "asset 1.0.0 has no feature huge");
}

#[test]
fn what_only_another_platform_needs_is_stood_in_for() {
    let world = world();
    let windows = "[target.'cfg(windows)'.dependencies.win]\nversion = \"0.5.2\"\nfeatures = [\"x\"]\n";
    world.package("asset", "1.0.0", windows);
    assert_eq!(chosen(&world, "asset", "*"), "asset 1.0.0, win 0.5.2?");
    world.package("win", "0.5.9", "[features]\nx = []\n");
    assert_eq!(chosen(&world, "asset", "*"), "asset 1.0.0, win 0.5.9");
}

#[test]
fn what_the_project_locks_stays() {
    let world = world();
    let manifest = std::fs::read_to_string(world.target.join("Cargo.toml")).unwrap();
    std::fs::write(world.target.join("Cargo.toml"), format!("{manifest}\n[dependencies]\nbase = \"1\"\n")).unwrap();
    let lock = "version = 4\n[[package]]\nname = \"base\"\nversion = \"1.1.0\"\nsource = \"registry+x\"\n";
    std::fs::write(world.target.join("Cargo.lock"), lock).unwrap();
    assert_eq!(chosen(&world, "old", "*"), "base 1.1.0, old 1.0.0");
}

#[test]
fn a_version_for_a_newer_compiler_is_passed_over() {
    let world = world();
    world.package("asset", "1.0.0", "").package("asset", "1.1.0", "rust-version = \"1.99\"\n---\n");
    assert_eq!(chosen(&world, "asset", "*"), "asset 1.0.0");
    let answer = world.resolve(&world.question("asset", "1.1.0"));
    assert_eq!(
        answer.findings[0].message,
        "asset =1.1.0: 1.1.0 needs Rust 1.99.0; use a newer toolchain or import another version"
    );
}

#[test]
fn a_conflict_names_both_ranges_and_the_way_to_each() {
    let world = world();
    world.package("clash", "1.0.0", &format!("{}{}", dep("exact", "1"), dep("middle", "1")));
    world.package("middle", "1.3.0", &dep("fresh", "^1.0"));
    let answer = world.resolve(&world.question("clash", "*"));
    assert_eq!(answer.outcome, Outcome::Conflict);
    let finding = &answer.findings[0];
    assert_eq!((finding.code.as_str(), finding.package.as_deref()), ("conflict", Some("base")), "{answer:#?}");
    let ranges: Vec<String> =
        finding.ranges.iter().map(|ranged| format!("{} by {}", ranged.range, ranged.path.join(" > "))).collect();
    assert_eq!(
        ranges,
        [
            "=1.0.0 by project > clash 1.0.0 > exact 1.0.0",
            ">=1.1, <2 by project > clash 1.0.0 > middle 1.3.0 > fresh 1.0.0",
        ]
    );
}

#[test]
fn a_missing_package_is_a_finding_with_the_way_to_it() {
    let world = world();
    world.package("asset", "1.0.0", &dep("nowhere", "0.3")).package("far", "1.0.0", &dep("base", "^9"));
    let answer = world.resolve(&world.question("asset", "*"));
    let finding = &answer.findings[0];
    assert_eq!(
        (finding.code.as_str(), finding.message.as_str()),
        ("missing", "nowhere is not in the catalogue; import it")
    );
    assert_eq!(finding.ranges[0].path, ["project", "asset 1.0.0"]);
    let answer = world.resolve(&world.question("far", "*"));
    assert!(answer.findings[0].message.contains("but not ^9"), "{answer:#?}");
    let answer = world.resolve(&world.question("unheard-of", "1.0.0"));
    assert_eq!(answer.findings[0].code, "missing");
}

#[test]
fn two_packages_cannot_link_to_one_native_library() {
    let world = world();
    world.package("one", "1.0.0", "links = \"z\"\n---\n").package("two", "1.0.0", "links = \"z\"\n---\n");
    world.package("asset", "1.0.0", &format!("{}{}", dep("one", "1"), dep("two", "1")));
    let answer = world.resolve(&world.question("asset", "*"));
    assert_eq!(answer.outcome, Outcome::Conflict);
    assert!(answer.findings[0].message.contains("native library z"), "{answer:#?}");
}

/// An older version of the asset avoids the conflict of the newer one: PubGrub goes back for it.
#[test]
fn a_solution_is_found_when_there_is_one() {
    let world = world();
    world.package("asset", "1.0.0", &format!("{}{}", dep("old", "1"), dep("exact", "1"))).package(
        "asset",
        "1.1.0",
        &format!("{}{}", dep("fresh", "1"), dep("exact", "1")),
    );
    assert_eq!(chosen(&world, "asset", "*"), "asset 1.0.0, base 1.0.0, exact 1.0.0, old 1.0.0");
}
