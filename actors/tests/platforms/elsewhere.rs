//! Nodes that do not see the same target under the same path.

use std::fs;

use crate::support::{Crash, World, attempt, context, failure, tree};
use actors::marketplace::apply::Fault;
use actors::marketplace::{activities, restore};

fn world() -> World {
    let world = World::new();
    world.package("leaf", "1.0.0", "").package("asset", "1.0.0", "[dependencies.leaf]\nversion = \"1\"\n");
    world
}

/// The path on another node: nothing, a mount point with nothing mounted, or another checkout.
#[derive(Clone, Copy, Debug)]
enum There {
    Nothing,
    Empty,
    Another,
}

impl World {
    /// Does `work` where the target is not what it is here.
    fn elsewhere<T>(&self, there: There, work: impl FnOnce() -> T) -> T {
        let aside = self.dir.path().join("aside");
        fs::rename(&self.target, &aside).unwrap();
        match there {
            There::Nothing => {}
            There::Empty => fs::create_dir(&self.target).unwrap(),
            There::Another => {
                fs::create_dir(&self.target).unwrap();
                fs::write(self.target.join("Cargo.toml"), "[package]\nname = \"mine\"\nversion = \"1.0.0\"\n").unwrap();
            }
        }
        let done = work();
        let _ = fs::remove_dir_all(&self.target);
        fs::rename(aside, &self.target).unwrap();
        done
    }
}

#[test]
fn what_was_begun_is_not_undone_where_it_cannot_be_seen() {
    for there in [There::Nothing, There::Empty, There::Another] {
        let world = world();
        let before = tree(&world.target);
        let input = world.application("asset", "1");
        // n1 dies in the midst of it.
        let crashed = world.work(Crash::after(12)).apply(&context("k"), &input, &|| {});
        assert!(matches!(crashed, Err(Fault::Interrupted(_))));
        let failure = failure(world.elsewhere(there, || world.restore("k")));
        assert_eq!((failure.error.as_str(), failure.permanent), ("Transient", false), "{there:?}: {failure}");
        let path = world.target.display().to_string();
        assert!(failure.cause.contains(&path) && failure.cause.contains("not visible on n1"), "{failure}");
        // Where it is seen, it is taken back; and the delayed attempt of n1 is refused.
        world.restore("k").unwrap();
        assert_eq!(tree(&world.target), before, "{there:?}");
        assert_eq!(crate::support::failure(world.apply("k", &input)).error, "InstallationRefused");
        assert_eq!(tree(&world.target), before, "{there:?}");
    }
}

#[tokio::test]
async fn nothing_is_verified_where_it_cannot_be_seen() {
    let world = world();
    let activities = activities(&world.config).unwrap();
    let verify = activities.iter().find(|activity| activity.name() == "target.verify").unwrap();
    let place = serde_json::json!({ "target": world.target });
    let gone = async |what: &str| {
        let aside = world.dir.path().join(what);
        fs::rename(&world.target, &aside).unwrap();
        let answer = verify.run(&attempt("v"), place.clone()).await;
        fs::rename(aside, &world.target).unwrap();
        answer
    };
    gone("never begun").await.unwrap();
    world.apply("k", &world.application("asset", "1")).unwrap();
    let failure = gone("begun").await.unwrap_err();
    assert!(!failure.permanent && failure.cause.contains("not visible on"), "{failure}");
    world.restore("k").unwrap();
    // It was verified where it was seen.
    gone("taken back").await.unwrap();
}

#[test]
fn a_target_that_was_never_begun_in_is_clean_and_stays_so() {
    let world = world();
    let input = world.application("asset", "1");
    let before = tree(&world.target);
    world.elsewhere(There::Nothing, || world.restore("k")).unwrap();
    assert_eq!(failure(world.apply("k", &input)).error, "InstallationRefused");
    assert_eq!(tree(&world.target), before);
    // The refused attempt does not count as begun.
    world.elsewhere(There::Nothing, || world.restore("k")).unwrap();
}

#[test]
fn an_attempt_that_does_not_see_what_was_begun_leaves_it_to_the_next() {
    let world = world();
    let input = world.application("asset", "1");
    world.work(Crash::after(12)).apply(&context("k"), &input, &|| {}).unwrap_err();
    for there in [There::Nothing, There::Empty, There::Another] {
        let failure = failure(world.elsewhere(there, || world.apply("k", &input)));
        assert!(!failure.permanent && failure.cause.contains("not visible on n1"), "{there:?}: {failure}");
    }
    world.apply("k", &input).unwrap();
}

#[test]
fn a_restoration_that_crashed_behind_its_last_step_is_finished() {
    for n in 1.. {
        let world = world();
        world.apply("k", &world.application("asset", "1")).unwrap();
        if world.work(Crash::after(n)).restore(&context("k"), &world.target, &|| {}).is_ok() {
            break;
        }
        world.restore("k").unwrap();
        let undone = restore::Undone::open(world.config.dir.join("undone")).unwrap();
        restore::verify(&world.target, &undone, "acme/install", None).unwrap();
    }
}
