//! The outer half of a run: makes the network, runs the inner half in it, and removes everything,
//! however the inner half ends.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Parser as _;
use node::server::Finder;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::net::{CLIENT, Net, sweep};
use super::nodes::ROLE;
use super::options::Options;
use super::{cluster, run, tools};

/// Names the nats-server, which is found, and obtained where there is none, outside: inside there is
/// no way to the world.
pub const SERVER_VARIABLE: &str = "SKALD_NATS_SERVER";
/// Tells the inner half which run it is of, and where it writes.
const RUN: &str = "STORY_RUN";
const DIR: &str = "STORY_DIR";
/// The role of the inner half.
pub const INSIDE: &str = "inside";
/// How long the inner half may take to end when it is told to.
const END_WITHIN: Duration = Duration::from_secs(5);
/// The exit code when it cannot run here.
const CANNOT: u8 = 2;

/// The whole program.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(why) = tools::missing() {
        eprintln!("skipped: {why}");
        return ExitCode::from(CANNOT);
    }
    let inside = std::env::var(ROLE).is_ok_and(|role| role == INSIDE);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    let ended = runtime.block_on(async { if inside { inner(&options).await } else { outer(&options).await } });
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(CANNOT)
    })
}

async fn outer(options: &Options) -> anyhow::Result<ExitCode> {
    sweep();
    let server = Finder::new(None).find(|line| eprintln!("{line}")).await?;
    let mut dir = tempfile::Builder::new().prefix("skald-faults-").tempdir()?;
    let run = std::process::id();
    let net = Net::new(run, options.servers, cluster::NODES);
    // From here on everything goes through to the removal.
    let ended = async {
        net.make().context("the network cannot be made")?;
        if !options.json {
            eprintln!("seed {}: the same choices again with --seed {0}", options.seed);
        }
        let mut command = net.command(CLIENT, &std::env::current_exe()?);
        command
            .args(std::env::args_os().skip(1))
            .args(["--seed", &options.seed.to_string()])
            .env(ROLE, INSIDE)
            .env(RUN, run.to_string())
            .env(DIR, dir.path())
            .env(SERVER_VARIABLE, &server.path)
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn().context("the inner half cannot be started")?;
        watch(child).await
    }
    .await;
    net.remove();
    let fine = matches!(&ended, Ok(Some(0)));
    if options.keep || !fine {
        dir.disable_cleanup(true);
        if !matches!(&ended, Ok(Some(0 | 1))) {
            eprintln!("what there was is kept in {}", dir.path().display());
        }
    }
    Ok(match ended? {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(CANNOT)),
        // It was told to stop.
        None => ExitCode::from(130),
    })
}

/// Waits for the inner half, or tells it to end when somebody asks. Answers its exit code; `None`
/// when it had to be ended.
async fn watch(mut child: Child) -> anyhow::Result<Option<i32>> {
    let input = child.stdin.take();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        status = child.wait() => return Ok(status?.code()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(input);
    if tokio::time::timeout(END_WITHIN, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(None)
}

async fn inner(options: &Options) -> anyhow::Result<ExitCode> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("the outer half sets {name}"));
    let (run_id, dir) = (variable(RUN)?.parse()?, variable(DIR)?);
    let dir = Path::new(&dir);
    let net = Net::new(run_id, options.servers, cluster::NODES);
    let mut report = tokio::select! {
        report = run::run(options, dir, net) => report?,
        () = outer_is_gone() => anyhow::bail!("told to stop"),
    };
    let wrong = !report.wrong.is_empty();
    if wrong || options.keep {
        report.kept = Some(dir.to_owned());
        std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(&report.to_json())?)?;
    }
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        println!("{report}");
    }
    Ok(if wrong { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The outer half holds our standard input open for as long as it lives and wants us to go on.
async fn outer_is_gone() {
    // An interrupt from the terminal comes to both halves; the outer one decides.
    let interrupt = signal(SignalKind::interrupt());
    let mut input = tokio::io::stdin();
    let mut some = [0u8; 64];
    while matches!(input.read(&mut some).await, Ok(read) if read > 0) {}
    drop(interrupt);
}
