use actors::runtime::control::cards::Worker as Which;
use clap::{Args, Subcommand};
use protocol::WorkerKind;
use protocol::command::ListWorkers;
use protocol::runtime::{DriftRow, ListDrift, OfEnvironment, OfFinding, OfService, SetDriftPolicy};
use protocol::worker::{RunOutcome, WorkerView};

use crate::client::Client;
use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending};

/// Most letters of a value in the table; `--json` has all of them.
const SHOWN_MAX_CHARS: usize = 24;

/// Shows what differs from what is wanted, and takes your decision about it
#[derive(Args, Debug)]
#[command(after_help = "\
Outside production a different image, configuration, secret or number of replicas is put right by
itself. In production it waits for your approval; what is missing waits everywhere, and what nobody
wrote down is never touched. What was rolled back stays away until desired state moves on.

Example:
  skald drift list --environment prod
  skald drift approve 4f2a --environment prod

Next: skald workers drift --environment prod for what the last look saw")]
pub(super) struct Drift {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lists what differs
    #[command(after_help = "Example:\n  skald drift list\n\nNext: skald drift approve FINDING --environment NAME")]
    List {
        /// Only this environment
        #[arg(long, short, value_name = "NAME")]
        environment: Option<String>,
        /// Also what is gone
        #[arg(long)]
        all: bool,
    },
    /// Has a finding put right
    #[command(
        after_help = "All that differs of the service is put right together, by one deployment.\n\nExample:\n  skald drift approve 4f2a --environment prod\n\nNext: skald services"
    )]
    Approve(One),
    /// Has all that differs of a service put right, at once
    #[command(
        after_help = "What cannot be put right (what nobody wrote down, what was rolled back) is left.\n\nExample:\n  skald drift remediate web --environment prod\n\nNext: skald services"
    )]
    Remediate {
        /// Name of the service
        service: String,
        /// Name of the environment
        #[arg(long, short, value_name = "NAME")]
        environment: String,
    },
    /// Shows or sets what is put right without you
    #[command(after_help = "Example:\n  skald drift policy show --environment dev\n\nNext: skald drift list")]
    Policy {
        #[command(subcommand)]
        what: Policy,
    },
    /// Leaves a finding as it is
    #[command(
        after_help = "Example:\n  skald drift accept 4f2a --environment prod\n\nNext: skald drift list --environment prod"
    )]
    Accept(One),
}

#[derive(Subcommand, Debug)]
enum Policy {
    /// Shows what is done about each kind of difference
    #[command(
        after_help = "Example:\n  skald drift policy show --environment dev\n\nNext: skald drift policy set --environment dev --remedy image=review"
    )]
    Show {
        /// Name of the environment
        #[arg(long, short, value_name = "NAME")]
        environment: String,
    },
    /// Says what is done; what is not named is as the environment's stage says
    #[command(
        after_help = "Kinds: image, replicas, configuration, secret, missing, unmanaged. What is done: automatic,\nafterApproval, review, none. In production nothing is automatic.\n\nExample:\n  skald drift policy set --environment dev --remedy image=review --remedy missing=automatic\n\nNext: skald drift policy show --environment dev"
    )]
    Set {
        /// Name of the environment
        #[arg(long, short, value_name = "NAME")]
        environment: String,
        /// What is done about a kind; may be repeated
        #[arg(long = "remedy", value_name = "KIND=WHAT", value_parser = remedy)]
        remedies: Vec<(String, String)>,
        /// Let nothing at all be wanted although something runs
        #[arg(long)]
        allow_empty: bool,
    },
}

fn remedy(text: &str) -> Result<(String, String), String> {
    let (kind, what) = text.split_once('=').ok_or("write KIND=WHAT, such as image=review")?;
    Ok((kind.to_owned(), what.to_owned()))
}

#[derive(Args, Debug)]
struct One {
    /// Which finding: the beginning of its name, as `skald drift list` shows it
    finding: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
}

impl From<One> for OfFinding {
    fn from(one: One) -> Self {
        Self { environment: one.environment, finding: one.finding }
    }
}

