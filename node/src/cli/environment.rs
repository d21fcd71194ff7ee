use actors::runtime::decommission;
use clap::{Args, Subcommand};
use protocol::Tenant;
use protocol::runtime::{
    BindEnvironment, ChangeRow, CreateEnvironment, ListServices, ProvisionEnvironment, Provisioned,
};
use serde_json::json;

use crate::debug;

use super::context::Ctx;
use super::removing::{self, Removing};
use super::{Ended, Ending};

/// Makes environments that services are deployed into, and lets tenants use them
#[derive(Args, Debug)]
#[command(after_help = "\
An environment belongs to the tenant that created it. In production a tenant needs a binding, its
owner too; elsewhere the owner needs none.

Example:
  skald environment create dev
  skald environment create prod --stage prod
  skald environment bind prod --to acme --max-replicas 20

Next: skald deploy SERVICE --environment dev --artifact FILE")]
pub(super) struct Environment {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Makes an environment; again with the same changes nothing
    #[command(
        after_help = "Example:\n  skald environment create staging --stage staging\n\nNext: skald deploy SERVICE --environment staging --artifact FILE"
    )]
    Create {
        /// Its name, unique among all tenants: lower-case letters, digits and hyphens
        name: String,
        /// How far from users it is; as it is when absent, and dev at first
        #[arg(long, value_parser = ["dev", "test", "staging", "prod"])]
        stage: Option<String>,
        /// Where it is
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
    },
    /// Lets a tenant use an environment of yours
    #[command(
        after_help = "Example:\n  skald environment bind prod --to acme --max-replicas 20\n\nNext: skald deploy SERVICE --environment prod --artifact FILE --tenant acme"
    )]
    Bind {
        /// Name of the environment
        name: String,
        /// Which tenant
        #[arg(long, value_name = "TENANT")]
        to: Tenant,
        /// How many replicas its services may have together; 0 takes the right away
        #[arg(long, value_name = "N", default_value_t = 100)]
        max_replicas: u32,
    },
    /// Shows what would change of an environment's resources, and changes exactly that
    #[command(
        after_help = "Without --plan the changes are shown and then made, unless something else changed meanwhile; with\n--preview only those that were shown under that name.\n\nExample:\n  skald environment provision dev --replicas 20 --plan\n  skald environment provision dev --replicas 20 --preview 7c4e\n\nNext: skald environment list"
    )]
    Provision {
        /// Name of the environment
        name: String,
        /// How many replicas its services may have together; what runs stays when it is fewer
        #[arg(long, value_name = "N")]
        replicas: Option<u32>,
        /// How many bytes of memory: for Pulumi's program, a machine only keeps it
        #[arg(long, value_name = "BYTES")]
        memory: Option<u64>,
        /// How many thousandths of a processor: for Pulumi's program, a machine only keeps it
        #[arg(long, value_name = "MILLIS")]
        cpu: Option<u32>,
        /// Take all of it away
        #[arg(long)]
        absent: bool,
        /// Only show what would change
        #[arg(long, conflicts_with = "preview")]
        plan: bool,
        /// The name of the preview that is to be done
        #[arg(long, value_name = "NAME")]
        preview: Option<String>,
    },
    /// Removes an environment that has no services any more, with its secrets and all that is kept of it
    #[command(
        after_help = "It is a saga: nobody is let in to the environment from its beginning on, and until its last step it is\ntaken back when something fails.\n\nExample:\n  skald environment remove dev\n\nNext: skald environment list"
    )]
    Remove {
        /// Name of the environment
        name: String,
        #[command(flatten)]
        how: Removing,
    },
    /// Lists the environments that you may use
    #[command(after_help = "Example:\n  skald environment list\n\nNext: skald services")]
    List,
}

pub(super) async fn run(args: Environment, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    match args.what {
        What::Create { name, stage, region } => {
            let create = CreateEnvironment { environment: name, stage, region };
            let made = client.create_environment(&create).await?;
            ctx.out.answer(&made, |made, _| format!("{} ({}) of {}\n", made.environment, made.stage, made.tenant));
            ctx.out.next(&format!("next: skald deploy SERVICE --environment {} --artifact FILE", made.environment));
        }
        What::Bind { name, to, max_replicas } => {
            let bind = BindEnvironment { environment: name.clone(), tenant: to.clone(), max_replicas };
            let bound = client.bind_environment(&bind).await?;
            ctx.out.answer(&bound, |_, _| match max_replicas {
                0 => format!("{to} may not use {name} any more\n"),
                most => format!("{to} may have {most} replicas in {name}\n"),
            });
        }
        What::Provision { name, replicas, memory, cpu, absent, plan, preview } => {
            let asked = ProvisionEnvironment {
                environment: name.clone(),
                replicas,
                memory_bytes: memory,
                cpu_millis: cpu,
                absent,
                preview: preview.clone(),
            };
            let mut answer = client.provision_environment(&asked).await?;
            if !plan && preview.is_none() {
                let decided = ProvisionEnvironment { preview: Some(answer.preview.clone()), ..asked };
                answer = client.provision_environment(&decided).await?;
            }
            ctx.out.answer(&answer, |answer, _| changes(answer));
            if plan {
                ctx.out.next(&format!("next: the same with --preview {} instead of --plan", answer.preview));
            }
        }
        What::Remove { name, how } => {
            let (what, input) =
                (format!("{name} with its secrets and all that is kept of it"), json!({ "environment": name }));
            return removing::remove(&client, (&name, what), (decommission::DEFINITION, input), how, ctx).await;
        }
        What::List => {
            let services = client.services(&ListServices::default()).await?;
            ctx.out.answer(&services.environments, |rows, paint| {
                let cells = rows.iter().map(|row| {
                    let most = row.max_replicas.map_or_else(|| "any".to_owned(), |most| most.to_string());
                    vec![row.environment.clone(), row.stage.clone(), row.status.clone(), row.tenant.to_string(), most]
                });
                debug::table(&["ENVIRONMENT", "STAGE", "STATUS", "OWNER", "REPLICAS"], cells.collect(), paint)
            });
        }
    }
    Ok(Ending::Done)
}

fn changes(answer: &Provisioned) -> String {
    if answer.changes.is_empty() {
        return format!("{} is as it is wanted\n", answer.environment);
    }
    let line = |ChangeRow { resource, from, to }: &ChangeRow| match (from, to) {
        (Some(from), Some(to)) => format!("{resource}: {from} becomes {to}\n"),
        (None, Some(to)) => format!("{resource}: {to} is made\n"),
        (Some(from), None) => format!("{resource}: {from} is taken away\n"),
        (None, None) => format!("{resource}: nothing\n"),
    };
    let done = if answer.applied { "done" } else { "not done yet" };
    let lines: String = answer.changes.iter().map(line).collect();
    format!("{lines}{done}\n")
}
