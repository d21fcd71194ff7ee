use std::time::Duration;

use clap::Args;
use protocol::SagaKey;

use super::context::Ctx;
use super::{Ended, duration, follow};

/// Waits until a saga has ended
#[derive(Args, Debug)]
#[command(after_help = "\
Ends with 0 when the saga succeeded, 1 when it ended otherwise, 4 when it goes on.

Example:
  skald wait order-7 --for 5m && echo delivered

Next: skald show order-7")]
pub(super) struct Wait {
    /// Key of the saga
    key: SagaKey,
    /// How long, such as 30s or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, default_value = "1m")]
    patience: Duration,
}

pub(super) async fn run(args: Wait, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    let view = if ctx.out.is_watched() {
        follow::until_end(&client, &args.key, Some(args.patience), ctx).await?
    } else {
        client.wait(&args.key, args.patience).await?
    };
    follow::conclude(&view, ctx)
}
