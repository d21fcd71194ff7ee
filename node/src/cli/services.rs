use actors::runtime::removal;
use clap::{Args, Subcommand};
use protocol::SagaKey;
use protocol::command::Start;
use protocol::runtime::{ListServices, OfService, ServiceRow, SteerService};
use protocol::view::{SagaView, Status};
use serde_json::json;

use crate::debug::{self, Paint};

use super::confirm::confirm;
use super::context::Ctx;
use super::settle::{self, Patience};
use super::{Ended, Ending, deploy, follow};

/// Shows what runs: versions, replicas, traffic and addresses
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Example:
  skald services
  skald services --environment prod --json
  skald services resume web --environment prod

Next: skald deploy, skald rollback; skald show KEY for the deployment that is under way"
)]
pub(super) struct Services {
    /// Only this environment
    #[arg(long, short, value_name = "NAME")]
    environment: Option<String>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lets a rollout go on that waits for you, and a service act by itself again after an incident
    #[command(after_help = "Example:\n  skald services resume web --environment prod\n\nNext: skald services")]
    Resume(Seen),
    /// Lets nothing happen to a service by itself: no scaling, no drift put right; a rollout that is under way
    /// stands still where it is; you may still act
    #[command(
        after_help = "Example:\n  skald services pause web --environment prod --reason 'we look at it'\n\nNext: skald services resume web --environment prod"
    )]
    Pause(Steer),
    /// Takes the traffic and the replicas of a service away
    #[command(
        after_help = "Example:\n  skald services drain web --environment dev --reason 'nobody uses it'\n\nNext: skald services; to have it back: skald services resume"
    )]
    Drain(Drain),
    /// Lets releases come again that were rolled back
    #[command(
        after_help = "Example:\n  skald services unhold web --environment prod\n\nNext: skald deploy web --environment prod --artifact FILE"
    )]
    Unhold(One),
    /// Removes a service: its traffic, its processes, its configurations and all that is kept of it
    #[command(after_help = "\
It is a saga: until its last step it is taken back as a whole when something fails. Secrets of the
environment stay; the service is bound to none of them any more. Take its file out of the
repository first: what desired state still names is found missing, and waits for an approval.

Example:
  skald services remove web --environment dev

Next: skald services")]
    Remove(Remove),
}

