//! Package archives: right ones, and tricks with paths, links, sizes and checksums.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

const MANIFEST: &[u8] = b"[package]\nname = \"a\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";

/// The archives, not yet packed.
pub fn plain() -> Vec<Vec<u8>> {
    let file = |path: &str, content: &[u8]| entry(path, EntryType::Regular, content);
    let whole = [file("a-1.0.0/Cargo.toml", MANIFEST), file("a-1.0.0/src/lib.rs", b"//")].concat();
    let mut all: Vec<Vec<u8>> = vec![ended(whole.clone())];
    for path in [
        "../a-1.0.0/x",
        "/etc/passwd",
        "a-1.0.0/../../x",
        "a-1.0.0/./x",
        "a-1.0.0//x",
        "a-1.0.0/x\\..\\y",
        "a-1.0.0/.cargo-checksum.json",
        "b-1.0.0/x",
        "a-1.0.0",
        ".",
        "..",
        "a-1.0.0/CARGO.TOML",
        "a-1.0.0/src/lib.rs/x",
        "a-1.0.0/\u{202e}x",
        "C:\\x",
    ] {
        all.push(ended([whole.clone(), file(path, b"x")].concat()));
    }
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::GNUSparse,
    ] {
        all.push(ended([whole.clone(), entry("a-1.0.0/l", kind, b"")].concat()));
    }
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        let long = format!("a-1.0.0/{}", "x".repeat(5_000));
        all.push(ended([entry("././@LongLink", kind, long.as_bytes()), file("a-1.0.0/y", b"")].concat()));
        all.push(ended(
            [entry("././@LongLink", kind, b"99999999999999 path=../../x\n"), file("a-1.0.0/y", b"")].concat(),
        ));
        // An extension that says it is as large as the largest archive.
        all.push(ended(sized("././@LongLink", kind, 1 << 33)));
    }
    all.push(ended(
        [entry("pax", EntryType::XHeader, b"30 path=a-1.0.0/../../etc/x\n\n"), file("a-1.0.0/y", b"")].concat(),
    ));
    all.push(ended([entry("pax", EntryType::XHeader, b"20 size=99999999999\n"), file("a-1.0.0/y", b"")].concat()));
    all.push(ended(sized("a-1.0.0/x", EntryType::Regular, u64::MAX)));
    all.push(ended(sized("a-1.0.0/x", EntryType::Regular, 1 << 40)));
    all.push(whole[..700].to_vec());
    all.push(vec![0; 100_000]);
    all.push(ended((0..300).flat_map(|n| file(&format!("a-1.0.0/f{n}"), b"")).collect()));
    all.push(ended(file("a-1.0.0/deep", &vec![0; 300_000])));
    all
}

/// The same, packed; and packings that are not right.
pub fn packed() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = plain().iter().map(|tar| pack(tar)).collect();
    let whole = all[0].clone();
    let mut wrong = whole.clone();
    let last = wrong.len() - 5;
    wrong[last] ^= 0xff;
    all.extend([wrong, whole[..whole.len() / 2].to_vec(), [whole.clone(), whole.clone()].concat()]);
    all.push([whole, b"trailing".repeat(100)].concat());
    // A bomb: much content in few bytes, and a bomb inside of one file's size.
    let zeros = entry("a-1.0.0/zeros", EntryType::Regular, &vec![0; 12 << 20]);
    all.push(pack(&ended(zeros)));
    all.push(pack(&vec![0; 12 << 20]));
    all.push(b"\x1f\x8b\x08\x1f\xff\xff".to_vec());
    all.push([b"\x1f\x8b\x08\x08\0\0\0\0\0\0".to_vec(), vec![b'n'; 200_000]].concat());
    all
}

fn pack(tar: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(tar).expect("memory takes everything");
    packed.finish().expect("memory takes everything")
}

fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    // Not by `set_path`, which refuses what is to be tried here.
    let name = &mut header.as_old_mut().name;
    let length = path.len().min(name.len());
    name[..length].copy_from_slice(&path.as_bytes()[..length]);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o755);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
    }
    header.set_cksum();
    header
}

fn entry(path: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    builder.append(&header(path, kind, content.len() as u64), content).expect("memory takes everything");
    let mut bytes = builder.into_inner().expect("memory takes everything");
    // The builder's own end.
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// A header that promises `size` bytes which do not come.
fn sized(path: &str, kind: EntryType, size: u64) -> Vec<u8> {
    header(path, kind, size).as_bytes().to_vec()
}

fn ended(mut entries: Vec<u8>) -> Vec<u8> {
    entries.extend([0; 1024]);
    entries
}
