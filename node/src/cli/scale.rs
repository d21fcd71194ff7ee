use clap::{Args, Subcommand};
use protocol::Value;
use protocol::runtime::{ApplyScalingPolicy, ListPolicies, OfService, PolicyRow, ScaleService};
use serde_json::json;

use crate::debug;

use super::context::Ctx;
use super::fault::Fault;
use super::settle::{self, Patience};
use super::{Ended, Ending, input};

/// Sets how many replicas a service has, by hand or by a policy
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
While a policy owns the replicas of a service, nobody else sets them: neither a person nor desired
state. Take it away with `skald scale policy remove` first.

Example:
  skald scale web --environment dev --replicas 4
  skald scale policy apply web --environment dev --min 2 --max 10 --target rps=50

Next: skald services for what runs"
)]
pub(super) struct Scale {
    #[command(subcommand)]
    what: Option<What>,
    /// Name of the service
    #[arg(required = true)]
    service: Option<String>,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME", required = true)]
    environment: Option<String>,
    /// How many replicas
    #[arg(long, value_name = "N", required = true)]
    replicas: Option<u32>,
    #[command(flatten)]
    within: Patience,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lets a policy own the replicas of a service, takes it away, and shows policies
    #[command(
        after_help = "Example:\n  skald scale policy list\n\nNext: skald scale policy apply SERVICE --environment NAME --min 2 --max 10 --target rps=50"
    )]
    Policy(Policy),
}

#[derive(Args, Debug)]
struct Policy {
    #[command(subcommand)]
    does: Does,
}

#[derive(Subcommand, Debug)]
enum Does {
    /// Lets a policy own the replicas of a service
    #[command(
        after_help = "Example:\n  skald scale policy apply web --environment dev --min 2 --max 10 --target cpu=60 --target rps=50\n  skald scale policy apply web --environment dev --policy @policy.json\n\nNext: skald workers scaling --environment dev"
    )]
    Apply {
        #[command(flatten)]
        of: Of,
        /// Never fewer
        #[arg(long, value_name = "N", required_unless_present = "policy")]
        min: Option<u32>,
        /// Never more
        #[arg(long, value_name = "N", required_unless_present = "policy")]
        max: Option<u32>,
        /// What one replica should have of a metric (cpu, queue or rps); the one that asks for most counts
        #[arg(long = "target", value_name = "METRIC=FIGURE", required_unless_present = "policy")]
        targets: Vec<String>,
        /// Only say what it would do
        #[arg(long)]
        dry_run: bool,
        /// All of it as JSON text, @FILE, or - for standard input; the others are put on top
        #[arg(long, value_name = "JSON")]
        policy: Option<String>,
    },
    /// Takes the policy of a service away; it keeps the replicas that it has
    #[command(
        after_help = "Example:\n  skald scale policy remove web --environment dev\n\nNext: skald scale web --environment dev --replicas 2"
    )]
    Remove {
        #[command(flatten)]
        of: Of,
    },
    /// Lists policies and what they own
    #[command(
        after_help = "Example:\n  skald scale policy list --environment dev\n\nNext: skald workers scaling --environment dev"
    )]
    List {
        /// Only this environment
        #[arg(long, short, value_name = "NAME")]
        environment: Option<String>,
    },
}

#[derive(Args, Debug)]
struct Of {
    /// Name of the service
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
}

pub(super) async fn run(args: Scale, ctx: &Ctx) -> Ended {
    match (args.what, args.service, args.environment, args.replicas) {
        (Some(What::Policy(policy)), _, _, _) => policies(policy.does, ctx).await,
        (None, Some(service), Some(environment), Some(replicas)) => {
            let scale = ScaleService { environment, service, replicas };
            let client = ctx.connect().await?;
            client.scale_service(&scale).await?;
            let at = (scale.environment.as_str(), scale.service.as_str());
            settle::until_seen(&client, at, &args.within, ctx, |row| row.replicas == replicas && row.differs.is_none())
                .await
        }
        (None, _, _, _) => Err(Fault::usage("a service, an environment and a number are needed")
            .mend("skald scale SERVICE --environment NAME --replicas N")),
    }
}

