//! A package archive, from anybody.

use std::collections::BTreeSet;
use std::io;
use std::path::Component;

use actors::marketplace::archive::{Entry, Error, Limits, Summary, walk};

/// Small limits, so that a bomb shows as one.
pub(super) const LIMITS: Limits = Limits {
    packed_bytes: 256 << 10,
    unpacked_bytes: 8 << 20,
    entries: 200,
    ratio: 100,
    path_bytes: 128,
    manifest_bytes: 64 << 10,
};

/// Whatever the archive says, no file leaves the package's directory, none comes twice, and no limit
/// is passed.
pub fn archive(data: &[u8]) {
    let (mut seen, mut bytes) = (BTreeSet::new(), 0u64);
    let walked = walk(data, &LIMITS, |entry, content| {
        checked(entry);
        // A file system that does not tell letters by their case must not meet one name twice.
        assert!(seen.insert(entry.path.to_string_lossy().to_lowercase()), "{entry:?} comes twice");
        bytes += io::copy(content, &mut io::sink())?;
        Ok(())
    });
    assert!(bytes <= LIMITS.unpacked_bytes && seen.len() <= LIMITS.entries, "{} files, {bytes} bytes", seen.len());
    told(walked, data);
}

fn checked(entry: &Entry) {
    let path = entry.path.to_str().expect("a path is UTF-8");
    assert!(!path.is_empty() && path.len() <= LIMITS.path_bytes, "{entry:?}");
    assert!(entry.path.components().all(|part| matches!(part, Component::Normal(_))), "{entry:?}");
    assert!(!path.chars().any(|c| c.is_control() || c == '\\'), "{entry:?}");
}

pub(super) fn told(walked: Result<Summary, Error>, data: &[u8]) {
    match walked {
        Ok(summary) => {
            assert_eq!(summary.packed_bytes, data.len() as u64, "every byte is covered by the checksum");
            assert_eq!(summary.checksum.len(), 64);
            assert!(!summary.root.is_empty() && !summary.root.contains(['/', '\\']) && summary.root != "..");
        }
        Err(error @ Error::Refused(_)) => assert!(error.to_string().len() < 4_096, "{}", error.to_string().len()),
        Err(error @ (Error::Io(_) | Error::Visit(_))) => panic!("bytes in memory cannot fail: {error:?}"),
    }
}
