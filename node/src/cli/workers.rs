use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::command::{ListWorkers, PauseWorker, ResumeWorker, RunWorker};
use protocol::worker::RunOutcome;
use protocol::{Environment, WorkerKind};

use crate::client::RunAnswer;
use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending, duration};

/// Shows the tenant's workers: when each ran, what it saw, what it did and why
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Example:
  skald workers
  skald workers health --environment prod
  skald workers run health prod --wait 1m

Next: skald workers pause KIND ENV stops one, skald tree shows what it does now"
)]
pub(super) struct Workers {
    #[command(subcommand)]
    does: Option<Does>,
    /// Only workers of this kind
    kind: Option<WorkerKind>,
    /// Only workers of this environment; with a kind, also its last runs
    #[arg(long, value_name = "NAME")]
    environment: Option<Environment>,
}

#[derive(Subcommand, Debug)]
enum Does {
    Run(Run),
    Pause(Pause),
    Resume(Resume),
}

/// Runs a worker now, also one that is paused
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald workers run health prod --wait 1m

Next: skald workers health --environment prod")]
struct Run {
    /// Its kind
    kind: WorkerKind,
    /// Its environment
    environment: Environment,
    /// Wait for its end, at most this long
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,
}

/// Lets a worker run no more, neither by its timer nor by events
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald workers pause scaling prod --reason 'load test until noon'

Next: skald workers resume scaling prod")]
struct Pause {
    /// Its kind
    kind: WorkerKind,
    /// Its environment
    environment: Environment,
    /// Why; shown to whoever looks
    #[arg(long, default_value = "")]
    reason: String,
}

/// Lets a paused worker run again, at once
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald workers resume scaling prod

Next: skald workers scaling --environment prod")]
struct Resume {
    /// Its kind
    kind: WorkerKind,
    /// Its environment
    environment: Environment,
}

pub(super) async fn run(args: Workers, ctx: &Ctx) -> Ended {
    match args.does {
        None => list(ListWorkers { kind: args.kind, environment: args.environment }, ctx).await,
        Some(Does::Run(it)) => run_now(it, ctx).await,
        Some(Does::Pause(it)) => pause(it, ctx).await,
        Some(Does::Resume(it)) => resume(it, ctx).await,
    }
}

async fn list(which: ListWorkers, ctx: &Ctx) -> Ended {
    let listed = ctx.connect().await?.workers(&which).await?;
    ctx.out.answer(&listed.workers, |workers, paint| {
        if workers.is_empty() { "no workers\n".to_owned() } else { debug::render_workers(workers, paint) }
    });
    for missing in listed.missing {
        ctx.out.say_painted(format_args!("{} {missing}", ctx.out.paint.warn("not all:")));
    }
    if listed.answered < listed.nodes {
        let (answered, nodes) = (listed.answered, listed.nodes);
        ctx.out.say_painted(format_args!("{} {answered} of {nodes} nodes answered", ctx.out.paint.warn("not all:")));
    }
    Ok(Ending::Done)
}

async fn run_now(args: Run, ctx: &Ctx) -> Ended {
    let Run { kind, environment, wait } = args;
    let wait_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let command = RunWorker { kind: kind.clone(), environment: environment.clone(), wait_ms };
    let answer = ctx.connect().await?.run_worker(&command).await?;
    ctx.out.answer(&answer, |answer, paint| match answer {
        RunAnswer::Accepted(accepted) => format!("run {} of {} is accepted\n", accepted.run, accepted.worker),
        RunAnswer::Ended(run) => debug::render_run(run, paint),
    });
    ctx.out.next(&format!("next: skald workers {kind} --environment {environment}"));
    match answer {
        RunAnswer::Ended(run) if run.outcome == RunOutcome::Failed => Ok(Ending::Bad),
        RunAnswer::Ended(_) | RunAnswer::Accepted(_) => Ok(Ending::Done),
    }
}

async fn pause(args: Pause, ctx: &Ctx) -> Ended {
    let Pause { kind, environment, reason } = args;
    let command = PauseWorker { kind: kind.clone(), environment: environment.clone(), reason };
    let answer = ctx.connect().await?.pause_worker(&command).await?;
    ctx.out.answer(&answer, |_, _| format!("{kind} of {environment} is paused\n"));
    ctx.out.next(&format!("next: skald workers resume {kind} {environment}"));
    Ok(Ending::Done)
}

async fn resume(args: Resume, ctx: &Ctx) -> Ended {
    let Resume { kind, environment } = args;
    let command = ResumeWorker { kind: kind.clone(), environment: environment.clone() };
    let answer = ctx.connect().await?.resume_worker(&command).await?;
    ctx.out.answer(&answer, |_, _| format!("{kind} of {environment} runs again\n"));
    ctx.out.next(&format!("next: skald workers {kind} --environment {environment}"));
    Ok(Ending::Done)
}
