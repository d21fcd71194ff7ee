//! What lies on the machine of the processes besides them: the values of secrets, and what was made
//! for environments. Several nodes of the machine share it.

use std::path::Path;
use std::sync::Arc;

use actors::runtime::ports::provisioning::{Machine, Provisioner, Pulumi, machine};
use actors::runtime::ports::secrets::SecretStore;
use actors::runtime::ports::secrets::sealed::{self, SealedFiles};
use anyhow::Context as _;
use supervisor::ports::Clock;

use crate::config::Config;

/// The directory of the secrets, below that of the processes.
const SECRETS: &str = "secrets";
/// The directory of what was made for environments, below that of the processes.
const PROVISIONED: &str = "provisioned";

/// Ports that need the machine's disk.
#[derive(Clone)]
pub struct Local {
    /// Keeps the values of secrets.
    pub secrets: Arc<dyn SecretStore>,
    /// Makes environments.
    pub provisioner: Arc<dyn Provisioner>,
}

impl Local {
    /// Opens both below `dir`, making what is missing.
    pub async fn open(dir: &Path, config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let at = dir.join(SECRETS);
        let secrets = SealedFiles::open(sealed::Settings::new(&at), clock).await;
        let secrets = secrets.with_context(|| format!("the secrets in {}", at.display()))?;
        let at = dir.join(PROVISIONED);
        let provisioner: Result<Arc<dyn Provisioner>, _> = match config.pulumi_settings(&at) {
            Some(settings) => Pulumi::open(settings).map(|pulumi| Arc::new(pulumi) as _),
            None => Machine::open(machine::Settings::new(&at)).map(|machine| Arc::new(machine) as _),
        };
        let provisioner = provisioner.with_context(|| format!("the environments in {}", at.display()))?;
        Ok(Self { secrets: Arc::new(secrets), provisioner })
    }
}
