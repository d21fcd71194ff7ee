use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use protocol::runtime::{Logs as Answer, ReadLogs};

use crate::client::Error;
use crate::debug::Paint;

use super::context::Ctx;
use super::{Ended, Ending};

/// How often a log that is followed is read: a person sees it as at once.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shows what the replicas of a service wrote
#[derive(Args, Debug)]
#[command(after_help = "\
What a replica writes to its standard output and error is kept, bounded in size; a line of two
replicas begins with the name of the one that wrote it.

Example:
  skald logs web --environment dev
  skald logs web --environment dev --follow --lines 10

Next: skald services for which replicas there are and how they are")]
pub(super) struct Logs {
    /// Name of the service
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
    /// Only of this replica
    #[arg(long, value_name = "ID")]
    replica: Option<String>,
    /// The last lines of each replica
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    lines: u32,
    /// Go on with what comes, until it is interrupted
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(args: Logs, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    let mut read = ReadLogs {
        environment: args.environment,
        service: args.service,
        replica: args.replica,
        lines: Some(args.lines),
        after: BTreeMap::new(),
    };
    loop {
        let answer = match client.logs(&read).await {
            Ok(answer) => answer,
            // Whoever follows waits for the keeper to come back, and goes on where it was.
            Err(error @ (Error::NoNode { .. } | Error::Timeout { .. })) if !read.after.is_empty() => {
                ctx.out.say(format!("{error}; asking again"));
                Answer::default()
            }
            Err(error) => return Err(error.into()),
        };
        if read.after.is_empty() || answer.replicas.iter().any(|log| log.missed || !log.lines.is_empty()) {
            ctx.out.answer(&answer, render);
        }
        if answer.replicas.is_empty() && read.after.is_empty() {
            ctx.out.say(format!("{}/{} has no replicas", read.environment, read.service));
        }
        if !args.follow {
            return Ok(Ending::Done);
        }
        read.after.extend(answer.replicas.into_iter().map(|log| (log.replica, log.next)));
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Ending::Done),
        }
    }
}

fn render(answer: &Answer, paint: Paint) -> String {
    let many = answer.replicas.len() > 1;
    let mut text = String::new();
    for log in &answer.replicas {
        let prefix = if many { format!("{} ", paint.dim(&log.replica)) } else { String::new() };
        if log.missed {
            text.push_str(&format!("{prefix}{}\n", paint.warn("lines before these are left out")));
        }
        for line in &log.lines {
            text.push_str(&format!("{prefix}{line}\n"));
        }
    }
    text
}
