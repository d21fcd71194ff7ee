//! Lays a package out the way cargo wants its vendored sources: the files of the archive and
//! `.cargo-checksum.json` beside them.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive::{self, Limits};
use super::reference::GraphPackage;

/// What cargo reads to know that nobody changed a vendored file.
const CHECKSUMS: &str = ".cargo-checksum.json";

/// Unpacks `packed` into the new directory `to`. Fails unless the archive is `name-version` and
/// has `checksum`. `alive` is called for each file.
pub fn unpack(
    packed: File,
    limits: &Limits,
    package: &GraphPackage,
    checksum: &str,
    to: &Path,
    mut alive: impl FnMut(),
) -> Result<(), archive::Error> {
    fs::create_dir_all(to).map_err(archive::Error::Visit)?;
    let mut files = BTreeMap::new();
    let summary = archive::walk(packed, limits, |entry, content| {
        alive();
        let name = entry.path.to_string_lossy().into_owned();
        if name.eq_ignore_ascii_case(CHECKSUMS) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it brings its own list of checksums"));
        }
        let path = to.join(&entry.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let sum = write_new(&path, content, entry.executable)?;
        files.insert(name, sum);
        Ok(())
    })?;
    let root = format!("{}-{}", package.name, package.version);
    if summary.root != root {
        return Err(archive::Error::Refused(format!("it holds {:?} and not {root:?}", summary.root)));
    }
    if summary.checksum != checksum {
        return Err(archive::Error::Refused(format!(
            "its checksum is {} and the catalogue says {checksum}; somebody changed it, import it again",
            summary.checksum
        )));
    }
    write_checksums(to, &files, Some(checksum)).map_err(archive::Error::Visit)
}

/// Lays out an empty package in the place of one that this platform does not build.
pub fn stand_in(package: &GraphPackage, to: &Path) -> io::Result<()> {
    let mut manifest = toml_edit::DocumentMut::new();
    manifest["package"]["name"] = toml_edit::value(&package.name);
    manifest["package"]["version"] = toml_edit::value(package.version.to_string());
    manifest["package"]["edition"] = toml_edit::value("2021");
    manifest["package"]["description"] = toml_edit::value("Stands in for a package that this platform does not build.");
    manifest["lib"]["path"] = toml_edit::value("src/lib.rs");
    for feature in &package.features {
        manifest["features"][feature.as_str()] = toml_edit::value(toml_edit::Array::new());
    }
    for section in ["package", "lib", "features"] {
        if let Some(inline) = manifest.get(section).and_then(|item| item.as_inline_table()) {
            let table = inline.clone().into_table();
            manifest[section] = toml_edit::Item::Table(table);
        }
    }
    fs::create_dir_all(to.join("src"))?;
    let mut files = BTreeMap::new();
    for (name, text) in [("Cargo.toml", manifest.to_string()), ("src/lib.rs", String::new())] {
        files.insert(name.to_owned(), write_new(&to.join(name), &mut text.as_bytes(), false)?);
    }
    write_checksums(to, &files, package.checksum.as_deref())
}

fn write_new(path: &Path, content: &mut dyn Read, executable: bool) -> io::Result<String> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
    }
    file.set_permissions(Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    Ok(hex::encode(hash.finalize()))
}

fn write_checksums(to: &Path, files: &BTreeMap<String, String>, package: Option<&str>) -> io::Result<()> {
    let text = serde_json::json!({ "files": files, "package": package }).to_string();
    write_new(&to.join(CHECKSUMS), &mut text.as_bytes(), false).map(drop)
}
