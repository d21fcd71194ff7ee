//! What the commands need from the rest of the product, each as one function, so that a command
//! reads as what it does and not as where the parts live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actors::marketplace::{self, entitlements};
use actors::runtime::compute::artifacts::DirectoryArtifacts;
use anyhow::Context as _;
use protocol::{Tenant, Time};
use serde::Serialize;
use supervisor::machine::Definition;

use super::Extra;
use crate::config::Config;
use crate::node::{Node, Parts, SystemClock};
use crate::server::{Finder, Server, ServerCluster, ServerConfig};

/// A node that runs in this process, with everything the product can do and the activities of
/// `extra`; with `bench`, also the work that `skald bench` measures.
pub async fn start_node(config: Config, bench: bool, extra: Extra) -> anyhow::Result<Node> {
    let marketplace = marketplace::Config {
        node: config.node_id()?.to_string(),
        targets: config.targets(),
        limits: config.archive_limits(),
        ..marketplace(&config.catalog_dir())
    };
    let mut activities = marketplace::activities(&marketplace).context("the marketplace's directory")?;
    activities.extend(extra(&config));
    let mut definitions: Vec<_> =
        actors::definitions().iter().map(|(file, source)| ((*file).to_owned(), (*source).to_owned())).collect();
    if bench {
        activities.extend(crate::bench::work::activities());
        definitions.extend(crate::bench::work::definitions());
    }
    Node::start(config, Parts { activities, definitions, ..Parts::default() }).await
}

/// The marketplace in `dir`, which all nodes of one machine share, with the limits for archives that
/// `SKALD_CATALOG__…` variables set.
pub(super) fn marketplace(dir: &Path) -> marketplace::Config {
    let limits = crate::config::load(None).unwrap_or_default().archive_limits();
    marketplace::Config { limits, ..marketplace::Config::new(dir, Arc::new(SystemClock)) }
}

/// NATS servers of our own, on this machine; one, or several that form a cluster.
pub enum Servers {
    /// One server.
    One(Box<Server>),
    /// Several.
    Many(ServerCluster),
}

impl Servers {
    /// Starts `count` servers with their data below `dir`; `say` hears what takes time.
    pub async fn start(dir: &Path, count: usize, say: &(dyn Fn(&str) + Send + Sync)) -> anyhow::Result<Self> {
        let found = Finder::new(None).find(say).await?;
        say("starting nats-server");
        Ok(if count == 1 {
            Self::One(Box::new(Server::start(&found.path, ServerConfig::new(dir)).await?))
        } else {
            Self::Many(ServerCluster::start(&found.path, dir, count).await?)
        })
    }

    fn each(&self) -> &[Server] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Many(servers) => servers.servers(),
        }
    }

    /// Where clients connect.
    pub fn urls(&self) -> Vec<String> {
        self.each().iter().map(Server::url).collect()
    }

    /// Where they can be asked how they do.
    pub fn monitors(&self) -> Vec<String> {
        self.each().iter().map(Server::monitor_url).collect()
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        self.each().iter().map(Server::pid).collect()
    }

    /// Waits until one of them ended by itself, and says how.
    pub async fn ended(&self) -> String {
        let ends = self.each().iter().map(|server| Box::pin(server.ended()));
        futures::future::select_all(ends).await.0
    }

    /// Starts those again that were full and have room again; answers how many. One that does not come
    /// up is told of when it has ended.
    pub async fn heal(&mut self) -> usize {
        let servers = match self {
            Self::One(server) => std::slice::from_mut(&mut **server),
            Self::Many(servers) => servers.servers_mut(),
        };
        let mut healed = 0;
        for server in servers {
            match server.heal().await {
                Ok(again) => healed += usize::from(again),
                Err(error) => tracing::error!(%error, "nats-server does not come up although there is room again"),
            }
        }
        healed
    }

    /// Stops them in good order.
    pub async fn stop(self) {
        match self {
            Self::One(server) => server.stop().await,
            Self::Many(servers) => servers.stop().await,
        }
    }
}

/// Whether a nats-server is at hand, and which; nothing is fetched.
pub async fn find_server() -> anyhow::Result<String> {
    let finder = Finder { obtain: false, ..Finder::new(None) };
    let found = finder.find(|_| ()).await?;
    Ok(format!("{} from {}: {}", found.version, found.origin, found.path.display()))
}

