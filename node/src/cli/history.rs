use clap::Args;
use protocol::SagaKey;

use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending};

/// Shows what happened to a saga, record by record, as the journal has it
#[derive(Args, Debug)]
#[command(after_help = "\
Each record is what came in, with what followed from it below. @N is its place in the journal.

Example:
  skald history order-7

Next: skald events --since 1h for what was published")]
pub(super) struct History {
    /// Key of the saga
    key: SagaKey,
}

pub(super) async fn run(args: History, ctx: &Ctx) -> Ended {
    let history = ctx.connect().await?.history(&args.key).await?;
    ctx.out.answer(&history, debug::render_history);
    Ok(Ending::Done)
}
