use std::path::PathBuf;

use clap::Args;
use protocol::query::{Body, Query};
use protocol::{ShardId, Time};
use serde::Serialize;
use supervisor::journal::anchor::Accepted;

use crate::client::{Client, Settings};
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
A loss that no node names is refused; where no node answers, it is written down unchecked.

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

/// What was written down.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    accepted: Accepted,
    /// Why nobody could say whether there is such a loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    unchecked: Option<String>,
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
    let servers = config.servers.clone();
    let bus = connect(config.connect_config()).await.map_err(|error| {
        Fault::new(error.to_string()).mend("use the nodes' own settings: --config FILE, or --creds and --server")
    })?;
    let settings = Settings { servers, ..ctx.settings() };
    let unchecked = match Client::over(&bus, settings).query(&Query::Health).await {
        Ok(answers) => {
            let health = answers.into_iter().filter_map(|answer| match answer.body {
                Body::Health(health) => Some(health.lost),
                Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Nothing => None,
            });
            check(&health.flatten().collect::<Vec<_>>(), &of, &accepted.loss)?;
            None
        }
        Err(error) => Some(error.to_string()),
    };
    accept_loss(&bus, &of, &accepted).await.map_err(|error| Fault::new(error.to_string()))?;
    ctx.out.answer(&Written { accepted, unchecked }, |Written { accepted, unchecked }, paint| {
        let unchecked = unchecked.as_ref().map_or_else(String::new, |why| {
            let warning = paint.warn("not checked:");
            format!("{warning} no node could say whether this is lost ({why}); a wrong name changes nothing\n")
        });
        format!("written down by {}: {}\n{unchecked}", accepted.by, accepted.reason)
    });
    ctx.out.next("whoever meets exactly this loss goes on; `skald doctor` tells whether it did");
    Ok(Ending::Done)
}

/// Refuses a loss that none of the sentences in which nodes name theirs offers to accept. Written down
/// in silence, a mistyped code would look accepted and the shard would stand still.
fn check(lost: &[String], of: &Of, loss: &str) -> Result<(), Fault> {
    let mut offered: Vec<_> = lost.iter().filter_map(|sentence| offer(sentence)).collect();
    offered.sort_unstable();
    offered.dedup();
    let wanted = match of {
        Of::Shard(shard) => format!("--shard {shard} --loss {loss}"),
        Of::Stream(stream) => format!("--stream {stream}"),
    };
    if offered.contains(&wanted) {
        return Ok(());
    }
    let fault = Fault::usage(format!("no node names this loss: {wanted}"));
    Err(if offered.is_empty() {
        fault.why("the nodes that answer name nothing whose loss can be accepted").mend("skald doctor")
    } else {
        fault.mend(format!("name one that nodes name: {}", offered.join(", ")))
    })
}

/// What `sentence` says to type so that its loss is accepted, without the reason.
fn offer(sentence: &str) -> Option<String> {
    let (_, typed) = sentence.split_once("skald accept-loss ")?;
    let (what, _) = typed.split_once(" --reason")?;
    Some(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nodes_name_is_accepted() {
        let lost = [
            "shard 2 is stopped: it is gone; accept the loss: skald accept-loss --shard 2 --loss 1fa --reason '…'",
            "KV_skald_runtime was deleted, or `skald accept-loss --stream KV_skald_runtime --reason '…'`",
            "shard 3 is stopped: what is left ends too early: `nats stream rm SKALD_JOURNAL_3`",
        ]
        .map(str::to_owned);
        let (two, three) = (Of::Shard(ShardId(2)), Of::Shard(ShardId(3)));
        let stream = |name: &str| Of::Stream(name.into());
        check(&lost, &two, "1fa").unwrap();
        check(&lost, &stream("KV_skald_runtime"), "").unwrap();
        for (of, loss) in [(&two, "1f"), (&two, "1fab"), (&three, "1fa"), (&stream("KV_skald"), "")] {
            let refused = check(&lost, of, loss).unwrap_err();
            let mend = refused.mend.unwrap();
            assert_eq!(refused.exit, 2);
            assert!(mend.contains("--shard 2 --loss 1fa") && mend.contains("--stream KV_skald_runtime"), "{mend}");
        }
        let refused = check(&[], &two, "1fa").unwrap_err();
        assert!(refused.exit == 2 && refused.why[0].contains("name nothing"), "{refused:?}");
    }
}
