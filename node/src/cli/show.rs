use clap::Args;
use protocol::SagaKey;

use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending};

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
    let view = ctx.connect().await?.describe(&args.key).await?;
    ctx.out.answer(&view, debug::render_saga);
    let key = &args.key;
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
