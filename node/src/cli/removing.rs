//! Sagas that take something away for good.

use clap::Args;
use protocol::command::Start;
use protocol::view::{SagaView, Status};
use protocol::{SagaKey, Value};

use crate::client::Client;
use crate::debug::{self, Paint};

use super::confirm::confirm;
use super::context::Ctx;
use super::{Ended, deploy, follow};

#[derive(Args, Debug)]
pub(super) struct Removing {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Name of the saga; the same key is the same removal
    #[arg(long)]
    key: Option<SagaKey>,
    /// Return when it is accepted instead of watching it
    #[arg(long)]
    detach: bool,
}

/// Asks whether `what` is meant, and removes `name` by the saga of `definition`.
pub(super) async fn remove(
    client: &Client,
    (name, what): (&str, String),
    (definition, input): (&str, Value),
    how: Removing,
    ctx: &Ctx,
) -> Ended {
    confirm(&format!("removing {what}"), how.yes)?;
    let key = match how.key {
        Some(key) => key,
        None => deploy::fresh_key("remove", name)?,
    };
    let definition = definition.to_owned();
    let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
    follow::carry_out(client, (&key, &start), how.detach, std::future::pending(), removed, ctx).await
}

/// What went, or why it did not.
fn removed(view: &SagaView, paint: Paint) -> String {
    let Some(outcome) = &view.outcome else { return debug::render_saga(view, paint) };
    let named = |field: &str| outcome.output.as_ref().and_then(|output| output[field].as_str());
    match named("serviceId").or_else(|| named("environmentId")) {
        Some(name) if outcome.status == Status::Succeeded => format!("{} {name}\n", paint.good("removed")),
        Some(_) | None => debug::render_outcome(outcome, paint),
    }
}
