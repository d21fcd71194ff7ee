//! The world of an installation: two small packages, a target with a past, one seat.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actors::marketplace::entitlements::Entitlement;
use actors::marketplace::{self, Config};
use node::node::SystemClock;
use protocol::{Tenant, Value};
use scenarios::fourfold::Stage;
use serde_json::json;
use supervisor::activity::Activity;

struct Installation {
    _dir: tempfile::TempDir,
    market: Config,
    target: PathBuf,
}

/// A fresh world.
pub fn stage() -> Box<dyn Stage> {
    let dir = tempfile::tempdir().unwrap();
    let market = Config::new(dir.path().join("market"), Arc::new(SystemClock));
    let catalog = market.catalog().unwrap();
    catalog.add(&pack(dir.path(), "leaf", "1.0.0", "")).unwrap();
    catalog.add(&pack(dir.path(), "asset", "1.0.0", "[dependencies.leaf]\nversion = \"1\"\n")).unwrap();
    let target = dir.path().join("target");
    fs::create_dir_all(target.join("src")).unwrap();
    fs::write(target.join("Cargo.toml"), "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n")
        .unwrap();
    fs::write(target.join("src/lib.rs"), "//! Empty.\n").unwrap();
    let seats = |account: &mut marketplace::entitlements::Account| {
        account.entitlements =
            vec![Entitlement { asset: "asset".into(), seats: Some(1), expires: None, suspended: false }];
    };
    market.entitlements().unwrap().change(&tenant(), seats).unwrap();
    Box::new(Installation { _dir: dir, market, target })
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

impl Stage for Installation {
    fn activities(&self) -> Vec<Arc<dyn Activity>> {
        marketplace::activities(&self.market).unwrap()
    }

    fn input(&self) -> Value {
        json!({ "assetId": "asset", "version": "1", "target": self.target, "rust": "1.95.0" })
    }

    fn traces(&self) -> BTreeMap<String, String> {
        let mut traces = BTreeMap::new();
        gather(&self.target, &self.target, &mut traces);
        let account = self.market.entitlements().unwrap().account(&tenant()).unwrap();
        traces.insert("seats taken".into(), account.seats.len().to_string());
        traces
    }
}

/// Everything below `dir`: mode, and content or link. Records of installations carry times, and are
/// there or not.
fn gather(root: &Path, dir: &Path, traces: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, about) = (entry.path(), entry.metadata().unwrap());
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let told = if about.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else if about.is_dir() {
            gather(root, &path, traces);
            format!("{:o}", about.permissions().mode())
        } else if name.starts_with(".skald") {
            "a record".into()
        } else {
            format!("{:o} {}", about.permissions().mode(), String::from_utf8_lossy(&fs::read(&path).unwrap()))
        };
        traces.insert(name, told);
    }
}

/// Writes the archive of a small, proper package.
fn pack(dir: &Path, name: &str, version: &str, rest: &str) -> PathBuf {
    let path = dir.join(format!("{name}-{version}.crate"));
    let gz = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\nlicense = \"MIT\"\n\n{rest}"
    );
    for (file, content) in [("Cargo.toml", manifest.as_str()), ("src/lib.rs", "//! Nothing.\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, format!("{name}-{version}/{file}"), content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
    path
}
