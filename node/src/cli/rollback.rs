use clap::Args;
use protocol::SagaKey;
use serde_json::json;

use super::context::Ctx;
use super::{Ended, deploy};

/// Brings the last good revision of a service back
#[derive(Args, Debug)]
#[command(after_help = "\
What is being deployed is stopped and taken back; else what runs goes, and the revision that was
completed before it comes. What goes does not come again until something else is wanted. Where no
other revision is known to be good, nothing is done.

Example:
  skald rollback web --environment prod --reason 'it is slow'

Next: skald services")]
pub(super) struct Rollback {
    /// Name of the service
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
    /// Why; part of the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Name of the saga; the same key is the same way back
    #[arg(long)]
    key: Option<SagaKey>,
    /// Return when it is accepted instead of watching it
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(args: Rollback, ctx: &Ctx) -> Ended {
    let mut input = json!({ "environment": args.environment, "service": args.service, "kind": "restore" });
    if let Some(reason) = &args.reason {
        input["why"] = reason.clone().into();
    }
    let key = match args.key {
        Some(key) => key,
        None => deploy::fresh_key("rollback", &args.service)?,
    };
    deploy::carry_out(key, input, args.detach, ctx).await
}
