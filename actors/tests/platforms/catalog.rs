//! What the catalogue takes in, and what it refuses.

use std::sync::Arc;

use crate::support::{World, file, pack, pack_parts};
use actors::marketplace::archive::Limits;
use actors::marketplace::catalog::{Catalog, Error, Imported};
use actors::marketplace::catalog_dir::DirectoryStore;
use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};

const MANIFEST: &str = "[package]\nname = \"a\"\nversion = \"1.0.0\"\n";

#[test]
fn the_same_bytes_are_one_object_and_others_are_refused() {
    let world = World::new();
    let archive = pack(world.dir.path(), "a", "1.0.0", "");
    assert!(matches!(world.catalog.add(&archive), Ok(Imported::New(_))));
    assert!(matches!(world.catalog.add(&archive), Ok(Imported::Known(_))));
    let other = pack(world.dir.path(), "a", "1.0.0", "[features]\nx = []\n");
    assert!(matches!(world.catalog.add(&other), Err(Error::Taken { .. })));
    let listed = world.catalog.list().unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].license.as_deref()), (1, "a", Some("MIT")));
}

#[test]
fn importers_side_by_side_agree() {
    let world = World::new();
    let crates = world.dir.path().join("crates");
    std::fs::create_dir(&crates).unwrap();
    for n in 0..20 {
        pack(&crates, &format!("p{n}"), "1.0.0", "");
    }
    let new: usize = std::thread::scope(|scope| {
        let import = || world.config.catalog().unwrap().import(&crates, |_, _| {}).unwrap().new;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(import)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((new, world.catalog.list().unwrap().len()), (20, 20));
}

#[test]
fn tricks_are_refused_by_name() {
    let world = World::new();
    let part = |path: &str, kind| (path.to_owned(), Vec::new(), kind, 0o644);
    let good = || file("a-1.0.0/Cargo.toml", MANIFEST);
    for (name, parts, why) in [
        ("up", vec![good(), file("a-1.0.0/../../x", "")], "leads upwards"),
        ("absolute", vec![good(), file("/etc/x", "")], "is absolute"),
        ("outside", vec![good(), file("b-1.0.0/x", "")], "outside of its package"),
        ("symlink", vec![good(), part("a-1.0.0/l", Symlink)], "Symlink"),
        ("hardlink", vec![good(), part("a-1.0.0/l", Link)], "Link"),
        ("device", vec![good(), part("a-1.0.0/l", Char)], "Char"),
        ("block", vec![good(), part("a-1.0.0/l", Block)], "Block"),
        ("fifo", vec![good(), part("a-1.0.0/l", Fifo)], "Fifo"),
        ("twice", vec![good(), file("a-1.0.0/x", "1"), file("a-1.0.0/x", "2")], "stands in it twice"),
        ("case", vec![good(), file("a-1.0.0/README", "1"), file("a-1.0.0/readme", "2")], "differ only by case"),
        ("both", vec![good(), file("a-1.0.0/x", ""), file("a-1.0.0/x/y", "")], "stands in it twice"),
        ("control", vec![good(), file("a-1.0.0/x\ny", "")], "no package needs"),
        ("backslash", vec![good(), file("a-1.0.0\\x", "")], "no package needs"),
        ("root", vec![part("a-1.0.0", Regular)], "should be a directory"),
        ("empty", vec![part("a-1.0.0/", Directory)], "has no Cargo.toml"),
        ("name", vec![file("b-1.0.0/Cargo.toml", MANIFEST)], "and not in \"a-1.0.0\""),
        (
            "bad",
            vec![file("a-1.0.0/Cargo.toml", "[package]\nname = \"../a\"\nversion = \"1.0.0\"\n")],
            "not a package name",
        ),
    ] {
        let archive = pack_parts(world.dir.path(), name, &parts);
        let error = world.catalog.add(&archive).expect_err(name);
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains(why), "{name}: {error}");
    }
    std::fs::write(world.dir.path().join("junk.crate"), b"no archive").unwrap();
    assert!(matches!(world.catalog.add(&world.dir.path().join("junk.crate")), Err(Error::Refused { .. })));
}

#[test]
fn archives_keep_to_the_limits() {
    let world = World::new();
    let zeros = "0".repeat(8 << 20);
    let parts = [file("a-1.0.0/Cargo.toml", MANIFEST), file("a-1.0.0/zeros", &zeros)];
    let archive = pack_parts(world.dir.path(), "bomb", &parts);
    let with = |limits| {
        let store = DirectoryStore::open(world.dir.path().join("other")).unwrap();
        Catalog::new(Arc::new(store), limits).describe(&archive)
    };
    let limits = Limits { ratio: 100_000, ..Limits::default() };
    for (limits, why) in [
        (Limits { ratio: 20, ..limits }, "more than 20 times"),
        (Limits { unpacked_bytes: 1 << 20, ..limits }, "content is larger than 1048576"),
        (Limits { packed_bytes: 1000, ..limits }, "larger than 1000 bytes"),
        (Limits { entries: 1, ..limits }, "more than 1 entries"),
        (Limits { path_bytes: 4, ..limits }, "longer than 4"),
        (Limits { manifest_bytes: 4, ..limits }, "manifest is larger than 4"),
    ] {
        let error = with(limits).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(with(limits).is_ok());
}
