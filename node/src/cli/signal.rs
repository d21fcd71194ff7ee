use clap::Args;
use protocol::SagaKey;
use protocol::command;

use super::context::Ctx;
use super::input::Input;
use super::{Ended, Ending};

/// Sends a signal to a saga: wakes a state that waits for it
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald signal order-7 paid --set amount=12

Next: skald show order-7")]
pub(super) struct Signal {
    /// Key of the saga
    key: SagaKey,
    /// Name of the signal, as the state waits for it
    name: String,
    #[command(flatten)]
    input: Input,
    /// Identity of the signal: the same id again has no second effect; a fresh one when not set
    #[arg(long)]
    id: Option<String>,
}

pub(super) async fn run(args: Signal, ctx: &Ctx) -> Ended {
    let signal = command::Signal {
        key: args.key,
        name: args.name,
        payload: args.input.value()?,
        // With an id the call can be repeated while the shard moves, without a second effect.
        id: Some(args.id.unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string())),
    };
    let answer = ctx.connect().await?.signal(&signal).await?;
    ctx.out.answer(&answer, |_, _| format!("signal {} is in the journal of {}\n", signal.name, signal.key));
    ctx.out.next(&format!("next: skald show {}", signal.key));
    Ok(Ending::Done)
}
