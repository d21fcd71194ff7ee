use clap::{Args, Subcommand};
use protocol::runtime::{DriftRow, ListDrift, OfFinding};

use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending};

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
    /// Leaves a finding as it is
    #[command(
        after_help = "Example:\n  skald drift accept 4f2a --environment prod\n\nNext: skald drift list --environment prod"
    )]
    Accept(One),
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
            let listed = client.drift(&ListDrift { environment, all }).await?;
            ctx.out.answer(&listed.findings, |findings, paint| {
                if findings.is_empty() {
                    return "all is as it is wanted\n".to_owned();
                }
                let cells = findings.iter().map(row).collect();
                debug::table(&["FINDING", "SERVICE", "WHAT", "WANTED", "IS", "STATE"], cells, paint)
            });
            let waits = listed.findings.iter().find(|row| row.state == "open");
            if let Some(row) = waits {
                let (finding, environment) = (short(row), &row.environment);
                ctx.out.next(&format!("next: skald drift approve {finding} --environment {environment}"));
            }
        }
        What::Approve(one) => {
            let row = client.approve_drift(&one.into()).await?;
            ctx.out.answer(&row, |row, _| format!("{} of {} is to be put right\n", row.kind, row.service));
            ctx.out.next(&format!("next: skald drift list --environment {}", row.environment));
        }
        What::Accept(one) => {
            let row = client.accept_drift(&one.into()).await?;
            ctx.out.answer(&row, |row, _| format!("{} of {} stays as it is\n", row.kind, row.service));
        }
    }
    Ok(Ending::Done)
}

fn short(row: &DriftRow) -> String {
    row.finding.trim_start_matches("sha256:").chars().take(12).collect()
}

fn row(row: &DriftRow) -> Vec<String> {
    let what = [row.kind.as_str(), row.field.as_str()].join(" ");
    let cut = |text: &str| text.chars().take(24).collect::<String>();
    let again = if row.opened > 1 { format!(", opened {} times", row.opened) } else { String::new() };
    vec![
        short(row),
        format!("{}/{}", row.environment, row.service),
        what.trim_end().to_owned(),
        cut(&row.desired),
        cut(&row.observed),
        format!("{}{again}", row.state),
    ]
}
