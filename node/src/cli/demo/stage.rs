//! What the demonstration plays with: a catalogue filled from cargo's own downloads, a project to
//! install into, a second one that stays as it is, and a tenant with a few seats.

use std::path::{Path, PathBuf};

use actors::marketplace::tree;
use protocol::{SagaKey, Tenant};

use crate::cli::context::Ctx;
use crate::cli::fault::Fault;
use crate::cli::{install, parts};

/// Whose installations these are.
pub(super) const TENANT: &str = "demo";
/// What the second, failing installation asks for.
pub(super) const OTHER_ASSET: &str = "serde_json";
/// What is installed, by preference: the first that the catalogue has.
const ASSETS: &[&str] = &["axum", "serde_json"];
/// Whose archive is tampered with, by preference: something that `serde_json` needs and that comes
/// late, so that there is something to undo.
const SPOILED: &[&str] = &["unicode-ident", "ryu", "memchr", "itoa"];

/// Everything that is needed.
pub(super) struct Stage {
    /// What is installed.
    pub(super) asset: String,
    /// How many packages the catalogue has.
    pub(super) packages: usize,
    /// Where it goes.
    pub(super) project: PathBuf,
    /// Where the second installation is tried.
    pub(super) other: PathBuf,
    catalog: PathBuf,
    tenant: Tenant,
}

impl Stage {
    pub(super) fn set(catalog: &Path, dir: &Path, ctx: &Ctx) -> Result<Self, Fault> {
        let downloads = cargo_downloads().ok_or_else(|| {
            Fault::new("cargo has downloaded no packages on this machine")
                .mend("build something with dependencies first, such as Skald itself with `cargo build`")
        })?;
        let progress = ctx.out.progress();
        let mut seen = 0;
        let report = parts::import_catalog(catalog, &downloads, &mut |name| {
            seen += 1;
            progress.set_message(format!("taking in package {seen}: {name}"));
        })?;
        progress.finish_and_clear();
        let tenant = Tenant::new(TENANT).map_err(|error| Fault::new(error.to_string()))?;
        let has = |name: &&&str| {
            let found = parts::marketplace(catalog).catalog().and_then(|catalog| catalog.versions(name));
            found.is_ok_and(|versions| !versions.is_empty())
        };
        let asset = ASSETS.iter().find(has).ok_or_else(|| {
            Fault::new(format!("cargo's downloads hold none of {}", ASSETS.join(", ")))
                .mend("build Skald itself with `cargo build`; that downloads them")
        })?;
        for name in ASSETS {
            let right = parts::Entitlement {
                tenant: TENANT.into(),
                asset: (*name).to_owned(),
                seats: Some(3),
                expires_at: None,
            };
            parts::grant_entitlement(catalog, &tenant, &right)?;
        }
        Ok(Self {
            asset: (*asset).to_owned(),
            packages: report.new + report.known,
            project: project(dir, "shop")?,
            other: project(dir, "other")?,
            catalog: catalog.to_owned(),
            tenant,
        })
    }

    /// An installation to ask for.
    pub(super) fn wanted(&self, key: &str, asset: &str, target: &Path) -> Result<(SagaKey, install::Wanted), Fault> {
        let key = SagaKey::new(key).map_err(|error| Fault::new(error.to_string()))?;
        let wanted = install::wanted(asset, target, &[], Some(key.clone()))?;
        Ok((key, wanted))
    }

    /// Lets cargo build the project from what was installed, without a network.
    pub(super) async fn build(&self, title: &str, ctx: &Ctx) -> Result<(), Fault> {
        let progress = ctx.out.progress();
        progress.set_message("cargo check --offline");
        let began = std::time::Instant::now();
        let check = tokio::process::Command::new("cargo")
            .args(["check", "--offline", "--quiet"])
            .current_dir(&self.project)
            .env("CARGO_TARGET_DIR", self.project.join("target"))
            .output()
            .await;
        progress.finish_and_clear();
        let output = match check {
            Ok(output) => output,
            Err(error) => {
                ctx.out.say(format_args!("{title}cargo cannot be run here ({error}), so nothing is built"));
                return Ok(());
            }
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Fault::new("cargo does not accept what was installed").why(said));
        }
        let seconds = began.elapsed().as_secs_f32();
        ctx.out.say(format_args!("{title}cargo check --offline passes in the project ({seconds:.0} s)"));
        Ok(())
    }

    /// Changes one byte of an archive in the catalogue; answers whose.
    pub(super) fn spoil(&self) -> Result<String, Fault> {
        let catalog = parts::marketplace(&self.catalog).catalog().map_err(|error| Fault::new(error.to_string()))?;
        for name in SPOILED {
            let versions = catalog.versions(name).map_err(|error| Fault::new(error.to_string()))?;
            let mut spoiled = false;
            for release in versions {
                let (start, whole) = (&release.checksum[..2], &release.checksum);
                let file = self.catalog.join("catalog/objects").join(start).join(whole);
                let mut bytes = std::fs::read(&file)?;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                // The catalogue never writes an object again, so its files are read-only.
                std::fs::remove_file(&file)?;
                std::fs::write(&file, bytes)?;
                spoiled = true;
            }
            if spoiled {
                return Ok((*name).to_owned());
            }
        }
        Err(Fault::new("the catalogue has nothing to tamper with"))
    }

    /// What the second project and the tenant's seats look like.
    pub(super) fn state_of_other(&self) -> Result<String, Fault> {
        let fingerprint = tree::fingerprint(&self.other)?;
        let account = parts::marketplace(&self.catalog).entitlements()?.account(&self.tenant)?;
        let taken = account.seats.values().filter(|seat| seat.asset == OTHER_ASSET).count();
        Ok(format!("tree {}, seats taken for {OTHER_ASSET}: {taken}", &fingerprint[..16]))
    }
}

fn project(dir: &Path, name: &str) -> Result<PathBuf, Fault> {
    let project = dir.join(name);
    std::fs::create_dir_all(project.join("src"))?;
    let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n");
    std::fs::write(project.join("Cargo.toml"), manifest)?;
    std::fs::write(project.join("src/lib.rs"), "//! A project that wants packages.\n")?;
    Ok(project)
}

/// Where cargo keeps the archives it downloaded, if there are any.
fn cargo_downloads() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let cache = home.join("registry/cache");
    std::fs::read_dir(&cache).ok()?.next()?.ok()?;
    Some(cache)
}