pub(super) async fn run(args: Drift, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    match args.what {
        What::List { environment, all } => {
            let listed = client.drift(&ListDrift { environment: environment.clone(), all }).await?;
            let looks = looks(&client, environment.as_deref()).await;
            let blind = looks.iter().any(|look| look.blind);
            ctx.out.answer(&listed.findings, |findings, paint| {
                if findings.is_empty() {
                    let found = if blind { "nothing is known to differ" } else { "all is as it is wanted" };
                    return format!("{found}\n");
                }
                let cells = findings.iter().map(row).collect();
                debug::table(&["FINDING", "SERVICE", "WHAT", "WANTED", "IS", "STATE", "SINCE"], cells, paint)
            });
            for Looked { environment, look, .. } in &looks {
                ctx.out.say(format!("as of   {environment}: {look}"));
            }
            let waits = listed.findings.iter().find(|row| row.state == "open");
            if let Some(row) = waits {
                let (finding, environment) = (short(row), &row.environment);
                let decide = if row.kind == "unmanaged" { "accept" } else { "approve" };
                ctx.out.next(&format!("next: skald drift {decide} {finding} --environment {environment}"));
            }
            if blind {
                return Ok(Ending::Bad);
            }
        }
        What::Approve(one) => {
            let row = client.approve_drift(&one.into()).await?;
            ctx.out.answer(&row, |row, _| format!("{} of {} is to be put right\n", row.kind, row.service));
            ctx.out.next(&format!("next: skald drift list --environment {}", row.environment));
        }
        What::Remediate { service, environment } => {
            let all = client.remediate_drift(&OfService { environment, service }).await?;
            ctx.out.answer(&all.findings, |rows, _| {
                let line = |row: &DriftRow| format!("{} of {} is to be put right\n", row.kind, row.service);
                rows.iter().map(line).collect()
            });
            ctx.out.next("next: skald services");
        }
        What::Policy { what } => {
            let view = match what {
                Policy::Show { environment } => client.drift_policy(&OfEnvironment { environment }).await?,
                Policy::Set { environment, remedies, allow_empty } => {
                    let remedies = remedies.into_iter().collect();
                    client.set_drift_policy(&SetDriftPolicy { environment, remedies, allow_empty }).await?
                }
            };
            ctx.out.answer(&view, |view, paint| {
                let why = |kind: &String| match view.set.contains(kind) {
                    true => "set".to_owned(),
                    false => format!("as in {}", view.stage),
                };
                let cells = view.remedies.iter().map(|(kind, what)| vec![kind.clone(), what.clone(), why(kind)]);
                debug::table(&["WHAT DIFFERS", "IS DONE", "WHY"], cells.collect(), paint)
            });
        }
        What::Accept(one) => {
            let row = client.accept_drift(&one.into()).await?;
            ctx.out.answer(&row, |row, _| format!("{} of {} stays as it is\n", row.kind, row.service));
        }
    }
    Ok(Ending::Done)
}

/// When an environment was looked at last.
struct Looked {
    environment: String,
    look: String,
    /// Whether that look saw nothing.
    blind: bool,
}

/// When each environment was looked at last; what cannot be asked is not said.
async fn looks(client: &Client, only: Option<&str>) -> Vec<Looked> {
    let Ok(kind) = WorkerKind::new(Which::DriftDetectionWorker.kind()) else { return Vec::new() };
    let workers = client.workers(&ListWorkers { kind: Some(kind), environment: None }).await;
    let workers = workers.map(|workers| workers.workers).unwrap_or_default();
    let of = |worker: WorkerView| {
        let environment = worker.environment.to_string();
        let blind = worker.last.as_ref().is_some_and(|run| run.outcome == RunOutcome::Failed);
        let look = match &worker.last {
            None => "nobody has looked yet".to_owned(),
            Some(run) if blind => {
                format!("the look at {} failed: {}", run.began, run.error.as_deref().unwrap_or(&run.why))
            }
            Some(run) => format!("looked at {}: {}", run.began, run.why),
        };
        only.is_none_or(|only| only == environment).then_some(Looked { environment, look, blind })
    };
    workers.into_iter().filter_map(of).collect()
}

fn short(row: &DriftRow) -> String {
    row.finding.trim_start_matches("sha256:").chars().take(12).collect()
}

fn row(row: &DriftRow) -> Vec<String> {
    let what = [row.kind.as_str(), row.field.as_str()].join(" ");
    let cut = |text: &str| match text.char_indices().nth(SHOWN_MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    };
    let again = if row.opened > 1 { format!(", opened {} times", row.opened) } else { String::new() };
    vec![
        short(row),
        format!("{}/{}", row.environment, row.service),
        what.trim_end().to_owned(),
        cut(&row.desired),
        cut(&row.observed),
        format!("{}{again}", row.state),
        row.opened_at.to_string(),
    ]
}
