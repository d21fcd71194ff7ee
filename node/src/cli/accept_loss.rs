use std::path::PathBuf;

use clap::Args;
use protocol::{ShardId, Time};
use supervisor::journal::anchor::Accepted;

use crate::config;
use crate::nats::{Of, accept_loss, connect};

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending};

/// Lets a shard or a node go on although what it stood on is lost
#[derive(Args, Debug)]
#[command(after_help = "\
A shard whose journal was deleted, cut or altered stops, because going on would undo what was
acknowledged. Bring back a copy if there is one: the shard then goes on by itself. If there is none,
this writes down who accepts the loss and why, and the shard goes on with what snapshots hold; sagas
and answers of the last seconds before the loss are then gone. It needs the nodes' own credentials.

Example:
  skald accept-loss --config skald.toml --shard 2 --loss 3fa9c1d2e4b5 --reason 'no backup, ticket 7'
  skald accept-loss --config skald.toml --stream KV_skald_runtime --reason 'a new beginning'

Next: skald doctor")]
pub(super) struct AcceptLoss {
    /// The nodes' settings: where the servers are, and as whom nodes connect
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The shard whose loss is accepted
    #[arg(long, value_name = "N", requires = "loss", required_unless_present = "stream", conflicts_with = "stream")]
    shard: Option<u16>,
    /// Which loss: as health and doctor name it, so that a later one is not accepted with it
    #[arg(long, value_name = "CODE")]
    loss: Option<String>,
    /// The stream whose loss is accepted, where it is no journal
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Why: kept beside the leases, and in the log of the node that goes on
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(args: AcceptLoss, ctx: &Ctx) -> Ended {
    if args.reason.trim().is_empty() {
        return Err(Fault::usage("what was acknowledged is given up, so a --reason is needed"));
    }
    let mut config = config::load(args.config.as_deref())?;
    if args.config.is_none() || ctx.globals.named_server().is_some() {
        config.servers = ctx.servers();
    }
    if let Some(creds) = ctx.globals.creds() {
        config.credentials = Some(creds.clone());
    }
    let by = format!("{}/{}", ctx.tenant(), ctx.principal());
    let at = Time::from_micros(jiff::Timestamp::now().as_microsecond());
    let accepted = Accepted { loss: args.loss.unwrap_or_default(), by, reason: args.reason, at };
    let of = match (args.shard, args.stream) {
        (Some(shard), _) => Of::Shard(ShardId(shard)),
        (None, Some(stream)) => Of::Stream(stream),
        (None, None) => return Err(Fault::usage("name a --shard or a --stream; `skald doctor` tells which")),
    };
    let bus = connect(config.connect_config()).await.map_err(|error| {
        Fault::new(error.to_string()).mend("use the nodes' own settings: --config FILE, or --creds and --server")
    })?;
    accept_loss(&bus, &of, &accepted).await.map_err(|error| Fault::new(error.to_string()))?;
    ctx.out.answer(&accepted, |accepted, _| format!("written down by {}: {}\n", accepted.by, accepted.reason));
    ctx.out.next("whoever meets exactly this loss goes on; `skald doctor` tells whether it did");
    Ok(Ending::Done)
}