/// The Mermaid picture of a definition's source; `file` names it in faults.
pub fn render_definition(source: &str, file: &str) -> anyhow::Result<String> {
    let (definition, _) = Definition::parse(source, file).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    Ok(supervisor::machine::render(&definition))
}

/// A package in the catalogue.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatalogEntry {
    /// Its name.
    pub name: String,
    /// Its versions, highest first.
    pub versions: Vec<String>,
    /// The licence of the highest.
    pub license: String,
    /// The archive of the highest, in bytes.
    pub size_bytes: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImportReport {
    /// Archives that are in the catalogue now and were not before.
    pub new: usize,
    /// Archives that were there.
    pub known: usize,
    /// What was left out, with the reason.
    pub skipped: Vec<String>,
}

/// Imports every archive below `from` into the catalogue in `dir`; `progress` hears of each.
pub fn import_catalog(dir: &Path, from: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<ImportReport> {
    let report = marketplace(dir).catalog()?.import(from, |file, _| progress(&file.display().to_string()))?;
    let skipped = report.skipped.iter().map(ToString::to_string).collect();
    Ok(ImportReport { new: report.new, known: report.known, skipped })
}

/// What is in the catalogue in `dir`.
pub fn list_catalog(dir: &Path) -> anyhow::Result<Vec<CatalogEntry>> {
    let listed = marketplace(dir).catalog()?.list()?;
    let entry = |it: marketplace::catalog::Listed| CatalogEntry {
        name: it.name,
        versions: it.versions.iter().map(ToString::to_string).collect(),
        license: it.license.unwrap_or_default(),
        size_bytes: it.size,
    };
    Ok(listed.into_iter().map(entry).collect())
}

/// A tenant's right to install an asset.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entitlement {
    /// Whose.
    pub tenant: String,
    /// For what.
    pub asset: String,
    /// How many installations at once; no limit when absent.
    pub seats: Option<u32>,
    /// Until when; for good when absent.
    pub expires_at: Option<Time>,
}

/// Gives a tenant an entitlement, or changes the one it has for the same asset.
pub fn grant_entitlement(dir: &Path, tenant: &Tenant, entitlement: &Entitlement) -> anyhow::Result<()> {
    let right = entitlements::Entitlement {
        asset: entitlement.asset.clone(),
        seats: entitlement.seats,
        expires: entitlement.expires_at,
        suspended: false,
    };
    marketplace(dir).entitlements()?.change(tenant, |account| {
        account.entitlements.retain(|standing| standing.asset != right.asset);
        account.entitlements.push(right);
    })?;
    Ok(())
}

/// Takes it away, and says whether there was one; installations that hold a seat keep it.
pub fn revoke_entitlement(dir: &Path, tenant: &Tenant, asset: &str) -> anyhow::Result<bool> {
    Ok(marketplace(dir).entitlements()?.change(tenant, |account| {
        let before = account.entitlements.len();
        account.entitlements.retain(|standing| standing.asset != asset);
        account.entitlements.len() < before
    })?)
}

/// The entitlements of a tenant.
pub fn list_entitlements(dir: &Path, tenant: &Tenant) -> anyhow::Result<Vec<Entitlement>> {
    let account = marketplace(dir).entitlements()?.account(tenant)?;
    let entry = |it: entitlements::Entitlement| Entitlement {
        tenant: tenant.to_string(),
        asset: it.asset,
        seats: it.seats,
        expires_at: it.expires,
    };
    Ok(account.entitlements.into_iter().map(entry).collect())
}

/// Name of the definition that installs an asset.
pub const INSTALL_DEFINITION: &str = "installation";
/// Name of the definition that deploys a service.
pub const DEPLOY_DEFINITION: &str = actors::runtime::deployment::DEFINITION;

/// Where the nodes of a `skald up` with its data in `data` keep their processes.
pub fn runtime_dir(data: &Path) -> PathBuf {
    data.join("runtime")
}

/// Puts `file` among the artifacts in `dir`, and answers its digest. Again: nothing changes.
pub fn put_artifact(dir: &Path, file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let artifacts = DirectoryArtifacts::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    artifacts.add(&bytes).with_context(|| format!("writing into {}", dir.display()))
}
