use std::time::Duration;

use clap::Args;
use protocol::Envelope;

use crate::client::Since;
use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending, duration};

/// A payload is shown up to this many characters; --json has the whole.
const PAYLOAD_MAX: usize = 100;

/// Follows the tenant's events
#[derive(Args, Debug)]
#[command(after_help = "\
With --json each event is one line. An event may come twice, with the same eventId.

Example:
  skald events --since 1h --type AssetInstalled
  skald events --all --no-follow --json

Next: skald history KEY for the saga that published one")]
pub(super) struct Events {
    /// Begin with what happened within this time, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Begin with the oldest that is kept
    #[arg(long, conflicts_with = "since")]
    all: bool,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events of this saga
    #[arg(long, value_name = "KEY")]
    saga: Option<protocol::SagaKey>,
    /// End with the newest instead of waiting for more
    #[arg(long)]
    no_follow: bool,
}

pub(super) async fn run(args: Events, ctx: &Ctx) -> Ended {
    let since = match (args.all, args.since) {
        (true, _) => Since::Beginning,
        (false, Some(ago)) => Since::Ago(ago),
        // The end of nothing is nothing: without following, all is meant.
        (false, None) if args.no_follow => Since::Beginning,
        (false, None) => Since::Now,
    };
    let client = ctx.connect().await?;
    let mut tail = client.events(since, args.event_type.as_deref()).await?;
    let saga = args.saga.map(|key| format!("{}/{key}", ctx.tenant()));
    let mut left = tail.backlog;
    loop {
        if args.no_follow && left == 0 {
            return Ok(Ending::Done);
        }
        let next = tokio::select! {
            next = tail.next() => next,
            _ = tokio::signal::ctrl_c() => return Ok(Ending::Done),
        };
        let Some(event) = next else { return Ok(Ending::Done) };
        left = left.saturating_sub(1);
        match event {
            Ok(event) if saga.as_ref().is_none_or(|saga| *saga == event.correlation_id) => show(&event, ctx),
            Ok(_) => {}
            Err(error) => ctx.out.say(format_args!("{error}")),
        }
    }
}

fn show(event: &Envelope, ctx: &Ctx) {
    if ctx.json() {
        return ctx.out.json(&serde_json::to_string(event).expect("events are writable as JSON"));
    }
    let paint = ctx.out.paint;
    let payload = event.payload.to_string();
    let short: String = payload.chars().take(PAYLOAD_MAX).collect();
    let dots = if short.len() < payload.len() { "…" } else { "" };
    let at = paint.dim(&debug::moment(event.occurred_at));
    let kind = paint.strong(&event.event_type);
    ctx.out.line(format_args!("{at}  {kind}  {}  {}{dots}", event.correlation_id, paint.dim(&short)));
}
