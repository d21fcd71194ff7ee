use clap::Args;
use protocol::SagaKey;
use protocol::command;

use super::context::Ctx;
use super::input::Input;
use super::{Ended, Ending};

/// Answers a task that waits for a person
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald decide publish-9 --set approved=true --set note='checked by hand'

Next: skald show publish-9")]
pub(super) struct Decide {
    /// Key of the saga
    key: SagaKey,
    /// Number of the step, as `skald show` has it; the only open task when not set
    #[arg(long)]
    step: Option<u64>,
    #[command(flatten)]
    input: Input,
}

pub(super) async fn run(args: Decide, ctx: &Ctx) -> Ended {
    let decide = command::Decide { key: args.key, step: args.step, output: args.input.value()? };
    let answer = ctx.connect().await?.decide(&decide).await?;
    ctx.out.answer(&answer, |_, _| format!("decided; it is part of the history of {}\n", decide.key));
    ctx.out.next(&format!("next: skald show {}", decide.key));
    Ok(Ending::Done)
}
