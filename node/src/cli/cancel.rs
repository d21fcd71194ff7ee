use clap::Args;
use protocol::SagaKey;
use protocol::command;

use super::context::Ctx;
use super::{Ended, Ending, follow};

/// Cancels a saga: stops its work and undoes what it did
#[derive(Args, Debug)]
#[command(after_help = "\
Refused while the saga is being undone already.

Example:
  skald cancel order-7 --reason 'the customer changed her mind' --follow

Next: skald show order-7")]
pub(super) struct Cancel {
    /// Key of the saga
    key: SagaKey,
    /// Why; part of the history
    #[arg(long, default_value = "")]
    reason: String,
    /// Watch it until all is undone
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(args: Cancel, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    let cancel = command::Cancel { key: args.key, reason: args.reason };
    let answer = client.cancel(&cancel).await?;
    if !args.follow {
        ctx.out.answer(&answer, |_, _| format!("{} is being cancelled\n", cancel.key));
        ctx.out.next(&format!("next: skald wait {}", cancel.key));
        return Ok(Ending::Done);
    }
    let view = follow::until_end(&client, &cancel.key, None, ctx).await?;
    let ending = follow::conclude(&view, ctx)?;
    // Cancelled is what was asked for.
    Ok(if view.status == protocol::view::Status::Cancelled { Ending::Done } else { ending })
}