#[derive(Args, Debug)]
struct Remove {
    #[command(flatten)]
    one: One,
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

#[derive(Args, Debug)]
struct One {
    /// Name of the service
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
}

#[derive(Args, Debug)]
struct Seen {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    within: Patience,
}

#[derive(Args, Debug)]
struct Drain {
    #[command(flatten)]
    steer: Steer,
    #[command(flatten)]
    within: Patience,
}

#[derive(Args, Debug)]
struct Steer {
    #[command(flatten)]
    one: One,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl From<Steer> for SteerService {
    fn from(steer: Steer) -> Self {
        Self { environment: steer.one.environment, service: steer.one.service, why: steer.reason }
    }
}

impl From<One> for OfService {
    fn from(one: One) -> Self {
        Self { environment: one.environment, service: one.service }
    }
}

pub(super) async fn run(args: Services, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    match args.what {
        None => {
            let services = client.services(&ListServices { environment: args.environment, service: None }).await?;
            ctx.out.answer(&services, |services, paint| {
                let cells = services.services.iter().flat_map(rows).collect();
                debug::table(&["SERVICE", "VERSION", "SET", "READY", "TRAFFIC", "ADDRESS", "STATE"], cells, paint)
            });
            for (row, differs) in services.services.iter().filter_map(|row| Some((row, row.differs.as_ref()?))) {
                ctx.out.say(format!("differs {}/{} {differs}", row.environment, row.service));
            }
            for missing in &services.missing {
                ctx.out.say(missing);
            }
            for (row, held) in services.services.iter().flat_map(|row| row.held.iter().map(move |held| (row, held))) {
                ctx.out.say(format!("held    {}/{} {held}", row.environment, row.service));
            }
            let waits =
                services.services.iter().find(|row| row.under_way.as_ref().is_some_and(|it| it.waits_for.is_some()));
            if let Some(row) = waits {
                let (service, environment) = (&row.service, &row.environment);
                ctx.out.next(&format!("next: skald services resume {service} --environment {environment}"));
            }
        }
        Some(What::Resume(Seen { one, within })) => {
            let of = OfService::from(one);
            client.resume_service(&of).await?;
            let open = |row: &ServiceRow| row.standing == "open" && row.differs.is_none();
            return settle::until_seen(&client, (&of.environment, &of.service), &within, ctx, open).await;
        }
        Some(What::Pause(steer)) => {
            let answer = client.pause_service(&steer.into()).await?;
            ctx.out.answer(&answer, |_, _| "paused\n".to_owned());
        }
        Some(What::Drain(Drain { steer, within })) => {
            let steer = SteerService::from(steer);
            client.drain_service(&steer).await?;
            let drained = |row: &ServiceRow| row.standing.starts_with("drained") && row.differs.is_none();
            return settle::until_seen(&client, (&steer.environment, &steer.service), &within, ctx, drained).await;
        }
        Some(What::Remove(Remove { one: One { service, environment }, yes, key, detach })) => {
            confirm(&format!("removing {environment}/{service} with its configurations and its history"), yes)?;
            let key = match key {
                Some(key) => key,
                None => deploy::fresh_key("remove", &service)?,
            };
            let start = Start {
                definition: removal::DEFINITION.to_owned(),
                version: None,
                key: Some(key.clone()),
                input: json!({ "environment": environment, "service": service }),
                wait_ms: None,
            };
            return follow::carry_out(&client, (&key, &start), detach, std::future::pending(), removed, ctx).await;
        }
        Some(What::Unhold(one)) => {
            let answer = client.unhold_service(&one.into()).await?;
            ctx.out.answer(&answer, |answer, _| format!("{} may come again\n", answer["released"]));
        }
    }
    Ok(Ending::Done)
}

/// What went, or why it did not.
fn removed(view: &SagaView, paint: Paint) -> String {
    match &view.outcome {
        None => debug::render_saga(view, paint),
        Some(outcome) if outcome.status == Status::Succeeded => {
            let service = outcome.output.as_ref().and_then(|output| output["serviceId"].as_str());
            format!("{} {}\n", paint.good("removed"), service.unwrap_or_default())
        }
        Some(outcome) => debug::render_outcome(outcome, paint),
    }
}

/// A line per set that runs; one line where nothing does.
fn rows(row: &ServiceRow) -> Vec<Vec<String>> {
    let under_way = row.under_way.as_ref().map(|it| match (&it.waits_for, &it.saga) {
        (Some(waits), _) => format!("{}, waits: {waits}", it.doing.to_lowercase()),
        (None, Some(saga)) => format!("{} ({saga})", it.doing.to_lowercase()),
        (None, None) => it.doing.to_lowercase(),
    });
    let standing = match (&row.differs, row.standing.as_str()) {
        (Some(_), "open") => "not as asked",
        (Some(_) | None, standing) => standing,
    };
    let state = under_way.unwrap_or_else(|| standing.to_owned());
    let name = format!("{}/{}", row.environment, row.service);
    let address = row.endpoint_url.clone().unwrap_or_default();
    if row.sets.is_empty() {
        let version = row.version.clone().unwrap_or_default();
        return vec![vec![name, version, String::new(), String::new(), String::new(), address, state]];
    }
    let line = |set: &protocol::runtime::SetRow| {
        let completed = row.image.as_ref() == Some(&set.image);
        let short = || set.image.chars().skip("sha256:".len()).take(12).collect::<String>();
        let version = row.version.clone().filter(|_| completed).unwrap_or_else(short);
        let (ready, traffic) = (format!("{}/{}", set.ready, set.wanted), format!("{} %", set.weight));
        vec![name.clone(), version, set.set.clone(), ready, traffic, address.clone(), state.clone()]
    };
    row.sets.iter().map(line).collect()
}
