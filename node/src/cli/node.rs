use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use protocol::NodeId;
use tokio::io::AsyncReadExt as _;

use crate::config::{self, Config};
use crate::telemetry;

use super::context::Ctx;
use super::fault::Fault;
use super::state::NodeState;
use super::{Ended, Ending, Extra, parts};

/// Runs one node of a cluster, in the foreground
#[derive(Args, Debug)]
#[command(after_help = "\
Settings come from the file, then from variables SKALD_… (SKALD_JOURNAL__REPLICAS=3), then from
flags. A first interrupt drains: the node hands its shards over; a second one ends it at once.

Example:
  skald node --print-config > skald.toml
  skald node --config skald.toml --server nats://10.0.0.1:4222

Next: skald doctor, skald tree")]
pub(super) struct Node {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective settings with their meaning, and end
    #[arg(long)]
    print_config: bool,
    /// Name of the node, unique in its cluster
    #[arg(long, value_name = "NAME")]
    node: Option<NodeId>,
    /// Directory for what belongs to this machine
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write name, process and debug address there once the node has joined
    #[arg(long, value_name = "FILE", hide = true)]
    ready_file: Option<PathBuf>,
    /// Drain when standard input ends: whoever started this node is gone
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
    /// Offer the activities and definitions of `skald bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The settings of a node: file, variables, flags.
fn settings(args: &Node, ctx: &Ctx) -> Result<Config, Fault> {
    let mut config = config::load(args.config.as_deref())?;
    if let Some(node) = &args.node {
        config.node = Some(node.clone());
    }
    if let Some(data) = &args.data {
        config.data_dir.clone_from(data);
    }
    if ctx.globals.named_server().is_some() {
        config.servers = ctx.servers();
    }
    if let Some(creds) = ctx.globals.creds() {
        config.credentials = Some(creds.clone());
    }
    let tls = ctx.globals.tls();
    config.nats.tls_required |= tls.required;
    if tls.authorities.is_some() {
        config.nats.tls_authorities = tls.authorities;
    }
    if let Some((certificate, key)) = tls.identity {
        (config.nats.tls_certificate, config.nats.tls_key) = (Some(certificate), Some(key));
    }
    if let Some(filter) = ctx.globals.log_filter() {
        filter.clone_into(&mut config.telemetry.log);
    }
    config.check()?;
    Ok(config)
}

pub(super) async fn run(args: Node, ctx: &Ctx, extra: Extra) -> Ended {
    let mut config = settings(&args, ctx)?;
    if args.print_config {
        ctx.out.answer(&config, |config, _| config.to_commented_toml());
        return Ok(Ending::Done);
    }
    let node = config.node_id().map_err(|error| {
        Fault::new(format!("the node's name cannot be kept in {}", config.data_dir.display()))
            .why(error.to_string())
            .mend("name a directory that can be written with --data, or the node with --node")
    })?;
    config.node = Some(node.clone());
    let drain = Duration::from_millis(config.cluster.drain_ms);
    let guard = telemetry::init(&config.telemetry, node.as_str())?;
    let mut running = parts::start_node(config, args.bench, extra).await?;
    let pid = std::process::id();
    let endpoint = running.debug().map(|address| format!("http://{address}"));
    tracing::info!(%node, pid, endpoint = endpoint.as_deref().unwrap_or("off"), "node has joined");
    if let Some(file) = &args.ready_file {
        std::fs::write(
            file,
            serde_json::to_vec(&NodeState { node: node.clone(), pid, debug: endpoint }).unwrap_or_default(),
        )?;
    }
    let ended = tokio::select! {
        why = running.ended() => Some(why),
        () = told_to_stop() => None,
        () = stdin_ends(args.until_stdin_ends) => None,
    };
    if let Some(why) = ended {
        drop(guard);
        return Err(Fault::new(format!("node {node} ended"))
            .why(why)
            .mend("its peers take its shards over; its log says more"));
    }
    tracing::info!(%node, "draining");
    let drained = tokio::select! {
        drained = tokio::time::timeout(drain, running.drain()) => drained,
        () = told_to_stop() => return Err(Fault::interrupted()),
    };
    drop(guard);
    match drained {
        Ok(Ok(())) => Ok(Ending::Done),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Fault::new(format!("node {node} did not hand its shards over within {} ms", drain.as_millis()))
            .mend("its peers take them over when its leases have run out; cluster.drain_ms gives it longer")),
    }
}

/// An interrupt from the terminal, or the polite signal of a supervisor.
pub(super) async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

async fn stdin_ends(asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    let mut stdin = tokio::io::stdin();
    let mut some = [0u8; 64];
    while matches!(stdin.read(&mut some).await, Ok(read) if read > 0) {}
}
