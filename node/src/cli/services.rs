use actors::runtime::removal;
use clap::{Args, Subcommand};
use protocol::runtime::{ListServices, OfService, ServiceRow, Standing, SteerService};
use serde_json::json;

use crate::debug;

use super::context::Ctx;
use super::fault::Fault;
use super::removing::{self, Removing};
use super::settle::{self, Patience};
use super::{Ended, Ending};

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
    /// Starts a service anew as what it is: new replicas take over once they are well, and the others go
    #[command(
        after_help = "Example:\n  skald services restart web --environment prod\n\nNext: skald logs web --environment prod"
    )]
    Restart(Seen),
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
    #[command(flatten)]
    how: Removing,
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
            let asked = ListServices { environment: args.environment, service: None };
            let services = client.services(&asked).await?;
            if let Some(environment) = asked.environment.filter(|_| services.environments.is_empty()) {
                return Err(Fault::new(format!("there is no environment {environment} that you may use"))
                    .mend("`skald environment list` shows those that there are"));
            }
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
            let open = |row: &ServiceRow| row.standing == Standing::Open && row.differs.is_none();
            return settle::until_seen(&client, (&of.environment, &of.service), &within, ctx, open).await;
        }
        Some(What::Restart(Seen { one, within })) => {
            let of = OfService::from(one);
            client.restart_service(&of).await?;
            let restarted = |row: &ServiceRow| row.gave_up.is_none() && row.differs.is_none();
            return settle::until_seen(&client, (&of.environment, &of.service), &within, ctx, restarted).await;
        }
        Some(What::Pause(steer)) => {
            let answer = client.pause_service(&steer.into()).await?;
            ctx.out.answer(&answer, |_, _| "paused\n".to_owned());
        }
        Some(What::Drain(Drain { steer, within })) => {
            let steer = SteerService::from(steer);
            client.drain_service(&steer).await?;
            let drained = |row: &ServiceRow| row.standing == Standing::Drained && row.differs.is_none();
            return settle::until_seen(&client, (&steer.environment, &steer.service), &within, ctx, drained).await;
        }
        Some(What::Remove(Remove { one: One { service, environment }, how })) => {
            let what = format!("{environment}/{service} with its configurations and its history");
            let input = json!({ "environment": environment, "service": service });
            return removing::remove(&client, (&service, what), (removal::DEFINITION, input), how, ctx).await;
        }
        Some(What::Unhold(one)) => {
            let answer = client.unhold_service(&one.into()).await?;
            ctx.out.answer(&answer, |answer, _| format!("{} may come again\n", answer["released"]));
        }
    }
    Ok(Ending::Done)
}

/// A line per set that runs; one line where nothing does.
fn rows(row: &ServiceRow) -> Vec<Vec<String>> {
    let under_way = row.under_way.as_ref().map(|it| match (&it.waits_for, &it.saga) {
        (Some(waits), _) => format!("{}, waits: {waits}", it.doing),
        (None, Some(saga)) => format!("{} ({saga})", it.doing),
        (None, None) => it.doing.clone(),
    });
    let standing = match (&row.differs, row.standing) {
        (Some(_), Standing::Open) => "not as asked".to_owned(),
        (Some(_) | None, _) => row.stands(),
    };
    let state = under_way.unwrap_or(standing);
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
