use clap::{Args, ValueEnum};
use protocol::SagaKey;
use protocol::command::{self, ReleaseDecision};

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending};

/// Decides about a saga that is stuck: a compensation failed for good
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald release order-7 retry
  skald release order-7 skip --reason 'seat given back by hand, ticket 123'

Next: skald show order-7. `skald list --status stuck` names the others")]
pub(super) struct Release {
    /// Key of the saga
    key: SagaKey,
    /// What to do
    decision: Decision,
    /// Why; required for skip and abandon, and part of the history
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Decision {
    /// Try the failed compensation again
    Retry,
    /// Count it as done and go on with the rest
    Skip,
    /// End the saga with the rest not undone
    Abandon,
}

pub(super) async fn run(args: Release, ctx: &Ctx) -> Ended {
    let decision = match args.decision {
        Decision::Retry => ReleaseDecision::Retry,
        Decision::Skip => ReleaseDecision::Skip,
        Decision::Abandon => ReleaseDecision::Abandon,
    };
    if args.decision != Decision::Retry && args.reason.trim().is_empty() {
        return Err(Fault::usage("skip and abandon leave something undone, so they need a --reason")
            .mend("say what was done by hand: the history keeps it"));
    }
    let release = command::Release { key: args.key, decision, reason: args.reason };
    let answer = ctx.connect().await?.release(&release).await?;
    ctx.out.answer(&answer, |_, _| format!("{} is released\n", release.key));
    ctx.out.next(&format!("next: skald wait {}", release.key));
    Ok(Ending::Done)
}
