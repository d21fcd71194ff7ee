use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::bench::{self, Figures, Load, Stage};

use super::context::Ctx;
use super::fault::Fault;
use super::local::{Local, Plan};
use super::node::told_to_stop;
use super::{Ended, Ending, duration};

/// Connections of the bench: one moves thousands of messages a second, several keep a reader from
/// being the limit.
const CONNECTIONS: usize = 4;

/// Measures the speed, the memory and the recovery of this machine's Skald
#[derive(Args, Debug)]
#[command(after_help = "\
Starts servers and nodes of its own, each a process, every write synced, in a directory that is
gone afterwards; nothing else on the machine should be busy meanwhile.

  A          five activities one after another, each answering 200 bytes of JSON
  B          the fourth fails for good after two retries, the three before it are undone
  C          waits for a signal after the second step
  floor      durable appends one after another on the same server
  waiting    memory and CPU of 10,000 and 100,000 sagas that wait
  recovery   kill -9 of one of three nodes with 1,000 sagas in flight
  cold       from no process to the first saga done

Example:
  skald bench --only floor,A --seconds 5

Next: skald up, and skald tree --owners, which shows how full the journal's frames are")]
pub(super) struct Bench {
    /// How long each measurement of A, B, C and floor lasts
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    seconds: f64,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',', ignore_case = true)]
    only: Vec<Part>,
    /// Keep servers' and nodes' files in this directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// A part of the bench.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    Floor,
    A,
    B,
    C,
    Waiting,
    Recovery,
    Cold,
}

pub(super) async fn run(args: Bench, ctx: &Ctx) -> Ended {
    if !(0.1..=3_600.0).contains(&args.seconds) {
        return Err(Fault::usage("--seconds is not between 0.1 and 3600"));
    }
    let temporary = tempfile::Builder::new().prefix("skald-bench-").tempdir()?;
    let dir = match &args.data {
        Some(dir) => std::path::absolute(dir)?,
        None => temporary.path().to_owned(),
    };
    let figures = tokio::select! {
        figures = measure(&args, &dir, ctx) => figures?,
        () = told_to_stop() => return Err(Fault::interrupted()),
    };
    if ctx.json() {
        ctx.out.line(figures.to_value());
    } else {
        ctx.out.put(figures.table(ctx.out.paint));
    }
    Ok(Ending::Done)
}

async fn measure(args: &Bench, dir: &Path, ctx: &Ctx) -> Result<Figures, Fault> {
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let each = Duration::from_secs_f64(args.seconds);
    let mut figures = Figures::default();
    figures.say("version", env!("CARGO_PKG_VERSION"));
    figures.say("build", if cfg!(debug_assertions) { "debug" } else { "release" });
    figures.set("cpus", std::thread::available_parallelism().map_or(0, usize::from) as f64);
    if cfg!(debug_assertions) {
        ctx.out.say("this is a debug build: its figures mean nothing");
    }
    let say = |line: &str| ctx.out.say(line);
    if wants(Part::Cold) {
        let begun = Instant::now();
        let local = start(&dir.join("cold"), 1, ctx).await?;
        let first = bench::first_done(&local.client(TENANT).await?).await;
        let took = begun.elapsed();
        local.stop(&|_| {}).await;
        first?;
        figures.set("cold_start_ms", took.as_millis() as f64);
        say(&format!("cold start: the first saga was done after {}", duration::short(took)));
    }
    if [Part::Floor, Part::A, Part::B, Part::C].into_iter().any(wants) {
        let local = start(&dir.join("load"), 1, ctx).await?;
        let measured = async {
            let stage = stage(&local).await?;
            if wants(Part::Floor) || wants(Part::A) {
                bench::floor(&stage, each, &mut figures, &say).await?;
            }
            if wants(Part::A) {
                bench::compare(&stage, each, &mut figures, &say).await?;
            }
            for (part, load) in [(Part::A, Load::A), (Part::B, Load::B), (Part::C, Load::C)] {
                if wants(part) {
                    bench::load(&stage, load, each, &mut figures, &say).await?;
                }
            }
            Ok(())
        };
        ended(measured.await, local).await?;
    }
    if wants(Part::Waiting) {
        let local = start(&dir.join("waiting"), 1, ctx).await?;
        let measured = async { Ok(bench::waiting(&stage(&local).await?, &mut figures, &say).await?) };
        ended(measured.await, local).await?;
    }
    if wants(Part::Recovery) {
        let local = start(&dir.join("recovery"), bench::RECOVERY_NODES, ctx).await?;
        let kill = |node: &str| local.kill(node);
        let measured = async { Ok(bench::recovery(&stage(&local).await?, &kill, &mut figures, &say).await?) };
        ended(measured.await, local).await?;
    }
    Ok(figures)
}

/// Whose sagas the bench runs.
const TENANT: &str = "bench";

async fn start(dir: &Path, nodes: usize, ctx: &Ctx) -> Result<Local, Fault> {
    let progress = ctx.out.progress();
    let log = ctx.globals.log_filter().map(str::to_owned);
    let plan = Plan { data: dir.to_owned(), nodes, servers: 1, config: None, log, bench: true };
    let local = Local::start(&plan, &|line| progress.set_message(line.to_owned())).await;
    progress.finish_and_clear();
    local
}

async fn stage(local: &Local) -> Result<Stage, Fault> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(local.client(TENANT).await?);
    }
    let nodes = local.members.iter().map(|member| member.state.pid).collect();
    Ok(Stage { clients, nodes, servers: local.server_pids() })
}

/// Stops a cluster; a failed measurement says what the nodes last logged.
async fn ended(measured: Result<(), Fault>, local: Local) -> Result<(), Fault> {
    let logs: Vec<_> = local.members.iter().map(|member| super::local::last_lines(&member.log)).collect();
    local.stop(&|_| {}).await;
    measured.map_err(|fault| logs.into_iter().fold(fault, Fault::why))
}
