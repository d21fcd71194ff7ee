use std::time::Duration;

use clap::Args;
use protocol::SagaKey;
use protocol::command;

use crate::client::StartAnswer;
use crate::debug;

use super::context::Ctx;
use super::input::Input;
use super::{Ended, Ending, duration, follow};

/// Starts a saga of a deployed definition
#[derive(Args, Debug)]
#[command(after_help = "\
The key names the saga and makes the start safe to repeat: the same key is the same saga.

Example:
  skald start order --key order-7 --set customer=ann --set items='[\"a\",\"b\"]' --follow

Next: skald show order-7, skald history order-7")]
pub(super) struct Start {
    /// Name of the definition
    definition: String,
    /// A version of it; the latest when not set
    #[arg(long)]
    version: Option<u32>,
    /// Name of the saga within the tenant; made of the message's id when not set
    #[arg(long)]
    key: Option<SagaKey>,
    #[command(flatten)]
    input: Input,
    /// Answer with the outcome, if it comes within this time, such as 5s
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,
    /// Watch it until it ends
    #[arg(long, conflicts_with = "wait")]
    follow: bool,
}

pub(super) async fn run(args: Start, ctx: &Ctx) -> Ended {
    let start = command::Start {
        definition: args.definition,
        version: args.version,
        key: args.key,
        input: args.input.value()?,
        wait_ms: args.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    };
    let client = ctx.connect().await?;
    match client.start(&start).await? {
        StartAnswer::View(view) => follow::conclude(&view, ctx),
        StartAnswer::Outcome(outcome) => {
            ctx.out.answer(&outcome, debug::render_outcome);
            Ok(follow::ending(outcome.status))
        }
        StartAnswer::Started(started) if args.follow => {
            ctx.out.say(format_args!("{} runs {}", started.saga, started.definition));
            follow::conclude(&follow::until_end(&client, &started.key, None, ctx).await?, ctx)
        }
        StartAnswer::Started(started) => {
            ctx.out.answer(&started, |started, paint| {
                let what = if started.created { "started" } else { "known already, nothing new was started:" };
                format!("{what} {} ({})\n", paint.strong(&started.saga), started.definition)
            });
            let key = &started.key;
            ctx.out.next(&format!("next: skald show {key}, or skald wait {key}"));
            Ok(Ending::Done)
        }
    }
}
