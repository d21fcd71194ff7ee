//! Watching one saga until it ends.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::ProgressBar;
use protocol::SagaKey;
use protocol::command::Start;
use protocol::view::{SagaView, Status};

use crate::client::{Client, Error, StartAnswer};
use crate::debug::{self, Paint};

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending};

/// How often a watched saga is looked at: each look is one request to one node.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a cluster that does not answer is asked again: a takeover lasts a few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Looks again and again until a look says what it came to. Whoever stops watching is told `mend`.
pub(super) async fn until<T>(
    ctx: &Ctx,
    every: Duration,
    mend: impl Fn() -> String,
    mut look: impl AsyncFnMut(&ProgressBar) -> Result<ControlFlow<T>, Error>,
) -> Result<T, Fault> {
    let progress = ctx.out.progress();
    let mut heard = tokio::time::Instant::now();
    let ended = loop {
        match look(&progress).await {
            Ok(ControlFlow::Break(seen)) => break Ok(seen),
            Ok(ControlFlow::Continue(())) => heard = tokio::time::Instant::now(),
            // It was accepted, so it is kept: whoever takes over will answer.
            Err(error @ (Error::NoNode { .. } | Error::Timeout { .. })) if heard.elapsed() < SILENCE_MAX => {
                progress.set_message(format!("{error}; asking again"));
            }
            Err(error) => break Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = tokio::signal::ctrl_c() => break Err(Fault::interrupted().mend(mend())),
        }
    };
    progress.finish_and_clear();
    ended
}

/// Starts the saga `key` and, unless `detach`, watches it to its end, with `beside` going on meanwhile. What it came
/// to is said by `render`.
pub(super) async fn carry_out(
    client: &Client,
    (key, start): (&SagaKey, &Start),
    detach: bool,
    beside: impl Future<Output = Infallible>,
    render: fn(&SagaView, Paint) -> String,
    ctx: &Ctx,
) -> Ended {
    let answer = client.start(start).await?;
    if detach {
        ctx.out.answer(&answer, |_, paint| format!("accepted: {}\n", paint.strong(key.as_str())));
        ctx.out.next(&format!("next: skald wait {key}"));
        return Ok(Ending::Done);
    }
    ctx.out.say(match &answer {
        StartAnswer::Started(started) if !started.created => {
            format!("{key} was begun before, and is not begun again: what follows is what it came to")
        }
        _ => format!("{key} is under way"),
    });
    let view = tokio::select! {
        view = until_end(client, key, None, ctx) => view?,
        never = beside => match never {},
    };
    ctx.out.answer(&view, render);
    ctx.out.next(&format!("next: skald services, or skald history {key}"));
    Ok(ending(view.status))
}

/// Watches `key` until it ended or `patience` is over, showing the states it goes through.
pub(super) async fn until_end(
    client: &Client,
    key: &SagaKey,
    patience: Option<Duration>,
    ctx: &Ctx,
) -> Result<SagaView, Fault> {
    let begun = tokio::time::Instant::now();
    let mut shown = String::new();
    let mend = || format!("the saga goes on; see it with `skald show {key}`");
    until(ctx, LOOK_EVERY, mend, async |progress| {
        let view = client.describe(key).await?;
        let now = path(&view);
        if now != shown && ctx.out.is_watched() && !shown.is_empty() {
            progress.println(format!("  {shown}"));
        }
        progress.set_message(now.clone());
        shown = now;
        let over = view.status.is_final() || patience.is_some_and(|patience| begun.elapsed() >= patience);
        Ok(if over { ControlFlow::Break(view) } else { ControlFlow::Continue(()) })
    })
    .await
}

/// The present state with what it does.
fn path(view: &SagaView) -> String {
    match view.waiting.first() {
        Some(reason) => format!("{} {} · {}", view.status.word(), reason.state, reason.what),
        None => format!("{} {}", view.status.word(), view.state),
    }
}

/// Shows a saga that was watched, and ends as it ended.
pub(super) fn conclude(view: &SagaView, ctx: &Ctx) -> Ended {
    ctx.out.answer(view, debug::render_saga);
    let key = view.saga.split_once('/').map_or(view.saga.as_str(), |(_, key)| key);
    let ending = ending(view.status);
    match ending {
        Ending::Done => {}
        Ending::Bad => ctx.out.next(&format!("next: skald history {key}")),
        Ending::Unended => ctx.out.next(&format!("it goes on. next: skald wait {key}, or skald show {key}")),
    }
    Ok(ending)
}

/// How a command ends that asked for the end of a saga in `status`.
pub(super) fn ending(status: Status) -> Ending {
    match status {
        Status::Succeeded => Ending::Done,
        Status::Failed | Status::Cancelled | Status::Abandoned => Ending::Bad,
        Status::Running | Status::Waiting | Status::Undoing | Status::Stuck => Ending::Unended,
    }
}