async fn policies(does: Does, ctx: &Ctx) -> Ended {
    match does {
        Does::Apply { of, min, max, targets, dry_run, policy } => {
            let policy = written(policy.as_deref(), min, max, &targets, dry_run)?;
            let apply = ApplyScalingPolicy { environment: of.environment, service: of.service, policy };
            let answer = ctx.connect().await?.apply_policy(&apply).await?;
            ctx.out.answer(&answer, |answer, _| {
                let (min, max) = (&answer["minReplicas"], &answer["maxReplicas"]);
                format!("the replicas of {} are the policy's, {min} to {max}\n", apply.service)
            });
            ctx.out.next(&format!("next: skald workers scaling --environment {}", apply.environment));
        }
        Does::Remove { of } => {
            let of = OfService { environment: of.environment, service: of.service };
            let answer = ctx.connect().await?.remove_policy(&of).await?;
            ctx.out.answer(&answer, |answer, _| match answer["removed"].as_bool() {
                Some(true) => format!("nobody owns the replicas of {}\n", of.service),
                Some(false) | None => format!("there was no policy of {}\n", of.service),
            });
        }
        Does::List { environment } => {
            let listed = ctx.connect().await?.policies(&ListPolicies { environment }).await?;
            ctx.out.answer(&listed.policies, |policies, paint| {
                let cells = policies.iter().map(row).collect();
                debug::table(&["SERVICE", "REPLICAS", "BOUNDS", "TARGETS", "MODE"], cells, paint)
            });
        }
    }
    Ok(Ending::Done)
}

fn row(row: &PolicyRow) -> Vec<String> {
    let PolicyRow { environment, service, policy, replicas } = row;
    let target = |target: &Value| format!("{}={}", target["metric"].as_str().unwrap_or_default(), target["perReplica"]);
    let targets: Vec<String> = policy["targets"].as_array().into_iter().flatten().map(target).collect();
    let mode = match (policy["paused"].as_bool(), policy["dryRun"].as_bool()) {
        (Some(true), _) => "paused",
        (_, Some(true)) => "dry run",
        (_, _) => "acts",
    };
    let bounds = format!("{} to {}", policy["minReplicas"], policy["maxReplicas"]);
    vec![format!("{environment}/{service}"), replicas.to_string(), bounds, targets.join(" "), mode.to_owned()]
}

fn written(
    policy: Option<&str>,
    min: Option<u32>,
    max: Option<u32>,
    targets: &[String],
    dry_run: bool,
) -> Result<Value, Fault> {
    let mut written = policy.map_or(Ok(json!({})), input::json)?;
    let Some(fields) = written.as_object_mut() else {
        return Err(Fault::usage("a policy is a JSON object").mend("write {\"minReplicas\": 2, …}"));
    };
    for (name, figure) in [("minReplicas", min), ("maxReplicas", max)] {
        fields.extend(figure.map(|figure| (name.to_owned(), json!(figure))));
    }
    if !targets.is_empty() {
        let targets: Vec<Value> = targets.iter().map(|text| target(text)).collect::<Result<_, _>>()?;
        fields.insert("targets".to_owned(), json!(targets));
    }
    if dry_run {
        fields.insert("dryRun".to_owned(), json!(true));
    }
    Ok(written)
}

fn target(text: &str) -> Result<Value, Fault> {
    let figure = |figure: &str| figure.parse::<f64>().ok().filter(|figure| figure.is_finite());
    match text.split_once('=').and_then(|(metric, per_replica)| Some((metric, figure(per_replica)?))) {
        Some((metric @ ("cpu" | "queue" | "rps"), per_replica)) => {
            Ok(json!({ "metric": metric, "perReplica": per_replica }))
        }
        Some(_) | None => Err(Fault::usage(format!("{text:?} is no target")).mend("write cpu=60, queue=10 or rps=50")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_from_words_and_json() {
        let policy =
            written(Some("{\"cooldownMs\":1000,\"minReplicas\":1}"), Some(2), Some(4), &["rps=50".into()], true);
        let expected = json!({
            "cooldownMs": 1000, "minReplicas": 2, "maxReplicas": 4, "dryRun": true,
            "targets": [{ "metric": "rps", "perReplica": 50.0 }],
        });
        assert_eq!(policy.unwrap(), expected);
        assert_eq!(target("disk=3").unwrap_err().exit, 2);
        assert_eq!(target("cpu=much").unwrap_err().exit, 2);
    }
}
