//! The inside of a package archive: bytes are packed first, so that a change reaches the headers
//! instead of the checksum around them. What is walked is laid out as a catalogue does it.

use std::io::Write as _;

use actors::marketplace::catalog::{Catalog, Error};
use actors::marketplace::catalog_dir::DirectoryStore;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::archive::{LIMITS, archive};

/// As for `archive`, and the catalogue refuses it or describes it.
pub fn tar(data: &[u8]) {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(data).expect("memory takes everything");
    let packed = packed.finish().expect("memory takes everything");
    archive(&packed);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.crate");
    std::fs::write(&file, &packed).expect("a file");
    let store = DirectoryStore::open(dir.path().join("catalog")).expect("a catalogue");
    match Catalog::new(std::sync::Arc::new(store), LIMITS).describe(&file) {
        Ok(release) => {
            assert_eq!(release.size, packed.len() as u64);
            assert!(!release.manifest.name.contains(['/', '.', '\\']), "{:?}", release.manifest.name);
        }
        Err(Error::Refused { why, .. }) => assert!(why.len() < 8_192, "a refusal of {} bytes", why.len()),
        Err(error @ (Error::Taken { .. } | Error::Store { .. })) => panic!("{error:?}"),
    }
}
