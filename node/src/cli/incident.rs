use std::fmt::Write as _;

use clap::{Args, Subcommand};
use protocol::runtime::{CloseIncident, IncidentView, ListServices, OfService};

use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending};

/// Shows services that could not be brought back to a good state, and closes incidents
#[derive(Args, Debug)]
#[command(after_help = "\
A service that is an incident does nothing by itself; people may deploy and roll back. Closing it
lets it act by itself again.

Example:
  skald incident list
  skald incident show web --environment prod
  skald incident close web --environment prod

Next: skald deploy or skald rollback, to bring something good")]
pub(super) struct Incident {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lists incidents, the oldest first
    #[command(after_help = "Example:\n  skald incident list\n\nNext: skald incident show SERVICE --environment NAME")]
    List {
        /// Only this environment
        #[arg(long, short, value_name = "NAME")]
        environment: Option<String>,
    },
    /// Shows what was asked in vain, what happened before, what runs and what is held
    #[command(
        after_help = "With --json it has the whole envelope of what was asked, to ask it again, and every record of the\nsaga that failed.\n\nExample:\n  skald incident show web --environment prod\n\nNext: skald incident close web --environment prod"
    )]
    Show(One),
    /// Lets the service act by itself again
    #[command(after_help = "Example:\n  skald incident close web --environment prod --unhold\n\nNext: skald services")]
    Close {
        #[command(flatten)]
        one: One,
        /// Let what is held come again too
        #[arg(long)]
        unhold: bool,
    },
}

#[derive(Args, Debug)]
struct One {
    /// Name of the service
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
}

pub(super) async fn run(args: Incident, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    match args.what {
        What::List { environment } => {
            let listed = client.incidents(&ListServices { environment, service: None }).await?;
            ctx.out.answer(&listed.incidents, |incidents, paint| {
                if incidents.is_empty() {
                    return "there is no incident\n".to_owned();
                }
                let cells = incidents.iter().map(|row| {
                    let now = row.now.clone().unwrap_or_default();
                    vec![format!("{}/{}", row.environment, row.service), row.since.to_string(), row.why.clone(), now]
                });
                debug::table(&["SERVICE", "SINCE", "WHY", "NOW"], cells.collect(), paint)
            });
            if let Some(row) = listed.incidents.first() {
                ctx.out.next(&format!("next: skald incident show {} --environment {}", row.service, row.environment));
            }
        }
        What::Show(One { service, environment }) => {
            let view = client.incident(&OfService { environment, service }).await?;
            ctx.out.answer(&view, |view, _| text(view));
            let (service, environment) = (&view.incident.service, &view.incident.environment);
            ctx.out.next(&format!("next: skald incident close {service} --environment {environment}"));
        }
        What::Close { one: One { service, environment }, unhold } => {
            let closed = client.close_incident(&CloseIncident { environment, service, unhold }).await?;
            ctx.out.answer(&closed, |row, _| format!("{}/{} acts by itself again\n", row.environment, row.service));
        }
    }
    Ok(Ending::Done)
}

/// How many records of the saga that failed are shown, the last ones; `--json` has all.
const HISTORY_MAX: usize = 10;

fn text(view: &IncidentView) -> String {
    let IncidentView { incident, row, trail, saga, by, failed, trace, envelope, history } = view;
    let mut text =
        format!("{}/{} since {}\nwhy     {}\n", incident.environment, incident.service, incident.since, incident.why);
    let runs = row.version.as_deref().unwrap_or("nothing that is completed");
    let _ = writeln!(text, "runs    {runs}");
    if let Some(now) = &incident.now {
        let _ = writeln!(text, "now     {now}");
    }
    for hold in &incident.held {
        let _ = writeln!(text, "held    {hold}");
    }
    if let Some(saga) = saga {
        let _ = writeln!(text, "saga    {saga}");
    }
    let failed_by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    if let Some(failed) = failed {
        let _ = writeln!(text, "failed  {failed}{failed_by}");
    }
    if let Some(trace) = trace {
        let _ = writeln!(text, "trace   {trace}");
    }
    if let Some(envelope) = envelope {
        let _ = writeln!(text, "asked   {}", envelope.payload["input"]);
    }
    let entries = history.as_ref().map_or(&[][..], |history| &history.entries);
    for entry in &entries[entries.len().saturating_sub(HISTORY_MAX)..] {
        let _ = writeln!(text, "record  {} {}", entry.at, entry.fact);
    }
    for line in trail {
        let _ = writeln!(text, "before  {line}");
    }
    text
}
