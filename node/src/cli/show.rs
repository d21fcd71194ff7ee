use clap::Args;
use protocol::SagaKey;
use protocol::runtime::ListServices;

use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending, deploy, parts};

/// Shows where a saga stands, why it waits, and what would be undone
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald show order-7

Next: skald history order-7 for how it came there; skald signal, skald decide or skald release when
it waits for you")]
pub(super) struct Show {
    /// Key of the saga
    key: SagaKey,
}

pub(super) async fn run(args: Show, ctx: &Ctx) -> Ended {
    let (client, key) = (ctx.connect().await?, &args.key);
    let view = client.describe(key).await?;
    ctx.out.answer(&view, debug::render_saga);
    // What a rollout waits for is known to its service.
    let rolls_out = view.outcome.is_none() && view.definition.split(' ').next() == Some(parts::DEPLOY_DEFINITION);
    if rolls_out && let Some(waits) = deploy::waits(&client, &ListServices::default(), key).await? {
        ctx.out.say(&waits);
        ctx.out.next(&format!("next: skald services resume {} --environment {}", waits.service, waits.environment));
    }
    for reason in &view.waiting {
        match reason.kind.as_str() {
            "signal" => ctx.out.next(&format!("next: skald signal {key} NAME --input '{{…}}'")),
            "task" => {
                let step = reason.step.map(|step| format!(" --step {step}")).unwrap_or_default();
                ctx.out.next(&format!("next: skald decide {key}{step} --input '{{…}}'"));
            }
            "operator" => ctx.out.next(&format!("next: skald release {key} retry|skip|abandon --reason '…'")),
            _ => {}
        }
    }
    Ok(Ending::Done)
}
