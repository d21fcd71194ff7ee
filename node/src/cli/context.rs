//! What every command needs: where the cluster is, who speaks, where answers go.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use protocol::{Principal, Tenant};

use crate::client::{Client, Settings};
use crate::config::{self, DEFAULT_SERVER};
use crate::nats::{About, Tls};

use super::fault::Fault;
use super::out::{Color, Out};
use super::{duration, state};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Globals {
    /// Address of a NATS server; otherwise the one that a running `skald up` started, or
    /// nats://127.0.0.1:4222
    #[arg(long, global = true, env = "SKALD_SERVER", value_name = "URL", hide_env_values = true)]
    server: Option<String>,
    /// Whose data; as the credentials say, or "default"
    #[arg(long, global = true, env = "SKALD_TENANT", value_name = "NAME", hide_env_values = true)]
    tenant: Option<Tenant>,
    /// Who speaks; as the credentials say, or the user's name
    #[arg(long = "as", global = true, env = "SKALD_AS", value_name = "NAME", hide_env_values = true)]
    principal: Option<Principal>,
    /// A NATS credentials file, or one that `skald nats config` wrote
    #[arg(long, global = true, env = "SKALD_CREDS", value_name = "FILE", hide_env_values = true)]
    creds: Option<PathBuf>,
    /// Authorities of the server's certificate, instead of the system's; the connection is encrypted
    #[arg(long, global = true, env = "SKALD_TLS_AUTHORITIES", value_name = "FILE", hide_env_values = true)]
    tls_authorities: Option<PathBuf>,
    /// Our own certificate and its key, for a server that wants one
    #[arg(
        long,
        global = true,
        env = "SKALD_TLS_IDENTITY",
        value_name = "CERT,KEY",
        value_parser = identity,
        hide_env_values = true
    )]
    tls_identity: Option<(PathBuf, PathBuf)>,
    /// How long to wait for an answer, such as 500ms, 10s or 2m
    #[arg(long, global = true, value_name = "TIME", value_parser = duration::parse, default_value = "10s")]
    timeout: Duration,
    /// Answer with one JSON document on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Colours; auto means on a terminal and unless NO_COLOR is set
    #[arg(long, global = true, env = "SKALD_COLOR", value_name = "WHEN", default_value = "auto", hide_env = true)]
    color: Color,
    /// Say only what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; twice, say all
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// The resolved [`Globals`].
pub(super) struct Ctx {
    pub(super) globals: Globals,
    tenant: Tenant,
    principal: Principal,
    pub(super) out: Out,
}

impl Globals {
    /// The server that was named, if one was.
    pub(super) fn named_server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    pub(super) fn creds(&self) -> Option<&PathBuf> {
        self.creds.as_ref()
    }

    /// How the connection is encrypted.
    pub(super) fn tls(&self) -> Tls {
        let (authorities, identity) = (self.tls_authorities.clone(), self.tls_identity.clone());
        Tls { required: authorities.is_some() || identity.is_some(), authorities, identity }
    }

    /// What is logged when nothing else says so.
    pub(super) fn log_filter(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => Some("warn"),
            (false, 0) => None,
            (false, 1) => Some("debug,async_nats=info,hyper_util=info"),
            (false, _) => Some("trace"),
        }
    }
}

impl Ctx {
    pub(super) fn new(globals: Globals) -> Self {
        let out = Out::new(globals.color, globals.json, globals.quiet);
        let about = globals.creds.as_deref().map(About::read).unwrap_or_default();
        let tenant = globals.tenant.clone().or(about.tenant);
        let tenant = tenant.unwrap_or_else(|| Tenant::new("default").expect("a plain word is a name"));
        let principal = globals.principal.clone().or(about.principal).unwrap_or_else(user);
        Self { globals, tenant, principal, out }
    }

    pub(super) fn json(&self) -> bool {
        self.globals.json
    }

    pub(super) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The servers to connect to: named, of a running `skald up`, or the default.
    pub(super) fn servers(&self) -> Vec<String> {
        match self.globals.named_server() {
            Some(named) => named.split(',').map(|one| one.trim().to_owned()).collect(),
            None => state::running().map_or_else(|| vec![DEFAULT_SERVER.to_owned()], |state| state.servers),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            servers: self.servers(),
            credentials: self.globals.creds.clone(),
            tls: self.globals.tls(),
            tenant: self.tenant.clone(),
            principal: self.principal.clone(),
            timeout: self.globals.timeout,
            readable: !self.globals.json,
        }
    }

    /// Connects, as the arguments say.
    pub(super) async fn connect(&self) -> Result<Client, Fault> {
        Ok(Client::connect(self.settings()).await?)
    }

    /// A node's settings from the environment alone, for commands that need a directory of it.
    pub(super) fn config(&self) -> Result<config::Config, Fault> {
        Ok(config::load(None)?)
    }
}

fn identity(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (certificate, key) = text.split_once(',').ok_or("write CERT,KEY: two files with a comma between them")?;
    Ok((certificate.into(), key.into()))
}

/// The user's name as a principal; characters that a subject cannot carry become dashes.
fn user() -> Principal {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let usable: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).take(64).collect();
    Principal::new(usable).unwrap_or_else(|_| Principal::new("cli").expect("a plain word is a name"))
}
