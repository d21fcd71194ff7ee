//! Waits until a service is as somebody asked, and says what it is then.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use protocol::runtime::{ListServices, ServiceRow};

use crate::client::Client;

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, duration, follow};

/// How often a service is looked at: its replicas start in some hundred milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
pub(super) struct Patience {
    /// How long to wait until it is seen, such as 30s or 2h; 0s does not wait
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, default_value = "1m")]
    patience: Duration,
}

/// Waits until nothing is under way at `service`, and ends well when it is `as_asked` and seen so.
pub(super) async fn until_seen(
    client: &Client,
    (environment, service): (&str, &str),
    within: &Patience,
    ctx: &Ctx,
    as_asked: impl Fn(&ServiceRow) -> bool,
) -> Ended {
    let begun = tokio::time::Instant::now();
    let list = ListServices { environment: Some(environment.to_owned()), service: Some(service.to_owned()) };
    let mend = || format!("it goes on; see it with `skald services --environment {environment}`");
    let found = follow::until(ctx, LOOK_EVERY, mend, async |progress| {
        let listed = client.services(&list).await?;
        let missing = listed.missing.join("; ");
        let Some(row) = listed.services.into_iter().next() else { return Ok(ControlFlow::Break(None)) };
        let waits = waits_for(&row).or((!missing.is_empty()).then_some(missing));
        let asks = row.under_way.as_ref().is_some_and(|it| it.waits_for.is_some());
        match waits {
            Some(waits) if !asks && begun.elapsed() < within.patience => {
                progress.set_message(waits);
                Ok(ControlFlow::Continue(()))
            }
            waits => Ok(ControlFlow::Break(Some((row, waits)))),
        }
    });
    let Some((row, waits)) = found.await? else {
        return Err(Fault::new(format!("{environment}/{service} is not there any more")));
    };
    if let Some(waits) = waits {
        ctx.out.answer(&row, |_, _| format!("not yet: {waits}\n"));
        ctx.out.next(&format!("next: skald services --environment {environment}"));
        return Ok(Ending::Unended);
    }
    let seen = as_asked(&row);
    ctx.out.answer(&row, |row, _| match (seen, &row.gave_up) {
        (true, _) => format!("{}\n", is(row)),
        (false, Some(why)) => format!("given up: {why}; {}\n", is(row)),
        (false, None) => format!("not as asked: {}\n", is(row)),
    });
    Ok(if seen { Ending::Done } else { Ending::Bad })
}

/// What keeps a service from being as asked.
fn waits_for(row: &ServiceRow) -> Option<String> {
    let under_way = row.under_way.as_ref().map(|it| it.waits_for.clone().unwrap_or_else(|| it.doing.clone()));
    under_way.or_else(|| row.differs.clone().filter(|_| row.gave_up.is_none()))
}

/// What a service is, in words.
fn is(row: &ServiceRow) -> String {
    let (ready, weight) = row.sets.iter().fold((0, 0), |sum, set| (sum.0 + set.ready, sum.1 + set.weight));
    let name = format!("{}/{}", row.environment, row.service);
    format!("{name} has {ready} of {} replicas ready and {weight} % of its requests, {}", row.replicas, row.stands())
}
