//! The marketplace: installing cargo packages from a catalogue into a project, all or nothing.
//!
//! ```text
//! compatibility.evaluate -> dependencies.resolve -> license.grant -> target.apply
//!                                                   license.release  target.restore, target.verify
//! ```
//!
//! A target is a directory that this machine can reach and the tenant may ([`targets`]). There is deliberately no network here:
//! the catalogue is filled from archives, and what it lacks is a finding.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use supervisor::activity::Activity;
use supervisor::ports::Clock;

pub mod apply;
pub mod archive;
pub mod begun;
mod blocking;
pub mod catalog;
pub mod catalog_dir;
mod closure;
pub mod compatibility;
mod conflict;
mod edits;
pub mod entitlements;
mod features;
pub mod journal;
pub mod license;
pub mod manifest;
mod plan;
pub mod platform;
pub mod project;
pub mod reference;
pub mod resolution;
pub mod restore;
mod solver;
mod steps;
pub mod targets;
mod toolchain;
pub mod tree;
mod unpack;
pub mod verify;

/// What the marketplace needs to know.
#[derive(Clone)]
pub struct Config {
    /// The directory of the catalogue, the entitlements and the notes. All nodes of one machine
    /// name the same.
    pub dir: PathBuf,
    /// How much an archive may ask of us.
    pub limits: archive::Limits,
    /// What a tenant may use that has no entitlement at all. `None`: nothing.
    pub fallback: Option<entitlements::Entitlement>,
    /// Where targets may be.
    pub targets: targets::Targets,
    /// Names this machine where a person must know which one was meant.
    pub node: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// Everything below `dir`, with the limits that come with the product.
    pub fn new(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let targets = targets::Targets::Anywhere;
        Self { dir: dir.into(), limits: archive::Limits::default(), fallback: None, targets, node, clock }
    }

    /// The catalogue.
    pub fn catalog(&self) -> Result<catalog::Catalog, catalog::Error> {
        let store = catalog_dir::DirectoryStore::open(self.dir.join("catalog"))?;
        Ok(catalog::Catalog::new(Arc::new(store), self.limits))
    }

    /// The tenants' accounts.
    pub fn entitlements(&self) -> io::Result<entitlements::Entitlements> {
        entitlements::Entitlements::open(self.dir.join("entitlements"))
    }
}

/// The activities of the marketplace.
pub fn activities(config: &Config) -> Result<Vec<Arc<dyn Activity>>, catalog::Error> {
    let catalog = config.catalog()?;
    let opening = |error| catalog::Error::store(format!("opening {}", config.dir.display()), error);
    let accounts = config.entitlements().map_err(opening)?;
    let undone = restore::Undone::open(config.dir.join("undone")).map_err(opening)?;
    let begun = begun::Begun::open(config.dir.join("begun"), &config.node).map_err(opening)?;
    let clock = config.clock.clone();
    Ok(vec![
        Arc::new(compatibility::Evaluate { catalog: catalog.clone(), targets: config.targets.clone() }),
        Arc::new(resolution::Resolve {
            catalog: catalog.clone(),
            platform: platform::Platform::host(),
            targets: config.targets.clone(),
        }),
        Arc::new(license::Grant { accounts, fallback: config.fallback.clone(), clock: clock.clone() }),
        Arc::new(apply::Apply {
            catalog,
            undone: undone.clone(),
            begun: begun.clone(),
            targets: config.targets.clone(),
            clock,
            steps: Arc::new(apply::Uninterrupted),
        }),
        Arc::new(verify::Verify { undone, begun, targets: config.targets.clone() }),
    ])
}
